//! Queues, deadlines and cancellation: who waits, who is refused, who is let go.

use std::time::Duration;

use http::Method;
use serde_json::{Value, json};
use sluice_tests::gateway::{self, Running};
use tokio::time::Instant;

fn request(marker: i64, parameters: &Value) -> Value {
    json!({"parameters": parameters,
        "inputs": [{"name": "x", "datatype": "INT64", "shape": [1, 2], "data": [marker, 0]}]})
}

async fn start() -> Running {
    gateway::start(
        r#"
        [server.limits]
        request_timeout_default_ms = 2000
        [models.slow]
        engine = "sim"
        file = "{repo}/tests/models/slow.sim.json"
        max_batch_size = 1
        max_queue_size = 4
        [models.faulty]
        engine = "sim"
        file = "{repo}/tests/models/faulty.sim.json"
        max_batch_size = 8
    "#,
    )
    .await
}

fn faulty(value: i64) -> Value {
    json!({"inputs": [{"name": "x", "datatype": "INT64", "shape": [1, 1], "data": [value]}]})
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_queue_is_429_and_says_when_to_come_back() {
    let gateway = start().await;
    let mut calls = Vec::new();
    for marker in 0..16 {
        let client = gateway.client.clone();
        calls.push(tokio::spawn(async move { client.infer("slow", &request(marker, &json!({}))).await }));
    }
    let (mut answered, mut refused) = (0, 0);
    for call in calls {
        let reply = call.await.expect("no panic");
        match reply.status.as_u16() {
            200 => answered += 1,
            429 => {
                assert_eq!(reply.code(), "queue_full");
                assert!(reply.headers.contains_key("retry-after"));
                refused += 1;
            }
            other => panic!("{other}"),
        }
    }
    // Four wait, and a fifth runs if the instance was quicker than the callers.
    assert!(answered >= 4 && refused >= 8, "{answered} answered, {refused} refused");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deadline_that_cannot_be_met_is_504_on_time() {
    let gateway = start().await;
    // The engine takes 50 ms; the header is in milliseconds.
    let before = Instant::now();
    let body = request(2, &json!({})).to_string();
    let header = [("x-request-timeout-ms", "5")];
    let reply = gateway.client.try_send(Method::POST, "/v2/models/slow/infer", &header, body).await;
    let reply = reply.expect("an answer");
    assert_eq!((reply.status.as_u16(), reply.code().as_str()), (504, "deadline"));
    assert!(before.elapsed() < Duration::from_secs(1), "the answer came on time");
    // What was abandoned on the engine leaves no trace in the next answer.
    let answer = gateway.client.infer("slow", &request(3, &json!({}))).await.ok();
    assert_eq!(answer["outputs"][0]["data"], json!([3, 0]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_who_leaves_frees_its_place_in_the_queue() {
    let gateway = start().await;
    let mut calls = Vec::new();
    for marker in 0..5 {
        let client = gateway.client.clone();
        calls.push(tokio::spawn(async move { client.infer("slow", &request(marker, &json!({}))).await }));
    }
    tokio::time::sleep(Duration::from_millis(20)).await;
    for call in &calls {
        call.abort();
    }
    tokio::time::sleep(Duration::from_millis(80)).await;
    let before = Instant::now();
    gateway.client.infer("slow", &request(9, &json!({}))).await.ok();
    // Five waiting calls of 50 ms each would have been in front of it.
    assert!(before.elapsed() < Duration::from_millis(200), "{:?}", before.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn one_poisonous_request_of_a_batch_fails_alone() {
    let gateway = start().await;
    for poison in [500, 777] {
        let mut calls = Vec::new();
        for value in [1, 2, poison, 3, 4, 5] {
            let client = gateway.client.clone();
            calls.push((value, tokio::spawn(async move { client.infer("faulty", &faulty(value)).await })));
        }
        for (value, call) in calls {
            let reply = call.await.expect("no panic");
            if value == poison {
                assert_eq!((reply.status.as_u16(), reply.code().as_str()), (500, "engine_error"));
            } else {
                assert_eq!(reply.ok()["outputs"][0]["data"], json!([value]), "beside {poison}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_thread_that_panics_is_rebuilt() {
    let gateway = start().await;
    for _ in 0..2 {
        let reply = gateway.client.infer("faulty", &faulty(666)).await;
        assert_eq!((reply.status.as_u16(), reply.code().as_str()), (500, "engine_error"));
        assert_eq!(gateway.client.infer("faulty", &faulty(1)).await.ok()["outputs"][0]["data"], json!([1]));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_hangs_is_given_up_when_nobody_waits_any_more() {
    let gateway = start().await;
    let body = faulty(999).to_string();
    let header = [("x-request-timeout-ms", "200")];
    let reply = gateway.client.try_send(Method::POST, "/v2/models/faulty/infer", &header, body).await;
    assert_eq!(reply.expect("an answer").status, 504);
    assert_eq!(gateway.client.infer("faulty", &faulty(7)).await.ok()["outputs"][0]["data"], json!([7]));
}
