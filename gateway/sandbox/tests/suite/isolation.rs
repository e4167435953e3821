//! What one call leaves behind, and that the same call gives the same bytes.

use std::collections::BTreeMap;

use crate::guest;
use crate::support::{ask, fault, load, options, sandbox};

/// Answers with the digit of how often this instance was called.
const COUNTER: &str = r#"(global $calls (mut i32) (i32.const 0))"#;
const COUNT: &str = r"
    (global.set $calls (i32.add (global.get $calls) (i32.const 1)))
    (i32.store8 (i32.const 1024) (i32.add (global.get $calls) (i32.const 48)))
    (call $answer (i32.const 1024) (i32.const 1))";

#[tokio::test]
async fn a_fresh_instance_for_each_call_keeps_nothing() {
    let plugin = load(&guest::pipeline("", COUNTER, COUNT));
    for _ in 0..20 {
        assert_eq!(ask(&plugin, "x").await.unwrap(), "1");
    }
}

#[tokio::test]
async fn reuse_keeps_an_instance_for_at_most_that_many_calls() {
    let mut options = options();
    options.reuse = 4;
    let plugin = sandbox().load(&guest::pipeline("", COUNTER, COUNT), options).unwrap();
    let mut seen = BTreeMap::new();
    for _ in 0..60 {
        *seen.entry(ask(&plugin, "x").await.unwrap()).or_insert(0) += 1;
    }
    assert!(seen.contains_key("3".as_bytes()), "never reused: {seen:?}");
    assert!(!seen.contains_key("5".as_bytes()), "reused too often: {seen:?}");
    assert!(seen["1".as_bytes()] >= 15, "{seen:?}");
}

#[tokio::test]
async fn an_instance_that_failed_is_not_used_again() {
    let mut options = options();
    options.reuse = 100;
    let body = format!(
        "(if (i32.eq (i32.load8_u (local.get $data)) (i32.const 120)) (then (global.set $calls (i32.const 5)) (unreachable))) {COUNT}"
    );
    let plugin = sandbox().load(&guest::pipeline("", COUNTER, &body), options).unwrap();
    assert_eq!(ask(&plugin, "a").await.unwrap(), "1");
    assert_eq!(ask(&plugin, "a").await.unwrap(), "2");
    fault(&plugin).await;
    assert_eq!(ask(&plugin, "a").await.unwrap(), "1");
}

#[tokio::test]
async fn memory_of_former_instances_is_gone() {
    // Answers with the byte that it finds, then writes there.
    let body = r"
        (local $found i32)
        (local.set $found (i32.load8_u (i32.const 130000)))
        (i32.store8 (i32.const 130000) (i32.const 7))
        (i32.store8 (i32.const 1024) (i32.add (local.get $found) (i32.const 48)))
        (call $answer (i32.const 1024) (i32.const 1))";
    let plugin = load(&guest::pipeline("", "", body));
    for _ in 0..50 {
        assert_eq!(ask(&plugin, "x").await.unwrap(), "0");
    }
}

#[tokio::test]
async fn a_thousand_equal_calls_give_equal_bytes() {
    // 0/0, and an operation on it: the bits of a NaN are the machine's choice
    // unless they are made canonical.
    let body = r"
        (f32.store (i32.const 1024) (f32.div (f32.const 0) (f32.convert_i32_u (i32.sub (local.get $len) (local.get $len)))))
        (f32.store (i32.const 1028) (f32.add (f32.const -nan:0x200001) (f32.load (local.get $data))))
        (f64.store (i32.const 1032) (f64.sqrt (f64.const -1)))
        (call $answer (i32.const 1024) (i32.const 16))";
    let plugin = load(&guest::pipeline("", "", body));
    let first = ask(&plugin, "1234").await.unwrap();
    assert_eq!(first[..4], 0x7fc0_0000_u32.to_le_bytes(), "the canonical NaN");
    for _ in 0..1000 {
        assert_eq!(ask(&plugin, "1234").await.unwrap(), first);
    }
}
