//! The author's commands, with the real program: test, inspect, embed, sign. What a
//! remote command sends is tested beside its code; what a gateway does with it, in the
//! lifecycle's tests.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::{Value, json};
use sluice_tests::{gateway, program};

/// A component of the repository, copied so that a test may change it.
fn guest(folder: &Path, name: &str) -> PathBuf {
    let from = gateway::expand(&format!("{{repo}}/{name}.wasm"));
    let to = folder.join(Path::new(&from).file_name().expect("a name"));
    std::fs::copy(&from, &to).unwrap_or_else(|error| panic!("{from}: {error}"));
    to
}

fn plugin(arguments: &[&str]) -> Output {
    let mut command = Command::new(program());
    command.env_remove("SLUICE_TOKEN").env_remove("SLUICE_SERVER");
    command.arg("plugin").args(arguments).output().expect("it ran")
}

fn text(path: &Path) -> &str {
    path.to_str().expect("text")
}

/// What a command that must succeed printed.
fn ok(arguments: &[&str]) -> String {
    let output = plugin(arguments);
    let out = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{arguments:?}: {out}{}", String::from_utf8_lossy(&output.stderr));
    out
}

/// What a command that must be refused printed, both outputs.
fn refused(code: i32, arguments: &[&str]) -> String {
    let output = plugin(arguments);
    let all =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {all}");
    all
}

fn write(folder: &Path, name: &str, content: &Value) -> PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, content.to_string()).expect("written");
    path
}

const ECHO: &str = "tests/guests/dist/echo";
const RANK: &str = "guest-examples/dist/feature_hash";

#[test]
fn a_signature_is_valid_for_these_bytes_and_this_key_only() {
    let folder = tempfile::tempdir().expect("a folder");
    let component = guest(folder.path(), ECHO);
    let name = folder.path().join("team");
    let said = ok(&["keygen", text(&name)]);
    let (private, public) = (folder.path().join("team.key"), folder.path().join("team.pub"));
    let mode =
        std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&private).expect("a key").permissions());
    assert_eq!(mode & 0o777, 0o600, "nobody else reads the private key");
    assert!(said.contains("public_key = "), "{said}");
    assert!(!said.contains("PRIVATE"), "{said}");
    refused(2, &["keygen", text(&name)]);

    for over in ["component", "digest"] {
        ok(&["sign", text(&component), "--key", text(&private), "--over", over]);
        assert!(ok(&["verify", text(&component), "--key", text(&public)]).starts_with("ok"));
    }
    ok(&["keygen", text(&folder.path().join("other"))]);
    let other = folder.path().join("other.pub");
    assert!(refused(1, &["verify", text(&component), "--key", text(&other)]).contains("fits neither"));
    let mut bytes = std::fs::read(&component).expect("readable");
    *bytes.last_mut().expect("not empty") ^= 1;
    std::fs::write(&component, bytes).expect("written");
    assert!(refused(1, &["verify", text(&component), "--key", text(&public)]).contains("fits neither"));
    std::fs::remove_file(folder.path().join("echo.wasm.sig")).expect("there");
    let missing = refused(1, &["verify", text(&component), "--key", text(&public)]);
    assert!(missing.contains("no signature") && missing.contains("plugin sign"), "{missing}");
    // The private key in the place of the public one is a mistake to name.
    assert!(refused(2, &["verify", text(&component), "--key", text(&private)]).contains("private key"));
}

/// The same by somebody who shares no code with us: OpenSSL's is `cosign`'s scheme.
#[test]
fn a_signature_is_what_openssl_makes_and_reads() {
    let openssl = |arguments: &[&str]| Command::new("openssl").args(arguments).output();
    let known = openssl(&["version"]).map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    if !known.is_ok_and(|version| version.starts_with("OpenSSL 3")) {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let component = guest(folder.path(), ECHO);
    let file = |name: &str| folder.path().join(name);
    ok(&["keygen", text(&file("ours"))]);
    ok(&["sign", text(&component), "--key", text(&file("ours.key")), "-o", text(&file("ours.sig"))]);
    let decoded =
        openssl(&["base64", "-d", "-A", "-in", text(&file("ours.sig")), "-out", text(&file("ours.bin"))]);
    assert!(decoded.expect("it ran").status.success());
    let verified = openssl(&[
        "pkeyutl",
        "-verify",
        "-pubin",
        "-inkey",
        text(&file("ours.pub")),
        "-rawin",
        "-in",
        text(&component),
        "-sigfile",
        text(&file("ours.bin")),
    ]);
    let verified = verified.expect("it ran");
    assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stderr));

    let made = openssl(&["genpkey", "-algorithm", "ed25519", "-out", text(&file("their.key"))]);
    assert!(made.expect("it ran").status.success());
    let public =
        openssl(&["pkey", "-in", text(&file("their.key")), "-pubout", "-out", text(&file("their.pub"))]);
    assert!(public.expect("it ran").status.success());
    let signed = openssl(&[
        "pkeyutl",
        "-sign",
        "-inkey",
        text(&file("their.key")),
        "-rawin",
        "-in",
        text(&component),
        "-out",
        text(&file("their.bin")),
    ]);
    assert!(signed.expect("it ran").status.success());
    let encoded =
        openssl(&["base64", "-A", "-in", text(&file("their.bin")), "-out", text(&file("their.sig"))]);
    assert!(encoded.expect("it ran").status.success());
    let (key, signature) = (file("their.pub"), file("their.sig"));
    ok(&["verify", text(&component), "--key", text(&key), "--signature", text(&signature)]);
}

