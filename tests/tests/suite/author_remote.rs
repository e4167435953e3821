//! The author's remote commands, with the real program against a real gateway.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use sluice_tests::gateway::{self, Running};
use sluice_tests::program;
use sluice_tests::versions::{self, named, trapping};

/// What an author at a terminal has: a folder, and where the gateway is.
struct Author {
    folder: tempfile::TempDir,
    server: String,
}

impl Author {
    fn new(gateway: &Running) -> Self {
        let server = format!("http://{}", gateway.admin.address());
        Self { folder: tempfile::tempdir().expect("a folder"), server }
    }

    fn file(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, content).expect("written");
        path
    }

    /// Runs `sluice …` in the folder; gives the exit code and all that it said.
    fn sluice(&self, line: &str) -> (Option<i32>, String) {
        let mut command = Command::new(program());
        command.args(line.split(' ')).current_dir(self.folder.path());
        command.env("SLUICE_SERVER", &self.server).env_remove("SLUICE_TOKEN");
        let output = tokio::task::block_in_place(|| command.output().expect("it ran"));
        let text = [&output.stdout[..], &output.stderr].concat();
        (output.status.code(), String::from_utf8_lossy(&text).into_owned())
    }

    fn ok(&self, line: &str) -> String {
        let (code, said) = self.sluice(line);
        assert_eq!(code, Some(0), "{line}: {said}");
        said
    }

    fn refused(&self, line: &str) -> String {
        let (code, said) = self.sluice(line);
        assert_eq!(code, Some(1), "{line}: {said}");
        said
    }
}

fn config(keys: &str) -> String {
    format!(
        r#"
    [state]
    dir = "state"
    {keys}
    [models.wide]
    engine = "sim"
    file = "{{repo}}/tests/models/wide.sim.json"
    max_batch_size = 16
    [plugins.echo]
    owner = "team-a"
    call_timeout_ms = 5000
    bake_ms = 0
    [pipelines.echo]
    pre = "echo"
    model = "wide"
"#
    )
}

/// The key's line, as `keygen` prints it for the configuration.
fn public_key(folder: &Path) -> String {
    let output = Command::new(program()).args(["plugin", "keygen", "team-a"]).current_dir(folder).output();
    let said = String::from_utf8(output.expect("it ran").stdout).expect("text");
    said.lines().find(|line| line.starts_with("public_key = ")).expect("a key").to_owned()
}

async fn answer(gateway: &Running) -> (u16, String) {
    let reply = gateway.client.predict("echo", &json!({})).await;
    (reply.status.as_u16(), String::from_utf8_lossy(&reply.body).into_owned())
}

