//! What strangers send to the gRPC port (H10–H14): every call gets a row of the table, and
//! nothing is left behind.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client as Pooled;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use prost::Message as _;
use sluice_tests::gateway::{self, Running};
use sluice_tests::grpc::inference::infer_parameter::ParameterChoice;
use sluice_tests::grpc::inference::{InferParameter, InferTensorContents, ModelInferRequest};
use sluice_tests::grpc::{Grpc, INFER, code, input, int64, request};
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tonic::Code;

const LIMIT: usize = 1 << 20;

async fn start() -> Running {
    gateway::start(
        r#"
        [server.limits]
        header_timeout_ms = 500
        body_timeout_ms = 500
        body_bytes_max = 1_048_576
        connections_max = 40
        streams_max = 50
        in_flight_max = 64
        [models.marker]
        engine = "sim"
        file = "{repo}/tests/models/marker.sim.json"
        max_batch_size = 65_536
        [models.slow]
        engine = "sim"
        file = "{repo}/tests/models/slow.sim.json"
        max_batch_size = 1
        [models.words]
        engine = "sim"
        file = "{repo}/tests/models/words.sim.json"
    "#,
    )
    .await
}

/// Sends bytes as the body of a call and gives the status, its message and the reason.
async fn call(gateway: &Running, path: &str, headers: &[(&str, &str)], body: Vec<u8>) -> (u16, HeaderMap) {
    let client: Pooled<HttpConnector, Full<Bytes>> =
        Pooled::builder(TokioExecutor::new()).http2_only(true).build_http();
    let mut request = Request::post(format!("http://{}{path}", gateway.grpc));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let response =
        client.request(request.body(Full::new(body.into())).expect("valid")).await.expect("an answer");
    let (parts, body) = response.into_parts();
    let collected = body.collect().await.expect("whole");
    let mut headers = parts.headers;
    headers.extend(collected.trailers().cloned().unwrap_or_default());
    (parts.status.as_u16(), headers)
}

const GRPC: (&str, &str) = ("content-type", "application/grpc");

fn framed(flag: u8, message: &[u8]) -> Vec<u8> {
    let mut framed = vec![flag];
    framed.extend(u32::try_from(message.len()).expect("short").to_be_bytes());
    framed.extend(message);
    framed
}

fn good() -> ModelInferRequest {
    request("marker", "x", "INT64", &[1, 2], int64(&[1, 2]))
}