fn numbers(body: &Value, expect: &Value) -> Value {
    json!([{"name": "one question", "request": {"json": body}, "expect": expect}])
}

#[test]
fn sample_cases_travel_in_the_component_and_are_run() {
    let folder = tempfile::tempdir().expect("a folder");
    let component = guest(folder.path(), RANK);
    let config = r#"{"mode": "mlp"}"#;
    let nothing = refused(2, &["test", text(&component), "--config", config]);
    assert!(nothing.contains("no sample cases") && nothing.contains("embed"), "{nothing}");

    let question = json!({"id": "r1", "features": {}, "candidates": []});
    let good = numbers(&question, &json!({"json": {"id": "r1", "ranking": []}}));
    let samples = write(folder.path(), "samples.json", &good);
    ok(&["embed", text(&component), "--samples", text(&samples)]);
    let said = ok(&["test", text(&component), "--config", config]);
    assert!(said.contains("ok") && said.contains("one question") && said.contains("1 of 1 passed"), "{said}");
    assert!(said.contains("MiB"), "its memory is shown: {said}");
    assert!(ok(&["inspect", text(&component)]).contains("1: one question"));

    // Again in their place: there is one section of them, not two.
    ok(&["embed", text(&component), "--samples", text(&samples)]);
    ok(&["test", text(&component), "--config", config]);

    let bad = write(folder.path(), "bad.json", &json!([{"name": "x"}]));
    let why = refused(1, &["embed", text(&component), "--samples", text(&bad)]);
    assert!(why.contains("'x'") && why.contains("neither a request nor outputs"), "{why}");
}

