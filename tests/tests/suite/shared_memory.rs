//! Tensors go through system shared memory as they would through the connection, over HTTP and gRPC.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use sluice::auth::token::NewToken;
use sluice_tests::client::Reply;
use sluice_tests::gateway::{self, Running};
use sluice_tests::grpc::inference::infer_parameter::ParameterChoice;
use sluice_tests::grpc::inference::model_infer_request::{InferInputTensor, InferRequestedOutputTensor};
use sluice_tests::grpc::inference::{
    CudaSharedMemoryRegisterRequest, CudaSharedMemoryRegisterResponse, CudaSharedMemoryStatusRequest,
    CudaSharedMemoryStatusResponse, InferParameter, ModelInferRequest, ModelStreamInferResponse,
    SystemSharedMemoryRegisterRequest, SystemSharedMemoryRegisterResponse, SystemSharedMemoryStatusRequest,
    SystemSharedMemoryStatusResponse, SystemSharedMemoryUnregisterRequest,
    SystemSharedMemoryUnregisterResponse,
};
use sluice_tests::grpc::{Grpc, STREAM, input};
use sluice_tests::models::{self, TYPES};
use tonic::{Code, Request};

const ON: &str = "[server.shared_memory]\nenabled = true\n";

/// Shared memory as a client makes it; it goes away with the test.
pub(crate) struct Memory {
    pub(crate) key: String,
    pub(crate) path: PathBuf,
}

impl Memory {
    pub(crate) fn new(content: &[u8]) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("sluice-suite-{}-{number}", std::process::id());
        let path = PathBuf::from("/dev/shm").join(&name);
        std::fs::write(&path, content).expect("written");
        Self { key: format!("/{name}"), path }
    }

    pub(crate) fn write(&self, offset: usize, data: &[u8]) {
        use std::os::unix::fs::FileExt as _;
        let file = std::fs::File::options().write(true).open(&self.path).expect("there");
        file.write_all_at(data, offset as u64).expect("written");
    }

    pub(crate) fn read(&self, offset: usize, length: usize) -> Vec<u8> {
        std::fs::read(&self.path).expect("there")[offset..offset + length].to_vec()
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// A gateway with shared memory and an echo for each data type.
pub(crate) async fn start(folder: &tempfile::TempDir, more: &str) -> Running {
    let mut config = format!("{ON}{more}");
    config += &models::echoes(folder.path());
    config +=
        "[models.add]\nengine = \"sim\"\nfile = \"{repo}/tests/models/add.sim.json\"\nmax_batch_size = 8\n";
    config += "[models.slow]\nengine = \"sim\"\nfile = \"{repo}/tests/models/slow.sim.json\"\n";
    gateway::start(&config).await
}

pub(crate) async fn register(
    gateway: &Running,
    region: &str,
    memory: &Memory,
    offset: u64,
    size: u64,
) -> Reply {
    let body = json!({ "key": memory.key, "offset": offset, "byte_size": size });
    let path = format!("/v2/systemsharedmemory/region/{region}/register");
    gateway.client.post(&path, body.to_string()).await
}

/// The parameters of a tensor that lies there.
pub(crate) fn at(region: &str, offset: u64, size: usize) -> Value {
    json!({ "shared_memory_region": region, "shared_memory_offset": offset, "shared_memory_byte_size": size })
}

/// The same over gRPC.
pub(crate) fn choices(
    region: &str,
    offset: i64,
    size: usize,
) -> std::collections::BTreeMap<String, InferParameter> {
    let number = |value| ParameterChoice::Int64Param(value);
    let size = i64::try_from(size).expect("small");
    [
        ("shared_memory_region", ParameterChoice::StringParam(region.to_owned())),
        ("shared_memory_offset", number(offset)),
        ("shared_memory_byte_size", number(size)),
    ]
    .into_iter()
    .map(|(name, choice)| (name.to_owned(), InferParameter { parameter_choice: Some(choice) }))
    .collect()
}

fn service(method: &str) -> &'static str {
    // A test's handful of strings.
    Box::leak(format!("/inference.GRPCInferenceService/{method}").into_boxed_str())
}

