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

const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

/// Serves a config with a collector, sends a pipeline one body with [`PARENT`], and gives
/// what the collector got.
async fn exported(config: &str, pipeline: &str, body: String) -> Vec<u8> {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let collector = listener.local_addr().expect("an address");
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("sluice.toml");
    let telemetry =
        format!("[telemetry]\notlp_endpoint = \"http://{collector}\"\nservice_name = \"under-test\"\n");
    std::fs::write(&file, telemetry + &gateway::expand(config)).expect("written");
    let exported = tokio::spawn(collect(listener));
    let mut command = sluice();
    command
        .args([
            "serve",
            "--http",
            "127.0.0.1:0",
            "--grpc",
            "127.0.0.1:0",
            "--admin",
            "127.0.0.1:0",
            "--config",
        ])
        .arg(&file);
    let mut process = Process(command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("started"));
    let table = BufReader::new(process.0.stdout.take().expect("piped"));
    let path = format!("/v1/models/{pipeline}:predict");
    let line = table.lines().map_while(Result::ok).find(|line| line.contains(&path));
    let client = Client::new(address(&line.expect("the table says what is served")));
    let reply = client.try_send(http::Method::POST, &path, &[("traceparent", PARENT)], body).await;
    assert_eq!(reply.expect("an answer").status, 200);
    let pid = process.0.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().expect("kill runs").success());
    exported.await.expect("no panic")
}

fn holds(bytes: &[u8], what: &[u8]) -> bool {
    bytes.windows(what.len()).any(|window| window == what)
}

#[tokio::test(flavor = "multi_thread")]
async fn each_stage_of_a_request_is_a_span_in_the_callers_trace() {
    let order = json!({"do": "nothing", "hook": "post"}).to_string();
    let bytes = exported(HOSTILE, "hostile", order).await;
    for name in ["POST /v1/traces", "under-test"].into_iter().chain(STAGES) {
        assert!(holds(&bytes, name.as_bytes()), "{name} is missing");
    }
    let trace_id: Vec<u8> =
        (0..16).filter_map(|at| u8::from_str_radix(&PARENT[3 + 2 * at..5 + 2 * at], 16).ok()).collect();
    assert!(holds(&bytes, &trace_id), "the spans belong to the caller's trace");
}

/// A span's own id and its parent's, from the exported message: the trace's id (field 1),
/// the span's (2), the parent's (4) and the name (5) follow each other.
fn ids(bytes: &[u8], name: &str) -> ([u8; 8], [u8; 8]) {
    let length = u8::try_from(name.len()).expect("short");
    let field = [&[0x2a, length], name.as_bytes()].concat();
    let id = |at: usize| -> [u8; 8] { bytes[at..at + 8].try_into().expect("8 bytes") };
    let found = (20..bytes.len()).find(|&at| {
        bytes[at..].starts_with(&field)
            && bytes[at - 10..].starts_with(&[0x22, 8])
            && bytes[at - 20..].starts_with(&[0x12, 8])
    });
    let at = found.unwrap_or_else(|| panic!("no span {name}"));
    (id(at - 18), id(at - 8))
}

/// Serves the probe, with instances that are used again.
const PROBE: &str = r#"
    [models.wide]
    engine = "sim"
    file = "{repo}/tests/models/wide.sim.json"
    [plugins.probe]
    file = "{repo}/tests/guests/dist/context_probe.wasm"
    models = ["wide"]
    call_timeout_ms = 5000
    reuse = 100
    [pipelines.probe]
    plugin = "probe"
"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_plugins_spans_are_in_the_trace_with_names_and_attributes() {
    let bytes =
        exported(PROBE, "probe", json!({"do": "spans", "model": "wide", "amount": 3}).to_string()).await;
    // The control character of the name was escaped.
    let (handle, outer, inner) =
        (ids(&bytes, "handle"), ids(&bytes, "guest-outer"), ids(&bytes, "guest-inner\\n"));
    assert_eq!(outer.1, handle.0, "a plugin's span is inside its call");
    assert_eq!(inner.1, outer.0, "a span is inside the innermost that is open");
    assert_eq!(ids(&bytes, "queue").1, inner.0, "a model call is inside the span that it is made in");
    for what in
        ["plugin.rows", "plugin.model", "plugin.exact", "plugin.share", "guest-event", "plugin.attempt"]
    {
        assert!(holds(&bytes, what.as_bytes()), "{what} is missing");
    }
    assert!(holds(&bytes, &0.5f64.to_le_bytes()), "numbers stay numbers");
}

#[tokio::test(flavor = "multi_thread")]
async fn spans_without_end_are_cut_at_their_limits() {
    let bytes = exported(PROBE, "probe", json!({"do": "many-spans", "amount": 70}).to_string()).await;
    let count = |what: &[u8]| bytes.windows(what.len()).filter(|window| *window == what).count();
    assert_eq!(count(b"guest-many\x30") + count(b"guest-many\x39"), 64, "spans of a call");
    assert_eq!(count(b"plugin.key-30"), 64, "the 31st attribute beside `number`");
    assert_eq!(count(b"plugin.key-31"), 0, "attributes of a span");
    assert_eq!(count(b"guest-many-event"), 64 * 32, "events of a span");
    assert!(bytes.len() < 64 * 32 * 600, "{} bytes", bytes.len());
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
