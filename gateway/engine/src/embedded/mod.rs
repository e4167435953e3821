//! rten: pure Rust, with nothing to install, and the engine where nothing else is.
//!
//! It computes in f32, i32, i8 and u8 only. 64-bit integers and booleans are
//! converted at the boundary, and what would come out wrong is refused: other floats
//! at load, integers beyond 32 bits at the request. A run cannot be stopped once it
//! has begun.

mod convert;
mod model;
mod onnx_file;
mod range;
mod wire;

use std::path::Path;
use std::sync::Arc;

use crate::{Engine, EngineError, EngineKind, LoadOptions, Model};

/// The engine. It has no state.
#[derive(Debug, Clone, Copy, Default)]
pub struct Embedded;

impl Engine for Embedded {
    fn kind(&self) -> EngineKind {
        EngineKind::Embedded
    }

    fn describe(&self) -> String {
        "embedded (rten 0.27) on the CPU".to_owned()
    }

    fn load(&self, file: &Path, options: &LoadOptions) -> Result<Arc<dyn Model>, EngineError> {
        let model: Arc<dyn Model> = Arc::new(model::EmbeddedModel::load(file, options)?);
        Ok(model)
    }
}
