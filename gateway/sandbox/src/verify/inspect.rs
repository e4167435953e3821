//! One pass over a component: bounds, validation, and what it says about itself.

use wasmparser::{
    ComponentExternName, ComponentExternalKind, ComponentImportSectionReader, ComponentInstance,
    ComponentTypeRef, FuncValidatorAllocations, Instance, Parser, Payload, ValidPayload, Validator,
    WasmFeatures,
};

use super::counts::{Counts, DEPTH_MAX};
use super::demand::Demand;
use super::metadata::Collector;
use super::{Trust, invalid};
use crate::error::LoadError;
use crate::host::logging::clean;

/// Most imports and most exports of a component. A component that uses all of WASI and
/// of the contract imports some 60.
const NAMES_MAX: usize = 256;

/// Most bytes of the name of an import or export: interfaces have some 40.
const NAME_BYTES_MAX: usize = 256;

/// The features of WebAssembly that are on: those of the engine's settings.
///
/// Threads, garbage collection, exceptions and async are not built in; see
/// `engine::base_config` for those that are switched off.
pub(super) fn features() -> WasmFeatures {
    let mut features = WasmFeatures::WASM3 | WasmFeatures::COMPONENT_MODEL;
    features.remove(
        WasmFeatures::GC_TYPES
            | WasmFeatures::EXCEPTIONS
            | WasmFeatures::THREADS
            | WasmFeatures::CM_ASYNC
            | WasmFeatures::RELAXED_SIMD
            | WasmFeatures::MEMORY64,
    );
    features
}

/// What one pass finds.
pub(super) struct Inspected {
    pub(super) imports: Vec<String>,
    pub(super) exports: Vec<String>,
    pub(super) metadata: Collector,
    pub(super) demand: Demand,
}

/// Reads a component once, from its start to its end.
pub(super) fn inspect(component: &[u8], trust: Trust) -> Result<Inspected, LoadError> {
    let mut parser = Parser::new(0);
    parser.set_features(features());
    let mut checker = (trust == Trust::Nothing).then(Checker::new);
    let mut counts = Counts::default();
    let mut reader = Reader::default();
    for payload in parser.parse_all(component) {
        let payload = payload.map_err(|error| invalid(&error))?;
        counts.take(&payload)?;
        if let Some(checker) = &mut checker {
            checker.take(&payload).map_err(|error| invalid(&error))?;
        }
        reader.take(&payload)?;
    }
    Ok(Inspected {
        imports: reader.imports,
        exports: reader.exports,
        metadata: reader.metadata,
        demand: reader.whole,
    })
}

/// Validates payload by payload: each function is done with before the next is read.
struct Checker {
    validator: Validator,
    allocations: FuncValidatorAllocations,
}

impl Checker {
    fn new() -> Self {
        Self {
            validator: Validator::new_with_features(features()),
            allocations: FuncValidatorAllocations::default(),
        }
    }

    fn take(&mut self, payload: &Payload<'_>) -> wasmparser::Result<()> {
        if let ValidPayload::Func(function, body) = self.validator.payload(payload)? {
            let mut validator = function.into_validator(std::mem::take(&mut self.allocations));
            validator.validate(&body)?;
            self.allocations = validator.into_allocations();
        }
        Ok(())
    }
}

/// A part of a component that can be made: what it takes, if that is known here, and how
/// often it is made.
#[derive(Clone, Copy, Default)]
struct Part {
    demand: Demand,
    made: u64,
}

/// A component or module whose end was not yet read.
#[derive(Default)]
struct Open {
    is_module: bool,
    own: Demand,
    modules: Vec<Part>,
    components: Vec<Part>,
}

impl Open {
    /// What it takes in all. A part that nobody here makes may be made elsewhere: it
    /// counts once.
    fn demand(&self) -> Demand {
        let mut sum = self.own;
        for part in self.modules.iter().chain(&self.components) {
            sum.add(&part.demand, part.made.max(1));
        }
        sum
    }
}

#[derive(Default)]
struct Reader {
    open: Vec<Open>,
    imports: Vec<String>,
    exports: Vec<String>,
    metadata: Collector,
    whole: Demand,
}

impl Reader {
    fn take(&mut self, payload: &Payload<'_>) -> Result<(), LoadError> {
        match payload {
            Payload::Version { encoding, .. } => {
                return self.start(*encoding == wasmparser::Encoding::Module);
            }
            Payload::End(_) => self.end(),
            Payload::CustomSection(section) if self.open.len() == 1 => self.metadata.take(section),
            Payload::CustomSection(section) => self.metadata.take_producers(section),
            Payload::ComponentImportSection(imports) => return self.imports(imports),
            _ => {
                let is_root = self.open.len() == 1;
                let Some(open) = self.open.last_mut() else { return Ok(()) };
                return open.take(payload, is_root.then_some(&mut self.exports));
            }
        }
        Ok(())
    }

