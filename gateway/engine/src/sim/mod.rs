//! An engine that computes nothing of interest, but exactly what it is told: for
//! tests of batching and scheduling, and for tuning without a model.
//!
//! A model is a JSON file (`NAME.sim.json`) with inputs, outputs, latency and faults;
//! `program` describes it. Its own latency aside, it is deterministic.

mod program;
mod run;

use std::path::Path;
use std::sync::Arc;

use crate::{Engine, EngineError, EngineKind, LoadOptions, Model};

/// The engine. Its models have the state.
#[derive(Debug, Clone, Copy, Default)]
pub struct Sim;

impl Engine for Sim {
    fn kind(&self) -> EngineKind {
        EngineKind::Sim
    }

    fn describe(&self) -> String {
        "simulator".to_owned()
    }

    fn load(&self, file: &Path, options: &LoadOptions) -> Result<Arc<dyn Model>, EngineError> {
        let text = std::fs::read_to_string(file)
            .map_err(|error| EngineError::Io(format!("{}: {error}", file.display())))?;
        let program = program::Program::parse(&text)?;
        Ok(Arc::new(run::SimModel::new(program, options.max_batch_size > 0)))
    }
}
