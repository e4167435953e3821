//! Tensors, stores, models and the log, as guests see them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use sluice_sandbox::{
    Answer, CallContext, CallError, Grants, Inference, InferenceError, KeyValue, MemoryStore, Plugin,
    PluginOptions, Request,
};
use sluice_tensor::{NamedTensor, Shape, Signature, Tensor};

use crate::guest;
use crate::support::{CALL_TIMEOUT, Lines, ask, context, fault, load, options, sandbox};

fn floats(dims: &[usize], values: &[f32]) -> Vec<NamedTensor> {
    let tensor = Tensor::from_f32(Shape::new(dims).unwrap(), values).unwrap();
    vec![NamedTensor { name: "text".into(), tensor }]
}

async fn ask_tensors(plugin: &Plugin, tensors: Vec<NamedTensor>) -> Result<Bytes, CallError> {
    match plugin.handle(context(), Request::Tensors(tensors)).await? {
        Answer::Body(answer) => Ok(answer.data),
        Answer::Tensors(_) => panic!("a body was expected"),
    }
}

const TENSOR: &str = r#"
    (import "sluice:plugin/tensors@0.1.0" "[method]tensor.read" (func $read (param i32 i64 i32 i32)))
    (import "sluice:plugin/tensors@0.1.0" "[method]tensor.rows" (func $rows (param i32 i32 i32) (result i32)))
    (import "sluice:plugin/tensors@0.1.0" "[resource-drop]tensor" (func $drop (param i32)))
"#;

/// The handle of the first tensor of the request.
const HANDLE: &str = "(i32.load (i32.add (local.get $list) (i32.const 8)))";

#[tokio::test]
async fn a_guest_reads_only_the_part_that_it_needs() {
    // Rows 1.. of the tensor, and of those the bytes 4..12.
    let body = format!(
        "(call $read (call $rows {HANDLE} (i32.const 1) (i32.const 2)) (i64.const 4) (i32.const 8) (i32.const 1024))
         (call $answer (i32.load (i32.const 1024)) (i32.load (i32.const 1028)))"
    );
    let plugin = load(&guest::pipeline(TENSOR, "", &body));
    let answer = ask_tensors(&plugin, floats(&[3, 2], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0])).await.unwrap();
    assert_eq!(answer, [4.0_f32.to_le_bytes(), 5.0_f32.to_le_bytes()].concat());
}

#[tokio::test]
async fn reading_past_the_end_and_using_a_handle_after_its_end_trap() {
    for body in [
        format!("(call $read {HANDLE} (i64.const 20) (i32.const 8) (i32.const 1024)) (unreachable)"),
        format!("(call $read {HANDLE} (i64.const -1) (i32.const 8) (i32.const 1024)) (unreachable)"),
        format!("(drop (call $rows {HANDLE} (i32.const 2) (i32.const 2))) (unreachable)"),
        format!("(call $drop {HANDLE}) (call $drop {HANDLE}) (unreachable)"),
        "(call $drop (i32.const 77)) (unreachable)".to_owned(),
    ] {
        let plugin = load(&guest::pipeline(TENSOR, "", &body));
        let error = ask_tensors(&plugin, floats(&[3, 2], &[0.0; 6])).await.expect_err("it traps");
        let CallError::Trap(trace) = error else { panic!("{body}: {error:?}") };
        assert!(!trace.contains("unreachable"), "the host let it pass: {body}: {trace}");
    }
}

#[tokio::test]
async fn leaked_handles_end_at_the_table_s_limit() {
    let body = format!(
        "(loop $more (drop (call $rows {HANDLE} (i32.const 0) (i32.const 1))) (br $more)) (unreachable)"
    );
    let plugin = load(&guest::pipeline(TENSOR, "", &body));
    let error = ask_tensors(&plugin, floats(&[1, 1], &[0.0])).await.expect_err("the table is full");
    assert!(matches!(error, CallError::Output(_)), "{error:?}");
}

