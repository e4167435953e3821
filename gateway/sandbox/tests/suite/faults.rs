//! Every way to fail has its own kind, costs only its own call, and is bounded.

use std::time::Duration;

use sluice_sandbox::{CallError, Failure, STACK_BYTES};
use tokio::time::Instant;

use crate::guest;
use crate::support::{CALL_TIMEOUT, ask, body, context, fault, load, options, sandbox};

/// How far past its budget a guest may run: two ticks, and a busy machine.
const SLACK: Duration = Duration::from_millis(500);

#[tokio::test]
async fn traps_are_told_with_a_backtrace_and_the_next_call_works() {
    let body = r#"
        (if (i32.eq (i32.load8_u (local.get $data)) (i32.const 117)) (then (unreachable)))
        (if (i32.eq (i32.load8_u (local.get $data)) (i32.const 100))
            (then (drop (i32.div_u (i32.const 1) (i32.sub (local.get $len) (local.get $len))))))
        (if (i32.eq (i32.load8_u (local.get $data)) (i32.const 111))
            (then (drop (i32.load (i32.const 0x7ffffff0)))))
        (call $answer (local.get $data) (local.get $len))"#;
    let plugin = load(&guest::pipeline("", "", body));
    for (text, reason) in [("u", "unreachable"), ("d", "divide by zero"), ("o", "out of bounds")] {
        let error = ask(&plugin, text).await.expect_err("it traps");
        let CallError::Trap(trace) = error else { panic!("{error:?}") };
        assert!(trace.contains(reason), "{trace}");
        assert!(trace.contains("handle"), "no frame of the guest: {trace}");
        assert!(!trace.contains('\n'), "{trace}");
        assert_eq!(ask(&plugin, "fine").await.unwrap(), "fine");
    }
}

#[tokio::test]
async fn endless_recursion_exhausts_the_stack_and_nothing_else() {
    let fields = "(func $deep (param i64) (result i64)
        (i64.add (call $deep (i64.add (local.get 0) (i64.const 1))) (i64.const 1)))";
    let plugin = load(&guest::pipeline("", fields, "(drop (call $deep (i64.const 0))) (unreachable)"));
    for _ in 0..3 {
        assert_eq!(fault(&plugin).await, CallError::Stack);
    }
}

#[tokio::test]
async fn a_recursion_goes_as_deep_as_the_plugins_own_stack() {
    let fields = "(func $deep (param i64) (result i64)
        (if (result i64) (i64.eqz (local.get 0))
            (then (i64.const 0))
            (else (i64.add (call $deep (i64.sub (local.get 0) (i64.const 1))) (local.get 0)))))";
    let body = "(drop (call $deep (i64.const 10000))) (call $answer (local.get $data) (local.get $len))";
    let component = guest::pipeline("", fields, body);
    // One sandbox: two stacks live side by side.
    let sandbox = sandbox();
    let with = |stack_bytes| {
        let mut options = options();
        options.limits.stack_bytes = stack_bytes;
        sandbox.load(&component, options)
    };
    let (small, large) = (with(STACK_BYTES[0]).unwrap(), with(STACK_BYTES[3]).unwrap());
    for _ in 0..3 {
        assert_eq!(ask(&small, "x").await.expect_err("too deep"), CallError::Stack);
        assert_eq!(ask(&large, "deep").await.unwrap(), "deep");
    }
    let refused = with(STACK_BYTES[0] + 1).expect_err("no such size").to_string();
    assert!(refused.contains("stack_bytes"), "{refused}");
}

#[tokio::test]
async fn a_guest_that_is_refused_memory_and_traps_has_exhausted_its_memory() {
    let body = "(loop $more
            (br_if $more (i32.ne (memory.grow (i32.const 16)) (i32.const -1))))
        (unreachable)";
    let plugin = load(&guest::pipeline("", "", body));
    assert_eq!(fault(&plugin).await, CallError::Memory);
}

#[tokio::test]
async fn a_guest_that_is_refused_memory_may_go_on() {
    let body = "(if (i32.ne (memory.grow (i32.const 1024)) (i32.const -1)) (then (unreachable)))
        (call $answer (local.get $data) (local.get $len))";
    let plugin = load(&guest::pipeline("", "", body));
    assert_eq!(ask(&plugin, "fine").await.unwrap(), "fine");
}

