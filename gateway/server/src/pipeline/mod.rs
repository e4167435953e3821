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
//! Which version of each plugin a request uses is chosen once, before the first stage;
//! what a plugin's failure means is the pipeline's policy; and a candidate that is tried
//! gets its copy of the request when the answer is out.
//!
//! Dropping the future cancels whatever is not yet on an engine, and abandons the
//! result of what is.

mod call;
mod ensemble;
mod hook;
mod options;
mod shadow;
mod stream;
mod versions;

pub use call::Call;
pub use hook::{Hook, HookResult};
pub use options::{Parameter, RequestOptions, Sequence, SequenceId};
pub use shadow::ShadowRun;
pub use stream::{PartStream, Streamed, StreamedPart, predict_stream};

use std::pin::pin;
use std::sync::Arc;

use bytes::Bytes;
use sluice_sandbox::{Answer, CallError, PartSender, Prepared, Request};
use sluice_tensor::NamedTensor;
use tokio::time::Instant;
use tracing::Instrument;

use crate::catalog::{Coming, LoadedPlugin, Model, Pipeline, Snapshot, StagePlugin, Stages};
use crate::config::FailurePolicy;
use crate::error::{Error, Kind, Result};
use crate::observe::Stage;
use versions::Versions;

/// An answer, and what is to be done once the caller has it.
pub struct Predicted {
    /// For the caller.
    pub answer: Answer,
    /// The same request for a candidate, to be run when the answer is sent.
    pub shadow: Option<Box<ShadowRun>>,
}

/// Answers one request from one snapshot, within the call's deadline.
///
/// # Errors
/// Every kind in the table; see [`crate::error::Kind`].
pub async fn predict(snapshot: &Snapshot, target: &str, call: &Call, request: Request) -> Result<Predicted> {
    let work = pin!(async {
        if let Some(pipeline) = snapshot.pipelines.get(target) {
            return run_beside_guests(pipeline, call, request, None).await.and_then(Predicted::try_from);
        }
        let model = snapshot.model(target, call.version.as_deref())?;
        let answer = run_model(model, call, request).await.map(Answer::Tensors)?;
        Ok(Predicted { answer, shadow: None })
    });
    call.note("REQUEST_START");
    let outcome = on_time(call.deadline, work).await;
    call.note("INFER_RESPONSE_COMPLETE");
    call.note("REQUEST_END");
    outcome
}

async fn on_time<T>(deadline: Instant, work: impl Future<Output = Result<T>>) -> Result<T> {
    match tokio::time::timeout_at(deadline, work).await {
        Ok(outcome) => outcome,
        Err(_) => Err(Error::new(Kind::Deadline, "the request's deadline has passed")),
    }
}

/// What a pipeline made of a request: its whole answer, or the last part of it, or nothing
/// more than the parts that it sent.
struct Ran {
    answer: Option<Answer>,
    shadow: Option<Box<ShadowRun>>,
}

/// A pipeline runs next to its guests, wherever that is: one hop there and one back at
/// most, however many plugins it calls.
async fn run_beside_guests(
    pipeline: &Arc<Pipeline>,
    call: &Call,
    request: Request,
    parts: Option<PartSender>,
) -> Result<Ran> {
    let coming = match &pipeline.stages {
        Stages::Staged { pre: Some(_), model, .. } => Some(model.announce(call)?),
        _ => None,
    };
    let (own, call) = (Arc::clone(pipeline), call.clone());
    // Made once where it stays: it is large, and goes from hand to hand.
    let work =
        Box::pin(async move { run_pipeline(&own, &call, request, parts, coming).await }.in_current_span());
    match pipeline.threads.run(work).await {
        Ok(answer) => answer,
        Err(error) => Err(Error::new(Kind::Internal, "internal error").with_detail(error.to_string())),
    }
}

