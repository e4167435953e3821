//! A Triton model repository serves as it is.

use http::StatusCode;
use serde_json::{Value, json};
use sluice_tests::models::{Models, copy, recorded};
use sluice_tests::{gateway, versions::until};

/// A request of one row for `simple`.
fn simple() -> Value {
    let input = |name: &str, value: i32| json!({ "name": name, "datatype": "INT32", "shape": [1, 16], "data": vec![value; 16] });
    json!({ "inputs": [input("INPUT0", 7), input("INPUT1", 3)] })
}

fn integer(value: i32) -> Value {
    json!({ "inputs": [{ "name": "INPUT0", "datatype": "INT32", "shape": [1, 1], "data": [value] }] })
}

async fn index(gateway: &gateway::Running) -> Vec<(String, String, String, String)> {
    let rows = gateway.client.post("/v2/repository/index", "").await.ok();
    let text = |row: &Value, key: &str| row[key].as_str().unwrap_or_default().to_owned();
    let row =
        |row: &Value| (text(row, "name"), text(row, "version"), text(row, "state"), text(row, "reason"));
    rows.as_array().expect("a list").iter().map(row).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_model_of_a_repository_is_served_as_its_configuration_says() {
    let models = Models::new(&["simple", "simple_string", "versions", "classes", "nobatch", "batched"]);
    let gateway = models.serve("").await;
    let answer = gateway.client.infer("simple", &simple()).await.ok();
    assert_eq!(answer["model_version"], "1");
    assert_eq!(answer["outputs"][0]["data"], json!(vec![10; 16]));
    assert_eq!(answer["outputs"][1]["data"], json!(vec![4; 16]));
    let metadata = gateway.client.get("/v2/models/versions").await.ok();
    assert_eq!(metadata["versions"], json!(["1", "3"]));
    assert_eq!(metadata["inputs"], json!([{ "name": "INPUT0", "datatype": "INT32", "shape": [-1, 1] }]));
    let latest = gateway.client.infer("versions", &integer(5)).await.ok();
    assert_eq!(latest["model_version"], "3");
    for version in ["1", "3"] {
        let path = format!("/v2/models/versions/versions/{version}/infer");
        let answer = gateway.client.post(&path, integer(5).to_string()).await.ok();
        assert_eq!(answer["model_version"], version);
        assert_ne!(answer["outputs"][0]["data"] == latest["outputs"][0]["data"], version == "1", "{answer}");
        gateway.client.get(&format!("/v2/models/versions/versions/{version}/ready")).await.ok();
    }
    let missing = gateway.client.post("/v2/models/versions/versions/2/infer", integer(5).to_string()).await;
    assert_eq!((missing.status, missing.code()), (StatusCode::NOT_FOUND, "not_found".to_owned()));
    let rows = index(&gateway).await;
    assert_eq!(rows.len(), 7, "{rows:?}");
    assert!(rows.iter().all(|row| row.2 == "READY" && row.3.is_empty()), "{rows:?}");
    let wide = gateway.client.infer("simple", &json!({ "inputs": [] })).await;
    assert_eq!(wide.status, StatusCode::BAD_REQUEST);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_without_a_configuration_gets_what_its_file_says() {
    let models = Models::new(&["simple", "nobatch"]);
    for model in ["simple", "nobatch"] {
        std::fs::remove_file(models.path().join(model).join("config.pbtxt")).expect("removed");
    }
    let gateway = models.serve("").await;
    let config = gateway.client.get("/v2/models/simple/config").await.ok();
    assert_eq!((&config["name"], &config["platform"]), (&json!("simple"), &json!("onnxruntime_onnx")));
    assert_eq!(
        (&config["max_batch_size"], &config["dynamic_batching"]["preserve_ordering"]),
        (&json!(4), &json!(false))
    );
    assert_eq!(config["input"][0]["data_type"], "TYPE_INT32");
    assert_eq!(config["input"][0]["dims"], json!([16]));
    assert_eq!(config["instance_group"][0]["kind"], "KIND_CPU");
    assert_eq!(config["version_policy"], json!({ "latest": { "num_versions": 1 } }));
    assert_eq!(config["optimization"]["input_pinned_memory"]["enable"], true);
    let fixed = gateway.client.get("/v2/models/nobatch/versions/1/config").await.ok();
    assert_eq!((&fixed["max_batch_size"], &fixed["input"][0]["dims"]), (&json!(0), &json!([2, 3])));
    assert!(fixed.get("dynamic_batching").is_none(), "{fixed}");
    let missing = gateway.client.get("/v2/models/nobatch/versions/7/config").await;
    assert_eq!(missing.status, StatusCode::NOT_FOUND);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_model_that_cannot_be_served_stops_the_start_or_is_in_the_index_with_the_reason() {
    let models = Models::new(&["simple"]);
    models.write("python/config.pbtxt", "backend: \"python\"");
    models.write("python/1/model.py", "");
    models.write("torn/config.pbtxt", "name: \"torn\"\nmax_batch_size: [\n");
    models.write("broken/1/model.onnx", "no model");
    models.write("empty/config.pbtxt", "max_batch_size: 1");
    models.write("named/config.pbtxt", "name: \"other\"");
    models.write("named/1/model.onnx", "");
    let refused = gateway::try_start(&models.config("")).await.err().expect("it must not start");
    for part in [
        "model 'python'",
        "backend 'python'",
        "model 'torn'",
        "line 3, column 1",
        "model 'broken'",
        "model 'empty'",
        "model 'named'",
    ] {
        assert!(refused.contains(part), "{part} is not in {refused}");
    }
    let gateway = models.serve("exit_on_error = false").await;
    gateway.client.infer("simple", &simple()).await.ok();
    let rows = index(&gateway).await;
    assert_eq!(rows.len(), 6, "{rows:?}");
    for (name, version, state, reason) in &rows {
        let is_ready = name == "simple";
        assert_eq!(state == "READY", is_ready, "{name}");
        assert_eq!(reason.is_empty(), is_ready, "{name}");
        assert_eq!(version == "1", matches!(name.as_str(), "simple" | "broken"), "{name}");
    }
    let ready = gateway.client.post("/v2/repository/index", r#"{"ready":true}"#).await.ok();
    assert_eq!(ready.as_array().map(Vec::len), Some(1));
    let refused = gateway.client.post("/v2/repository/models/simple/load", "").await;
    assert_eq!(refused.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(refused.json()["error"], "explicit model load / unload is not allowed if polling is enabled");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_polled_repository_takes_up_what_changes_and_keeps_what_breaks() {
    let models = Models::new(&["versions"]);
    models.write(
        "versions/config.pbtxt",
        std::fs::read_to_string(recorded("versions/config.pbtxt"))
            .expect("readable")
            .replace("specific { versions: [ 1, 3 ] }", "latest { num_versions: 1 }"),
    );
    std::fs::remove_dir_all(models.path().join("versions/3")).expect("removed");
    let gateway = models.serve("control = \"poll\"\npoll_seconds = 1").await;
    let version =
        || async { gateway.client.infer("versions", &integer(5)).await.json()["model_version"].clone() };
    assert_eq!(version().await, "2");
    copy(&recorded("versions/3"), &models.path().join("versions/3"));
    until(|| async { version().await == "3" }).await;
    models.add("simple", "late");
    until(|| async { gateway.client.infer("late", &simple()).await.status == StatusCode::OK }).await;
    models.write("versions/4/model.onnx", "no model");
    until(|| async { index(&gateway).await.iter().any(|row| row.1 == "4" && row.2 == "UNAVAILABLE") }).await;
    assert_eq!(version().await, "3");
    std::fs::remove_dir_all(models.path().join("late")).expect("removed");
    until(|| async { gateway.client.infer("late", &simple()).await.status == StatusCode::NOT_FOUND }).await;
    assert_eq!(version().await, "3");
}

#[tokio::test(flavor = "multi_thread")]
async fn models_are_loaded_and_unloaded_by_request_and_no_other_request_fails() {
    let models = Models::new(&["simple", "versions"]);
    let gateway = models.serve("control = \"explicit\"\nload = [\"simple\"]").await;
    assert_eq!(gateway.client.infer("versions", &integer(1)).await.status, StatusCode::NOT_FOUND);
    assert!(index(&gateway).await.contains(&(
        "versions".into(),
        String::new(),
        String::new(),
        String::new()
    )));
    let client = gateway.client.clone();
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let load = tokio::spawn(async move {
        let mut count = 0;
        while !*stopped.borrow() {
            client.infer("simple", &simple()).await.ok();
            count += 1;
        }
        count
    });
    let post = async |path: &str, body: &str| {
        gateway.client.post(&format!("/v2/repository/models/{path}"), body.to_owned()).await
    };
    let wide = json!({ "parameters": { "config": json!({ "max_batch_size": 16, "version_policy": { "all": {} } }).to_string() } });
    for _ in 0..3 {
        assert_eq!(post("versions/load", "{}").await.status, StatusCode::OK);
        assert_eq!(gateway.client.infer("versions", &integer(1)).await.ok()["model_version"], "3");
        assert_eq!(post("simple/load", "").await.status, StatusCode::OK);
        assert_eq!(post("versions/load", &wide.to_string()).await.status, StatusCode::OK);
        assert_eq!(gateway.client.get("/v2/models/versions/config").await.ok()["max_batch_size"], 16);
        assert_eq!(gateway.client.get("/v2/models/versions").await.ok()["versions"], json!(["1", "2", "3"]));
        assert_eq!(post("versions/unload", "{}").await.status, StatusCode::OK);
        assert_eq!(gateway.client.infer("versions", &integer(1)).await.status, StatusCode::NOT_FOUND);
        // Requests that are under way keep it for a moment.
        let unloaded = ("versions".into(), "3".into(), "UNAVAILABLE".into(), "unloaded".into());
        sluice_tests::versions::until(|| async { index(&gateway).await.contains(&unloaded) }).await;
    }
    stop.send(true).expect("it runs");
    assert!(load.await.expect("no request failed") > 0);
    let missing = post("nobody/load", "").await;
    assert!(
        missing.json()["error"].as_str().is_some_and(|it| it.contains("failed to load 'nobody'")),
        "{missing:?}"
    );
    assert_eq!(post("nobody/unload", "").await.status, StatusCode::OK);
    let bad = json!({ "parameters": { "config": "{\"input\": [{\"name\": \"x\"}]}" } }).to_string();
    let refused = post("simple/load", &bad).await;
    assert_eq!(refused.status, StatusCode::BAD_REQUEST, "{refused:?}");
    gateway.client.infer("simple", &simple()).await.ok();
    assert!(
        index(&gateway)
            .await
            .iter()
            .any(|row| row.0 == "simple" && row.2 == "READY" && row.3.contains("data_type"))
    );
    for bad in ["{", "[]", r#"{"parameters":{"config":7}}"#, r#"{"parameters":{"what":1}}"#] {
        assert_eq!(post("simple/load", bad).await.status, StatusCode::BAD_REQUEST, "{bad}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_load_whose_caller_leaves_goes_on_and_is_served() {
    let models = Models::new(&["simple", "versions"]);
    let gateway = models.serve("control = \"explicit\"\nload = [\"versions\"]").await;
    // Loading takes as long as its warm-up.
    let warmup = json!({ "name": "long", "batch_size": 1, "count": 10_000 });
    let config = json!({ "max_batch_size": 8, "model_warmup": vec![warmup; 4] }).to_string();
    let body = json!({ "parameters": { "config": config } }).to_string();
    let load = gateway.client.post("/v2/repository/models/simple/load", body);
    let left = tokio::time::timeout(std::time::Duration::from_millis(60), load).await;
    assert!(left.is_err(), "it was loaded sooner than its caller could leave: {left:?}");
    until(|| async { gateway.client.infer("simple", &simple()).await.status == StatusCode::OK }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ensemble_runs_its_models_and_follows_their_loading() {
    let models = Models::new(&["simple", "chain"]);
    let gateway = models.serve("control = \"explicit\"").await;
    let input = |name: &str, value: i32| json!({ "name": name, "datatype": "INT32", "shape": [2, 16], "data": vec![value; 32] });
    let request = json!({ "inputs": [input("A", 7), input("B", 3)] });
    let post = async |path: &str, body: &str| {
        gateway.client.post(&format!("/v2/repository/models/{path}"), body.to_owned()).await.status
    };
    assert_eq!(post("chain/load", "").await, StatusCode::OK);
    let answer = gateway.client.infer("chain", &request).await.ok();
    assert_eq!(answer["outputs"][0]["data"], json!(vec![14; 32]));
    assert_eq!(answer["outputs"][1]["data"], json!(vec![6; 32]));
    let metadata = gateway.client.get("/v2/models/chain").await.ok();
    assert_eq!(
        (&metadata["platform"], &metadata["inputs"][0]["shape"]),
        (&json!("ensemble"), &json!([-1, 16]))
    );
    let config = gateway.client.get("/v2/models/chain/config").await.ok();
    assert_eq!(config["ensemble_scheduling"]["step"][0]["model_name"], "simple");
    assert!(index(&gateway).await.iter().any(|row| row.0 == "simple" && row.2 == "READY"), "it came with it");
    assert_eq!(post("simple/unload", "").await, StatusCode::OK);
    assert_eq!(gateway.client.infer("chain", &request).await.status, StatusCode::NOT_FOUND);
    let rows = index(&gateway).await;
    assert!(rows.iter().any(|row| row.0 == "chain" && row.3.contains("needs model 'simple'")), "{rows:?}");
    assert_eq!(post("simple/load", "").await, StatusCode::OK);
    gateway.client.infer("chain", &request).await.ok();
    assert_eq!(post("chain/unload", r#"{"parameters":{"unload_dependents":true}}"#).await, StatusCode::OK);
    assert_eq!(gateway.client.infer("simple", &simple()).await.status, StatusCode::NOT_FOUND);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ensemble_whose_tensors_do_not_fit_is_refused_by_name() {
    let models = Models::new(&["simple", "chain"]);
    let good = std::fs::read_to_string(recorded("chain/config.pbtxt")).expect("readable");
    for (from, to, told) in [
        (
            "key: \"INPUT1\" value: \"difference\"",
            "key: \"INPUT1\" value: \"nowhere\"",
            "no step gives 'nowhere'",
        ),
        ("key: \"INPUT1\" value: \"B\"", "key: \"INPUT1\" value: \"TWICE_B\"", "wait for each other"),
        ("key: \"OUTPUT1\" value: \"difference\"", "key: \"OUTPUT1\" value: \"sum\"", "comes from"),
        ("name: \"A\"\n    data_type: TYPE_INT32", "name: \"A\"\n    data_type: TYPE_FP32", "is FP32"),
        ("max_batch_size: 8", "max_batch_size: 16", "batches of 16 rows"),
    ] {
        assert!(good.contains(from), "{from}");
        models.write("chain/config.pbtxt", good.replacen(from, to, 1));
        let refused = gateway::try_start(&models.config("")).await.err().expect("it must not start");
        assert!(refused.contains(told), "{told} is not in {refused}");
    }
}
