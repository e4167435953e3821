//! Bounds on how much of everything a component may have: what the validator and the
//! compiler take grows with these, some of it faster than the file.

use wasmparser::Payload;

use crate::error::LoadError;

/// Components within components. Composing tools nest by one or two; every level is a
/// level of the compiler's own bookkeeping.
pub(super) const DEPTH_MAX: usize = 8;

/// Modules and components within the component, over all levels. A Python component has
/// some 30 modules; a composition has as many components as parts.
const PARTS_MAX: u64 = 300;

/// Functions, over all modules. Python's interpreter has some 15,000 and a browser's
/// JavaScript engine some 30,000; each costs the compiler about a kilobyte beside its code.
const FUNCTIONS_MAX: u64 = 100_000;

/// Bytes of one function. The compiler works on one at a time, and its register
/// allocator's time and memory grow faster than the function. The largest known function
/// that is not made for harm, an interpreter's main loop, has some 200 KiB.
const FUNCTION_BYTES_MAX: usize = 1 << 20;

/// Types of every kind, over all levels. The whole of WASI 0.2 declares about a thousand.
const TYPES_MAX: u64 = 50_000;

/// Imports, exports, aliases, instances, canonical functions, globals and segments, over
/// all levels: whatever else is counted in a file.
const ITEMS_MAX: u64 = 500_000;

/// What was seen of a component so far.
#[derive(Default)]
pub(super) struct Counts {
    parts: u64,
    functions: u64,
    types: u64,
    items: u64,
}

impl Counts {
    /// Counts what a payload announces, before anybody reads it.
    pub(super) fn take(&mut self, payload: &Payload<'_>) -> Result<(), LoadError> {
        let count = |place: &mut u64, more: u32, most: u64, what: &str| {
            *place = place.saturating_add(u64::from(more));
            if *place > most { Err(too_many(what, most)) } else { Ok(()) }
        };
        match payload {
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => {
                count(&mut self.parts, 1, PARTS_MAX, "modules and components")
            }
            Payload::FunctionSection(s) => count(&mut self.functions, s.count(), FUNCTIONS_MAX, "functions"),
            Payload::CodeSectionEntry(body) if body.range().len() > FUNCTION_BYTES_MAX => {
                Err(LoadError::CompileLimit(format!(
                    "a function has {} bytes, at most {FUNCTION_BYTES_MAX}; split it, or have less of it inlined",
                    body.range().len()
                )))
            }
            Payload::TypeSection(s) => count(&mut self.types, s.count(), TYPES_MAX, "types"),
            Payload::CoreTypeSection(s) => count(&mut self.types, s.count(), TYPES_MAX, "types"),
            Payload::ComponentTypeSection(s) => count(&mut self.types, s.count(), TYPES_MAX, "types"),
            other => count(&mut self.items, items(other), ITEMS_MAX, "imports, exports and other items"),
        }
    }
}

/// What is counted in a section of another kind.
fn items(payload: &Payload<'_>) -> u32 {
    match payload {
        Payload::ImportSection(s) => s.count(),
        Payload::TableSection(s) => s.count(),
        Payload::MemorySection(s) => s.count(),
        Payload::TagSection(s) => s.count(),
        Payload::GlobalSection(s) => s.count(),
        Payload::ExportSection(s) => s.count(),
        Payload::ElementSection(s) => s.count(),
        Payload::DataSection(s) => s.count(),
        Payload::InstanceSection(s) => s.count(),
        Payload::ComponentInstanceSection(s) => s.count(),
        Payload::ComponentAliasSection(s) => s.count(),
        Payload::ComponentCanonicalSection(s) => s.count(),
        Payload::ComponentImportSection(s) => s.count(),
        Payload::ComponentExportSection(s) => s.count(),
        Payload::CustomSection(_) | Payload::UnknownSection { .. } => 1,
        _ => 0,
    }
}

fn too_many(what: &str, most: u64) -> LoadError {
    LoadError::CompileLimit(format!("it has more than {most} {what}"))
}