async fn assert_alive(gateway: &Running) {
    Grpc::connect(gateway.grpc).await.infer(good()).await.expect("served");
    assert_eq!(gateway.metric("sluice_requests_in_flight", "").await, 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn h12_broken_frames_and_messages_get_their_row_of_the_table() {
    let gateway = start().await;
    let message = good().encode_to_vec();
    let mut nested = vec![];
    for _ in 0..200 {
        let mut outer = vec![0x22];
        prost::encoding::encode_varint(nested.len() as u64, &mut outer);
        outer.extend(&nested);
        nested = outer;
    }
    let cases: Vec<(&str, Vec<u8>, &str)> = vec![
        ("no message", vec![], "bad_request"),
        ("half a prefix", vec![0, 0, 0], "bad_request"),
        ("a longer prefix than body", [&[0, 0, 0, 1, 0][..], &message].concat(), "bad_request"),
        ("a prefix above the limit", [&[0, 0, 16, 0, 1][..], &message].concat(), "too_large"),
        ("a prefix of everything", [&[0, 255, 255, 255, 255][..], &message].concat(), "too_large"),
        ("a bad flag", framed(2, &message), "bad_request"),
        ("compressed, but not said how", framed(1, &message), "bad_request"),
        ("two messages", [framed(0, &message), framed(0, &message)].concat(), "bad_request"),
        ("junk", framed(0, &[0xff; 64]), "bad_request"),
        ("nested without an end", framed(0, &nested), "bad_request"),
        ("half a message", framed(0, &message[..message.len() - 3]), "bad_request"),
        ("nothing in it", framed(0, &[]), "not_found"),
        ("ten thousand inputs", framed(0, &[0x2a, 0].repeat(10_000)), "bad_request"),
        ("half a million raw inputs", framed(0, &[0x3a, 0].repeat(500_000)), "bad_request"),
    ];
    for (what, body, code) in cases {
        let (status, headers) = call(&gateway, INFER, &[GRPC], body).await;
        assert_eq!(status, 200, "{what}");
        assert_eq!(headers["x-sluice-code"], code, "{what}: {headers:?}");
    }
    let (status, headers) =
        call(&gateway, INFER, &[GRPC, ("grpc-encoding", "zstd")], framed(1, &message)).await;
    assert_eq!((status, &headers["x-sluice-code"]), (200, &"unsupported_media".parse().expect("ascii")));
    assert_eq!(headers["grpc-accept-encoding"], "identity, gzip, deflate");
    let (_, headers) = call(&gateway, INFER, &[GRPC, ("grpc-encoding", "gzip")], framed(1, &message)).await;
    assert_eq!(headers["x-sluice-code"], "bad_request");
    assert_alive(&gateway).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_speak_grpc_is_told_so_in_http() {
    let gateway = start().await;
    let (status, _) = call(&gateway, INFER, &[("content-type", "application/json")], b"{}".to_vec()).await;
    assert_eq!(status, 415);
    let (status, headers) =
        call(&gateway, "/inference.GRPCInferenceService/Nothing", &[GRPC], framed(0, &[])).await;
    assert_eq!((status, &headers["grpc-status"]), (200, &"12".parse().expect("ascii")));
    // HTTP/1 is closed.
    let mut stream = tokio::net::TcpStream::connect(gateway.grpc).await.expect("connected");
    stream.write_all(b"GET /v2 HTTP/1.1\r\nhost: x\r\n\r\n").await.expect("sent");
    let mut rest = Vec::new();
    let closed = tokio::time::timeout(Duration::from_secs(3), stream.read_to_end(&mut rest)).await;
    assert!(closed.is_ok() && !rest.starts_with(b"HTTP/1.1 200"));
    // So is whoever says nothing.
    let mut silent = tokio::net::TcpStream::connect(gateway.grpc).await.expect("connected");
    let closed = tokio::time::timeout(Duration::from_secs(3), silent.read_to_end(&mut rest)).await;
    assert!(closed.is_ok());
    assert_alive(&gateway).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn h8_what_unpacks_above_the_limit_is_refused() {
    let gateway = start().await;
    let client = Grpc::connect(gateway.grpc).await.with_gzip();
    client.infer(good()).await.expect("served");
    let bomb = request("marker", "x", "INT64", &[1, 2], vec![0; 64 << 20]);
    let refused = client.infer(bomb).await.expect_err("a bomb");
    assert_eq!((refused.code(), code(refused.metadata())), (Code::ResourceExhausted, "too_large"));
    assert_alive(&gateway).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_tensors_are_refused_by_name() {
    let gateway = start().await;
    let client = Grpc::connect(gateway.grpc).await;
    let typed = |shape: &[i64], datatype: &str, contents: InferTensorContents| {
        let mut request = good();
        request.raw_input_contents.clear();
        request.inputs[0] = input("x", datatype, shape);
        request.inputs[0].contents = Some(contents);
        request
    };
    let int64s =
        |values: &[i64]| InferTensorContents { int64_contents: values.to_vec(), ..Default::default() };
    let mut doubled = good();
    doubled.inputs.push(doubled.inputs[0].clone());
    doubled.raw_input_contents.push(doubled.raw_input_contents[0].clone());
    let mut mixed = good();
    mixed.inputs[0].contents = Some(int64s(&[1, 2]));
    let mut unasked = good();
    unasked.raw_input_contents.push(vec![1].into());
    let mut long = good();
    long.parameters = (0..65)
        .map(|n| (n.to_string(), InferParameter { parameter_choice: Some(ParameterChoice::BoolParam(true)) }))
        .collect();
    let mut valueless = good();
    valueless.parameters.insert("p".to_owned(), InferParameter { parameter_choice: None });
    let shaped = |shape: &[i64]| request("marker", "x", "INT64", shape, int64(&[1, 2]));
    let cases = [
        ("too few raw bytes", request("marker", "x", "INT64", &[1, 2], vec![0; 15]), "bad_length"),
        ("too many", request("marker", "x", "INT64", &[1, 2], vec![0; 17]), "bad_length"),
        ("negative", shaped(&[-1, 2]), "bad_shape"),
        ("overflowing", shaped(&[1 << 31, 1 << 31, 4]), "bad_shape"),
        ("64 dimensions", shaped(&[1; 64]), "bad_shape"),
        ("another shape", shaped(&[2, 1]), "bad_shape"),
        ("another datatype", request("marker", "x", "INT32", &[2, 2], int64(&[1, 2])), "bad_shape"),
        ("no datatype", request("marker", "x", "INT65", &[1, 2], int64(&[1, 2])), "bad_dtype"),
        ("another input", request("marker", "z", "INT64", &[1, 2], int64(&[1, 2])), "bad_shape"),
        (
            "no input",
            ModelInferRequest { model_name: "marker".to_owned(), ..Default::default() },
            "bad_shape",
        ),
        ("twice", doubled, "bad_request"),
        ("raw and typed", mixed, "bad_request"),
        ("more raw than inputs", unasked, "bad_request"),
        ("too few typed", typed(&[1, 2], "INT64", int64s(&[1])), "bad_length"),
        ("too many typed", typed(&[1, 2], "INT64", int64s(&[1, 2, 3])), "bad_length"),
        ("another list", typed(&[1, 2], "FP32", int64s(&[1, 2])), "bad_dtype"),
        (
            "300 as INT8",
            typed(&[1, 2], "INT8", InferTensorContents { int_contents: vec![1, 300], ..Default::default() }),
            "bad_dtype",
        ),
        ("a huge shape", typed(&[1 << 40, 2], "INT64", int64s(&[1, 2])), "too_large"),
        (
            "bytes past the end",
            request("words", "w", "BYTES", &[1, 1], vec![255, 255, 255, 255]),
            "bad_length",
        ),
        ("too many parameters", long, "bad_request"),
        ("a parameter without a value", valueless, "bad_request"),
    ];
    for (what, request, reason) in cases {
        let refused = client.infer(request).await.expect_err(what);
        assert_eq!(code(refused.metadata()), reason, "{what}: {}", refused.message());
    }
    assert_alive(&gateway).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn large_messages_are_taken_up_to_the_limit_and_not_beyond() {
    let gateway = start().await;
    let client = Grpc::connect(gateway.grpc).await;
    let rows = i64::try_from(LIMIT / 16 - 64).expect("fits");
    let sized = |rows: i64| {
        let bytes = usize::try_from(rows * 16).expect("fits");
        request("marker", "x", "INT64", &[rows, 2], vec![1; bytes])
    };
    let answer = client.infer(sized(rows)).await.expect("within the limit");
    assert_eq!(answer.raw_output_contents[0].len(), LIMIT - 1024);
    let refused = client.infer(sized(rows + 64)).await.expect_err("too large");
    assert_eq!((refused.code(), code(refused.metadata())), (Code::ResourceExhausted, "too_large"));
    assert_alive(&gateway).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cancelled_calls_give_their_places_back() {
    let gateway = start().await;
    let client = Grpc::connect(gateway.grpc).await;
    for round in 0..5 {
        let calls: Vec<_> = (0..50)
            .map(|number| {
                let client = client.clone();
                let request = request("slow", "x", "INT64", &[1, 2], int64(&[number, 0]));
                tokio::spawn(async move { client.infer(request).await })
            })
            .collect();
        tokio::time::sleep(Duration::from_millis(5 + 10 * round)).await;
        calls.iter().for_each(tokio::task::JoinHandle::abort);
    }
    sluice_tests::versions::until(|| async { gateway.metric("sluice_requests_in_flight", "").await == 0.0 })
        .await;
    let queued = gateway.metric("sluice_queue_depth", "slow").await;
    assert!(queued <= 1.0, "{queued} still queued");
    assert_alive(&gateway).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn h14_calls_that_are_never_finished_are_ended_in_time() {
    let gateway = start().await;
    let client: Pooled<HttpConnector, http_body_util::combinators::BoxBody<Bytes, std::convert::Infallible>> =
        Pooled::builder(TokioExecutor::new()).http2_only(true).build_http();
    // A message of which the last byte never comes.
    let message = framed(0, &good().encode_to_vec());
    let most = Bytes::from(message[..message.len() - 1].to_vec());
    let stream = futures_util::stream::iter([Ok(hyper::body::Frame::data(most))]);
    let stream = futures_util::StreamExt::chain(stream, futures_util::stream::pending());
    let body = BodyExt::boxed(http_body_util::StreamBody::new(SyncStream(Box::pin(stream))));
    let request = Request::post(format!("http://{}{INFER}", gateway.grpc)).header(GRPC.0, GRPC.1);
    let response = client.request(request.body(body).expect("valid"));
    let response =
        tokio::time::timeout(Duration::from_secs(3), response).await.expect("in time").expect("an answer");
    assert_eq!(response.headers()["x-sluice-code"], "request_timeout");
    assert_alive(&gateway).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn h13_a_timeout_is_kept_clamped_or_refused() {
    let gateway = start().await;
    let message = request("slow", "x", "INT64", &[1, 2], int64(&[1, 2])).encode_to_vec();
    for (timeout, status) in [
        ("1m", "4"),
        ("0m", "4"),
        ("0n", "4"),
        ("soon", "3"),
        ("", "3"),
        ("123456789S", "3"),
        ("-1S", "3"),
        ("99999999H", "0"),
        ("10S", "0"),
    ] {
        let (_, headers) =
            call(&gateway, INFER, &[GRPC, ("grpc-timeout", timeout)], framed(0, &message)).await;
        assert_eq!(headers["grpc-status"], status, "{timeout}: {headers:?}");
    }
    assert_alive(&gateway).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn h11_streams_and_connections_are_bounded() {
    let gateway = start().await;
    let client = Grpc::connect(gateway.grpc).await;
    // More calls than streams on one connection: they take turns, and the server has no
    // more than the limit of them open.
    let calls: Vec<_> = (0..150)
        .map(|_| {
            let client = client.clone();
            tokio::spawn(async move { client.infer(good()).await })
        })
        .collect();
    for call in calls {
        call.await.expect("no panic").expect("served");
    }
    let mut silent = Vec::new();
    for _ in 0..60 {
        silent.push(tokio::net::TcpStream::connect(gateway.grpc).await.expect("connected"));
    }
    sluice_tests::versions::until(|| async {
        gateway.metric("sluice_connections_open", "listener=\"grpc\"").await <= 40.0
    })
    .await;
    // They are gone after the time for a first request, and others come in again.
    tokio::time::sleep(Duration::from_millis(700)).await;
    drop(silent);
    assert_alive(&gateway).await;
}

type Frames = std::pin::Pin<
    Box<
        dyn futures_util::Stream<Item = Result<hyper::body::Frame<Bytes>, std::convert::Infallible>>
            + Send
            + Sync,
    >,
>;

struct SyncStream(Frames);

impl futures_util::Stream for SyncStream {
    type Item = Result<hyper::body::Frame<Bytes>, std::convert::Infallible>;

    fn poll_next(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Self::Item>> {
        self.0.as_mut().poll_next(cx)
    }
}
