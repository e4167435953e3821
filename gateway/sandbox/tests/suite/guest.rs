//! Makes components out of a few lines of WebAssembly text.

use std::path::Path;

pub(crate) use wit_component::StringEncoding;
use wit_component::{ComponentEncoder, embed_component_metadata};
use wit_parser::Resolve;

/// Interfaces outside the contract that some guests ask for.
const EXIT: &str = r"
package wasi:cli@0.2.0;
interface exit { exit: func(status: result); }
";
const RANDOM: &str = r"
package wasi:random@0.2.0;
interface random { get-random-u64: func() -> u64; }
";
const POLL: &str = r"
package wasi:io@0.2.0;
interface poll { resource pollable { block: func(); } }
";
const SLEEP: &str = r"
package wasi:clocks@0.2.0;
interface monotonic-clock {
    use wasi:io/poll@0.2.0.{pollable};
    subscribe-duration: func(when: u64) -> pollable;
}
";
const EVIL: &str = r"
package evil:net@1.0.0;
interface sockets { connect: func(port: u32) -> u32; }
";

/// What a guest's world imports: those that the module does not use vanish.
const IMPORTS: &str = r"
    include sluice:plugin/platform@0.1.0;
    import sluice:plugin/inference@0.1.0;
    import wasi:cli/exit@0.2.0;
    import wasi:random/random@0.2.0;
    import wasi:clocks/monotonic-clock@0.2.0;
    import wasi:nn/tensor@0.2.0-rc-2024-10-28;
    import evil:net/sockets@1.0.0;
";

/// Memory, an allocator and answers, for every guest.
///
/// Memory: 16.. the content type, 256.. the answer's record, 1024.. free for
/// the guest, 65536.. the allocator's.
pub(crate) const PRELUDE: &str = r#"
    (memory (export "memory") 2)
    (global $next (mut i32) (i32.const 65536))
    (func $realloc (export "cabi_realloc") (param i32 i32 i32 i32) (result i32)
        (local $at i32)
        (local.set $at (i32.and (i32.add (global.get $next) (i32.const 7)) (i32.const -8)))
        (global.set $next (i32.add (local.get $at) (local.get 3)))
        (if (i32.gt_u (global.get $next) (i32.shl (memory.size) (i32.const 16)))
            (then (drop (memory.grow (i32.add (i32.shr_u (local.get 3) (i32.const 16)) (i32.const 1))))))
        (local.get $at))
    (data (i32.const 16) "text/plain")
    (func $answer (param $data i32) (param $len i32) (result i32)
        (i32.store8 (i32.const 256) (i32.const 0))
        (i32.store8 (i32.const 260) (i32.const 0))
        (i32.store16 (i32.const 264) (i32.const 200))
        (i32.store (i32.const 268) (i32.const 16))
        (i32.store (i32.const 272) (i32.const 10))
        (i32.store (i32.const 276) (local.get $data))
        (i32.store (i32.const 280) (local.get $len))
        (i32.const 256))
    (func $failure (param $status i32) (param $text i32) (param $len i32) (result i32)
        (i32.store8 (i32.const 256) (i32.const 1))
        (i32.store16 (i32.const 260) (local.get $status))
        (i32.store (i32.const 264) (local.get $text))
        (i32.store (i32.const 268) (local.get $len))
        (i32.const 256))
"#;

/// A pipeline plugin. `parts` are module fields (imports first); `body` is its
/// `handle`, whose parameters `$data` and `$len` are the request's body (for
/// tensors, `$list` and `$count` are the handles); it gives the answer's address.
pub(crate) fn pipeline(imports: &str, fields: &str, body: &str) -> Vec<u8> {
    pipeline_with(StringEncoding::UTF8, imports, fields, body)
}

/// The same, of a guest whose strings are in another encoding.
pub(crate) fn pipeline_with(encoding: StringEncoding, imports: &str, fields: &str, body: &str) -> Vec<u8> {
    let handle = format!(
        r#"(func $handle (export "sluice:plugin/handler@0.1.0#handle")
            (param $id i32) (param $id_len i32) (param i32 i32) (param $kind i32) (param $list i32)
            (param $count i32) (param i32) (param $data i32) (param $len i32) (result i32)
            {body})"#
    );
    let text = format!("{imports}{PRELUDE}{fields}{handle}");
    encoded(encoding, "export sluice:plugin/handler@0.1.0;", &text)
}

/// A pipeline plugin that exports `init` too; `init` is its body, whose
/// parameters are `$config` and `$len`, and which gives the result's address.
pub(crate) fn with_init(fields: &str, init: &str, body: &str) -> Vec<u8> {
    let text = format!(
        r#"{PRELUDE}{fields}
        (func (export "sluice:plugin/lifecycle@0.1.0#init") (param $config i32) (param $len i32) (result i32) {init})
        (func (export "sluice:plugin/handler@0.1.0#handle")
            (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32) (result i32) {body})"#
    );
    component("export sluice:plugin/handler@0.1.0; export sluice:plugin/lifecycle@0.1.0;", &text)
}

