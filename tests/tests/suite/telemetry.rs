//! What operators see: a span for each stage at a collector, and metrics by name.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::json;
use sluice_tests::client::Client;
use sluice_tests::gateway;
use sluice_tests::guests::HOSTILE;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::drain::{Process, address, sluice};

/// The spans of a request, in order.
const STAGES: [&str; 8] =
    ["predict", "decode", "preprocess", "infer", "queue", "execute", "postprocess", "encode"];

/// Takes one export and gives its bytes.
async fn collect(listener: TcpListener) -> Vec<u8> {
    let (mut stream, _) = listener.accept().await.expect("the gateway connects");
    let mut bytes = Vec::new();
    let mut buffer = [0; 4096];
    // Exports end with a pause: the exporter waits for the answer.
    while let Ok(Ok(count)) = tokio::time::timeout(Duration::from_millis(500), stream.read(&mut buffer)).await
    {
        if count == 0 {
            break;
        }
        bytes.extend_from_slice(&buffer[..count]);
    }
    let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
    bytes
}

#[tokio::test(flavor = "multi_thread")]
async fn each_stage_of_a_request_is_a_span_in_the_callers_trace() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let collector = listener.local_addr().expect("an address");
    let folder = tempfile::tempdir().expect("a folder");
    let config = folder.path().join("sluice.toml");
    let telemetry =
        format!("[telemetry]\notlp_endpoint = \"http://{collector}\"\nservice_name = \"under-test\"\n");
    std::fs::write(&config, telemetry + &gateway::expand(HOSTILE)).expect("written");
    let exported = tokio::spawn(collect(listener));
    let mut command = sluice();
    command.args(["serve", "--http", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--config"]).arg(&config);
    let mut process = Process(command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("started"));
    let table = BufReader::new(process.0.stdout.take().expect("piped"));
    let line = table.lines().map_while(Result::ok).find(|line| line.contains("hostile:predict"));
    let client = Client::new(address(&line.expect("the table says what is served")));
    let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let order = json!({"do": "nothing", "hook": "post"}).to_string();
    let path = "/v1/models/hostile:predict";
    let reply = client.try_send(http::Method::POST, path, &[("traceparent", parent)], order).await;
    assert_eq!(reply.expect("an answer").status, 200);
    let pid = process.0.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().expect("kill runs").success());
    let bytes = exported.await.expect("no panic");
    let holds = |what: &[u8]| bytes.windows(what.len()).any(|window| window == what);
    for name in ["POST /v1/traces", "under-test"].into_iter().chain(STAGES) {
        assert!(holds(name.as_bytes()), "{name} is missing");
    }
    let trace_id: Vec<u8> =
        (0..16).filter_map(|at| u8::from_str_radix(&parent[3 + 2 * at..5 + 2 * at], 16).ok()).collect();
    assert!(holds(&trace_id), "the spans belong to the caller's trace");
}

#[tokio::test(flavor = "multi_thread")]
async fn names_that_clients_invent_are_no_labels() {
    let gateway = gateway::start(HOSTILE).await;
    for number in 0..50 {
        gateway.client.predict(&format!("invented-{number}"), &json!({})).await;
    }
    assert_eq!(gateway.metric("sluice_requests_total", "other").await, 50.0);
    assert_eq!(gateway.metric("sluice_requests_total", "invented").await, 0.0);
    gateway.client.predict("good", &json!({})).await.ok();
    assert_eq!(gateway.metric("sluice_requests_total", "\"good\"").await, 1.0);
    assert_eq!(gateway.metric("sluice_plugin_calls_total", "\"echo\"").await, 1.0);
}
