//! What a plugin uses is known, bounded in total, and told by name.

use std::time::Duration;

use sluice_sandbox::{CallError, ProfileError, Sandbox, SandboxConfig};
use tempfile::TempDir;

use crate::guest;
use crate::support::{ask, body, config, context, options, sandbox};

#[tokio::test]
async fn memory_instances_and_time_are_counted_and_given_back() {
    let body = "(drop (memory.grow (i32.const 32))) (call $answer (local.get $data) (local.get $len))";
    let plugin = sandbox().load(&guest::pipeline("", "", body), options()).unwrap();
    let before = plugin.usage();
    for _ in 0..10 {
        assert_eq!(ask(&plugin, "fine").await.unwrap(), "fine");
    }
    let after = plugin.usage();
    assert_eq!(after.instances_started - before.instances_started, 10);
    assert!((34 << 16..40 << 16).contains(&after.instance_bytes_peak), "{after:?}");
    assert!(after.guest_time > before.guest_time && after.guest_time < Duration::from_secs(10));
    assert_eq!((after.memory_bytes, after.instances, after.calls_in_flight), (0, 0, 0), "{after:?}");
}

#[tokio::test]
async fn all_instances_together_have_a_limit_and_it_is_lifted_when_one_ends() {
    // Grows by 10 MiB; loops when the body starts with `l`.
    let body_text = r"
        (if (i32.eq (memory.grow (i32.const 160)) (i32.const -1)) (then (unreachable)))
        (if (i32.eq (i32.load8_u (local.get $data)) (i32.const 108)) (then (loop $again (br $again))))
        (call $answer (local.get $data) (local.get $len))";
    let mut options = options();
    options.limits.memory_total_bytes = 17 << 20;
    options.limits.call_timeout = Duration::from_secs(60);
    let plugin = sandbox().load(&guest::pipeline("", "", body_text), options).unwrap();
    let looping = plugin.clone();
    let looping = tokio::spawn(async move { looping.handle(context(), body("loop")).await });
    while plugin.usage().memory_bytes < 10 << 20 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(ask(&plugin, "x").await, Err(CallError::Memory));
    looping.abort();
    while plugin.usage().memory_bytes > 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(ask(&plugin, "x").await.unwrap(), "x");
}

const NAMED: &str = "(func $divide_by_zero_here (param i32) (drop (i32.div_u (i32.const 1) (local.get 0))))";

#[tokio::test]
async fn a_trap_names_the_guest_s_functions_also_from_the_cache() {
    let component = guest::pipeline("", NAMED, "(call $divide_by_zero_here (i32.const 0)) (unreachable)");
    let directory = TempDir::new().unwrap();
    for from_cache in [false, true] {
        let config = SandboxConfig { cache_dir: Some(directory.path().to_owned()), ..config() };
        let plugin = Sandbox::new(config).unwrap().load(&component, options()).unwrap();
        assert_eq!(plugin.info().compiled_from_cache, from_cache);
        let error = ask(&plugin, "x").await.expect_err("it traps");
        let CallError::Trap(trace) = error else { panic!("{error:?}") };
        assert!(trace.contains("divide_by_zero_here"), "{trace}");
        assert!(trace.len() < 16 << 10, "{}", trace.len());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_profile_shows_where_the_time_goes_and_one_is_taken_at_a_time() {
    let busy = r"(func $busy_here (param $left i32)
        (loop $again (br_if $again (local.tee $left (i32.sub (local.get $left) (i32.const 1))))))";
    let body_text =
        "(call $busy_here (i32.const 20000000)) (call $answer (local.get $data) (local.get $len))";
    let mut options = options();
    options.limits.call_timeout = Duration::from_secs(60);
    let plugin = sandbox().load(&guest::pipeline("", busy, body_text), options).unwrap();
    let working = plugin.clone();
    let work = tokio::spawn(async move {
        loop {
            ask(&working, "x").await.unwrap();
        }
    });
    let (first, second) = tokio::join!(plugin.profile(Duration::from_millis(500)), async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        plugin.profile(Duration::from_millis(1)).await
    });
    work.abort();
    assert_eq!(second, Err(ProfileError::Busy));
    let profile = String::from_utf8(first.unwrap()).unwrap();
    assert!(profile.starts_with('{') && profile.contains("busy_here"), "{}", &profile[..200]);
    // The machine may be busy, but not so busy.
    let profile: serde_json::Value = serde_json::from_str(&profile).unwrap();
    let samples = profile["threads"][0]["samples"]["length"].as_u64();
    assert!(samples > Some(20), "{samples:?}");
    let empty = plugin.profile(Duration::from_millis(1)).await.unwrap();
    assert!(!empty.is_empty(), "another may be taken after it");
    assert!(matches!(plugin.profile(Duration::from_secs(3600)).await, Err(ProfileError::TooLong { .. })));
}

#[tokio::test]
async fn a_profile_that_nobody_waits_for_ends() {
    let plugin =
        crate::support::load(&guest::pipeline("", "", "(call $answer (local.get $data) (local.get $len))"));
    let given_up = tokio::time::timeout(Duration::from_millis(20), plugin.profile(Duration::from_secs(30)));
    assert!(given_up.await.is_err());
    assert!(plugin.profile(Duration::from_millis(1)).await.is_ok());
}
