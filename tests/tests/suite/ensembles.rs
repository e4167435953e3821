//! Ensembles are asked as models are: raw bodies, `generate`, rows, classes, versions. And
//! each version of a model answers with what is its own.

use http::{Method, StatusCode};
use serde_json::{Value, json};
use sluice_tests::client::Reply;
use sluice_tests::gateway::Running;
use sluice_tests::models::{Models, recorded};

const SCORED: &str = r#"
    platform: "ensemble"
    max_batch_size: 8
    input [{ name: "X" data_type: TYPE_FP32 dims: [ 4 ] }]
    output [{ name: "Y" data_type: TYPE_FP32 dims: [ 4 ] }]
    ensemble_scheduling { step [{
        model_name: "classes"
        model_version: -1
        input_map { key: "INPUT0" value: "X" }
        output_map { key: "OUTPUT0" value: "Y" }
    }] }
"#;

const OWN_LABELS: &str = r#"dims: [ 4 ] label_filename: "own.txt" }]
    ensemble"#;

/// Models with an ensemble of one of them, in the versions 4 and 7.
fn scored() -> Models {
    let models = Models::new(&["classes"]);
    models.write("scored/config.pbtxt", SCORED);
    models.write("scored/4/.gitkeep", "");
    models.write("scored/7/.gitkeep", "");
    models
}

async fn raw(gateway: &Running, path: &str, data: &[f32]) -> Reply {
    let headers = [("inference-header-content-length", "0")];
    gateway.client.try_send(Method::POST, path, &headers, bytes(data)).await.expect("an answer")
}

/// The only output of an answer whose tensors are in binary: its type and its bytes.
fn output(reply: &Reply) -> (Value, Vec<u8>) {
    let length = reply.headers["inference-header-content-length"].to_str().expect("ASCII");
    let (json, data) = reply.body.split_at(length.parse().expect("a number"));
    let json: Value = serde_json::from_slice(json).expect("JSON");
    (json["outputs"][0]["datatype"].clone(), data.to_vec())
}

fn bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

