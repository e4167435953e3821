//! Which engine the gateway runs its models on.

use std::sync::Arc;

use crate::{Embedded, Engine, EngineError, EngineSearch, OnnxRuntime, Sim};

/// What the configuration asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum EngineChoice {
    /// ONNX Runtime where it is installed, else the embedded engine.
    #[default]
    Auto,
    /// The embedded engine.
    Embedded,
    /// ONNX Runtime, or nothing.
    OnnxRuntime,
    /// The simulator.
    Sim,
}

/// The chosen engine, and one line for people on which it is and why. Loads
/// ONNX Runtime's library where it comes to that, once for the process.
///
/// # Errors
/// [`EngineError::Unavailable`]: ONNX Runtime was asked for and cannot be loaded.
pub fn select(choice: EngineChoice, search: &EngineSearch) -> Result<(Arc<dyn Engine>, String), EngineError> {
    let explained = |engine: Arc<dyn Engine>, why: &str| {
        let line = format!("{}, {why}", engine.describe());
        (engine, line)
    };
    match choice {
        EngineChoice::Embedded => Ok(explained(Arc::new(Embedded), "as configured")),
        EngineChoice::Sim => Ok(explained(Arc::new(Sim), "as configured")),
        EngineChoice::OnnxRuntime => Ok(explained(OnnxRuntime::open(search)?, "as configured")),
        EngineChoice::Auto => match OnnxRuntime::open(search) {
            Ok(engine) => Ok(explained(engine, "because it is installed")),
            Err(EngineError::Unavailable(reason)) => {
                let why = format!("because onnxruntime is not available: {reason}");
                Ok(explained(Arc::new(Embedded), &why))
            }
            Err(other) => Err(other),
        },
    }
}