pub(crate) const WRITER: &str = r#"
    (import "sluice:plugin/tensors@0.1.0" "[constructor]writer" (func $writer (param i32 i32 i32) (result i32)))
    (import "sluice:plugin/tensors@0.1.0" "[method]writer.write" (func $write (param i32 i64 i32 i32)))
    (import "sluice:plugin/tensors@0.1.0" "[method]writer.finish" (func $finish (param i32) (result i32)))
"#;

/// Answers with one tensor, `$tensor`, named `text`.
pub(crate) const ANSWER_TENSOR: &str = r"
    (i32.store (i32.const 2048) (i32.const 16)) (i32.store (i32.const 2052) (i32.const 4))
    (i32.store8 (i32.const 2056) (i32.const 2)) (i32.store (i32.const 2060) (local.get $tensor))
    (i32.store8 (i32.const 256) (i32.const 0)) (i32.store8 (i32.const 260) (i32.const 1))
    (i32.store (i32.const 264) (i32.const 2048)) (i32.store (i32.const 268) (i32.const 1))
    (i32.const 256)";

#[tokio::test]
async fn a_writer_takes_a_tensor_out_piece_by_piece() {
    let body = format!(
        r"
        (local $writer i32) (local $tensor i32)
        (i32.store (i32.const 1024) (i32.const 6))
        (local.set $writer (call $writer (i32.const 1) (i32.const 1024) (i32.const 1)))
        (call $write (local.get $writer) (i64.const 0) (local.get $data) (i32.const 2))
        (call $write (local.get $writer) (i64.const 4) (i32.add (local.get $data) (i32.const 2)) (i32.const 2))
        (local.set $tensor (call $finish (local.get $writer)))
        {ANSWER_TENSOR}"
    );
    let plugin = load(&guest::pipeline(WRITER, "", &body));
    let Answer::Tensors(tensors) = plugin.handle(context(), crate::support::body("abcd")).await.unwrap()
    else {
        panic!("tensors were expected")
    };
    assert_eq!(&*tensors[0].name, "text");
    assert_eq!(tensors[0].tensor.to_dense(), &b"ab\0\0cd"[..]);
}

#[tokio::test]
async fn writing_past_the_end_or_after_the_end_traps() {
    let start = "(local $writer i32)
        (i32.store (i32.const 1024) (i32.const 6))
        (local.set $writer (call $writer (i32.const 1) (i32.const 1024) (i32.const 1)))";
    for rest in [
        "(call $write (local.get $writer) (i64.const 5) (local.get $data) (i32.const 2))",
        "(call $write (local.get $writer) (i64.const -1) (local.get $data) (i32.const 2))",
        "(drop (call $finish (local.get $writer))) (call $write (local.get $writer) (i64.const 0) (local.get $data) (i32.const 0))",
        "(drop (call $finish (local.get $writer))) (drop (call $finish (local.get $writer)))",
        "(drop (call $writer (i32.const 13) (i32.const 1024) (i32.const 1)))",
        "(i32.store (i32.const 1024) (i32.const 0x7fffffff)) (drop (call $writer (i32.const 1) (i32.const 1024) (i32.const 1)))",
    ] {
        let plugin = load(&guest::pipeline(WRITER, "", &format!("{start} {rest} (unreachable)")));
        let error = fault(&plugin).await;
        let CallError::Trap(trace) = error else { panic!("{rest}: {error:?}") };
        assert!(!trace.contains("unreachable"), "the host let it pass: {rest}: {trace}");
    }
}

#[tokio::test]
async fn what_the_host_holds_for_a_guest_counts_as_its_memory() {
    let body = "(i32.store (i32.const 1024) (i32.const 4000000))
        (loop $more (drop (call $writer (i32.const 1) (i32.const 1024) (i32.const 1))) (br $more)) (unreachable)";
    let plugin = load(&guest::pipeline(WRITER, "", body));
    assert_eq!(fault(&plugin).await, CallError::Memory);
}

