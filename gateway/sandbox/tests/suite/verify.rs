//! What is refused before anything is compiled, how fast, and with which words; and that
//! what passes runs.

use std::time::Duration;

use sluice_sandbox::verify::{SAMPLES_SECTION, custom_section, verify, with_custom_section};
use sluice_sandbox::{LoadError, Sandbox, SandboxConfig, VerifyLimits, World};
use tempfile::TempDir;
use tokio::time::Instant;

use crate::guest;
use crate::support::{ask, config, options};

const ECHO: &str = "(call $answer (local.get $data) (local.get $len))";

/// Far less than compiling any of the bombs takes, far more than refusing them does in a
/// debug build.
const SOON: Duration = Duration::from_secs(10);

fn echo() -> Vec<u8> {
    guest::pipeline("", "", ECHO)
}

fn refused(component: &[u8]) -> LoadError {
    verify(component, &VerifyLimits::default()).expect_err("it must be refused")
}

fn from_text(text: &str) -> Vec<u8> {
    wat::parse_str(text).unwrap()
}

#[test]
fn other_files_are_told_apart_and_nothing_precompiled_is_taken() {
    for bytes in [&b""[..], b"\x7fELF\x02\x01\x01\0", b"hello", b"PK\x03\x04rest", b"\0asm", b"\0asm\x0d\0"] {
        assert!(matches!(refused(bytes), LoadError::NotWasm(_)), "{bytes:?}: {:?}", refused(bytes));
    }
    let module = from_text("(module)");
    let LoadError::NotComponent(message) = refused(&module) else { panic!("a core module") };
    assert!(message.contains("wasm-tools component new"), "{message}");
    let code = verify(&echo(), &VerifyLimits::default()).unwrap().code;
    assert!(matches!(refused(&code), LoadError::NotComponent(_)));
}

#[test]
fn a_component_cut_at_any_byte_is_refused() {
    let component = echo();
    for end in 0..guest::essential_end(&component) {
        let error = refused(&component[..end]);
        let expected = matches!(error, LoadError::NotWasm(_) | LoadError::World(_) | LoadError::Invalid(_));
        assert!(expected, "{end}: {error:?}");
    }
}

#[test]
fn a_flipped_bit_is_refused_or_harmless_and_never_a_panic() {
    let component = echo();
    let mut refused = 0;
    for position in (8..component.len()).step_by(13) {
        let mut bad = component.clone();
        bad[position] ^= 1 << (position % 8);
        refused += u32::from(verify(&bad, &VerifyLimits::default()).is_err());
    }
    assert!(refused > 20, "only {refused} were seen");
}

#[test]
fn a_component_one_byte_over_the_limit_is_refused() {
    let component = echo();
    let limits = |component_bytes| VerifyLimits { component_bytes, ..VerifyLimits::default() };
    assert!(verify(&component, &limits(component.len())).is_ok());
    let error = verify(&component, &limits(component.len() - 1)).expect_err("too large");
    assert!(matches!(error, LoadError::Limits(_)), "{error:?}");
}

#[test]
fn another_version_of_the_contract_is_named_with_those_that_are_served() {
    let text = r#"(component
        (core module $m (func (export "f")))
        (core instance $i (instantiate $m))
        (func $f (canon lift (core func $i "f")))
        (instance $h (export "handle" (func $f)))
        (export "sluice:plugin/handler@9.9.9" (instance $h)))"#;
    let LoadError::World(message) = refused(&from_text(text)) else { panic!("another version") };
    assert!(message.contains("9.9.9") && message.contains("serves 0.1, 0.2 and 0.3"), "{message}");
    let empty = from_text("(component)");
    assert!(matches!(refused(&empty), LoadError::World(_)));
}

#[test]
fn an_import_that_no_gateway_offers_is_refused_by_name() {
    let connect = r#"(import "evil:net/sockets@1.0.0" "connect" (func $connect (param i32) (result i32)))"#;
    let evil = guest::pipeline(connect, "", &format!("(drop (call $connect (i32.const 22))) {ECHO}"));
    let error = refused(&evil);
    let LoadError::ForbiddenImport { name, why } = &error else { panic!("{error:?}") };
    assert_eq!(name, "evil:net/sockets@1.0.0");
    assert!(why.contains("does not offer"), "{why}");
    // What a configuration may grant is asked for, not refused.
    let random = r#"(import "wasi:random/random@0.2.0" "get-random-u64" (func $random (result i64)))"#;
    let asks = guest::pipeline(random, "", &format!("(drop (call $random)) {ECHO}"));
    let facts = verify(&asks, &VerifyLimits::default()).unwrap().facts;
    assert!(facts.imports.contains(&"wasi:random/random@0.2.0".to_owned()), "{:?}", facts.imports);
}

