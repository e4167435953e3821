//! What is done to a component before anything of it runs: it is checked, described
//! and compiled. [`verify`] is the work of a process of its own, which its caller
//! bounds; see [`VerifyLimits`].

mod counts;
mod demand;
mod facts;
mod inspect;
mod metadata;
mod sections;

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use wasmtime::Engine;

pub use facts::{ComponentFacts, Metadata, Producer};
pub use sections::{SAMPLES_SECTION, custom_section, with_custom_section};

use crate::cache::{Sha, hex, sha256};
use crate::contract;
use crate::error::LoadError;
use crate::host;
use crate::host::logging::clean;
use crate::world::World;

/// Most bytes of what the compiler says about a component.
const MESSAGE_BYTES_MAX: usize = 1024;

/// The bounds of a verification. The first three are kept by [`verify`] itself; the
/// others are for whoever runs it in a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VerifyLimits {
    /// Most bytes of a component. 16 MiB holds what compilers make of Rust, C and Go
    /// many times over; language runtimes need more, and are the operator's choice.
    pub component_bytes: usize,
    /// Most bytes of all memories and tables that a component starts with, together:
    /// the largest `memory_bytes` that a plugin may be given.
    pub memory_bytes: usize,
    /// Most bytes of compiled code: native code is some five times as large as the
    /// component, and this leaves room for twice that.
    pub code_bytes: usize,
    /// Processor time. A large component takes a few seconds in a release build;
    /// only one made to be slow takes a minute.
    pub cpu_seconds: u64,
    /// Address space of the process. The compiler needs some 50 times the size of one
    /// function at a time and the whole code once.
    pub address_space_bytes: u64,
    /// From start to answer, waiting for a processor included.
    pub wall_clock: Duration,
}

impl Default for VerifyLimits {
    fn default() -> Self {
        Self {
            component_bytes: 16 << 20,
            memory_bytes: 512 << 20,
            code_bytes: 256 << 20,
            cpu_seconds: 60,
            address_space_bytes: 2 << 30,
            wall_clock: Duration::from_secs(180),
        }
    }
}

/// A component that passed, and its native code.
#[derive(Clone)]
pub struct Verified {
    /// What is known of it.
    pub facts: ComponentFacts,
    /// For [`crate::Sandbox::load_verified`] of the same program on the same machine.
    pub code: Vec<u8>,
}

impl fmt::Debug for Verified {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let code_bytes = self.code.len();
        f.debug_struct("Verified").field("facts", &self.facts).field("code_bytes", &code_bytes).finish()
    }
}

/// Checks, describes and compiles a component, in this order: size, kind, structure
/// and features, world, imports, memory and tables, code.
///
/// Runs on this thread only. How long it takes and how much memory is up to the
/// component: run it where both are bounded.
///
/// # Errors
/// Every refusal but those that depend on a plugin's configuration (its grants, its own
/// limits, its `init`): see [`LoadError`].
pub fn verify(component: &[u8], limits: &VerifyLimits) -> Result<Verified, LoadError> {
    check_kind(component, limits.component_bytes)?;
    let facts = examine(component, &sha256(component), Trust::Nothing)?;
    host::require_offered(&facts.imports)?;
    facts.require_memory(limits.memory_bytes)?;
    let code = compile(component)?;
    if code.len() > limits.code_bytes {
        return Err(LoadError::CompileLimit(format!(
            "its code is {} bytes, at most {}",
            code.len(),
            limits.code_bytes
        )));
    }
    Ok(Verified { facts, code })
}

/// Checks and describes a component, as [`verify`] does before it compiles: nothing is
/// said about what a gateway offers.
///
/// # Errors
/// See [`LoadError`].
pub fn describe(component: &[u8], bytes_max: usize) -> Result<ComponentFacts, LoadError> {
    check_kind(component, bytes_max)?;
    examine(component, &sha256(component), Trust::Nothing)
}

/// How far a component was checked before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trust {
    Nothing,
    /// It was validated: its digest says so.
    Valid,
}

