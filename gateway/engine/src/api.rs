//! The traits that an engine implements, shaped for devices with a memory of their own.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use sluice_tensor::{NamedTensor, Signature};

use crate::{EngineError, Interrupt, Padding};

/// Which engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EngineKind {
    /// rten: pure Rust, always there.
    Embedded,
    /// ONNX Runtime, from a shared library.
    OnnxRuntime,
    /// Deterministic and programmable, for tests and tuning.
    Sim,
}

/// How to load a model.
#[derive(Debug, Clone)]
pub struct LoadOptions {
    /// Threads that one run may use.
    pub threads: usize,
    /// Whether those threads spin while they wait for work: faster alone, costly
    /// beside other work.
    pub spinning: bool,
    /// Most rows of a batch; 0 for a model that takes no batches.
    pub max_batch_size: usize,
}

/// Something that runs models. One for each process and kind.
pub trait Engine: Send + Sync {
    /// Which engine this is.
    fn kind(&self) -> EngineKind;

    /// What exactly is running, for people: library, version, where it came from.
    fn describe(&self) -> String;

    /// Reads and prepares a model. Slow: call it on a thread that may block.
    ///
    /// # Errors
    /// The file cannot be read, is no model, or needs what this engine lacks.
    fn load(&self, file: &Path, options: &LoadOptions) -> Result<Arc<dyn Model>, EngineError>;
}

/// A loaded model: one copy of the weights where the engine can share them.
pub trait Model: Send + Sync {
    /// Inputs and outputs, as read from the file.
    fn signature(&self) -> &Signature;

    /// A runner with buffers (and, on a device, a stream) of its own. The caller
    /// gives it to one thread, which owns it.
    ///
    /// # Errors
    /// The engine has no room for another.
    fn instance(&self) -> Result<Box<dyn Instance>, EngineError>;
}

/// Runs batches, one at a time. It owns every buffer the engine reads from, so a
/// caller that leaves abandons a result and never a buffer.
pub trait Instance: Send {
    /// Gathers the members' rows into the instance's staging buffers, runs once,
    /// and cuts the outputs back into one list for each member (slices that share
    /// the batch's output memory).
    ///
    /// Each member's inputs are in the order of the signature and have passed
    /// [`Signature::check_inputs`]; the rows of all of them fit `max_batch_size`,
    /// and all dimensions but the first agree. With `max_batch_size` 0 there is one
    /// member, passed through whole.
    ///
    /// An interrupt ends the run as soon as the engine can: at once before it starts,
    /// between two operators in ONNX Runtime, not at all once rten has begun.
    ///
    /// # Errors
    /// The run failed or was interrupted: no member has a result. The instance can
    /// run the next batch all the same.
    fn run(&mut self, members: &[&[NamedTensor]], interrupt: &Interrupt) -> Result<BatchOutput, EngineError>;

    /// Pads inputs from the next run on: the padded dimension of the members may then
    /// differ. `None` ends that.
    fn pad(&mut self, padding: Option<Arc<Padding>>);
}

/// What a batch gave.
#[derive(Debug)]
pub struct BatchOutput {
    /// One list of outputs for each member, in order.
    pub members: Vec<Vec<NamedTensor>>,
    /// Where the time went.
    pub timings: Timings,
}

/// Where a batch's time went.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Timings {
    /// Copying rows into the staging buffers.
    pub gather: Duration,
    /// The engine's own run.
    pub compute: Duration,
    /// Cutting the outputs apart.
    pub scatter: Duration,
}

/// Where to look for ONNX Runtime. The caller fills it in, from its configuration
/// and environment: the engine crate reads neither.
#[derive(Debug, Clone, Default)]
pub struct EngineSearch {
    /// The shared library, when the configuration names one. No other is tried then.
    pub onnxruntime_library: Option<PathBuf>,
    /// Otherwise tried in order: files, folders that hold the library, or bare file
    /// names for the system's loader.
    pub candidates: Vec<PathBuf>,
}