/// A preprocessor; `body` gives the address of the result list's pointer and length.
pub(crate) fn preprocessor(fields: &str, body: &str) -> Vec<u8> {
    let text = format!(
        r#"{PRELUDE}{fields}
        (func (export "sluice:plugin/preprocess@0.1.0#process") (param $items i32) (param $count i32) (result i32)
            {body})"#
    );
    component("export sluice:plugin/preprocess@0.1.0;", &text)
}

/// A component of the world with these exports, from the fields of a module.
pub(crate) fn component(exports: &str, fields: &str) -> Vec<u8> {
    encoded(StringEncoding::UTF8, exports, fields)
}

fn encoded(encoding: StringEncoding, exports: &str, fields: &str) -> Vec<u8> {
    let mut resolve = Resolve::default();
    // Two suites use this file, at different depths below the repository.
    for package in ["plugin-0.1.0", "wasi-nn"] {
        let folders = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors();
        let wit = folders.map(|folder| folder.join("wit").join(package)).find(|wit| wit.is_dir());
        resolve.push_path(wit.expect("the contract is in the repository")).unwrap();
    }
    for (number, text) in [EXIT, RANDOM, POLL, SLEEP, EVIL].into_iter().enumerate() {
        resolve.push_str(format!("{number}.wit"), text).unwrap();
    }
    let world = format!("package test:guest;\nworld guest {{ {IMPORTS} {exports} }}");
    let package = resolve.push_str("guest.wit", &world).unwrap();
    let world = resolve.select_world(&[package], Some("guest")).unwrap();
    let mut module = wat::parse_str(format!("(module {fields})")).unwrap();
    embed_component_metadata(&mut module, &resolve, world, encoding).unwrap();
    ComponentEncoder::default().validate(true).module(&module).unwrap().encode().unwrap()
}

/// The component with more core instances, each with a memory of its own.
pub(crate) fn add_memories(component: Vec<u8>, count: usize, pages: usize) -> Vec<u8> {
    add_instances(component, &format!("(module (memory {pages}))"), count)
}

/// The component with another module, and so many instances of it.
pub(crate) fn add_instances(mut component: Vec<u8>, module: &str, count: usize) -> Vec<u8> {
    const CORE_MODULE: u8 = 1;
    const CORE_INSTANCE: u8 = 2;
    let module = wat::parse_str(module).unwrap();
    let index = sections(&component).filter(|section| section.0 == CORE_MODULE).count();
    component.extend([CORE_MODULE, u8::try_from(module.len()).unwrap()]);
    component.extend(module);
    for _ in 0..count {
        // One instance, by instantiating that module without arguments.
        component.extend([CORE_INSTANCE, 4, 1, 0, u8::try_from(index).unwrap(), 0]);
    }
    component
}

/// The component with another module, and a component that makes so many instances of it
/// under a name of its own.
pub(crate) fn add_aliased_instances(mut component: Vec<u8>, module: &str, count: usize) -> Vec<u8> {
    const CORE_MODULE: u8 = 1;
    const CORE_INSTANCE: u8 = 2;
    const COMPONENT: u8 = 4;
    const INSTANCE: u8 = 5;
    const ALIAS: u8 = 6;
    let module = wat::parse_str(module).unwrap();
    let count_of = |kind: u8| u8::try_from(sections(&component).filter(|section| section.0 == kind).count());
    let (module_index, component_index) = (count_of(CORE_MODULE).unwrap(), count_of(COMPONENT).unwrap());
    let mut inner = b"\0asm\x0d\0\x01\0".to_vec();
    // A core module of the component outside.
    inner.extend([ALIAS, 6, 1, 0, 0x11, 2, 1, module_index]);
    for _ in 0..count {
        inner.extend([CORE_INSTANCE, 4, 1, 0, 0, 0]);
    }
    component.extend([CORE_MODULE, u8::try_from(module.len()).unwrap()]);
    component.extend(module);
    let size = inner.len();
    component.extend([
        COMPONENT,
        0x80 | u8::try_from(size & 0x7f).unwrap(),
        u8::try_from(size >> 7).unwrap(),
    ]);
    component.extend(inner);
    component.extend([INSTANCE, 4, 1, 0, component_index, 0]);
    component
}

/// Where the last section ends that is not for information only.
pub(crate) fn essential_end(component: &[u8]) -> usize {
    const CUSTOM: u8 = 0;
    sections(component).filter(|section| section.0 != CUSTOM).map(|section| section.1).max().unwrap()
}

/// The kinds of the sections of a component, and where each ends.
fn sections(component: &[u8]) -> impl Iterator<Item = (u8, usize)> {
    let mut at = 8;
    std::iter::from_fn(move || {
        let id = *component.get(at)?;
        let (mut size, mut shift) = (0, 0);
        loop {
            at += 1;
            size |= usize::from(component[at] & 0x7f) << shift;
            shift += 7;
            if component[at] & 0x80 == 0 {
                break;
            }
        }
        at += 1 + size;
        Some((id, at))
    })
}
