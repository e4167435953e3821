//! Answers in parts reach the caller in order, as they are sent, within their limits; and
//! a caller that leaves leaves nothing behind.

use std::time::Duration;

use http::Method;
use serde_json::{Value, json};
use sluice_tests::client::Reply;
use sluice_tests::gateway::{self, Running};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::Instant;

const CONFIG: &str = r#"
    [models.logit]
    engine = "sim"
    file = "{repo}/tests/corpus/peers/logit.sim.json"
    [models.wide]
    engine = "sim"
    file = "{repo}/tests/models/wide.sim.json"
    max_batch_size = 8

    [plugins.probe]
    file = "{repo}/tests/guests/dist/parts_probe.wasm"
    call_timeout_ms = 2000
    answer_parts_max = 50000
    answer_bytes_max = 4194304
    [plugins.repeat]
    file = "{repo}/guest-examples/dist/repeat.wasm"
    [plugins.next-words]
    file = "{repo}/guest-examples/dist/next_words.wasm"
    config = { model = "logit", words = ["sea", "shark"] }
    models = ["logit"]

    [pipelines.probe]
    plugin = "probe"
    [pipelines.repeat]
    plugin = "repeat"
    [pipelines.next-words]
    plugin = "next-words"
    [pipelines.through]
    model = "wide"
"#;

const EVENTS: (&str, &str) = ("accept", "text/event-stream");

/// The data of the events of a stream.
fn events(reply: &Reply) -> Vec<String> {
    assert_eq!(reply.headers["content-type"], "text/event-stream", "{reply:?}");
    let text = std::str::from_utf8(&reply.body).expect("UTF-8");
    let event = |event: &str| {
        let lines = event.lines().filter_map(|line| line.strip_prefix("data: "));
        lines.collect::<Vec<_>>().join("\n")
    };
    text.split_terminator("\n\n").map(event).collect()
}

async fn generate(gateway: &Running, model: &str, body: &Value) -> Reply {
    gateway.client.post(&format!("/v2/models/{model}/generate_stream"), body.to_string()).await
}

async fn with_events(gateway: &Running, order: &Value) -> Reply {
    let sent =
        gateway.client.try_send(Method::POST, "/v1/models/probe:predict", &[EVENTS], order.to_string());
    sent.await.expect("an answer")
}

