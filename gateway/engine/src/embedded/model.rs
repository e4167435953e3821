//! A model in rten and its instances.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;

use rten::{LoadErrorKind, ModelOptions, NodeId, RunErrorKind, RunOptions, ThreadPool};
use sluice_tensor::{NamedTensor, Signature};

use super::convert::{self, Carrier};
use super::onnx_file::OnnxFile;
use super::range;
use crate::batch::run_batch;
use crate::scatter::RawOutput;
use crate::staging::Staging;
use crate::{BatchOutput, EngineError, Instance, Interrupt, LoadOptions, Model, Padding};

/// A loaded model; the instances share all of it.
pub(super) struct EmbeddedModel {
    shared: Arc<Shared>,
}

struct Shared {
    model: rten::Model,
    pool: Arc<ThreadPool>,
    signature: Signature,
    carriers: Vec<Carrier>,
    input_ids: Vec<NodeId>,
    output_ids: Vec<NodeId>,
    magnitude_max: u64,
    batched: bool,
}

impl EmbeddedModel {
    pub(super) fn load(file: &Path, options: &LoadOptions) -> Result<Self, EngineError> {
        let graph = OnnxFile::read(file)?;
        let signature = graph.signature()?;
        let carriers: Vec<Carrier> =
            signature.inputs.iter().map(convert::carrier).collect::<Result<_, _>>()?;
        for spec in &signature.outputs {
            convert::carrier(spec)?;
        }
        let magnitude_max = range::input_magnitude_max(&graph, &signature)?;
        drop(graph);
        let model = catch_unwind(|| ModelOptions::with_all_ops().prepack_weights(true).load_file(file))
            .map_err(|_| EngineError::Corrupt("rten panicked while loading it".to_owned()))?
            .map_err(|error| load_error(&error))?;
        let id = |name: &str| {
            model.node_id(name).map_err(|error| EngineError::Corrupt(format!("'{name}': {error}")))
        };
        let ids = |specs: &[sluice_tensor::TensorSpec]| -> Result<Vec<NodeId>, EngineError> {
            specs.iter().map(|spec| id(&spec.name)).collect()
        };
        let (input_ids, output_ids) = (ids(&signature.inputs)?, ids(&signature.outputs)?);
        let pool = Arc::new(ThreadPool::with_num_threads(options.threads.max(1)));
        let batched = options.max_batch_size > 0;
        let shared =
            Shared { model, pool, signature, carriers, input_ids, output_ids, magnitude_max, batched };
        Ok(Self { shared: Arc::new(shared) })
    }
}

impl Model for EmbeddedModel {
    fn signature(&self) -> &Signature {
        &self.shared.signature
    }

    fn instance(&self) -> Result<Box<dyn Instance>, EngineError> {
        Ok(Box::new(EmbeddedInstance {
            staging: Staging::new(&self.shared.signature),
            widened: vec![Vec::new(); self.shared.signature.inputs.len()],
            shared: Arc::clone(&self.shared),
        }))
    }
}

struct EmbeddedInstance {
    shared: Arc<Shared>,
    staging: Staging,
    /// For each input that travels as i32, its values; else empty.
    widened: Vec<Vec<i32>>,
}

impl Instance for EmbeddedInstance {
    fn run(&mut self, members: &[&[NamedTensor]], interrupt: &Interrupt) -> Result<BatchOutput, EngineError> {
        let (shared, widened) = (&self.shared, &mut self.widened);
        let compute = |staging: &mut Staging| {
            shared.widen(staging, widened)?;
            shared.compute(staging, widened)
        };
        run_batch(&shared.signature, shared.batched, &mut self.staging, members, interrupt, compute)
    }

    fn pad(&mut self, padding: Option<Arc<Padding>>) {
        self.staging.pad(padding);
    }
}

impl Shared {
    fn widen(&self, staging: &Staging, widened: &mut [Vec<i32>]) -> Result<(), EngineError> {
        let specs = self.signature.inputs.iter().zip(&self.carriers);
        for (((spec, carrier), staged), out) in specs.zip(staging.inputs()).zip(widened) {
            if *carrier == Carrier::Int32 {
                convert::widen(spec, staged, self.magnitude_max, out)?;
            }
        }
        Ok(())
    }

    fn compute(&self, staging: &Staging, widened: &[Vec<i32>]) -> Result<Vec<RawOutput>, EngineError> {
        let specs = self.signature.inputs.iter().zip(&self.input_ids);
        let inputs = specs
            .zip(staging.inputs())
            .zip(widened)
            .map(|(((spec, id), staged), wide)| Ok((*id, convert::view(spec, staged, wide)?)))
            .collect::<Result<_, EngineError>>()?;
        let mut options = RunOptions::default();
        options.thread_pool = Some(Arc::clone(&self.pool));
        // An operator that meets values it did not expect may panic. The model is only
        // read, so the next run is none the worse.
        let ran = catch_unwind(AssertUnwindSafe(|| self.model.run(inputs, &self.output_ids, Some(options))));
        let outputs = ran.map_err(|_| EngineError::Run("rten panicked".to_owned()))?.map_err(|error| {
            match error.kind() {
                RunErrorKind::InvalidInput => EngineError::Input(error.to_string()),
                _ => EngineError::Run(error.to_string()),
            }
        })?;
        self.signature.outputs.iter().zip(outputs).map(|(spec, value)| convert::output(spec, value)).collect()
    }
}

fn load_error(error: &rten::LoadError) -> EngineError {
    let message = error.to_string();
    match error.kind() {
        LoadErrorKind::IoError | LoadErrorKind::ExternalDataError => EngineError::Io(message),
        LoadErrorKind::OperatorInvalid | LoadErrorKind::FormatNotEnabled | LoadErrorKind::UnknownFileType => {
            EngineError::Unsupported(message)
        }
        _ => EngineError::Corrupt(message),
    }
}
