//! `ModelStreamInfer`: in order, bounded, through errors, to a good end.

use std::time::Duration;

use futures_util::StreamExt as _;
use sluice_tests::gateway::{self, Running};
use sluice_tests::grpc::inference::infer_parameter::ParameterChoice;
use sluice_tests::grpc::inference::{ModelInferRequest, ModelStreamInferResponse};
use sluice_tests::grpc::{Grpc, STREAM, code, int64, request};
use sluice_tests::versions::until;
use tokio::sync::mpsc;
use tonic::{Code, Request, Status, Streaming};

async fn start() -> (Running, Grpc) {
    let gateway = gateway::start(
        r#"
        [server.limits]
        body_bytes_max = 1_048_576
        [models.marker]
        engine = "sim"
        file = "{repo}/tests/models/marker.sim.json"
        max_batch_size = 65_536
        [models.large]
        engine = "sim"
        file = "{repo}/tests/models/large.sim.json"
        [models.slow]
        engine = "sim"
        file = "{repo}/tests/models/slow.sim.json"
        max_batch_size = 1
    "#,
    )
    .await;
    let client = Grpc::connect(gateway.grpc).await;
    (gateway, client)
}

fn numbered(model: &str, number: i64) -> ModelInferRequest {
    let id = number.to_string();
    ModelInferRequest { id, ..request(model, "x", "INT64", &[1, 2], int64(&[number, 0])) }
}

type Answers = Streaming<ModelStreamInferResponse>;

