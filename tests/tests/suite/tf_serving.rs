//! TF-Serving's REST interface and KServe V1, for what takes tensors.

use http::Method;
use serde_json::{Value, json};
use sluice_tests::gateway::{self, Running};

const CONFIG: &str = r#"
    [models.add]
    engine = "sim"
    file = "{repo}/tests/models/add.sim.json"
    version = "3"
    max_batch_size = 8
    [models.words]
    engine = "sim"
    file = "{repo}/tests/models/words.sim.json"
    max_batch_size = 8
    [pipelines.bare]
    model = "words"
"#;

async fn ask(gateway: &Running, path: &str, body: &Value) -> Value {
    let reply = gateway.client.post(path, body.to_string()).await;
    assert_eq!(reply.status, 200, "{path} {body}: {:?}", reply.body);
    assert_eq!(reply.headers["content-type"], "application/json");
    reply.json()
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_are_answered_in_rows_and_columns_in_columns() {
    let gateway = gateway::start(CONFIG).await;
    let rows = json!({
        "signature_name": "serving_default",
        "instances": [{ "a": [1, 2], "b": [3, 4] }, { "b": [7, 8], "a": [5, 6] }],
    });
    let columns = json!({ "inputs": { "a": [[1, 2], [5, 6]], "b": [[3, 4], [7, 8]] } });
    let by_row = ask(&gateway, "/v1/models/add:predict", &rows).await;
    assert_eq!(by_row["predictions"][1]["y"], json!([5, 6]), "{by_row}");
    let by_column = ask(&gateway, "/v1/models/add/versions/3:predict", &columns).await;
    assert_eq!(by_column["outputs"]["y"], json!([[1, 2], [5, 6]]), "{by_column}");
    assert_eq!(by_row["predictions"][0]["s"], by_column["outputs"]["s"][0]);
    for name in ["words", "bare"] {
        let path = format!("/v1/models/{name}:predict");
        let rows = json!({ "instances": [["a"], [{ "b64": "/wA=" }]] });
        let answer = ask(&gateway, &path, &rows).await;
        assert_eq!(answer, json!({ "predictions": [["a"], [{ "b64": "/wA=" }]] }), "{name}");
        let answer = ask(&gateway, &path, &json!({ "inputs": [["x"]] })).await;
        assert_eq!(answer, json!({ "outputs": [["x"]] }), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn status_and_metadata_have_the_shapes_of_both_protocols() {
    let gateway = gateway::start(CONFIG).await;
    for path in ["/v1/models/add", "/v1/models/add/versions/3"] {
        let status = gateway.client.get(path).await.ok();
        assert_eq!((&status["name"], &status["ready"]), (&json!("add"), &json!(true)));
        let version = json!([{
            "version": "3", "state": "AVAILABLE", "status": { "error_code": "OK", "error_message": "" },
        }]);
        assert_eq!(status["model_version_status"], version);
    }
    for path in ["/v1/models", "/v2/models"] {
        assert_eq!(gateway.client.get(path).await.ok(), json!({ "models": ["bare", "add", "words"] }));
    }
    for path in ["/v1/models/add/metadata", "/v1/models/add/versions/3/metadata"] {
        let metadata = gateway.client.get(path).await.ok();
        let expected = json!({ "name": "add", "signature_name": "", "version": "3" });
        assert_eq!(metadata["model_spec"], expected);
        let signature = &metadata["metadata"]["signature_def"]["signature_def"]["serving_default"];
        assert_eq!(signature["method_name"], "tensorflow/serving/predict");
        assert_eq!(signature["inputs"]["a"]["dtype"], "DT_INT32");
        assert_eq!(signature["inputs"]["a"]["tensor_shape"]["dim"][0]["size"], "-1");
        assert_eq!(signature["outputs"]["y"]["tensor_shape"]["dim"][1]["size"], "2");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_request_is_refused_in_words() {
    let gateway = gateway::start(CONFIG).await;
    let predict = "/v1/models/add:predict";
    let both = json!({ "instances": [], "inputs": {} });
    let ragged = json!({ "inputs": { "a": [[1, 2], [3]], "b": [[1, 2], [3, 4]] } });
    let missing = json!({ "instances": [{ "a": [1, 2] }] });
    let extra = json!({ "instances": [{ "a": [1, 2], "b": [1, 2], "c": 1 }] });
    let wide = json!({ "instances": [{ "a": [1, 2, 3], "b": [1, 2] }] });
    let other = json!({ "signature_name": "other", "instances": [{ "a": [1, 2], "b": [1, 2] }] });
    let empty = json!({ "instances": [] });
    for (path, body, status, code) in [
        (predict, json!({}), 400, "bad_request"),
        (predict, both, 400, "bad_request"),
        (predict, ragged, 400, "bad_shape"),
        (predict, missing, 400, "bad_shape"),
        (predict, extra, 400, "bad_json"),
        (predict, wide, 400, "bad_shape"),
        (predict, other, 400, "bad_request"),
        (predict, empty, 400, "bad_shape"),
        (predict, json!([1]), 400, "bad_json"),
        ("/v1/models/none:predict", json!({}), 404, "not_found"),
        ("/v1/models/add/versions/4:predict", json!({}), 404, "not_found"),
        ("/v1/models/add/labels/stable:predict", json!({}), 404, "not_found"),
        ("/v1/models/add/versions/3:regress", json!({}), 404, "not_found"),
        ("/v1/models/add/versions/3", json!({}), 405, "method_not_allowed"),
    ] {
        let reply = gateway.client.post(path, body.to_string()).await;
        assert_eq!((reply.status.as_u16(), reply.code().as_str()), (status, code), "{path} {body}");
        assert!(reply.json()["error"].is_string());
    }
    let nested = format!("{{\"instances\": {}1{}}}", "[".repeat(1000), "]".repeat(1000));
    assert_eq!(gateway.client.post(predict, nested).await.code(), "limit_depth");
    for path in ["/v1/models/add/versions/4", "/v1/models/none/metadata", "/v1/models/add/labels/stable"] {
        let sent = gateway.client.try_send(Method::GET, path, &[], "").await;
        assert_eq!(sent.expect("an answer").status, 404, "{path}");
    }
}