/// Runs the request with the versions that are chosen for it; and if one of them fails
/// where the policy is to fall back, from the start with the version before: unless a part
/// of its answer is out already.
async fn run_pipeline(
    pipeline: &Arc<Pipeline>,
    call: &Call,
    request: Request,
    parts: Option<PartSender>,
    coming: Option<Coming>,
) -> Result<Ran> {
    let started = Instant::now();
    let mut versions = Versions::choose(pipeline, call)?;
    // Bodies and tensors are shared, so a copy is cheap; most requests need none.
    let copy =
        (shadow::is_wanted(pipeline, call) || versions::may_fall_back(pipeline)).then(|| request.clone());
    let mut outcome = run_stages(pipeline, call, request, &versions, parts.as_ref(), coming).await;
    if let (Err(Failed { stage: Some(stage), .. }), Some(copy)) = (&outcome, &copy)
        && let Some(before) = versions.before(pipeline, *stage)
        && !parts.as_ref().is_some_and(PartSender::has_sent)
    {
        pipeline.metrics.fallback("previous");
        versions = before;
        outcome = run_stages(pipeline, call, copy.clone(), &versions, parts.as_ref(), None).await;
    }
    let answer = outcome.map_err(|failed| failed.error)?;
    let shadow =
        copy.and_then(|request| shadow::prepare(pipeline, call, request, answer.as_ref(), started.elapsed()));
    Ok(Ran { answer, shadow })
}

/// A request that failed, and the stage whose plugin is to blame.
struct Failed {
    error: Error,
    stage: Option<Stage>,
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        Self { error, stage: None }
    }
}

async fn run_stages(
    pipeline: &Pipeline,
    call: &Call,
    request: Request,
    versions: &Versions,
    parts: Option<&PartSender>,
    coming: Option<Coming>,
) -> Result<Option<Answer>, Failed> {
    let (pre, model, post) = match &pipeline.stages {
        Stages::Staged { pre, model, post } => (pre, model, post),
        Stages::Ensemble(joined) => {
            let (name, version) = (&pipeline.name, call.version.as_deref());
            let outputs = ensemble::run(name, joined, version, call, tensors_of(request)?).await?;
            return Ok(Some(Answer::Tensors(outputs)));
        }
        Stages::Whole { .. } => return handle(pipeline, call, request, versions, parts).await,
    };
    let (rows, carry) = match pre {
        None => (check(model, tensors_of(request)?)?, Bytes::new()),
        Some(pre) => match preprocess(pipeline, pre, model, call, request, versions).await? {
            Ready::Answer(answer) => return Ok(Some(answer)),
            Ready::Run { rows, carry } => (rows, carry),
        },
    };
    if let Some(coming) = coming {
        coming.comes();
    }
    let started = Instant::now();
    let span = tracing::debug_span!("infer", model = &**model.name());
    let outputs = model.infer(rows, call).instrument(span).await;
    let outputs = outputs.map_err(|error| match error.kind() {
        // Values that the engine cannot take are the fault of whoever made the inputs.
        Kind::BadShape if pre.is_some() => {
            let error = Error::new(Kind::PluginOutput, error.message().to_owned());
            Failed { error, stage: Some(Stage::Pre) }
        }
        _ => Failed::from(error),
    })?;
    if !versions.is_shadow() {
        pipeline.metrics.stage(Stage::Infer, started.elapsed());
    }
    match post {
        None => Ok(Some(Answer::Tensors(outputs))),
        Some(post) => postprocess(pipeline, post, call, carry, outputs, versions).await.map(Some),
    }
}

