//! The guests of `tests/guests/text`: one file of WebAssembly text for each behaviour.
//!
//! A file has parts, each under a line `;;; NAME`: `imports` and `fields` of the module,
//! `locals` and the body of the hook that misbehaves: `handle` (a pipeline plugin),
//! `process` (a preprocessor) or `init`. `encoding` is that of its strings. A file with
//! `component` is the text of a whole component, one with `asks` the name of an interface
//! that an otherwise good plugin imports. What is above the first part is for people.
//!
//! A `handle` answers a body that starts with `f`, as in `fine`, with that body: a plugin
//! that does all else wrong shows so that it still can do right.

use std::collections::BTreeMap;

use wit_component::StringEncoding;

use crate::{guest, repository};

/// A plugin in its smallest form, with one import.
const ASKING: &str = r#"(component
    (import "{asks}" (instance))
    (core module $module (func (export "f")))
    (core instance $made (instantiate $module))
    (func $handle (canon lift (core func $made "f")))
    (instance $handler (export "handle" (func $handle)))
    (export "sluice:plugin/handler@0.1.0" (instance $handler)))"#;

const FINE: &str = r"
    (if (i32.eq (i32.load8_u (local.get $data)) (i32.const 102))
        (then (return (call $answer (local.get $data) (local.get $len)))))";

/// `text/plain`, for answers of guests with such strings.
const CONTENT_TYPE_UTF16: &str = r#"
    (data (i32.const 16) "t\00e\00x\00t\00/\00p\00l\00a\00i\00n\00")"#;

/// Asks for the model with one tensor by value: what of it is wrong is up to the caller.
/// `$runs` does so with as many inputs as it is told, all alike; 1032 holds the name of
/// the model's input, 400 its shape.
const RUN: &str = r#"
    (data (i32.const 1032) "x")
    (data (i32.const 400) "\01\00\00\00\04\00\00\00")
    (func $run (param $name i32) (param $dtype i32) (param $rank i32) (param $bytes i32) (result i32)
        (call $runs (local.get $name) (local.get $dtype) (local.get $rank) (local.get $bytes) (i32.const 1)))
    (func $runs (param $name i32) (param $dtype i32) (param $rank i32) (param $bytes i32) (param $count i32)
        (result i32)
        (local $at i32) (local $left i32)
        (local.set $at (i32.const 512))
        (local.set $left (local.get $count))
        (block $done
            (loop $next
                (br_if $done (i32.eqz (local.get $left)))
                (i32.store (local.get $at) (local.get $name))
                (i32.store offset=4 (local.get $at) (i32.const 1))
                (i32.store8 offset=8 (local.get $at) (i32.const 0))
                (i32.store8 offset=12 (local.get $at) (local.get $dtype))
                (i32.store offset=16 (local.get $at) (i32.const 400))
                (i32.store offset=20 (local.get $at) (local.get $rank))
                (i32.store offset=24 (local.get $at) (i32.const 4096))
                (i32.store offset=28 (local.get $at) (local.get $bytes))
                (local.set $at (i32.add (local.get $at) (i32.const 56)))
                (local.set $left (i32.sub (local.get $left) (i32.const 1)))
                (br $next)))
        (i32.store8 (i32.const 256) (i32.const 0)) (i32.store8 (i32.const 260) (i32.const 0))
        (i32.store (i32.const 264) (i32.const 512)) (i32.store (i32.const 268) (local.get $count))
        (i32.store (i32.const 272) (i32.const 0)) (i32.store (i32.const 276) (i32.const 0))
        (i32.store (i32.const 320) (i32.const 256)) (i32.store (i32.const 324) (i32.const 1))
        (i32.const 320))"#;

/// The component of `tests/guests/text/NAME.wat`.
pub fn guest(name: &str) -> Vec<u8> {
    let path = repository().join("tests/guests/text").join(name).with_extension("wat");
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let parts = parts(&text);
    let part = |part: &str| parts.get(part).map_or("", |text| text.as_str());
    if let Some(whole) = parts.get("component") {
        return assemble(name, whole);
    }
    if let Some(asks) = parts.get("asks") {
        return assemble(name, &ASKING.replace("{asks}", asks.trim()));
    }
    let (imports, fields, locals) = (part("imports"), part("fields"), part("locals"));
    if let Some(process) = parts.get("process") {
        return guest::preprocessor(&format!("{RUN}{fields}"), &format!("{locals}{process}"));
    }
    if let Some(init) = parts.get("init") {
        return guest::with_init(fields, &format!("{locals}{init}"), "(unreachable)");
    }
    let handle = parts.get("handle").unwrap_or_else(|| panic!("{name}.wat has no part that does anything"));
    let body = format!("{locals}{FINE}{handle}");
    match part("encoding").trim() {
        "" => guest::pipeline(imports, fields, &body),
        "utf16" => {
            let fields = format!("{CONTENT_TYPE_UTF16}{fields}");
            guest::pipeline_with(StringEncoding::UTF16, imports, &fields, &body)
        }
        "latin1+utf16" => guest::pipeline_with(StringEncoding::CompactUTF16, imports, fields, &body),
        other => panic!("{name}.wat: no encoding is called {other:?}"),
    }
}

/// Types of two of the type before, two hundred deep: written out, they would have more
/// parts than there are atoms.
pub fn deep_types() -> Vec<u8> {
    let mut types = "(type $t0 (tuple u8 u8))".to_owned();
    for depth in 1..200 {
        types.push_str(&format!("(type $t{depth} (tuple $t{0} $t{0}))", depth - 1));
    }
    assemble("deep types", &format!("(component {types})"))
}

/// The names of all guests in `tests/guests/text`.
pub fn names() -> Vec<String> {
    let folder = repository().join("tests/guests/text");
    let entries = std::fs::read_dir(folder).expect("the folder is there");
    let files = entries.map(|entry| entry.expect("readable").path());
    files
        .filter(|file| file.extension().is_some_and(|extension| extension == "wat"))
        .map(|file| file.file_stem().and_then(|stem| stem.to_str()).expect("a name").to_owned())
        .collect()
}

fn parts(text: &str) -> BTreeMap<&str, String> {
    let mut parts: BTreeMap<&str, String> = BTreeMap::new();
    let mut current = None;
    for line in text.lines() {
        match line.strip_prefix(";;; ") {
            Some(name) => current = Some(parts.entry(name.trim()).or_default()),
            None => {
                if let Some(part) = &mut current {
                    part.push_str(line);
                    part.push('\n');
                }
            }
        }
    }
    parts
}

fn assemble(name: &str, text: &str) -> Vec<u8> {
    wat::parse_str(text).unwrap_or_else(|error| panic!("{name}.wat: {error}"))
}