/// Waits until nothing of former requests is left.
async fn assert_nothing_is_left(gateway: &Running) {
    let until = Instant::now() + Duration::from_secs(6);
    loop {
        let shown = gateway.admin.get("/admin/v1/plugins/probe").await.ok().to_string();
        let (guests, idle) = (shown.matches("\"in_flight\":"), shown.matches("\"in_flight\":0"));
        let (guests, idle) = (guests.count(), idle.count());
        assert!(guests > 0, "{shown}");
        if gateway.metric("sluice_requests_in_flight", "").await == 0.0 && guests == idle {
            return;
        }
        assert!(Instant::now() < until, "{shown}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Opens a stream by hand, and reads until that text has come.
async fn open(gateway: &Running, order: &Value, until: &str) -> TcpStream {
    let mut stream = TcpStream::connect(gateway.client.address()).await.expect("a connection");
    let body = order.to_string();
    let head = format!(
        "POST /v1/models/probe:predict HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(head.as_bytes()).await.expect("sent");
    let mut read = Vec::new();
    while !String::from_utf8_lossy(&read).contains(until) {
        let count = stream.read_buf(&mut read).await.expect("readable");
        assert!(count > 0, "ended: {:?}", String::from_utf8_lossy(&read));
    }
    stream
}

#[tokio::test(flavor = "multi_thread")]
async fn parts_arrive_in_order_and_the_first_long_before_the_last() {
    let gateway = gateway::start(CONFIG).await;
    let order = json!({ "do": "bytes", "amount": 500, "content_type": "text/plain", "then": "last" });
    let reply = gateway.client.predict("probe", &order).await;
    assert_eq!(
        (reply.status.as_u16(), &reply.headers["content-type"]),
        (200, &"text/plain".parse().unwrap())
    );
    assert!(!reply.headers.contains_key("content-length"), "{reply:?}");
    let wanted = (0..500).map(|number| format!("{number};")).collect::<String>() + "last";
    assert_eq!(String::from_utf8_lossy(&reply.body), wanted);

    let order = json!({ "do": "bytes", "amount": 20, "pause_ms": 100 });
    let started = Instant::now();
    let mut stream = open(&gateway, &order, "0;").await;
    assert!(started.elapsed() < Duration::from_secs(1), "{:?}", started.elapsed());
    let mut rest = Vec::new();
    while !rest.ends_with(b"\r\n0\r\n\r\n") {
        assert!(stream.read_buf(&mut rest).await.expect("readable") > 0);
    }
    assert!(started.elapsed() >= Duration::from_millis(1900), "{:?}", started.elapsed());
    let whole = gateway.client.predict("probe", &json!({ "do": "whole" })).await;
    assert_eq!((&whole.body[..], &whole.headers["content-length"]), (&b"whole"[..], &"5".parse().unwrap()));
    assert_nothing_is_left(&gateway).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_part_is_one_event_whatever_is_in_it() {
    let gateway = gateway::start(CONFIG).await;
    let texts = ["plain", "two\nlines", "a\r\nb\rc", "", "data: x\n\nevent: y", "漢🦈"];
    let heard = ["plain", "two\nlines", "a\nb\nc", "", "data: x\n\nevent: y", "漢🦈"];
    let reply = with_events(&gateway, &json!({ "do": "bytes", "amount": 0, "texts": texts })).await;
    assert_eq!(events(&reply), heard);
    let own = json!({ "do": "bytes", "texts": ["data: mine\n\n"], "content_type": "text/event-stream" });
    assert_eq!(events(&with_events(&gateway, &own).await), ["mine"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_before_the_first_part_has_its_status_and_after_it_breaks_the_answer_off() {
    let gateway = gateway::start(CONFIG).await;
    for (order, status, code) in [
        (json!({ "do": "what" }), 400, "refused"),
        (json!({ "do": "nothing", "then": "trap" }), 502, "plugin_trap"),
        (json!({ "do": "nothing" }), 502, "plugin_output"),
    ] {
        let reply = with_events(&gateway, &order).await;
        assert_eq!((reply.status.as_u16(), reply.code().as_str()), (status, code), "{order}");
    }
    for (then, code) in
        [("fail", "refused"), ("trap", "plugin_trap"), ("loop", "plugin_timeout"), ("type", "plugin_trap")]
    {
        let order = json!({ "do": "bytes", "amount": 2, "then": then });
        let reply = with_events(&gateway, &order).await;
        let text = String::from_utf8_lossy(&reply.body).into_owned();
        assert!(text.starts_with("data: 0;\n\ndata: 1;\n\nevent: error\ndata: {"), "{text}");
        let error: Value = serde_json::from_str(&events(&reply)[2]).expect("JSON");
        let code = if then == "type" { "plugin_output" } else { code };
        assert!(error["code"] == code || (then == "type" && error["code"] == "plugin_trap"), "{error}");
        // Without events only a connection that breaks says it.
        let path = "/v1/models/probe:predict";
        let sent = gateway.client.try_send(Method::POST, path, &[], order.to_string()).await;
        assert!(sent.is_err(), "{then}: {sent:?}");
    }
    assert!(gateway.metric("sluice_requests_total", "plugin_trap").await >= 3.0);
    assert_nothing_is_left(&gateway).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deadline_ends_a_stream_in_the_middle() {
    let gateway = gateway::start(CONFIG).await;
    let order = json!({ "do": "bytes", "amount": 1000, "pause_ms": 100 }).to_string();
    let started = Instant::now();
    let headers = [EVENTS, ("x-request-timeout-ms", "550")];
    let sent = gateway.client.try_send(Method::POST, "/v1/models/probe:predict", &headers, order).await;
    let events = events(&sent.expect("an answer"));
    assert!(started.elapsed() < Duration::from_secs(3), "{:?}", started.elapsed());
    assert!((2..=6).contains(&events.len()), "{events:?}");
    assert!(events.last().is_some_and(|last| last.contains("\"deadline\"")), "{events:?}");
    assert_nothing_is_left(&gateway).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_stalls_slows_the_plugin_and_is_let_go_at_the_deadline() {
    let gateway =
        gateway::start(&format!("[server.limits]\nrequest_timeout_default_ms = 3000\n{CONFIG}")).await;
    // More than any socket buffers, and less than the answer may have.
    let order = json!({ "do": "bytes", "amount": 4000, "bytes": 1000, "then": "last" });
    let big = json!({ "do": "endless", "bytes": 100_000 });
    let stalled = open(&gateway, &order, "xxx").await;
    let other = open(&gateway, &big, "xxx").await;
    // Whoever reads is served meanwhile.
    let reply = gateway.client.predict("probe", &order).await;
    assert_eq!(reply.body.len(), 4_000_004);
    assert_nothing_is_left(&gateway).await;
    drop((stalled, other));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_that_leaves_ends_the_plugin() {
    let gateway = gateway::start(CONFIG).await;
    for order in [
        json!({ "do": "bytes", "amount": 1000, "pause_ms": 50 }),
        json!({ "do": "bytes", "amount": 1, "then": "loop" }),
        json!({ "do": "endless", "bytes": 1 }),
    ] {
        let streams = [open(&gateway, &order, "\r\n\r\n").await, open(&gateway, &order, "\r\n\r\n").await];
        drop(streams);
        assert_nothing_is_left(&gateway).await;
    }
    assert!(gateway.metric("sluice_requests_total", "cancelled").await >= 2.0);
    let again = gateway.client.predict("probe", &json!({ "do": "whole" })).await;
    assert_eq!(again.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn parts_without_end_and_parts_without_measure_end_at_the_plugins_limits() {
    let gateway = gateway::start(CONFIG).await;
    for order in [json!({ "do": "endless", "bytes": 1 }), json!({ "do": "endless", "bytes": 1_000_000 })] {
        let reply = with_events(&gateway, &order).await;
        let events = events(&reply);
        assert!(events.len() <= 50_001, "{}", events.len());
        assert!(reply.body.len() < 6 << 20, "{}", reply.body.len());
        assert!(events.last().is_some_and(|last| last.contains("plugin_output")), "{:?}", events.last());
    }
    let huge = json!({ "do": "bytes", "bytes": 5_000_000 });
    let reply = gateway.client.predict("probe", &huge).await;
    assert_eq!((reply.status.as_u16(), reply.code().as_str()), (502, "plugin_output"));
    assert_nothing_is_left(&gateway).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn generate_maps_keys_to_inputs_and_outputs_to_keys() {
    let gateway = gateway::start(CONFIG).await;
    let body = json!({ "id": "a", "x": [1, 2, 3, 4], "parameters": { "one": 1 }, "two": "b" });
    for model in ["wide", "through"] {
        let path = format!("/v2/models/{model}/generate");
        let answer = gateway.client.post(&path, body.to_string()).await.ok();
        assert_eq!((&answer["model_name"], &answer["model_version"]), (&json!(model), &json!("1")));
        assert_eq!(answer["y"], json!([1.0, 2.0, 3.0, 4.0]), "{answer}");
        let streamed = events(&generate(&gateway, model, &body).await);
        assert_eq!(streamed.len(), 1);
        assert_eq!(serde_json::from_str::<Value>(&streamed[0]).expect("JSON"), answer);
    }
    for (bad, status) in [
        (json!({ "x": [1, 2, 3] }), 400),
        (json!({ "x": "text" }), 400),
        (json!({ "x": [1, 2, 3, 4], "parameters": 7 }), 400),
        (json!({ "x": [1, 2, 3, 4], "y": [1] }), 400),
        (json!([1]), 400),
    ] {
        let reply = generate(&gateway, "wide", &bad).await;
        assert_eq!(reply.status.as_u16(), status, "{bad}: {reply:?}");
    }
    assert_eq!(generate(&gateway, "nobody", &body).await.status, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pipeline_with_many_answers_streams_them_and_is_refused_where_one_is_taken() {
    let gateway = gateway::start(CONFIG).await;
    let body = json!({ "IN": [7, 8, 9], "DELAY": [1, 2, 3], "WAIT": 1 });
    let streamed = events(&generate(&gateway, "repeat", &body).await);
    let answers: Vec<Value> = streamed.iter().map(|one| serde_json::from_str(one).expect("JSON")).collect();
    let pairs: Vec<_> = answers.iter().map(|one| (one["OUT"].as_i64(), one["IDX"].as_i64())).collect();
    assert_eq!(pairs, [(Some(7), Some(0)), (Some(8), Some(1)), (Some(9), Some(2))]);
    let one = gateway.client.post("/v2/models/repeat/generate", json!({ "IN": [7] }).to_string()).await.ok();
    assert_eq!((&one["OUT"], &one["IDX"]), (&json!(7), &json!(0)));
    let several = gateway.client.post("/v2/models/repeat/generate", body.to_string()).await;
    assert_eq!(several.status, 400);
    assert!(String::from_utf8_lossy(&several.body).contains("generate_stream"), "{several:?}");
    let input = json!([{ "name": "IN", "datatype": "INT32", "shape": [1], "data": [5] }]);
    let inferred = gateway.client.infer("repeat", &json!({ "inputs": input })).await.ok();
    assert_eq!(inferred["outputs"][0]["data"], json!([5]));
}

#[tokio::test(flavor = "multi_thread")]
async fn generated_words_come_one_by_one_and_joined_where_one_answer_is_taken() {
    let gateway = gateway::start(CONFIG).await;
    let body = json!({ "text_input": "the", "max_words": 3 });
    let streamed = events(&generate(&gateway, "next-words", &body).await);
    let words: Vec<Value> = streamed.iter().map(|one| serde_json::from_str(one).expect("JSON")).collect();
    assert_eq!(words.len(), 3);
    let joined: String = words.iter().filter_map(|one| one["text_output"].as_str()).collect();
    let whole = gateway.client.post("/v2/models/next-words/generate", body.to_string()).await.ok();
    assert_eq!(whole["text_output"], json!(joined));
    assert!(joined.split_whitespace().all(|word| ["sea", "shark"].contains(&word)), "{joined}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_sees_parameters_and_whether_its_parts_are_taken() {
    let gateway = gateway::start(CONFIG).await;
    let body =
        json!({ "do": "context", "parameters": { "temperature": 0.5, "top": 3, "on": true, "name": "a" } });
    let path = "/v2/models/probe/generate";
    let seen = gateway.client.post(path, body.to_string()).await.ok();
    let wanted = ["name=Text(\"a\")", "on=Bool(true)", "temperature=Number(0.5)", "top=Integer(3)"];
    assert_eq!(seen, json!({ "in_parts": false, "parameters": wanted, "route": null }));
    let streamed = gateway.client.predict("probe", &json!({ "do": "context" })).await.ok();
    assert_eq!(streamed["in_parts"], true);
}

/// Triton's tools read a configuration before they ask, pipelines' too.
#[tokio::test(flavor = "multi_thread")]
async fn tools_are_told_which_pipelines_have_several_answers() {
    let gateway = gateway::start(CONFIG).await;
    let config = async |path: &str| gateway.client.get(&format!("/v2/models/{path}/config")).await;
    for (name, is_decoupled, rows) in [("repeat", true, 0), ("next-words", true, 0), ("through", false, 8)] {
        let shown = config(name).await.ok();
        assert_eq!(shown["model_transaction_policy"]["decoupled"], json!(is_decoupled), "{shown}");
        assert_eq!(shown["max_batch_size"], json!(rows), "{shown}");
    }
    assert_eq!(config("through").await.ok()["input"][0]["dims"], json!([4]));
    assert_eq!(config("repeat/versions/1").await.ok()["input"][0]["data_type"], "TYPE_STRING");
    assert_eq!(config("repeat/versions/2").await.status, 404);
}

/// The head must not go down with an error that comes at the same moment.
#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_breaks_off_at_once_still_has_its_head_and_its_parts() {
    let gateway = gateway::start(CONFIG).await;
    let order = json!({ "do": "bytes", "amount": 2, "then": "fail" }).to_string();
    let head = format!("host: x\r\ncontent-length: {}\r\n\r\n", order.len());
    let request = format!("POST /v1/models/probe:predict HTTP/1.1\r\n{head}{order}");
    for _ in 0..30 {
        let mut stream = TcpStream::connect(gateway.client.address()).await.expect("connected");
        stream.write_all(request.as_bytes()).await.expect("sent");
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.expect("closed");
        let answer = String::from_utf8_lossy(&answer);
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer:?}");
        assert!(answer.contains("0;") && answer.contains("1;"), "{answer:?}");
        assert!(!answer.ends_with("0\r\n\r\n"), "{answer:?}");
    }
}
