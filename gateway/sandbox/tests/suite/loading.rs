//! What is loaded, what is refused, and with which words.

use std::time::Duration;

use sluice_sandbox::{LoadError, WasiPolicy, World};
use tokio::time::Instant;

use crate::guest;
use crate::support::{ask, fault, options, sandbox};

const ECHO: &str = "(call $answer (local.get $data) (local.get $len))";

fn refused(component: &[u8]) -> LoadError {
    sandbox().load(component, options()).expect_err("it must be refused")
}

#[test]
fn files_that_are_no_components_are_told_apart() {
    let component = guest::pipeline("", "", ECHO);
    for bytes in [&b""[..], b"\x7fELF\x02\x01\x01\0", b"hello", b"PK\x03\x04rest", &component[..3]] {
        let error = refused(bytes);
        assert!(matches!(error, LoadError::NotWasm(_)), "{error:?}");
    }
    let LoadError::NotComponent(message) = refused(b"\0asm\x01\0\0\0") else { panic!("a core module") };
    assert!(message.contains("core module"), "{message}");
}

#[test]
fn a_component_cut_anywhere_is_refused() {
    let component = guest::pipeline("", "", ECHO);
    let sandbox = sandbox();
    for end in (8..guest::essential_end(&component)).step_by(7) {
        let error = sandbox.load(&component[..end], options()).expect_err("it is cut");
        // A cut between sections can leave a component, but not a plugin.
        assert!(
            matches!(error, LoadError::NotWasm(_) | LoadError::Invalid(_) | LoadError::World(_)),
            "{end}: {error:?}"
        );
    }
}

#[test]
fn the_world_is_told_from_the_exports() {
    let info = |component: &[u8]| sandbox().load(component, options()).unwrap().info().clone();
    let pipeline = info(&guest::pipeline("", "", ECHO));
    assert_eq!(pipeline.world, World::Pipeline);
    assert_eq!(pipeline.digest.len(), 64);
    assert_eq!(info(&guest::preprocessor("", "(i32.const 4096)")).world, World::Preprocessor);
    let hook = r#"(memory (export "memory") 1)
        (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (i32.const 0))
        (func (export "sluice:plugin/postprocess@0.1.0#process") (param i32 i32) (result i32) (i32.const 0))"#;
    let post = guest::component("export sluice:plugin/postprocess@0.1.0;", hook);
    assert_eq!(info(&post).world, World::Postprocessor);
    let none = guest::component("export run: func();", r#"(func (export "run"))"#);
    assert!(matches!(refused(&none), LoadError::World(_)), "{:?}", refused(&none));
}

#[test]
fn an_export_of_another_type_is_no_plugin() {
    let text = r#"(component
        (core module $m (func (export "f")))
        (core instance $i (instantiate $m))
        (func $f (canon lift (core func $i "f")))
        (instance $h (export "handle" (func $f)))
        (export "sluice:plugin/handler@0.1.0" (instance $h)))"#;
    let error = refused(&wat::parse_str(text).unwrap());
    assert!(matches!(error, LoadError::World(_)), "{error:?}");
}

const CONNECT: &str =
    r#"(import "evil:net/sockets@1.0.0" "connect" (func $connect (param i32) (result i32)))"#;
const RANDOM: &str = r#"(import "wasi:random/random@0.2.0" "get-random-u64" (func $random (result i64)))"#;
const EXIT: &str = r#"(import "wasi:cli/exit@0.2.0" "exit" (func $exit (param i32)))"#;
const OPEN: &str = r#"(import "wasi:keyvalue/store@0.2.0-draft" "open" (func $open (param i32 i32 i32)))"#;
const INFER: &str =
    r#"(import "sluice:plugin/inference@0.1.0" "infer" (func $infer (param i32 i32 i32 i32 i32)))"#;

