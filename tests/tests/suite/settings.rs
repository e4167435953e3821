//! Triton's logging and trace extensions change what they say they change, for whom they may.

use std::io::{BufRead, BufReader, Read};
use std::process::Stdio;
use std::time::Duration;

use http::Method;
use serde_json::{Value, json};
use sluice_tests::client::Client;
use sluice_tests::gateway;
use sluice_tests::grpc::inference::ModelStreamInferResponse;
use sluice_tests::grpc::{Grpc, STREAM, request};

use crate::drain::{Process, address, sluice};

const MODEL: &str = r#"
    [models.wide]
    engine = "sim"
    file = "{repo}/tests/models/wide.sim.json"
"#;

fn one_row() -> Value {
    json!({ "inputs": [{ "name": "x", "datatype": "FP32", "shape": [1, 4], "data": [1, 2, 3, 4] }] })
}

/// The array in a file, once it has so many elements.
async fn elements(file: &std::path::Path, count: usize) -> Vec<Value> {
    for _ in 0..500 {
        if let Ok(text) = std::fs::read_to_string(file)
            && let Ok(Value::Array(array)) = serde_json::from_str(&text)
            && array.len() >= count
        {
            return array;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("no {count} elements");
}

#[tokio::test(flavor = "multi_thread")]
async fn traced_requests_are_written_with_their_times() {
    let config = format!("[telemetry]\ntriton_trace_file = \"trace.json\"\n{MODEL}");
    let gateway = gateway::start(&config).await;
    let path = "/v2/models/wide/trace/setting";
    let now = gateway.client.get(path).await.ok();
    let expected = json!({ "trace_file": "trace.json", "trace_level": ["OFF"], "trace_rate": "1000",
        "trace_count": "-1", "log_frequency": "0", "trace_mode": "triton" });
    assert_eq!(now, expected);
    gateway.client.infer("wide", &one_row()).await.ok();
    let change = json!({ "trace_level": ["TIMESTAMPS", "TENSORS"], "trace_rate": "1" });
    let changed = gateway.client.post(path, change.to_string()).await.ok();
    assert_eq!((&changed["trace_rate"], &changed["trace_level"][1]), (&json!("1"), &json!("TENSORS")));
    assert_eq!(gateway.client.get("/v2/trace/setting").await.ok(), expected, "of the model alone");
    gateway.client.infer("wide", &one_row()).await.ok();
    let file = gateway.config.parent().expect("a folder").join("trace.json");
    let written = elements(&file, 4).await;
    assert_eq!((&written[0]["model_name"], &written[0]["model_version"]), (&json!("wide"), &json!(1)));
    let times = written[1]["timestamps"].as_array().expect("a list");
    let names: Vec<_> = times.iter().map(|event| event["name"].as_str().expect("text")).collect();
    for name in [
        "HTTP_RECV_START",
        "HTTP_RECV_END",
        "REQUEST_START",
        "QUEUE_START",
        "COMPUTE_START",
        "COMPUTE_INPUT_END",
        "COMPUTE_OUTPUT_START",
        "COMPUTE_END",
        "INFER_RESPONSE_COMPLETE",
        "REQUEST_END",
        "HTTP_SEND_START",
        "HTTP_SEND_END",
    ] {
        assert!(names.contains(&name), "{name} is missing in {names:?}");
    }
    let ordered =
        ["HTTP_RECV_START", "REQUEST_START", "QUEUE_START", "COMPUTE_START", "COMPUTE_END", "HTTP_SEND_END"];
    let at =
        |name: &str| times.iter().find(|event| event["name"] == name).and_then(|event| event["ns"].as_u64());
    assert!(ordered.map(at).windows(2).all(|pair| pair[0] <= pair[1]), "{times:?}");
    assert_eq!(written[2]["activity"], "TENSOR_QUEUE_INPUT");
    let tensor = json!({ "name": "x", "data": "1,2,3,4", "shape": "1,4", "dtype": "FP32" });
    assert_eq!(written[2]["tensor"], tensor);
    assert_eq!(written[3]["activity"], "TENSOR_BACKEND_OUTPUT");
    let clear = json!({ "trace_level": null, "trace_rate": null });
    assert_eq!(gateway.client.post(path, clear.to_string()).await.ok(), expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_over_grpc_are_traced_from_their_reading_to_their_sending() {
    let config = format!("[telemetry]\ntriton_trace_file = \"trace.json\"\n{MODEL}");
    let gateway = gateway::start(&config).await;
    let change = json!({ "trace_level": ["TIMESTAMPS"], "trace_rate": "1" });
    gateway.client.post("/v2/trace/setting", change.to_string()).await.ok();
    let client = Grpc::connect(gateway.grpc).await;
    let row = || request("wide", "x", "FP32", &[1, 4], 1.0_f32.to_le_bytes().repeat(4));
    client.infer(row()).await.expect("an answer");
    let requests = tonic::Request::new(futures_util::stream::iter([row()]));
    let answers = client.stream(STREAM, requests).await.expect("open");
    let mut answers: tonic::Streaming<ModelStreamInferResponse> = answers.into_inner();
    while answers.message().await.expect("an answer").is_some() {}
    let written = elements(&gateway.config.parent().expect("a folder").join("trace.json"), 4).await;
    for times in [&written[1]["timestamps"], &written[3]["timestamps"]] {
        let times = times.as_array().expect("a list");
        let at = |name: &str| {
            let found = times.iter().find(|event| event["name"] == name);
            found.and_then(|event| event["ns"].as_u64()).unwrap_or_else(|| panic!("no {name} in {times:?}"))
        };
        let ordered =
            ["GRPC_WAITREAD_START", "GRPC_WAITREAD_END", "COMPUTE_END", "GRPC_SEND_START", "GRPC_SEND_END"];
        assert!(ordered.map(at).windows(2).all(|pair| pair[0] <= pair[1]), "{times:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_that_make_no_sense_change_nothing_and_files_are_not_the_networks_to_name() {
    let gateway = gateway::start(MODEL).await;
    let trace = "/v2/trace/setting";
    let before = gateway.client.get(trace).await.ok();
    let model = "/v2/models/nobody/trace/setting";
    for (path, body, status) in [
        (trace, r#"{"trace_rate":"often"}"#, 400),
        (trace, r#"{"trace_rate":"0"}"#, 400),
        (trace, r#"{"trace_count":"-2"}"#, 400),
        (trace, r#"{"trace_level":["TIMESTAMPS"],"log_frequency":"-1"}"#, 400),
        (trace, r#"{"trace_level":["ALL"]}"#, 400),
        (trace, r#"{"trace_level":["TIMESTAMPS"],"trace_file":"/tmp/x"}"#, 501),
        (trace, "{", 400),
        (trace, "[]", 400),
        (model, "{}", 404),
        ("/v2/logging", r#"{"log_info":1}"#, 400),
        ("/v2/logging", r#"{"log_verbose_level":-1}"#, 400),
        ("/v2/logging", r#"{"log_format":"xml"}"#, 400),
        ("/v2/logging", r#"{"log_file":"/tmp/x"}"#, 501),
    ] {
        let reply = gateway.client.post(path, body).await;
        assert_eq!(reply.status, status, "{path} {body}: {}", reply.json());
    }
    let too_long = gateway.client.post(trace, vec![b' '; 100_000]).await;
    assert_eq!(too_long.status, 413);
    assert_eq!(gateway.client.get(trace).await.ok(), before);
    let unknown = gateway.client.post(trace, r#"{"no_such_setting":1}"#).await.ok();
    assert_eq!(unknown, before, "as Triton does");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_an_admins_token_nobody_changes_settings_unless_loopback_may_do_everything() {
    let gateway = gateway::start_guarded(MODEL).await;
    for path in ["/v2/logging", "/v2/trace/setting", "/v2/models/wide/trace/setting"] {
        assert_eq!(gateway.client.get(path).await.status, 200, "{path}");
        assert_eq!(gateway.client.post(path, "{}").await.status, 401, "{path}");
    }
    let open = gateway::start(MODEL).await;
    assert_eq!(open.client.post("/v2/trace/setting", "{}").await.status, 200);
    let page = [("origin", "http://evil.example")];
    let reply =
        open.client.try_send(Method::POST, "/v2/trace/setting", &page, "{}").await.expect("an answer");
    assert_eq!(reply.status, 403, "a page in a browser on this machine");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_really_changes() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("sluice.toml");
    let server = "[server]\nadmin_without_tokens = true\ngrpc = \"127.0.0.1:0\"\n";
    std::fs::write(&file, format!("{server}{}", gateway::expand(MODEL))).expect("written");
    let mut command = sluice();
    command.args(["serve", "--http", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--config"]).arg(&file);
    let mut process =
        Process(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("started"));
    let table = BufReader::new(process.0.stdout.take().expect("piped"));
    let line = table.lines().map_while(Result::ok).find(|line| line.contains("/v2/models/wide"));
    let client = Client::new(address(&line.expect("the table says what is served")));
    let set = async |change: Value| client.post("/v2/logging", change.to_string()).await.ok();
    let refused = async |mark: &str| {
        // Refusals of callers' mistakes are debug lines.
        let headers = [("x-request-id", mark)];
        let path = "/v2/models/wide/infer";
        let reply = client.try_send(Method::POST, path, &headers, "{").await.expect("an answer");
        assert_eq!(reply.status, 400);
    };
    refused("mark-before").await;
    let changed = set(json!({ "log_verbose_level": 1, "log_format": "ISO8601" })).await;
    assert_eq!((&changed["log_verbose_level"], &changed["log_format"]), (&json!(1), &json!("ISO8601")));
    refused("mark-verbose").await;
    set(json!({ "log_verbose_level": 0, "log_format": "default", "log_warning": false })).await;
    refused("mark-after").await;
    assert_eq!(client.get("/v2/logging").await.ok()["log_warning"], false);
    process.0.kill().expect("killed");
    let mut log = String::new();
    process.0.stderr.take().expect("piped").read_to_string(&mut log).expect("text");
    assert!(!log.contains("mark-before") && !log.contains("mark-after"), "{log}");
    let verbose = log.lines().find(|line| line.contains("mark-verbose")).expect("a debug line");
    let verbose: Value = serde_json::from_str(verbose).expect("JSON");
    let time = verbose["timestamp"].as_str().expect("text");
    assert!(time.len() == "2026-01-01T00:00:00Z".len() && time.ends_with('Z'), "{time}");
    // The change that switched warnings off is the first that is not told.
    assert_eq!(log.lines().filter(|line| line.contains("settings changed")).count(), 1, "{log}");
}
