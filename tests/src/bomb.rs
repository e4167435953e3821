//! Components that are made to hurt the compiler. The benchmark uses this file too.

/// Kinds of sections of a component.
const CORE_MODULE: u8 = 1;
const CORE_INSTANCE: u8 = 2;
const NESTED: u8 = 4;

const COMPONENT: &[u8] = b"\0asm\x0d\0\x01\0";
const MODULE: &[u8] = b"\0asm\x01\0\0\0";

/// local.get 0; local.get 0; i64.mul; local.get 0; i64.add; local.set 0
const STEP: [u8; 10] = [0x20, 0, 0x20, 0, 0x7e, 0x20, 0, 0x7c, 0x21, 0];

/// The component, with a module beside its own whose functions are each within every
/// bound and together take long to compile.
pub fn slow_to_compile(component: &[u8]) -> Vec<u8> {
    with_module(component, &module(150, &STEP.repeat(9000)))
}

/// The component, with one function that is just within its bound: a million edges between
/// its blocks, which take the compiler more than a gigabyte.
pub fn hungry_to_compile(component: &[u8]) -> Vec<u8> {
    const DEPTH: usize = 120;
    let targets: Vec<u8> = (0..10_000).map(|index| u8::try_from(index % DEPTH).expect("small")).collect();
    // block; local.get 0; i32.wrap_i64; br_table; end
    let table =
        [&[0x02, 0x40, 0x20, 0, 0xa7, 0x0e][..], &number(targets.len()), &targets, &[0, 0x0b]].concat();
    let body = [[0x02, 0x40].repeat(DEPTH), table.repeat(100), vec![0x0b; DEPTH]].concat();
    with_module(component, &module(1, &body))
}

fn with_module(component: &[u8], module: &[u8]) -> Vec<u8> {
    let index = count(component, CORE_MODULE);
    let instance = [&[1, 0][..], &number(index), &[0]].concat();
    [component, &section(CORE_MODULE, module), &section(CORE_INSTANCE, &instance)].concat()
}

/// A component with more functions than any has.
pub fn too_many_functions() -> Vec<u8> {
    [COMPONENT, &section(CORE_MODULE, &module(100_001, &[]))].concat()
}

/// A million functions, in as few bytes as they take.
pub fn million_functions() -> Vec<u8> {
    [COMPONENT, &section(CORE_MODULE, &module(1_000_000, &[]))].concat()
}

/// One function of five megabytes.
pub fn enormous_function() -> Vec<u8> {
    [COMPONENT, &section(CORE_MODULE, &module(1, &STEP.repeat(500_000)))].concat()
}

/// One jump with three million targets.
pub fn huge_jump_table() -> Vec<u8> {
    let targets = 3_000_000;
    // block; local.get 0; i32.wrap_i64; br_table; end
    let body =
        [&[0x02, 0x40, 0x20, 0, 0xa7, 0x0e][..], &number(targets), &vec![0; targets], &[0, 0x0b]].concat();
    [COMPONENT, &section(CORE_MODULE, &module(1, &body))].concat()
}

/// A thousand components, each within the one before.
pub fn deep_components() -> Vec<u8> {
    (0..1000).fold(COMPONENT.to_vec(), |inner, _| [COMPONENT, &section(NESTED, &inner)].concat())
}

/// A thousand components side by side.
pub fn many_components() -> Vec<u8> {
    [COMPONENT, &section(NESTED, COMPONENT).repeat(1000)].concat()
}

/// A module of functions from a number to a number, all with this body.
fn module(functions: usize, body: &[u8]) -> Vec<u8> {
    // No locals; the body; local.get 0; end.
    let body = [&[0][..], body, &[0x20, 0, 0x0b]].concat();
    let body = [number(body.len()), body].concat();
    let code = [number(functions), body.repeat(functions)].concat();
    [
        MODULE,
        &section(1, &[1, 0x60, 1, 0x7e, 1, 0x7e]),
        &section(3, &[number(functions), vec![0; functions]].concat()),
        &section(10, &code),
    ]
    .concat()
}

fn section(kind: u8, content: &[u8]) -> Vec<u8> {
    [&[kind][..], &number(content.len()), content].concat()
}

/// A number as WebAssembly writes it.
fn number(mut value: usize) -> Vec<u8> {
    let mut out = Vec::new();
    loop {
        let low = u8::try_from(value & 0x7f).expect("seven bits");
        value >>= 7;
        if value == 0 {
            out.push(low);
            return out;
        }
        out.push(low | 0x80);
    }
}

/// How many sections of a kind a component has.
fn count(component: &[u8], kind: u8) -> usize {
    let (mut at, mut found) = (COMPONENT.len(), 0);
    while let Some(&here) = component.get(at) {
        found += usize::from(here == kind);
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
    }
    found
}
