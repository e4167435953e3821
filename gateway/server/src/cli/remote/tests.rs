//! What remote commands send, and what they say to what comes back.

use clap::Parser as _;
use serde_json::json;

use super::scripted::{Scripted, Seen, arguments};
use super::*;
use crate::cli::Arguments;

fn client(server: &ServerArguments) -> Client {
    Client::new(server).expect("valid arguments")
}

fn ask(server: &ServerArguments, path: &str) -> Outcome<Value> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(client(server).get(path))
}

#[test]
fn an_error_is_the_gateways_sentence_and_a_hint_by_its_code() {
    let body = json!({"error": "case 'a': $.x: expected 1, got 2\u{1b}[2J", "code": "canary_failed", "request_id": "r7"});
    let scripted = Scripted::start(vec![(422, body.to_string())]);
    let failure = ask(&scripted.server, "/admin/v1/plugins").expect_err("refused");
    assert_eq!(failure.code(), 1);
    let message = failure.message();
    assert!(
        message.starts_with("case 'a': $.x: expected 1, got 2\\u{1b}[2J (canary_failed, request r7)"),
        "{message}"
    );
    assert!(message.contains("\nhint: `sluice plugin test FILE"), "{message}");
    scripted.finish();
}

#[test]
fn a_gateway_without_time_is_unavailable_and_a_stranger_is_told_apart() {
    let busy = json!({"error": "busy", "code": "overloaded", "request_id": ""}).to_string();
    let scripted = Scripted::start(vec![(503, busy), (404, "<html>".to_owned()), (200, "hello".to_owned())]);
    let failures: Vec<_> =
        (0..3).map(|_| ask(&scripted.server, "/admin/v1/x").expect_err("no answer")).collect();
    assert_eq!(failures.iter().map(Failure::code).collect::<Vec<_>>(), [69, 1, 1]);
    assert!(failures[1].message().contains("not from a gateway"), "{}", failures[1].message());
    assert!(failures[2].message().contains("not JSON"), "{}", failures[2].message());
    scripted.finish();
}

#[test]
fn nobody_there_is_69_and_says_where_it_looked() {
    // A port that was free a moment ago.
    let port =
        std::net::TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a port").port();
    let failure =
        ask(&arguments(&format!("http://127.0.0.1:{port}")), "/admin/v1/plugins").expect_err("nobody");
    assert_eq!(failure.code(), 69);
    assert!(failure.message().contains(&format!("127.0.0.1:{port}")), "{}", failure.message());
    assert!(failure.message().contains("SLUICE_SERVER"), "{}", failure.message());
}

#[test]
fn a_token_comes_from_a_file_and_never_travels_in_the_clear() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("token");
    std::fs::write(&file, "token-abc\n").expect("written");
    let scripted = Scripted::start(vec![(200, "{}".to_owned())]);
    let server = ServerArguments { token_file: Some(file.clone()), ..scripted.server.clone() };
    ask(&server, "/admin/v1/plugins").expect("an answer");
    let seen = scripted.finish();
    assert!(seen[0].headers.contains("authorization: bearer token-abc\r\n"), "{}", seen[0].headers);
    let far =
        ServerArguments { token_file: Some(file.clone()), ..arguments("http://gateway.example.com:8002") };
    assert_eq!(Client::new(&far).err().map(|failure| failure.code()), Some(2));
    std::fs::write(&file, "two words").expect("written");
    assert_eq!(Client::new(&server).err().map(|failure| failure.code()), Some(2));
    for bad in ["", "ftp://x", "nonsense", "file:///etc/passwd"] {
        assert_eq!(Client::new(&arguments(bad)).err().map(|failure| failure.code()), Some(2), "{bad}");
    }
}

/// Runs a command line against a gateway that says yes to everything.
fn sent(line: &str, answers: Vec<(u16, String)>) -> Vec<Seen> {
    let scripted = Scripted::start(answers);
    let mut words: Vec<&str> = line.split(' ').collect();
    words.extend(["--server", scripted.server.server.as_str()]);
    let arguments = Arguments::try_parse_from(words).unwrap_or_else(|error| panic!("{line}: {error}"));
    assert_eq!(crate::cli::run(arguments), std::process::ExitCode::SUCCESS, "{line}");
    scripted.finish()
}

