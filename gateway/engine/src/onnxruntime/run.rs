//! A loaded model and its instances.

use std::sync::Arc;

use ort::session::RunOptions;
use sluice_tensor::{NamedTensor, Signature};

use super::load::is_out_of_memory;
use super::session::SharedSession;
use super::value::{self, InputValue};
use crate::batch::run_batch;
use crate::scatter::RawOutput;
use crate::staging::Staging;
use crate::{BatchOutput, EngineError, Instance, Interrupt, Model, Padding};

/// A model in ONNX Runtime.
pub(super) struct OnnxModel {
    shared: Arc<SharedSession>,
    signature: Arc<Signature>,
    batched: bool,
}

impl OnnxModel {
    pub(super) fn new(shared: Arc<SharedSession>, signature: Signature, batched: bool) -> Self {
        Self { shared, signature: Arc::new(signature), batched }
    }
}

impl Model for OnnxModel {
    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn instance(&self) -> Result<Box<dyn Instance>, EngineError> {
        let options = RunOptions::new().map_err(|error| EngineError::Run(error.message().to_owned()))?;
        Ok(Box::new(OnnxInstance {
            shared: Arc::clone(&self.shared),
            signature: Arc::clone(&self.signature),
            batched: self.batched,
            staging: Staging::new(&self.signature),
            options: Arc::new(options),
        }))
    }
}

/// The session is shared; the buffers and the switch to terminate are its own.
struct OnnxInstance {
    shared: Arc<SharedSession>,
    signature: Arc<Signature>,
    batched: bool,
    staging: Staging,
    options: Arc<RunOptions>,
}

impl Instance for OnnxInstance {
    fn run(&mut self, members: &[&[NamedTensor]], interrupt: &Interrupt) -> Result<BatchOutput, EngineError> {
        let (shared, signature, options) = (&self.shared, &self.signature, &self.options);
        let compute = |staging: &mut Staging| compute(shared, signature, options, staging, interrupt);
        run_batch(signature, self.batched, &mut self.staging, members, interrupt, compute)
    }

    fn pad(&mut self, padding: Option<Arc<Padding>>) {
        self.staging.pad(padding);
    }
}

fn compute(
    shared: &Arc<SharedSession>,
    signature: &Signature,
    options: &Arc<RunOptions>,
    staging: &mut Staging,
    interrupt: &Interrupt,
) -> Result<Vec<RawOutput>, EngineError> {
    let inputs: Vec<InputValue<'_>> = signature
        .inputs
        .iter()
        .zip(staging.inputs_mut())
        .map(|(spec, staged)| InputValue::new(spec.dtype, staged, &shared.memory))
        .collect::<Result<_, _>>()?;
    // The last run's interrupt may have terminated these options. Its hook is gone.
    options.unterminate().map_err(|error| EngineError::Run(error.message().to_owned()))?;
    let terminated = Arc::clone(options);
    let hook = interrupt.on_trigger(move || {
        if let Err(error) = terminated.terminate() {
            tracing::warn!(error = error.message(), "cannot terminate a run");
        }
    });
    let ran = shared.run(&inputs, options);
    drop(hook);
    drop(inputs);
    let outputs = ran.map_err(|error| run_error(&error, interrupt))?;
    let is_staging = |start: *const u8| staging.contains(start);
    let take = |(spec, output): (&sluice_tensor::TensorSpec, _)| {
        value::output(spec.dtype, output, shared, is_staging)
    };
    signature.outputs.iter().zip(outputs).map(take).collect()
}

fn run_error(error: &ort::Error, interrupt: &Interrupt) -> EngineError {
    let message = error.message().to_owned();
    if interrupt.is_triggered() {
        EngineError::Interrupted
    } else if is_out_of_memory(&message) {
        EngineError::OutOfMemory(message)
    } else if error.code() == ort::ErrorCode::InvalidArgument {
        // Types and declared shapes were checked: what is left is a value, such as an
        // index past the end of a table, or dimensions that do not fit each other.
        EngineError::Input(message)
    } else {
        EngineError::Run(message)
    }
}
