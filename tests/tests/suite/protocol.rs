//! HTTP as strangers speak it: slowly, wrongly, half (H1–H6).

use std::time::Duration;

use serde_json::json;
use sluice_tests::client::Client;
use sluice_tests::gateway::{self, Running};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::Instant;

async fn start() -> Running {
    gateway::start(
        r#"
        [server.limits]
        header_timeout_ms = 500
        body_timeout_ms = 500
        body_bytes_max = 65_536
        connections_max = 600
        [models.words]
        engine = "sim"
        file = "{repo}/tests/models/words.sim.json"
    "#,
    )
    .await
}

async fn connect(gateway: &Running) -> TcpStream {
    TcpStream::connect(gateway.client.address()).await.expect("connected")
}

/// Sends bytes and reads until the peer closes or a second has passed.
async fn exchange(gateway: &Running, bytes: &[u8]) -> String {
    let mut stream = connect(gateway).await;
    stream.write_all(bytes).await.expect("sent");
    read(&mut stream).await
}

async fn read(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    let _ = tokio::time::timeout(Duration::from_secs(2), stream.read_to_end(&mut answer)).await;
    String::from_utf8_lossy(&answer).into_owned()
}

fn status(answer: &str) -> &str {
    answer.split(' ').nth(1).unwrap_or("")
}

