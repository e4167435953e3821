//! The rest of the service: configurations, the repository, settings. What it answers is
//! what the HTTP routes answer.

use serde_json::json;
use sluice_tests::gateway::{self, Running};
use sluice_tests::grpc::inference::model_infer_request::InferRequestedOutputTensor;
use sluice_tests::grpc::inference::model_repository_parameter::ParameterChoice;
use sluice_tests::grpc::inference::{
    InferParameter, ModelConfigRequest, ModelConfigResponse, ModelRepositoryParameter,
    RepositoryIndexRequest, RepositoryIndexResponse, RepositoryModelLoadRequest, RepositoryModelLoadResponse,
    RepositoryModelUnloadRequest, RepositoryModelUnloadResponse, infer_parameter,
};
use sluice_tests::grpc::{Grpc, request};
use tonic::{Code, Request, Response, Status};

async fn start() -> (Running, Grpc) {
    let gateway = gateway::start(
        r#"
        [repositories.models]
        path = "{repo}/tests/oracle/repository"
        control = "explicit"
        load = ["simple", "versions", "classes"]
    "#,
    )
    .await;
    let client = Grpc::connect(gateway.grpc).await;
    (gateway, client)
}

async fn call<Q, R>(client: &Grpc, method: &'static str, message: Q) -> Result<R, Status>
where
    Q: prost::Message + Send + Sync + 'static,
    R: prost::Message + Default + Send + Sync + 'static,
{
    client.call(method, Request::new(message)).await.map(Response::into_inner)
}

macro_rules! method {
    ($name:literal) => {
        concat!("/inference.GRPCInferenceService/", $name)
    };
}

async fn load(client: &Grpc, model: &str, parameters: &[(&str, ParameterChoice)]) -> Result<(), Status> {
    let parameter =
        |choice: &ParameterChoice| ModelRepositoryParameter { parameter_choice: Some(choice.clone()) };
    let parameters =
        parameters.iter().map(|(name, choice)| ((*name).to_owned(), parameter(choice))).collect();
    let message =
        RepositoryModelLoadRequest { model_name: model.to_owned(), parameters, ..Default::default() };
    call::<_, RepositoryModelLoadResponse>(client, method!("RepositoryModelLoad"), message).await.map(drop)
}

async fn states(client: &Grpc) -> Vec<(String, String, String)> {
    let index: RepositoryIndexResponse =
        call(client, method!("RepositoryIndex"), RepositoryIndexRequest::default()).await.expect("answered");
    index.models.into_iter().map(|row| (row.name, row.version, row.state)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_configuration_is_the_one_that_http_shows() {
    let (gateway, client) = start().await;
    let asked = ModelConfigRequest { name: "versions".to_owned(), version: String::new() };
    let config: ModelConfigResponse = call(&client, method!("ModelConfig"), asked).await.expect("answered");
    let config = config.config.expect("one");
    let over_http = gateway.client.get("/v2/models/versions/config").await.ok();
    assert_eq!(json!(config.name), over_http["name"]);
    assert_eq!(json!(config.max_batch_size), over_http["max_batch_size"]);
    assert_eq!(json!(config.input[0].name), over_http["input"][0]["name"]);
    assert_eq!(json!(config.input[0].data_type().as_str_name()), over_http["input"][0]["data_type"]);
    let asked = ModelConfigRequest { name: "nobody".to_owned(), version: String::new() };
    let missing = call::<_, ModelConfigResponse>(&client, method!("ModelConfig"), asked).await;
    assert_eq!(missing.expect_err("unknown").code(), Code::NotFound);
}

#[tokio::test(flavor = "multi_thread")]
async fn models_are_loaded_and_unloaded_over_grpc() {
    let (_gateway, client) = start().await;
    let is_ready = async |model: &str| {
        states(&client).await.iter().any(|(name, _, state)| name == model && state == "READY")
    };
    assert!(is_ready("simple").await && !is_ready("nobatch").await);
    load(&client, "nobatch", &[]).await.expect("loaded");
    assert!(is_ready("nobatch").await);
    load(&client, "nobody", &[]).await.expect_err("there is none");
    load(&client, "nobatch", &[("nonsense", ParameterChoice::BoolParam(true))]).await.expect_err("unknown");
    let config = json!({ "max_batch_size": 4 }).to_string();
    load(&client, "simple", &[("config", ParameterChoice::StringParam(config))]).await.expect("loaded");
    let asked = ModelConfigRequest { name: "simple".to_owned(), version: String::new() };
    let config: ModelConfigResponse = call(&client, method!("ModelConfig"), asked).await.expect("answered");
    assert_eq!(config.config.expect("one").max_batch_size, 4);
    let unload = RepositoryModelUnloadRequest { model_name: "nobatch".to_owned(), ..Default::default() };
    call::<_, RepositoryModelUnloadResponse>(&client, method!("RepositoryModelUnload"), unload)
        .await
        .expect("unloaded");
    assert!(!is_ready("nobatch").await);
}

#[tokio::test(flavor = "multi_thread")]
async fn classes_are_given_for_outputs_that_ask_for_them() {
    let (_gateway, client) = start().await;
    let scores: Vec<u8> = [0.1_f32, 0.7, 0.2, 0.0].iter().flat_map(|score| score.to_le_bytes()).collect();
    let mut request = request("classes", "INPUT0", "FP32", &[1, 4], scores);
    let choice = infer_parameter::ParameterChoice::Int64Param(1);
    let parameter = InferParameter { parameter_choice: Some(choice) };
    request.outputs = vec![InferRequestedOutputTensor {
        name: "OUTPUT0".to_owned(),
        parameters: [("classification".to_owned(), parameter)].into(),
    }];
    let answer = client.infer(request).await.expect("answered");
    assert_eq!((&*answer.outputs[0].datatype, &*answer.outputs[0].shape), ("BYTES", &[1_i64, 1][..]));
    let text = String::from_utf8_lossy(&answer.raw_output_contents[0][4..]).into_owned();
    assert!(text.starts_with("0.7") && text.contains(":1"), "{text}");
}
