//! Places: waited for, and given back whatever happens.

use std::time::Duration;

use sluice_sandbox::CallError;
use tokio::time::{Instant, timeout};

use crate::guest;
use crate::support::{ask, body, context, context_within, options, sandbox};

/// Loops for ever when the body starts with `l`, else echoes.
const LOOP_OR_ECHO: &str = r"
    (if (i32.eq (i32.load8_u (local.get $data)) (i32.const 108)) (then (loop $again (br $again))))
    (call $answer (local.get $data) (local.get $len))";

#[tokio::test]
async fn dropping_a_call_ends_the_guest_and_gives_its_place_back() {
    let mut options = options();
    options.limits.concurrency = 1;
    options.limits.call_timeout = Duration::from_secs(60);
    let plugin = sandbox().load(&guest::pipeline("", "", LOOP_OR_ECHO), options).unwrap();
    for _ in 0..5 {
        let looping = plugin.handle(context(), body("loop"));
        assert!(timeout(Duration::from_millis(30), looping).await.is_err(), "it was cut short");
        let start = Instant::now();
        assert_eq!(ask(&plugin, "fine").await.unwrap(), "fine");
        assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
    }
    let start = Instant::now();
    while plugin.calls_in_flight() > 0 {
        assert!(start.elapsed() < Duration::from_secs(5), "a place was lost");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test]
async fn calls_beyond_the_places_wait_and_then_are_told_so() {
    let mut options = options();
    options.limits.concurrency = 1;
    options.limits.call_timeout = Duration::from_secs(60);
    options.limits.permit_wait_max = Duration::from_millis(100);
    let plugin = sandbox().load(&guest::pipeline("", "", LOOP_OR_ECHO), options).unwrap();
    let busy = plugin.clone();
    let looping = tokio::spawn(async move { busy.handle(context(), body("loop")).await });
    while plugin.calls_in_flight() == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(ask(&plugin, "x").await, Err(CallError::Overloaded));
    let soon = context_within(Duration::from_millis(20));
    assert_eq!(plugin.handle(soon, body("x")).await.expect_err("busy"), CallError::Deadline);
    looping.abort();
    assert_eq!(ask(&plugin, "x").await.unwrap(), "x");
}

#[tokio::test]
async fn many_calls_at_once_are_all_served() {
    let plugin = sandbox().load(&guest::pipeline("", "", LOOP_OR_ECHO), options()).unwrap();
    let calls: Vec<_> = (0..100)
        .map(|_| {
            let plugin = plugin.clone();
            tokio::spawn(async move { ask(&plugin, "fine").await })
        })
        .collect();
    for call in calls {
        assert_eq!(call.await.unwrap().unwrap(), "fine");
    }
}

#[test]
fn a_plugin_outlives_its_sandbox_and_may_be_dropped_on_any_thread() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let plugin = crate::support::load(&guest::pipeline("", "", LOOP_OR_ECHO));
    runtime.block_on(async move {
        assert_eq!(ask(&plugin, "fine").await.unwrap(), "fine");
        drop(plugin);
    });
}