#[tokio::test]
async fn loops_end_within_the_budget() {
    let log = r#"(import "wasi:logging/logging@0.1.0-draft" "log" (func $log (param i32 i32 i32 i32 i32)))"#;
    let loops = [
        ("", "(loop $again (br $again)) (unreachable)"),
        (log, "(loop $again (call $log (i32.const 1) (i32.const 16) (i32.const 4) (i32.const 16) (i32.const 10)) (br $again)) (unreachable)"),
        ("", "(drop (memory.grow (i32.const 160)))
            (loop $again (memory.copy (i32.const 65536) (i32.const 65600) (i32.const 8000000)) (br $again)) (unreachable)"),
    ];
    for (imports, body) in loops {
        let plugin = load(&guest::pipeline(imports, "", body));
        let start = Instant::now();
        assert_eq!(fault(&plugin).await, CallError::Timeout);
        let took = start.elapsed();
        assert!(took >= CALL_TIMEOUT, "{took:?}");
        assert!(took < CALL_TIMEOUT + SLACK, "{took:?}");
    }
}

#[tokio::test]
async fn a_guest_that_sleeps_uses_its_budget() {
    let imports = r#"
        (import "wasi:clocks/monotonic-clock@0.2.0" "subscribe-duration" (func $after (param i64) (result i32)))
        (import "wasi:io/poll@0.2.0" "[method]pollable.block" (func $block (param i32)))"#;
    let body = "(call $block (call $after (i64.const 60000000000))) (unreachable)";
    let mut options = options();
    options.wasi = sluice_sandbox::WasiPolicy::Empty;
    let plugin = sandbox().load(&guest::pipeline(imports, "", body), options).unwrap();
    let start = Instant::now();
    assert_eq!(fault(&plugin).await, CallError::Timeout);
    let took = start.elapsed();
    assert!(took >= CALL_TIMEOUT && took < CALL_TIMEOUT + SLACK, "{took:?}");
}

#[tokio::test]
async fn other_guests_answer_while_one_loops() {
    // One guest thread: the loop must share it.
    let config = sluice_sandbox::SandboxConfig { guest_threads: 1, ..crate::support::config() };
    let sandbox = sluice_sandbox::Sandbox::new(config).unwrap();
    let mut slow = options();
    slow.limits.call_timeout = Duration::from_secs(2);
    let looping =
        sandbox.load(&guest::pipeline("", "", "(loop $again (br $again)) (unreachable)"), slow).unwrap();
    let echo = guest::pipeline("", "", "(call $answer (local.get $data) (local.get $len))");
    let echo = sandbox.load(&echo, options()).unwrap();
    let running = tokio::spawn(async move { fault(&looping).await });
    tokio::time::sleep(Duration::from_millis(50)).await;
    for _ in 0..20 {
        assert_eq!(ask(&echo, "fine").await.unwrap(), "fine");
    }
    assert!(!running.is_finished(), "the loop was still running");
    assert_eq!(running.await.unwrap(), CallError::Timeout);
}

#[tokio::test]
async fn the_deadline_of_the_request_comes_before_the_budget() {
    let plugin = load(&guest::pipeline("", "", "(loop $again (br $again)) (unreachable)"));
    let call = crate::support::context_within(Duration::from_millis(50));
    let error = plugin.handle(call, body("x")).await.expect_err("it loops");
    assert_eq!(error, CallError::Deadline);
    let passed = crate::support::context_within(Duration::ZERO);
    assert_eq!(plugin.handle(passed, body("x")).await.expect_err("too late"), CallError::Deadline);
}

#[tokio::test]
async fn a_refusal_reaches_the_caller_cut_at_a_character() {
    // 3000 bytes of "é" from 65536 on, written before.
    let body = r"
        (local $at i32)
        (local.set $at (i32.const 2048))
        (loop $more
            (i32.store16 (local.get $at) (i32.const 0xa9c3))
            (local.set $at (i32.add (local.get $at) (i32.const 2)))
            (br_if $more (i32.lt_u (local.get $at) (i32.const 5048))))
        (call $failure (i32.const 422) (i32.const 2048) (i32.const 3000))";
    let plugin = load(&guest::pipeline("", "", body));
    let message = "é".repeat(512);
    assert_eq!(
        fault(&plugin).await,
        CallError::Failure(Failure { status: 422, message, retry_after_seconds: None })
    );
}

#[tokio::test]
async fn nonsense_is_output_whatever_it_is() {
    let nonsense = [
        ("failure status", "(call $failure (i32.const 200) (i32.const 16) (i32.const 4))"),
        (
            "answer status",
            "(call $answer (i32.const 16) (i32.const 4)) (i32.store16 (i32.const 264) (i32.const 500))",
        ),
        (
            "content type",
            "(call $answer (i32.const 16) (i32.const 4)) (i32.store8 (i32.const 17) (i32.const 10))",
        ),
        ("pointer", "(call $answer (i32.const 0x7fffffff) (i32.const 4))"),
        (
            "text",
            "(call $failure (i32.const 422) (i32.const 2048) (i32.const 4)) (i32.store8 (i32.const 2048) (i32.const 255))",
        ),
        ("variant", "(call $answer (i32.const 16) (i32.const 4)) (i32.store8 (i32.const 256) (i32.const 9))"),
    ];
    for (what, body) in nonsense {
        let plugin = load(&guest::pipeline("", "", body));
        let error = fault(&plugin).await;
        assert!(matches!(error, CallError::Output(_)), "{what}: {error:?}");
    }
}

#[tokio::test]
async fn a_result_beyond_what_may_cross_at_once_is_output() {
    let mut options = options();
    options.limits.hostcall_bytes = 1 << 20;
    let body = "(drop (memory.grow (i32.const 100))) (call $answer (i32.const 0) (i32.const 2000000))";
    let plugin = sandbox().load(&guest::pipeline("", "", body), options).unwrap();
    let error = fault(&plugin).await;
    assert!(matches!(error, CallError::Output(_)), "{error:?}");
}

#[tokio::test]
async fn a_hook_must_give_one_result_for_one_item() {
    let plugin = load(&guest::preprocessor("", "(i32.const 4096)"));
    let error = plugin.preprocess(context(), body("x")).await.expect_err("an empty list");
    assert_eq!(error, CallError::Output("0 results for one item".to_owned()));
    let error = plugin.handle(context(), body("x")).await.expect_err("no such hook");
    assert!(matches!(error, CallError::Internal(_)), "{error:?}");
}

#[tokio::test]
async fn a_hook_s_tensors_must_be_what_they_say() {
    // One result, `run` with one input: fp32, shape and data as given.
    let hook = |dims: &str, len: u32, tag: u32| {
        let body = format!(
            r"
            (i32.store (i32.const 4096) (i32.const 4112)) (i32.store (i32.const 4100) (i32.const 1))
            (i32.store (i32.const 4120) (i32.const 4160)) (i32.store (i32.const 4124) (i32.const 1))
            (i32.store (i32.const 4160) (i32.const 16)) (i32.store (i32.const 4164) (i32.const 4))
            (i32.store8 (i32.const 4168) (i32.const {tag}))
            (i32.store8 (i32.const 4172) (i32.const 11))
            (i32.store (i32.const 4176) (i32.const 4300)) (i32.store (i32.const 4180) (i32.const 2))
            (i32.store (i32.const 4184) (i32.const 8192)) (i32.store (i32.const 4188) (i32.const {len}))
            {dims}
            (i32.const 4096)"
        );
        guest::preprocessor("", &body)
    };
    let two_by_three =
        "(i32.store (i32.const 4300) (i32.const 2)) (i32.store (i32.const 4304) (i32.const 3))";
    let plugin = load(&hook(two_by_three, 24, 0));
    let sluice_sandbox::Prepared::Run { inputs, carry } =
        plugin.preprocess(context(), body("x")).await.unwrap()
    else {
        panic!("run was expected")
    };
    assert_eq!(&*inputs[0].name, "text");
    assert_eq!(inputs[0].tensor.shape().dims(), [2, 3]);
    assert!(carry.is_empty());

    let huge = "(i32.store (i32.const 4300) (i32.const -1)) (i32.store (i32.const 4304) (i32.const -1))";
    for (what, component) in [
        ("too short", hook(two_by_three, 20, 0)),
        ("too long", hook(two_by_three, 28, 0)),
        ("an overflow", hook(huge, 24, 0)),
        ("no handle", hook(two_by_three, 24, 2)),
    ] {
        let error = load(&component).preprocess(context(), body("x")).await.expect_err(what);
        assert!(matches!(error, CallError::Output(_)), "{what}: {error:?}");
    }
}
