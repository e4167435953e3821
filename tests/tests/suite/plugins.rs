//! The life of plugins over the admin API: upload, activate, split, shadow, roll back,
//! retire, remove, while requests flow.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http::Method;
use serde_json::{Value, json};
use sluice_tests::client::{Client, Reply};
use sluice_tests::gateway::{self, Running};
use sluice_tests::versions::{self, UPLOADS, activate, named, show, upload};

async fn post(admin: &Client, path: &str, body: &Value) -> Reply {
    admin.post(path, body.to_string()).await
}

async fn put(admin: &Client, path: &str, body: &Value) -> Reply {
    admin.try_send(Method::PUT, path, &[], body.to_string()).await.expect("an answer")
}

/// Which version answered: the components of [`named`] say their name.
async fn served(gateway: &Running, key: &str) -> String {
    let headers = [("x-sluice-key", key)];
    let sent = gateway.client.try_send(Method::POST, "/v1/models/echo:predict", &headers, "{}").await;
    let reply = sent.expect("an answer");
    assert_eq!(reply.status, 200, "{:?}", reply.body);
    String::from_utf8(reply.body.to_vec()).expect("text")
}

fn state(plugin: &Value, version: &str) -> String {
    let versions = plugin["versions"].as_array().expect("a list");
    let found = versions.iter().find(|found| found["version"] == version);
    found.map_or_else(|| "absent".to_owned(), |found| found["state"].as_str().expect("text").to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_is_uploaded_activated_rolled_back_retired_and_removed() {
    let gateway = gateway::start(UPLOADS).await;
    let before = gateway.client.predict("echo", &json!({})).await;
    assert_eq!((before.status.as_u16(), before.code().as_str()), (503, "model_unavailable"));
    for version in ["1", "2"] {
        let created = upload(&gateway.admin, "echo", version, &named(version)).await;
        assert_eq!(created.status, 201, "{:?}", created.body);
        let view = created.json();
        assert_eq!((&view["state"], &view["owner"]), (&json!("ready"), &json!("team-a")));
        assert!(view["digest"].as_str().expect("text").starts_with("sha256:"));
        assert_eq!(view["world"], "preprocessor");
    }
    assert_eq!(activate(&gateway.admin, "echo", "1").await.ok()["changed"], true);
    assert_eq!(served(&gateway, "k").await, "1");
    assert_eq!(activate(&gateway.admin, "echo", "1").await.ok()["changed"], false);
    activate(&gateway.admin, "echo", "2").await.ok();
    assert_eq!(served(&gateway, "k").await, "2");
    let in_use = gateway.admin.try_send(Method::DELETE, "/admin/v1/plugins/echo/versions/2", &[], "").await;
    assert_eq!(in_use.expect("an answer").code(), "in_use");
    let back = post(&gateway.admin, "/admin/v1/plugins/echo/rollback", &json!({})).await.ok();
    assert_eq!((&back["active"], served(&gateway, "k").await.as_str()), (&json!("1"), "1"));
    versions::until(|| async { state(&show(&gateway.admin, "echo").await, "2") == "ready" }).await;
    let retired = post(&gateway.admin, "/admin/v1/plugins/echo/versions/2/retire", &json!({})).await.ok();
    assert_eq!(retired["state"], "retired");
    assert_eq!(activate(&gateway.admin, "echo", "2").await.status, 409, "a retired version stays out");
    let gone = gateway.admin.try_send(Method::DELETE, "/admin/v1/plugins/echo/versions/2", &[], "").await;
    assert_eq!(gone.expect("an answer").status, 204);
    assert_eq!(state(&show(&gateway.admin, "echo").await, "2"), "absent");
    let audit = gateway.admin.get("/admin/v1/audit").await.ok();
    let actions: Vec<&str> =
        audit["entries"].as_array().expect("a list").iter().filter_map(|it| it["action"].as_str()).collect();
    for action in ["upload", "activate", "rollback", "retire", "delete"] {
        assert!(actions.contains(&action), "{action} is not in {actions:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn p21_the_same_bytes_again_are_200_and_others_409_and_of_two_at_once_one_is_201() {
    let gateway = gateway::start(UPLOADS).await;
    let component = named("1");
    let (one, two) = tokio::join!(
        upload(&gateway.admin, "echo", "1", &component),
        upload(&gateway.admin, "echo", "1", &component)
    );
    let mut statuses = [one.status.as_u16(), two.status.as_u16()];
    statuses.sort_unstable();
    assert!(statuses == [201, 409] || statuses == [200, 201], "{statuses:?}");
    assert_eq!(upload(&gateway.admin, "echo", "1", &component).await.status, 200);
    let other = upload(&gateway.admin, "echo", "1", &named("2")).await;
    assert_eq!((other.status.as_u16(), other.code().as_str()), (409, "digest_conflict"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_is_there_after_a_restart() {
    let gateway = gateway::start(UPLOADS).await;
    for version in ["1", "2", "3"] {
        assert_eq!(upload(&gateway.admin, "echo", version, &named(version)).await.status, 201);
        activate(&gateway.admin, "echo", version).await.ok();
    }
    let gateway = gateway.restart().await;
    assert_eq!(served(&gateway, "k").await, "3");
    post(&gateway.admin, "/admin/v1/plugins/echo/rollback", &json!({})).await.ok();
    assert_eq!(served(&gateway, "k").await, "2");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_configured_file_serves_until_an_upload_is_activated_and_is_what_rollback_returns_to() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("echo.wasm");
    std::fs::write(&file, named("from-the-file")).expect("written");
    let config = UPLOADS.replace("[plugins.echo]", &format!("[plugins.echo]\n    file = {file:?}"));
    let gateway = gateway::start(&config).await;
    assert_eq!(served(&gateway, "k").await, "from-the-file");
    upload(&gateway.admin, "echo", "2", &named("2")).await;
    assert_eq!(served(&gateway, "k").await, "from-the-file", "an upload alone changes nothing");
    activate(&gateway.admin, "echo", "2").await.ok();
    assert_eq!(served(&gateway, "k").await, "2");
    let back = post(&gateway.admin, "/admin/v1/plugins/echo/rollback", &json!({})).await.ok();
    assert_eq!((&back["active"], served(&gateway, "k").await.as_str()), (&json!("file"), "from-the-file"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_activation_does_not_fail_on_a_file_that_somebody_else_removed() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("other.wasm");
    std::fs::write(&file, named("before")).expect("written");
    let other = format!(
        "[plugins.other]\nfile = {file:?}\nowner = \"team-b\"\n[pipelines.other]\npre = \"other\"\nmodel = \"wide\"\n"
    );
    let gateway = gateway::start(&format!("{UPLOADS}{other}")).await;
    std::fs::remove_file(&file).expect("removed");
    upload(&gateway.admin, "echo", "1", &named("1")).await;
    activate(&gateway.admin, "echo", "1").await.ok();
    assert_eq!(served(&gateway, "k").await, "1");
    assert_eq!(&gateway.client.predict("other", &json!({})).await.body[..], b"before");
}

/// A thousand swaps under load: no request fails, none is answered by a mixture.
#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_swaps_under_load_fail_no_request_and_mix_no_versions() {
    let gateway = gateway::start(versions::TRANSFORM).await;
    for version in ["a", "b"] {
        assert_eq!(upload(&gateway.admin, "both", version, &versions::pair(version)).await.status, 201);
    }
    activate(&gateway.admin, "both", "a").await.ok();
    let done = Arc::new(AtomicBool::new(false));
    let mut callers = Vec::new();
    for _ in 0..4 {
        let (client, done) = (gateway.client.clone(), Arc::clone(&done));
        callers.push(tokio::spawn(async move {
            let mut answers = 0_u32;
            while !done.load(Ordering::Acquire) {
                let reply = client.predict("both", &json!({})).await;
                assert_eq!(reply.status, 200, "{:?}", reply.body);
                let text = String::from_utf8(reply.body.to_vec()).expect("text");
                assert!(text == "a a" || text == "b b", "a mixture: {text}");
                answers += 1;
            }
            answers
        }));
    }
    for number in 0..1000 {
        let version = if number % 2 == 0 { "b" } else { "a" };
        activate(&gateway.admin, "both", version).await.ok();
    }
    done.store(true, Ordering::Release);
    let mut answers = 0;
    for caller in callers {
        answers += caller.await.expect("no request failed");
    }
    assert!(answers > 500, "only {answers} answers beside 1000 swaps");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_split_is_sticky_by_key_and_follows_its_weights() {
    let gateway = gateway::start(UPLOADS).await;
    for version in ["1", "2"] {
        upload(&gateway.admin, "echo", version, &named(version)).await;
    }
    activate(&gateway.admin, "echo", "1").await.ok();
    let weights = json!({"plugin": "echo", "weights": {"1": 70, "2": 30}});
    put(&gateway.admin, "/admin/v1/pipelines/echo/split", &weights).await.ok();
    let mut second = 0;
    for number in 0..300 {
        let key = format!("user-{number}");
        let version = served(&gateway, &key).await;
        assert_eq!(served(&gateway, &key).await, version, "the same key, the same version");
        second += u32::from(version == "2");
    }
    assert!((60..=120).contains(&second), "{second} of 300 went to 30 %");
    let bad = json!({"plugin": "echo", "weights": {"1": 1, "nine": 1}});
    assert!(put(&gateway.admin, "/admin/v1/pipelines/echo/split", &bad).await.status.is_client_error());
    let ended =
        gateway.admin.try_send(Method::DELETE, "/admin/v1/pipelines/echo/split?plugin=echo", &[], "").await;
    assert_eq!(ended.expect("an answer").status, 200);
    assert_eq!(served(&gateway, "user-1").await, "1");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shadow_runs_beside_the_answer_and_counts_who_agrees() {
    let gateway = gateway::start(UPLOADS).await;
    for version in ["1", "2"] {
        upload(&gateway.admin, "echo", version, &named(version)).await;
    }
    // The same behaviour in other bytes.
    upload(&gateway.admin, "echo", "1-again", &versions::padded("1")).await;
    activate(&gateway.admin, "echo", "1").await.ok();
    for (candidate, counted) in [("2", "differed"), ("1-again", "agreed")] {
        let body = json!({"plugin": "echo", "version": candidate, "sample": 1.0});
        put(&gateway.admin, "/admin/v1/pipelines/echo/shadow", &body).await.ok();
        for number in 0..20 {
            assert_eq!(
                served(&gateway, &format!("user-{number}")).await,
                "1",
                "the caller sees the active one"
            );
        }
        versions::until(|| async {
            let view = gateway.admin.get("/admin/v1/pipelines/echo").await.ok();
            let shadow = &view["plugins"][0]["shadow"];
            shadow[counted].as_u64() > Some(0) && shadow["failed"] == 0
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_fails_is_taken_back_by_itself() {
    let gateway = gateway::start(UPLOADS).await;
    upload(&gateway.admin, "echo", "good", &named("good")).await;
    upload(&gateway.admin, "echo", "bad", &versions::trapping()).await;
    activate(&gateway.admin, "echo", "good").await.ok();
    activate(&gateway.admin, "echo", "bad").await.ok();
    for _ in 0..12 {
        let reply = gateway.client.predict("echo", &json!({})).await;
        assert!(reply.status == 502 || reply.status == 200, "{:?}", reply.body);
    }
    versions::until(|| async { show(&gateway.admin, "echo").await["active"] == "good" }).await;
    assert_eq!(served(&gateway, "k").await, "good");
    let plugin = show(&gateway.admin, "echo").await;
    assert_eq!(state(&plugin, "bad"), "failed");
    let reason = plugin["versions"].as_array().expect("a list").iter().find(|it| it["version"] == "bad");
    assert!(reason.expect("there")["reason"].as_str().expect("text").contains("calls failed"));
    let logs = gateway.admin.get("/admin/v1/plugins/echo/logs").await.ok();
    let audit = gateway.admin.get("/admin/v1/audit").await.ok().to_string();
    assert!(audit.contains("auto_rollback") && logs["lines"].is_array(), "{audit}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failing_plugin_is_skipped_or_replaced_where_the_pipeline_says_so() {
    let config = UPLOADS.replace("bake_ms = 60000", "bake_ms = 0").replace(
        "[pipelines.echo]",
        "[pipelines.previous]\n    pre = \"echo\"\n    model = \"wide\"\n    on_failure = \"previous\"\n\
         [pipelines.skip]\n    pre = \"echo\"\n    model = \"wide\"\n    on_failure = \"skip\"\n[pipelines.echo]",
    );
    let gateway = gateway::start(&config).await;
    upload(&gateway.admin, "echo", "good", &named("good")).await;
    upload(&gateway.admin, "echo", "bad", &versions::trapping()).await;
    activate(&gateway.admin, "echo", "good").await.ok();
    activate(&gateway.admin, "echo", "bad").await.ok();
    let failed = gateway.client.predict("echo", &json!({})).await;
    assert_eq!((failed.status.as_u16(), failed.code().as_str()), (502, "plugin_trap"));
    let previous = gateway.client.predict("previous", &json!({})).await;
    assert_eq!((previous.status.as_u16(), &previous.body[..]), (200, &b"good"[..]));
    let tensors = json!({"inputs": [
        {"name": "x", "datatype": "FP32", "shape": [1, 4], "data": [1, 2, 3, 4]}]});
    assert_eq!(
        gateway.client.infer("skip", &tensors).await.status,
        200,
        "tensors go to the model as they are"
    );
    assert_eq!(
        gateway.client.predict("skip", &json!({})).await.status,
        502,
        "a body is for the plugin alone"
    );
    let lines = gateway.admin.get("/admin/v1/plugins/echo/logs?version=bad").await.ok();
    assert!(lines["lines"][0]["level"] == "failure", "{lines}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_component_leaves_a_reason_code_an_audit_line_and_nothing_else() {
    let gateway = gateway::start(UPLOADS).await;
    let cases: [(&[u8], u16, &str); 3] = [
        (b"", 422, "not_wasm"),
        (b"\x7fELF\x02\x01\x01", 422, "not_wasm"),
        (b"\0asm\x01\0\0\0", 422, "not_component"),
    ];
    for (component, status, code) in cases {
        let reply = upload(&gateway.admin, "echo", "1", component).await;
        assert_eq!((reply.status.as_u16(), reply.code().as_str()), (status, code));
    }
    let import = std::fs::read(gateway::expand("{repo}/tests/guests/dist/kv_probe.wasm")).expect("there");
    let reply = upload(&gateway.admin, "echo", "1", &import).await;
    assert_eq!((reply.status.as_u16(), reply.code().as_str()), (422, "forbidden_import"));
    assert!(reply.json()["error"].as_str().expect("text").contains("wasi:keyvalue"));
    assert_eq!(state(&show(&gateway.admin, "echo").await, "1"), "absent");
    assert!(gateway.state_files("blobs").is_empty() && gateway.state_files("tmp").is_empty());
    let audit = gateway.admin.get("/admin/v1/audit").await.ok();
    let outcomes: Vec<&str> =
        audit["entries"].as_array().expect("a list").iter().filter_map(|it| it["outcome"].as_str()).collect();
    assert_eq!(outcomes, ["not_wasm", "not_wasm", "not_component", "forbidden_import"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn sample_cases_decide_whether_a_version_becomes_ready() {
    let gateway = gateway::start(UPLOADS).await;
    let case = |expected: &str| {
        let samples =
            json!([{"name": "says its name", "request": {"json": {}}, "expect": {"text": expected}}]);
        versions::with_samples(&named("1"), &samples)
    };
    let wrong = upload(&gateway.admin, "echo", "1", &case("2")).await;
    assert_eq!((wrong.status.as_u16(), wrong.code().as_str()), (422, "canary_failed"));
    assert!(wrong.json()["error"].as_str().expect("text").contains("says its name"));
    let right = upload(&gateway.admin, "echo", "1", &case("1")).await;
    assert_eq!((right.status.as_u16(), &right.json()["samples"]), (201, &json!(1)));
}

#[tokio::test(flavor = "multi_thread")]
async fn p23_an_upload_that_breaks_off_leaves_nothing() {
    let gateway = gateway::start(UPLOADS).await;
    let component = named("1");
    versions::break_off(&gateway.admin, "/admin/v1/plugins/echo/versions/1", &component).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(state(&show(&gateway.admin, "echo").await, "1"), "absent");
    assert!(gateway.state_files("blobs").is_empty() && gateway.state_files("tmp").is_empty());
    assert_eq!(upload(&gateway.admin, "echo", "1", &component).await.status, 201);
}
