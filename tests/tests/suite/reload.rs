//! Editing the config while requests flow: one validated step, or none (C1–C7).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use sluice_tests::gateway;

const ONE: &str = r#"
    [models.m]
    engine = "sim"
    file = "{repo}/tests/models/marker.sim.json"
    max_batch_size = 8
"#;

const TWO: &str = r#"
    [models.m]
    engine = "sim"
    file = "{repo}/tests/models/marker.sim.json"
    max_batch_size = 16
    version = "2"
    [models.words]
    engine = "sim"
    file = "{repo}/tests/models/words.sim.json"
    [plugins.echo]
    file = "{repo}/tests/guests/dist/echo.wasm"
    [pipelines.echo]
    pre = "echo"
    model = "m"
"#;

fn request() -> Value {
    json!({"inputs": [{"name": "x", "datatype": "INT64", "shape": [1, 2], "data": [7, 0]}]})
}

#[tokio::test(flavor = "multi_thread")]
async fn a_valid_change_is_served_and_no_request_fails_meanwhile() {
    let gateway = gateway::start(ONE).await;
    let done = Arc::new(AtomicBool::new(false));
    let mut callers = Vec::new();
    for _ in 0..4 {
        let (client, done) = (gateway.client.clone(), Arc::clone(&done));
        callers.push(tokio::spawn(async move {
            let mut answered = 0;
            while !done.load(Ordering::Acquire) {
                assert_eq!(client.infer("m", &request()).await.ok()["outputs"][0]["data"], json!([7, 0]));
                answered += 1;
            }
            answered
        }));
    }
    for (text, version) in [(TWO, "2"), (ONE, "1"), (TWO, "2")] {
        let outcome = gateway.reload(text).await;
        // The file watch may have been faster.
        assert!(["applied", "unchanged"].contains(&outcome["outcome"].as_str().expect("text")), "{outcome}");
        let metadata = gateway.client.get("/v2/models/m").await.ok();
        assert_eq!(metadata["versions"], json!([version]));
    }
    done.store(true, Ordering::Release);
    for caller in callers {
        assert!(caller.await.expect("no request failed") > 0);
    }
    assert_eq!(gateway.client.predict("echo", &json!({"marker": 3})).await.ok()["body"], "{\"marker\":3}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invalid_file_changes_nothing_and_says_why() {
    let gateway = gateway::start(ONE).await;
    let cases = [
        ("[models.m", ""),
        ("[models.m]\nengine = \"sim\"\n", "file"),
        ("[modls.m]\n", "modls"),
        ("[models.m]\nengine = \"sim\"\nfile = \"{repo}/tests/models/none.sim.json\"\n", "none.sim.json"),
        ("[models.m]\nengine = \"sim\"\nfile = \"{repo}/Cargo.toml\"\n", "models.m"),
        ("[pipelines.p]\nmodel = \"none\"\n", "none"),
        ("[sandbox]\ninstances_max = 7\n", "restart"),
        ("[plugins.p]\nfile = \"{repo}/tests/models/words.sim.json\"\n", "plugins.p"),
    ];
    for (text, names) in cases {
        let outcome = gateway.reload(text).await;
        assert_eq!(outcome["outcome"], "refused", "{text}: {outcome}");
        let problems = outcome["problems"].to_string();
        assert!(problems.contains(names), "{text}: {problems}");
        assert_eq!(gateway.client.infer("m", &request()).await.ok()["outputs"][0]["data"], json!([7, 0]));
        let status = gateway.admin.get("/admin/v1/status").await.ok();
        assert_eq!(
            (&status["last_reload"]["outcome"], &status["generation"]),
            (&json!("refused"), &json!(1))
        );
    }
    let invalid = gateway.metric("sluice_config_reloads_total", "invalid").await;
    assert!(invalid >= 5.0, "{invalid}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_file_is_watched() {
    let gateway = gateway::start(ONE).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    std::fs::write(&gateway.config, gateway::whole(TWO)).expect("written");
    for _ in 0..200 {
        let metadata = gateway.client.get("/v2/models/m").await.ok();
        if metadata["versions"] == json!(["2"]) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("the change of the file was not seen");
}

/// What did not change is not loaded again: batching changes without a new model.
#[tokio::test(flavor = "multi_thread")]
async fn a_policy_changes_without_touching_the_model() {
    let gateway = gateway::start(ONE).await;
    let delayed = format!("{ONE}\n    max_queue_delay_microseconds = 200000\n");
    gateway.reload(&delayed).await;
    let before = tokio::time::Instant::now();
    gateway.client.infer("m", &request()).await.ok();
    assert!(before.elapsed() >= Duration::from_millis(190), "{:?}", before.elapsed());
    gateway.reload(ONE).await;
    let before = tokio::time::Instant::now();
    gateway.client.infer("m", &request()).await.ok();
    assert!(before.elapsed() < Duration::from_millis(150), "{:?}", before.elapsed());
}
