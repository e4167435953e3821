//! What can go wrong: loading a plugin, calling it, and the capabilities it uses.

use crate::types::Failure;

/// Why a component was not loaded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LoadError {
    /// Not a WebAssembly component: another kind of file, a core module, or a
    /// precompiled artefact, which is never accepted.
    #[error("not a component: {0}")]
    NotComponent(String),
    /// A component, but of none of the plugin worlds.
    #[error("not a plugin: {0}")]
    World(String),
    /// It imports something that does not exist or is not granted.
    #[error("import is not granted: {0}")]
    ForbiddenImport(String),
    /// It needs more than its limits allow before it has run.
    #[error("plugin exceeds its limits: {0}")]
    Limits(String),
    /// It could not be instantiated, or its `init` refused the configuration.
    #[error("plugin could not be started: {0}")]
    Init(String),
    /// It is malformed, or uses a WebAssembly feature that is off.
    #[error("component does not compile: {0}")]
    Compile(String),
    /// The cache, or the threads, could not be had.
    #[error("{0}")]
    Io(String),
}

/// Why a call to a plugin gave no result.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// The plugin refused the request, as is its right.
    #[error("plugin refused the request with status {}", .0.status)]
    Failure(Failure),
    /// The plugin crashed. The text is a WebAssembly backtrace, for the log only.
    #[error("plugin trapped: {0}")]
    Trap(String),
    /// The plugin recursed too deep.
    #[error("plugin exhausted its stack")]
    Stack,
    /// The plugin was refused memory, and failed.
    #[error("plugin exhausted its memory")]
    Memory,
    /// The plugin ran longer than its own budget.
    #[error("plugin exceeded its time budget")]
    Timeout,
    /// What the plugin returned or passed makes no sense or is too much.
    #[error("plugin produced invalid output: {0}")]
    Output(String),
    /// The deadline of the whole request passed.
    #[error("request deadline passed while the plugin was called")]
    Deadline,
    /// No instance became free in time.
    #[error("all instances of the plugin are busy")]
    Overloaded,
    /// The sandbox is shutting down.
    #[error("sandbox is closed")]
    Closed,
    /// A fresh instance could not be started, or its `init` failed.
    #[error("plugin could not be started: {0}")]
    Init(String),
    /// The sandbox is at fault.
    #[error("sandbox failed: {0}")]
    Internal(String),
}

/// What a store tells a plugin.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyValueError {
    /// The store cannot be written.
    #[error("store is read-only")]
    ReadOnly,
    /// Anything else; the plugin sees the text.
    #[error("{0}")]
    Other(String),
}

/// What a model call tells a pipeline plugin.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InferenceError {
    /// No such model, or not granted.
    #[error("no such model: {0}")]
    NotFound(String),
    /// The inputs do not fit the model.
    #[error("inputs do not fit the model: {0}")]
    InvalidInput(String),
    /// The model's queue is full.
    #[error("model is overloaded")]
    Overloaded,
    /// The request's deadline has passed.
    #[error("request deadline passed")]
    Deadline,
    /// The engine failed.
    #[error("engine failed: {0}")]
    Failed(String),
}

/// A host function's verdict on a guest, carried through wasmtime as an error.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum HostFault {
    /// Becomes [`CallError::Output`].
    #[error("{0}")]
    Output(String),
    /// Becomes [`CallError::Memory`].
    #[error("host memory held for the call exceeds the plugin's limit")]
    Memory,
}
