//! What Triton's statistics extension says is what happened.

use serde_json::{Value, json};
use sluice_tests::gateway;

const CONFIG: &str = r#"
    [models.wide]
    engine = "sim"
    file = "{repo}/tests/models/wide.sim.json"
    version = "3"
    [models.faulty]
    engine = "sim"
    file = "{repo}/tests/models/faulty.sim.json"
    [pipelines.through]
    model = "wide"
"#;

/// A request of so many rows for `wide`.
fn rows(count: usize) -> Value {
    let data: Vec<f32> = vec![1.5; count * 4];
    json!({ "inputs": [{ "name": "x", "datatype": "FP32", "shape": [count, 4], "data": data }] })
}

async fn of(gateway: &gateway::Running, path: &str) -> Value {
    let stats = gateway.client.get(path).await.ok()["model_stats"].take();
    assert_eq!(stats.as_array().map(Vec::len), Some(1), "{stats}");
    stats[0].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn statistics_count_requests_rows_and_batches_of_each_size() {
    let gateway = gateway::start(CONFIG).await;
    for count in [1, 1, 3] {
        gateway.client.infer("wide", &rows(count)).await.ok();
    }
    let stats = of(&gateway, "/v2/models/wide/stats").await;
    assert_eq!(stats, of(&gateway, "/v2/models/wide/versions/3/stats").await);
    assert_eq!((&stats["name"], &stats["version"]), (&json!("wide"), &json!("3")));
    assert_eq!((&stats["inference_count"], &stats["execution_count"]), (&json!(5), &json!(3)));
    let inference = &stats["inference_stats"];
    for (name, count) in [("success", 3), ("queue", 3), ("compute_input", 3), ("compute_infer", 3)] {
        assert_eq!(inference[name]["count"], count, "{name} in {stats}");
    }
    let ns = |name: &str| inference[name]["ns"].as_u64().expect("a number");
    let inside = ["queue", "compute_input", "compute_infer", "compute_output"].map(ns).iter().sum::<u64>();
    assert!(ns("success") >= inside && ns("compute_infer") > 0, "{stats}");
    for name in ["fail", "cache_hit", "cache_miss"] {
        assert_eq!(inference[name], json!({ "count": 0, "ns": 0 }), "{name}");
    }
    let sizes: Vec<_> = stats["batch_stats"].as_array().expect("a list").iter().collect();
    let sizes: Vec<_> =
        sizes.iter().map(|one| (&one["batch_size"], &one["compute_infer"]["count"])).collect();
    assert_eq!(sizes, [(&json!(1), &json!(2)), (&json!(3), &json!(1))]);
    assert_eq!((&stats["response_stats"], &stats["memory_usage"]), (&json!({}), &json!([])));
    assert!(stats["last_inference"].as_u64().expect("a number") > 1_600_000_000_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pipeline_has_statistics_of_its_own_and_its_model_counts_too() {
    let gateway = gateway::start(CONFIG).await;
    gateway.client.infer("through", &rows(2)).await.ok();
    assert_eq!(gateway.client.infer("through", &json!({ "inputs": [] })).await.status, 400);
    let pipeline = of(&gateway, "/v2/models/through/versions/1/stats").await;
    let inference = &pipeline["inference_stats"];
    assert_eq!((&inference["success"]["count"], &inference["fail"]["count"]), (&json!(1), &json!(1)));
    assert_eq!(inference["compute_infer"]["count"], 1);
    let model = of(&gateway, "/v2/models/wide/stats").await;
    assert_eq!(
        (&model["inference_count"], &model["inference_stats"]["success"]["count"]),
        (&json!(2), &json!(1))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn statistics_of_all_are_listed_and_of_nothing_are_404() {
    let gateway = gateway::start(CONFIG).await;
    let all = gateway.client.get("/v2/models/stats").await.ok();
    let names: Vec<_> =
        all["model_stats"].as_array().expect("a list").iter().map(|one| &one["name"]).collect();
    assert_eq!(names, ["faulty", "through", "wide"]);
    for path in ["/v2/models/nobody/stats", "/v2/models/wide/versions/1/stats"] {
        let reply = gateway.client.get(path).await;
        assert_eq!((reply.status.as_u16(), reply.code()), (404, "not_found".to_owned()), "{path}");
        let said = reply.json()["error"].as_str().expect("text").to_owned();
        assert!(said.starts_with("requested model ") && said.contains(" is not available"), "{said}");
    }
    assert_eq!(gateway.client.post("/v2/models/stats", "").await.status, 405);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_run_is_a_failure_and_no_inference() {
    let gateway = gateway::start(CONFIG).await;
    let poison = json!({ "inputs": [{ "name": "x", "datatype": "INT64", "shape": [1, 1], "data": [500] }] });
    assert_eq!(gateway.client.infer("faulty", &poison).await.status, 500);
    let stats = of(&gateway, "/v2/models/faulty/stats").await;
    assert_eq!(stats["inference_stats"]["fail"]["count"], 1, "{stats}");
    assert_eq!((&stats["inference_count"], &stats["execution_count"]), (&json!(0), &json!(0)), "{stats}");
}