async fn run_model(model: &Model, call: &Call, request: Request) -> Result<Vec<NamedTensor>> {
    let rows = check(model, tensors_of(request)?)?;
    model.infer(rows, call).await
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
/// [`Kind::BadShape`], naming the input.
pub fn check(model: &Model, inputs: Vec<NamedTensor>) -> Result<CheckedInputs> {
    model.check(inputs)
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

/// What a preprocessor has made, checked.
enum Ready {
    Answer(Answer),
    Run { rows: CheckedInputs, carry: Bytes },
}

async fn preprocess(
    pipeline: &Pipeline,
    stage: &StagePlugin,
    model: &Model,
    call: &Call,
    request: Request,
    versions: &Versions,
) -> Result<Ready, Failed> {
    let plugin = versions.of(Stage::Pre)?;
    // Tensors can go to the model as they are; a body is for the plugin alone.
    let unchanged = match (&request, stage.on_failure) {
        (Request::Tensors(tensors), FailurePolicy::Skip) => Some(tensors.clone()),
        _ => None,
    };
    let span = tracing::debug_span!("preprocess", plugin = &*plugin.name, version = &*plugin.version);
    let context = call.context(pipeline, plugin, &span);
    let work = async {
        match plugin.hook.preprocess(context, request).await? {
            Prepared::Answer(answer) => Ok(Ready::Answer(answer)),
            // What does not fit the model is a failed call of the plugin's.
            Prepared::Run { inputs, carry } => check(model, inputs)
                .map(|rows| Ready::Run { rows, carry })
                .map_err(|error| CallError::Output(error.message().to_owned())),
        }
    };
    let outcome = timed(pipeline, Stage::Pre, plugin, call, versions, work.instrument(span)).await;
    match (outcome, unchanged) {
        (Err(Failed { stage: Some(_), .. }), Some(inputs)) => {
            pipeline.metrics.fallback("skip");
            Ok(Ready::Run { rows: check(model, inputs)?, carry: Bytes::new() })
        }
        (outcome, _) => outcome,
    }
}

async fn postprocess(
    pipeline: &Pipeline,
    stage: &StagePlugin,
    call: &Call,
    carry: Bytes,
    outputs: Vec<NamedTensor>,
    versions: &Versions,
) -> Result<Answer, Failed> {
    let plugin = versions.of(Stage::Post)?;
    let unchanged = (stage.on_failure == FailurePolicy::Skip).then(|| outputs.clone());
    let span = tracing::debug_span!("postprocess", plugin = &*plugin.name, version = &*plugin.version);
    let work =
        plugin.hook.postprocess(call.context(pipeline, plugin, &span), carry, outputs).instrument(span);
    let outcome = timed(pipeline, Stage::Post, plugin, call, versions, work).await;
    match (outcome, unchanged) {
        (Err(Failed { stage: Some(_), .. }), Some(outputs)) => {
            pipeline.metrics.fallback("skip");
            Ok(Answer::Tensors(outputs))
        }
        (outcome, _) => outcome,
    }
}

async fn handle(
    pipeline: &Pipeline,
    call: &Call,
    request: Request,
    versions: &Versions,
    parts: Option<&PartSender>,
) -> Result<Option<Answer>, Failed> {
    let plugin = versions.of(Stage::Post)?;
    let span = tracing::debug_span!("handle", plugin = &*plugin.name, version = &*plugin.version);
    let context = call.context(pipeline, plugin, &span);
    let work = async {
        match parts {
            None => plugin.hook.handle(context, request).await.map(Some),
            Some(parts) => plugin.hook.handle_in_parts(context, request, parts.clone()).await,
        }
    };
    let work = work.instrument(span);
    timed(pipeline, Stage::Post, plugin, call, versions, work).await
}

/// Counts a plugin's call, notes its failure for its author, and translates it.
async fn timed<T>(
    pipeline: &Pipeline,
    stage: Stage,
    plugin: &LoadedPlugin,
    call: &Call,
    versions: &Versions,
    work: impl Future<Output = HookResult<T>>,
) -> Result<T, Failed> {
    let started = Instant::now();
    let outcome = work.await;
    let took = started.elapsed();
    if versions.counts(plugin) {
        plugin.metrics.call(outcome.as_ref().map_or_else(hook::outcome, |_| "ok"), took);
        plugin.note_memory();
    }
    if !versions.is_shadow() {
        pipeline.metrics.stage(stage, took);
    }
    outcome.map_err(|error| {
        let failed = hook::is_plugin_fault(&error);
        if failed {
            plugin.log.failure(&call.request_id, hook::outcome(&error), &error.to_string());
        }
        let error = hook::to_error(&error, &plugin.name, &plugin.version).of_plugin(&plugin.name);
        Failed { error, stage: failed.then_some(stage) }
    })
}
