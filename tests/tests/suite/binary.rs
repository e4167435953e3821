//! Triton's binary tensors and compressed bodies, both ways, for every data type.

use std::io::{Read, Write};

use bytes::Bytes;
use flate2::Compression;
use flate2::read::{GzDecoder, ZlibDecoder};
use flate2::write::{GzEncoder, ZlibEncoder};
use http::Method;
use serde_json::{Value, json};
use sluice_tests::client::{Client, Reply};
use sluice_tests::gateway::{self, Running};
use sluice_tests::models::{self, TYPES};

async fn start(folder: &tempfile::TempDir) -> Running {
    let mut config = String::from("[server.limits]\nbody_bytes_max = 100_000\n");
    config += &models::echoes(folder.path());
    config +=
        "[models.add]\nengine = \"sim\"\nfile = \"{repo}/tests/models/add.sim.json\"\nmax_batch_size = 8\n";
    gateway::start(&config).await
}

/// A body of JSON and bytes behind it, and the header that says where.
async fn send(client: &Client, model: &str, json: &Value, data: &[u8], headers: &[(&str, &str)]) -> Reply {
    let mut body = json.to_string().into_bytes();
    let length = body.len().to_string();
    body.extend_from_slice(data);
    let mut all = vec![("inference-header-content-length", length.as_str())];
    all.extend_from_slice(headers);
    let path = format!("/v2/models/{model}/infer");
    client.try_send(Method::POST, &path, &all, body).await.expect("an answer")
}

/// The JSON of an answer, and what is behind it.
fn split(reply: &Reply) -> (Value, Bytes) {
    let length = reply.headers.get("inference-header-content-length").expect("binary");
    let length: usize = length.to_str().expect("text").parse().expect("a number");
    (serde_json::from_slice(&reply.body[..length]).expect("JSON"), reply.body.slice(length..))
}

