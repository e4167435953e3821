//! What an engine can fail with.

/// A model that cannot be loaded or a batch that cannot be run.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    /// The engine is not on this machine.
    #[error("engine is not available: {0}")]
    Unavailable(String),
    /// The file cannot be read.
    #[error("cannot read the model: {0}")]
    Io(String),
    /// The file is no model, or is damaged.
    #[error("model is corrupt: {0}")]
    Corrupt(String),
    /// The model, or an input, needs what this engine lacks.
    #[error("not supported by this engine: {0}")]
    Unsupported(String),
    /// An input cannot be run: its values are outside of what this engine takes.
    #[error("input is outside of what this engine takes: {0}")]
    Input(String),
    /// The engine's memory is exhausted.
    #[error("engine is out of memory: {0}")]
    OutOfMemory(String),
    /// The run failed.
    #[error("run failed: {0}")]
    Run(String),
    /// The run was interrupted on request.
    #[error("run was interrupted")]
    Interrupted,
}
