//! Large bodies of JSON: others are served while they are read and written, and what they become
//! is counted before it is made.

use std::time::Duration;

use http::Method;
use serde_json::json;
use sluice_tests::gateway::{self, Running};
use sluice_tests::grpc::inference::InferTensorContents;
use sluice_tests::grpc::{Grpc, request};
use tokio::time::Instant;

async fn start(limits: &str) -> Running {
    let config = r#"
        [models.large]
        engine = "sim"
        file = "{repo}/tests/models/large.sim.json"
    "#;
    gateway::start(&format!("[server.limits]\n{limits}\n{config}")).await
}

/// A request of so many numbers, in JSON.
fn numbers(count: usize) -> String {
    let numbers = "7,".repeat(count - 1) + "7";
    format!(
        "{{\"inputs\":[{{\"name\":\"x\",\"datatype\":\"UINT8\",\"shape\":[1,{count}],\"data\":[{numbers}]}}]}}"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn others_are_answered_while_large_bodies_are_read_and_written() {
    let gateway = start("request_timeout_default_ms = 60000").await;
    let body = numbers(4 << 20);
    let begun = Instant::now();
    let callers: Vec<_> = (0..3)
        .map(|_| {
            let (client, body) = (gateway.client.clone(), body.clone());
            tokio::spawn(async move { client.post("/v2/models/large/infer", body).await.status })
        })
        .collect();
    let mut slowest = Duration::ZERO;
    while callers.iter().any(|caller| !caller.is_finished()) {
        let asked = Instant::now();
        assert_eq!(gateway.client.get("/v2/health/live").await.status, 200);
        slowest = slowest.max(asked.elapsed());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let all = begun.elapsed();
    for caller in callers {
        assert_eq!(caller.await.expect("no panic"), 200);
    }
    assert!(slowest < all / 8, "one waited for {slowest:?} of {all:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn large_bodies_of_every_protocol_of_json_are_answered_as_small_ones() {
    let gateway = start("request_timeout_default_ms = 60000").await;
    const COUNT: usize = 600_000;
    for count in [3, COUNT] {
        let one = gateway.client.post("/v2/models/large/infer", numbers(count)).await.ok();
        let data = one["outputs"][0]["data"].as_array().expect("an array");
        assert!(data.len() == count && data.iter().all(|number| *number == 7), "V2 of {count}");
        let rows = json!({"instances": [vec![7; count]]});
        let one = gateway.client.predict("large", &rows).await.ok();
        assert_eq!(one["predictions"][0].as_array().map(Vec::len), Some(count), "TF-Serving");
        let flat = json!({"x": vec![7; count]});
        let one = gateway.client.post("/v2/models/large/generate", flat.to_string()).await.ok();
        assert_eq!(one["y"].as_array().map(Vec::len), Some(count), "generate");
        let broken = numbers(count).replace("7]", "7,]");
        let refused = gateway.client.post("/v2/models/large/infer", broken).await;
        assert_eq!((refused.status.as_u16(), refused.code().as_str()), (400, "bad_json"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn large_contents_of_grpc_are_answered_as_small_ones() {
    let gateway = start("").await;
    let client = Grpc::connect(gateway.grpc).await;
    for count in [3, 1_200_000_usize] {
        let mut asked =
            request("large", "x", "UINT8", &[1, i64::try_from(count).expect("small")], Vec::new());
        asked.raw_input_contents.clear();
        let contents = InferTensorContents { uint_contents: vec![7; count], ..Default::default() };
        asked.inputs[0].contents = Some(contents);
        let answer = client.infer(asked.clone()).await.expect("an answer");
        assert_eq!(answer.raw_output_contents[0].len(), count);
        asked.inputs[0].shape[1] += 1;
        let refused = client.infer(asked).await.expect_err("one is missing");
        assert_eq!(refused.code(), tonic::Code::InvalidArgument);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_finds_no_room_is_refused_before_it_is_written() {
    const BYTES: usize = 4 << 20;
    let gateway = start("body_bytes_max = 5_000_000\nin_flight_bytes_max = 16_000_000").await;
    let ask = async |binary: bool| {
        let input = json!({"name": "x", "datatype": "UINT8", "shape": [1, BYTES],
            "parameters": {"binary_data_size": BYTES}});
        let head = json!({"parameters": {"binary_data_output": binary}, "inputs": [input]}).to_string();
        let length = head.len().to_string();
        let body = [head.as_bytes(), &[7; BYTES]].concat();
        let headers = [("inference-header-content-length", length.as_str())];
        let path = "/v2/models/large/infer";
        gateway.client.try_send(Method::POST, path, &headers, body).await.expect("an answer")
    };
    assert_eq!(ask(true).await.status, 200);
    // As text its numbers may take four bytes each.
    let refused = ask(false).await;
    assert_eq!((refused.status.as_u16(), refused.code().as_str()), (503, "overloaded"));
    assert_eq!(ask(true).await.status, 200, "and nothing of it is left");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_body_that_is_not_read_by_its_deadline_is_504_in_time() {
    let gateway = start("").await;
    let body = numbers(4 << 20);
    let asked = Instant::now();
    let headers = [("x-request-timeout-ms", "400")];
    let path = "/v2/models/large/infer";
    let calls = (0..6).map(|_| gateway.client.try_send(Method::POST, path, &headers, body.clone()));
    let replies = futures_util::future::join_all(calls).await;
    let late = replies.into_iter().filter(|reply| reply.as_ref().is_ok_and(|reply| reply.status == 504));
    assert!(late.count() >= 3);
    assert!(asked.elapsed() < Duration::from_secs(5), "{:?}", asked.elapsed());
}
