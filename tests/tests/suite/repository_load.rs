//! What loads, and loads again, of a model repository: no more than has changed, and also
//! what comes with the request.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::StatusCode;
use serde_json::{Value, json};
use sluice_tests::client::Reply;
use sluice_tests::gateway::{self, Running};
use sluice_tests::grpc::Grpc;
use sluice_tests::grpc::inference::model_repository_parameter::ParameterChoice;
use sluice_tests::grpc::inference::{
    ModelRepositoryParameter, RepositoryModelLoadRequest, RepositoryModelLoadResponse,
};
use sluice_tests::models::{Models, recorded};
use sluice_tests::versions::until;
use tokio::time::Instant;

const LOAD: &str = "/inference.GRPCInferenceService/RepositoryModelLoad";

fn integer(value: i32) -> Value {
    json!({ "inputs": [{ "name": "INPUT0", "datatype": "INT32", "shape": [1, 1], "data": [value] }] })
}

fn onnx(model: &str) -> Vec<u8> {
    std::fs::read(recorded(model).join("1/model.onnx")).expect("readable")
}

async fn post(gateway: &Running, path: &str, parameters: Value) -> Reply {
    let body = json!({ "parameters": parameters }).to_string();
    gateway.client.post(&format!("/v2/repository/models/{path}"), body).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_refused_is_not_said_to_be_served() {
    let models = Models::new(&["versions"]);
    let gateway = models.serve("control = \"explicit\"").await;
    let shown = || async {
        let text = gateway.admin.get("/metrics").await;
        let text = String::from_utf8_lossy(&text.body).into_owned();
        text.lines().find(|line| line.starts_with("sluice_config_info")).expect("shown").to_owned()
    };
    let served = shown().await;
    let file = std::fs::read_to_string(&gateway.config).expect("readable");
    std::fs::write(&gateway.config, format!("{file}\nnonsense")).expect("written");
    // Loading builds another snapshot while the file is broken.
    post(&gateway, "versions/load", json!({})).await;
    assert_eq!(shown().await, served);
    // What says the same in other words is served.
    std::fs::write(&gateway.config, format!("{file}\n# a comment\n")).expect("written");
    gateway.admin.post("/admin/v1/reload", "").await;
    assert_ne!(shown().await, served);
}

/// Folders that came with requests and are still there.
fn folders() -> usize {
    let entries = std::fs::read_dir(std::env::temp_dir()).expect("readable").flatten();
    entries.filter(|entry| entry.file_name().to_string_lossy().starts_with("sluice-model-")).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn another_way_of_batching_is_taken_up_without_loading_the_model_again() {
    let models = Models::new(&["versions"]);
    let file = std::fs::read_to_string(recorded("versions/config.pbtxt")).expect("readable");
    let gateway =
        models.serve("control = \"poll\"\npoll_seconds = 1\n[telemetry]\ntriton_metrics = true").await;
    gateway.client.infer("versions", &integer(1)).await.ok();
    // How long the loading took is told of each loading anew.
    let loads = gateway.metric("nv_model_load_duration_secs", "versions").await;
    let delay = "\ndynamic_batching { max_queue_delay_microseconds: 400000 }\n";
    models.write("versions/config.pbtxt", format!("{file}{delay}"));
    let is_shown = || async {
        let config = gateway.client.get("/v2/models/versions/config").await.ok();
        config["dynamic_batching"]["max_queue_delay_microseconds"] == 400_000
            || config["dynamic_batching"]["max_queue_delay_microseconds"] == "400000"
    };
    until(is_shown).await;
    let started = Instant::now();
    gateway.client.infer("versions", &integer(1)).await.ok();
    assert!(started.elapsed() >= Duration::from_millis(390), "{:?}", started.elapsed());
    let stats = gateway.client.get("/v2/models/versions/versions/3/stats").await.ok();
    assert_eq!(stats["model_stats"][0]["inference_count"], 2, "it is the model that was there");
    assert_eq!(gateway.metric("nv_model_load_duration_secs", "versions").await, loads);
    // Another number of rows is another model.
    models.write("versions/config.pbtxt", file.replace("max_batch_size: 8", "max_batch_size: 4"));
    let is_loaded =
        || async { gateway.client.get("/v2/models/versions/config").await.ok()["max_batch_size"] == 4 };
    until(is_loaded).await;
    let started = Instant::now();
    gateway.client.infer("versions", &integer(1)).await.ok();
    assert!(started.elapsed() < Duration::from_millis(390), "the delay is gone too");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_is_loaded_from_files_that_come_with_the_request_and_they_go_with_it() {
    let models = Models::new(&["identity_int32"]);
    let gateway = models.serve("control = \"explicit\"").await;
    let before = folders();
    let file = |model: &str| STANDARD.encode(onnx(model));
    let config = json!({ "max_batch_size": 8 }).to_string();
    // As large as models are.
    let weights = STANDARD.encode(vec![0; 3 << 20]);
    let files = json!({ "config": config, "file:7/model.onnx": file("identity_fp32"), "file:7/weights.bin": weights });
    // One that no repository has.
    assert_eq!(post(&gateway, "sent/load", files.clone()).await.status, StatusCode::OK);
    let input = json!([{ "name": "INPUT0", "datatype": "FP32", "shape": [1, 2], "data": [0.5, 2.0] }]);
    let answer = gateway.client.infer("sent", &json!({ "inputs": input })).await.ok();
    assert_eq!((&answer["model_version"], &answer["outputs"][0]["data"]), (&json!("7"), &json!([0.5, 2.0])));
    assert_eq!(folders(), before + 1);
    // One that is there is read from the request alone.
    assert_eq!(post(&gateway, "identity_int32/load", files).await.status, StatusCode::OK);
    let metadata = gateway.client.get("/v2/models/identity_int32").await.ok();
    assert_eq!((&metadata["versions"], &metadata["inputs"][0]["datatype"]), (&json!(["7"]), &json!("FP32")));
    assert_eq!(post(&gateway, "identity_int32/load", json!({})).await.status, StatusCode::OK);
    let metadata = gateway.client.get("/v2/models/identity_int32").await.ok();
    assert_eq!((&metadata["versions"], &metadata["inputs"][0]["datatype"]), (&json!(["1"]), &json!("INT32")));
    assert_eq!(post(&gateway, "sent/unload", json!({})).await.status, StatusCode::OK);
    until(|| async { folders() == before }).await;
    assert_eq!(post(&gateway, "sent/load", json!({})).await.status, StatusCode::NOT_FOUND, "they are gone");
}

#[tokio::test(flavor = "multi_thread")]
async fn files_that_make_no_model_are_refused_by_their_field_and_leave_what_is_served() {
    let models = Models::new(&["identity_int32"]);
    let gateway = models.serve("control = \"explicit\"\nload = [\"*\"]").await;
    let (config, file) = (json!({}).to_string(), STANDARD.encode(onnx("identity_fp32")));
    for (parameters, told) in [
        (json!({ "file:1/model.onnx": file }), "parameter 'config' is needed"),
        (json!({ "config": config, "file:1/model.onnx": "!" }), "'file:1/model.onnx' must be base64"),
        (json!({ "config": config, "file:1/model.onnx": 7 }), "'file:1/model.onnx' must be base64"),
        (
            json!({ "config": config, "file:../x/1/model.onnx": file }),
            "'file:../x/1/model.onnx' is not a path",
        ),
        (json!({ "config": config, "file:/etc/x": file }), "'file:/etc/x' is not a path"),
        (json!({ "config": config, "file:1/other.onnx": file }), "has no file 'model.onnx'"),
        (
            json!({ "config": config, "file:1/model.onnx": STANDARD.encode("none") }),
            "version 1 is at UNAVAILABLE",
        ),
        (json!({ "config": config, "files": {} }), "parameter 'files' is not known"),
    ] {
        let refused = post(&gateway, "identity_int32/load", parameters.clone()).await;
        let text = String::from_utf8_lossy(&refused.body).into_owned();
        assert!(refused.status == StatusCode::BAD_REQUEST && text.contains(told), "{parameters}: {text}");
        let answer = gateway.client.infer("identity_int32", &integer(5)).await.ok();
        assert_eq!(answer["outputs"][0]["data"], json!([5]));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn files_come_over_grpc_as_bytes() {
    let models = Models::new(&[]);
    let gateway = models.serve("control = \"explicit\"").await;
    let client = Grpc::connect(gateway.grpc).await;
    let choice = |choice| ModelRepositoryParameter { parameter_choice: Some(choice) };
    let parameters = [
        ("config".to_owned(), choice(ParameterChoice::StringParam("{\"max_batch_size\": 8}".to_owned()))),
        ("file:1/model.onnx".to_owned(), choice(ParameterChoice::BytesParam(onnx("identity_int32").into()))),
    ];
    let request = RepositoryModelLoadRequest {
        model_name: "sent".to_owned(),
        parameters: parameters.into_iter().collect(),
        ..RepositoryModelLoadRequest::default()
    };
    let _: tonic::Response<RepositoryModelLoadResponse> =
        client.call(LOAD, tonic::Request::new(request)).await.expect("loaded");
    let answer = gateway.client.infer("sent", &integer(5)).await.ok();
    assert_eq!(answer["outputs"][0]["data"], json!([5]));
}

#[tokio::test(flavor = "multi_thread")]
async fn resources_of_a_repository_are_those_that_all_models_share() {
    let models = Models::new(&["identity_int32"]);
    let file = std::fs::read_to_string(recorded("identity_int32/config.pbtxt")).expect("readable");
    let group = |count: u32| {
        format!(
            "{file}\ninstance_group {{ count: 1 rate_limiter {{ resources {{ name: \"unit\" count: {count} }} }} }}"
        )
    };
    models.write("identity_int32/config.pbtxt", group(2));
    // Nobody bounds it: it is free, as in Triton.
    let gateway = models.serve("").await;
    gateway.client.infer("identity_int32", &integer(1)).await.ok();
    let bounded = |units: u32| models.config(&format!("[engine.resources]\nunit = {units}\n"));
    let gateway = gateway::start(&bounded(2)).await;
    gateway.client.infer("identity_int32", &integer(1)).await.ok();
    let refused = gateway::try_start(&bounded(1)).await.err().expect("it must not start");
    assert!(refused.contains("rate_limiter.resources has 2 of 'unit'"), "{refused}");
}
