//! Stores that compute, hang, or are asked for too much cost the plugin that asks.

use std::collections::BTreeMap;
use std::future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use sluice_sandbox::{CallError, Grants, KeyPage, KeyValue, KeyValueError, PluginOptions};
use tokio::time::Instant;

use crate::bounds::longest_pause;
use crate::guest;
use crate::support::{ask, body, context, options, sandbox};

/// How long a thread that serves others may be away on a busy machine.
const PAUSE_MAX: Duration = Duration::from_secs(1);

const STORE: &str = r#"
    (import "wasi:keyvalue/store@0.2.0-draft" "open" (func $open (param i32 i32 i32)))
    (import "wasi:keyvalue/store@0.2.0-draft" "[method]bucket.get" (func $get (param i32 i32 i32 i32)))
    (import "wasi:keyvalue/batch@0.2.0-draft" "get-many" (func $get_many (param i32 i32 i32 i32)))
    (import "wasi:keyvalue/batch@0.2.0-draft" "set-many" (func $set_many (param i32 i32 i32 i32)))
"#;

/// Opens the store `text`; its handle is `$bucket`.
const OPEN: &str = "(local $bucket i32) (local $n i32)
    (call $open (i32.const 16) (i32.const 4) (i32.const 1024))
    (local.set $bucket (i32.load (i32.const 1028)))";

/// Takes so long for each look-up, on the caller's thread, and gives so many bytes.
#[derive(Default)]
struct Busy {
    takes: Duration,
    gives: usize,
    asked: AtomicUsize,
}

#[async_trait]
impl KeyValue for Busy {
    async fn get(&self, _: &str) -> Result<Option<Bytes>, KeyValueError> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        std::thread::sleep(self.takes);
        Ok(Some(Bytes::from(vec![b'x'; self.gives])))
    }
    async fn set(&self, _: &str, _: Bytes) -> Result<(), KeyValueError> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
    async fn delete(&self, _: &str) -> Result<(), KeyValueError> {
        Ok(())
    }
    async fn exists(&self, _: &str) -> Result<bool, KeyValueError> {
        future::pending().await
    }
    async fn list_keys(&self, _: Option<u64>) -> Result<KeyPage, KeyValueError> {
        Ok(KeyPage::default())
    }
}

fn with_store(store: Arc<dyn KeyValue>, call_timeout: Duration) -> PluginOptions {
    let mut options = options();
    options.limits.call_timeout = call_timeout;
    options.limits.memory_bytes = 32 << 20;
    options.grants = Grants { keyvalue: BTreeMap::from([("text".to_owned(), store)]), ..Grants::default() };
    options
}

#[tokio::test]
async fn what_a_store_computes_is_counted_interrupted_and_off_the_callers_thread() {
    let get = "(call $get (local.get $bucket) (i32.const 16) (i32.const 4) (i32.const 1024))";
    let endless = format!("(loop $again {get} (br $again))");
    // No loop and no call of its own: no epoch's check comes into it.
    let straight = get.repeat(400);
    for (what, code) in [("loop", endless), ("straight code", straight)] {
        let store = Arc::new(Busy { takes: Duration::from_millis(25), ..Busy::default() });
        let component = guest::pipeline(STORE, "", &format!("{OPEN} {code} (unreachable)"));
        let budget = Duration::from_millis(200);
        let plugin = sandbox().load(&component, with_store(store, budget)).unwrap();
        let began = Instant::now();
        let (outcome, pause) = longest_pause(plugin.handle(context(), body("x"))).await;
        assert_eq!(outcome.expect_err("it takes ten seconds"), CallError::Timeout, "{what}");
        assert!(began.elapsed() < budget + PAUSE_MAX, "{what}: {:?}", began.elapsed());
        assert!(pause < PAUSE_MAX, "{what}: {pause:?}");
    }
}

#[tokio::test]
async fn half_a_million_keys_are_refused_before_any_is_read() {
    // Zeros all over: keys without a byte.
    let grown = "(drop (memory.grow (i32.const 300)))";
    for asks in ["$get_many", "$set_many"] {
        let code = format!(
            "{OPEN} {grown} (local.set $n (i32.const 200))
            (loop $more
                (call {asks} (local.get $bucket) (i32.const 200000) (i32.const 500000) (i32.const 1024))
                (if (i32.eqz (i32.load8_u (i32.const 1024))) (then (unreachable)))
                (br_if $more (local.tee $n (i32.sub (local.get $n) (i32.const 1)))))
            (call $answer (i32.load (i32.const 1032)) (i32.load (i32.const 1036)))"
        );
        let store = Arc::new(Busy::default());
        let options = with_store(Arc::<Busy>::clone(&store), Duration::from_secs(2));
        let plugin = sandbox().load(&guest::pipeline(STORE, "", &code), options).unwrap();
        assert_eq!(ask(&plugin, "x").await.unwrap(), "too many keys in one call", "{asks}");
        assert_eq!(store.asked.load(Ordering::Relaxed), 0);
    }
}

#[tokio::test]
async fn what_is_on_its_way_into_a_guest_is_its_plugins_memory() {
    // An allocator that never comes back once it is asked for a megabyte.
    let spins = "(local $at i32)
        (if (i32.gt_u (local.get 3) (i32.const 1000000)) (then (loop $again (br $again))))";
    let prelude = guest::PRELUDE.replacen("(local $at i32)", spins, 1);
    let handle = format!(
        r#"(func (export "sluice:plugin/handler@0.1.0#handle")
            (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32) (result i32)
            {OPEN} (call $get (local.get $bucket) (i32.const 16) (i32.const 4) (i32.const 1024)) (unreachable))"#
    );
    let component =
        guest::component("export sluice:plugin/handler@0.1.0;", &format!("{STORE}{prelude}{handle}"));
    let store = Arc::new(Busy { gives: 2_000_000, ..Busy::default() });
    let mut options = with_store(store, Duration::from_secs(2));
    options.limits.memory_bytes = 3 << 20;
    options.limits.memory_total_bytes = 5 << 20;
    let plugin = sandbox().load(&component, options).unwrap();
    let calls: Vec<_> = (0..4)
        .map(|_| {
            let plugin = plugin.clone();
            tokio::spawn(async move { ask(&plugin, "x").await })
        })
        .collect();
    let mut outcomes = Vec::new();
    for call in calls {
        outcomes.push(call.await.unwrap().expect_err("none of them comes back"));
    }
    let refused = outcomes.iter().filter(|error| **error == CallError::Memory).count();
    assert!((2..4).contains(&refused), "two have room at once: {outcomes:?}");
    let usage = plugin.usage();
    assert!(usage.instance_bytes_peak > 2_000_000 && usage.memory_bytes == 0, "{usage:?}");
}