const KEYVALUE: &str = r#"
    (import "wasi:keyvalue/store@0.2.0-draft" "open" (func $open (param i32 i32 i32)))
    (import "wasi:keyvalue/store@0.2.0-draft" "[method]bucket.get" (func $get (param i32 i32 i32 i32)))
    (import "wasi:keyvalue/store@0.2.0-draft" "[method]bucket.set" (func $set (param i32 i32 i32 i32 i32 i32)))
"#;

fn with_store(read_only: bool) -> PluginOptions {
    let values = BTreeMap::from([("abc".to_owned(), Bytes::from_static(b"value"))]);
    let store: Arc<dyn KeyValue> = Arc::new(MemoryStore::new(values, read_only));
    let grants = Grants { keyvalue: BTreeMap::from([("text".to_owned(), store)]), ..Grants::default() };
    PluginOptions { grants, ..options() }
}

/// Opens the store `text` and leaves the handle in `$bucket`.
const OPEN_TEXT: &str = "(local $bucket i32)
    (call $open (i32.const 16) (i32.const 4) (i32.const 1024))
    (if (i32.load8_u (i32.const 1024)) (then (unreachable)))
    (local.set $bucket (i32.load (i32.const 1028)))";

#[tokio::test]
async fn a_guest_looks_up_the_keys_of_a_granted_store() {
    // Answers with the value, or `-`.
    let body = format!(
        "{OPEN_TEXT}
        (call $get (local.get $bucket) (local.get $data) (local.get $len) (i32.const 1024))
        (if (i32.load8_u (i32.const 1024)) (then (unreachable)))
        (if (i32.load8_u (i32.const 1028))
            (then (return (call $answer (i32.load (i32.const 1032)) (i32.load (i32.const 1036))))))
        (i32.store8 (i32.const 1024) (i32.const 45))
        (call $answer (i32.const 1024) (i32.const 1))"
    );
    let plugin = sandbox().load(&guest::pipeline(KEYVALUE, "", &body), with_store(true)).unwrap();
    assert_eq!(ask(&plugin, "abc").await.unwrap(), "value");
    assert_eq!(ask(&plugin, "abd").await.unwrap(), "-");
}

/// Answers with the kind of the error at 1024 as a digit, or `o`.
const ANSWER_ERROR: &str = "
    (if (i32.load8_u (i32.const 1024))
        (then (i32.store8 (i32.const 1024) (i32.add (i32.load8_u (i32.const 1028)) (i32.const 48))))
        (else (i32.store8 (i32.const 1024) (i32.const 111))))
    (call $answer (i32.const 1024) (i32.const 1))";

#[tokio::test]
async fn a_store_that_is_not_granted_does_not_exist_for_the_guest() {
    let body = format!("(call $open (local.get $data) (local.get $len) (i32.const 1024)) {ANSWER_ERROR}");
    let plugin = sandbox().load(&guest::pipeline(KEYVALUE, "", &body), with_store(true)).unwrap();
    assert_eq!(ask(&plugin, "text").await.unwrap(), "o");
    assert_eq!(ask(&plugin, "other").await.unwrap(), "0", "no-such-store");
}

#[tokio::test]
async fn a_read_only_store_denies_writing() {
    let body = format!(
        "{OPEN_TEXT}
        (call $set (local.get $bucket) (i32.const 16) (i32.const 4) (local.get $data) (local.get $len) (i32.const 1024))
        {ANSWER_ERROR}"
    );
    let component = guest::pipeline(KEYVALUE, "", &body);
    let plugin = sandbox().load(&component, with_store(true)).unwrap();
    assert_eq!(ask(&plugin, "x").await.unwrap(), "1", "access-denied");
    let plugin = sandbox().load(&component, with_store(false)).unwrap();
    assert_eq!(ask(&plugin, "x").await.unwrap(), "o");
}

