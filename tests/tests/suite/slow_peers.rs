//! Peers that send slowly, read slowly or not at all (H3, H14, O6): others are served
//! meanwhile, and what such a peer makes us hold is bounded and ends in time.

use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use sluice_tests::client::Client;
use sluice_tests::gateway::{self, Running};
use sluice_tests::grpc::{Grpc, INFER, int64, request};
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

async fn open(gateway: &Running) -> f64 {
    gateway.metric("sluice_connections_open", "listener=\"http\"").await
}

async fn timed_out(gateway: &Running) -> f64 {
    gateway.metric("sluice_requests_rejected", "write_timeout").await
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
    let stream = TcpStream::connect(gateway.grpc).await.expect("connected");
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .expect("HTTP/2");
    tokio::spawn(connection);
    let mut calls = Vec::new();
    for _ in 0..64 {
        let head = futures_util::stream::iter([Ok::<_, std::convert::Infallible>(hyper::body::Frame::data(
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
    for _ in 0..8 {
        gateway.client.infer("words", &word()).await.ok();
        let good = request("marker", "x", "INT64", &[1, 2], int64(&[1, 2]));
        Grpc::connect(gateway.grpc).await.infer(good).await.expect("served");
    }
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
async fn a_stream_of_http2_that_nobody_reads_ends_its_connection_in_time() {
    let gateway = start("write_timeout_ms = 500").await;
    let stream = TcpStream::connect(gateway.client.address()).await.expect("connected");
    stream.set_nodelay(true).expect("a socket");
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .expect("HTTP/2");
    let connection = tokio::spawn(connection);
    let (body, length) = large();
    let request = Request::post(format!("http://{}/v2/models/large/infer", gateway.client.address()))
        .header(HEADER_LENGTH, length)
        .body(Full::new(body))
        .expect("valid");
    let response = sender.send_request(request).await.expect("an answer");
    assert_eq!(response.status(), 200);
    // The socket is read all the time, and pings are answered; the stream is not.
    let ended = tokio::time::timeout(Duration::from_secs(5), connection).await;
    assert!(ended.is_ok(), "the connection is left open");
    assert!(timed_out(&gateway).await >= 1.0);
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
