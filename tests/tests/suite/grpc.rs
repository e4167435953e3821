//! The inference service over gRPC: a client that is not ours gets what it gets over HTTP.

use serde_json::json;
use sluice::auth::Access;
use sluice::auth::token::NewToken;
use sluice::ingress::grpc::METHODS;
use sluice_tests::gateway::{self, Running};
use sluice_tests::grpc::inference::infer_parameter::ParameterChoice;
use sluice_tests::grpc::inference::{
    InferParameter, InferTensorContents, ModelInferRequest, ModelMetadataRequest, ModelMetadataResponse,
    ModelReadyRequest, ModelReadyResponse, ModelStatisticsRequest, ModelStatisticsResponse,
    ServerLiveRequest, ServerLiveResponse, ServerMetadataRequest, ServerMetadataResponse, ServerReadyRequest,
    ServerReadyResponse,
};
use sluice_tests::grpc::{self, Grpc, INFER, code, health, int64, reflection, request};
use tonic::{Code, Request};

const SERVICE: &str = "/inference.GRPCInferenceService";

fn path(method: &str) -> &'static str {
    // A test's handful of strings.
    Box::leak(format!("{SERVICE}/{method}").into_boxed_str())
}

/// A model that echoes its one input, for each data type.
fn echoes(folder: &std::path::Path) -> String {
    let datatypes = [
        "BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64", "FP16", "BF16",
        "FP32", "FP64", "BYTES",
    ];
    let mut config = String::new();
    for datatype in datatypes {
        let file = folder.join(format!("{datatype}.sim.json"));
        let model = json!({
            "inputs": [{ "name": "x", "dtype": datatype, "dims": [-1, 2] }],
            "outputs": [{ "name": "y", "rule": "echo", "from": "x" }],
        });
        std::fs::write(&file, model.to_string()).expect("written");
        config += &format!("[models.echo-{datatype}]\nengine = \"sim\"\nfile = \"{}\"\n", file.display());
    }
    config
}