fn classes(count: u32) -> Value {
    json!({
        "inputs": [{ "name": "X", "datatype": "FP32", "shape": [1, 4], "data": [0.5, 3.0, 1.0, 2.0] }],
        "outputs": [{ "name": "Y", "parameters": { "classification": count } }],
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ensemble_takes_raw_bodies_flat_objects_and_rows() {
    let gateway = scored().serve("").await;
    let values = [0.5, 3.0, 1.0, 2.0];
    let asked = gateway.client.infer("scored", &json!({ "inputs": classes(0)["inputs"] })).await.ok();
    let wanted = &asked["outputs"][0]["data"];
    let numbers = wanted.as_array().expect("a list").iter().map(|it| it.as_f64().expect("a number"));
    #[expect(clippy::cast_possible_truncation, reason = "they were FP32")]
    let numbers: Vec<f32> = numbers.map(|number| number as f32).collect();
    let answer = raw(&gateway, "/v2/models/scored/infer", &values).await;
    assert_eq!(output(&answer), (json!("FP32"), bytes(&numbers)));
    let short = raw(&gateway, "/v2/models/scored/infer", &values[1..]).await;
    assert_eq!((short.status, short.code()), (StatusCode::BAD_REQUEST, "bad_request".to_owned()));

    let flat = json!({ "X": values, "id": "a" }).to_string();
    let answer = gateway.client.post("/v2/models/scored/generate", flat.clone()).await.ok();
    assert_eq!(answer, json!({ "id": "a", "model_name": "scored", "model_version": "7", "Y": *wanted }));
    let streamed = gateway.client.post("/v2/models/scored/versions/7/generate_stream", flat).await;
    let event = streamed.body.strip_prefix(b"data: ").expect("an event");
    assert_eq!(serde_json::from_slice::<Value>(event).expect("JSON"), answer);
    let named = json!({ "X": values, "id": 7 }).to_string();
    assert_eq!(gateway.client.post("/v2/models/scored/generate", named).await.status, 400);

    let rows = json!({ "instances": [values, values] });
    let predicted = gateway.client.predict("scored", &rows).await.ok();
    assert_eq!(predicted["predictions"], json!([*wanted, *wanted]));
}

#[tokio::test(flavor = "multi_thread")]
async fn classes_of_an_ensemble_have_its_own_names_or_those_of_the_model_that_gives_them() {
    let models = scored();
    models.write("own/config.pbtxt", SCORED.replace("dims: [ 4 ] }]\n    ensemble", OWN_LABELS));
    models.write("own/own.txt", "null\none\ntwo\nthree\n");
    models.write("own/1/.gitkeep", "");
    let gateway = models.serve("").await;
    let best = async |name: &str| {
        let answer = gateway.client.infer(name, &classes(2)).await.ok();
        assert_eq!(answer["outputs"][0]["shape"], json!([1, 2]));
        let data = answer["outputs"][0]["data"].as_array().cloned().expect("a list");
        data.iter().map(|text| text.as_str().expect("text").to_owned()).collect::<Vec<_>>()
    };
    let (scored, own) = (best("scored").await, best("own").await);
    assert!(scored[0].ends_with(":1:dog") && scored[1].ends_with(":3"), "{scored:?}");
    assert!(own[0].ends_with(":1:one") && own[1].ends_with(":3:three"), "{own:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ensemble_has_the_versions_that_its_folder_and_policy_say() {
    let models = scored();
    let all = SCORED.replace("max_batch_size", "version_policy: { all { } }\n    max_batch_size");
    models.write("both/config.pbtxt", all);
    models.write("both/4/.gitkeep", "");
    models.write("both/7/.gitkeep", "");
    let gateway = models.serve("").await;
    let request = json!({ "inputs": classes(0)["inputs"] });
    for (name, versions) in [("scored", &["7"][..]), ("both", &["4", "7"])] {
        let metadata = gateway.client.get(&format!("/v2/models/{name}")).await.ok();
        assert_eq!(metadata["versions"], json!(versions));
        assert_eq!(gateway.client.infer(name, &request).await.ok()["model_version"], "7");
        for version in versions {
            let path = format!("/v2/models/{name}/versions/{version}");
            let answer = gateway.client.post(&format!("{path}/infer"), request.to_string()).await.ok();
            assert_eq!(answer["model_version"], **version);
        }
        let missing = format!("/v2/models/{name}/versions/1/infer");
        assert_eq!(gateway.client.post(&missing, request.to_string()).await.status, StatusCode::NOT_FOUND);
    }
    let stats = gateway.client.get("/v2/models/scored/stats").await.ok();
    assert_eq!(stats["model_stats"][0]["version"], "7");
    let rows = gateway.client.post("/v2/repository/index", "").await.ok();
    let rows: Vec<_> = rows.as_array().expect("a list").iter().filter(|row| row["name"] == "both").collect();
    let versions: Vec<_> = rows.iter().map(|row| (&row["version"], &row["state"])).collect();
    assert_eq!(versions, [(&json!("4"), &json!("READY")), (&json!("7"), &json!("READY"))]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_ensemble_does_is_counted_for_the_version_that_was_asked_for() {
    let joined = r#"
[pipelines.mine]
steps = [{ model = "classes", inputs = { INPUT0 = "X" }, outputs = { OUTPUT0 = "Y" } }]
versions = [9, 2]
[pipelines.outer]
steps = [{ model = "mine", version = "2", inputs = { X = "IN" }, outputs = { Y = "OUT" } }]
[telemetry]
triton_metrics = true
"#;
    let gateway = Models::new(&["classes"]).serve(joined).await;
    let client = &gateway.client;
    let two_rows = json!({ "inputs": [{ "name": "X", "datatype": "FP32", "shape": [2, 4], "data": [0, 1, 2, 3, 4, 5, 6, 7] }] });
    assert_eq!(client.infer("mine", &two_rows).await.ok()["model_version"], "9");
    let path = "/v2/models/mine/versions/2/infer";
    assert_eq!(client.post(path, two_rows.to_string()).await.ok()["model_version"], "2");
    let outer = two_rows.to_string().replace("\"X\"", "\"IN\"");
    assert_eq!(client.post("/v2/models/outer/infer", outer).await.ok()["model_version"], "1");

    let stats = client.get("/v2/models/mine/stats").await.ok();
    let counts = |one: &Value| {
        json!([one["version"], one["inference_count"], one["inference_stats"]["success"]["count"]])
    };
    let all: Vec<Value> = stats["model_stats"].as_array().expect("a list").iter().map(counts).collect();
    // One of the outer ensemble's too: that asks for version 2.
    assert_eq!(all, [json!(["2", 4, 2]), json!(["9", 2, 1])]);
    for (name, version, count) in [("mine", 2, 4.0), ("mine", 9, 2.0), ("outer", 1, 2.0)] {
        let labels = format!(r#"model="{name}",version="{version}""#);
        assert_eq!(gateway.metric("nv_inference_count", &labels).await, count, "{labels}");
    }
    let metrics = gateway.admin.get("/metrics").await;
    assert!(!String::from_utf8_lossy(&metrics.body).contains(r#"model="mine",version="1""#));
    let config = client.get("/v2/models/mine/versions/2/config").await.ok();
    assert_eq!(config["version_policy"], json!({ "specific": { "versions": [2, 9] } }));
    assert_eq!(client.get("/v2/models/mine/versions/1/config").await.status, StatusCode::NOT_FOUND);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_raw_body_is_read_as_the_version_that_is_asked_for_takes_it() {
    let models = Models::new(&[]);
    models.write("grown/config.pbtxt", "version_policy: { all { } }");
    for (version, model) in [("1", "identity_fp32"), ("2", "identity_int32")] {
        let file = std::fs::read(recorded(model).join("1/model.onnx")).expect("readable");
        models.write(&format!("grown/{version}/model.onnx"), file);
    }
    let gateway = models.serve("").await;
    let path = "/v2/models/grown/versions/1/infer";
    let old = raw(&gateway, path, &[0.5, 2.0]).await;
    assert_eq!(output(&old), (json!("FP32"), bytes(&[0.5, 2.0])));
    let new = raw(&gateway, "/v2/models/grown/infer", &[0.0, 0.0]).await;
    assert_eq!(output(&new).0, "INT32");
    let flat = json!({ "INPUT0": [0.5, 2.0] }).to_string();
    let answer = gateway.client.post("/v2/models/grown/versions/1/generate", flat.clone()).await.ok();
    assert_eq!(answer["OUTPUT0"], json!([0.5, 2.0]));
    assert_eq!(gateway.client.post("/v2/models/grown/generate", flat).await.status, StatusCode::BAD_REQUEST);
    let missing = raw(&gateway, "/v2/models/grown/versions/9/infer", &[0.5]).await;
    assert_eq!(missing.status, StatusCode::NOT_FOUND);
}
