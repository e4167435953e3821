//! What a guest can make the host do and hold is bounded like its own computing and memory.

use std::sync::Arc;
use std::time::Duration;

use sluice_sandbox::{Answer, CallError, Grants, PluginOptions, Sandbox, SandboxConfig, WasiPolicy};
use tokio::time::Instant;

use crate::capabilities::{ANSWER_TENSOR, INFERENCE, WRITER};
use crate::guest;
use crate::support::{Echo, ask, body, config, context, dist, options, sandbox};

/// How long anything here may take that is not to take time at all: the machine may be
/// busy, and nothing is optimised.
const PATIENCE: Duration = Duration::from_secs(15);

/// How long a thread that serves others may be away.
const PAUSE_MAX: Duration = Duration::from_secs(2);

fn roomy(call_timeout: Duration) -> PluginOptions {
    let mut options = options();
    options.limits.memory_bytes = 128 << 20;
    options.limits.call_timeout = call_timeout;
    options
}

/// Answers with a million rows of four columns, which share four million entries, all in
/// one place: 4 KB of guest, four million million additions.
fn sparse_bomb() -> Vec<u8> {
    let body = "
        (drop (memory.grow (i32.const 514)))
        (i32.store (i32.const 512) (i32.const 16)) (i32.store (i32.const 516) (i32.const 4))
        (i32.store8 (i32.const 520) (i32.const 1))
        (i32.store (i32.const 524) (i32.const 4))
        (i32.store (i32.const 528) (i32.const 131072)) (i32.store (i32.const 532) (i32.const 4000000))
        (i32.store (i32.const 536) (i32.const 131072)) (i32.store (i32.const 540) (i32.const 4000000))
        (i32.store (i32.const 544) (i32.const 131072)) (i32.store (i32.const 548) (i32.const 1000001))
        (i32.store (i32.const 552) (i32.const 131072)) (i32.store (i32.const 556) (i32.const 0))
        (i32.store (i32.const 560) (i32.const 131072)) (i32.store (i32.const 564) (i32.const 0))
        (i32.store8 (i32.const 256) (i32.const 0)) (i32.store8 (i32.const 260) (i32.const 1))
        (i32.store (i32.const 264) (i32.const 512)) (i32.store (i32.const 268) (i32.const 1))
        (i32.const 256)";
    guest::pipeline("", "", body)
}

#[tokio::test]
async fn sparse_rows_cost_what_they_hold_however_often_they_say_it() {
    let plugin = sandbox().load(&sparse_bomb(), roomy(PATIENCE)).unwrap();
    let began = Instant::now();
    let Ok(Answer::Tensors(tensors)) = plugin.handle(context(), body("x")).await else { panic!("tensors") };
    assert!(tensors[0].tensor.is_dense(), "whoever encodes it has nothing left to compute");
    assert_eq!(tensors[0].tensor.shape().dims(), [1_000_000, 4]);
    assert!(began.elapsed() < PATIENCE, "{:?}", began.elapsed());
    assert!(plugin.usage().memory_bytes >= 16_000_000, "an answer is the plugin's until it is gone");
    drop(tensors);
    assert_eq!(plugin.usage().memory_bytes, 0);
}

/// The longest time that this thread had nothing to run while `work` did.
pub(crate) async fn longest_pause<T>(work: impl Future<Output = T>) -> (T, Duration) {
    tokio::pin!(work);
    let (mut last, mut longest) = (Instant::now(), Duration::ZERO);
    loop {
        tokio::select! {
            biased;
            () = tokio::time::sleep_until(last + Duration::from_millis(1)) => {
                longest = longest.max(last.elapsed());
                last = Instant::now();
            }
            done = &mut work => return (done, longest.max(last.elapsed())),
        }
    }
}

#[tokio::test]
async fn whole_tensors_are_searched_copied_and_written_out_within_the_budget_and_off_the_callers_thread() {
    let imports = format!(
        r#"{WRITER}
        (import "sluice:plugin/tensors@0.1.0" "[method]tensor.top-k" (func $top_k (param i32 i32 i32)))"#
    );
    let search = "
        (local $tensor i32)
        (i32.store (i32.const 1024) (i32.const 16777216))
        (local.set $tensor (call $finish (call $writer (i32.const 11) (i32.const 1024) (i32.const 1))))
        (loop $again (call $top_k (local.get $tensor) (i32.const 1) (i32.const 2048)) (br $again))
        (unreachable)";
    for (what, component) in [("search", guest::pipeline(&imports, "", search)), ("write", sparse_bomb())] {
        let budget = Duration::from_millis(20);
        let plugin = sandbox().load(&component, roomy(budget)).unwrap();
        for _ in 0..3 {
            let began = Instant::now();
            let (outcome, pause) = longest_pause(plugin.handle(context(), body("x"))).await;
            assert_eq!(outcome.expect_err("it takes longer"), CallError::Timeout, "{what}");
            assert!(
                began.elapsed() < PAUSE_MAX && pause < PAUSE_MAX,
                "{what}: {:?} {pause:?}",
                began.elapsed()
            );
        }
    }
}

