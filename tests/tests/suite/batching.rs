//! What a request may ask of the scheduler, and what its operator may: seen from outside.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use sluice_tests::client::{Client, Reply};
use sluice_tests::gateway;
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// A model that takes 50 ms for one row at a time.
const SLOW: &str = r#"
    [models.slow]
    engine = "sim"
    file = "{repo}/tests/models/slow.sim.json"
    max_batch_size = 1
"#;

fn request(marker: i64, parameters: &Value) -> Value {
    json!({"parameters": parameters,
        "inputs": [{"name": "x", "datatype": "INT64", "shape": [1, 2], "data": [marker, 0]}]})
}

/// Sends a request, and says as the how manieth it was answered.
fn send(client: &Client, body: Value, turn: &Arc<AtomicUsize>) -> JoinHandle<(usize, Reply)> {
    let (client, turn) = (client.clone(), Arc::clone(turn));
    tokio::spawn(async move {
        let reply = client.infer("slow", &body).await;
        (turn.fetch_add(1, Ordering::SeqCst), reply)
    })
}

/// Long enough for what was sent to be queued.
async fn settle() {
    tokio::time::sleep(Duration::from_millis(10)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_of_a_higher_level_overtakes_those_that_wait() {
    let config = format!("{SLOW}\n[models.slow.batching]\npriority_levels = 2\ndefault_priority_level = 2\n");
    let gateway = gateway::start(&config).await;
    let turn = Arc::new(AtomicUsize::new(0));
    let running = send(&gateway.client, request(0, &json!({})), &turn);
    settle().await;
    let usual = send(&gateway.client, request(1, &json!({})), &turn);
    settle().await;
    let urgent = send(&gateway.client, request(2, &json!({"priority": 1})), &turn);
    let order = [running, urgent, usual];
    for (expected, call) in order.into_iter().enumerate() {
        let (turn, reply) = call.await.expect("no panic");
        reply.ok();
        assert_eq!(turn, expected);
    }
}

/// A plugin that calls a model of 50 ms for one row at a time.
const CALLED: &str = r#"
    [models.slow]
    engine = "sim"
    file = "{repo}/tests/models/slow_wide.sim.json"
    max_batch_size = 1
    [models.slow.batching]
    priority_levels = 2
    default_priority_level = 2
    [plugins.caller]
    file = "{repo}/tests/guests/dist/hostile_pipeline.wasm"
    config = { input = "x", columns = 4 }
    models = ["slow"]
    call_timeout_ms = 5000
    [pipelines.caller]
    plugin = "caller"
"#;

#[tokio::test(flavor = "multi_thread")]
async fn the_models_that_a_plugin_calls_see_the_requests_priority_and_deadline() {
    let gateway = gateway::start(CALLED).await;
    let turn = Arc::new(AtomicUsize::new(0));
    let send = |parameters: Value, timeout_ms: &'static str| {
        let (client, turn) = (gateway.client.clone(), Arc::clone(&turn));
        let body = json!({ "do": "infer", "model": "slow", "parameters": parameters }).to_string();
        tokio::spawn(async move {
            let path = "/v2/models/caller/generate";
            let header = ("x-request-timeout-ms", timeout_ms);
            let reply = client.try_send(http::Method::POST, path, &[header], body).await.expect("an answer");
            (turn.fetch_add(1, Ordering::SeqCst), reply)
        })
    };
    let running = send(json!({}), "30000");
    settle().await;
    let usual = send(json!({}), "30000");
    settle().await;
    let urgent = send(json!({ "priority": 1 }), "30000");
    let late = send(json!({}), "60");
    for (expected, call) in [(0, running), (1, late), (2, urgent), (3, usual)] {
        let (turn, reply) = call.await.expect("no panic");
        if expected == 1 {
            assert!([502, 504].contains(&reply.status.as_u16()), "{reply:?}");
        } else {
            assert_eq!(reply.status, 200, "{reply:?}");
        }
        assert_eq!(turn, expected);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_waited_for_its_timeout_is_answered_though_all_are_busy() {
    let policy = "[models.slow.batching.default_queue_policy]\ndefault_timeout_microseconds = 15000\n";
    let gateway = gateway::start(&format!("{SLOW}\n{policy}")).await;
    let turn = Arc::new(AtomicUsize::new(0));
    let running = send(&gateway.client, request(0, &json!({})), &turn);
    settle().await;
    let (turn, reply) = send(&gateway.client, request(1, &json!({})), &turn).await.expect("no panic");
    assert_eq!((turn, reply.status.as_u16(), reply.code().as_str()), (0, 503, "queue_timeout"));
    running.await.expect("no panic").1.ok();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_parameter_timeout_is_a_time_in_the_queue_and_only_where_the_policy_lets_requests_say_it() {
    let policy = |allows: bool| {
        format!(
            "{SLOW}\n[models.slow.batching.default_queue_policy]\ndefault_timeout_microseconds = 10000000\n\
             allow_timeout_override = {allows}\n"
        )
    };
    // Also where nothing waits: many clients mean milliseconds.
    for (config, expected) in [(SLOW.to_owned(), 200), (policy(false), 200), (policy(true), 503)] {
        let gateway = gateway::start(&config).await;
        let turn = Arc::new(AtomicUsize::new(0));
        // A microsecond is over before an instance has woken up, where it counts.
        let first = if expected == 200 { json!({"timeout": 1}) } else { json!({}) };
        let running = send(&gateway.client, request(0, &first), &turn);
        settle().await;
        let (_, reply) =
            send(&gateway.client, request(1, &json!({"timeout": 5000})), &turn).await.expect("no panic");
        assert_eq!(reply.status.as_u16(), expected, "{reply:?}");
        let (_, first) = running.await.expect("no panic");
        assert_eq!(first.status.as_u16(), 200, "it never waited: {first:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_no_run_can_answer_in_time_is_refused_at_once() {
    let gateway = gateway::start(SLOW).await;
    for marker in 0..6 {
        gateway.client.infer("slow", &request(marker, &json!({}))).await.ok();
    }
    // A run is known to take 50 ms by now.
    let before = Instant::now();
    let (path, header) = ("/v2/models/slow/infer", ("x-request-timeout-ms", "40"));
    let body = request(9, &json!({})).to_string();
    let reply = gateway.client.try_send(http::Method::POST, path, &[header], body).await.expect("an answer");
    assert_eq!((reply.status.as_u16(), reply.code().as_str()), (504, "deadline"));
    assert!(before.elapsed() < Duration::from_millis(30), "{:?}", before.elapsed());
}

fn lengths(ids: &[i64]) -> Value {
    json!({"inputs": [{"name": "ids", "datatype": "INT64", "shape": [1, ids.len()], "data": ids}]})
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_of_different_lengths_share_a_batch_and_see_nothing_of_it() {
    let gateway = gateway::start(
        r#"
        [models.lengths]
        engine = "sim"
        file = "{repo}/tests/models/lengths.sim.json"
        max_batch_size = 8
        [models.lengths.padding]
        inputs = ["ids"]
        sizes = [4, 8]
        value = 100
        mask = "mask"
        trim = ["echo"]
    "#,
    )
    .await;
    let calls: Vec<_> = [vec![9], vec![1, 2, 3], vec![4], vec![1, 2, 3, 4, 5], vec![6, 7]]
        .into_iter()
        .map(|ids: Vec<i64>| {
            let client = gateway.client.clone();
            tokio::spawn(async move { (client.infer("lengths", &lengths(&ids)).await.ok(), ids) })
        })
        .collect();
    let mut shared = 0;
    for call in calls {
        let (answer, ids) = call.await.expect("no panic");
        let output = |name: &str| {
            let outputs = answer["outputs"].as_array().expect("outputs");
            outputs.iter().find(|output| output["name"] == name).expect(name).clone()
        };
        assert_eq!(
            (&output("echo")["data"], &output("echo")["shape"]),
            (&json!(ids), &json!([1, ids.len()]))
        );
        // The engine saw what fills up, and the mask that tells it from values.
        let size = if ids.len() <= 4 { 4 } else { 8 };
        let filled = ids.iter().sum::<i64>() + 100 * i64::try_from(size - ids.len()).expect("small");
        assert_eq!(output("sum")["data"][0].as_f64(), Some(filled as f64));
        assert_eq!(output("values")["data"][0].as_f64(), Some(ids.len() as f64));
        shared += usize::from(output("rows")["data"][0].as_i64() > Some(1));
    }
    assert!(shared >= 2, "{shared} of 5 shared a batch");
    let reply = gateway.client.infer("lengths", &lengths(&[0; 9])).await;
    assert_eq!((reply.status.as_u16(), reply.code().as_str()), (400, "bad_shape"));
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_leave_in_the_order_of_their_batches_where_that_is_to_be_preserved() {
    // The first run of 50 ms is followed by another one 10 ms later on the second instance,
    // whose answer has to wait; with the third they would otherwise be out of order.
    let config = format!("{SLOW}\ninstances = 2\n[models.slow.batching]\npreserve_ordering = true\n");
    let gateway = gateway::start(&config).await;
    let turn = Arc::new(AtomicUsize::new(0));
    let mut calls = Vec::new();
    for marker in 0..8 {
        calls.push(send(&gateway.client, request(marker, &json!({})), &turn));
        settle().await;
    }
    for (expected, call) in calls.into_iter().enumerate() {
        let (turn, reply) = call.await.expect("no panic");
        reply.ok();
        // Two that end at once may reach us either way round.
        assert!(turn.abs_diff(expected) <= 1, "{turn} instead of {expected}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_batches_run_at_once_than_the_engine_may_and_that_changes_live() {
    let two = format!("{SLOW}{}", SLOW.replace("slow]", "other]"));
    let limited = |runs: usize| format!("[engine]\nruns_max = {runs}\n{two}");
    let gateway = gateway::start(&limited(1)).await;
    let both = || async {
        let before = Instant::now();
        let body = request(1, &json!({}));
        let (one, other) =
            tokio::join!(gateway.client.infer("slow", &body), gateway.client.infer("other", &body));
        one.ok();
        other.ok();
        before.elapsed()
    };
    let took = both().await;
    assert!(took >= Duration::from_millis(100), "{took:?}: they ran at once");
    gateway.reload(&limited(2)).await;
    let took = both().await;
    assert!(took < Duration::from_millis(95), "{took:?}: one waited for the other");
}
