//! What keeps a plugin's versions from coming and going as they should: tables that are
//! broken, other versions' failures, and who decides by hand.

use http::Method;
use serde_json::{Value, json};
use sluice_tests::client::{Client, Reply};
use sluice_tests::gateway::{self, Running};
use sluice_tests::versions::{self, UPLOADS, named};

async fn upload(gateway: &Running, version: &str, component: &[u8]) -> Reply {
    let path = format!("/admin/v1/plugins/echo/versions/{version}");
    gateway.admin.try_send(Method::PUT, &path, &[], component.to_vec()).await.expect("an answer")
}

async fn post(admin: &Client, what: &str, body: &Value) -> Reply {
    admin.post(&format!("/admin/v1/plugins/echo/{what}"), body.to_string()).await
}

async fn activate(gateway: &Running, version: &str) -> Reply {
    post(&gateway.admin, "activate", &json!({ "version": version })).await
}

async fn split(gateway: &Running, shares: Value) {
    let path = "/admin/v1/pipelines/echo/split";
    let body = json!({ "plugin": "echo", "weights": shares });
    let reply = gateway.admin.try_send(Method::PUT, path, &[], body.to_string()).await;
    let reply = reply.expect("an answer");
    assert_eq!(reply.status, 200, "{:?}", reply.body);
}

async fn show(gateway: &Running) -> Value {
    gateway.admin.get("/admin/v1/plugins/echo").await.ok()
}

async fn state(gateway: &Running, version: &str) -> String {
    let plugin = show(gateway).await;
    let versions = plugin["versions"].as_array().expect("a list").clone();
    let found = versions.into_iter().find(|found| found["version"] == version).expect("a version");
    found["state"].as_str().expect("text").to_owned()
}

/// Requests with this many keys; how many were answered.
async fn ask(gateway: &Running, pipeline: &str, keys: usize) -> usize {
    let mut answered = 0;
    for key in 0..keys {
        let key = format!("user-{key}");
        let headers = [("x-sluice-key", key.as_str())];
        let path = format!("/v1/models/{pipeline}:predict");
        let reply = gateway.client.try_send(Method::POST, &path, &headers, "{}").await.expect("an answer");
        answered += usize::from(reply.status == 200);
    }
    answered
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_table_keeps_nobody_from_deploying_or_rolling_back() {
    let folder = tempfile::tempdir().expect("a folder");
    let table = folder.path().join("table.jsonl");
    std::fs::write(&table, "{\"key\": \"a\", \"value\": 1}\n").expect("written");
    let stores =
        format!("stores = [\"tab\"]\n[stores.tab]\nkind = \"file\"\nfile = {table:?}\n[pipelines.echo]");
    let gateway = gateway::start(&UPLOADS.replace("[pipelines.echo]", &stores)).await;
    for version in ["1", "2"] {
        assert_eq!(upload(&gateway, version, &named(version)).await.status, 201);
        activate(&gateway, version).await.ok();
    }
    for broken in [Some("{\"key\": \"a\", \"val"), None] {
        match broken {
            Some(half) => std::fs::write(&table, half).expect("written"),
            None => std::fs::remove_file(&table).expect("removed"),
        }
        let reload = gateway.admin.post("/admin/v1/reload", "").await;
        assert_ne!(reload.status, 200, "a reload says what is wrong with the table");
        let back = post(&gateway.admin, "rollback", &json!({ "from": "2" })).await;
        assert_eq!(back.ok()["active"], "1");
        activate(&gateway, "2").await.ok();
        let new = if broken.is_some() { "3" } else { "4" };
        assert_eq!(upload(&gateway, new, &versions::trapping()).await.status, 201);
        activate(&gateway, new).await.ok();
        assert_eq!(ask(&gateway, "echo", 12).await, 0);
        versions::until(|| async { show(&gateway).await["active"] == "2" }).await;
        assert_eq!(ask(&gateway, "echo", 1).await, 1, "the failing version was taken back");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollback_by_hand_leaves_the_watch_over_what_still_gets_requests() {
    let gateway = gateway::start(UPLOADS).await;
    upload(&gateway, "1", &named("1")).await;
    upload(&gateway, "2", &named("2")).await;
    upload(&gateway, "bad", &versions::trapping()).await;
    activate(&gateway, "1").await.ok();
    activate(&gateway, "2").await.ok();
    split(&gateway, json!({"1": 50, "bad": 50})).await;
    post(&gateway.admin, "rollback", &json!({"from": "2"})).await.ok();
    let answered = ask(&gateway, "echo", 80).await;
    assert!((10..70).contains(&answered), "{answered} of a half");
    versions::until(|| async { state(&gateway, "bad").await == "failed" }).await;
    assert_eq!(ask(&gateway, "echo", 20).await, 20);
    let logs = gateway.admin.get("/admin/v1/plugins/echo/logs?version=bad").await.ok();
    let lines = logs["lines"].as_array().expect("a list");
    assert!(lines.iter().any(|line| line["level"] == "failure"), "its author wants to know why: {logs}");
    // What was taken back was not what serves, so this is another wish.
    activate(&gateway, "2").await.ok();
    let back = post(&gateway.admin, "rollback", &json!({})).await.ok();
    assert_eq!((&back["active"], &back["changed"]), (&json!("1"), &json!(true)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failing_version_of_a_split_falls_back_to_the_one_that_serves() {
    let config = UPLOADS
        .replace("bake_ms = 60000", "bake_ms = 0")
        .replace("model = \"wide\"\n", "model = \"wide\"\n    on_failure = \"previous\"\n");
    let gateway = gateway::start(&config).await;
    upload(&gateway, "good", &named("good")).await;
    upload(&gateway, "bad", &versions::trapping()).await;
    activate(&gateway, "good").await.ok();
    split(&gateway, json!({"good": 50, "bad": 50})).await;
    assert_eq!(ask(&gateway, "echo", 40).await, 40);
}