/// A model that takes twice the budget of a call, and counts who is inside.
#[derive(Default)]
struct SlowEcho {
    running: AtomicUsize,
    most: AtomicUsize,
}

struct Inside<'a>(&'a AtomicUsize);

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

#[async_trait]
impl Inference for SlowEcho {
    fn signature(&self, model: &str) -> Option<Signature> {
        (model == "text").then(Signature::default)
    }

    async fn infer(
        &self,
        call: &CallContext,
        model: &str,
        inputs: Vec<NamedTensor>,
    ) -> Result<Vec<NamedTensor>, InferenceError> {
        assert_eq!(&*call.request_id, "req-1");
        if model != "text" {
            return Err(InferenceError::NotFound(model.to_owned()));
        }
        let running = self.running.fetch_add(1, Ordering::SeqCst) + 1;
        let _inside = Inside(&self.running);
        self.most.fetch_max(running, Ordering::SeqCst);
        tokio::time::sleep(CALL_TIMEOUT * 2).await;
        Ok(inputs)
    }
}

pub(crate) const INFERENCE: &str = r#"
    (import "sluice:plugin/inference@0.1.0" "infer" (func $infer (param i32 i32 i32 i32 i32)))
    (import "sluice:plugin/inference@0.1.0" "submit" (func $submit (param i32 i32 i32 i32 i32)))
    (import "sluice:plugin/inference@0.1.0" "[method]pending.wait" (func $wait (param i32 i32)))
    (import "sluice:plugin/tensors@0.1.0" "[method]tensor.read" (func $read (param i32 i64 i32 i32)))
"#;

/// One input at 2048: the request's body as a tensor of bytes (`uint8`).
pub(crate) const INPUT: &str = "
    (i32.store (i32.const 3000) (local.get $len))
    (i32.store (i32.const 2048) (i32.const 16)) (i32.store (i32.const 2052) (i32.const 4))
    (i32.store8 (i32.const 2056) (i32.const 0))
    (i32.store8 (i32.const 2060) (i32.const 1))
    (i32.store (i32.const 2064) (i32.const 3000)) (i32.store (i32.const 2068) (i32.const 1))
    (i32.store (i32.const 2072) (local.get $data)) (i32.store (i32.const 2076) (local.get $len))";

/// Answers with the bytes of the first output, whose result is at 1024.
pub(crate) const OUTPUT: &str = "
    (if (i32.load8_u (i32.const 1024)) (then (unreachable)))
    (call $read (i32.load offset=8 (i32.load (i32.const 1028))) (i64.const 0) (local.get $len) (i32.const 1024))
    (call $answer (i32.load (i32.const 1024)) (i32.load (i32.const 1028)))";

fn with_model() -> (Arc<SlowEcho>, PluginOptions) {
    let model = Arc::new(SlowEcho::default());
    let inference: Arc<dyn Inference> = Arc::<SlowEcho>::clone(&model);
    let grants = Grants { inference: Some(inference), ..Grants::default() };
    (model, PluginOptions { grants, ..options() })
}

#[tokio::test]
async fn waiting_for_a_model_does_not_use_the_budget() {
    let body = format!(
        "{INPUT} (call $infer (i32.const 16) (i32.const 4) (i32.const 2048) (i32.const 1) (i32.const 1024)) {OUTPUT}"
    );
    let (_, options) = with_model();
    let plugin = sandbox().load(&guest::pipeline(INFERENCE, "", &body), options).unwrap();
    assert_eq!(ask(&plugin, "rows").await.unwrap(), "rows");
    // The deadline of the request does count it.
    let call = crate::support::context_within(CALL_TIMEOUT);
    assert_eq!(
        plugin.handle(call, crate::support::body("rows")).await.expect_err("late"),
        CallError::Deadline
    );
}

