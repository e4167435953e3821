//! Programs as plugins: what third parties wrote for wasi-nn runs as it is, through the
//! same queue and batch as every other request.

use std::fs;

use http::StatusCode;
use serde_json::json;
use sluice_tests::gateway;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

fn four_numbers() -> Vec<u8> {
    [3.0_f32, 1.0, 4.0, 1.5].into_iter().flat_map(f32::to_le_bytes).collect()
}

const RANKED: &str = "y TensorType::Fp32 [1, 4]: [(2, 4.0), (0, 3.0), (3, 1.5), (1, 1.0)]\n";

fn config(folder: &TempDir) -> String {
    let program = |name: &str, arguments: &str, rest: &str| {
        format!(
            r#"
            [plugins.{name}]
            file = "{{repo}}/tests/guests/dist/nn_command.wasm"
            call_timeout_ms = 5000
            models = ["wide"]
            arguments = {arguments}
            {rest}
            [pipelines.{name}]
            plugin = "{name}"
            "#
        )
    };
    let files = format!(r#"files = {{ fixture = "{}" }}"#, folder.path().display());
    [
        r#"
        [models.wide]
        engine = "sim"
        file = "{repo}/tests/models/wide.sim.json"
        "#,
        &program("piped", r#"["wide", "x", "1x4"]"#, ""),
        &program("third-party", r#"["wide", "input", "1x4", "fixture/tensor.bgr"]"#, &files),
        &program("failing", r#"["exit", "3"]"#, ""),
        &program("its-own", r#"["load", "fixture/model", "x", "1x4"]"#, &files),
        &program("unknown", r#"["load", "fixture/tensor.bgr", "x", "1x4"]"#, &files),
    ]
    .concat()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_written_for_wasi_nn_answers_through_the_batch() {
    let folder = TempDir::new().expect("a folder");
    fs::write(folder.path().join("tensor.bgr"), four_numbers()).expect("written");
    let gateway = gateway::start(&config(&folder)).await;
    for (name, body) in [("piped", four_numbers()), ("third-party", Vec::new())] {
        let reply = gateway.client.post(&format!("/v1/models/{name}:predict"), body).await;
        assert_eq!(reply.status, StatusCode::OK, "{name}: {:?}", reply.body);
        assert_eq!(reply.body, RANKED, "{name}");
        assert_eq!(reply.headers["content-type"], "text/plain; charset=utf-8");
    }
    assert_eq!(gateway.metric("sluice_queue_wait_seconds_count", "wide").await, 2.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_brings_a_models_file_gets_that_model_and_no_other() {
    let folder = TempDir::new().expect("a folder");
    let model = sluice_tests::repository().join("tests/models/wide.sim.json");
    fs::copy(model, folder.path().join("model")).expect("copied");
    fs::write(folder.path().join("tensor.bgr"), four_numbers()).expect("written");
    let gateway = gateway::start(&config(&folder)).await;
    let reply = gateway.client.post("/v1/models/its-own:predict", four_numbers()).await;
    assert_eq!(reply.body, RANKED, "{}", reply.status);
    assert_eq!(gateway.metric("sluice_queue_wait_seconds_count", "wide").await, 1.0, "as everybody's");
    let reply = gateway.client.post("/v1/models/unknown:predict", four_numbers()).await;
    assert_eq!((reply.status, reply.code().as_str()), (StatusCode::BAD_GATEWAY, "plugin_trap"));
    // Whoever wrote it is told, even if the program says nothing.
    let logs = gateway.admin.get("/admin/v1/plugins/unknown/logs").await.ok().to_string();
    assert!(logs.contains("wasi:nn") && logs.contains("use load-by-name"), "{logs}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_fails_is_502_and_one_that_gets_tensors_is_415() {
    let gateway = gateway::start(&config(&TempDir::new().expect("a folder"))).await;
    let reply = gateway.client.post("/v1/models/failing:predict", "x").await;
    assert_eq!((reply.status, reply.code().as_str()), (StatusCode::BAD_GATEWAY, "plugin_trap"));
    let tensors =
        json!({"inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [1, 2, 3, 4]}]});
    let reply = gateway.client.infer("piped", &tensors).await;
    assert_eq!(reply.status, StatusCode::UNSUPPORTED_MEDIA_TYPE, "{:?}", reply.body);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_reaches_the_server_that_it_is_granted_and_no_other() {
    let server = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = server.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = server.accept().await {
            let mut request = [0; 4096];
            let _ = stream.read(&mut request).await;
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello").await;
        }
    });
    let plugin = |name: &str, arguments: String| {
        format!(
            r#"
            [plugins.{name}]
            file = "{{repo}}/tests/guests/dist/services_probe.wasm"
            call_timeout_ms = 5000
            stores = ["counters"]
            http_hosts = ["http://{address}"]
            config = {{ top = 10 }}
            arguments = {arguments}
            [pipelines.{name}]
            plugin = "{name}"
            "#
        )
    };
    let stores = "[stores.counters]\nkind = \"memory\"\n".to_owned();
    let granted = plugin("granted", format!(r#"["http", "http://{address}/"]"#));
    let other = plugin("other", r#"["http", "http://127.0.0.1:1/"]"#.to_owned());
    let values = plugin("values", r#"["config", "top"]"#.to_owned());
    let counts = plugin("counts", r#"["count", "counters", "n", "2"]"#.to_owned());
    let gateway = gateway::start(&[stores, granted, other, values, counts].concat()).await;
    let told = async |name: &str| {
        let reply = gateway.client.post(&format!("/v1/models/{name}:predict"), "x").await;
        String::from_utf8_lossy(&reply.body).into_owned()
    };
    assert_eq!(told("granted").await, r#"Ok("200 hello")"#);
    let refused = told("other").await;
    assert!(refused.contains("HttpRequestDenied"), "{refused}");
    assert_eq!(told("values").await, r#"Ok(Some("10"))"#);
    assert_eq!(told("counts").await, "Ok(4)");
    assert_eq!(told("counts").await, "Ok(8)", "a store outlives a call");
}