/// An open stream, and where its requests are put.
async fn open(client: &Grpc, headers: &[(&'static str, &str)]) -> (mpsc::Sender<ModelInferRequest>, Answers) {
    let (sender, receiver) = mpsc::channel(1);
    let requests = futures_util::stream::unfold(receiver, |mut receiver| async {
        receiver.recv().await.map(|request| (request, receiver))
    });
    let mut requests = Request::new(requests);
    for (name, value) in headers {
        requests.metadata_mut().insert(*name, value.parse().expect("ascii"));
    }
    let answers = client.stream(STREAM, requests).await.expect("open").into_inner();
    (sender, answers)
}

async fn next(answers: &mut Answers) -> Result<Option<ModelStreamInferResponse>, Status> {
    tokio::time::timeout(Duration::from_secs(10), answers.message()).await.expect("in time")
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_of_a_stream_run_together_and_are_answered_in_order() {
    let (gateway, client) = start().await;
    let (sender, mut answers) = open(&client, &[]).await;
    let sending = tokio::spawn(async move {
        for number in 0..500 {
            // A slow one does not let the others pass, and does not stop them.
            let model = if number % 100 == 0 { "slow" } else { "marker" };
            sender.send(numbered(model, number)).await.expect("taken");
        }
    });
    let mut batched = false;
    for number in 0..500 {
        let answer = next(&mut answers).await.expect("an answer").expect("an answer");
        assert_eq!(answer.error_message, "");
        let response = answer.infer_response.expect("a response");
        assert_eq!(response.id, number.to_string());
        assert_eq!(response.raw_output_contents[0], int64(&[number, 0]));
        let is_final = &response.parameters["triton_final_response"].parameter_choice;
        assert_eq!(*is_final, Some(ParameterChoice::BoolParam(true)));
        batched |= response.raw_output_contents[1] != response.raw_output_contents[1].slice(0..8)
            || response.raw_output_contents[1][..8] != 1_i64.to_le_bytes();
    }
    sending.await.expect("sent");
    assert!(next(&mut answers).await.expect("a good end").is_none());
    assert!(batched, "requests of one stream share batches");
    assert_eq!(gateway.metric("sluice_requests_in_flight", "").await, 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_fails_is_an_error_message_and_the_stream_goes_on() {
    let (_gateway, client) = start().await;
    let (sender, mut answers) = open(&client, &[]).await;
    sender.send(numbered("nobody", 1)).await.expect("taken");
    let answer = next(&mut answers).await.expect("an answer").expect("an answer");
    assert!(answer.error_message.contains("unknown model"), "{}", answer.error_message);
    assert_eq!(answer.infer_response.expect("whose it is").id, "1");
    sender
        .send(ModelInferRequest { raw_input_contents: vec![vec![1].into()], ..numbered("marker", 2) })
        .await
        .expect("taken");
    assert!(
        next(&mut answers).await.expect("an answer").expect("an answer").error_message.contains("input 'x'")
    );
    sender.send(numbered("marker", 3)).await.expect("taken");
    let answer = next(&mut answers).await.expect("an answer").expect("an answer");
    assert_eq!((&*answer.error_message, &*answer.infer_response.expect("a response").id), ("", "3"));
    // A message above the limit cannot be stepped over.
    let large = request("marker", "x", "INT64", &[1, 2], vec![0; 2 << 20]);
    sender.send(large).await.expect("taken");
    let refused = next(&mut answers).await.expect_err("the end");
    assert_eq!((refused.code(), code(refused.metadata())), (Code::ResourceExhausted, "too_large"));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asks_for_statuses_gets_the_first_errors_and_the_end() {
    let (_gateway, client) = start().await;
    let (sender, mut answers) = open(&client, &[("triton_grpc_error", "true")]).await;
    sender.send(numbered("marker", 1)).await.expect("taken");
    assert!(next(&mut answers).await.expect("an answer").is_some());
    sender.send(numbered("nobody", 2)).await.expect("taken");
    let refused = next(&mut answers).await.expect_err("the end");
    assert_eq!((refused.code(), code(refused.metadata())), (Code::NotFound, "not_found"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_is_dropped_leaves_nothing_behind() {
    let (gateway, client) = start().await;
    for _ in 0..20 {
        let (sender, answers) = open(&client, &[]).await;
        for number in 0..10 {
            sender.send(numbered("slow", number)).await.expect("taken");
        }
        drop((sender, answers));
    }
    sluice_tests::versions::until(|| async { gateway.metric("sluice_requests_in_flight", "").await == 0.0 })
        .await;
    client.infer(numbered("marker", 1)).await.expect("served");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_ends_at_its_deadline_and_when_the_gateway_leaves() {
    let (mut gateway, client) = start().await;
    let (_sender, mut answers) = open(&client, &[("grpc-timeout", "200m")]).await;
    assert_eq!(next(&mut answers).await.expect_err("the end").code(), Code::DeadlineExceeded);
    let (sender, mut answers) = open(&client, &[]).await;
    sender.send(numbered("slow", 1)).await.expect("taken");
    // It is under way when the gateway begins to leave, and is answered.
    tokio::time::sleep(Duration::from_millis(20)).await;
    let stopped = gateway.stop();
    let answer = next(&mut answers).await.expect("an answer").expect("an answer");
    assert_eq!(answer.infer_response.expect("a response").id, "1");
    assert_eq!(next(&mut answers).await.expect_err("the end").code(), Code::Unavailable);
    drop((sender, answers));
    drop(client);
    assert_eq!(stopped.await.expect("stopped"), sluice::lifecycle::drain::Drained::Clean);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_does_not_read_holds_a_bounded_number_of_requests() {
    let (gateway, client) = start().await;
    let (sender, answers) = open(&client, &[]).await;
    let large = request("large", "x", "UINT8", &[1, 320_000], vec![0; 320_000]);
    let mut taken = 0;
    while tokio::time::timeout(Duration::from_millis(500), sender.send(large.clone()))
        .await
        .is_ok_and(|sent| sent.is_ok())
    {
        taken += 1;
        assert!(taken < 400, "a stream takes requests without an end");
    }
    assert!(gateway.metric("sluice_requests_in_flight", "").await <= 66.0);
    client.infer(numbered("marker", 1)).await.expect("others are served");
    // What is answered and not read holds no place of a request.
    until(|| async { gateway.metric("sluice_requests_in_flight", "").await == 0.0 }).await;
    // Whoever reads again gets all of them.
    drop(sender);
    let answered = answers.filter(|answer| std::future::ready(answer.is_ok())).count().await;
    assert!(answered >= taken, "{answered} of {taken}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_may_not_come_in_is_told_so_by_its_id_and_the_stream_goes_on() {
    let gateway = gateway::start(
        r#"
        [server.limits]
        in_flight_max = 1
        [models.slow]
        engine = "sim"
        file = "{repo}/tests/models/slow.sim.json"
        max_batch_size = 1
    "#,
    )
    .await;
    for client in [Grpc::connect(gateway.grpc).await, Grpc::connect(gateway.grpc).await.with_gzip()] {
        let (sender, mut answers) = open(&client, &[]).await;
        let large = ModelInferRequest {
            id: "7".to_owned(),
            ..request("slow", "x", "INT64", &[1, 2], vec![7; 400_000])
        };
        sender.send(numbered("slow", 1)).await.expect("taken");
        sender.send(large).await.expect("taken");
        let first = next(&mut answers).await.expect("an answer").expect("an answer");
        assert_eq!((&*first.error_message, &*first.infer_response.expect("a response").id), ("", "1"));
        let second = next(&mut answers).await.expect("an answer").expect("an answer");
        assert!(second.error_message.contains("as much work"), "{}", second.error_message);
        assert_eq!(second.infer_response.expect("whose it is").id, "7");
        sender.send(numbered("slow", 3)).await.expect("taken");
        let third = next(&mut answers).await.expect("an answer").expect("an answer");
        assert_eq!((&*third.error_message, &*third.infer_response.expect("a response").id), ("", "3"));
    }
}