/// Describes a component of the right kind and this digest, and checks it unless that was
/// done.
pub(crate) fn examine(component: &[u8], digest: &Sha, trust: Trust) -> Result<ComponentFacts, LoadError> {
    let found = inspect::inspect(component, trust)?;
    let spoken = contract::spoken(&found.imports, &found.exports)?;
    let world = World::from_exports(&found.exports, &spoken.exact)?;
    found.demand.check()?;
    Ok(ComponentFacts {
        digest: hex(digest),
        size_bytes: component.len(),
        world,
        contract: spoken.exact,
        imports: found.imports,
        exports: found.exports,
        metadata: found.metadata.finish(),
        memories: found.demand.memories,
        memory_bytes: found.demand.memory_bytes,
        tables: found.demand.tables,
        table_elements: found.demand.table_elements,
        has_samples: custom_section(component, SAMPLES_SECTION)?.is_some(),
    })
}

/// What a WebAssembly file starts with, and what follows for either kind.
const WASM_MAGIC: &[u8; 4] = b"\0asm";
const MODULE_VERSION: [u8; 4] = [1, 0, 0, 0];
const COMPONENT_VERSION: [u8; 4] = [13, 0, 1, 0];

/// Tells the kinds of file apart before the parser does, with better words.
pub(crate) fn check_kind(bytes: &[u8], bytes_max: usize) -> Result<(), LoadError> {
    if bytes.len() > bytes_max {
        return Err(LoadError::Limits(format!("it is {} bytes, at most {bytes_max}", bytes.len())));
    }
    if Engine::detect_precompiled(bytes).is_some() {
        let message = "precompiled code is never accepted; upload the component that it was made from";
        return Err(LoadError::NotComponent(message.to_owned()));
    }
    let Some(version) = bytes.strip_prefix(WASM_MAGIC) else {
        let message = if bytes.is_empty() { "it is empty" } else { "it does not start as WebAssembly does" };
        return Err(LoadError::NotWasm(message.to_owned()));
    };
    match version.first_chunk::<4>() {
        None => Err(LoadError::NotWasm("it ends within its header".to_owned())),
        Some(&MODULE_VERSION) => {
            let message = "a core module; make it a component with `wasm-tools component new`, or build for a \
                           target that gives one, as wasm32-wasip2 does";
            Err(LoadError::NotComponent(message.to_owned()))
        }
        Some(&COMPONENT_VERSION) => sections::check_whole(bytes),
        Some(_) => Err(LoadError::NotComponent("an unknown version of WebAssembly".to_owned())),
    }
}

/// Native code for the engines of this program on this machine.
fn compile(component: &[u8]) -> Result<Vec<u8>, LoadError> {
    let engine = Engine::new(&crate::engine::compiler_config())
        .map_err(|error| LoadError::Io(format!("compiler settings are refused: {error:#}")))?;
    // A component that the validator lets pass and that makes the compiler panic is a
    // bug of the compiler, and known to happen.
    match catch_unwind(AssertUnwindSafe(|| engine.precompile_component(component))) {
        Ok(Ok(code)) => Ok(code),
        Ok(Err(error)) => Err(refused_by_compiler(&error)),
        Err(_) => Err(LoadError::CompileLimit("the compiler failed on it".to_owned())),
    }
}

/// What the engine says about a component that the validator let pass: it does not fit.
pub(crate) fn refused_by_compiler(error: &wasmtime::Error) -> LoadError {
    let message = clean(&format!("{error:#}"), MESSAGE_BYTES_MAX);
    // wasmtime has no type for what does not fit the pool.
    if message.contains("exceeds the") {
        LoadError::Limits(message)
    } else {
        LoadError::CompileLimit(message)
    }
}

/// What the parser or the validator says about a component.
fn invalid(error: &wasmparser::Error) -> LoadError {
    LoadError::Invalid(clean(&error.to_string(), MESSAGE_BYTES_MAX))
}
