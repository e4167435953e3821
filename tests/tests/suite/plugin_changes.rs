//! Changes of plugins that meet: callers that leave, reloads under way, other teams, and
//! what the gateway does by itself.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use http::Method;
use serde_json::{Value, json};
use sluice::auth::token::NewToken;
use sluice::oci::Digest;
use sluice_tests::client::{Client, Reply};
use sluice_tests::gateway::{self, Running};
use sluice_tests::versions::{self, UPLOADS, activate, named, show, upload};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;

async fn uploaded(admin: &Client, plugin: &str, version: &str, component: &[u8]) {
    let reply = upload(admin, plugin, version, component).await;
    assert_eq!(reply.status, 201, "{:?}", reply.body);
}

async fn roll_back(admin: &Client, plugin: &str, body: &Value) -> Value {
    admin.post(&format!("/admin/v1/plugins/{plugin}/rollback"), body.to_string()).await.ok()
}

fn version<'a>(plugin: &'a Value, version: &str) -> &'a Value {
    let versions = plugin["versions"].as_array().expect("a list");
    versions.iter().find(|it| it["version"] == version).unwrap_or(&Value::Null)
}

/// Which version answers: the components of [`named`] say their name.
async fn served(gateway: &Running) -> String {
    let reply = gateway.client.predict("echo", &json!({})).await;
    assert_eq!(reply.status, 200, "{:?}", reply.body);
    String::from_utf8(reply.body.to_vec()).expect("text")
}

/// Sends a request, waits for `until`, and leaves without reading the answer.
async fn ask_and_leave(to: SocketAddr, head: &str, body: &[u8], until: impl Future<Output = ()>) {
    let mut stream = TcpStream::connect(to).await.expect("connected");
    let head = format!("{head} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {}\r\n\r\n", body.len());
    stream.write_all(&[head.as_bytes(), body].concat()).await.expect("sent");
    until.await;
}

