//! Plugins that were built for any released version of the contract still give the
//! answers that they gave. `tests/corpus/README.md` says what is in the folders.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use http::Method;
use serde_json::{Value, json};
use sluice_tests::client::Reply;
use sluice_tests::{gateway, repository};

/// Set it to write the answers that a case has not yet.
const RECORD: &str = "SLUICE_RECORD_CORPUS";

fn corpus() -> PathBuf {
    repository().join("tests/corpus")
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The folders of released versions.
fn releases() -> Vec<PathBuf> {
    let entries = std::fs::read_dir(corpus()).expect("a folder");
    let mut folders: Vec<PathBuf> = entries.map(|entry| entry.expect("readable").path()).collect();
    folders.retain(|path| path.join("gateway.toml").is_file());
    folders.sort();
    folders
}

fn name(path: &Path) -> &str {
    path.file_name().and_then(|name| name.to_str()).expect("a name")
}

fn components(folder: &Path) -> BTreeSet<String> {
    let entries = std::fs::read_dir(folder).expect("a folder");
    let names = entries.map(|entry| name(&entry.expect("readable").path()).to_owned());
    names.filter(|name| name.ends_with(".wasm")).collect()
}

fn config(folder: &Path) -> String {
    let text = read(&folder.join("gateway.toml"));
    let text = text.replace("{corpus}", &folder.display().to_string());
    text.replace("{peers}", &corpus().join("peers").display().to_string())
}

/// The answer's status and body; what is not text or JSON would be no golden answer.
fn seen(reply: &Reply, unstable: &[Value]) -> Value {
    let text = std::str::from_utf8(&reply.body).expect("text");
    let mut body = serde_json::from_str(text).unwrap_or_else(|_| json!(text));
    for pointer in unstable {
        if let Some(place) = body.pointer_mut(pointer.as_str().expect("a pointer")) {
            *place = Value::Null;
        }
    }
    json!({"status": reply.status.as_u16(), "type": reply.headers["content-type"].to_str().expect("ASCII"), "body": body})
}

#[tokio::test(flavor = "multi_thread")]
async fn every_released_component_still_gives_its_answers() {
    let record = std::env::var_os(RECORD).is_some();
    let releases = releases();
    assert!(releases.len() >= 3, "{releases:?}");
    for folder in releases {
        let path = folder.join("golden.json");
        let Value::Array(mut cases) = serde_json::from_str(&read(&path)).expect("JSON") else {
            panic!("a list")
        };
        let gateway = gateway::start(&config(&folder)).await;
        let mut is_recorded = false;
        for case in &mut cases {
            let body = case["body"].to_string();
            let to = case["path"].as_str().expect("a path").to_owned();
            let mut headers = vec![("x-request-id", "corpus"), ("content-type", "application/json")];
            let more = case["headers"].as_object().cloned().unwrap_or_default();
            headers.extend(more.iter().map(|(name, value)| (name.as_str(), value.as_str().expect("text"))));
            let reply = gateway.client.try_send(Method::POST, &to, &headers, body).await.expect("an answer");
            let unstable = case["unstable"].as_array().cloned().unwrap_or_default();
            let got = seen(&reply, &unstable);
            if record && case.get("answer").is_none() {
                case["answer"] = got.clone();
                is_recorded = true;
            }
            assert_eq!(got, case["answer"], "{} of {}", case["name"], folder.display());
        }
        if is_recorded {
            let cases: Vec<String> = cases.iter().map(Value::to_string).collect();
            std::fs::write(&path, format!("[\n{}\n]\n", cases.join(",\n"))).expect("written");
        }
    }
}

#[test]
fn the_corpus_calls_everything_that_it_holds() {
    for folder in releases() {
        let config = read(&folder.join("gateway.toml"));
        for component in components(&folder) {
            assert!(
                config.contains(&format!("/{component}\"")),
                "{component} of {} is not served",
                name(&folder)
            );
        }
        let golden = read(&folder.join("golden.json"));
        for line in config.lines() {
            let Some(rest) = line.strip_prefix("[pipelines.") else { continue };
            let pipeline = rest.trim_end_matches(']');
            let is_called = ["/v1/models/{}:", "/v2/models/{}/"];
            let is_called = is_called.iter().any(|path| golden.contains(&path.replace("{}", pipeline)));
            assert!(is_called, "{pipeline} of {} is never called", name(&folder));
        }
    }
}

#[test]
fn released_components_are_as_they_were_and_of_their_version() {
    for folder in releases() {
        check_sums(&folder, "SHA256SUMS", &components(&folder));
        let (minor, _patch) = name(&folder).rsplit_once('.').expect("three numbers");
        let spoken = format!("@{minor}.");
        for component in components(&folder) {
            let bytes = std::fs::read(folder.join(&component)).expect("readable");
            let is_spoken = bytes.windows(spoken.len()).enumerate().any(|(at, window)| {
                let before = &bytes[at.saturating_sub(64)..at];
                window == spoken.as_bytes() && before.windows(14).any(|window| window == b"sluice:plugin/")
            });
            assert!(is_spoken, "{component} does not speak {minor}");
        }
    }
}

/// A released contract never changes, not even in a comment: somebody generates code
/// from it.
#[test]
fn released_contracts_are_frozen() {
    let mut released = 0;
    for entry in std::fs::read_dir(repository().join("wit")).expect("a folder") {
        let folder = entry.expect("readable").path();
        // The others are WASI's, which has versions of its own.
        if !name(&folder).starts_with("plugin-") {
            continue;
        }
        let mut files = BTreeSet::new();
        let mut folders = vec![folder.clone()];
        while let Some(inner) = folders.pop() {
            for entry in std::fs::read_dir(&inner).expect("a folder") {
                let path = entry.expect("readable").path();
                if path.is_dir() {
                    folders.push(path);
                } else if name(&path) != "FROZEN" {
                    files.insert(path.strip_prefix(&folder).expect("inside").display().to_string());
                }
            }
        }
        check_sums(&folder, "FROZEN", &files);
        released += 1;
    }
    assert!(released >= 2, "{released}");
}

/// Checks that a list of digests names exactly these files, and that they match.
fn check_sums(folder: &Path, list: &str, files: &BTreeSet<String>) {
    let text = read(&folder.join(list));
    let listed: BTreeSet<String> =
        text.lines().filter_map(|line| line.split_once("  ")).map(|(_, file)| file.to_owned()).collect();
    assert_eq!(&listed, files, "{} of {}", list, folder.display());
    let mut command = std::process::Command::new("sha256sum");
    let output = command.args(["--quiet", "--check", list]).current_dir(folder).output();
    let output = output.expect("sha256sum runs");
    assert!(output.status.success(), "{}: {}", folder.display(), String::from_utf8_lossy(&output.stdout));
}
