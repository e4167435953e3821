//! What Triton's statistics extension says is what happened.

use serde_json::{Value, json};
use sluice_tests::grpc::inference::ModelStreamInferResponse;
use sluice_tests::grpc::{Grpc, STREAM, request};
use sluice_tests::{gateway, versions::until};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

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

const PARTS: &str = r#"
    [plugins.probe]
    file = "{repo}/tests/guests/dist/parts_probe.wasm"
    call_timeout_ms = 5000
    [plugins.repeat]
    file = "{repo}/guest-examples/dist/repeat.wasm"
    [pipelines.probe]
    plugin = "probe"
    [pipelines.repeat]
    plugin = "repeat"
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

/// How the parts with each number ended: `s`uccess, `f`ail, `e`mpty, `c`ancel, as often.
async fn parts(gateway: &gateway::Running, name: &str) -> Vec<(String, String)> {
    let stats = of(gateway, &format!("/v2/models/{name}/stats")).await;
    let letters = [("success", "s"), ("fail", "f"), ("empty_response", "e"), ("cancel", "c")];
    let how = |part: &Value| {
        let times = |key: &str| part[key]["count"].as_u64().and_then(|count| count.try_into().ok());
        letters.map(|(key, letter)| letter.repeat(times(key).expect("a number"))).concat()
    };
    let parts = stats["response_stats"].as_object().expect("a map");
    parts.iter().map(|(number, part)| (number.clone(), how(part))).collect()
}

fn told(parts: &[(&str, &str)]) -> Vec<(String, String)> {
    parts.iter().map(|(number, how)| ((*number).to_owned(), (*how).to_owned())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_part_of_a_streamed_answer_counts_by_its_number_and_how_it_ended() {
    let gateway = gateway::start(PARTS).await;
    let generate =
        async |order: Value| gateway.client.post("/v2/models/probe/generate_stream", order.to_string()).await;
    generate(json!({ "do": "tensors", "amount": 2 })).await;
    assert_eq!(parts(&gateway, "probe").await, told(&[("0", "s"), ("1", "s"), ("2", "e")]));
    generate(json!({ "do": "bytes", "amount": 1, "then": "last" })).await;
    assert_eq!(parts(&gateway, "probe").await, told(&[("0", "ss"), ("1", "ss"), ("2", "e")]));
    generate(json!({ "do": "bytes", "amount": 1, "then": "fail" })).await;
    assert_eq!(generate(json!({ "do": "what" })).await.status, 400);
    generate(json!({ "do": "whole" })).await;
    assert_eq!(parts(&gateway, "probe").await, told(&[("0", "ssssf"), ("1", "ssf"), ("2", "e")]));
    // What is not streamed has no parts.
    gateway.client.post("/v2/models/probe/generate", json!({ "do": "whole" }).to_string()).await.ok();
    let stats = of(&gateway, "/v2/models/probe/stats").await;
    let first = &stats["response_stats"]["0"];
    assert_eq!(
        (&first["success"]["count"], &first["compute_infer"]["count"], &first["compute_output"]["count"]),
        (&json!(4), &json!(5), &json!(4))
    );
    assert!(first["compute_infer"]["ns"].as_u64() > Some(0), "{first}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_that_leaves_in_the_middle_counts_as_a_cancelled_part() {
    let gateway = gateway::start(PARTS).await;
    let mut stream = tokio::net::TcpStream::connect(gateway.client.address()).await.expect("a connection");
    let body = json!({ "do": "bytes", "amount": 1000, "pause_ms": 50 }).to_string();
    let length = body.len();
    let head = format!(
        "POST /v1/models/probe:predict HTTP/1.1\r\nhost: x\r\ncontent-length: {length}\r\n\r\n{body}"
    );
    stream.write_all(head.as_bytes()).await.expect("sent");
    let mut read = Vec::new();
    while !String::from_utf8_lossy(&read).contains("0;") {
        assert!(stream.read_buf(&mut read).await.expect("readable") > 0);
    }
    drop(stream);
    let cancelled = || async { parts(&gateway, "probe").await.iter().any(|(_, how)| how == "c") };
    until(cancelled).await;
    assert_eq!(parts(&gateway, "probe").await[0], ("0".to_owned(), "s".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_answers_of_a_grpc_stream_count_as_those_over_http_do() {
    let gateway = gateway::start(PARTS).await;
    let client = Grpc::connect(gateway.grpc).await;
    let data = [7_i32, 8].into_iter().flat_map(i32::to_le_bytes).collect();
    let requests = futures_util::stream::iter([request("repeat", "IN", "INT32", &[2], data)]);
    let answers = client.stream(STREAM, tonic::Request::new(requests)).await.expect("open");
    let mut answers: tonic::Streaming<ModelStreamInferResponse> = answers.into_inner();
    let mut count = 0;
    while let Some(answer) = answers.message().await.expect("an answer") {
        assert!(answer.error_message.is_empty(), "{answer:?}");
        count += 1;
    }
    assert!(count >= 2, "{count}");
    assert_eq!(parts(&gateway, "repeat").await, told(&[("0", "s"), ("1", "s"), ("2", "e")]));
}
