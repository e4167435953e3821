//! ONNX Runtime, from a shared library that is found at run time and never linked.
//!
//! `ort` finds the library, owns the environment and builds sessions. The run itself
//! goes through the C API (`value`, `session`), because it is thread-safe there and
//! lets outputs be handed on without a copy.

mod library;
mod load;
mod run;
mod session;
mod value;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use ort::environment::Environment;

pub use library::find_onnxruntime;

use crate::{Engine, EngineError, EngineKind, EngineSearch, LoadOptions, Model};

/// The engine. One for each process: the library and its environment cannot be
/// loaded twice, nor exchanged.
pub struct OnnxRuntime {
    environment: Environment,
    library: PathBuf,
    minor_version: u32,
}

static LOADED: Mutex<Option<Arc<OnnxRuntime>>> = Mutex::new(None);

impl OnnxRuntime {
    /// Finds and loads the library, or gives the engine that this process loaded
    /// before, wherever `search` points. Slow the first time.
    ///
    /// # Errors
    /// [`EngineError::Unavailable`]: no library, or one that does not fit.
    pub fn open(search: &EngineSearch) -> Result<Arc<Self>, EngineError> {
        let mut loaded = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(engine) = &*loaded {
            return Ok(Arc::clone(engine));
        }
        let found = library::find(search).map_err(EngineError::Unavailable)?;
        let engine = Arc::new(library::load(found)?);
        *loaded = Some(Arc::clone(&engine));
        Ok(engine)
    }

    /// The library that is loaded.
    pub fn library(&self) -> &Path {
        &self.library
    }
}

impl Engine for OnnxRuntime {
    fn kind(&self) -> EngineKind {
        EngineKind::OnnxRuntime
    }

    fn describe(&self) -> String {
        format!("onnxruntime 1.{} on the CPU ({})", self.minor_version, self.library.display())
    }

    fn load(&self, file: &Path, options: &LoadOptions) -> Result<Arc<dyn Model>, EngineError> {
        load::load(&self.environment, file, options)
    }
}
