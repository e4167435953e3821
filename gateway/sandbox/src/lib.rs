//! Runs plugins: WebAssembly components, each call under a time, memory and
//! traffic limit. The only crate that names wasmtime.
//!
//! [`Sandbox`] owns the compiler, the pool of instances and the threads that
//! guests run on. [`Sandbox::load`] checks a component, compiles it (or takes
//! it from the cache), and tries it once; the [`Plugin`] that comes back
//! answers calls until it is dropped. A guest that traps, runs over a limit or
//! is cancelled costs only its own call: its instance is thrown away.

mod account;
mod bindings;
mod bookmarks;
mod budget;
mod cache;
mod call;
mod config;
mod contract;
mod engine;
mod error;
mod held;
mod host;
mod limiter;
mod load;
mod memory_store;
mod parts;
mod places;
mod plugin;
pub mod priority;
mod profile;
mod spawn;
mod stacks;
mod state;
mod types;
pub mod verify;
mod world;

use std::sync::Arc;

pub use account::PluginUsage;
pub use bookmarks::Bookmarks;
pub use config::{PluginLimits, SandboxConfig, WasiPolicy};
pub use error::{CallError, InferenceError, KeyValueError, LoadError, ProfileError};
pub use host::keyvalue::KEYS_MAX;
pub use host::logging::{LogLevel, LogSink};
pub use host::spans::{SpanSink, SpanValue};
pub use host::{
    Grants, ImportVerdict, Inference, KeyPage, KeyValue, Outgoing, OutgoingError, OutgoingLimits,
    check_imports,
};
pub use memory_store::MemoryStore;
pub use parts::{Gone, Part, PartReceiver, PartSender, parts};
pub use plugin::{Plugin, PluginInfo, PluginOptions};
pub use spawn::GuestThreads;
pub use stacks::{STACK_BYTES, STACK_BYTES_DEFAULT};
pub use types::{
    Answer, CallContext, FAILURE_MESSAGE_BYTES_MAX, Failure, HttpAnswer, HttpBody, Parameter, ParameterValue,
    Prepared, RETRY_AFTER_SECONDS_MAX, Request, RouteCall,
};
pub use verify::{ComponentFacts, Verified, VerifyLimits};
pub use world::World;

/// Everything that plugins share: the engine, its pool of instances, the
/// threads that guests run on, and the cache of compiled code.
///
/// Dropping it keeps loaded plugins alive; the last of them ends the threads.
pub struct Sandbox {
    shared: Arc<engine::Shared>,
}

impl Sandbox {
    /// Starts the guest threads and the epoch ticker.
    ///
    /// # Errors
    /// [`LoadError::Io`] when threads cannot be started or the cache directory
    /// is not ours alone or the engine refuses its settings, [`LoadError::Limits`]
    /// when the pool does not fit the address space.
    pub fn new(config: SandboxConfig) -> Result<Self, LoadError> {
        Ok(Self { shared: Arc::new(engine::Shared::new(config)?) })
    }

    /// The threads that slow guests run on, for work that nobody waits for.
    pub fn threads(&self) -> GuestThreads {
        self.shared.threads.clone()
    }

    /// Loads a component whose code the cache holds, and tries it. One that it does not
    /// hold is compiled here if [`SandboxConfig::compile_in_process`] says so.
    ///
    /// Blocks for as long as that takes (up to seconds), so call it from a blocking
    /// thread. Compiling here is not bounded in time or memory: it is for components
    /// from the operator, never from strangers.
    ///
    /// # Errors
    /// See [`LoadError`]; nothing stays behind but perhaps a cache file.
    pub fn load(&self, component: &[u8], options: PluginOptions) -> Result<Plugin, LoadError> {
        load::load(&self.shared, component, options)
    }

    /// Loads a component with the code that [`verify::verify`] made of it, tries it, and
    /// keeps the code in the cache.
    ///
    /// `code` is machine code that this process will run: it must be the answer of a
    /// process that the caller started from this very program, and of nobody else.
    /// Blocks as [`Sandbox::load`] does, but for no longer than the trial may take.
    ///
    /// # Errors
    /// See [`LoadError`]; nothing stays behind but perhaps a cache file.
    pub fn load_verified(
        &self,
        component: &[u8],
        code: &[u8],
        options: PluginOptions,
    ) -> Result<Plugin, LoadError> {
        load::load_verified(&self.shared, component, code, options)
    }

    /// Whether the cache has code for the component with this SHA-256, in hexadecimal.
    /// The file may yet turn out to be damaged: then [`Sandbox::load`] gives
    /// [`LoadError::NotCompiled`].
    pub fn is_compiled(&self, digest: &str) -> bool {
        match (&self.shared.cache, cache::unhex(digest)) {
            (Some(cache), Some(digest)) => cache.has(&digest),
            _ => false,
        }
    }
}
