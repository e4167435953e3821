//! Whoever shares memory with the gateway can hurt their own request, and nothing else.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use http::Method;
use serde_json::{Value, json};
use sluice_tests::gateway::Running;
use sluice_tests::grpc::Grpc;
use sluice_tests::grpc::inference::InferParameter;
use sluice_tests::grpc::inference::infer_parameter::ParameterChoice;
use tonic::Code;

use crate::shared_memory::{Memory, at, choices, in_region, register, start};

/// A request of two UINT8 elements from memory, into memory.
fn uint8(input: Value, output: Value) -> Value {
    json!({
        "inputs": [{ "name": "x", "datatype": "UINT8", "shape": [1, 2], "parameters": input }],
        "outputs": [{ "name": "y", "parameters": output }],
    })
}

async fn answers(gateway: &Running) {
    let request =
        json!({ "inputs": [{ "name": "x", "datatype": "UINT8", "shape": [1, 2], "data": [1, 2] }] });
    assert_eq!(gateway.client.infer("uint8", &request).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn places_that_make_no_sense_are_refused_and_nothing_is_written() {
    let folder = tempfile::tempdir().expect("a folder");
    let gateway = start(&folder, "").await;
    let memory = Memory::new(&[7; 256]);
    assert_eq!(register(&gateway, "r", &memory, 64, 128).await.status, 200);
    let region = |name: &str, value: Value| {
        let mut place = at("r", 0, 2);
        place[name] = value;
        place
    };
    let (size, offset) = ("shared_memory_byte_size", "shared_memory_offset");
    for (place, status) in [
        (at("nobody", 0, 2), 404),
        (at("", 0, 2), 404),
        (at("../r", 0, 2), 404),
        (region("shared_memory_region", json!(1)), 400),
        (at("r", 127, 2), 400),
        (at("r", 128, 0), 400),
        (at("r", u64::MAX, 2), 400),
        (at("r", u64::MAX - 1, 2), 400),
        (region(size, json!(u64::MAX)), 400),
        (region(size, json!(1)), 400),
        (region(size, json!(0)), 400),
        (region(size, json!(-1)), 400),
        (region(size, json!("2")), 400),
        (region(size, json!(2.5)), 400),
        (region(size, json!(1e300)), 400),
        (region(size, json!(null)), 400),
        (region(size, json!([2])), 400),
        (region(offset, json!(-1)), 400),
        (region(offset, json!(true)), 400),
        (json!({ "shared_memory_region": "r" }), 400),
        (json!({ "shared_memory_byte_size": 2 }), 400),
        (json!({ "shared_memory_offset": 2 }), 400),
    ] {
        for request in [uint8(place.clone(), at("r", 64, 2)), uint8(at("r", 0, 2), place.clone())] {
            let reply = gateway.client.infer("uint8", &request).await;
            assert_eq!(reply.status, status, "{request}: {}", reply.json());
        }
    }
    let classes = json!({ "classification": 1 });
    for (more, input) in
        [(json!({ "binary_data": true }), false), (classes, false), (json!({ "binary_data_size": 2 }), true)]
    {
        let mut place = at("r", 0, 2);
        let more = more.as_object().expect("an object").iter();
        more.for_each(|(name, value)| place[name] = value.clone());
        let request = if input { uint8(place, at("r", 64, 2)) } else { uint8(at("r", 0, 2), place) };
        let reply = gateway.client.infer("uint8", &request).await;
        assert_eq!(reply.status, 400, "{request}");
        assert!(reply.json()["error"].as_str().expect("text").contains("shared_memory_region"));
    }
    let mut twice = uint8(at("r", 0, 2), at("r", 64, 2));
    twice["inputs"][0]["data"] = json!([1, 2]);
    assert_eq!(gateway.client.infer("uint8", &twice).await.status, 400, "data and memory");
    assert_eq!(memory.read(0, 256), [7; 256], "nothing was written");
    answers(&gateway).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn places_that_make_no_sense_are_refused_over_grpc_too() {
    let folder = tempfile::tempdir().expect("a folder");
    let gateway = start(&folder, "").await;
    let grpc = Grpc::connect(gateway.grpc).await;
    let memory = Memory::new(&[7; 256]);
    assert_eq!(register(&gateway, "r", &memory, 64, 128).await.status, 200);
    let with = |name: &str, choice: ParameterChoice| {
        let mut place = choices("r", 0, 2);
        place.insert(format!("shared_memory_{name}"), InferParameter { parameter_choice: Some(choice) });
        place
    };
    for (place, code) in [
        (choices("nobody", 0, 2), Code::NotFound),
        (choices("r", 127, 2), Code::InvalidArgument),
        (choices("r", -1, 2), Code::InvalidArgument),
        (choices("r", i64::MAX, 2), Code::InvalidArgument),
        (choices("r", 0, 1), Code::InvalidArgument),
        (with("region", ParameterChoice::Int64Param(1)), Code::InvalidArgument),
        (with("byte_size", ParameterChoice::Uint64Param(u64::MAX)), Code::InvalidArgument),
        (with("byte_size", ParameterChoice::StringParam("2".to_owned())), Code::InvalidArgument),
        (with("offset", ParameterChoice::BoolParam(true)), Code::InvalidArgument),
        (with("offset", ParameterChoice::DoubleParam(0.0)), Code::InvalidArgument),
    ] {
        let whole = in_region("uint8", "UINT8", 0, 2, 64);
        let (mut input, mut output) = (whole.clone(), whole);
        input.inputs[0].parameters = place.clone();
        output.outputs[0].parameters = place.clone();
        for request in [input, output] {
            let error = grpc.infer(request).await.expect_err("refused");
            assert_eq!(error.code(), code, "{place:?}: {}", error.message());
        }
    }
    let whole = in_region("uint8", "UINT8", 0, 2, 64);
    let mut raw = whole.clone();
    raw.raw_input_contents = vec![vec![1, 2].into()];
    let mut contents = whole.clone();
    contents.inputs[0].contents.get_or_insert_default().uint_contents = vec![1, 2];
    let mut classes = whole.clone();
    let one = InferParameter { parameter_choice: Some(ParameterChoice::Int64Param(1)) };
    classes.outputs[0].parameters.insert("classification".to_owned(), one);
    for request in [raw, contents, classes] {
        assert_eq!(grpc.infer(request).await.expect_err("refused").code(), Code::InvalidArgument);
    }
    assert_eq!(memory.read(0, 256), [7; 256], "nothing was written");
    assert!(grpc.infer(whole).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn all_outputs_have_room_or_none_is_written() {
    let folder = tempfile::tempdir().expect("a folder");
    let gateway = start(&folder, "").await;
    let memory = Memory::new(&[7; 64]);
    assert_eq!(register(&gateway, "r", &memory, 0, 64).await.status, 200);
    let input = |name: &str| json!({ "name": name, "datatype": "INT32", "shape": [1, 2], "data": [1, 2] });
    let outputs = json!([
        { "name": "y", "parameters": at("r", 0, 8) },
        { "name": "s", "parameters": at("r", 32, 3) },
    ]);
    let request = json!({ "inputs": [input("a"), input("b")], "outputs": outputs });
    let reply = gateway.client.infer("add", &request).await;
    assert_eq!(reply.status, 400);
    let told = "shared memory size specified with the request for output 's' (3 bytes) should be at least";
    assert!(reply.json()["error"].as_str().expect("text").starts_with(told), "{}", reply.json());
    assert_eq!(memory.read(0, 64), [7; 64]);
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_that_is_cut_short_fails_its_request_only() {
    let folder = tempfile::tempdir().expect("a folder");
    let gateway = start(&folder, "").await;
    let memory = Memory::new(&[7; 8192]);
    assert_eq!(register(&gateway, "r", &memory, 0, 8192).await.status, 200);
    let file = std::fs::File::options().write(true).open(&memory.path).expect("there");
    file.set_len(4000).expect("cut");
    for request in [uint8(at("r", 3999, 2), at("r", 0, 2)), uint8(at("r", 0, 2), at("r", 3999, 2))] {
        let reply = gateway.client.infer("uint8", &request).await;
        assert_eq!((reply.status.as_u16(), reply.code()), (400, "bad_request".to_owned()), "{request}");
    }
    assert_eq!(file.metadata().expect("there").len(), 4000, "it is not made longer again");
    file.set_len(0).expect("cut");
    assert_eq!(gateway.client.infer("uint8", &uint8(at("r", 0, 2), at("r", 4, 2))).await.status, 400);
    answers(&gateway).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_changed_while_it_is_read_is_valid_or_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let gateway = start(&folder, "").await;
    let memory = Arc::new(Memory::new(&[0; 4096]));
    assert_eq!(register(&gateway, "r", &memory, 0, 4096).await.status, 200);
    let stop = Arc::new(AtomicBool::new(false));
    let writer = std::thread::spawn({
        let (memory, stop) = (Arc::clone(&memory), Arc::clone(&stop));
        move || {
            let (good, bad) = ([4, 0, 0, 0, b'a', b'b', b'c', b'd', 0, 0, 0, 0], [0xff; 12]);
            while !stop.load(Ordering::Relaxed) {
                memory.write(0, &good);
                memory.write(0, &bad);
            }
        }
    });
    let request = json!({
        "inputs": [{ "name": "x", "datatype": "BYTES", "shape": [1, 2], "parameters": at("r", 0, 12) }],
        "outputs": [{ "name": "y", "parameters": at("r", 2048, 64) }],
    });
    let (mut good, mut refused) = (0, 0);
    for _ in 0..400 {
        let reply = gateway.client.infer("bytes", &request).await;
        match reply.status.as_u16() {
            200 => {
                good += 1;
                // What is written is what was checked, not what lies there now.
                assert_eq!(memory.read(2048, 4), [4, 0, 0, 0]);
            }
            400 => refused += 1,
            other => panic!("{other}: {}", reply.json()),
        }
    }
    stop.store(true, Ordering::Relaxed);
    writer.join().expect("no panic");
    assert!(good > 0 && refused > 0, "{good} good, {refused} refused");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_is_given_up_writes_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let gateway = start(&folder, "").await;
    let memory = Memory::new(&[7; 64]);
    assert_eq!(register(&gateway, "r", &memory, 0, 64).await.status, 200);
    let request = json!({
        "inputs": [{ "name": "x", "datatype": "INT64", "shape": [1, 2], "data": [1, 2] }],
        "outputs": [{ "name": "y", "parameters": at("r", 0, 16) }],
    });
    // The model takes 50 ms.
    let headers = [("x-request-timeout-ms", "10")];
    let path = "/v2/models/slow/infer";
    let reply = gateway.client.try_send(Method::POST, path, &headers, request.to_string()).await;
    assert_eq!(reply.expect("an answer").status, 504);
    tokio::time::sleep(std::time::Duration::from_millis(150)).await;
    assert_eq!(memory.read(0, 64), [7; 64]);
    assert_eq!(gateway.client.infer("slow", &request).await.status, 200);
    assert_eq!(memory.read(0, 16), [1_i64, 2].map(i64::to_le_bytes).concat());
}

#[tokio::test(flavor = "multi_thread")]
async fn only_programs_on_this_machine_reach_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let gateway = start(&folder, "").await;
    let memory = Memory::new(&[7; 64]);
    assert_eq!(register(&gateway, "r", &memory, 0, 64).await.status, 200);
    let whole = json!({ "key": memory.key, "byte_size": 64 });
    let data = json!({ "inputs": [{ "name": "x", "datatype": "UINT8", "shape": [1, 2], "data": [1, 2] }] });
    let mut output = data.clone();
    output["outputs"] = json!([{ "name": "y", "parameters": at("r", 0, 2) }]);
    let mut input = data.clone();
    input["inputs"][0] = uint8(at("r", 0, 2), json!({}))["inputs"][0].take();
    for header in [
        ("origin", "http://evil.example"),
        ("sec-fetch-site", "cross-site"),
        ("x-forwarded-for", "192.0.2.1"),
        ("forwarded", "for=192.0.2.1"),
        ("via", "1.1 proxy"),
        ("host", "evil.example"),
    ] {
        for (method, path, body, status) in [
            (Method::POST, "/v2/systemsharedmemory/region/s/register", &whole, 403),
            (Method::POST, "/v2/systemsharedmemory/unregister", &whole, 403),
            (Method::POST, "/v2/systemsharedmemory/region/r/unregister", &whole, 403),
            (Method::GET, "/v2/systemsharedmemory/status", &whole, 403),
            (Method::GET, "/v2/systemsharedmemory/region/r/status", &whole, 403),
            (Method::POST, "/v2/models/uint8/infer", &input, 403),
            (Method::POST, "/v2/models/uint8/infer", &output, 403),
            (Method::POST, "/v2/models/uint8/infer", &data, 200),
        ] {
            let body = if method == Method::GET { String::new() } else { body.to_string() };
            let reply = gateway.client.try_send(method, path, &[header], body).await.expect("an answer");
            assert_eq!(reply.status, status, "{header:?} {path}");
        }
    }
    assert_eq!(memory.read(0, 64), [7; 64]);
    assert_eq!(
        gateway.client.get("/v2/systemsharedmemory/status").await.ok().as_array().map(Vec::len),
        Some(1)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_may_be_registered_and_read_is_bounded() {
    let folder = tempfile::tempdir().expect("a folder");
    let limits = "regions_max = 2\nbytes_max = 200_000_000\nkey_prefix = \"sluice-suite-\"\n\
                  [server.limits]\nbody_bytes_max = 100_000\nin_flight_bytes_max = 100_000\n";
    let gateway = start(&folder, limits).await;
    let memory = Memory::new(&[]);
    // It has a length, and takes no room.
    let length = 100_000_000;
    std::fs::File::options()
        .write(true)
        .open(&memory.path)
        .and_then(|file| file.set_len(length))
        .expect("long");
    assert_eq!(register(&gateway, "a", &memory, 0, length).await.status, 200);
    assert_eq!(register(&gateway, "b", &memory, 0, length).await.status, 200);
    let third = register(&gateway, "c", &memory, 0, 1).await;
    assert_eq!((third.status.as_u16(), third.code()), (429, "tenant_limit".to_owned()));
    assert_eq!(gateway.client.post("/v2/systemsharedmemory/region/b/unregister", "").await.status, 200);
    assert_eq!(register(&gateway, "b", &memory, 0, length).await.status, 200, "its room is free again");
    assert_eq!(gateway.metric("sluice_requests_rejected_total", "shared_memory").await, 1.0);
    let read = async |bytes: usize| {
        let mut request = uint8(at("a", 0, bytes), at("b", 0, bytes));
        request["inputs"][0]["shape"] = json!([bytes]);
        gateway.client.infer("uint8", &request).await.status.as_u16()
    };
    assert_eq!(read(90_000_000).await, 413, "more than a tensor may have");
    assert_eq!(read(1_000_000).await, 503, "more than all requests may hold");
    assert_eq!(read(50_000).await, 400, "the model takes two elements a row");
    let outside = json!({ "key": "passwd", "byte_size": 1 }).to_string();
    let reply = gateway.client.post("/v2/systemsharedmemory/region/d/register", outside).await;
    assert_eq!(reply.json()["error"], "Unable to open shared memory region: 'passwd'");
    answers(&gateway).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_registration_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let gateway = start(&folder, "").await;
    let memory = Memory::new(&[7; 64]);
    let whole = |name: &str, value: Value| {
        let mut body = json!({ "key": memory.key, "offset": 0, "byte_size": 64 });
        body[name] = value;
        body.to_string()
    };
    let path = "/v2/systemsharedmemory/region/r/register";
    for (body, status) in [
        (String::new(), 400),
        ("{".to_owned(), 400),
        ("[]".to_owned(), 400),
        ("{}".to_owned(), 400),
        (whole("key", json!("../etc/passwd")), 400),
        (whole("key", json!("/../etc/passwd")), 400),
        (whole("key", json!("/etc/passwd")), 400),
        (whole("key", json!("..")), 400),
        (whole("key", json!("a\u{0}b")), 400),
        (whole("key", json!(1)), 400),
        (whole("key", json!("x".repeat(10_000))), 400),
        (whole("offset", json!(-1)), 400),
        (whole("offset", json!(u64::MAX)), 400),
        (whole("byte_size", json!(0)), 400),
        (whole("byte_size", json!(65)), 400),
        (whole("byte_size", json!(u64::MAX)), 400),
        (whole("byte_size", json!("64")), 400),
        (whole("key", json!("x".repeat(100_000))), 413),
    ] {
        let reply = gateway.client.post(path, body.clone()).await;
        let start: String = body.chars().take(100).collect();
        assert_eq!(reply.status, status, "{start}: {}", reply.json());
    }
    let long = format!("/v2/systemsharedmemory/region/{}/register", "x".repeat(300));
    assert_eq!(gateway.client.post(&long, whole("offset", json!(0))).await.status, 400);
    let link = Memory::new(b"");
    std::fs::remove_file(&link.path).expect("removed");
    std::os::unix::fs::symlink(&memory.path, &link.path).expect("linked");
    assert_eq!(register(&gateway, "r", &link, 0, 1).await.status, 400, "a link leads elsewhere");
    assert_eq!(gateway.client.get("/v2/systemsharedmemory/status").await.ok(), json!([]));
    assert_eq!(register(&gateway, "r", &memory, 0, 64).await.status, 200);
}