fn cases(answer: &str) -> String {
    json!([{"name": "its name", "request": {"json": {}}, "expect": {"text": answer}}]).to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_goes_from_a_file_to_traffic_and_back_by_commands_alone() {
    let keys = tempfile::tempdir().expect("a folder");
    let key = format!("[keys.mine]\nowner = \"team-a\"\n{}", public_key(keys.path()));
    let gateway = gateway::start(&config(&key)).await;
    let author = Author::new(&gateway);
    author.file("one.wasm", named("one"));
    author.file("two.wasm", named("two"));
    author.file("one.json", cases("one"));
    author.file("two.json", cases("two"));
    std::fs::copy(keys.path().join("team-a.key"), author.folder.path().join("team-a.key")).expect("copied");

    let said = author.ok("plugin push echo one.wasm --version 1 --samples one.json --sign team-a.key");
    assert!(said.contains("echo 1 is ready") && said.contains("plugin activate echo 1"), "{said}");
    let shown = author.ok("plugin show echo 1");
    for word in ["signed_by", "mine", "samples", "team-a", "preprocessor", "sha256:"] {
        assert!(shown.contains(word), "{word}: {shown}");
    }
    let again = author.ok("plugin push echo one.wasm --version 1 --samples one.json --sign team-a.key");
    assert!(again.contains("it was there already"), "{again}");
    let other = author.refused("plugin push echo two.wasm --version 1");
    assert!(other.contains("digest_conflict") && other.contains("another --version"), "{other}");

    // What the cases say is not what it does: nothing is left of it but the audit line.
    let failed = author.refused("plugin push echo two.wasm --version 2 --samples one.json --activate");
    assert!(failed.contains("canary_failed") && failed.contains("expected \"one\", got \"two\""), "{failed}");
    assert!(!author.ok("plugin ls").contains("2 ("));
    assert_eq!(answer(&gateway).await.0, 503, "nothing serves yet");

    author.ok("plugin activate echo 1");
    assert_eq!(answer(&gateway).await, (200, "one".to_owned()));
    author.ok("plugin push echo two.wasm --version 2 --samples two.json --activate");
    assert_eq!(answer(&gateway).await, (200, "two".to_owned()));
    let listed = author.ok("plugin ls");
    assert!(
        listed.contains("echo") && listed.contains("team-a") && listed.contains("2 (active)"),
        "{listed}"
    );
    assert!(author.ok("plugin rollback echo").contains("back at 1"));
    assert_eq!(answer(&gateway).await, (200, "one".to_owned()));

    // Its last requests have to leave first.
    versions::until(|| async { author.ok("plugin ls").contains("2 (ready)") }).await;
    author.ok("plugin split echo echo 1=0 2=1");
    assert_eq!(answer(&gateway).await, (200, "two".to_owned()));
    assert!(author.refused("plugin delete echo 2").contains("in_use"));
    author.ok("plugin split echo echo --clear");
    author.ok("plugin shadow echo echo 2 --sample 0.5");
    author.ok("plugin shadow echo echo --clear");
    assert_eq!(answer(&gateway).await, (200, "one".to_owned()));
    versions::until(|| async { author.ok("plugin ls").contains("2 (ready)") }).await;
    author.ok("plugin retire echo 2");
    author.ok("plugin delete echo 2");

    let audit = author.ok("audit");
    for word in ["upload", "canary_failed", "activate", "rollback", "retire", "echo/2"] {
        assert!(audit.contains(word), "{word}: {audit}");
    }
    let newest: Value = serde_json::from_str(&author.ok("audit -n 1 --json")).expect("JSON");
    assert_eq!(newest["entries"][0]["action"], "delete", "the newest come first: {newest}");
}

#[tokio::test(flavor = "multi_thread")]
async fn failures_of_a_version_are_in_its_log_and_a_profile_is_a_file() {
    let gateway = gateway::start(&config("")).await;
    let author = Author::new(&gateway);
    author.file("trap.wasm", trapping());
    author.ok("plugin push echo trap.wasm --version 1 --activate");
    assert_eq!(answer(&gateway).await.0, 502);
    let log = author.ok("plugin logs echo");
    assert!(log.contains("FAILURE") && log.contains("unreachable"), "{log}");
    assert!(author.ok("plugin logs echo -n 1 --json").starts_with('{'));
    assert_eq!(author.ok("plugin logs echo --version 9"), "");
    author.ok("plugin profile echo 1 --seconds 1 -o out.json");
    let profile = std::fs::read(author.folder.path().join("out.json")).expect("a file");
    serde_json::from_slice::<Value>(&profile).expect("JSON");
    let none = author.refused("plugin show nobody");
    assert!(none.contains("hint: `sluice plugin ls`"), "{none}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pipelines_cases_meet_their_own_models_and_its_callers_the_real_ones() {
    let gateway = gateway::start(
        r#"
    [state]
    dir = "state"
    [models.a]
    engine = "sim"
    file = "{repo}/tests/models/wide.sim.json"
    [plugins.ask]
    models = ["a"]
    config = { models = ["a", "a"] }
    bake_ms = 0
    [pipelines.ask]
    plugin = "ask"
"#,
    )
    .await;
    let author = Author::new(&gateway);
    let component = gateway::expand("{repo}/guest-examples/dist/two_models.wasm");
    std::fs::copy(component, author.folder.path().join("ask.wasm")).expect("copied");
    let question = json!({"id": "r1", "features": {}});
    let logit = json!([{"name": "logit", "datatype": "FP32", "shape": [1, 1], "data": [0]}]);
    let cases = json!([{"name": "half", "request": {"json": question}, "models": {"a": logit},
        "expect": {"json": {"id": "r1", "score": 0.5}}}]);
    author.file("cases.json", cases.to_string());
    author.ok("plugin push ask ask.wasm --version 1 --samples cases.json --activate");
    // The real model takes other inputs: nobody but the canary meets the case's.
    let real = gateway.client.predict("ask", &question).await;
    assert_ne!(real.status, 200, "{:?}", real.body);
}
