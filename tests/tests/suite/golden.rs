//! The benchmark's pipelines give the golden answers.

use serde_json::{Value, json};
use sluice_tests::gateway::{self, Running, bench_data};

/// Engines round differently in the last bits.
const TOLERANCE: f64 = 2e-4;

struct Case {
    body: Value,
    golden: Value,
}

fn cases(pipeline: &str) -> Vec<Case> {
    let path = bench_data().join("bodies").join(format!("{pipeline}.json"));
    let text = std::fs::read_to_string(&path)
        .unwrap_or_else(|error| panic!("{}: {error}: run scripts/make-bench-models.sh", path.display()));
    let mut file: Value = serde_json::from_str(&text).expect("JSON");
    let (bodies, golden) = (file["bodies"].take(), file["golden"].take());
    let (Value::Array(bodies), Value::Array(golden)) = (bodies, golden) else { panic!("two lists") };
    assert_eq!(bodies.len(), 64);
    bodies.into_iter().zip(golden).map(|(body, golden)| Case { body, golden }).collect()
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("{value} is not a number"))
}

/// Scores within the tolerance; titles in the same order, but near-ties may swap.
fn assert_same(got: &Value, want: &Value) {
    assert_eq!(got["id"], want["id"]);
    if want.get("score").is_some() {
        assert!((number(&got["score"]) - number(&want["score"])).abs() <= TOLERANCE, "{got} for {want}");
        return;
    }
    let (got, want) =
        (got["ranking"].as_array().expect("a list"), want["ranking"].as_array().expect("a list"));
    assert_eq!(got.len(), want.len());
    let last = number(&want[want.len() - 1]["score"]);
    for (place, (got, want_here)) in got.iter().zip(want).enumerate() {
        assert!((number(&got["score"]) - number(&want_here["score"])).abs() <= TOLERANCE, "place {place}");
        let known = want.iter().any(|want| want["id"] == got["id"]);
        assert!(known || (number(&got["score"]) - last).abs() <= TOLERANCE, "place {place}: {got}");
    }
}

async fn assert_golden(gateway: &Running, pipeline: &str) {
    for case in cases(pipeline) {
        let answer = gateway.client.predict(pipeline, &case.body).await.ok();
        assert_same(&answer, &case.golden);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn golden_answers_of_score_rank_and_dlrm() {
    let gateway = gateway::start_config("bench.toml").await;
    for pipeline in ["score", "rank", "dlrm"] {
        assert_golden(&gateway, pipeline).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn golden_answers_when_all_arrive_at_once_and_share_batches() {
    let gateway = gateway::start_config("bench.toml").await;
    let mut tasks = Vec::new();
    for pipeline in ["score", "rank", "dlrm"] {
        for case in cases(pipeline) {
            let client = gateway.client.clone();
            tasks.push(tokio::spawn(async move {
                assert_same(&client.predict(pipeline, &case.body).await.ok(), &case.golden);
            }));
        }
    }
    for task in tasks {
        task.await.expect("the answer was golden");
    }
    let batches = gateway.metric("sluice_batch_rows_count", "").await;
    let requests = gateway.metric("sluice_queue_wait_seconds_count", "").await;
    assert!(requests >= 192.0, "{requests} requests in {batches} batches");
    assert!(requests > batches, "some requests shared a batch: {requests} in {batches}");
}

/// The same model over V2, with the features hashed here.
#[tokio::test(flavor = "multi_thread")]
async fn golden_scores_over_v2() {
    let gateway = gateway::start_config("bench.toml").await;
    for case in cases("score").into_iter().take(8) {
        let mut row = vec![0.0f32; 1024];
        for (name, value) in case.body["features"].as_object().expect("a map") {
            let text = format!("{name}={}", value.as_str().expect("a string"));
            let hash = text
                .bytes()
                .fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
            row[hash as usize % 1024] += 1.0;
        }
        let request = json!({"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 1024], "data": row}]});
        let answer = gateway.client.infer("mlp", &request).await.ok();
        let logit = number(&answer["outputs"][0]["data"][0]);
        let score = 1.0 / (1.0 + (-logit).exp());
        assert!((score - number(&case.golden["score"])).abs() <= TOLERANCE, "{score} for {}", case.golden);
    }
}