#[test]
fn every_command_asks_what_the_api_has() {
    let split = r#"{"plugin":"scale","weights":{"1":90,"2":10}}"#;
    let shadow = r#"{"plugin":"scale","sample":0.5,"version":"2"}"#;
    for (line, request, body) in [
        ("sluice plugin ls", "GET /admin/v1/plugins", ""),
        ("sluice plugin show scale", "GET /admin/v1/plugins/scale", ""),
        ("sluice plugin show scale 1.0", "GET /admin/v1/plugins/scale/versions/1.0", ""),
        ("sluice plugin activate scale 2", "POST /admin/v1/plugins/scale/activate", r#"{"version":"2"}"#),
        ("sluice plugin rollback scale --from 2", "POST /admin/v1/plugins/scale/rollback", r#"{"from":"2"}"#),
        ("sluice plugin split rank scale 1=90 2=10", "PUT /admin/v1/pipelines/rank/split", split),
        ("sluice plugin split rank scale --clear", "DELETE /admin/v1/pipelines/rank/split?plugin=scale", ""),
        ("sluice plugin shadow rank scale 2 --sample 0.5", "PUT /admin/v1/pipelines/rank/shadow", shadow),
        (
            "sluice plugin shadow rank scale --clear",
            "DELETE /admin/v1/pipelines/rank/shadow?plugin=scale",
            "",
        ),
        ("sluice plugin retire scale 1", "POST /admin/v1/plugins/scale/versions/1/retire", ""),
        ("sluice plugin delete scale 1", "DELETE /admin/v1/plugins/scale/versions/1", ""),
        (
            "sluice plugin logs scale -n 5 --version 2",
            "GET /admin/v1/plugins/scale/logs?limit=5&version=2",
            "",
        ),
        ("sluice audit --after 7 -n 3", "GET /admin/v1/audit?limit=3&after=7", ""),
    ] {
        let seen = sent(line, vec![(200, "{}".to_owned())]);
        assert_eq!(seen[0].line, request, "{line}");
        assert_eq!(String::from_utf8_lossy(&seen[0].body), body, "{line}");
    }
}

#[test]
fn a_rollback_names_the_version_that_is_left() {
    let active = r#"{"active": "2"}"#.to_owned();
    let seen = sent("sluice plugin rollback scale", vec![(200, active), (200, "{}".to_owned())]);
    assert_eq!(seen[0].line, "GET /admin/v1/plugins/scale");
    assert_eq!(seen[1].line, "POST /admin/v1/plugins/scale/rollback");
    assert_eq!(String::from_utf8_lossy(&seen[1].body), r#"{"from":"2"}"#);
}

#[test]
fn names_that_could_be_paths_are_never_sent() {
    for line in ["sluice plugin show ../x", "sluice plugin activate a b/c", "sluice plugin split a b c/d=1"] {
        let arguments = Arguments::try_parse_from(line.split(' ')).expect("the grammar is right");
        assert_eq!(crate::cli::run(arguments), std::process::ExitCode::from(2), "{line}");
    }
}

#[test]
fn a_push_sends_the_component_whole_with_its_signature() {
    let folder = tempfile::tempdir().expect("a folder");
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let component = std::fs::read(root.join("tests/guests/dist/echo.wasm")).expect("a guest");
    let file = folder.path().join("echo.wasm");
    std::fs::write(&file, &component).expect("written");
    let (key, pem) = crate::signature::PrivateKey::generate().expect("random numbers");
    let key_file = folder.path().join("k.pem");
    std::fs::write(&key_file, pem).expect("written");
    let record = json!({"state": "ready", "version": "1"}).to_string();
    let line = format!(
        "sluice plugin push echo {} --version 1 --owner team-a --activate --sign {} --key-name mine",
        file.display(),
        key_file.display()
    );
    let seen = sent(&line, vec![(201, record.clone())]);
    assert_eq!(seen[0].line, "PUT /admin/v1/plugins/echo/versions/1?owner=team-a&activate=true");
    assert!(seen[0].body == component, "{} bytes arrived", seen[0].body.len());
    let header = format!("x-sluice-signature: mine:{}\r\n", key.sign(&component).to_base64()).to_lowercase();
    assert!(seen[0].headers.contains(&header), "{}", seen[0].headers);
    // Without a name the version is the digest's beginning.
    let seen = sent(&format!("sluice plugin push echo {}", file.display()), vec![(200, record)]);
    let (_, version) = seen[0].line.rsplit_once('/').expect("a path");
    assert!(version.len() == 12 && version.bytes().all(|byte| byte.is_ascii_hexdigit()), "{version}");
}

#[test]
fn what_is_no_component_is_refused_before_anything_is_sent() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("x.wasm");
    std::fs::write(&file, "#!/bin/sh\n").expect("written");
    // Nobody listens there: a connection would be 69.
    let line = format!("sluice plugin push x {} --server http://127.0.0.1:9", file.display());
    let arguments = Arguments::try_parse_from(line.split(' ')).expect("the grammar is right");
    assert_eq!(crate::cli::run(arguments), std::process::ExitCode::from(1));
}