#[tokio::test]
async fn no_more_elements_are_ranked_than_anybody_shows() {
    let imports = format!(
        r#"{WRITER}
        (import "sluice:plugin/tensors@0.1.0" "[method]tensor.top-k" (func $top_k (param i32 i32 i32)))"#
    );
    let rank = |elements: u32| {
        let body = format!(
            "(local $tensor i32)
            (i32.store (i32.const 1024) (i32.const {elements}))
            (local.set $tensor (call $finish (call $writer (i32.const 1) (i32.const 1024) (i32.const 1))))
            (call $top_k (local.get $tensor) (i32.const -1) (i32.const 2048))
            (call $answer (i32.const 16) (i32.const 4))"
        );
        sandbox().load(&guest::pipeline(&imports, "", &body), roomy(PATIENCE)).unwrap()
    };
    assert_eq!(ask(&rank(65_536), "x").await.unwrap(), "text");
    let error = ask(&rank(65_537), "x").await.expect_err("too many");
    assert!(matches!(&error, CallError::Output(message) if message.contains("65536")), "{error:?}");
}

fn with_echo(call_timeout: Duration) -> PluginOptions {
    let mut options = options();
    options.limits.memory_bytes = 8 << 20;
    options.limits.call_timeout = call_timeout;
    options.grants =
        Grants { inference: Some(Arc::new(Echo(|| std::future::ready(())))), ..Grants::default() };
    options
}

/// Calls a model `$n` times with a megabyte, and does `with` the output's handle.
fn loop_of_calls(with: &str) -> Vec<u8> {
    let imports = format!(
        r#"{INFERENCE}
        (import "sluice:plugin/tensors@0.1.0" "[resource-drop]tensor" (func $drop (param i32)))"#
    );
    let body = format!(
        "(local $n i32)
        (drop (memory.grow (i32.const 20)))
        (i32.store (i32.const 3000) (i32.const 1048576))
        (i32.store (i32.const 2048) (i32.const 16)) (i32.store (i32.const 2052) (i32.const 4))
        (i32.store8 (i32.const 2056) (i32.const 0))
        (i32.store8 (i32.const 2060) (i32.const 1))
        (i32.store (i32.const 2064) (i32.const 3000)) (i32.store (i32.const 2068) (i32.const 1))
        (i32.store (i32.const 2072) (i32.const 131072)) (i32.store (i32.const 2076) (i32.const 1048576))
        (local.set $n (i32.const 40))
        (loop $more
            (call $infer (i32.const 16) (i32.const 4) (i32.const 2048) (i32.const 1) (i32.const 1024))
            (if (i32.load8_u (i32.const 1024)) (then (unreachable)))
            ({with} (i32.load offset=8 (i32.load (i32.const 1028))))
            (br_if $more (local.tee $n (i32.sub (local.get $n) (i32.const 1)))))
        (call $answer (local.get $data) (local.get $len))"
    );
    guest::pipeline(&imports, "", &body)
}

#[tokio::test]
async fn a_guest_that_drops_what_it_gets_may_call_models_for_ever() {
    let plugin = sandbox().load(&loop_of_calls("call $drop"), with_echo(PATIENCE)).unwrap();
    assert_eq!(ask(&plugin, "fine").await.unwrap(), "fine", "40 MiB, never more than 2 at once");
    let usage = plugin.usage();
    assert_eq!(usage.memory_bytes, 0, "{usage:?}");
    assert!(usage.instance_bytes_peak < 8 << 20, "{usage:?}");
    let keeps = sandbox().load(&loop_of_calls("drop"), with_echo(PATIENCE)).unwrap();
    assert_eq!(ask(&keeps, "x").await, Err(CallError::Memory), "what is kept counts");
}

#[tokio::test]
async fn a_guest_that_drops_its_tensors_of_wasi_nn_may_make_any_number() {
    let imports = r#"
        (import "wasi:nn/tensor@0.2.0-rc-2024-10-28" "[constructor]tensor"
            (func $tensor (param i32 i32 i32 i32 i32) (result i32)))
        (import "wasi:nn/tensor@0.2.0-rc-2024-10-28" "[resource-drop]tensor" (func $drop (param i32)))"#;
    let of = |with: &str| {
        let body = format!(
            "(local $n i32)
            (drop (memory.grow (i32.const 20)))
            (local.set $n (i32.const 40))
            (loop $more
                ({with} (call $tensor (i32.const 3000) (i32.const 0) (i32.const 4) (i32.const 131072)
                    (i32.const 1048576)))
                (br_if $more (local.tee $n (i32.sub (local.get $n) (i32.const 1)))))
            (call $answer (local.get $data) (local.get $len))"
        );
        sandbox().load(&guest::pipeline(imports, "", &body), with_echo(PATIENCE)).unwrap()
    };
    assert_eq!(ask(&of("call $drop"), "fine").await.unwrap(), "fine");
    assert_eq!(ask(&of("drop"), "x").await, Err(CallError::Memory));
}