/// A component section with these bytes.
fn section(kind: u8, content: &[u8]) -> Vec<u8> {
    let mut out = vec![kind];
    let mut left = content.len();
    while left > 0x7f {
        out.push(u8::try_from(left & 0x7f).unwrap() | 0x80);
        left >>= 7;
    }
    out.push(u8::try_from(left).unwrap());
    [&out, content].concat()
}

const COMPONENT: &[u8] = b"\0asm\x0d\0\x01\0";
const NESTED: u8 = 4;

#[test]
fn compile_bombs_are_refused_before_they_are_compiled() {
    let many = format!("(component (core module {}))", "(func)".repeat(100_001));
    let body = "(drop (i64.const -9223372036854775808))".repeat(90_000);
    let enormous = format!("(component (core module (func {body})))");
    let deep = (0..1000).fold(COMPONENT.to_vec(), |inner, _| [COMPONENT, &section(NESTED, &inner)].concat());
    let wide = [COMPONENT, &section(NESTED, COMPONENT).repeat(1000)].concat();
    let types = format!("(component {})", "(type (func))".repeat(50_001));
    let bombs = [
        ("functions", from_text(&many)),
        ("one function", from_text(&enormous)),
        ("deep", deep),
        ("wide", wide),
        ("types", from_text(&types)),
    ];
    for (what, bomb) in bombs {
        let start = Instant::now();
        let error = refused(&bomb);
        assert!(matches!(error, LoadError::CompileLimit(_)), "{what}: {error:?}");
        assert!(start.elapsed() < SOON, "{what}: {:?}", start.elapsed());
    }
}

#[test]
fn types_that_grow_without_end_are_refused() {
    let mut list = "(type $t0 (list u8))".to_owned();
    let mut tuple = "(type $t0 (tuple u8 u8))".to_owned();
    for depth in 1..200 {
        list.push_str(&format!("(type $t{depth} (list $t{}))", depth - 1));
        tuple.push_str(&format!("(type $t{depth} (tuple $t{0} $t{0}))", depth - 1));
    }
    for types in [list, tuple] {
        let start = Instant::now();
        let error = refused(&from_text(&format!("(component {types})")));
        assert!(matches!(error, LoadError::Invalid(_)), "{error:?}");
        assert!(start.elapsed() < SOON, "{:?}", start.elapsed());
    }
}

fn with_memory(fields: &str) -> Vec<u8> {
    let text = format!(
        r#"(memory (export "memory") 1)
        (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (i32.const 0))
        (func (export "sluice:plugin/preprocess@0.1.0#process") (param i32 i32) (result i32) (i32.const 0))
        {fields}"#
    );
    guest::component("export sluice:plugin/preprocess@0.1.0;", &text)
}

#[test]
fn the_sum_of_all_memories_and_tables_is_what_counts() {
    let limits = VerifyLimits { memory_bytes: 16 << 20, ..VerifyLimits::default() };
    let check = |component: &[u8]| verify(component, &limits).map(|verified| verified.facts);
    for (what, component) in [
        ("4 GiB", with_memory("(memory 65536)")),
        ("three of 8 MiB", with_memory("(memory 128) (memory 128) (memory 128)")),
        ("a hundred instances", guest::add_memories(with_memory(""), 100, 10)),
        ("five instances", guest::add_memories(with_memory(""), 5, 100)),
        ("a table of ten million", with_memory("(table 10000000 funcref)")),
        ("many tables", with_memory(&"(table 1 funcref)".repeat(70))),
    ] {
        let error = check(&component).expect_err(what);
        assert!(matches!(error, LoadError::Limits(_)), "{what}: {error:?}");
    }
    let facts = check(&guest::add_memories(with_memory("(table 3 funcref)"), 5, 10)).unwrap();
    assert_eq!((facts.memories, facts.memory_bytes, facts.table_elements), (6, 51 << 16, 3));
}

