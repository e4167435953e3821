//! Runs plugins: WebAssembly components, each call under a time, memory and
//! traffic limit. The only crate that names wasmtime.
//!
//! [`Sandbox`] owns the compiler, the pool of instances and the threads that
//! guests run on. [`Sandbox::load`] checks a component, compiles it (or takes
//! it from the cache), and tries it once; the [`Plugin`] that comes back
//! answers calls until it is dropped. A guest that traps, runs over a limit or
//! is cancelled costs only its own call: its instance is thrown away.

mod bindings;
mod budget;
mod cache;
mod call;
mod config;
mod engine;
mod error;
mod host;
mod limiter;
mod load;
mod memory_store;
mod plugin;
mod spawn;
mod state;
mod types;
mod world;

use std::sync::Arc;

pub use config::{PluginLimits, SandboxConfig, WasiPolicy};
pub use error::{CallError, InferenceError, KeyValueError, LoadError};
pub use host::logging::{LogLevel, LogSink};
pub use host::{Grants, Inference, KeyPage, KeyValue};
pub use memory_store::MemoryStore;
pub use plugin::{Plugin, PluginInfo, PluginOptions};
pub use spawn::GuestThreads;
pub use types::{
    Answer, CallContext, FAILURE_MESSAGE_BYTES_MAX, Failure, HttpAnswer, HttpBody, Prepared, Request,
};
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
    /// is not ours alone, [`LoadError::Limits`] when the pool does not fit the
    /// address space, [`LoadError::Compile`] for settings the engine refuses.
    pub fn new(config: SandboxConfig) -> Result<Self, LoadError> {
        Ok(Self { shared: Arc::new(engine::Shared::new(config)?) })
    }

    /// Where guests run, for work that calls several of them.
    pub fn threads(&self) -> GuestThreads {
        self.shared.threads.clone()
    }

    /// Checks, compiles and tries a component.
    ///
    /// Blocks for as long as compiling takes (up to seconds), so call it from a
    /// blocking thread. Compiling is not bounded in time or memory: give it
    /// components from the operator, never from strangers.
    ///
    /// # Errors
    /// See [`LoadError`]; nothing stays behind but perhaps a cache file.
    pub fn load(&self, component: &[u8], options: PluginOptions) -> Result<Plugin, LoadError> {
        load::load(&self.shared, component, options)
    }
}