#[test]
fn a_forbidden_import_is_refused_by_name() {
    for (import, call, name, change) in [
        (CONNECT, "(drop (call $connect (i32.const 22)))", "evil:net/sockets@1.0.0", "does not offer"),
        (RANDOM, "(drop (call $random))", "wasi:random/random@0.2.0", "`strict`"),
        (EXIT, "(call $exit (i32.const 0))", "wasi:cli/exit@0.2.0", "`strict`"),
        (
            OPEN,
            "(call $open (i32.const 16) (i32.const 4) (i32.const 1024))",
            "wasi:keyvalue/store@0.2.0-draft",
            "`stores`",
        ),
        (
            INFER,
            "(call $infer (i32.const 16) (i32.const 4) (i32.const 0) (i32.const 0) (i32.const 1024))",
            "sluice:plugin/inference@0.1.0",
            "`models`",
        ),
    ] {
        let error = refused(&guest::pipeline(import, "", &format!("{call} {ECHO}")));
        let LoadError::ForbiddenImport { name: refused, why } = error else { panic!("{error:?}") };
        assert_eq!(refused, name);
        assert!(why.contains(change), "{name}: {why}");
    }
}

#[tokio::test]
async fn empty_wasi_gives_random_numbers_and_exit_ends_only_the_call() {
    let mut options = options();
    options.wasi = WasiPolicy::Empty;
    let body = format!("(if (i64.eqz (call $random)) (then (unreachable))) {ECHO}");
    let sandbox = sandbox();
    let plugin = sandbox.load(&guest::pipeline(RANDOM, "", &body), options.clone()).unwrap();
    assert_eq!(ask(&plugin, "fine").await.unwrap(), "fine");
    assert!(
        plugin.info().imports.contains(&"wasi:random/random@0.2.0".to_owned()),
        "{:?}",
        plugin.info().imports
    );
    let exits = guest::pipeline(EXIT, "", "(call $exit (i32.const 1)) (unreachable)");
    let exits = sandbox.load(&exits, options.clone()).unwrap();
    let error = fault(&exits).await;
    assert!(matches!(error, sluice_sandbox::CallError::Trap(_)), "{error:?}");
    let evil = guest::pipeline(CONNECT, "", &format!("(drop (call $connect (i32.const 22))) {ECHO}"));
    let error = sandbox.load(&evil, options).expect_err("no part of WASI");
    assert!(
        matches!(&error, LoadError::ForbiddenImport { name, .. } if name == "evil:net/sockets@1.0.0"),
        "{error:?}"
    );
}

#[test]
fn random_numbers_are_granted_or_refused_by_name_whatever_the_policy() {
    let body = format!("(drop (call $random)) {ECHO}");
    let component = guest::pipeline(RANDOM, "", &body);
    for (wasi, grant, is_loaded) in [
        (WasiPolicy::Refuse, None, false),
        (WasiPolicy::Refuse, Some(true), true),
        (WasiPolicy::Empty, None, true),
        (WasiPolicy::Empty, Some(false), false),
    ] {
        let mut options = options();
        options.wasi = wasi;
        options.grants.random = grant;
        let loaded = sandbox().load(&component, options);
        assert_eq!(loaded.is_ok(), is_loaded, "{wasi:?} {grant:?}: {loaded:?}");
    }
}

