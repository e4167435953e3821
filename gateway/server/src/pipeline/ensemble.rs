//! A request through an ensemble: each step runs as soon as its inputs are there, beside
//! the others. Dropping the future drops all of them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use sluice_tensor::{NamedTensor, Tensor};
use tokio::time::Instant;
use tracing::Instrument;

use super::{Call, check};
use crate::catalog::{Ensemble, Step, Target};
use crate::error::{Error, Kind, Result};
use crate::observe::{Failure, Phases};

/// Checks the inputs and runs every step, as the version that is asked for, which counts it.
/// The outputs are in the ensemble's order.
///
/// # Errors
/// [`Kind::BadShape`] for inputs that do not fit the ensemble or its first models; whatever
/// a model fails with.
pub(super) async fn run(
    name: &str,
    ensemble: &Ensemble,
    version: Option<&str>,
    call: &Call,
    mut inputs: Vec<NamedTensor>,
) -> Result<Vec<NamedTensor>> {
    let checked = ensemble.signature.check_inputs(name, &mut inputs, ensemble.max_batch_size);
    let rows = checked.map_err(|error| Error::new(Kind::BadShape, error.to_string()))?;
    let statistics = &ensemble.version(version).statistics;
    let counted = statistics.request(call.deadline);
    let started = Instant::now();
    let outcome = run_steps(name, ensemble, call, inputs).await;
    if outcome.is_ok() {
        // Its steps wait and compute; of the ensemble there is only the whole of it.
        let phases = Phases { infer: started.elapsed(), ..Phases::default() };
        statistics.executed(1, rows, Duration::ZERO, phases);
    }
    counted.finished(outcome.as_ref().map(drop).map_err(|error| Failure::of(error.kind())));
    outcome
}

/// Runs every step with inputs that fit.
fn run_steps<'a>(
    name: &'a str,
    ensemble: &'a Ensemble,
    call: &'a Call,
    inputs: Vec<NamedTensor>,
) -> BoxFuture<'a, Result<Vec<NamedTensor>>> {
    Box::pin(async move {
        let mut known: BTreeMap<Arc<str>, Tensor> =
            inputs.into_iter().map(|input| (input.name, input.tensor)).collect();
        let mut waiting: Vec<&Step> = ensemble.steps.iter().collect();
        let mut running = FuturesUnordered::new();
        loop {
            let mut still = Vec::with_capacity(waiting.len());
            for step in waiting {
                match inputs_of(step, &known) {
                    Some(inputs) => running.push(run_step(name, step, call, inputs)),
                    None => still.push(step),
                }
            }
            waiting = still;
            match running.next().await {
                Some(outputs) => known.extend(outputs?),
                None => break,
            }
        }
        let output = |spec: &sluice_tensor::TensorSpec| {
            let tensor =
                known.get(&spec.name).cloned().ok_or_else(|| Error::new(Kind::Internal, "internal error"))?;
            spec.check(name, &tensor).map_err(|error| Error::new(Kind::Engine, error.to_string()))?;
            Ok(NamedTensor { name: Arc::clone(&spec.name), tensor })
        };
        ensemble.signature.outputs.iter().map(output).collect()
    })
}

/// The step's inputs, once all of them are there.
fn inputs_of(step: &Step, known: &BTreeMap<Arc<str>, Tensor>) -> Option<Vec<NamedTensor>> {
    let one = |(input, name): &(Arc<str>, Arc<str>)| {
        Some(NamedTensor { name: Arc::clone(input), tensor: known.get(name)?.clone() })
    };
    step.inputs.iter().map(one).collect()
}

/// The ensemble's tensors that a step gives.
async fn run_step(
    name: &str,
    step: &Step,
    call: &Call,
    inputs: Vec<NamedTensor>,
) -> Result<Vec<(Arc<str>, Tensor)>> {
    let outcome = match &step.target {
        Target::Ensemble(ensemble) => run(name, ensemble, step.version.as_deref(), call, inputs).await,
        Target::Model(model) => {
            let span = tracing::debug_span!("infer", model = &**model.name());
            let work = async { model.infer(check(model, inputs)?, call).await };
            work.instrument(span).await
        }
    };
    let outputs = outcome.map_err(|error| match error.kind() {
        // What another model gave is not the caller's mistake.
        Kind::BadShape if !step.is_first => Error::new(Kind::Engine, error.message().to_owned()),
        _ => error,
    })?;
    let used = step.outputs.iter().filter_map(|(output, name)| {
        let tensor = outputs.iter().find(|tensor| tensor.name == *output)?;
        Some((Arc::clone(name), tensor.tensor.clone()))
    });
    Ok(used.collect())
}