async fn assert_alive(gateway: &Running) {
    let request = json!({"inputs": [{"name": "w", "datatype": "BYTES", "shape": [1, 1], "data": ["é"]}]});
    // A connection of its own.
    let client = Client::new(gateway.client.address());
    let answer = client.infer("words", &request).await.ok();
    assert_eq!(answer["outputs"][0]["data"], json!(["é"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_may_be_idle_for_longer_than_a_head_may_take() {
    let gateway = gateway::start(
        "[server.limits]\nheader_timeout_ms = 300\nkeep_alive_timeout_ms = 2500\n\
         [models.words]\nengine = \"sim\"\nfile = \"{repo}/tests/models/words.sim.json\"",
    )
    .await;
    let ask = b"GET /v2/health/live HTTP/1.1\r\nhost: x\r\n\r\n";
    let answered = async |stream: &mut TcpStream| {
        stream.write_all(ask).await.expect("sent");
        let mut answer = [0; 512];
        let read = tokio::time::timeout(Duration::from_secs(2), stream.read(&mut answer));
        let read = read.await.expect("in time").expect("it is open");
        assert!(answer[..read].starts_with(b"HTTP/1.1 200"), "the connection is closed");
    };
    let closed = async |mut stream: TcpStream| {
        let before = Instant::now();
        let _ = tokio::time::timeout(Duration::from_secs(5), stream.read_to_end(&mut Vec::new())).await;
        before.elapsed()
    };
    let (mut idle, mut slow) = (connect(&gateway).await, connect(&gateway).await);
    for _ in 0..3 {
        answered(&mut idle).await;
        answered(&mut slow).await;
        tokio::time::sleep(Duration::from_millis(700)).await;
    }
    slow.write_all(b"GET /v2/health/live HT").await.expect("sent");
    let slow = closed(slow).await;
    assert!(slow < Duration::from_millis(1200), "a head that has begun has less time: {slow:?}");
    let idle = closed(idle).await;
    assert!(idle < Duration::from_millis(2600), "not for ever: {idle:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn peers_that_say_nothing_or_dribble_are_closed_in_time() {
    let gateway = start().await;
    let mut idle = Vec::new();
    for opening in ["", "G", "PRI * HTTP/2.0\r\n", "POST /v2/models/words/infer HTTP/1.1\r\nho"] {
        for _ in 0..50 {
            let mut stream = connect(&gateway).await;
            stream.write_all(opening.as_bytes()).await.expect("sent");
            idle.push(stream);
        }
    }
    assert_alive(&gateway).await;
    let before = Instant::now();
    for mut stream in idle {
        let mut rest = Vec::new();
        let closed = tokio::time::timeout(Duration::from_secs(3), stream.read_to_end(&mut rest)).await;
        assert!(closed.is_ok(), "a silent peer was left open");
    }
    assert!(before.elapsed() < Duration::from_secs(3));
    assert_alive(&gateway).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_does_not_arrive_is_408() {
    let gateway = start().await;
    let head = "POST /v2/models/words/infer HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{";
    assert_eq!(status(&exchange(&gateway, head.as_bytes()).await), "408");
    assert_alive(&gateway).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ambiguous_framing_is_400_and_nothing_behind_it_is_served() {
    let gateway = start().await;
    let smuggled = "GET /v2 HTTP/1.1\r\nhost: x\r\n\r\n";
    for headers in [
        "content-length: 5\r\ncontent-length: 6",
        "content-length: +5",
        "content-length: -1",
        "content-length: 5, 6",
        "transfer-encoding: chunked, identity",
        "transfer-encoding: xchunked",
    ] {
        let request =
            format!("POST /v2/models/words/infer HTTP/1.1\r\nhost: x\r\n{headers}\r\n\r\n{smuggled}");
        let answer = exchange(&gateway, request.as_bytes()).await;
        assert_eq!(status(&answer), "400", "{headers}: {answer}");
        assert_eq!(answer.matches("HTTP/1.1").count(), 1, "{headers}: {answer}");
    }
    let chunk =
        "POST /v2/models/words/infer HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n{}\r\n";
    let answer = exchange(&gateway, format!("{chunk}{smuggled}").as_bytes()).await;
    assert_eq!(status(&answer), "400", "{answer}");
    assert_eq!(answer.matches("HTTP/1.1").count(), 1, "{answer}");
    assert_alive(&gateway).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn too_many_or_too_large_headers_are_431() {
    let gateway = start().await;
    let many: String = (0..101).map(|number| format!("h{number}: 1\r\n")).collect();
    let large = format!("h: {}\r\n", "x".repeat(64 << 10));
    for headers in [many, large] {
        let answer =
            exchange(&gateway, format!("GET /v2 HTTP/1.1\r\nhost: x\r\n{headers}\r\n").as_bytes()).await;
        assert_eq!(status(&answer), "431", "{answer:.100}");
    }
    assert_alive(&gateway).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chunked_body_is_413_where_it_crosses_the_limit() {
    let gateway = start().await;
    let mut stream = connect(&gateway).await;
    let head = "POST /v2/models/words/infer HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n";
    stream.write_all(head.as_bytes()).await.expect("sent");
    let chunk = format!("1000\r\n{}\r\n", " ".repeat(0x1000));
    for _ in 0..64 {
        // The peer may close before all is sent: that is the point.
        if stream.write_all(chunk.as_bytes()).await.is_err() {
            break;
        }
    }
    assert_eq!(status(&read(&mut stream).await), "413");
    assert_alive(&gateway).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_in_single_bytes_is_taken_as_it_is() {
    let gateway = start().await;
    let body = r#"{"inputs":[{"name":"w","datatype":"BYTES","shape":[1,1],"data":["tiny"]}]}"#;
    let mut request = String::from(
        "POST /v2/models/words/infer HTTP/1.1\r\nhost: x\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n",
    );
    for byte in body.chars() {
        request.push_str(&format!("1\r\n{byte}\r\n"));
    }
    request.push_str("0\r\n\r\n");
    let answer = exchange(&gateway, request.as_bytes()).await;
    assert_eq!(status(&answer), "200", "{answer}");
    assert!(answer.contains("tiny"));
}

#[tokio::test(flavor = "multi_thread")]
async fn http2_is_spoken_without_an_upgrade() {
    let gateway = start().await;
    let stream = connect(&gateway).await;
    let io = hyper_util::rt::TokioIo::new(stream);
    let executor = hyper_util::rt::TokioExecutor::new();
    let (mut sender, connection) = hyper::client::conn::http2::handshake(executor, io).await.expect("HTTP/2");
    tokio::spawn(connection);
    let request = http::Request::builder()
        .uri(format!("http://{}/v2/health/ready", gateway.client.address()))
        .body(http_body_util::Empty::<bytes::Bytes>::new())
        .expect("valid");
    let response = sender.send_request(request).await.expect("an answer");
    assert_eq!((response.status().as_u16(), response.version()), (200, http::Version::HTTP_2));
}

/// Most clients look for an answer when all is sent: they are not told of a broken pipe.
#[tokio::test(flavor = "multi_thread")]
async fn who_sends_far_too_much_before_it_listens_is_told_so() {
    const SENT: usize = 32 << 20;
    let gateway = start().await;
    let chunk = vec![b' '; 1 << 20];
    let size = chunk.len();
    for head in [format!("content-length: {SENT}"), "transfer-encoding: chunked".to_owned()] {
        let mut stream = connect(&gateway).await;
        let head = format!("POST /v2/models/words/infer HTTP/1.1\r\nhost: localhost\r\n{head}\r\n\r\n");
        stream.write_all(head.as_bytes()).await.expect("sent");
        for _ in 0..SENT / size {
            if head.contains("chunked") {
                stream.write_all(format!("{size:x}\r\n").as_bytes()).await.expect("sent");
            }
            stream.write_all(&chunk).await.expect("not reset under the sender");
            if head.contains("chunked") {
                stream.write_all(b"\r\n").await.expect("sent");
            }
        }
        let answer = read(&mut stream).await;
        assert_eq!(status(&answer), "413", "{head}: {answer}");
    }
    assert_alive(&gateway).await;
}
