//! Room 3: the story of a prediction, on one page.
//!
//! A request has been admitted and decoded; what comes back is encoded by the
//! same protocol module that decoded it. In between:
//!
//! 1. **preprocess**: the plugin turns the body (or tensors) into model inputs,
//!    or answers at once;
//! 2. **check** them against the model's signature, whoever made them;
//! 3. **batch** and **run**: the rows wait in the model's queue and run together
//!    with other requests' rows;
//! 4. **postprocess**: the plugin turns its slice of the outputs into the answer.
//!
//! Dropping the future cancels whatever is not yet on an engine, and abandons the
//! result of what is.

mod call;
mod hook;

pub use call::Call;
pub use hook::{Hook, HookResult};

use std::sync::Arc;

use bytes::Bytes;
use sluice_sandbox::{Answer, Prepared, Request};
use sluice_tensor::NamedTensor;
use tokio::time::Instant;
use tracing::Instrument;

use crate::catalog::{LoadedPlugin, Model, Pipeline, Snapshot, Stages};
use crate::error::{Error, Kind, Result};
use crate::observe::Stage;

/// Answers one request from one snapshot, within the call's deadline.
///
/// # Errors
/// Every kind in the table; see [`crate::error::Kind`].
pub async fn predict(snapshot: &Snapshot, target: &str, call: &Call, request: Request) -> Result<Answer> {
    let work = async {
        if let Some(pipeline) = snapshot.pipelines.get(target) {
            return run_beside_guests(pipeline, call, request).await;
        }
        match snapshot.models.get(target) {
            Some(model) => run_model(model, call, request).await.map(Answer::Tensors),
            None => {
                Err(Error::new(Kind::NotFound, format!("Request for unknown model: '{target}' is not found")))
            }
        }
    };
    match tokio::time::timeout_at(call.deadline, work).await {
        Ok(answer) => answer,
        Err(_) => Err(Error::new(Kind::Deadline, "the request's deadline has passed")),
    }
}

/// A pipeline with plugins runs on the guests' threads from its first plugin to its
/// last: one hop there and one back, however many plugins it calls.
async fn run_beside_guests(pipeline: &Arc<Pipeline>, call: &Call, request: Request) -> Result<Answer> {
    let Some(threads) = &pipeline.threads else { return run_pipeline(pipeline, call, request).await };
    let (pipeline, call) = (Arc::clone(pipeline), call.clone());
    let work = async move { run_pipeline(&pipeline, &call, request).await }.in_current_span();
    match threads.run(work).await {
        Ok(answer) => answer,
        Err(error) => Err(Error::new(Kind::Internal, "internal error").with_detail(error.to_string())),
    }
}

async fn run_pipeline(pipeline: &Pipeline, call: &Call, request: Request) -> Result<Answer> {
    let (pre, model, post) = match &pipeline.stages {
        Stages::Staged { pre, model, post } => (pre, model, post),
        Stages::Whole { plugin } => return handle(pipeline, plugin, call, request).await,
    };
    let (inputs, carry) = match pre {
        None => (tensors_of(request)?, Bytes::new()),
        Some(pre) => match preprocess(pipeline, pre, call, request).await? {
            Prepared::Answer(answer) => return Ok(answer),
            Prepared::Run { inputs, carry } => (inputs, carry),
        },
    };
    // What does not fit the model is the fault of whoever made the inputs.
    let blame = if pre.is_some() { Kind::PluginOutput } else { Kind::BadShape };
    let rows = check(model, inputs, blame)?;
    let started = Instant::now();
    let span = tracing::debug_span!("infer", model = &**model.name());
    let outputs = model.infer(rows, call.deadline).instrument(span).await;
    let outputs = outputs.map_err(|error| match error.kind() {
        // Values that the engine cannot take are made by whoever made the inputs.
        Kind::BadShape => Error::new(blame, error.message().to_owned()),
        _ => error,
    })?;
    pipeline.metrics.stage(Stage::Infer, started.elapsed());
    match post {
        None => Ok(Answer::Tensors(outputs)),
        Some(post) => postprocess(pipeline, post, call, carry, outputs).await,
    }
}

async fn run_model(model: &Model, call: &Call, request: Request) -> Result<Vec<NamedTensor>> {
    let rows = check(model, tensors_of(request)?, Kind::BadShape)?;
    model.infer(rows, call.deadline).await
}

/// Inputs that fit the model, in its order, and how many rows they are.
#[derive(Debug)]
pub struct CheckedInputs {
    /// In the order of the model's signature.
    pub inputs: Vec<NamedTensor>,
    /// Their share of a batch.
    pub rows: usize,
}

/// Checks inputs against a model's signature.
///
/// # Errors
/// `blame`, naming the input.
pub fn check(model: &Model, mut inputs: Vec<NamedTensor>, blame: Kind) -> Result<CheckedInputs> {
    let rows = model
        .signature()
        .check_inputs(&mut inputs, model.max_batch_size())
        .map_err(|error| Error::new(blame, error.to_string()))?;
    Ok(CheckedInputs { inputs, rows })
}

fn tensors_of(request: Request) -> Result<Vec<NamedTensor>> {
    match request {
        Request::Tensors(tensors) => Ok(tensors),
        Request::Body(_) => Err(Error::new(
            Kind::BadRequest,
            "this model has no preprocessor for a raw body: send tensors to /v2/models/{model}/infer",
        )),
    }
}

async fn preprocess(
    pipeline: &Pipeline,
    plugin: &LoadedPlugin,
    call: &Call,
    request: Request,
) -> Result<Prepared> {
    let span = tracing::debug_span!("preprocess", plugin = plugin.hook.name());
    let work = plugin.hook.preprocess(call.context(pipeline), request).instrument(span);
    timed(pipeline, Stage::Pre, plugin, work).await
}

async fn postprocess(
    pipeline: &Pipeline,
    plugin: &LoadedPlugin,
    call: &Call,
    carry: Bytes,
    outputs: Vec<NamedTensor>,
) -> Result<Answer> {
    let span = tracing::debug_span!("postprocess", plugin = plugin.hook.name());
    let work = plugin.hook.postprocess(call.context(pipeline), carry, outputs).instrument(span);
    timed(pipeline, Stage::Post, plugin, work).await
}

async fn handle(pipeline: &Pipeline, plugin: &LoadedPlugin, call: &Call, request: Request) -> Result<Answer> {
    let span = tracing::debug_span!("handle", plugin = plugin.hook.name());
    let work = plugin.hook.handle(call.context(pipeline), request).instrument(span);
    timed(pipeline, Stage::Pre, plugin, work).await
}

/// Counts a plugin's call, and translates its failure.
async fn timed<T>(
    pipeline: &Pipeline,
    stage: Stage,
    plugin: &LoadedPlugin,
    work: impl Future<Output = HookResult<T>>,
) -> Result<T> {
    let started = Instant::now();
    let outcome = work.await;
    let took = started.elapsed();
    pipeline.metrics.stage(stage, took);
    plugin.metrics.call(outcome.as_ref().map_or_else(hook::outcome, |_| "ok"), took);
    outcome.map_err(|error| hook::to_error(&error, plugin.hook.name()))
}
