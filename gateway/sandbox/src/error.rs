//! What can go wrong: loading a plugin, calling it, and the capabilities it uses.

use serde::{Deserialize, Serialize};

use crate::types::Failure;

/// Why a component was not loaded. The texts are for its author: they hold nothing
/// of the host, and what they quote of the component was cut and escaped.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[serde(tag = "kind", content = "what", rename_all = "snake_case")]
pub enum LoadError {
    /// Another kind of file, or one that was cut.
    #[error("not WebAssembly: {0}")]
    NotWasm(String),
    /// WebAssembly, but no component: a core module, or a precompiled artefact,
    /// which is never accepted.
    #[error("not a component: {0}")]
    NotComponent(String),
    /// A component, but of none of the plugin worlds.
    #[error("not a plugin: {0}")]
    World(String),
    /// It imports something that does not exist or is not granted.
    #[error("the component imports {name}, {why}")]
    ForbiddenImport {
        /// The interface.
        name: String,
        /// Why not, and what to change.
        why: String,
    },
    /// It needs more than its limits allow before it has run.
    #[error("plugin exceeds its limits: {0}")]
    Limits(String),
    /// Checking or compiling it takes too much, or the compiler gave up on it.
    #[error("component takes too much to compile: {0}")]
    CompileLimit(String),
    /// It is malformed, or uses a WebAssembly feature that is off.
    #[error("component is not valid: {0}")]
    Invalid(String),
    /// It could not be instantiated, or its `init` refused the configuration.
    #[error("plugin could not be started: {0}")]
    Init(String),
    /// There is no code for it in the cache, and it may not be compiled here.
    #[error("component was not verified and compiled before")]
    NotCompiled,
    /// The cache, the threads or the engine could not be had.
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

/// Why there is no profile of a plugin.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProfileError {
    /// Another of this plugin is being taken, or as many of others as may be.
    #[error("another profile is being taken; try again later")]
    Busy,
    /// It was asked for more time than a profile may take.
    #[error("a profile takes {seconds_max} seconds at most")]
    TooLong {
        /// How long it may take.
        seconds_max: u64,
    },
    /// What was seen is more than a profile may hold.
    #[error("the profile is too large; take a shorter one")]
    TooLarge,
    /// It could not be made.
    #[error("the profile could not be made: {0}")]
    Failed(String),
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