/// A registry with one component, whose bytes take this long to come.
async fn slow_registry(component: Vec<u8>, delay: Duration) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let layer = |kind: &str, content: &[u8]| json!({"mediaType": kind, "digest": Digest::of(content).to_string(), "size": content.len()});
    let manifest = json!({
        "schemaVersion": 2,
        "config": layer("application/vnd.wasm.config.v0+json", b"{}"),
        "layers": [layer("application/wasm", &component)],
    })
    .to_string();
    let reference = format!("oci://{address}/team/slow@{}", Digest::of(manifest.as_bytes()));
    let asked = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&asked);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let (manifest, component, asked) = (manifest.clone(), component.clone(), Arc::clone(&counter));
            tokio::spawn(async move {
                let mut buffer = vec![0; 8192];
                let count = stream.read(&mut buffer).await.unwrap_or(0);
                let request = String::from_utf8_lossy(&buffer[..count]).into_owned();
                let body = if request.contains("/manifests/") {
                    manifest.into_bytes()
                } else if request.contains("/blobs/") {
                    asked.fetch_add(1, Ordering::AcqRel);
                    tokio::time::sleep(delay).await;
                    component
                } else {
                    b"{}".to_vec()
                };
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n").await;
                let _ = stream.write_all(&body).await;
            });
        }
    });
    (reference, asked)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_waits_for_no_registry_and_no_reload_undoes_it_whoever_leaves() {
    let gateway = gateway::start(UPLOADS).await;
    for name in ["one", "two"] {
        uploaded(&gateway.admin, "echo", name, &named(name)).await;
    }
    activate(&gateway.admin, "echo", "one").await.ok();
    let (reference, asked) = slow_registry(named("slow"), Duration::from_secs(5)).await;
    let slow = format!(
        "[plugins.slow]\nplugin = \"{reference}\"\n[pipelines.slow]\npre = \"slow\"\nmodel = \"wide\"\n"
    );
    std::fs::write(&gateway.config, gateway::whole(&format!("{UPLOADS}{slow}"))).expect("written");
    let is_pulling = async { versions::until(|| async { asked.load(Ordering::Acquire) > 0 }).await };
    ask_and_leave(gateway.admin.address(), "POST /admin/v1/reload", b"", is_pulling).await;
    for (name, number) in [("two", 0), ("one", 1), ("two", 2)] {
        let begun = Instant::now();
        match number {
            1 => drop(roll_back(&gateway.admin, "echo", &json!({})).await),
            _ => drop(activate(&gateway.admin, "echo", name).await.ok()),
        }
        assert!(begun.elapsed() < Duration::from_secs(2), "{name} waited for {:?}", begun.elapsed());
        assert_eq!(served(&gateway).await, name);
    }
    versions::until(|| async {
        assert_eq!(served(&gateway).await, "two", "the reload undid an activation");
        gateway.client.predict("slow", &json!({})).await.status == 200
    })
    .await;
    for _ in 0..20 {
        assert_eq!(served(&gateway).await, "two");
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_activation_whose_caller_leaves_is_watched_like_any_other() {
    let gateway = gateway::start(UPLOADS).await;
    uploaded(&gateway.admin, "echo", "good", &named("good")).await;
    uploaded(&gateway.admin, "echo", "bad", &versions::trapping()).await;
    let body = json!({ "version": "bad" }).to_string();
    let mut taken_back = 0;
    for wait_us in (0..10).map(|number| number * 400) {
        activate(&gateway.admin, "echo", "good").await.ok();
        let moment = tokio::time::sleep(Duration::from_micros(wait_us));
        let path = "POST /admin/v1/plugins/echo/activate";
        ask_and_leave(gateway.admin.address(), path, body.as_bytes(), moment).await;
        tokio::time::sleep(Duration::from_millis(300)).await;
        let plugin = show(&gateway.admin, "echo").await;
        if plugin["active"] != "bad" {
            continue;
        }
        assert!(version(&plugin, "bad")["bake"].is_object(), "served and not watched: {plugin}");
        for _ in 0..12 {
            gateway.client.predict("echo", &json!({})).await;
        }
        versions::until(|| async { show(&gateway.admin, "echo").await["active"] == "good" }).await;
        taken_back += 1;
        break;
    }
    assert_eq!(taken_back, 1, "no activation came through");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_gets_traffic_is_watched_again_after_a_restart_also_in_splits() {
    let gateway = gateway::start(UPLOADS).await;
    for name in ["1", "2", "3"] {
        uploaded(&gateway.admin, "echo", name, &named(name)).await;
    }
    activate(&gateway.admin, "echo", "1").await.ok();
    let weights = json!({"plugin": "echo", "weights": {"1": 1, "2": 1, "3": 0}}).to_string();
    let split = gateway.admin.try_send(Method::PUT, "/admin/v1/pipelines/echo/split", &[], weights).await;
    split.expect("an answer").ok();
    let gateway = gateway.restart().await;
    versions::until(|| async {
        let status = gateway.admin.get("/admin/v1/status").await.ok();
        let baking = status["baking"].as_array().expect("a list").iter();
        let watched: Vec<_> = baking.map(|bake| bake["version"].as_str().expect("text").to_owned()).collect();
        watched == ["1", "2"]
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_cannot_be_taken_back_says_so_and_is_tried_again() {
    let gateway = gateway::start(UPLOADS).await;
    uploaded(&gateway.admin, "echo", "bad", &versions::trapping()).await;
    activate(&gateway.admin, "echo", "bad").await.ok();
    for _ in 0..12 {
        gateway.client.predict("echo", &json!({})).await;
    }
    let problem = async || {
        let plugin = show(&gateway.admin, "echo").await;
        version(&plugin, "bad")["bake"]["problem"].as_str().map(str::to_owned)
    };
    versions::until(|| async { problem().await.is_some() }).await;
    let problem = problem().await.expect("there");
    assert!(problem.contains("calls failed") && problem.contains("roll back to"), "{problem}");
    let status = gateway.admin.get("/admin/v1/status").await.ok();
    assert_eq!(status["baking"][0]["problem"], json!(problem));
    // With something else in its place it can go.
    uploaded(&gateway.admin, "echo", "good", &named("good")).await;
    activate(&gateway.admin, "echo", "good").await.ok();
    versions::until(|| async { version(&show(&gateway.admin, "echo").await, "bad")["state"] == "failed" })
        .await;
    assert_eq!(served(&gateway).await, "good");
    let audit = gateway.admin.get("/admin/v1/audit").await.ok();
    let refused =
        audit["entries"].as_array().expect("a list").iter().filter(|it| it["action"] == "auto_rollback");
    let outcomes: Vec<_> = refused.map(|it| it["outcome"].as_str().expect("text")).collect();
    assert_eq!(outcomes, ["not_found", "ok"], "the same refusal is written once");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollback_that_is_asked_for_twice_goes_back_once() {
    let gateway = gateway::start(UPLOADS).await;
    for name in ["1", "2", "3"] {
        uploaded(&gateway.admin, "echo", name, &named(name)).await;
        activate(&gateway.admin, "echo", name).await.ok();
    }
    let from = json!({ "from": "3" });
    let first = roll_back(&gateway.admin, "echo", &from).await;
    let again = roll_back(&gateway.admin, "echo", &from).await;
    assert_eq!((&first["active"], &first["changed"]), (&json!("2"), &json!(true)));
    assert_eq!((&again["active"], &again["changed"]), (&json!("2"), &json!(false)));
    // The gateway takes a version back, and so does a person who saw the errors.
    uploaded(&gateway.admin, "echo", "bad", &versions::trapping()).await;
    activate(&gateway.admin, "echo", "bad").await.ok();
    for _ in 0..12 {
        gateway.client.predict("echo", &json!({})).await;
    }
    versions::until(|| async { show(&gateway.admin, "echo").await["active"] == "2" }).await;
    let person = roll_back(&gateway.admin, "echo", &json!({})).await;
    assert_eq!((&person["active"], &person["changed"]), (&json!("2"), &json!(false)));
    assert_eq!(served(&gateway).await, "2");
}

/// Tokens of two teams, and the operator's.
struct Teams {
    config: String,
    tokens: [String; 3],
}

const TEAMS: [&str; 3] = ["team-a", "team-b", "operator"];

impl Teams {
    fn new() -> Self {
        let mut config = UPLOADS.to_owned();
        let tokens = TEAMS.map(|name| {
            let token = NewToken::generate().expect("random");
            let rights = match name {
                "operator" => "scopes = [\"admin\"]".to_owned(),
                team => format!("scopes = [\"plugins:deploy\"]\nowner = \"{team}\""),
            };
            config.push_str(&format!("[tokens.{name}]\nhash = \"{}\"\n{rights}\n", token.hash()));
            token.reveal().to_owned()
        });
        Self { config, tokens }
    }

    fn bearer(&self, team: &str) -> String {
        let index = TEAMS.iter().position(|name| *name == team).expect("known");
        format!("Bearer {}", self.tokens[index])
    }

    async fn ask(&self, admin: &Client, team: &str, request: &str, body: impl Into<bytes::Bytes>) -> Reply {
        let (method, path) = request.split_once(' ').expect("a method");
        let bearer = self.bearer(team);
        let method = method.parse().expect("a method");
        admin.try_send(method, path, &[("authorization", &bearer)], body).await.expect("an answer")
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_upload_does_not_end_in_a_plugin_that_became_anothers_meanwhile() {
    let teams = Teams::new();
    let gateway = gateway::start_guarded(&teams.config).await;
    let component = named("b");
    let mut slow = TcpStream::connect(gateway.admin.address()).await.expect("connected");
    let head = format!(
        "PUT /admin/v1/plugins/fresh/versions/2 HTTP/1.1\r\nhost: localhost\r\nauthorization: {}\r\ncontent-length: {}\r\n\r\n",
        teams.bearer("team-b"),
        component.len()
    );
    slow.write_all(head.as_bytes()).await.expect("sent");
    slow.write_all(&component[..component.len() - 1]).await.expect("sent");
    tokio::time::sleep(Duration::from_millis(300)).await;
    let first = "PUT /admin/v1/plugins/fresh/versions/1";
    assert_eq!(teams.ask(&gateway.admin, "team-a", first, named("a")).await.status, 201);
    slow.write_all(&component[component.len() - 1..]).await.expect("sent");
    let mut answer = vec![0; 4096];
    let count = slow.read(&mut answer).await.expect("an answer");
    let answer = String::from_utf8_lossy(&answer[..count]).into_owned();
    assert!(answer.starts_with("HTTP/1.1 403"), "{answer}");
    let plugin = teams.ask(&gateway.admin, "team-a", "GET /admin/v1/plugins/fresh", "").await.ok();
    assert_eq!(plugin["owner"], "team-a");
    assert_eq!(plugin["versions"].as_array().map(Vec::len), Some(1), "{plugin}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_attempt_at_anothers_plugin_leaves_an_audit_line() {
    let teams = Teams::new();
    let gateway = gateway::start_guarded(&teams.config).await;
    let admin = &gateway.admin;
    let body = json!({ "version": "1" }).to_string();
    let weights = json!({ "plugin": "echo", "weights": { "1": 1 } }).to_string();
    let shadow = json!({ "plugin": "echo", "version": "1" }).to_string();
    let attempts = [
        ("PUT /admin/v1/plugins/echo/versions/1", "x", "upload", "echo/1"),
        ("POST /admin/v1/plugins/echo/activate", &body, "activate", "echo"),
        ("POST /admin/v1/plugins/echo/rollback", "", "rollback", "echo"),
        ("POST /admin/v1/plugins/echo/versions/1/retire", "", "retire", "echo/1"),
        ("DELETE /admin/v1/plugins/echo/versions/1", "", "delete", "echo/1"),
        ("PUT /admin/v1/pipelines/echo/split", &weights, "split", "echo/echo"),
        ("PUT /admin/v1/pipelines/echo/shadow", &shadow, "shadow", "echo/echo"),
    ];
    for (request, body, ..) in attempts {
        let reply = teams.ask(admin, "team-b", request, body.to_owned()).await;
        assert_eq!(reply.status, 403, "{request}: {:?}", reply.body);
    }
    let audit = teams.ask(admin, "operator", "GET /admin/v1/audit", "").await.ok();
    let lines: Vec<_> = audit["entries"].as_array().expect("a list").iter().collect();
    assert_eq!(lines.len(), attempts.len(), "{audit}");
    for (line, (_, _, action, target)) in lines.iter().zip(attempts) {
        let seen = [&line["actor"], &line["action"], &line["target"], &line["outcome"]];
        assert_eq!(seen, [&json!("team-b"), &json!(action), &json!(target), &json!("forbidden")]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_configuration_does_not_name_is_kept_and_not_loaded() {
    let gateway = gateway::start(UPLOADS).await;
    for name in ["1", "2"] {
        uploaded(&gateway.admin, "later", name, &named(name)).await;
        activate(&gateway.admin, "later", name).await.ok();
    }
    let plugin = show(&gateway.admin, "later").await;
    assert_eq!((&plugin["active"], &plugin["previous"]), (&json!("2"), &json!("1")));
    assert!(version(&plugin, "2")["usage"].is_null(), "{plugin}");
    assert_eq!(roll_back(&gateway.admin, "later", &json!({})).await["active"], "1");
    // It serves as soon as it is named.
    let later = "[plugins.later]\n[pipelines.later]\npre = \"later\"\nmodel = \"wide\"\n";
    gateway.reload(&format!("{UPLOADS}{later}")).await;
    assert_eq!(&gateway.client.predict("later", &json!({})).await.body[..], b"1");
}

#[tokio::test(flavor = "multi_thread")]
async fn p23_an_upload_whose_caller_leaves_is_written_down() {
    let gateway = gateway::start(UPLOADS).await;
    versions::break_off(&gateway.admin, "/admin/v1/plugins/echo/versions/1", &named("1")).await;
    versions::until(|| async {
        let audit = gateway.admin.get("/admin/v1/audit").await.ok();
        let lines = audit["entries"].as_array().expect("a list");
        lines.len() == 1 && lines[0]["action"] == "upload" && lines[0]["outcome"] != "ok"
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_without_a_signature_is_not_served_where_one_is_required() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("echo.wasm");
    std::fs::write(&file, named("signed")).expect("written");
    let (key, _) = sluice::signature::PrivateKey::generate().expect("random");
    let config = format!(
        "{}\n[keys.team]\npublic_key = \"{}\"\nowner = \"team-a\"\n",
        UPLOADS.replace(
            "[plugins.echo]",
            &format!("[plugins.echo]\n    file = {file:?}\n    require_signature = true")
        ),
        key.public().to_base64()
    );
    let refused = gateway::try_start(&config).await.err().expect("it is not signed");
    assert!(refused.contains("plugins.echo") && refused.contains("signature"), "{refused}");
    let beside = folder.path().join("echo.wasm.sig");
    std::fs::write(&beside, key.sign(b"something else").to_base64()).expect("written");
    assert!(gateway::try_start(&config).await.is_err(), "a signature of other bytes");
    std::fs::write(&beside, format!("{}\n", key.sign(&named("signed")).to_base64())).expect("written");
    let gateway = gateway::start(&config).await;
    assert_eq!(served(&gateway).await, "signed");
}