/// A request whose input and output lie in the region `r`.
pub(crate) fn in_region(model: &str, dtype: &str, offset: i64, size: usize, to: i64) -> ModelInferRequest {
    let x = InferInputTensor { parameters: choices("r", offset, size), ..input("x", dtype, &[1, 2]) };
    let y = InferRequestedOutputTensor { name: "y".to_owned(), parameters: choices("r", to, 64) };
    ModelInferRequest {
        model_name: model.to_owned(),
        inputs: vec![x],
        outputs: vec![y],
        ..Default::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_data_type_goes_through_shared_memory_unchanged() {
    let folder = tempfile::tempdir().expect("a folder");
    let gateway = start(&folder, "").await;
    let grpc = Grpc::connect(gateway.grpc).await;
    let memory = Memory::new(&[0xee; 4096]);
    assert_eq!(register(&gateway, "r", &memory, 1024, 2048).await.status, 200);
    for (dtype, _, packed) in TYPES {
        let model = dtype.to_lowercase();
        memory.write(1024 + 8, packed);
        for to in [256_u64, 512] {
            memory.write(1024 + 256, &[0xee; 512]);
            let written = if to == 256 {
                let request = json!({
                    "inputs": [{ "name": "x", "datatype": dtype, "shape": [1, 2], "parameters": at("r", 8, packed.len()) }],
                    "outputs": [{ "name": "y", "parameters": at("r", to, 64) }],
                });
                let answer = gateway.client.infer(&model, &request).await.ok();
                let output = json!({ "name": "y", "datatype": dtype, "shape": [1, 2] });
                assert_eq!(answer["outputs"], json!([output]), "{dtype}");
                to
            } else {
                let request = in_region(&model, dtype, 8, packed.len(), to.cast_signed());
                let answer = grpc.infer(request).await.expect("an answer");
                assert_eq!(answer.raw_output_contents, [bytes::Bytes::new()], "{dtype}");
                assert!(answer.outputs[0].parameters.is_empty() && answer.outputs[0].contents.is_none());
                to
            };
            let from = 1024 + usize::try_from(written).expect("small");
            assert_eq!(memory.read(from, packed.len()), packed, "{dtype}");
            assert_eq!(memory.read(from + packed.len(), 8), [0xee; 8], "{dtype}: nothing behind it");
        }
    }
    // Tensors in memory and others mix, in one request and one answer.
    memory.write(1024, &[1_i32, 2].map(i32::to_le_bytes).concat());
    let request = json!({
        "inputs": [
            { "name": "a", "datatype": "INT32", "shape": [1, 2], "parameters": at("r", 0, 8) },
            { "name": "b", "datatype": "INT32", "shape": [1, 2], "data": [3, 4] },
        ],
        "outputs": [{ "name": "s" }, { "name": "y", "parameters": at("r", 64, 8) }],
    });
    let answer = gateway.client.infer("add", &request).await.ok();
    assert_eq!(answer["outputs"][0]["data"], json!([7.0]));
    assert_eq!(answer["outputs"][1].get("data"), None);
    assert_eq!(memory.read(1024 + 64, 8), memory.read(1024, 8));
}

#[tokio::test(flavor = "multi_thread")]
async fn regions_are_registered_seen_and_forgotten_over_both_protocols() {
    let folder = tempfile::tempdir().expect("a folder");
    let gateway = start(&folder, "").await;
    let grpc = Grpc::connect(gateway.grpc).await;
    let memory = Memory::new(&[0; 128]);
    let extensions = gateway.client.get("/v2").await.ok();
    assert!(extensions["extensions"].as_array().expect("a list").contains(&json!("system_shared_memory")));
    assert_eq!(register(&gateway, "a%20name", &memory, 64, 64).await.status, 200);
    let other = SystemSharedMemoryRegisterRequest {
        name: "b".to_owned(),
        key: memory.key.clone(),
        offset: 0,
        byte_size: 8,
    };
    let path = service("SystemSharedMemoryRegister");
    let register_again =
        || grpc.call::<_, SystemSharedMemoryRegisterResponse>(path, Request::new(other.clone()));
    register_again().await.expect("registered");
    let taken = register_again().await.expect_err("taken");
    assert_eq!(
        (taken.code(), taken.message()),
        (Code::AlreadyExists, "shared memory region 'b' already in manager")
    );
    let taken = register(&gateway, "b", &memory, 64, 64).await;
    assert_eq!((taken.status.as_u16(), taken.code()), (409, "already_exists".to_owned()));
    let first = json!({ "name": "a name", "key": memory.key, "offset": 64, "byte_size": 64 });
    let second = json!({ "name": "b", "key": memory.key, "offset": 0, "byte_size": 8 });
    assert_eq!(gateway.client.get("/v2/systemsharedmemory/status").await.ok(), json!([first, second]));
    let one = gateway.client.get("/v2/systemsharedmemory/region/a%20name/status").await.ok();
    assert_eq!(one, json!([first]));
    let ask = |name: &str| {
        let request = Request::new(SystemSharedMemoryStatusRequest { name: name.to_owned() });
        grpc.call::<_, SystemSharedMemoryStatusResponse>(service("SystemSharedMemoryStatus"), request)
    };
    let all = ask("").await.expect("a status").into_inner().regions;
    assert_eq!(all.keys().collect::<Vec<_>>(), ["a name", "b"]);
    assert_eq!((&all["a name"].key, all["a name"].offset, all["a name"].byte_size), (&memory.key, 64, 64));
    assert_eq!(gateway.metric("sluice_shared_memory_regions", "").await, 2.0);
    assert_eq!(gateway.metric("sluice_shared_memory_bytes", "").await, 72.0);
    let forget = "/v2/systemsharedmemory/region/b/unregister";
    for _ in 0..2 {
        assert_eq!(gateway.client.post(forget, "").await.status, 200, "also when it is not there");
    }
    let unknown = gateway.client.get("/v2/systemsharedmemory/region/b/status").await;
    assert_eq!((unknown.status.as_u16(), unknown.code()), (404, "not_found".to_owned()));
    assert_eq!(ask("b").await.expect_err("forgotten").code(), Code::NotFound);
    let all = Request::new(SystemSharedMemoryUnregisterRequest::default());
    let path = service("SystemSharedMemoryUnregister");
    grpc.call::<_, SystemSharedMemoryUnregisterResponse>(path, all).await.expect("forgotten");
    assert_eq!(gateway.client.get("/v2/systemsharedmemory/status").await.ok(), json!([]));
    assert_eq!(gateway.metric("sluice_shared_memory_bytes", "").await, 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_write_into_shared_memory_too() {
    let folder = tempfile::tempdir().expect("a folder");
    let gateway = start(&folder, "").await;
    let grpc = Grpc::connect(gateway.grpc).await;
    let memory = Memory::new(&[7; 256]);
    assert_eq!(register(&gateway, "r", &memory, 0, 256).await.status, 200);
    let requests = vec![in_region("uint8", "UINT8", 0, 2, 64), in_region("uint8", "UINT8", 0, 3, 128)];
    let answers =
        grpc.stream::<_, ModelStreamInferResponse>(STREAM, futures_util::stream::iter(requests)).await;
    let mut answers = answers.expect("a stream").into_inner();
    memory.write(64, &[0; 192]);
    let first = answers.message().await.expect("a message").expect("an answer");
    let response = first.infer_response.expect("a response");
    assert_eq!(
        (&*response.outputs[0].name, &*response.raw_output_contents),
        ("y", &[bytes::Bytes::new()][..])
    );
    let second = answers.message().await.expect("a message").expect("an answer");
    assert!(second.error_message.contains("input 'x'"), "{}", second.error_message);
    assert_eq!(memory.read(128, 2), [0, 0], "a request that was refused writes nothing");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_setting_memory_is_refused_and_none_is_registered() {
    let gateway =
        gateway::start("[models.wide]\nengine = \"sim\"\nfile = \"{repo}/tests/models/wide.sim.json\"\n")
            .await;
    let grpc = Grpc::connect(gateway.grpc).await;
    let memory = Memory::new(&[0; 64]);
    let refused = register(&gateway, "r", &memory, 0, 64).await;
    assert_eq!((refused.status.as_u16(), refused.code()), (501, "unsupported".to_owned()));
    let input = json!({ "name": "x", "datatype": "FP32", "shape": [1, 4], "parameters": at("r", 0, 16) });
    assert_eq!(gateway.client.infer("wide", &json!({ "inputs": [input] })).await.status, 501);
    let data = json!({ "name": "x", "datatype": "FP32", "shape": [1, 4], "data": [1, 2, 3, 4] });
    let output = json!({ "name": "y", "parameters": at("r", 0, 16) });
    let refused = gateway.client.infer("wide", &json!({ "inputs": [data], "outputs": [output] })).await;
    assert_eq!(refused.status, 501);
    let error = grpc.infer(in_region("wide", "FP32", 0, 8, 16)).await.expect_err("off");
    assert_eq!(error.code(), Code::Unimplemented);
    assert_eq!(gateway.client.get("/v2/systemsharedmemory/status").await.ok(), json!([]));
    assert_eq!(gateway.client.get("/v2/systemsharedmemory/region/r/status").await.status, 404);
    assert_eq!(gateway.client.post("/v2/systemsharedmemory/unregister", "").await.status, 200);
    let server = gateway.client.get("/v2").await.ok();
    assert!(!server["extensions"].to_string().contains("shared_memory"), "{server}");
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_of_devices_is_said_to_be_none() {
    let folder = tempfile::tempdir().expect("a folder");
    let gateway = start(&folder, "").await;
    let grpc = Grpc::connect(gateway.grpc).await;
    assert_eq!(gateway.client.get("/v2/cudasharedmemory/status").await.ok(), json!([]));
    assert_eq!(gateway.client.get("/v2/cudasharedmemory/region/r/status").await.status, 404);
    for path in ["/v2/cudasharedmemory/unregister", "/v2/cudasharedmemory/region/r/unregister"] {
        assert_eq!(gateway.client.post(path, "").await.status, 200, "{path}");
    }
    let body = json!({ "raw_handle": { "b64": "AAAA" }, "device_id": 0, "byte_size": 64 });
    let refused = gateway.client.post("/v2/cudasharedmemory/region/r/register", body.to_string()).await;
    assert_eq!((refused.status.as_u16(), refused.code()), (501, "unsupported".to_owned()));
    let path = service("CudaSharedMemoryRegister");
    let request = Request::new(CudaSharedMemoryRegisterRequest::default());
    let refused = grpc.call::<_, CudaSharedMemoryRegisterResponse>(path, request).await.expect_err("refused");
    assert_eq!(refused.code(), Code::Unimplemented);
    let ask = |name: &str| {
        let request = Request::new(CudaSharedMemoryStatusRequest { name: name.to_owned() });
        grpc.call::<_, CudaSharedMemoryStatusResponse>(service("CudaSharedMemoryStatus"), request)
    };
    assert!(ask("").await.expect("a status").into_inner().regions.is_empty());
    assert_eq!(ask("r").await.expect_err("there is none").code(), Code::NotFound);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_region_stays_with_the_requests_that_use_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let gateway = start(&folder, "").await;
    let memory = Memory::new(&[1; 64]);
    let kept = std::fs::File::open(&memory.path).expect("there");
    assert_eq!(register(&gateway, "r", &memory, 0, 64).await.status, 200);
    let request = json!({
        "inputs": [{ "name": "x", "datatype": "INT64", "shape": [1, 2], "parameters": at("r", 0, 16) }],
        "outputs": [{ "name": "y", "parameters": at("r", 32, 16) }],
    });
    let client = gateway.client.clone();
    let asked = tokio::spawn({
        let request = request.clone();
        async move { client.infer("slow", &request).await }
    });
    // The model takes 50 ms.
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert_eq!(gateway.client.post("/v2/systemsharedmemory/unregister", "").await.status, 200);
    drop(memory);
    assert_eq!(asked.await.expect("no panic").status, 200);
    let mut written = [0; 16];
    std::os::unix::fs::FileExt::read_exact_at(&kept, &mut written, 32).expect("still there");
    assert_eq!(written, [1; 16]);
    assert_eq!(gateway.client.infer("slow", &request).await.status, 404, "nobody else finds it");
}

#[tokio::test(flavor = "multi_thread")]
async fn regions_are_their_owners_own() {
    let folder = tempfile::tempdir().expect("a folder");
    let tokens = [NewToken::generate().expect("random"), NewToken::generate().expect("random")];
    let mut more = String::from("[server]\npredict_needs_token = true\n");
    for (name, token) in ["a", "b"].iter().zip(&tokens) {
        more += &format!("[tokens.{name}]\nhash = \"{}\"\nscopes = [\"predict\"]\n", token.hash());
    }
    let gateway = start(&folder, &more).await;
    let memory = Memory::new(&[1; 64]);
    let send = async |token: usize, method: &str, path: &str, body: Value| {
        let bearer = format!("Bearer {}", tokens[token].reveal());
        let method = method.parse().expect("a method");
        let headers = [("authorization", &*bearer)];
        gateway.client.try_send(method, path, &headers, body.to_string()).await.expect("an answer")
    };
    let register = "/v2/systemsharedmemory/region/r/register";
    let segment = json!({ "key": memory.key, "byte_size": 64 });
    assert_eq!(send(0, "POST", register, segment.clone()).await.status, 200);
    let status = "/v2/systemsharedmemory/status";
    assert_eq!(send(1, "GET", status, json!({})).await.ok(), json!([]));
    let input = json!({ "name": "x", "datatype": "UINT8", "shape": [1, 2], "parameters": at("r", 0, 2) });
    let request = json!({ "inputs": [input] });
    let infer = "/v2/models/uint8/infer";
    assert_eq!(send(0, "POST", infer, request.clone()).await.status, 200);
    assert_eq!(send(1, "POST", infer, request.clone()).await.status, 404);
    assert_eq!(send(1, "POST", "/v2/systemsharedmemory/unregister", json!({})).await.status, 200);
    assert_eq!(send(0, "POST", infer, request).await.status, 200, "another's cannot be forgotten");
    assert_eq!(send(1, "POST", register, segment).await.status, 200, "names are each owner's own");
}
