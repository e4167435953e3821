//! Guests that wait for models keep nobody from running, and never wait for each other.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use sluice_sandbox::{CallError, Grants, Inference, KeyValue, PluginOptions, Sandbox, SandboxConfig};
use tokio::sync::{Barrier, Semaphore};
use tokio::time::timeout;

use crate::capabilities::{INFERENCE, INPUT, OUTPUT};
use crate::guest;
use crate::support::{Echo, Hanging, ask, context_within, options};

/// Far more than anything here takes, far less than a deadlock.
const PATIENCE: Duration = Duration::from_secs(10);

fn sandbox_of(instances_max: usize) -> Sandbox {
    let config = SandboxConfig { guest_threads: 1, instances_max, ..crate::support::config() };
    Sandbox::new(config).unwrap()
}

fn asker() -> Vec<u8> {
    let body = format!(
        "{INPUT} (call $infer (i32.const 16) (i32.const 4) (i32.const 2048) (i32.const 1) (i32.const 1024)) {OUTPUT}"
    );
    guest::pipeline(INFERENCE, "", &body)
}

fn echo() -> Vec<u8> {
    guest::pipeline("", "", "(call $answer (local.get $data) (local.get $len))")
}

fn with(models: Arc<dyn Inference>, concurrency: usize) -> PluginOptions {
    let mut options = options();
    options.limits.concurrency = concurrency;
    options.limits.permit_wait_max = Duration::from_millis(200);
    options.grants = Grants { inference: Some(models), ..Grants::default() };
    options
}

/// A model whose batch runs once it has this many members.
fn batch(members: usize) -> Arc<dyn Inference> {
    let barrier = Arc::new(Barrier::new(members));
    Arc::new(Echo(move || {
        let barrier = Arc::clone(&barrier);
        async move {
            barrier.wait().await;
        }
    }))
}

#[tokio::test]
async fn as_many_guests_as_there_are_places_meet_in_one_batch() {
    // Each pool has as many places to wait as to run.
    for (instances_max, guests) in [(1, 2), (2, 3), (2, 4)] {
        let plugin = sandbox_of(instances_max).load(&asker(), with(batch(guests), guests)).unwrap();
        for round in 0..5 {
            let calls: Vec<_> = (0..guests)
                .map(|_| {
                    let plugin = plugin.clone();
                    tokio::spawn(async move { ask(&plugin, "rows").await })
                })
                .collect();
            for call in calls {
                let answer = timeout(PATIENCE, call).await.expect("they wait for each other");
                assert_eq!(answer.unwrap().unwrap(), "rows", "{guests} of {instances_max}, round {round}");
            }
        }
        assert_eq!(plugin.calls_in_flight(), 0);
    }
}

/// A model that answers when it is let.
fn gated() -> (Arc<Semaphore>, Arc<dyn Inference>) {
    let gate = Arc::new(Semaphore::new(0));
    let own = Arc::clone(&gate);
    let model = Echo(move || {
        let gate = Arc::clone(&own);
        async move { drop(gate.acquire().await.unwrap()) }
    });
    (gate, Arc::new(model))
}

#[tokio::test]
async fn a_guest_that_waits_keeps_no_other_plugin_from_running() {
    let (gate, model) = gated();
    let sandbox = sandbox_of(1);
    let waiting = sandbox.load(&asker(), with(Arc::clone(&model), 4)).unwrap();
    let other = sandbox.load(&echo(), with(model, 4)).unwrap();
    let parked = waiting.clone();
    let parked = tokio::spawn(async move { ask(&parked, "rows").await });
    while waiting.calls_in_flight() == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    for _ in 0..20 {
        assert_eq!(ask(&other, "fine").await.unwrap(), "fine", "the only running place is held");
    }
    assert!(!parked.is_finished());
    gate.add_permits(1);
    assert_eq!(timeout(PATIENCE, parked).await.unwrap().unwrap().unwrap(), "rows");
}

#[tokio::test]
async fn a_guest_that_waits_for_a_store_keeps_no_other_plugin_from_running() {
    let imports = r#"
        (import "wasi:keyvalue/store@0.2.0-draft" "open" (func $open (param i32 i32 i32)))
        (import "wasi:keyvalue/store@0.2.0-draft" "[method]bucket.get" (func $get (param i32 i32 i32 i32)))"#;
    let body = "(call $open (i32.const 16) (i32.const 4) (i32.const 1024))
        (call $get (i32.load (i32.const 1028)) (i32.const 16) (i32.const 4) (i32.const 1024))
        (call $answer (i32.const 16) (i32.const 4))";
    let mut options = with(gated().1, 4);
    options.grants.keyvalue = BTreeMap::from([("text".to_owned(), Arc::new(Hanging) as Arc<dyn KeyValue>)]);
    let sandbox = sandbox_of(1);
    let waiting = sandbox.load(&guest::pipeline(imports, "", body), options.clone()).unwrap();
    let other = sandbox.load(&echo(), options).unwrap();
    let parked = waiting.clone();
    let parked = tokio::spawn(async move { ask(&parked, "x").await });
    while waiting.usage().instances == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    for _ in 0..20 {
        assert_eq!(ask(&other, "fine").await.unwrap(), "fine", "the only running place is held");
    }
    assert!(!parked.is_finished());
    parked.abort();
}

#[tokio::test]
async fn waiting_guests_are_bounded_too_and_all_places_come_back() {
    let (gate, model) = gated();
    let sandbox = sandbox_of(1);
    let plugin = sandbox.load(&asker(), with(model, 10)).unwrap();
    // One waits in the waiting place, one in the running place, and there is no third.
    let calls: Vec<_> = (0..2)
        .map(|_| {
            let plugin = plugin.clone();
            tokio::spawn(async move { ask(&plugin, "rows").await })
        })
        .collect();
    while plugin.calls_in_flight() < 2 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(ask(&plugin, "rows").await, Err(CallError::Overloaded));
    // Cancelled while parked: the places come back.
    calls.iter().for_each(tokio::task::JoinHandle::abort);
    gate.add_permits(1);
    let call = plugin.handle(context_within(PATIENCE), crate::support::body("rows"));
    call.await.expect("a place is free again");
    assert_eq!(ask(&plugin, "rows").await.unwrap(), "rows");
}