#[test]
fn init_gets_the_configuration_and_may_refuse_it() {
    // Ok if the configuration is 2 bytes long, else an error with its text.
    let init = r"
        (i32.store8 (i32.const 512) (i32.ne (local.get $len) (i32.const 2)))
        (i32.store (i32.const 516) (local.get $config))
        (i32.store (i32.const 520) (local.get $len))
        (i32.const 512)";
    let component = guest::with_init("", init, "(call $answer (i32.const 16) (i32.const 4))");
    let sandbox = sandbox();
    sandbox.load(&component, options()).unwrap();
    let mut wrong = options();
    wrong.config_json = r#"{"a":1}"#.to_owned();
    let error = sandbox.load(&component, wrong).expect_err("init refuses");
    assert_eq!(error, LoadError::Init(r#"{"a":1}"#.to_owned()));
}

#[test]
fn a_start_that_never_ends_is_never_loaded() {
    let start = "(func $start (loop $again (br $again))) (start $start)";
    let begin = Instant::now();
    let error = refused(&guest::pipeline("", start, ECHO));
    assert!(matches!(error, LoadError::Init(_)), "{error:?}");
    assert!(begin.elapsed() < Duration::from_secs(3), "{:?}", begin.elapsed());
    let traps = "(func $start (unreachable)) (start $start)";
    assert!(matches!(refused(&guest::pipeline("", traps, ECHO)), LoadError::Init(_)));
}

#[test]
fn too_much_memory_is_refused_at_load_and_the_sum_counts() {
    let one = |memory: &str| {
        let text = format!(
            r#"(memory (export "memory") {memory})
            (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (i32.const 0))
            (func (export "sluice:plugin/preprocess@0.1.0#process") (param i32 i32) (result i32) (i32.const 0))"#
        );
        guest::component("export sluice:plugin/preprocess@0.1.0;", &text)
    };
    for memory in ["65536", "257"] {
        let error = refused(&one(memory));
        assert!(matches!(error, LoadError::Limits(_)), "{memory}: {error:?}");
    }
    // Each is below the limit of 16 MiB; together they are not.
    for (count, pages) in [(100, 10), (5, 100)] {
        let error = refused(&guest::add_memories(one("1"), count, pages));
        assert!(matches!(error, LoadError::Limits(_)), "{count} of {pages}: {error:?}");
    }
    sandbox().load(&guest::add_memories(one("1"), 5, 10), options()).expect("the sum fits");
    let table = r#"(table 10000000 funcref)"#;
    let error = refused(&guest::pipeline("", table, ECHO));
    assert!(matches!(error, LoadError::Limits(_)), "{error:?}");
}

#[test]
fn limits_that_cannot_be_kept_are_refused() {
    let component = guest::pipeline("", "", ECHO);
    let mut options = options();
    options.limits.memory_bytes = 1 << 40;
    let error = sandbox().load(&component, options).expect_err("too much");
    assert!(matches!(error, LoadError::Limits(_)), "{error:?}");
}

/// The component with another version in the names of the contract that hold `what`.
fn renamed(component: &[u8], what: &str, version: &str) -> Vec<u8> {
    let (old, new) = (format!("sluice:plugin/{what}@0.1.0"), format!("sluice:plugin/{what}@{version}"));
    assert_eq!(old.len(), new.len(), "lengths of names stand elsewhere");
    let mut component = component.to_vec();
    let mut found = 0;
    for at in 0..component.len() - old.len() {
        if component[at..].starts_with(old.as_bytes()) {
            component[at..at + old.len()].copy_from_slice(new.as_bytes());
            found += 1;
        }
    }
    assert!(found > 0, "{old} is not in the component");
    component
}

fn of_version(component: &[u8], version: &str) -> Vec<u8> {
    let names = ["handler", "tensors", "types"];
    names.iter().fold(component.to_vec(), |component, name| renamed(&component, name, version))
}

const LENGTH: &str = r#"(import "sluice:plugin/tensors@0.1.0" "[method]tensor.byte-length" (func $length (param i32) (result i64)))"#;

/// An echo that imports of the contract too.
fn importing() -> Vec<u8> {
    let body = format!("(if (i32.eqz (local.get $len)) (then (drop (call $length (i32.const 7))))) {ECHO}");
    guest::pipeline(LENGTH, "", &body)
}

#[tokio::test]
async fn patches_of_a_served_version_are_served_and_told_apart() {
    let component = importing();
    for version in ["0.1.0", "0.1.9"] {
        let component = of_version(&component, version);
        let plugin = sandbox().load(&component, options()).unwrap();
        assert_eq!(plugin.info().facts.contract, version);
        assert_eq!(ask(&plugin, "served").await.unwrap(), "served");
    }
}

#[test]
fn a_version_that_is_not_served_says_which_are() {
    let component = of_version(&importing(), "0.4.0");
    let LoadError::World(message) = refused(&component) else { panic!("{:?}", refused(&component)) };
    assert_eq!(
        message,
        "this component was built for sluice:plugin 0.4.0; this gateway serves 0.1, 0.2 and 0.3: \
         update the gateway or build with sluice-sdk 0.3"
    );
}

#[test]
fn a_component_of_two_versions_is_refused() {
    let component = renamed(&importing(), "tensors", "0.2.0");
    let LoadError::World(message) = refused(&component) else { panic!("{:?}", refused(&component)) };
    assert!(message.contains("mixes sluice:plugin 0.1.0 and 0.2.0"), "{message}");
}