/// Two elements of each data type: raw, and typed where they can be.
fn cases() -> [(&'static str, Vec<u8>, Option<InferTensorContents>); 14] {
    let contents = InferTensorContents::default();
    [
        (
            "BOOL",
            vec![1, 0],
            Some(InferTensorContents { bool_contents: vec![true, false], ..contents.clone() }),
        ),
        (
            "UINT8",
            vec![7, 255],
            Some(InferTensorContents { uint_contents: vec![7, 255], ..contents.clone() }),
        ),
        (
            "UINT16",
            vec![1, 2, 255, 255],
            Some(InferTensorContents { uint_contents: vec![513, 65_535], ..contents.clone() }),
        ),
        (
            "UINT32",
            vec![1, 0, 0, 0, 255, 255, 255, 255],
            Some(InferTensorContents { uint_contents: vec![1, u32::MAX], ..contents.clone() }),
        ),
        (
            "UINT64",
            [1_u64, u64::MAX].iter().flat_map(|n| n.to_le_bytes()).collect(),
            Some(InferTensorContents { uint64_contents: vec![1, u64::MAX], ..contents.clone() }),
        ),
        (
            "INT8",
            vec![127, 128],
            Some(InferTensorContents { int_contents: vec![127, -128], ..contents.clone() }),
        ),
        (
            "INT16",
            [-2_i16, 300].iter().flat_map(|n| n.to_le_bytes()).collect(),
            Some(InferTensorContents { int_contents: vec![-2, 300], ..contents.clone() }),
        ),
        (
            "INT32",
            [i32::MIN, -1].iter().flat_map(|n| n.to_le_bytes()).collect(),
            Some(InferTensorContents { int_contents: vec![i32::MIN, -1], ..contents.clone() }),
        ),
        (
            "INT64",
            int64(&[i64::MIN, 5]),
            Some(InferTensorContents { int64_contents: vec![i64::MIN, 5], ..contents.clone() }),
        ),
        ("FP16", vec![0, 60, 0, 188], None),
        ("BF16", vec![128, 63, 128, 191], None),
        (
            "FP32",
            [1.5_f32, f32::NAN].iter().flat_map(|n| n.to_le_bytes()).collect(),
            Some(InferTensorContents { fp32_contents: vec![1.5, f32::NAN], ..contents.clone() }),
        ),
        (
            "FP64",
            [1.5_f64, f64::INFINITY].iter().flat_map(|n| n.to_le_bytes()).collect(),
            Some(InferTensorContents { fp64_contents: vec![1.5, f64::INFINITY], ..contents.clone() }),
        ),
        (
            "BYTES",
            vec![1, 0, 0, 0, b'a', 0, 0, 0, 0],
            Some(InferTensorContents { bytes_contents: vec!["a".into(), "".into()], ..contents }),
        ),
    ]
}

async fn start() -> (Running, Grpc) {
    let gateway = gateway::start(
        r#"
        [models.words]
        engine = "sim"
        file = "{repo}/tests/models/words.sim.json"
        [models.marker]
        engine = "sim"
        file = "{repo}/tests/models/marker.sim.json"
        max_batch_size = 4096
        [models.slow]
        engine = "sim"
        file = "{repo}/tests/models/slow.sim.json"
        [plugins.echo]
        file = "{repo}/tests/guests/dist/echo.wasm"
        [models.wide]
        engine = "sim"
        file = "{repo}/tests/models/wide.sim.json"
        [pipelines.echoing]
        pre = "echo"
        model = "wide"
    "#,
    )
    .await;
    let client = Grpc::connect(gateway.grpc).await;
    (gateway, client)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_datatype_comes_raw_and_typed_and_goes_back_as_it_came() {
    let folder = tempfile::tempdir().expect("a folder");
    let gateway = gateway::start(&echoes(folder.path())).await;
    let client = Grpc::connect(gateway.grpc).await;
    for (datatype, raw, typed) in cases() {
        let mut request = request(&format!("echo-{datatype}"), "x", datatype, &[1, 2], raw.clone());
        let answer =
            client.infer(request.clone()).await.unwrap_or_else(|error| panic!("{datatype}: {error}"));
        assert_eq!(answer.raw_output_contents[0], raw, "{datatype}");
        let output = &answer.outputs[0];
        assert_eq!((&*output.name, &*output.datatype, &*output.shape), ("y", datatype, &[1_i64, 2][..]));
        assert!(output.contents.is_none());
        request.raw_input_contents.clear();
        request.inputs[0].contents = typed.clone();
        match (typed, client.infer(request).await) {
            (Some(_), answer) => {
                assert_eq!(answer.expect("answered").raw_output_contents, [raw], "{datatype}")
            }
            (None, refused) => assert_eq!(refused.expect_err("raw only").code(), Code::InvalidArgument),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ids_versions_wanted_outputs_and_large_tensors_are_answered_as_over_http() {
    let (_gateway, client) = start().await;
    let rows = 4096;
    let data = int64(&(0..2 * rows).collect::<Vec<i64>>());
    let mut request = request("marker", "x", "INT64", &[rows, 2], data.clone());
    request.id = "mine".to_owned();
    request.model_version = "1".to_owned();
    request.outputs = vec![grpc::inference::model_infer_request::InferRequestedOutputTensor {
        name: "y".to_owned(),
        ..Default::default()
    }];
    for client in [client.clone(), client.clone().with_gzip()] {
        let answer = client.infer(request.clone()).await.expect("answered");
        assert_eq!((&*answer.model_name, &*answer.model_version, &*answer.id), ("marker", "1", "mine"));
        assert_eq!(answer.outputs.len(), 1);
        assert_eq!(answer.raw_output_contents[0], data);
    }
    let packed = client.clone().with_gzip();
    let answer = packed.call::<_, grpc::inference::ModelInferResponse>(INFER, Request::new(request.clone()));
    assert_eq!(answer.await.expect("answered").metadata().get("grpc-encoding").expect("packed"), "gzip");
    request.outputs[0].name = "nothing".to_owned();
    let refused = client.infer(request.clone()).await.expect_err("no such output");
    assert_eq!(refused.code(), Code::InvalidArgument);
    request.model_version = "7".to_owned();
    let refused = client.infer(request.clone()).await.expect_err("no such version");
    assert_eq!((refused.code(), code(refused.metadata())), (Code::NotFound, "not_found"));
    assert!(refused.message().starts_with("Request for unknown model"), "{}", refused.message());
    for (version, words) in [("x", "version string 'x' (details: stol)"), ("-1", "specified '-1' ,")] {
        request.model_version = version.to_owned();
        let refused = client.infer(request.clone()).await.expect_err("no version");
        assert_eq!(refused.code(), Code::InvalidArgument);
        assert!(refused.message().contains(words), "{}", refused.message());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pipeline_with_plugins_takes_a_raw_body() {
    let (gateway, client) = start().await;
    let body = json!({"n": 2}).to_string();
    let over_http = gateway.client.predict("echoing", &json!({"n": 2})).await;
    let mut raw = u32::try_from(body.len()).expect("short").to_le_bytes().to_vec();
    raw.extend_from_slice(body.as_bytes());
    let answer = client.infer(request("echoing", "body", "BYTES", &[1], raw)).await;
    assert_eq!(answer.is_ok(), over_http.status.is_success(), "{answer:?} {over_http:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_server_and_its_models_describe_themselves() {
    let (gateway, client) = start().await;
    let live: ServerLiveResponse =
        client.call(path("ServerLive"), Request::new(ServerLiveRequest {})).await.expect("live").into_inner();
    let ready: ServerReadyResponse = client
        .call(path("ServerReady"), Request::new(ServerReadyRequest {}))
        .await
        .expect("ready")
        .into_inner();
    assert!(live.live && ready.ready);
    let server: ServerMetadataResponse = client
        .call(path("ServerMetadata"), Request::new(ServerMetadataRequest {}))
        .await
        .expect("answered")
        .into_inner();
    let over_http = gateway.client.get("/v2").await.ok();
    assert_eq!(
        (json!(server.name), json!(server.version)),
        (over_http["name"].clone(), over_http["version"].clone())
    );
    assert_eq!(json!(server.extensions), over_http["extensions"]);
    let named = |name: &str, version: &str| ModelMetadataRequest {
        name: name.to_owned(),
        version: version.to_owned(),
    };
    let model: ModelMetadataResponse = client
        .call(path("ModelMetadata"), Request::new(named("marker", "")))
        .await
        .expect("answered")
        .into_inner();
    let over_http = gateway.client.get("/v2/models/marker").await.ok();
    assert_eq!(json!(model.inputs[0].shape), over_http["inputs"][0]["shape"]);
    assert_eq!(
        (json!(model.platform), json!(model.versions)),
        (over_http["platform"].clone(), over_http["versions"].clone())
    );
    for (name, version) in [("nobody", ""), ("marker", "9")] {
        let answer = client
            .call::<_, ModelMetadataResponse>(path("ModelMetadata"), Request::new(named(name, version)));
        assert_eq!(answer.await.expect_err("unknown").code(), Code::NotFound);
    }
    let ready = Request::new(ModelReadyRequest { name: "echoing".to_owned(), version: String::new() });
    let ready: ModelReadyResponse = client.call(path("ModelReady"), ready).await.expect("ready").into_inner();
    assert!(ready.ready);
    client.infer(request("marker", "x", "INT64", &[1, 2], int64(&[1, 2]))).await.expect("answered");
    let asked = Request::new(ModelStatisticsRequest { name: "marker".to_owned(), version: String::new() });
    let counted: ModelStatisticsResponse =
        client.call(path("ModelStatistics"), asked).await.expect("answered").into_inner();
    let counted = &counted.model_stats[0];
    assert_eq!((&*counted.name, counted.inference_count), ("marker", 1));
    assert_eq!(counted.inference_stats.as_ref().and_then(|all| all.success).expect("counted").count, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn health_is_of_the_server_the_service_and_each_model_and_is_watched_to_the_end() {
    let (mut gateway, client) = start().await;
    const CHECK: &str = "/grpc.health.v1.Health/Check";
    let check = |service: &str| {
        let client = client.clone();
        let request = Request::new(health::HealthCheckRequest { service: service.to_owned() });
        async move { client.call::<_, health::HealthCheckResponse>(CHECK, request).await }
    };
    for service in ["", "inference.GRPCInferenceService", "marker", "echoing"] {
        assert_eq!(check(service).await.expect("known").into_inner().status, 1, "{service}");
    }
    assert_eq!(check("nobody").await.expect_err("unknown").code(), Code::NotFound);
    let watch = |service: &str| {
        let client = client.clone();
        let request = health::HealthCheckRequest { service: service.to_owned() };
        async move {
            let requests = Request::new(futures_util::stream::iter([request]));
            client.stream::<_, health::HealthCheckResponse>("/grpc.health.v1.Health/Watch", requests).await
        }
    };
    let mut unknown = watch("nobody").await.expect("open").into_inner();
    assert_eq!(unknown.message().await.expect("a state").expect("a state").status, 3);
    let mut whole = watch("").await.expect("open").into_inner();
    assert_eq!(whole.message().await.expect("a state").expect("a state").status, 1);
    let stopped = gateway.stop();
    // Either it is told that the server leaves, or that it has left.
    let mut last = whole.message().await;
    while let Ok(Some(state)) = &last {
        assert_eq!(state.status, 2);
        last = whole.message().await;
    }
    assert_eq!(last.expect_err("ended").code(), Code::Unavailable);
    stopped.await.expect("stopped");
}

#[tokio::test(flavor = "multi_thread")]
async fn reflection_lists_the_services_and_gives_their_files() {
    use reflection::server_reflection_request::MessageRequest;
    use reflection::server_reflection_response::MessageResponse;
    let (_gateway, client) = start().await;
    let ask = |question| reflection::ServerReflectionRequest {
        host: "h".to_owned(),
        message_request: Some(question),
    };
    for path in [
        "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
        "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
    ] {
        let questions = [
            ask(MessageRequest::ListServices(String::new())),
            ask(MessageRequest::FileContainingSymbol("inference.GRPCInferenceService".to_owned())),
            ask(MessageRequest::FileByFilename("health.proto".to_owned())),
            ask(MessageRequest::FileContainingSymbol("no.Such".to_owned())),
        ];
        let requests = Request::new(futures_util::stream::iter(questions));
        let answers = client.stream::<_, reflection::ServerReflectionResponse>(path, requests).await;
        let mut answers = answers.expect("open").into_inner();
        let mut next =
            async || answers.message().await.expect("an answer").and_then(|answer| answer.message_response);
        let Some(MessageResponse::ListServicesResponse(list)) = next().await else { panic!("no list") };
        let names: Vec<&str> = list.service.iter().map(|service| &*service.name).collect();
        assert!(
            names.contains(&"inference.GRPCInferenceService") && names.contains(&"grpc.health.v1.Health")
        );
        let Some(MessageResponse::FileDescriptorResponse(files)) = next().await else { panic!("no files") };
        assert_eq!(files.file_descriptor_proto.len(), 2, "the file and what it imports");
        let Some(MessageResponse::FileDescriptorResponse(files)) = next().await else { panic!("no file") };
        assert_eq!(files.file_descriptor_proto.len(), 1);
        let Some(MessageResponse::ErrorResponse(error)) = next().await else { panic!("no error") };
        assert_eq!(error.error_code, 5);
        assert!(next().await.is_none(), "the stream has ended");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn metadata_carries_ids_deadlines_and_parameters() {
    let (_gateway, client) = start().await;
    let message = request("slow", "x", "INT64", &[1, 2], int64(&[1, 2]));
    let mut request = Request::new(message.clone());
    request.metadata_mut().insert("x-request-id", "r-77".parse().expect("ascii"));
    let answer =
        client.call::<_, grpc::inference::ModelInferResponse>(INFER, request).await.expect("answered");
    assert_eq!(answer.metadata().get("x-request-id").expect("echoed"), "r-77");
    let with = |name: &str, choice| {
        let parameter = InferParameter { parameter_choice: Some(choice) };
        ModelInferRequest { parameters: [(name.to_owned(), parameter)].into(), ..message.clone() }
    };
    for choice in [ParameterChoice::Int64Param(1), ParameterChoice::Uint64Param(1)] {
        client.infer(with("timeout", choice)).await.expect("a time in a queue that has no timeout");
    }
    let refused = client.infer(with("timeout", ParameterChoice::StringParam("x".to_owned()))).await;
    assert_eq!(refused.expect_err("no number").code(), Code::InvalidArgument);
    client.infer(with("custom", ParameterChoice::DoubleParam(0.5))).await.expect("not ours");
    let asked = with("triton_enable_empty_final_response", ParameterChoice::BoolParam(true));
    client.infer(asked).await.expect("the one reserved name that clients may use");
    let refused = client.infer(with("triton_x", ParameterChoice::BoolParam(true))).await;
    assert_eq!(refused.expect_err("reserved").code(), Code::InvalidArgument);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_needed_where_predictions_need_one_and_health_needs_none() {
    let (good, other) = (NewToken::generate().expect("random"), NewToken::generate().expect("random"));
    let config = format!(
        "[server]\npredict_needs_token = true\n[tokens.good]\nhash = \"{}\"\nscopes = [\"predict\"]\n\
         [tokens.other]\nhash = \"{}\"\nscopes = [\"metrics\"]\n\
         [models.marker]\nengine = \"sim\"\nfile = \"{{repo}}/tests/models/marker.sim.json\"\n",
        good.hash(),
        other.hash()
    );
    let gateway = gateway::start_guarded(&config).await;
    let client = Grpc::connect(gateway.grpc).await;
    let call = async |token: Option<&str>| {
        let mut request = Request::new(request("marker", "x", "INT64", &[1, 2], int64(&[1, 2])));
        if let Some(token) = token {
            let token = format!("Bearer {token}").parse().expect("ascii");
            request.metadata_mut().insert("authorization", token);
        }
        let answer = client.call::<_, grpc::inference::ModelInferResponse>(INFER, request).await;
        answer.map_or_else(|status| status.code(), |_| Code::Ok)
    };
    assert_eq!(call(None).await, Code::Unauthenticated);
    assert_eq!(call(Some("nonsense")).await, Code::Unauthenticated);
    assert_eq!(call(Some(other.reveal())).await, Code::PermissionDenied);
    assert_eq!(call(Some(good.reveal())).await, Code::Ok);
    let request = Request::new(health::HealthCheckRequest::default());
    let health = client.call::<_, health::HealthCheckResponse>("/grpc.health.v1.Health/Check", request).await;
    assert_eq!(health.expect("open to everybody").into_inner().status, 1);
    // What is no method looks the same to strangers as what is one.
    let unknown = client
        .call::<_, ServerLiveResponse>(
            "/inference.GRPCInferenceService/Nothing",
            Request::new(ServerLiveRequest {}),
        )
        .await;
    assert_eq!(unknown.expect_err("no token").code(), Code::Unauthenticated);
    // Every method but the public ones asks.
    for rpc in METHODS.iter().filter(|rpc| !rpc.path.ends_with("/Watch")) {
        let answer = client.call::<_, ServerLiveResponse>(rpc.path, Request::new(ServerLiveRequest {})).await;
        let is_public = rpc.access == Access::Public;
        let code = answer.map_or_else(|status| status.code(), |_| Code::Ok);
        assert_eq!(code == Code::Unauthenticated, !is_public, "{}: {code:?}", rpc.path);
    }
}
