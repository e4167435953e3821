//! Components that expect WASI run, and reach nothing; under `strict` they are refused.

use serde_json::json;
use sluice_tests::gateway;

fn config(strict: bool) -> String {
    format!(
        r#"
        [models.wide]
        engine = "sim"
        file = "{{repo}}/tests/models/wide.sim.json"
        [plugins.wasi]
        file = "{{repo}}/tests/guests/dist/wasi_hello.wasm"
        call_timeout_ms = 5000
        strict = {strict}
        [pipelines.wasi]
        pre = "wasi"
        model = "wide"
    "#
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wasip2_component_runs_and_reaches_nothing() {
    let gateway = gateway::start(&config(false)).await;
    let answer = gateway.client.predict("wasi", &json!({})).await.ok();
    assert_eq!(answer["environment"], json!([]));
    assert_eq!(answer["body_bytes"], 2);
    for denied in ["etc_passwd", "root_folder", "write_file"] {
        assert!(answer[denied]["Err"].is_string(), "{denied}: {answer}");
    }
    assert!(answer["seconds_since_1970"].as_u64() > Some(1_700_000_000));
}

#[tokio::test(flavor = "multi_thread")]
async fn strict_refuses_it_by_the_name_of_the_import() {
    let error = gateway::try_start(&config(true)).await.err().expect("refused");
    assert!(error.contains("plugins.wasi") && error.contains("wasi:"), "{error}");
}

/// Two models through the `inference` import, joined by the plugin.
#[tokio::test(flavor = "multi_thread")]
async fn a_pipeline_plugin_joins_the_answers_of_two_models() {
    let gateway = gateway::start(
        r#"
        [models.one]
        file = "${SLUICE_BENCH_DIR}/models/mlp.onnx"
        [models.two]
        file = "${SLUICE_BENCH_DIR}/models/mlp.onnx"
        [models.mlp]
        file = "${SLUICE_BENCH_DIR}/models/mlp.onnx"
        [plugins.join]
        file = "{repo}/guest-examples/dist/two_models.wasm"
        config = { models = ["one", "two"] }
        models = ["one", "two"]
        [plugins.hash]
        file = "{repo}/guest-examples/dist/feature_hash.wasm"
        config = { mode = "mlp" }
        [plugins.top]
        file = "{repo}/guest-examples/dist/rank_topk.wasm"
        [pipelines.joined]
        plugin = "join"
        [pipelines.rank]
        pre = "hash"
        model = "mlp"
        post = "top"
    "#,
    )
    .await;
    let features: serde_json::Map<_, _> =
        (0..40).map(|number| (format!("f{number:02}"), json!(format!("v{number}")))).collect();
    let candidates: Vec<String> = (0..64).map(|number| format!("item_{number}")).collect();
    let body = json!({"id": "r1", "features": features, "candidates": candidates, "k": 10});
    let joined = gateway.client.predict("joined", &body).await.ok();
    let single = gateway.client.predict("rank", &body).await.ok();
    // Two copies of one model agree, so their mean ranks as one of them does.
    let order = |answer: &serde_json::Value| -> Vec<String> {
        let ranking = answer["ranking"].as_array().unwrap_or_else(|| panic!("{answer}")).iter();
        ranking.map(|item| item["id"].to_string()).collect()
    };
    assert_eq!(order(&joined), order(&single));
    assert_eq!(gateway.metric("sluice_queue_wait_seconds_count", "one").await, 1.0);
    assert_eq!(gateway.metric("sluice_queue_wait_seconds_count", "two").await, 1.0);
}
