//! Plugins that misbehave in a call, uploaded to the real program over its admin API: each
//! call gets the answer that is documented, is counted once, costs nobody else anything,
//! and leaves nothing (P9–P17, P19, P20, P25).

use std::time::Duration;

use http::Method;
use serde_json::Value;
use sluice_tests::canary::Canary;
use sluice_tests::client::Reply;
use sluice_tests::guests::UPLOADS;
use sluice_tests::process::Program;
use sluice_tests::text::guest;
use sluice_tests::versions;
use tokio::time::Instant;

use super::hostile_uploads::{assert_back_to, assert_tells_nothing};

/// A guest of `tests/guests/text`, the status and reason code of a call, and the word that
/// the call is counted under.
struct Case(&'static str, u16, &'static str, &'static str);

/// How long a call may take that is ended by its budget of 300 ms: two ticks more, and a
/// copy of 64 MiB, on a machine that a dozen other tests keep busy.
const OVER_BUDGET: Duration = Duration::from_secs(3);

/// Uploads a guest and lets it serve.
async fn serve(gateway: &Program, plugin: &str, version: &str) {
    let uploaded = gateway.upload(plugin, version, &guest(version)).await;
    assert_eq!(uploaded.status, 201, "{version}: {:?}", uploaded.body);
    gateway.activate(plugin, version).await.ok();
}

async fn call(gateway: &Program, pipeline: &str, body: &'static str) -> Reply {
    let path = format!("/v1/models/{pipeline}:predict");
    gateway
        .client
        .try_send(Method::POST, &path, &[("content-type", "text/plain")], body)
        .await
        .expect("an answer")
}

/// Calls each guest: the answers are those of the table, and the next call is fine.
async fn call_all(plugin: &str, cases: &[Case]) {
    call_all_in(UPLOADS, plugin, cases).await;
}

async fn call_all_in(config: &str, plugin: &str, cases: &[Case]) {
    let mut gateway = Program::start(config);
    let (first, rest) = cases.split_first().expect("cases");
    serve(&gateway, plugin, first.0).await;
    call(&gateway, plugin, "x").await;
    let before = gateway.held().await;
    let canary = Canary::start(&gateway.client);
    call_one(&mut gateway, plugin, first).await;
    for case in rest {
        serve(&gateway, plugin, case.0).await;
        call_one(&mut gateway, plugin, case).await;
    }
    canary.stop().await;
    // Each version that stays loaded keeps its code, and the descriptor of its memory.
    gateway.activate(plugin, first.0).await;
    for Case(version, ..) in rest {
        let path = format!("/admin/v1/plugins/{plugin}/versions/{version}");
        let is_gone = async || {
            let reply = gateway.admin.try_send(Method::DELETE, &path, &[], "").await.expect("an answer");
            reply.status == 204 || reply.status == 404
        };
        versions::until(is_gone).await;
    }
    assert_back_to(before, &gateway).await;
}

async fn call_one(gateway: &mut Program, plugin: &str, case: &Case) {
    let Case(what, status, code, outcome) = case;
    let labels = [("plugin", plugin), ("version", what), ("outcome", outcome)];
    let requests = [("pipeline", plugin), ("code", code)];
    let calls_before = gateway.metric("sluice_plugin_calls_total", &labels).await;
    let requests_before = gateway.metric("sluice_requests_total", &requests).await;
    let begun = Instant::now();
    let reply = call(gateway, plugin, "x").await;
    let took = begun.elapsed();
    println!("{what}: {} after {took:?}", reply.status);
    let text = String::from_utf8_lossy(&reply.body).into_owned();
    let seen = if reply.status == 200 { "ok".to_owned() } else { reply.code() };
    assert_eq!((reply.status.as_u16(), seen.as_str()), (*status, *code), "{what}: {text}");
    assert_tells_nothing(what, &text, gateway);
    assert!(took < OVER_BUDGET, "{what} took {took:?}");
    assert_eq!(gateway.metric("sluice_plugin_calls_total", &labels).await, calls_before + 1.0, "{what}");
    assert_eq!(gateway.metric("sluice_requests_total", &requests).await, requests_before + 1.0, "{what}");
    gateway.assert_alive().await;
    if plugin == "hostile" {
        let next = call(gateway, plugin, "fine").await;
        assert_eq!((next.status.as_u16(), &next.body[..]), (200, &b"fine"[..]), "after {what}");
    }
    assert_idle(gateway, plugin, what).await;
}

/// No instance of a version is left, and no memory on its account.
async fn assert_idle(gateway: &Program, plugin: &str, version: &str) {
    versions::until(|| async {
        let usage = usage(&gateway.show(plugin).await, version);
        usage["in_flight"] == 0 && usage["instances"] == 0 && usage["memory_bytes"] == 0
    })
    .await;
}

fn usage(plugin: &Value, version: &str) -> Value {
    let versions = plugin["versions"].as_array().expect("a list");
    versions.iter().find(|it| it["version"] == version).expect("it is there")["usage"].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn p9_what_never_returns_is_504_within_its_budget() {
    let timeout = |name| Case(name, 504, "plugin_timeout", "timeout");
    let names = ["loop", "loop-in-host-calls", "loop-in-copies", "search-without-end", "sleep"];
    call_all("hostile", &names.map(timeout)).await;
}

/// It is either written out within its budget or 504, and nobody else waits for it.
#[tokio::test(flavor = "multi_thread")]
async fn p14_sparse_rows_that_say_the_same_a_million_times_cost_nobody_else_anything() {
    let gateway = Program::start(UPLOADS);
    serve(&gateway, "hostile", "sparse-bomb").await;
    let canary = Canary::start(&gateway.client);
    for _ in 0..3 {
        let begun = Instant::now();
        let path = "/v2/models/hostile/infer";
        let input = r#"{"inputs": [{"name": "x", "datatype": "UINT8", "shape": [1], "data": [1]}]}"#;
        let reply = gateway.client.try_send(Method::POST, path, &[], input).await.expect("an answer");
        assert!(matches!(reply.status.as_u16(), 200 | 504), "{:?}", reply.status);
        assert!(begun.elapsed() < OVER_BUDGET, "{:?}", begun.elapsed());
        assert_idle(&gateway, "hostile", "sparse-bomb").await;
    }
    canary.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn p10_a_crash_is_502_plugin_trap_and_the_next_call_is_fine() {
    let trap = |name| Case(name, 502, "plugin_trap", "trap");
    call_all("hostile", &["unreachable", "divide-by-zero", "out-of-bounds", "call-nothing"].map(trap)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn p11_p12_stack_and_memory_end_at_their_limits() {
    call_all(
        "hostile",
        &[
            Case("endless-recursion", 502, "plugin_stack", "stack"),
            Case("large-frames", 502, "plugin_stack", "stack"),
            Case("memory-hog", 502, "plugin_memory", "memory"),
            Case("memory-hog-that-refuses", 507, "refused", "refused"),
        ],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn p13_nonsense_is_502_before_the_engine_sees_it() {
    let mut cases = vec![Case("right-tensor", 200, "ok", "ok")];
    let nonsense = [
        "wrong-name",
        "wrong-dtype",
        "wrong-rank",
        "wrong-width",
        "no-rows",
        "negative-size",
        "overflowing-shape",
        "nine-dimensions",
        "short-data",
        "long-data",
        "broken-strings",
        "unknown-dtype",
        "unknown-handle",
        "no-inputs",
        "same-input-twice",
        "no-results",
        "two-results",
    ];
    cases.extend(nonsense.map(|name| Case(name, 502, "plugin_output", "output")));
    call_all("shapes", &cases).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn p14_p15_what_is_too_much_or_no_handle_is_502_and_words_are_cut() {
    let output = |name| Case(name, 502, "plugin_output", "output");
    let mut cases = Vec::from(
        [
            "giant-list",
            "large-list",
            "million-strings",
            "wrong-status",
            "header-in-content-type",
            "handle-leak",
        ]
        .map(output),
    );
    cases.push(Case("megabyte-error", 422, "refused", "refused"));
    cases.extend(
        ["double-drop", "use-after-drop", "use-twice", "giant-writer"]
            .map(|name| Case(name, 502, "plugin_trap", "trap")),
    );
    // What is too much is refused, not slow: a busy machine must not make it a timeout.
    let patient = UPLOADS.replace("call_timeout_ms = 300\n", "call_timeout_ms = 2500\n");
    call_all_in(&patient, "hostile", &cases).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn p17_strings_that_are_none_are_502() {
    let names = [
        "bad-utf-8",
        "text-past-the-end",
        "text-over-the-end",
        "unpaired-surrogate",
        "misaligned-utf-16",
        "latin1-utf-16",
        "misaligned-latin1-utf-16",
        "unknown-variant",
        "misaligned-result",
        "result-past-the-end",
    ];
    call_all("hostile", &names.map(|name| Case(name, 502, "plugin_output", "output"))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn p16_log_lines_are_few_short_escaped_and_under_the_plugin_s_name() {
    let gateway = Program::start(UPLOADS);
    for version in ["log-flood", "log-megabyte", "log-escapes"] {
        serve(&gateway, "hostile", version).await;
        assert_eq!(call(&gateway, "hostile", "x").await.status, 200, "{version}");
    }
    // Lines are written by a thread of their own.
    tokio::time::sleep(Duration::from_millis(300)).await;
    let log = gateway.log();
    assert!(log.len() < 100_000, "the log has {} bytes", log.len());
    assert!(log.bytes().all(|byte| byte >= b' ' || byte == b'\n'), "control characters are in the log");
    let lines: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).expect("JSON lines")).collect();
    let of_plugin: Vec<&Value> = lines.iter().filter(|line| line["target"] == "plugin").collect();
    let count = |version: &str| of_plugin.iter().filter(|line| line["version"] == version).count();
    assert!((100..400).contains(&count("log-flood")), "{}", count("log-flood"));
    assert_eq!((count("log-megabyte"), count("log-escapes")), (1, 1));
    for line in &of_plugin {
        assert_eq!(line["plugin"], "hostile");
        assert!(line["request_id"].as_str().is_some_and(|id| !id.is_empty()), "{line}");
        assert!(line["message"].as_str().is_some_and(|text| text.len() <= 1100), "{line}");
    }
    assert!(lines.iter().all(|line| line["message"] != "forged line"), "a line was forged");
    let kept = gateway.admin.get("/admin/v1/plugins/hostile/logs?limit=1000").await.ok();
    let kept = kept["lines"].as_array().expect("a list");
    assert!(kept.iter().any(|line| {
        line["version"] == "log-escapes"
            && line["message"]
                .as_str()
                .is_some_and(|text| text.contains("\\u{1b}[2J") && !text.contains('\u{1b}'))
    }));
    let written = [("plugin", "hostile"), ("version", "log-flood"), ("outcome", "written")];
    let dropped = [("plugin", "hostile"), ("version", "log-flood"), ("outcome", "dropped")];
    let written = gateway.metric("sluice_plugin_log_lines_total", &written).await;
    let dropped = gateway.metric("sluice_plugin_log_lines_total", &dropped).await;
    assert_eq!(written, count("log-flood") as f64);
    // The note that there will be no more is a line of the gateway's.
    assert_eq!(written - 1.0 + dropped, 10_000.0, "every line is counted");
}

/// Two plugins take turns in the same places: neither finds what the other, or its own
/// former call, has left.
#[tokio::test(flavor = "multi_thread")]
async fn p19_nobody_finds_what_a_former_call_has_left() {
    let config = UPLOADS.replace(
        "[pipelines.good]",
        "[plugins.other]\nbake_ms = 0\n[pipelines.other]\nplugin = \"other\"\n[pipelines.good]",
    );
    let gateway = Program::start(&config);
    serve(&gateway, "hostile", "state-write").await;
    serve(&gateway, "other", "state-read").await;
    let mut callers = Vec::new();
    for caller in 0..4 {
        let client = gateway.client.clone();
        callers.push(tokio::spawn(async move {
            for turn in 0..25 {
                let pipeline = if (caller + turn) % 2 == 0 { "hostile" } else { "other" };
                let reply = client.post(&format!("/v1/models/{pipeline}:predict"), "x").await;
                assert_eq!((reply.status.as_u16(), &reply.body[..]), (200, &b"clean"[..]), "{pipeline}");
            }
        }));
    }
    for caller in callers {
        caller.await.expect("nobody finds anything");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn p20_the_same_input_gives_the_same_bytes_a_thousand_times() {
    let gateway = Program::start(UPLOADS);
    serve(&gateway, "hostile", "nan").await;
    let first = call(&gateway, "hostile", "1234").await;
    assert_eq!(first.status, 200, "{:?}", first.body);
    assert_eq!(first.body[..4], 0x7fc0_0000_u32.to_le_bytes(), "the canonical NaN");
    for _ in 0..1000 {
        assert_eq!(call(&gateway, "hostile", "1234").await.body, first.body);
    }
}

/// Callers who leave in the middle of a call that would take a minute: the guest ends with
/// them.
#[tokio::test(flavor = "multi_thread")]
async fn p25_a_caller_who_leaves_takes_the_guest_along() {
    let config = UPLOADS.replace("call_timeout_ms = 300\n", "call_timeout_ms = 60000\n");
    let mut gateway = Program::start(&config);
    serve(&gateway, "hostile", "loop").await;
    assert_eq!(call(&gateway, "hostile", "fine").await.status, 200);
    let before = gateway.held().await;
    let canary = Canary::start(&gateway.client);
    let mut callers = Vec::new();
    for number in 0..24 {
        let client = gateway.client.clone();
        callers.push(tokio::spawn(async move {
            let call = client.post("/v1/models/hostile:predict", "x");
            let patience = Duration::from_millis(20 * number);
            assert!(tokio::time::timeout(patience, call).await.is_err(), "it never answers");
        }));
    }
    versions::until(|| async {
        usage(&gateway.show("hostile").await, "loop")["in_flight"].as_u64() > Some(3)
    })
    .await;
    for caller in callers {
        caller.await.expect("no panic");
    }
    let left = Instant::now();
    assert_idle(&gateway, "hostile", "loop").await;
    assert!(left.elapsed() < Duration::from_secs(10), "{:?}", left.elapsed());
    canary.stop().await;
    gateway.assert_alive().await;
    assert_eq!(call(&gateway, "hostile", "fine").await.status, 200);
    assert!(!gateway.log().contains("panicked"), "{}", gateway.log());
    assert_back_to(before, &gateway).await;
}