    fn start(&mut self, is_module: bool) -> Result<(), LoadError> {
        if self.open.len() > DEPTH_MAX {
            return Err(LoadError::CompileLimit(format!("it nests components more than {DEPTH_MAX} deep")));
        }
        let own = if is_module { Demand::of_module() } else { Demand::default() };
        self.open.push(Open { is_module, own, ..Open::default() });
        Ok(())
    }

    fn end(&mut self) {
        let Some(closed) = self.open.pop() else { return };
        let part = Part { demand: closed.demand(), made: 0 };
        match self.open.last_mut() {
            Some(parent) if closed.is_module => parent.modules.push(part),
            Some(parent) => parent.components.push(part),
            None => self.whole = part.demand,
        }
    }

    fn imports(&mut self, imports: &ComponentImportSectionReader<'_>) -> Result<(), LoadError> {
        let is_root = self.open.len() == 1;
        let Some(open) = self.open.last_mut() else { return Ok(()) };
        for import in imports.clone() {
            let import = import.map_err(|error| invalid(&error))?;
            // What is made of an import is counted where it comes from.
            match import.ty {
                ComponentTypeRef::Module(_) => open.modules.push(Part::default()),
                ComponentTypeRef::Component(_) => open.components.push(Part::default()),
                _ => {}
            }
            if is_root {
                push_name(&mut self.imports, &import.name, "imports")?;
            }
        }
        Ok(())
    }
}

impl Open {
    /// Takes a section with parts in it; `names` are the exports of the outermost
    /// component, if this is it.
    fn take(&mut self, payload: &Payload<'_>, names: Option<&mut Vec<String>>) -> Result<(), LoadError> {
        self.read(payload).map_err(|error| invalid(&error))?;
        if let (Payload::ComponentExportSection(exports), Some(names)) = (payload, names) {
            for export in exports.clone() {
                push_name(names, &export.map_err(|error| invalid(&error))?.name, "exports")?;
            }
        }
        Ok(())
    }

    fn read(&mut self, payload: &Payload<'_>) -> wasmparser::Result<()> {
        match payload {
            Payload::MemorySection(memories) => {
                for memory in memories.clone() {
                    self.own.add_memory(&memory?);
                }
            }
            Payload::TableSection(tables) => {
                for table in tables.clone() {
                    self.own.add_table(&table?.ty);
                }
            }
            Payload::InstanceSection(instances) => {
                for instance in instances.clone() {
                    if let Instance::Instantiate { module_index, .. } = instance? {
                        make(&mut self.modules, module_index);
                    }
                }
            }
            Payload::ComponentInstanceSection(instances) => {
                for instance in instances.clone() {
                    if let ComponentInstance::Instantiate { component_index, .. } = instance? {
                        make(&mut self.components, component_index);
                    }
                }
            }
            Payload::ComponentAliasSection(aliases) => {
                for alias in aliases.clone() {
                    self.add_alias(&alias?);
                }
            }
            Payload::ComponentExportSection(exports) => {
                for export in exports.clone() {
                    self.add_known(export?.kind);
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn add_alias(&mut self, alias: &wasmparser::ComponentAlias<'_>) {
        use wasmparser::{ComponentAlias, ComponentOuterAliasKind};
        match alias {
            ComponentAlias::InstanceExport { kind, .. } => self.add_known(*kind),
            ComponentAlias::Outer { kind: ComponentOuterAliasKind::CoreModule, .. } => {
                self.modules.push(Part::default());
            }
            ComponentAlias::Outer { kind: ComponentOuterAliasKind::Component, .. } => {
                self.components.push(Part::default());
            }
            _ => {}
        }
    }

    /// Another name for a part. What is made through it is counted once, where the part
    /// is, and in full when an instance is tried.
    fn add_known(&mut self, kind: ComponentExternalKind) {
        match kind {
            ComponentExternalKind::Module => self.modules.push(Part::default()),
            ComponentExternalKind::Component => self.components.push(Part::default()),
            _ => {}
        }
    }
}

fn make(parts: &mut [Part], index: u32) {
    let part = usize::try_from(index).ok().and_then(|index| parts.get_mut(index));
    if let Some(part) = part {
        part.made = part.made.saturating_add(1);
    }
}

fn push_name(names: &mut Vec<String>, name: &ComponentExternName<'_>, what: &str) -> Result<(), LoadError> {
    if names.len() >= NAMES_MAX {
        return Err(LoadError::Limits(format!("it has more than {NAMES_MAX} {what}")));
    }
    if name.name.len() > NAME_BYTES_MAX {
        return Err(LoadError::Limits(format!(
            "one of its {what} has a name of more than {NAME_BYTES_MAX} bytes"
        )));
    }
    names.push(clean(name.name, NAME_BYTES_MAX));
    Ok(())
}