#[tokio::test]
async fn models_run_side_by_side_and_an_abandoned_one_ends() {
    // Submits three, waits for the first, abandons the others.
    let submit = |at: u32| {
        format!("(call $submit (i32.const 16) (i32.const 4) (i32.const 2048) (i32.const 1) (i32.const {at}))")
    };
    let body = format!(
        "{INPUT} {} {} {}
        (call $wait (i32.load (i32.const 1104)) (i32.const 1024)) {OUTPUT}",
        submit(1100),
        submit(1120),
        submit(1140)
    );
    let (model, options) = with_model();
    let plugin = sandbox().load(&guest::pipeline(INFERENCE, "", &body), options).unwrap();
    assert_eq!(ask(&plugin, "rows").await.unwrap(), "rows");
    assert_eq!(model.most.load(Ordering::SeqCst), 3, "they ran one after the other");
    for _ in 0..1000 {
        if model.running.load(Ordering::SeqCst) == 0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    panic!("an abandoned call still runs");
}

#[tokio::test]
async fn waiting_twice_traps_and_an_unknown_model_is_an_error_value() {
    let body = format!(
        "{INPUT} (call $submit (i32.const 16) (i32.const 4) (i32.const 2048) (i32.const 1) (i32.const 1100))
        (call $wait (i32.load (i32.const 1104)) (i32.const 1024))
        (call $wait (i32.load (i32.const 1104)) (i32.const 1024)) (unreachable)"
    );
    let (_, options) = with_model();
    let plugin = sandbox().load(&guest::pipeline(INFERENCE, "", &body), options.clone()).unwrap();
    let error = fault(&plugin).await;
    assert!(matches!(&error, CallError::Trap(trace) if trace.contains("waited for before")), "{error:?}");
    let body = format!(
        "{INPUT} (call $infer (i32.const 17) (i32.const 3) (i32.const 2048) (i32.const 1) (i32.const 1024)) {ANSWER_ERROR}"
    );
    let plugin = sandbox().load(&guest::pipeline(INFERENCE, "", &body), options).unwrap();
    assert_eq!(ask(&plugin, "rows").await.unwrap(), "0", "not-found");
}

#[tokio::test]
async fn cancelling_a_call_cancels_its_model() {
    let body = format!(
        "{INPUT} (call $infer (i32.const 16) (i32.const 4) (i32.const 2048) (i32.const 1) (i32.const 1024)) {OUTPUT}"
    );
    let (model, options) = with_model();
    let plugin = sandbox().load(&guest::pipeline(INFERENCE, "", &body), options).unwrap();
    let call = plugin.handle(context(), crate::support::body("rows"));
    assert!(tokio::time::timeout(Duration::from_millis(100), call).await.is_err(), "it was cut short");
    assert_eq!(model.most.load(Ordering::SeqCst), 1, "the model was reached");
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(model.running.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn the_log_is_attributed_escaped_and_bounded() {
    let import =
        r#"(import "wasi:logging/logging@0.1.0-draft" "log" (func $log (param i32 i32 i32 i32 i32)))"#;
    let body = "(local $left i32) (local.set $left (i32.const 10000))
        (loop $more
            (call $log (i32.const 3) (i32.const 16) (i32.const 4) (local.get $data) (local.get $len))
            (br_if $more (local.tee $left (i32.sub (local.get $left) (i32.const 1)))))
        (call $answer (local.get $data) (local.get $len))";
    let lines = Arc::new(Lines::default());
    let mut options = options();
    options.log = Arc::<Lines>::clone(&lines);
    options.limits.call_timeout = Duration::from_secs(5);
    let plugin = sandbox().load(&guest::pipeline(import, "", body), options).unwrap();
    ask(&plugin, "a\n\x1b[31mforged").await.unwrap();
    let all = lines.all();
    assert_eq!(all[0], "guest/req-1 Warn text: a\\n\\u{1b}[31mforged");
    let bytes: usize = all.iter().map(String::len).sum();
    assert!(all.len() > 100 && bytes < 32 << 10, "{} lines of {bytes} bytes", all.len());
    assert!(all.last().unwrap().contains("log limit"), "{:?}", all.last());
}