#[test]
fn a_case_that_comes_out_otherwise_is_shown_as_a_difference_and_ends_with_1() {
    let folder = tempfile::tempdir().expect("a folder");
    let component = guest(folder.path(), RANK);
    let question = json!({"id": "r1", "features": {}, "candidates": []});
    let cases = json!([
        {"name": "other id", "request": {"json": question}, "expect": {"json": {"id": "r2", "ranking": []}}},
        {"name": "refused", "request": {"text": "no json"}},
        {"name": "as expected", "request": {"text": "no json"}, "expect": {"status": 400}},
    ]);
    let samples = write(folder.path(), "samples.json", &cases);
    let arguments = ["test", text(&component), "--samples", text(&samples), "--config", r#"{"mode": "mlp"}"#];
    let said = refused(1, &arguments);
    assert!(said.contains("FAIL other id"), "{said}");
    assert!(said.contains(r#"$.id: expected "r2", got "r1""#), "{said}");
    assert!(said.contains("refused the request with 400"), "{said}");
    assert!(said.contains("1 of 3 passed") && said.contains("2 of 3 sample cases failed"), "{said}");

    let output = plugin(&[&arguments[..], &["--json"]].concat());
    let answer: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(answer["cases"][0]["diff"], json!([r#"$.id: expected "r2", got "r1""#]));
    assert_eq!(answer["cases"][2]["passed"], json!(true));
    assert!(answer["cases"][2]["memory_peak_bytes"].as_u64().is_some_and(|bytes| bytes > 65_536), "{answer}");
}

#[test]
fn a_pipeline_meets_fake_models_or_real_ones() {
    let folder = tempfile::tempdir().expect("a folder");
    let component = guest(folder.path(), "guest-examples/dist/two_models");
    let logit = json!([{"name": "logit", "datatype": "FP32", "shape": [1, 1], "data": [0]}]);
    let request = json!({"json": {"id": "r1", "features": {}}});
    let cases = json!([{"name": "average", "request": request, "models": {"a": logit, "b": logit},
        "expect": {"json": {"id": "r1", "score": 0.5}}}]);
    let samples = write(folder.path(), "samples.json", &cases);
    let config = r#"{"models": ["a", "b"]}"#;
    ok(&["test", text(&component), "--samples", text(&samples), "--config", config]);
    let without = json!([{"name": "average", "request": request}]);
    let without = write(folder.path(), "without.json", &without);
    let arguments = ["test", text(&component), "--samples", text(&without), "--config", config];
    assert!(refused(1, &arguments).contains("no such model"), "nobody answers for the models");
    let model =
        |name: &str| gateway::expand(&format!("{name}={{repo}}/gateway/engine/tests/fixtures/ranker.onnx"));
    let (a, b) = (model("a"), model("b"));
    // The model is real: it says that these inputs are not its own.
    let real = refused(1, &[&arguments[..], &["--model", &a, "--model", &b]].concat());
    assert!(!real.contains("no such model") && real.contains("refused the request with"), "{real}");
}

#[test]
fn a_plugin_of_a_gateways_configuration_is_tested_as_it_is_served() {
    let folder = tempfile::tempdir().expect("a folder");
    let component = guest(folder.path(), "guest-examples/dist/movie_features");
    let titles = json!({"user": {"likes": []}, "candidates": []});
    let samples =
        write(folder.path(), "samples.json", &json!([{"name": "any", "request": {"json": titles}}]));
    let config = gateway::expand("{repo}/config/demo.toml");
    let arguments =
        ["test", text(&component), "--samples", text(&samples), "--config-file", &config, "--plugin"];
    let said = plugin(&[&arguments[..], &["movie-features"]].concat());
    let all = format!("{}{}", String::from_utf8_lossy(&said.stdout), String::from_utf8_lossy(&said.stderr));
    assert!(all.contains("a preprocessor of"), "it opened its store: {all}");
    let unknown = refused(2, &[&arguments[..], &["nobody"]].concat());
    assert!(unknown.contains("[plugins.nobody]"), "{unknown}");
    // Without the store it is refused, with what to ask for.
    let without = refused(1, &["test", text(&component), "--samples", text(&samples)]);
    assert!(without.contains("wasi:keyvalue") && without.contains("stores"), "{without}");
}

#[test]
fn inspect_says_what_a_component_asks_for_and_how_to_grant_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let component = guest(folder.path(), "guest-examples/dist/movie_features");
    let said = ok(&["inspect", text(&component)]);
    for word in [
        "preprocessor",
        "wasi:keyvalue/",
        "stores = [",
        "[plugins.movie-features]",
        "pre = \"movie-features\"",
    ] {
        assert!(said.contains(word), "{word} is not in: {said}");
    }
    let answer: Value = serde_json::from_str(&ok(&["inspect", text(&component), "--json"])).expect("JSON");
    assert_eq!(answer["facts"]["world"], json!("preprocessor"));
    let keyvalue = answer["imports"]
        .as_array()
        .expect("imports")
        .iter()
        .find(|import| import["name"].as_str().is_some_and(|name| name.starts_with("wasi:keyvalue/")));
    assert_eq!(keyvalue.map(|import| &import["offered"]), Some(&json!(true)));
}

#[test]
fn what_is_no_plugin_is_named_as_what_it_is() {
    let folder = tempfile::tempdir().expect("a folder");
    for (name, bytes, word) in [
        ("empty.wasm", &b""[..], "empty"),
        ("text.wasm", b"hello", "not WebAssembly"),
        ("module.wasm", b"\0asm\x01\0\0\0", "core module"),
        ("nothing.wasm", b"\0asm\x0d\0\x01\0", "not a plugin"),
    ] {
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).expect("written");
        for command in ["inspect", "push"] {
            let mut arguments = vec![command];
            arguments.extend(if command == "push" { vec!["x", text(&path)] } else { vec![text(&path)] });
            let why = refused(1, &arguments);
            assert!(why.contains(word), "{name}: {why}");
        }
    }
    refused(2, &["inspect", text(&folder.path().join("none.wasm"))]);
}

#[test]
fn a_new_plugin_is_whole_and_replaces_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    for world in ["preprocessor", "postprocessor", "transformer", "pipeline"] {
        let made = folder.path().join(world);
        let sdk = gateway::expand("{repo}/sdk/rust");
        ok(&["new", text(&made), "--world", world, "--sdk", &sdk]);
        for file in
            ["Cargo.toml", ".cargo/config.toml", "build.sh", "README.md", "samples.json", "src/lib.rs"]
        {
            assert!(made.join(file).is_file(), "{world}: {file}");
        }
        refused(2, &["new", text(&made), "--world", world]);
    }
    assert!(refused(2, &["new", text(&folder.path().join("Bad Name"))]).contains("Bad Name"));
    refused(2, &["new", text(&folder.path().join("x")), "--sdk", text(folder.path())]);
}
