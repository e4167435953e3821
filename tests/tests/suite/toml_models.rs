//! Our own TOML says of models what a Triton repository says.

use http::StatusCode;
use serde_json::{Value, json};
use sluice_tests::gateway;
use sluice_tests::models::Models;

const RECORDED: &str = "{repo}/tests/oracle/repository";

/// The recorded models `versions`, `classes` and `chain`, without a repository.
fn config(more: &str) -> String {
    let text = r#"
        [models.versions]
        versions = { 1 = "RECORDED/versions/1/model.onnx", 3 = "RECORDED/versions/3/model.onnx" }
        max_batch_size = 8
        [models.classes]
        file = "RECORDED/classes/1/model.onnx"
        max_batch_size = 8
        labels = { OUTPUT0 = "RECORDED/classes/labels.txt" }
        [models.simple]
        file = "RECORDED/simple/1/model.onnx"
        max_batch_size = 8
        [pipelines.chain]
        steps = [
            { model = "simple", inputs = { INPUT0 = "A", INPUT1 = "B" }, outputs = { OUTPUT0 = "sum", OUTPUT1 = "difference" } },
            { model = "simple", inputs = { INPUT0 = "sum", INPUT1 = "difference" }, outputs = { OUTPUT0 = "TWICE_A", OUTPUT1 = "TWICE_B" } },
        ]
        inputs = [{ name = "A", datatype = "INT32", dims = [16] }, { name = "B", datatype = "INT32", dims = [16] }]
        outputs = ["TWICE_A", { name = "TWICE_B", datatype = "INT32", dims = [16] }]
        max_batch_size = 8
    "#;
    format!("{}{more}", text.replace("RECORDED", RECORDED))
}

const TRITON_METRICS: &str = "[telemetry]\ntriton_metrics = true\n";

fn integer(value: i32) -> Value {
    json!({ "inputs": [{ "name": "INPUT0", "datatype": "INT32", "shape": [1, 1], "data": [value] }] })
}

fn scores() -> Value {
    json!({
        "inputs": [{ "name": "INPUT0", "datatype": "FP32", "shape": [1, 4], "data": [0.5, 3.0, 1.0, 2.0] }],
        "outputs": [{ "name": "OUTPUT0", "parameters": { "classification": 3 } }],
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_models_from_toml_and_from_a_repository_answer_the_same() {
    let models = Models::new(&["versions", "classes", "simple", "chain"]);
    let (repository, toml) = (models.serve("").await, gateway::start(&config("")).await);
    let input = |name: &str, value: i32| json!({ "name": name, "datatype": "INT32", "shape": [2, 16], "data": vec![value; 32] });
    let chain = json!({ "inputs": [input("A", 7), input("B", 3)] });
    for (path, body) in [
        ("/v2/models/versions", None),
        ("/v2/models/versions/versions/1", None),
        ("/v2/models/classes", None),
        ("/v2/models/versions/infer", Some(integer(5))),
        ("/v2/models/versions/versions/1/infer", Some(integer(5))),
        ("/v2/models/versions/versions/3/infer", Some(integer(5))),
        ("/v2/models/classes/infer", Some(scores())),
        ("/v2/models/chain/infer", Some(chain)),
    ] {
        let mut answers = Vec::new();
        for gateway in [&repository, &toml] {
            let reply = match &body {
                Some(body) => gateway.client.post(path, body.to_string()).await,
                None => gateway.client.get(path).await,
            };
            answers.push(reply.ok());
        }
        assert_eq!(answers[0], answers[1], "{path}");
    }
    let missing = toml.client.post("/v2/models/versions/versions/2/infer", integer(5).to_string()).await;
    assert_eq!(missing.status, StatusCode::NOT_FOUND);
    let config = toml.client.get("/v2/models/versions/config").await.ok();
    assert_eq!(config["version_policy"]["specific"]["versions"], json!([1, 3]));
}

#[tokio::test(flavor = "multi_thread")]
async fn versions_come_and_go_with_a_reload_and_no_other_version_is_loaded_again() {
    let gateway = gateway::start(&config(TRITON_METRICS)).await;
    let ask = async |version: &str| {
        let path = format!("/v2/models/versions/versions/{version}/infer");
        gateway.client.post(&path, integer(5).to_string()).await.status.as_u16()
    };
    assert_eq!((ask("1").await, ask("2").await, ask("3").await), (200, 404, 200));
    // How long the loading took is told of each loading anew.
    let loaded = async || gateway.metric("nv_model_load_duration_secs", "version=\"3\"").await;
    let before = loaded().await;
    assert!(before > 0.0);
    let second = format!("{{ 2 = \"{RECORDED}/versions/2/model.onnx\", 3 =");
    let other =
        config(TRITON_METRICS).replace(&format!("{{ 1 = \"{RECORDED}/versions/1/model.onnx\", 3 ="), &second);
    gateway.reload(&other).await;
    assert_eq!((ask("1").await, ask("2").await, ask("3").await), (404, 200, 200));
    assert_eq!(loaded().await, before, "version 3 is the one that was there");
    let one = "file = \"RECORDED/versions/1/model.onnx\"".replace("RECORDED", RECORDED);
    let start = other.find("versions = {").expect("there");
    let end = start + other[start..].find('\n').expect("a line");
    gateway.reload(&format!("{}{one}{}", &other[..start], &other[end..])).await;
    assert_eq!((ask("1").await, ask("2").await, ask("3").await), (200, 404, 404));
}

#[tokio::test(flavor = "multi_thread")]
async fn declared_dimensions_are_those_of_clients_and_a_declaration_that_lies_does_not_start() {
    let declared = r#"
        [models.square]
        file = "RECORDED/classes/1/model.onnx"
        max_batch_size = 8
        inputs = [{ name = "INPUT0", datatype = "FP32", dims = [2, 2], reshape = [4] }]
        outputs = [{ name = "OUTPUT0", datatype = "FP32", dims = [1, 4], reshape = [4] }]
        warmup = [{ name = "rows", batch_size = 2, inputs = { INPUT0 = { datatype = "FP32", dims = [2, 2], data = "random" } } }]
    "#;
    let declared = declared.replace("RECORDED", RECORDED);
    let gateway = gateway::start(&declared).await;
    let input =
        json!({ "name": "INPUT0", "datatype": "FP32", "shape": [1, 2, 2], "data": [1.0, 2.0, 3.0, 4.0] });
    let answer = gateway.client.infer("square", &json!({ "inputs": [input] })).await.ok();
    assert_eq!(answer["outputs"][0]["shape"], json!([1, 1, 4]));
    for (from, to, told) in [
        (
            "dims = [2, 2], reshape = [4] }]\n        outputs",
            "dims = [4] }]\n        labels = { nothing = \"RECORDED/classes/labels.txt\" }\n        outputs",
            "labels are given for 'nothing'",
        ),
        ("datatype = \"FP32\", dims = [1, 4]", "datatype = \"INT32\", dims = [1, 4]", "is declared as INT32"),
        ("name = \"OUTPUT0\"", "name = \"OUTPUT1\"", "output 'OUTPUT1' is not in the model's file"),
    ] {
        assert!(declared.contains(from), "{from}");
        let other = declared.replacen(from, &to.replace("RECORDED", RECORDED), 1);
        let refused = gateway::try_start(&other).await.err().expect("it must not start");
        assert!(refused.contains(told), "{told} is not in {refused}");
    }
}
