//! An answer in parts: order, back-pressure off the budget, limits, and callers that leave.

use std::time::Duration;

use sluice_sandbox::{Answer, CallError, Part, Plugin, PluginLimits, PluginOptions, parts};
use tokio::time::Instant;

use crate::support::{body, context, context_within, dist, options, sandbox};

fn probe() -> Plugin {
    let limits = PluginLimits { answer_parts_max: 1000, answer_bytes_max: 1 << 20, ..options().limits };
    sandbox().load(&dist("parts_probe"), PluginOptions { limits, ..options() }).unwrap()
}

fn bytes(part: Part) -> Vec<u8> {
    match part {
        Part::Body { data, .. } => data.to_vec(),
        Part::Tensors(_) => panic!("a body"),
    }
}

async fn until_idle(plugin: &Plugin) {
    let until = Instant::now() + Duration::from_secs(5);
    while plugin.calls_in_flight() > 0 {
        assert!(Instant::now() < until, "a call is left");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn parts_come_in_order_and_the_rest_is_returned() {
    let plugin = probe();
    assert!(plugin.sends_parts());
    let (sender, mut receiver) = parts();
    let order = body(r#"{"do": "bytes", "amount": 100, "then": "last"}"#);
    let call = tokio::spawn({
        let plugin = plugin.clone();
        async move { plugin.handle_in_parts(context(), order, sender).await }
    });
    let mut all = Vec::new();
    while let Some(part) = receiver.recv().await {
        all.extend(bytes(part));
    }
    let wanted: String = (0..100).map(|number| format!("{number};")).collect();
    assert_eq!(String::from_utf8_lossy(&all), wanted);
    let Ok(Some(Answer::Body(last))) = call.await.unwrap() else { panic!("a last part") };
    assert_eq!(last.data, "last");
}

#[tokio::test]
async fn whoever_takes_one_answer_gets_the_parts_put_together() {
    let plugin = probe();
    let joined = plugin.handle(context(), body(r#"{"do": "bytes", "amount": 3, "then": "last"}"#)).await;
    let Ok(Answer::Body(joined)) = joined else { panic!("{joined:?}") };
    assert_eq!(
        (&joined.data[..], joined.content_type.as_str()),
        (&b"0;1;2;last"[..], "application/octet-stream")
    );
    let one = plugin.handle(context(), body(r#"{"do": "tensors"}"#)).await;
    assert!(matches!(one, Ok(Answer::Tensors(tensors)) if tensors.len() == 1));
    for order in [r#"{"do": "tensors", "amount": 2}"#, r#"{"do": "mixed"}"#] {
        let refused = plugin.handle(context(), body(order)).await;
        assert!(matches!(&refused, Err(CallError::Failure(failure)) if failure.status == 400), "{refused:?}");
    }
}

#[tokio::test]
async fn waiting_for_a_slow_reader_costs_no_budget_and_ends_at_the_deadline() {
    let plugin = probe();
    let (sender, mut receiver) = parts();
    let order = body(r#"{"do": "bytes", "amount": 60, "bytes": 10, "then": "last"}"#);
    let call = tokio::spawn({
        let plugin = plugin.clone();
        async move { plugin.handle_in_parts(context(), order, sender).await }
    });
    let mut count = 0;
    while receiver.recv().await.is_some() {
        count += 1;
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    // Three times its budget.
    assert_eq!(count, 60);
    assert!(matches!(call.await.unwrap(), Ok(Some(_))));

    let (sender, receiver) = parts();
    let order = body(r#"{"do": "endless", "bytes": 1000}"#);
    let late = plugin.handle_in_parts(context_within(Duration::from_millis(300)), order, sender).await;
    assert_eq!(late.unwrap_err(), CallError::Deadline);
    drop(receiver);
    until_idle(&plugin).await;
}

#[tokio::test]
async fn a_caller_that_leaves_frees_the_place() {
    let plugin = probe();
    for order in [r#"{"do": "bytes", "amount": 9, "pause_ms": 5000}"#, r#"{"do": "endless", "bytes": 9}"#] {
        let (sender, receiver) = parts();
        let call = plugin.handle_in_parts(context(), body(order), sender);
        assert!(tokio::time::timeout(Duration::from_millis(50), call).await.is_err());
        drop(receiver);
        until_idle(&plugin).await;
    }
    // One that only stops reading is told so: a pause ends, and what is sent is refused.
    let (sender, receiver) = parts();
    drop(receiver);
    let order = body(r#"{"do": "bytes", "amount": 9, "pause_ms": 5000}"#);
    let gone = plugin.handle_in_parts(context(), order, sender).await;
    assert!(matches!(&gone, Err(CallError::Failure(failure)) if failure.status == 500), "{gone:?}");
}

#[tokio::test]
async fn too_many_and_too_large_parts_end_the_call() {
    let plugin = probe();
    for (order, what) in [
        (r#"{"do": "endless", "bytes": 1}"#, "more than 1000 parts"),
        (r#"{"do": "endless", "bytes": 100000}"#, "more than 1048576 bytes"),
        (r#"{"do": "bytes", "bytes": 2000000}"#, "more than 1048576 bytes"),
    ] {
        let (sender, mut receiver) = parts();
        let reader = tokio::spawn(async move { while receiver.recv().await.is_some() {} });
        let ended = plugin.handle_in_parts(context(), body(order), sender).await;
        assert!(matches!(&ended, Err(CallError::Output(text)) if text.contains(what)), "{ended:?}");
        reader.await.unwrap();
        let joined = plugin.handle(context(), body(order)).await;
        assert!(matches!(&joined, Err(CallError::Output(text)) if text.contains(what)), "{joined:?}");
    }
}
