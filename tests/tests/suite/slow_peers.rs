//! Peers that send slowly, read slowly or not at all (H3, H14, O6): others are served
//! meanwhile, and what such a peer makes us hold is bounded and ends in time.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use sluice_tests::client::Client;
use sluice_tests::gateway::{self, Running};
use sluice_tests::grpc::inference::ModelStreamInferResponse;
use sluice_tests::grpc::{Grpc, INFER, STREAM, int64, request};
use sluice_tests::versions::until;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpSocket, TcpStream};

/// Bytes of a large answer: more than the sockets of both sides hold.
const LARGE: usize = 24 << 20;

async fn start(limits: &str) -> Running {
    let config = r#"
        [models.words]
        engine = "sim"
        file = "{repo}/tests/models/words.sim.json"
        [models.marker]
        engine = "sim"
        file = "{repo}/tests/models/marker.sim.json"
        [models.large]
        engine = "sim"
        file = "{repo}/tests/models/large.sim.json"
        [models.quick]
        engine = "sim"
        file = "{repo}/tests/models/quick.sim.json"
        [plugins.parts]
        file = "{repo}/tests/guests/dist/parts_probe.wasm"
        call_timeout_ms = 10_000
        [pipelines.streamed]
        plugin = "parts"
    "#;
    gateway::start(&format!("[server.limits]\n{limits}\n{config}")).await
}

fn word() -> Value {
    json!({"inputs": [{"name": "w", "datatype": "BYTES", "shape": [1, 1], "data": ["é"]}]})
}

/// A request for a large answer, and the length of its JSON.
fn large() -> (Bytes, String) {
    let input = json!({"name": "x", "datatype": "UINT8", "shape": [1, LARGE],
        "parameters": {"binary_data_size": LARGE}});
    let json = json!({"parameters": {"binary_data_output": true}, "inputs": [input]}).to_string();
    let length = json.len().to_string();
    let mut body = json.into_bytes();
    body.resize(body.len() + LARGE, 7);
    (body.into(), length)
}

const HEADER_LENGTH: &str = "inference-header-content-length";

/// The status; none where the connection ended while the body was still being sent, which
/// may be all that a client sees of an early answer.
async fn ask_large(client: &Client) -> Option<u16> {
    let (body, length) = large();
    let path = "/v2/models/large/infer";
    let sent = client.try_send(Method::POST, path, &[(HEADER_LENGTH, &length)], body).await;
    sent.ok().map(|reply| reply.status.as_u16())
}

/// A connection whose peer takes in little.
async fn connect(gateway: &Running) -> TcpStream {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.set_recv_buffer_size(4096).expect("a small buffer");
    socket.connect(gateway.client.address()).await.expect("connected")
}

/// Asks for a large answer, and reads nothing of it.
async fn ask_and_read_nothing(mut stream: TcpStream) -> TcpStream {
    let (body, length) = large();
    let head = format!(
        "POST /v2/models/large/infer HTTP/1.1\r\nhost: x\r\n{HEADER_LENGTH}: {length}\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await.expect("sent");
    stream.write_all(&body).await.expect("sent");
    stream
}

/// A connection of HTTP/2.
async fn http2(address: SocketAddr) -> SendRequest<UnsyncBoxBody<Bytes, Infallible>> {
    let stream = TcpStream::connect(address).await.expect("connected");
    stream.set_nodelay(true).expect("a socket");
    let handshake = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream));
    let (sender, connection) = handshake.await.expect("HTTP/2");
    tokio::spawn(connection);
    sender
}

async fn open(gateway: &Running) -> f64 {
    gateway.metric("sluice_connections_open", "listener=\"http\"").await
}

async fn timed_out(gateway: &Running) -> f64 {
    gateway.metric("sluice_requests_rejected", "write_timeout").await
}