#[tokio::test]
async fn what_a_program_prints_is_the_plugins_memory_before_it_is_an_answer() {
    let mut options = options();
    options.wasi = WasiPolicy::Empty;
    options.limits.call_timeout = PATIENCE;
    options.limits.memory_bytes = 8 << 20;
    options.grants = Grants {
        inference: Some(Arc::new(Echo(|| std::future::ready(())))),
        arguments: vec!["flood".to_owned()],
        ..Grants::default()
    };
    let plugin = sandbox().load(&dist("nn_command"), options).unwrap();
    assert_eq!(ask(&plugin, "x").await, Err(CallError::Memory));
    let usage = plugin.usage();
    assert_eq!(usage.memory_bytes, 0);
    assert!((8 << 20..17 << 20).contains(&usage.instance_bytes_peak), "{usage:?}");
}

#[tokio::test]
async fn an_answer_counts_for_its_plugin_until_nobody_reads_it_any_more() {
    let body_text =
        "(drop (memory.grow (i32.const 60))) (call $answer (i32.const 65536) (i32.const 3000000))";
    let mut options = options();
    options.limits.memory_total_bytes = 16 << 20;
    options.limits.memory_bytes = 8 << 20;
    let plugin = sandbox().load(&guest::pipeline("", "", body_text), options).unwrap();
    let mut unread = Vec::new();
    while let Ok(answer) = ask(&plugin, "x").await {
        unread.push(answer);
        assert!(unread.len() < 10, "more than the plugin may hold");
    }
    assert_eq!(ask(&plugin, "x").await, Err(CallError::Memory));
    assert!(plugin.usage().memory_bytes >= unread.len() * 3_000_000);
    drop(unread);
    assert_eq!(ask(&plugin, "x").await.unwrap().len(), 3_000_000);
}

#[tokio::test]
async fn components_of_many_parts_take_no_places_from_others() {
    // Loops when the body starts with `l`.
    let looping = r"
        (if (i32.eq (i32.load8_u (local.get $data)) (i32.const 108)) (then (loop $again (br $again))))
        (call $answer (local.get $data) (local.get $len))";
    let simple = guest::pipeline("", "", looping);
    let many_instances = guest::add_instances(simple.clone(), "(module)", 190);
    let many_memories = guest::add_memories(simple.clone(), 7, 1);
    let many_tables = guest::add_instances(simple.clone(), "(module (table 1 funcref))", 60);
    let four = "(module (table 1 funcref) (table 1 funcref) (table 1 funcref) (table 1 funcref))";
    let hidden_tables = guest::add_aliased_instances(simple.clone(), four, 15);
    for (what, component) in [
        ("core instances", many_instances),
        ("memories", many_memories),
        ("tables", many_tables),
        ("tables of a module under another name", hidden_tables),
    ] {
        let sandbox = Sandbox::new(SandboxConfig { instances_max: 20, ..config() }).unwrap();
        let mut hog_options = options();
        hog_options.limits.concurrency = 18;
        hog_options.limits.call_timeout = PATIENCE;
        let hog = sandbox.load(&component, hog_options).unwrap();
        let good = sandbox.load(&simple, options()).unwrap();
        let calls: Vec<_> = (0..18)
            .map(|_| {
                let hog = hog.clone();
                tokio::spawn(async move { ask(&hog, "loop").await })
            })
            .collect();
        while hog.usage().instances < hog.calls_in_flight().max(1) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        for _ in 0..5 {
            assert_eq!(ask(&good, "fine").await.unwrap(), "fine", "beside many {what}");
        }
        for call in calls {
            call.abort();
        }
    }
}

#[tokio::test]
async fn a_writers_tensor_may_be_the_answer() {
    // What is written out already is not copied, and keeps its bytes beyond the call.
    let body_text = format!(
        "(local $tensor i32)
        (i32.store (i32.const 1024) (i32.const 100000))
        (local.set $tensor (call $finish (call $writer (i32.const 1) (i32.const 1024) (i32.const 1))))
        {ANSWER_TENSOR}"
    );
    let plugin = sandbox().load(&guest::pipeline(WRITER, "", &body_text), options()).unwrap();
    let Ok(Answer::Tensors(tensors)) = plugin.handle(context(), body("x")).await else { panic!("tensors") };
    assert_eq!(plugin.usage().memory_bytes, 100_000);
    assert_eq!(tensors[0].tensor.to_dense().len(), 100_000);
    drop(tensors);
    assert_eq!(plugin.usage().memory_bytes, 0);
}
