//! Components are verified by a child that the kernel bounds: what it answers, what kills
//! it, and what it cannot do (P1–P6, P8).

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use sluice::catalog::verify::{Verifier, VerifierOptions, VerifyError, VerifyLimits, verify_error};
use sluice::error::{Kind, UploadRefusal};
use sluice_tests::guests::HOSTILE;
use sluice_tests::{bomb, gateway, program, repository};
use tokio::time::Instant;

fn verifier(limits: VerifyLimits) -> Verifier {
    Verifier::new(VerifierOptions { program: program(), limits, ..VerifierOptions::default() })
}

/// A debug build compiles some ten times slower than what is shipped.
fn patient() -> VerifyLimits {
    VerifyLimits { wall_clock: Duration::from_secs(600), ..VerifyLimits::default() }
}

fn guest(name: &str) -> Bytes {
    let path = repository().join("tests/guests/dist").join(name);
    std::fs::read(path).expect("a guest").into()
}

fn reason(error: VerifyError) -> UploadRefusal {
    let error = verify_error(error);
    match error.kind() {
        Kind::UploadRefused(reason) => reason,
        kind => panic!("{kind:?}: {error}: {:?}", error.detail()),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_good_component_comes_back_with_facts_and_code() {
    let verifier = verifier(patient());
    let echo = guest("echo.wasm");
    let start = Instant::now();
    let verified = verifier.verify(echo.clone()).await.expect("it is good");
    println!("echo.wasm was verified and compiled in {:?}", start.elapsed());
    let facts = verified.facts;
    assert_eq!((facts.world.to_string().as_str(), facts.contract.as_str()), ("preprocessor", "0.3.0"));
    assert_eq!(facts.size_bytes, echo.len());
    assert!(facts.metadata.processed_by.iter().any(|tool| tool.name == "wit-bindgen-rust"), "{facts:?}");
    assert!(verified.code.len() > 10_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_refusal_reaches_the_caller_with_its_reason() {
    let verifier = verifier(VerifyLimits { component_bytes: 1 << 20, ..patient() });
    let echo = guest("echo.wasm");
    let cases = [
        ("empty", Bytes::new(), UploadRefusal::NotWasm),
        ("text", Bytes::from_static(b"#!/bin/sh\nexit"), UploadRefusal::NotWasm),
        ("cut", echo.slice(..echo.len() / 2), UploadRefusal::NotWasm),
        ("core module", Bytes::from_static(b"\0asm\x01\0\0\0"), UploadRefusal::NotComponent),
        ("no world", Bytes::from_static(b"\0asm\x0d\0\x01\0"), UploadRefusal::WrongWorld),
        ("too large", vec![0; (1 << 20) + 1].into(), UploadRefusal::Limits),
        ("bomb", bomb::too_many_functions().into(), UploadRefusal::CompileLimit),
        ("nonsense", Bytes::from_static(b"\0asm\x0d\0\x01\0\x01\x01\x00"), UploadRefusal::Invalid),
    ];
    for (what, component, expected) in cases {
        let start = Instant::now();
        let error = verifier.verify(component).await.expect_err(what);
        assert_eq!(reason(error), expected, "{what}");
        assert!(start.elapsed() < Duration::from_secs(20), "{what}: {:?}", start.elapsed());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_component_that_compiles_for_ever_ends_at_its_processor_time() {
    let bomb: Bytes = bomb::slow_to_compile(&guest("echo.wasm")).into();
    let verifier = verifier(VerifyLimits { cpu_seconds: 2, ..patient() });
    let error = verifier.verify(bomb).await.expect_err("it takes too long");
    assert!(matches!(error, VerifyError::Limit { .. }), "{error:?}");
    let error = verify_error(error);
    assert_eq!(error.kind(), Kind::UploadRefused(UploadRefusal::CompileLimit));
    assert!(error.message().contains("processor time"), "{error}");
    assert!(error.detail().is_some_and(|detail| detail.contains("signal")), "{error:?}");
    // And the next one is fine.
    verifier.verify(guest("echo.wasm")).await.map(drop).or_else(only_slow).expect("it is good");
}

/// Two seconds of processor time may be too little for a debug build on a slow machine:
/// what counts is that the verifier goes on.
fn only_slow(error: VerifyError) -> Result<(), VerifyError> {
    if matches!(error, VerifyError::Limit { .. }) { Ok(()) } else { Err(error) }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_component_that_takes_all_memory_ends_at_its_address_space() {
    let bomb: Bytes = bomb::hungry_to_compile(&guest("echo.wasm")).into();
    let limits = VerifyLimits { address_space_bytes: 600 << 20, ..patient() };
    let error = verifier(limits).verify(bomb).await.expect_err("it takes too much");
    assert_eq!(reason(error), UploadRefusal::CompileLimit);
}

#[tokio::test(flavor = "multi_thread")]
async fn uploads_wait_for_their_turn_and_a_crowd_is_turned_away() {
    let limits = VerifyLimits { cpu_seconds: 61, ..patient() };
    let options =
        VerifierOptions { program: program(), limits, waiting_max: 2, ..VerifierOptions::default() };
    let verifier = Arc::new(Verifier::new(options));
    let start = |component: Bytes| {
        let verifier = Arc::clone(&verifier);
        tokio::spawn(async move { verifier.verify(component).await })
    };
    let slow = start(bomb::slow_to_compile(&guest("echo.wasm")).into());
    let pid = child(61).await;
    let waiting = [start(Bytes::from_static(b"text")), start(Bytes::from_static(b"text"))];
    tokio::time::sleep(Duration::from_millis(100)).await;
    let error = verifier.verify(Bytes::from_static(b"text")).await.expect_err("a crowd");
    assert_eq!(verify_error(error).kind(), Kind::TenantLimit);
    assert!(waiting.iter().all(|waiting| !waiting.is_finished()), "they wait for the first");
    // Whoever gives up takes the child along, and the others get their turn.
    slow.abort();
    for waiting in waiting {
        let error = waiting.await.expect("no panic").expect_err("text");
        assert_eq!(reason(error), UploadRefusal::NotWasm);
    }
    let gone = async {
        while std::fs::metadata(format!("/proc/{pid}/status")).is_ok() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), gone).await.expect("the child was killed");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_answer_in_time_is_the_gateway_s_fault_and_a_missing_program_too() {
    let limits = VerifyLimits { wall_clock: Duration::from_millis(300), ..VerifyLimits::default() };
    let bomb: Bytes = bomb::slow_to_compile(&guest("echo.wasm")).into();
    let error = verifier(limits).verify(bomb).await.expect_err("too slow");
    assert_eq!(verify_error(error).kind(), Kind::Overloaded);
    let options = VerifierOptions { program: PathBuf::from("/nowhere/sluice"), ..VerifierOptions::default() };
    let error = Verifier::new(options).verify(guest("echo.wasm")).await.expect_err("no program");
    let error = verify_error(error);
    assert_eq!(error.kind(), Kind::Internal);
    assert!(!error.message().contains("nowhere"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_child_has_given_everything_up_while_it_works() {
    let limits = VerifyLimits { cpu_seconds: 62, ..patient() };
    let verifier = verifier(limits);
    let work = tokio::spawn(async move {
        verifier.verify(bomb::slow_to_compile(&guest("echo.wasm")).into()).await.map(drop)
    });
    let pid = child(62).await;
    let read = |file: &str| std::fs::read_to_string(format!("/proc/{pid}/{file}")).expect("it runs");
    // From its start to the filter it takes a moment.
    let filtered = async {
        while !read("status").lines().any(|line| words(line) == ["Seccomp:", "2"]) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), filtered).await.expect("a filter is set");
    let status = read("status");
    for expected in [["NoNewPrivs:", "1"], ["Threads:", "1"]] {
        assert!(status.lines().any(|line| words(line) == expected), "{expected:?}: {status}");
    }
    let limits = read("limits");
    for (name, value) in [
        ("Max cpu time", "62"),
        ("Max file size", "0"),
        ("Max core file size", "0"),
        ("Max processes", "0"),
        ("Max open files", "16"),
        ("Max address space", "2147483648"),
    ] {
        let line = limits.lines().find(|line| line.starts_with(name)).expect("a limit");
        assert!(line.split_whitespace().filter(|word| *word == value).count() == 2, "{value}: {line}");
    }
    let score = read("oom_score_adj");
    assert_eq!(score.trim(), "1000", "when memory runs out, it goes first");
    // The 19th field is the niceness; the second one, the name, is in brackets.
    let stat = read("stat");
    let after_name = stat.rsplit(") ").next().expect("fields");
    assert_eq!(words(after_name).get(16), Some(&"19"), "{stat}");
    // The 41st is the scheduling policy: 5 is "only when nobody else wants the processor".
    assert_eq!(words(after_name).get(38), Some(&"5"), "{stat}");
    // And it handles SIGALRM, the 14th signal: that is when it steps aside.
    let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).expect("a mask");
    let caught = u64::from_str_radix(caught.trim(), 16).expect("hexadecimal");
    assert!(caught & (1 << 13) != 0, "{status}");
    assert!(read("environ").is_empty(), "it has no environment");
    work.abort();
}

/// How long predictions take, one after the other: the 99th of 100.
async fn p99(gateway: &gateway::Running) -> Duration {
    let mut took = Vec::new();
    for number in 0..400 {
        let start = Instant::now();
        gateway.client.predict("good", &serde_json::json!({ "number": number })).await.ok();
        took.push(start.elapsed());
    }
    took.sort();
    took[took.len() * 99 / 100]
}

/// What another process on the machine may do to the 99th of 100 while the test runs.
const NOISE: Duration = Duration::from_millis(10);

#[tokio::test(flavor = "multi_thread")]
async fn predictions_are_as_fast_as_ever_while_a_bomb_is_compiled() {
    let gateway = gateway::start(HOSTILE).await;
    let quiet = p99(&gateway).await;
    let verifier = verifier(VerifyLimits { cpu_seconds: 63, ..patient() });
    let work = tokio::spawn(async move {
        verifier.verify(bomb::slow_to_compile(&guest("echo.wasm")).into()).await.map(drop)
    });
    child(63).await;
    let beside = p99(&gateway).await;
    let was_beside = !work.is_finished();
    work.abort();
    println!("99th of 100 predictions: {quiet:?} alone, {beside:?} beside a compile bomb");
    assert!(was_beside, "the bomb was too small");
    assert!(beside <= quiet.mul_f64(1.5) + NOISE, "{quiet:?} alone, {beside:?} beside");
}

fn words(line: &str) -> Vec<&str> {
    line.split_whitespace().collect()
}

/// The child of this process that may use so much processor time.
async fn child(cpu_seconds: u64) -> u32 {
    let own = std::process::id().to_string();
    let wanted = format!("--cpu-seconds\0{cpu_seconds}\0");
    let find = || {
        std::fs::read_dir("/proc").expect("Linux").filter_map(Result::ok).find_map(|entry| {
            let pid: u32 = entry.file_name().to_str()?.parse().ok()?;
            let status = std::fs::read_to_string(entry.path().join("status")).ok()?;
            let is_ours = status.lines().any(|line| words(line) == ["PPid:", own.as_str()]);
            let line = std::fs::read_to_string(entry.path().join("cmdline")).ok()?;
            (is_ours && line.contains(&wanted)).then_some(pid)
        })
    };
    let found = async {
        loop {
            if let Some(pid) = find() {
                return pid;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), found).await.expect("the child runs")
}