#[tokio::test(flavor = "multi_thread")]
async fn every_data_type_goes_through_in_json_and_in_binary_unchanged() {
    let folder = tempfile::tempdir().expect("a folder");
    let gateway = start(&folder).await;
    for (dtype, text, packed) in TYPES {
        let model = dtype.to_lowercase();
        let input = json!({ "name": "x", "datatype": dtype, "shape": [1, 2] });
        let mut binary = input.clone();
        binary["parameters"] = json!({ "binary_data_size": packed.len() });
        for wanted in [
            json!({ "parameters": { "binary_data_output": true } }),
            json!({ "outputs": [{ "name": "y", "parameters": { "binary_data": true } }] }),
        ] {
            let mut request = wanted.clone();
            request["inputs"] = json!([binary]);
            let reply = send(&gateway.client, &model, &request, packed, &[]).await;
            assert_eq!(reply.status, 200, "{dtype}: {:?}", reply.body);
            assert_eq!(reply.headers["content-type"], "application/octet-stream");
            let (answer, data) = split(&reply);
            assert_eq!(&data[..], packed, "{dtype}");
            assert_eq!(answer["outputs"][0]["datatype"], dtype);
            assert_eq!(answer["outputs"][0]["parameters"]["binary_data_size"], packed.len());
            assert!(answer["outputs"][0].get("data").is_none());
        }
        let Some(text) = text else { continue };
        let data: Value = serde_json::from_str(text).expect("JSON");
        let reply = send(&gateway.client, &model, &json!({ "inputs": [binary] }), packed, &[]).await;
        assert_eq!(reply.ok()["outputs"][0]["data"], data, "{dtype} from binary");
        let mut written = input.clone();
        written["data"] = data;
        let request = json!({ "inputs": [written], "parameters": { "binary_data_output": true } });
        let reply = gateway.client.infer(&model, &request).await;
        assert_eq!(&split(&reply).1[..], packed, "{dtype} to binary");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn json_and_binary_tensors_mix_and_each_output_says_its_own_form() {
    let folder = tempfile::tempdir().expect("a folder");
    let gateway = start(&folder).await;
    let (a, b) = ([1i32, 2].map(i32::to_le_bytes).concat(), json!([3, 4]));
    let request = json!({
        "id": "mixed",
        "parameters": { "binary_data_output": true },
        "inputs": [
            { "name": "b", "datatype": "INT32", "shape": [1, 2], "data": b },
            { "name": "a", "datatype": "INT32", "shape": [1, 2], "parameters": { "binary_data_size": 8 } },
        ],
        "outputs": [{ "name": "s", "parameters": { "binary_data": false } }, { "name": "y" }],
    });
    let reply = send(&gateway.client, "add", &request, &a, &[]).await;
    let (answer, data) = split(&reply);
    assert_eq!((&answer["id"], answer["outputs"][0]["name"].as_str()), (&json!("mixed"), Some("s")));
    assert!(answer["outputs"][0]["data"].is_array());
    assert_eq!((answer["outputs"][1]["name"].as_str(), &data[..]), (Some("y"), &a[..]));
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_that_do_not_add_up_are_refused_and_nobody_reads_past_them() {
    let folder = tempfile::tempdir().expect("a folder");
    let gateway = start(&folder).await;
    let with = |size: Value| {
        json!({ "inputs": [
            { "name": "a", "datatype": "INT32", "shape": [1, 2], "parameters": { "binary_data_size": size } },
            { "name": "b", "datatype": "INT32", "shape": [1, 2], "parameters": { "binary_data_size": 8 } },
        ] })
    };
    let good = [0; 16];
    assert_eq!(send(&gateway.client, "add", &with(json!(8)), &good, &[]).await.status, 200);
    for (size, data, code) in [
        (json!(8), &good[..15], "bad_length"),
        (json!(8), &good[..0], "bad_length"),
        (json!(8), &[0; 17][..], "bad_length"),
        (json!(7), &good[..15], "bad_length"),
        (json!(16), &good[..], "bad_length"),
        (json!(u64::MAX), &good[..], "bad_length"),
        (json!(-8), &good[..], "bad_request"),
        (json!(8.5), &good[..], "bad_request"),
        (json!("8"), &good[..], "bad_request"),
        (json!(true), &good[..], "bad_request"),
    ] {
        let reply = send(&gateway.client, "add", &with(size.clone()), data, &[]).await;
        assert_eq!((reply.status.as_u16(), reply.code().as_str()), (400, code), "{size} {}", data.len());
    }
    let both = json!({ "inputs": [{ "name": "a", "datatype": "INT32", "shape": [1, 2], "data": [1, 2],
        "parameters": { "binary_data_size": 8 } }] });
    assert_eq!(send(&gateway.client, "add", &both, &good[..8], &[]).await.code(), "bad_request");
    for framing in [&[9, 0, 0, 0, 1][..], &[0, 0, 0], &[255, 255, 255, 255, 0, 0, 0, 0], &[0; 12]] {
        let request = json!({ "inputs": [{ "name": "x", "datatype": "BYTES", "shape": [1, 2],
            "parameters": { "binary_data_size": framing.len() } }] });
        let reply = send(&gateway.client, "bytes", &request, framing, &[]).await;
        assert_eq!((reply.status.as_u16(), reply.code().as_str()), (400, "bad_length"), "{framing:?}");
    }
    let huge = json!({ "inputs": [{ "name": "x", "datatype": "FP32", "shape": [4_000_000_000_u64, 2],
        "parameters": { "binary_data_size": 8 } }] });
    assert!(send(&gateway.client, "fp32", &huge, &good[..8], &[]).await.status.is_client_error());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_is_nothing_but_data_is_the_only_input() {
    let folder = tempfile::tempdir().expect("a folder");
    let gateway = start(&folder).await;
    let raw = [("inference-header-content-length", "0")];
    let data: Vec<u8> = [1f32, 2.0].map(f32::to_le_bytes).concat();
    let post = async |model: &str, body: &[u8]| {
        let path = format!("/v2/models/{model}/infer");
        gateway.client.try_send(Method::POST, &path, &raw, body.to_vec()).await.expect("an answer")
    };
    let (answer, back) = split(&post("fp32", &data).await);
    assert_eq!((&answer["outputs"][0]["shape"], &back[..]), (&json!([1, 2]), &data[..]));
    for (model, body) in [("fp32", &data[..7]), ("fp32", &[]), ("add", &data), ("bytes", &data)] {
        let reply = post(model, body).await;
        assert_eq!((reply.status.as_u16(), reply.code().as_str()), (400, "bad_request"), "{model}");
    }
    assert_eq!(post("nobody", &data).await.status, 404);
}

fn gzip(data: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(data).expect("memory");
    encoder.finish().expect("memory")
}

fn deflate(data: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(data).expect("memory");
    encoder.finish().expect("memory")
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_may_be_compressed_both_ways_and_bombs_are_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let gateway = start(&folder).await;
    let rows: Vec<Vec<f32>> = vec![vec![0.25, 1.5]; 8];
    let many = json!({ "inputs": [{ "name": "x", "datatype": "FP32", "shape": [8, 2], "data": rows }],
        "id": "i".repeat(2000) })
    .to_string();
    let plain = gateway.client.post("/v2/models/fp32/infer", many.clone()).await.ok();
    for (name, packed) in [("gzip", gzip(many.as_bytes())), ("deflate", deflate(many.as_bytes()))] {
        let headers = [("content-encoding", name), ("accept-encoding", name)];
        let path = "/v2/models/fp32/infer";
        let reply =
            gateway.client.try_send(Method::POST, path, &headers, packed.clone()).await.expect("an answer");
        assert_eq!(reply.headers["content-encoding"], name, "{:?}", reply.body);
        let mut text = String::new();
        match name {
            "gzip" => GzDecoder::new(&reply.body[..]).read_to_string(&mut text),
            _ => ZlibDecoder::new(&reply.body[..]).read_to_string(&mut text),
        }
        .expect("compressed");
        assert_eq!(serde_json::from_str::<Value>(&text).expect("JSON"), plain);
        let cut =
            gateway.client.try_send(Method::POST, path, &headers[..1], packed[..packed.len() / 2].to_vec());
        assert_eq!(cut.await.expect("an answer").status, 400, "cut off");
        let bomb = vec![b' '; 50_000_000];
        let bomb = if name == "gzip" { gzip(&bomb) } else { deflate(&bomb) };
        // What is sent is far more than a body may hold, or holds far more.
        for body in [bomb.clone(), bomb[..60_000.min(bomb.len())].to_vec()] {
            let reply =
                gateway.client.try_send(Method::POST, path, &headers[..1], body).await.expect("an answer");
            assert_eq!((reply.status.as_u16(), reply.code().as_str()), (413, "too_large"));
        }
    }
    let accepted = [("accept-encoding", "gzip;q=0, br")];
    let reply = gateway.client.try_send(Method::POST, "/v2/models/fp32/infer", &accepted, many).await;
    assert!(reply.expect("an answer").headers.get("content-encoding").is_none());
    let unknown = [("content-encoding", "br")];
    let reply = gateway.client.try_send(Method::POST, "/v2/models/fp32/infer", &unknown, "x").await;
    let reply = reply.expect("an answer");
    assert_eq!(reply.status, 415);
    assert_eq!(reply.headers["accept-encoding"], "gzip, deflate");
}
