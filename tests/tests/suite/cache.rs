//! The response cache gives what the model would have given, to whom it may.

use serde_json::{Value, json};
use sluice_tests::gateway;

const CONFIG: &str = r#"
    [telemetry]
    triton_metrics = true
    [models.cached]
    engine = "sim"
    file = "{repo}/tests/models/faulty.sim.json"
    response_cache = true
    [models.plain]
    engine = "sim"
    file = "{repo}/tests/models/faulty.sim.json"
    [pipelines.through]
    model = "cached"
"#;

fn body(value: i64) -> Value {
    json!({ "inputs": [{ "name": "x", "datatype": "INT64", "shape": [1, 1], "data": [value] }] })
}

/// Hits, misses, rows that ran, and successes.
async fn counts(gateway: &gateway::Running, model: &str) -> [u64; 4] {
    let stats = gateway.client.get(&format!("/v2/models/{model}/stats")).await.ok()["model_stats"][0].take();
    let inference = &stats["inference_stats"];
    let counts = [&inference["cache_hit"], &inference["cache_miss"], &stats, &inference["success"]];
    let keys = ["count", "count", "inference_count", "count"];
    std::array::from_fn(|at| counts[at][keys[at]].as_u64().expect("a number"))
}

#[tokio::test(flavor = "multi_thread")]
async fn an_equal_request_is_answered_without_the_model_also_through_a_pipeline() {
    let gateway = gateway::start(CONFIG).await;
    let first = gateway.client.infer("cached", &body(7)).await.ok();
    let again = gateway.client.infer("cached", &body(7)).await.ok();
    assert_eq!(first["outputs"], again["outputs"]);
    let through = gateway.client.infer("through", &body(7)).await.ok();
    assert_eq!(first["outputs"], through["outputs"]);
    let other = gateway.client.infer("cached", &body(8)).await.ok();
    assert_eq!(other["outputs"][0]["data"], json!([8]));
    assert_eq!(counts(&gateway, "cached").await, [2, 2, 2, 4]);
    assert_eq!(gateway.metric("sluice_cache_lookups_total", r#"outcome="hit""#).await, 2.0);
    assert_eq!(gateway.metric("sluice_cache_entries", "").await, 2.0);
    assert_eq!(gateway.metric("nv_cache_num_hits_per_model", r#"model="cached",version="1""#).await, 2.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_opt_in_has_no_cache_and_errors_are_not_kept() {
    let gateway = gateway::start(CONFIG).await;
    for _ in 0..2 {
        gateway.client.infer("plain", &body(7)).await.ok();
        assert_eq!(gateway.client.infer("cached", &body(500)).await.status, 500);
    }
    assert_eq!(counts(&gateway, "plain").await, [0, 0, 2, 2]);
    assert_eq!(counts(&gateway, "cached").await, [0, 2, 0, 0]);
    assert_eq!(gateway.metric("sluice_cache_entries", "").await, 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_that_is_loaded_anew_answers_anew() {
    let gateway = gateway::start(CONFIG).await;
    gateway.client.infer("cached", &body(7)).await.ok();
    assert_eq!(gateway.metric("sluice_cache_entries", "").await, 1.0);
    let changed = CONFIG.replacen("response_cache = true", "response_cache = true\nversion = \"2\"", 1);
    gateway.apply(&changed).await;
    assert_eq!(gateway.metric("sluice_cache_entries", "").await, 0.0);
    gateway.client.infer("cached", &body(7)).await.ok();
    assert_eq!(counts(&gateway, "cached").await, [0, 1, 1, 1]);
}