async fn others_are_served(gateway: &Running) {
    for _ in 0..8 {
        gateway.client.infer("words", &word()).await.ok();
        let good = request("marker", "x", "INT64", &[1, 2], int64(&[1, 2]));
        Grpc::connect(gateway.grpc).await.infer(good).await.expect("served");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_that_do_not_come_hold_no_place_of_a_request() {
    let gateway = start("in_flight_max = 4").await;
    let mut slow = Vec::new();
    for _ in 0..64 {
        let mut stream = connect(&gateway).await;
        let head = "POST /v2/models/words/infer HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{";
        stream.write_all(head.as_bytes()).await.expect("sent");
        slow.push(stream);
    }
    // The same over gRPC.
    let mut sender = http2(gateway.grpc).await;
    let mut calls = Vec::new();
    for _ in 0..64 {
        let head = futures_util::stream::iter([Ok::<_, Infallible>(hyper::body::Frame::data(
            Bytes::from_static(&[0, 0, 0, 0, 9, 1]),
        ))]);
        let body = futures_util::StreamExt::chain(head, futures_util::stream::pending());
        let request = Request::post(format!("http://{}{INFER}", gateway.grpc))
            .header("content-type", "application/grpc")
            .body(http_body_util::StreamBody::new(body).boxed_unsync())
            .expect("valid");
        calls.push(tokio::spawn(sender.send_request(request)));
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    others_are_served(&gateway).await;
    calls.iter().for_each(tokio::task::JoinHandle::abort);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_for_what_is_not_served_is_refused_before_its_body_comes() {
    let gateway = start("").await;
    let mut stream = connect(&gateway).await;
    let head = "POST /v2/models/nobody/infer HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{";
    stream.write_all(head.as_bytes()).await.expect("sent");
    let mut answer = [0; 12];
    let read = tokio::io::AsyncReadExt::read_exact(&mut stream, &mut answer);
    tokio::time::timeout(Duration::from_secs(3), read).await.expect("at once").expect("an answer");
    assert_eq!(&answer, b"HTTP/1.1 404");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_reads_nothing_is_closed_in_time_and_the_answer_is_counted_until_then() {
    // Room for one body, and not for one beside an unread answer.
    let limits = "body_bytes_max = 30_000_000\nin_flight_bytes_max = 44_000_000\nwrite_timeout_ms = 2000";
    let gateway = start(limits).await;
    let _stalled = ask_and_read_nothing(connect(&gateway).await).await;
    until(|| async { gateway.metric("sluice_requests_total", "large").await >= 1.0 }).await;
    let refused = ask_large(&gateway.client).await;
    assert!(matches!(refused, None | Some(503)), "the unread answer takes its room: {refused:?}");
    gateway.client.infer("words", &word()).await.ok();
    until(|| async { timed_out(&gateway).await >= 1.0 }).await;
    until(|| async { open(&gateway).await <= 2.0 }).await;
    assert_eq!(ask_large(&gateway.client).await, Some(200), "the room is there again");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_of_http2_that_nobody_reads_is_reset_in_time_and_others_of_its_connection_go_on() {
    let gateway = start("write_timeout_ms = 500").await;
    let mut sender = http2(gateway.client.address()).await;
    let (body, length) = large();
    let request = Request::post(format!("http://{}/v2/models/large/infer", gateway.client.address()))
        .header(HEADER_LENGTH, length)
        .body(Full::new(body).boxed_unsync())
        .expect("valid");
    let response = sender.send_request(request).await.expect("an answer");
    assert_eq!(response.status(), 200);
    // The socket is read all the time, and so are other streams; this one is not.
    until(|| async { timed_out(&gateway).await >= 1.0 }).await;
    let alive = Request::get(format!("http://{}/v2/health/live", gateway.client.address()))
        .body(Full::default().boxed_unsync())
        .expect("valid");
    let alive = sender.send_request(alive).await.expect("the connection goes on");
    assert_eq!(alive.status(), 200);
    let rest = response.into_body().collect().await.expect_err("the answer is given up");
    assert!(format!("{rest:?}").contains("CANCEL"), "{rest:?}");
    assert_eq!(timed_out(&gateway).await, 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_send_no_bodies_leave_others_their_predictions() {
    // As many bodies as these may be on their way, beside some of each connection.
    let gateway = start("connections_max = 40\nin_flight_max = 40").await;
    let mut sender = http2(gateway.client.address()).await;
    let mut calls = Vec::new();
    for _ in 0..90 {
        let body = futures_util::stream::pending::<Result<hyper::body::Frame<Bytes>, Infallible>>();
        let body = http_body_util::StreamBody::new(body).boxed_unsync();
        let request = Request::post(format!("http://{}/v2/models/words/infer", gateway.client.address()));
        calls.push(tokio::spawn(sender.send_request(request.body(body).expect("valid"))));
    }
    let refused = || gateway.metric("sluice_requests_rejected", "overloaded");
    until(|| async { refused().await >= 1.0 }).await;
    others_are_served(&gateway).await;
    calls.iter().for_each(tokio::task::JoinHandle::abort);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_sends_a_large_body_is_told_of_an_overload_and_not_cut_off() {
    let gateway = start("in_flight_max = 1").await;
    let hanging = json!({"inputs": [{"name": "x", "datatype": "INT64", "shape": [1, 1], "data": [666]}]});
    let client = gateway.client.clone();
    let hangs = tokio::spawn(async move { client.infer("quick", &hanging).await });
    until(|| async { gateway.metric("sluice_requests_in_flight", "").await >= 1.0 }).await;
    for _ in 0..5 {
        let mut stream = TcpStream::connect(gateway.client.address()).await.expect("connected");
        let body = vec![b' '; 5 << 20];
        let head = format!(
            "POST /v2/models/words/infer HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        // A client of the simple kind: it looks for an answer when all is sent.
        stream.write_all(head.as_bytes()).await.expect("sent");
        stream.write_all(&body).await.expect("all of it is taken");
        let mut answer = String::new();
        tokio::io::AsyncReadExt::read_to_string(&mut stream, &mut answer).await.expect("an answer");
        assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
        assert!(answer.contains("retry-after: "), "{answer}");
    }
    hangs.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_whose_reader_is_slow_and_reads_gets_all_of_its_answers() {
    const ANSWERS: usize = 24;
    const BYTES: usize = 512 << 10;
    let gateway = start("write_timeout_ms = 600").await;
    let shape = [1, i64::try_from(BYTES).expect("small")];
    let one = request("large", "x", "UINT8", &shape, vec![7; BYTES]);
    let requests = futures_util::stream::iter(std::iter::repeat_n(one, ANSWERS));
    let client = Grpc::connect(gateway.grpc).await;
    let answers = client.stream::<_, ModelStreamInferResponse>(STREAM, tonic::Request::new(requests)).await;
    let mut answers = answers.expect("open").into_inner();
    let mut got = 0;
    while let Some(answer) = answers.message().await.expect("it goes on to a good end") {
        assert_eq!(answer.error_message, "");
        got += 1;
        tokio::time::sleep(Duration::from_millis(150)).await;
    }
    assert_eq!(got, ANSWERS);
    assert_eq!(timed_out(&gateway).await, 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_reader_that_reads_gets_all_of_its_answer() {
    let gateway = start("write_timeout_ms = 600").await;
    let stream = TcpStream::connect(gateway.client.address()).await.expect("connected");
    let mut stream = ask_and_read_nothing(stream).await;
    let (mut got, mut buffer) = (0, vec![0; 1 << 20]);
    while got < LARGE {
        tokio::time::sleep(Duration::from_millis(50)).await;
        let read = tokio::io::AsyncReadExt::read(&mut stream, &mut buffer).await.expect("goes on");
        assert!(read > 0, "cut off after {got} bytes");
        got += read;
    }
    assert_eq!(timed_out(&gateway).await, 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_behind_a_reader_that_reads_nothing_ends_with_its_deadline() {
    let gateway = start("").await;
    let mut stream = connect(&gateway).await;
    let body = r#"{"do": "endless", "bytes": 65536}"#;
    let head = format!(
        "POST /v1/models/streamed:predict HTTP/1.1\r\nhost: x\r\nx-request-timeout-ms: 500\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(head.as_bytes()).await.expect("sent");
    // The socket takes some of it, and then nothing more.
    let calls = |count: &'static str| {
        let count = format!("\"in_flight\":{count}");
        let gateway = &gateway;
        async move { gateway.admin.get("/admin/v1/plugins/parts").await.ok().to_string().contains(&count) }
    };
    until(|| calls("1")).await;
    let ended = until(|| calls("0"));
    tokio::time::timeout(Duration::from_secs(5), ended).await.expect("the call ends with its deadline");
    until(|| async { gateway.metric("sluice_requests_in_flight", "").await == 0.0 }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_control_have_small_bodies() {
    let gateway = start("").await;
    let ones = format!("{{\"a\":[1{}]}}", ",1".repeat(50_000));
    for path in [
        "/v2/repository/index",
        "/v2/repository/somewhere/index",
        "/v2/repository/models/words/unload",
        "/v2/logging",
        "/v2/trace/setting",
    ] {
        let reply = gateway.client.post(path, ones.clone()).await;
        assert!(matches!(reply.status.as_u16(), 413 | 503), "{path}: {}", reply.status);
    }
    let reply = gateway.client.post("/v2/repository/index", ones.clone()).await;
    assert_eq!(reply.status, 413);
}