#[test]
fn features_that_are_off_are_invalid_and_those_that_are_on_pass() {
    let off = [
        ("memory64", "(memory i64 1)"),
        ("threads", "(memory 1 1 shared)"),
        ("relaxed simd", "(func (param v128) (result v128) (i32x4.relaxed_trunc_f32x4_s (local.get 0)))"),
        ("exceptions", "(tag)"),
        ("garbage collection", "(type (struct (field i32)))"),
        (
            "wide arithmetic",
            "(func (param i64 i64 i64 i64) (result i64 i64) (i64.add128 (local.get 0) (local.get 1) (local.get 2) (local.get 3)))",
        ),
    ];
    for (what, fields) in off {
        let module = from_text(&format!("(module {fields})"));
        let component = [COMPONENT, &section(1, &module)].concat();
        assert!(matches!(refused(&component), LoadError::Invalid(_)), "{what}: {:?}", refused(&component));
    }
    let on = "(memory 1) (global i32 (i32.add (i32.const 1) (i32.const 2)))
        (func $simd (param v128) (result v128) (i32x4.add (local.get 0) (local.get 0)))
        (func $bulk (memory.fill (i32.const 0) (i32.const 0) (i32.const 9)))
        (func $tail (param v128) (result v128) (return_call $simd (local.get 0)))
        (func $pair (result i32 i64) (i32.const 1) (i64.const 2))
        (func $reference (result funcref) (ref.func $bulk)) (elem declare func $bulk)";
    verify(&with_memory(on), &VerifyLimits::default()).expect("all of these are on");
}

#[test]
fn the_facts_say_what_the_component_says_cut_and_escaped() {
    let component =
        with_custom_section(&echo(), "description", "says\nERROR \u{202e}odd\x1b[2J".as_bytes()).unwrap();
    let component = with_custom_section(&component, "version", "9".repeat(10_000).as_bytes()).unwrap();
    let component = with_custom_section(&component, "authors", b"\xff\xfe no text").unwrap();
    let component = with_custom_section(&component, SAMPLES_SECTION, b"[]").unwrap();
    assert_eq!(custom_section(&component, SAMPLES_SECTION).unwrap(), Some(&b"[]"[..]));
    let facts = verify(&component, &VerifyLimits::default()).unwrap().facts;
    assert_eq!((facts.world, facts.contract.as_str()), (World::Pipeline, "0.1.0"));
    assert_eq!(facts.exports, ["sluice:plugin/handler@0.1.0"]);
    assert_eq!(facts.metadata.description.as_deref(), Some("says\\nERROR \\u{202e}odd\\u{1b}[2J"));
    assert!(facts.metadata.version.as_ref().is_some_and(|version| version.len() < 600));
    assert_eq!(facts.metadata.authors, None);
    assert!(facts.metadata.processed_by.iter().any(|tool| tool.name == "wit-component"), "{facts:?}");
    assert!(facts.has_samples && facts.memory_bytes == 2 << 16, "{facts:?}");
    let twice = [&component[..], &section(0, &[&[14][..], b"sluice:samples"].concat())].concat();
    assert!(matches!(refused(&twice), LoadError::Invalid(_)));
}

#[tokio::test]
async fn code_from_the_verifier_runs_in_the_pool_and_is_kept() {
    let component = echo();
    let verified = verify(&component, &VerifyLimits::default()).unwrap();
    let directory = TempDir::new().unwrap();
    let sandbox =
        |cache_dir| Sandbox::new(SandboxConfig { cache_dir, compile_in_process: false, ..config() }).unwrap();
    for cache_dir in [None, Some(directory.path().to_owned())] {
        let has_cache = cache_dir.is_some();
        let sandbox = sandbox(cache_dir);
        assert_eq!(sandbox.load(&component, options()).expect_err("unknown"), LoadError::NotCompiled);
        assert!(!sandbox.is_compiled(&verified.facts.digest));
        let plugin = sandbox.load_verified(&component, &verified.code, options()).unwrap();
        assert_eq!(ask(&plugin, "fine").await.unwrap(), "fine");
        assert_eq!(*plugin.info().facts, verified.facts);
        assert_eq!(sandbox.is_compiled(&verified.facts.digest), has_cache);
    }
    let plugin = sandbox(Some(directory.path().to_owned())).load(&component, options()).unwrap();
    assert!(plugin.info().compiled_from_cache);
    assert_eq!(ask(&plugin, "fine").await.unwrap(), "fine");
}
