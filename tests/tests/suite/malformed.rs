//! A hundred malformed requests: each gets a 4xx from the table, and a caller who
//! does nothing wrong notices none of them.

use http::Method;
use serde_json::{Value, json};
use sluice_tests::client::Client;
use sluice_tests::gateway::{self, Running};

struct Bad {
    what: String,
    method: Method,
    path: String,
    headers: Vec<(&'static str, String)>,
    body: String,
    status: u16,
    code: &'static str,
}

fn bad(what: impl Into<String>, path: &str, body: impl Into<String>, status: u16, code: &'static str) -> Bad {
    let (method, headers) = (Method::POST, Vec::new());
    Bad { what: what.into(), method, path: path.to_owned(), headers, body: body.into(), status, code }
}

async fn start() -> Running {
    gateway::start(
        r#"
        [server.limits]
        body_bytes_max = 100_000
        [models.add]
        engine = "sim"
        file = "{repo}/tests/models/add.sim.json"
        max_batch_size = 8
        [models.words]
        engine = "sim"
        file = "{repo}/tests/models/words.sim.json"
        max_batch_size = 8
        [stores.movies]
        file = "{repo}/guest-examples/movies/movies.jsonl"
        [models.movie-ranker]
        file = "{repo}/guest-examples/movies/ranker.onnx"
        engine = "embedded"
        max_batch_size = 256
        [plugins.movie-features]
        file = "{repo}/guest-examples/dist/movie_features.wasm"
        stores = ["movies"]
        [plugins.movie-ranking]
        file = "{repo}/guest-examples/dist/movie_ranking.wasm"
        [pipelines.rank-movies]
        pre = "movie-features"
        model = "movie-ranker"
        post = "movie-ranking"
    "#,
    )
    .await
}

fn input(name: &str, datatype: &str, shape: &str, data: &str) -> String {
    format!(r#"{{"name":"{name}","datatype":"{datatype}","shape":{shape},"data":{data}}}"#)
}

/// A request of model `add` whose input `a` is as given and whose `b` is right.
fn add(datatype: &str, shape: &str, data: &str) -> String {
    let (a, b) = (input("a", datatype, shape, data), input("b", "INT32", "[1,2]", "[1,2]"));
    format!(r#"{{"inputs":[{a},{b}]}}"#)
}

const ADD: &str = "/v2/models/add/infer";
const WORDS: &str = "/v2/models/words/infer";
const MOVIES: &str = "/v1/models/rank-movies:predict";

fn json_cases() -> Vec<Bad> {
    let texts = [
        "",
        " ",
        "{",
        "}",
        "null",
        "1",
        "\"text\"",
        "[]",
        "{}",
        "[1,2",
        "{\"inputs\"}",
        "{\"inputs\":}",
        "{\"inputs\":[}",
        "{\"inputs\":{}}",
        "{\"inputs\":null}",
        "{\"inputs\":[null]}",
        "{\"inputs\":[[]]}",
        "{\"inputs\":[{}]}",
        "{\"inputs\":[{\"name\":\"a\"}]}",
        "{\"inputs\":[{\"name\":1}]}",
        "{'inputs':[]}",
        "{\"inputs\":[],}",
        "\u{feff}{}",
        "{\"id\":7,\"inputs\":[]}",
        "{\"inputs\":\"a\"}",
        "true",
        "nul",
        "{\"\\ud800\":1}",
    ];
    let mut cases: Vec<Bad> =
        texts.iter().map(|text| bad(format!("JSON {text:?}"), ADD, *text, 400, "bad_json")).collect();
    cases.push(bad("deep", ADD, "[".repeat(90_000), 400, "limit_depth"));
    let ignored = format!(r#"{{"inputs":[],"ignored":{}{}}}"#, "[".repeat(20_000), "]".repeat(20_000));
    cases.push(bad("deep in a field that is ignored", ADD, ignored, 400, "limit_depth"));
    cases
}

fn tensor_cases() -> Vec<Bad> {
    let rows = [
        ("FP32", "[1,2]", "[1,2]", "bad_shape"),
        ("INT64", "[1,2]", "[1,2]", "bad_shape"),
        ("int32", "[1,2]", "[1,2]", "bad_dtype"),
        ("", "[1,2]", "[1,2]", "bad_dtype"),
        ("FLOAT", "[1,2]", "[1,2]", "bad_dtype"),
        ("INT32", "[1,3]", "[1,2,3]", "bad_shape"),
        ("INT32", "[2]", "[1,2]", "bad_shape"),
        ("INT32", "[]", "[1]", "bad_shape"),
        ("INT32", "[1,1,2]", "[1,2]", "bad_shape"),
        ("INT32", "[0,2]", "[]", "bad_shape"),
        ("INT32", "[2,2]", "[1,2,3,4]", "bad_shape"),
        ("INT32", "[9,2]", "[1,2,1,2,1,2,1,2,1,2,1,2,1,2,1,2,1,2]", "bad_shape"),
        ("INT32", "[1,1,1,1,1,1,1,1,2]", "[1,2]", "bad_shape"),
        ("INT32", "[2147483648,2147483648,4]", "[1]", "bad_shape"),
        ("INT32", "[18446744073709551615,2]", "[1]", "bad_shape"),
        ("INT32", "[0,18446744073709551615,2]", "[]", "bad_shape"),
        ("INT32", "[-1,2]", "[1,2]", "bad_json"),
        ("INT32", "[1.5,2]", "[1,2]", "bad_json"),
        ("INT32", "[\"1\",2]", "[1,2]", "bad_json"),
        ("INT32", "\"[1,2]\"", "[1,2]", "bad_json"),
        ("INT32", "null", "[1,2]", "bad_json"),
        ("INT32", "[18446744073709551616]", "[1]", "bad_json"),
        ("INT32", "[1,2]", "[1]", "bad_length"),
        ("INT32", "[1,2]", "[]", "bad_length"),
        ("INT32", "[1,2]", "[[]]", "bad_length"),
        ("INT32", "[1,2]", "[1,2,3]", "bad_length"),
        ("INT32", "[1,2]", "[[1,2],[3,4]]", "bad_length"),
        ("INT32", "[1,2]", "1", "bad_json"),
        ("INT32", "[1,2]", "{}", "bad_json"),
        ("INT32", "[1,2]", "null", "bad_json"),
        ("INT32", "[1,2]", "\"12\"", "bad_json"),
        ("INT32", "[1,2]", "[1,null]", "bad_json"),
        ("INT32", "[1,2]", "[1,{}]", "bad_json"),
        ("INT32", "[1,2]", "[1,NaN]", "bad_json"),
        ("INT32", "[1,2]", "[1,Infinity]", "bad_json"),
        ("INT32", "[1,2]", "[1,01]", "bad_json"),
        ("INT32", "[1,2]", "[1,+2]", "bad_json"),
        ("INT32", "[1,2]", "[1,2,]", "bad_json"),
        ("INT32", "[1,2]", "[1,1e400]", "bad_json"),
        ("INT32", "[1,2]", "[1,\"2\"]", "bad_dtype"),
        ("INT32", "[1,2]", "[1,true]", "bad_dtype"),
        ("INT32", "[1,2]", "[1,1.5]", "bad_dtype"),
        ("INT32", "[1,2]", "[1,2147483648]", "bad_dtype"),
        ("INT32", "[1,2]", "[1,-2147483649]", "bad_dtype"),
        ("UINT8", "[1,2]", "[1,300]", "bad_dtype"),
        ("UINT8", "[1,2]", "[1,-1]", "bad_dtype"),
        ("BOOL", "[1,2]", "[true,2]", "bad_dtype"),
        ("FP16", "[1,2]", "[1,70000]", "bad_dtype"),
        ("FP32", "[1,2]", "[1,1e39]", "bad_dtype"),
        ("BYTES", "[1,2]", "[\"a\",1]", "bad_dtype"),
    ];
    let case = |(datatype, shape, data, code): &(&str, &str, &str, &'static str)| {
        bad(format!("{datatype} {shape} {data}"), ADD, add(datatype, shape, data), 400, code)
    };
    let mut cases: Vec<Bad> = rows.iter().map(case).collect();
    let huge = add("INT32", "[1099511627776]", "[1]");
    cases.push(bad("a terabyte by its shape", ADD, huge, 413, "too_large"));
    let words = |data| format!(r#"{{"inputs":[{}]}}"#, input("w", "BYTES", "[1,1]", data));
    cases.push(bad("half a surrogate pair", WORDS, words(r#"["\ud800"]"#), 400, "bad_json"));
    cases.push(bad("a raw control character", WORDS, words("[\"\u{1}\"]"), 400, "bad_json"));
    cases
}

fn input_list_cases() -> Vec<Bad> {
    let (a, b) = (input("a", "INT32", "[1,2]", "[1,2]"), input("b", "INT32", "[1,2]", "[1,2]"));
    let of = |inputs: &[&str]| format!(r#"{{"inputs":[{}]}}"#, inputs.join(","));
    let with = |extra: &str| format!(r#"{{"inputs":[{a},{b}],{extra}}}"#);
    let other = input("c", "INT32", "[1,2]", "[1,2]");
    let many = vec![a.as_str(); 65];
    let outputs: Vec<String> = (0..65).map(|number| format!(r#"{{"name":"o{number}"}}"#)).collect();
    let parameters: Vec<String> = (0..65).map(|number| format!(r#""p{number}":1"#)).collect();
    vec![
        bad("no inputs", ADD, of(&[]), 400, "bad_shape"),
        bad("an input is missing", ADD, of(&[&a]), 400, "bad_shape"),
        bad("an input too many", ADD, of(&[&a, &b, &other]), 400, "bad_shape"),
        bad("an input of another name", ADD, of(&[&a, &other]), 400, "bad_shape"),
        bad("an input twice", ADD, of(&[&a, &a]), 400, "bad_request"),
        bad("65 inputs", ADD, of(&many), 400, "bad_shape"),
        bad("an output that is not there", ADD, with(r#""outputs":[{"name":"z"}]"#), 400, "bad_request"),
        bad("an output twice", ADD, with(r#""outputs":[{"name":"y"},{"name":"y"}]"#), 400, "bad_request"),
        bad("65 outputs", ADD, with(&format!(r#""outputs":[{}]"#, outputs.join(","))), 400, "bad_request"),
        bad("outputs that are no list", ADD, with(r#""outputs":{"name":"y"}"#), 400, "bad_json"),
        bad(
            "65 parameters",
            ADD,
            with(&format!(r#""parameters":{{{}}}"#, parameters.join(","))),
            400,
            "bad_request",
        ),
        bad("a parameter twice", ADD, with(r#""parameters":{"p":1,"p":2}"#), 400, "bad_json"),
        bad("a parameter that is a list", ADD, with(r#""parameters":{"p":[1]}"#), 400, "bad_request"),
        bad("a parameter that is null", ADD, with(r#""parameters":{"p":null}"#), 400, "bad_request"),
        bad("a negative timeout", ADD, with(r#""parameters":{"timeout":-1}"#), 400, "bad_request"),
        bad("a timeout that is text", ADD, with(r#""parameters":{"timeout":"soon"}"#), 400, "bad_request"),
        bad("a timeout with a fraction", ADD, with(r#""parameters":{"timeout":1.5}"#), 400, "bad_request"),
        bad("parameters that are a list", ADD, with(r#""parameters":[1]"#), 400, "bad_json"),
    ]
}

fn route_cases() -> Vec<Bad> {
    let right = add("INT32", "[1,2]", "[1,2]");
    let long = format!("/v2/models/{}/infer", "m".repeat(300));
    let mut cases = Vec::new();
    for path in [
        "/v2/models/none/infer",
        "/v2/models/add/versions/9/infer",
        "/v2/models/..%2f..%2fetc%2fpasswd/infer",
        "/v2/models/a%00b/infer",
        "/v2/models/a%5cb/infer",
        "/v2/models/%ff/infer",
        &long,
        "/v2/models/add/other",
        "/v2/other",
        "/v3/models/add/infer",
        "/metrics",
        "/admin/v1/status",
        "/v1/models/none:predict",
        "/v1/models/add:explain",
    ] {
        let status_of =
            |path: &str| if path.contains("%ff") { (400, "bad_request") } else { (404, "not_found") };
        let (status, code) = status_of(path);
        cases.push(bad(format!("POST {path}"), path, right.clone(), status, code));
    }
    for (method, path) in [
        (Method::GET, ADD),
        (Method::PUT, ADD),
        (Method::DELETE, "/v2/models/add"),
        (Method::POST, "/v2/health/live"),
        (Method::POST, "/"),
        (Method::POST, "/v2"),
        (Method::POST, "/v1/models/add"),
        (Method::TRACE, ADD),
        (Method::PATCH, "/v1/models/add:predict"),
    ] {
        let case = bad(format!("{method} {path}"), path, "", 405, "method_not_allowed");
        cases.push(Bad { method, ..case });
    }
    cases
}

fn header_cases() -> Vec<Bad> {
    let right = add("INT32", "[1,2]", "[1,2]");
    let with = |name: &'static str, value: &str, status, code| Bad {
        headers: vec![(name, value.to_owned())],
        ..bad(format!("{name}: {value}"), ADD, right.clone(), status, code)
    };
    let mut cases: Vec<Bad> = ["-1", "0", "1.5", "soon", "", "99999999999"]
        .iter()
        .map(|value| with("x-request-timeout-ms", value, 400, "bad_request"))
        .collect();
    cases.push(with("content-encoding", "gzip", 400, "bad_request"));
    cases.push(with("content-encoding", "deflate", 400, "bad_request"));
    cases.push(with("content-encoding", "br", 415, "unsupported_media"));
    cases.push(with("content-encoding", "gzip, gzip", 415, "unsupported_media"));
    cases.push(with("content-encoding", "rot13", 415, "unsupported_media"));
    for (value, code) in [
        ("-1", "bad_request"),
        ("12", "bad_json"),
        ("99999999999", "bad_request"),
        ("99999999999999999999999", "bad_request"),
        ("x", "bad_request"),
        ("", "bad_request"),
        ("1.5", "bad_request"),
        ("+5", "bad_request"),
        // Nothing but data, for a model of two inputs.
        ("0", "bad_request"),
    ] {
        cases.push(with("inference-header-content-length", value, 400, code));
    }
    cases.push(bad("a body above the limit", ADD, " ".repeat(100_001), 413, "too_large"));
    cases
}

fn plugin_cases() -> Vec<Bad> {
    let many: Vec<String> = (0..1001).map(|number| format!("film {number}")).collect();
    let bodies = [
        String::new(),
        "{".to_owned(),
        "[]".to_owned(),
        json!({"candidates": "Jaws"}).to_string(),
        json!({"candidates": [1]}).to_string(),
        json!({"candidates": ["Jaws"], "k": -1}).to_string(),
        json!({"candidates": ["Jaws"], "tastes": 1}).to_string(),
        json!({"candidates": ["Jaws"], "tastes": {"genres": "Drama"}}).to_string(),
        json!({"tastes": {}}).to_string(),
        json!({"candidates": many}).to_string(),
    ];
    let mut cases: Vec<Bad> = bodies
        .into_iter()
        .map(|body| bad(format!("movies {body:.40}"), MOVIES, body, 400, "refused"))
        .collect();
    cases.push(bad("a raw body for a model", "/v1/models/add:predict", "{}", 400, "bad_request"));
    cases
}

async fn assert_canary(client: &Client) {
    let request = add("INT32", "[1,2]", "[3,4]");
    let answer: Value = client.post(ADD, request).await.ok();
    assert_eq!(answer["outputs"][0]["data"], json!([3, 4]));
}

#[tokio::test(flavor = "multi_thread")]
async fn each_malformed_request_gets_its_row_of_the_error_table() {
    let gateway = start().await;
    let cases: Vec<Bad> =
        [json_cases(), tensor_cases(), input_list_cases(), route_cases(), header_cases(), plugin_cases()]
            .into_iter()
            .flatten()
            .collect();
    assert!(cases.len() >= 100, "only {} cases", cases.len());
    let mut wrong = Vec::new();
    for case in cases {
        let headers: Vec<(&str, &str)> = case.headers.iter().map(|(name, value)| (*name, &**value)).collect();
        let reply =
            gateway.client.try_send(case.method, &case.path, &headers, case.body).await.expect("an answer");
        let code = serde_json::from_slice::<Value>(&reply.body).ok();
        let code = code.as_ref().and_then(|body| body["code"].as_str()).unwrap_or("");
        if reply.status.as_u16() != case.status || code != case.code {
            let body = String::from_utf8_lossy(&reply.body).into_owned();
            wrong.push(format!(
                "{}: {} {code:?}, wanted {} {:?}: {body:.200}",
                case.what, reply.status, case.status, case.code
            ));
        }
        assert_canary(&gateway.client).await;
    }
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
    assert_eq!(gateway.metric("sluice_requests_in_flight", "").await, 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_names_the_request_and_holds_no_path() {
    let gateway = start().await;
    let reply = gateway
        .client
        .try_send(Method::POST, ADD, &[("x-request-id", "caller-7")], "{")
        .await
        .expect("an answer");
    assert_eq!(reply.headers["x-request-id"], "caller-7");
    assert_eq!(reply.json()["request_id"], "caller-7");
    let odd =
        gateway.client.try_send(Method::POST, ADD, &[("x-request-id", "a b")], "{").await.expect("an answer");
    assert_ne!(odd.json()["request_id"], "a b");
    assert!(!odd.json()["request_id"].as_str().expect("text").is_empty());
    assert!(!String::from_utf8_lossy(&reply.body).contains('/'));
}

#[tokio::test(flavor = "multi_thread")]
async fn every_error_says_the_requests_id_also_where_nothing_is_predicted() {
    let gateway = start().await;
    let paths = [
        "/v2/models/none",
        "/v2/models/add/versions/7",
        "/v2/models/none/ready",
        "/v2/models/add/versions/7/ready",
        "/v2/models/none/stats",
        "/v2/models/none/config",
        "/v2/models/none/trace/setting",
        "/v1/models/none",
        "/v1/models/none/metadata",
    ];
    for path in paths {
        let headers = [("x-request-id", "caller-8")];
        let reply = gateway.client.try_send(http::Method::GET, path, &headers, "").await.expect("an answer");
        assert!(reply.status.is_client_error(), "{path}: {reply:?}");
        assert_eq!(reply.json()["request_id"], "caller-8", "{path}");
        assert_eq!(reply.headers["x-request-id"], "caller-8", "{path}");
        let made = gateway.client.get(path).await;
        assert!(!made.json()["request_id"].as_str().expect("text").is_empty(), "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_huge_name_does_not_come_back() {
    let gateway = start().await;
    let name = "n".repeat(20 << 10);
    let rest = r#""shape":[1,2],"data":[1,2]"#;
    let unknown = format!(r#"{{"inputs":[{{"name":"{name}","datatype":"NONE",{rest}}}]}}"#);
    let wrong =
        format!(r#"{{"inputs":[{{"name":"{name}","datatype":"INT32","shape":[1,2],"data":["x",2]}}]}}"#);
    let one = format!(r#"{{"name":"{name}","datatype":"INT32",{rest}}}"#);
    let twice = format!(r#"{{"inputs":[{one},{one}]}}"#);
    let foreign = format!(r#"{{"inputs":[{one}]}}"#);
    for body in [unknown, wrong, twice, foreign] {
        let reply = gateway.client.post(ADD, body).await;
        assert!(reply.status.is_client_error(), "{}", reply.status);
        assert!(reply.body.len() < 2048, "{} bytes", reply.body.len());
    }
}
