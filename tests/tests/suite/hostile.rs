//! Plugins that misbehave: each costs its own call, and a caller beside them notices
//! nothing (P7–P20).

use std::time::Duration;

use serde_json::json;
use sluice_tests::canary::Canary;
use sluice_tests::client::Reply;
use sluice_tests::gateway::{self, Running};
use sluice_tests::guests::HOSTILE;
use tokio::time::Instant;

async fn order(gateway: &Running, what: &str, hook: &str, amount: u32) -> Reply {
    gateway.client.predict("hostile", &json!({"do": what, "hook": hook, "amount": amount})).await
}

fn seen(reply: &Reply) -> (u16, String) {
    (reply.status.as_u16(), reply.code())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_that_loops_traps_recurses_or_eats_memory_costs_its_own_call() {
    let gateway = gateway::start(HOSTILE).await;
    let canary = Canary::start(&gateway.client);
    let cases = [
        ("loop", 1, 504, "plugin_timeout"),
        ("trap", 1, 502, "plugin_trap"),
        ("panic", 7, 502, "plugin_trap"),
        ("overflow-stack", 1, 502, "plugin_stack"),
        ("eat-memory", 1, 502, "plugin_memory"),
        ("leak-handles", 1_000_000, 502, "plugin_output"),
    ];
    for hook in ["pre", "post"] {
        for (what, amount, status, code) in cases {
            let reply = order(&gateway, what, hook, amount).await;
            assert_eq!(seen(&reply), (status, code.to_owned()), "{what} in {hook}: {:?}", reply.body);
            let next = order(&gateway, "nothing", hook, 1).await;
            assert_eq!(
                (next.status.as_u16(), &next.body[..]),
                (200, &b"nothing"[..]),
                "after {what} in {hook}"
            );
        }
    }
    canary.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nonsense_is_502_before_the_engine_sees_it() {
    let gateway = gateway::start(HOSTILE).await;
    let canary = Canary::start(&gateway.client);
    let cases = [
        "wrong-name",
        "no-inputs",
        "same-name-twice",
        "one-too-many",
        "wrong-dtype",
        "wrong-rank",
        "wrong-width",
        "no-rows",
        "no-dimensions",
        "nine-dimensions",
        "short-data",
        "long-data",
        "overflowing-shape",
        "zero-times-overflow",
        "broken-bytes",
        "many-rows",
        "sparse-column",
        "sparse-offsets",
        "sparse-lengths",
        "sparse-huge",
    ];
    for what in cases {
        let reply = order(&gateway, what, "pre", 1).await;
        assert_eq!(seen(&reply), (502, "plugin_output".to_owned()), "{what}: {:?}", reply.body);
    }
    for what in ["read-past-end", "read-overflow", "rows-past-end"] {
        let reply = order(&gateway, what, "post", 1).await;
        assert_eq!(reply.status, 502, "{what}: {:?}", reply.body);
    }
    let batches = gateway.metric("sluice_batch_rows_count", "wide").await;
    // Only the three that misbehave after the model have run it.
    assert!(batches <= 3.0, "{batches} batches ran");
    canary.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_plugin_says_reaches_the_caller_cut_and_clean() {
    let gateway = gateway::start(HOSTILE).await;
    let refused = order(&gateway, "refuse", "pre", 418).await;
    assert_eq!((refused.status.as_u16(), refused.json()["error"].as_str()), (418, Some("refused on demand")));
    let long = order(&gateway, "long-refusal", "pre", 1_000_000).await;
    assert!(long.status.is_client_error() || long.status == 502, "{}", long.status);
    assert!(long.body.len() < 4096, "{} bytes", long.body.len());
    let strange = order(&gateway, "strange-refusal", "pre", 1).await;
    assert!(!strange.headers.contains_key("x-injected"));
    let header = order(&gateway, "strange-header", "pre", 1).await;
    assert_eq!(seen(&header), (502, "plugin_output".to_owned()));
    let flood = order(&gateway, "log-flood", "pre", 10_000).await;
    assert!(flood.status.is_success() || flood.status.is_server_error(), "{}", flood.status);
    assert_eq!(order(&gateway, "nothing", "pre", 1).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn loops_of_many_callers_end_on_time_and_give_their_places_back() {
    let gateway = gateway::start(HOSTILE).await;
    let canary = Canary::start(&gateway.client);
    let before = Instant::now();
    let mut calls = Vec::new();
    for number in 0..24 {
        let client = gateway.client.clone();
        calls.push(tokio::spawn(async move {
            let order = json!({"do": "loop"});
            let call = client.predict("hostile", &order);
            if number % 3 == 0 {
                // This caller does not wait for the end (P25).
                return tokio::time::timeout(Duration::from_millis(50), call).await.ok();
            }
            Some(call.await)
        }));
    }
    for call in calls {
        if let Some(reply) = call.await.expect("no panic") {
            assert_eq!(seen(&reply), (504, "plugin_timeout".to_owned()));
        }
    }
    assert!(before.elapsed() < Duration::from_secs(15), "{:?}", before.elapsed());
    assert_eq!(order(&gateway, "nothing", "pre", 1).await.status, 200);
    canary.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_is_reused_only_where_the_config_says_so() {
    let gateway = gateway::start(HOSTILE).await;
    let mut counts = Vec::new();
    for _ in 0..20 {
        counts.push(
            gateway.client.predict("reused", &json!({})).await.ok()["calls"].as_u64().expect("a count"),
        );
        assert_eq!(gateway.client.predict("good", &json!({})).await.ok()["calls"], 1);
    }
    assert_eq!(counts, (1..=20).collect::<Vec<u64>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_that_cannot_start_is_never_served() {
    for what in ["fail", "loop", "panic", "trap", "eat-memory"] {
        let config = format!(
            "[plugins.bad]\nfile = \"{{repo}}/tests/guests/dist/hostile_init.wasm\"\n\
             config = {{ do = \"{what}\", amount = 1000000000 }}\n"
        );
        let error = gateway::try_start(&config).await.err().expect("refused");
        assert!(error.contains("plugins.bad"), "{what}: {error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_import_that_is_not_granted_is_refused_by_name() {
    let cases = [("kv_probe.wasm", "wasi:keyvalue"), ("hostile_pipeline.wasm", "inference")];
    for (file, import) in cases {
        let config = format!("[plugins.bad]\nfile = \"{{repo}}/tests/guests/dist/{file}\"\n");
        let error = gateway::try_start(&config).await.err().expect("refused");
        assert!(error.contains(import), "{file}: {error}");
    }
}
