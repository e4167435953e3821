//! A prediction: one request of a call, whether the call has one or a stream of them.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt as _;
use http::Response;
use sluice_sandbox::{Answer, HttpBody};
use sluice_tensor::{DType, NamedTensor, Shape, Tensor};
use tokio::time::Instant;
use tracing::Instrument as _;

use super::decode::{self, Message, Parameter};
use super::encode;
use super::receive::Messages;
use super::reply::Reply;
use super::{Admitted, internal, metadata};
use crate::admission::Permit;
use crate::error::{Error, Kind, Result};
use crate::ingress::http::{Front, exchange};
use crate::ingress::served;
use crate::observe::{self, OTHER, PipelineMetrics};
use crate::pipeline::{self, Call, ShadowRun};
use crate::tensor_json::to_error;
use crate::wire_error::wire_error;

/// What a call's metadata says about each of its requests.
pub(super) struct Caller {
    pub(super) request_id: Arc<str>,
    /// When the caller no longer waits, if it says so.
    pub(super) deadline: Option<Instant>,
    key: Option<Arc<str>>,
    tenant: Option<Arc<str>>,
}

impl Caller {
    /// Reads it.
    ///
    /// # Errors
    /// A malformed timeout or routing key; a timeout of nothing.
    pub(super) fn of(admitted: &Admitted) -> Result<Self> {
        let timeout = metadata::timeout(&admitted.headers)?;
        if timeout == Some(Duration::ZERO) {
            return Err(deadline_passed());
        }
        Ok(Self {
            request_id: Arc::clone(&admitted.request_id),
            // One that the clock cannot reach is no limit; ours applies.
            deadline: timeout.and_then(|timeout| admitted.arrived.checked_add(timeout)),
            key: exchange::routing_key(&admitted.headers)?,
            tenant: admitted.identity.owner.clone(),
        })
    }
}

fn deadline_passed() -> Error {
    Error::new(Kind::Deadline, "the request's deadline has passed")
}

/// What a request has come to.
pub(super) struct Predicted {
    pub(super) model: Box<str>,
    pub(super) version: Box<str>,
    pub(super) outputs: Vec<NamedTensor>,
    pub(super) shadow: Option<Box<ShadowRun>>,
}

/// A request that is being answered: what remains of it when it fails.
pub(super) struct Progress {
    pub(super) id: String,
    metrics: Arc<PipelineMetrics>,
}

impl Progress {
    pub(super) fn new(front: &Front) -> Self {
        Self { id: String::new(), metrics: front.metrics.pipeline(OTHER) }
    }

    /// Counts a request that has ended, and logs it if it failed.
    pub(super) fn finish<T>(
        &self,
        outcome: &Result<T>,
        request_id: &str,
        arrived: Instant,
        span: &tracing::Span,
    ) {
        match outcome {
            Ok(_) => self.metrics.request_finished("ok", "none", arrived.elapsed()),
            Err(error) => {
                let row = wire_error(error.kind());
                span.record("code", row.code);
                self.metrics.request_finished(row.code, row.fault.as_str(), arrived.elapsed());
                exchange::log(error, row, request_id);
            }
        }
    }
}

/// `ModelInfer`.
pub(super) async fn unary(front: &Arc<Front>, mut admitted: Admitted) -> Response<Reply> {
    let span = tracing::debug_span!(
        "predict",
        target = tracing::field::Empty,
        request_id = &*admitted.request_id,
        code = tracing::field::Empty
    );
    observe::set_parent(&span, &admitted.headers);
    let mut progress = Progress::new(front);
    let request_id = Arc::clone(&admitted.request_id);
    let arrived = admitted.arrived;
    let inside = async {
        let caller = Caller::of(&admitted)?;
        // The permit lives until the answer is made, so that a drain waits for it.
        let mut permit = front.admission.admit().inspect_err(|_| front.metrics.rejected("overloaded"))?;
        let mut in_flight = front.metrics.request_in_flight(0);
        let message = receive(front, &caller, arrived, &mut admitted.messages, &mut permit).await?;
        in_flight.set_bytes(message.len());
        let predicted = predict(front, &caller, arrived, message, &mut permit, &mut progress).await?;
        let response = encode::Response {
            model: &predicted.model,
            version: &predicted.version,
            id: &progress.id,
            outputs: &predicted.outputs,
            is_final: None,
        };
        let pieces = tracing::debug_span!("encode").in_scope(|| response.encode())?;
        Reply::message(pieces, admitted.packing, predicted.shadow).await
    };
    let outcome = AssertUnwindSafe(inside.instrument(span.clone())).catch_unwind().await;
    let outcome = outcome.unwrap_or_else(|_| Err(internal()));
    progress.finish(&outcome, &request_id, arrived, &span);
    outcome.unwrap_or_else(|error| Reply::error(&error))
}

/// The one message of a call, in time.
async fn receive(
    front: &Front,
    caller: &Caller,
    arrived: Instant,
    messages: &mut Messages,
    permit: &mut Permit,
) -> Result<Bytes> {
    let body_deadline = arrived + front.limits.body_timeout;
    let deadline = caller.deadline.map_or(body_deadline, |deadline| deadline.min(body_deadline));
    let reading = read(messages, permit).instrument(tracing::debug_span!("decode"));
    match tokio::time::timeout_at(deadline, reading).await {
        Ok(message) => message,
        Err(_) if deadline < body_deadline => Err(deadline_passed()),
        Err(_) => Err(Error::new(Kind::RequestTimeout, "the message did not arrive in time")),
    }
}

/// The one message of a call, counted for its permit.
///
/// # Errors
/// None, or more than one; and as [`Messages::next`].
pub(super) async fn read(messages: &mut Messages, permit: &mut Permit) -> Result<Bytes> {
    let message = messages.next(Some(permit)).await?;
    let message = message.ok_or_else(|| Error::new(Kind::BadRequest, "the call has no message"))?;
    if !messages.is_at_end().await? {
        return Err(Error::new(Kind::BadRequest, "the call has more than one message"));
    }
    Ok(message)
}

/// Decodes a request and runs it.
///
/// # Errors
/// Every kind in the table.
pub(super) async fn predict(
    front: &Front,
    caller: &Caller,
    arrived: Instant,
    message: Bytes,
    permit: &mut Permit,
    progress: &mut Progress,
) -> Result<Predicted> {
    let snapshot = front.catalog.snapshot();
    let mut message = decode::message(message)?;
    progress.id = message.id.to_string();
    let model = message.model.clone();
    tracing::Span::current().record("target", &*model);
    if let Some(metrics) = snapshot.metrics(&model) {
        progress.metrics = Arc::clone(metrics);
    }
    super::control::check_version(&snapshot, &model, &message.version)?;
    let own_timeout = snapshot.pipelines.get(&*model).and_then(|pipeline| pipeline.timeout);
    let longest = arrived + front.limits.request_timeout_max;
    let deadline = match caller.deadline {
        Some(deadline) => deadline.min(longest),
        None => arrived + own_timeout.unwrap_or(front.limits.request_timeout_default),
    };
    let asked = timeout(&message)?.and_then(|timeout| arrived.checked_add(timeout));
    let call = Call {
        request_id: Arc::clone(&caller.request_id),
        arrived,
        deadline: asked.map_or(deadline, |asked| asked.min(deadline)),
        key: caller.key.clone().unwrap_or_else(|| Arc::clone(&caller.request_id)),
        tenant: caller.tenant.clone(),
        options: pipeline::RequestOptions::default(),
    };
    let raw = std::mem::take(&mut message.raw);
    let is_raw = !raw.is_empty();
    let inputs = decode::tensors(&message.inputs, raw)?;
    if !is_raw {
        // Elements that were packed take room that their message does not.
        permit.grow(inputs.iter().map(|input| input.tensor.byte_len()).sum())?;
    }
    let predicted = pipeline::predict(&snapshot, &model, &call, raw_or_tensors(inputs)).await?;
    let outputs = select(tensors_of(predicted.answer)?, &message.outputs)?;
    let version = served::version(&snapshot, &model).into();
    Ok(Predicted { model: (*model).into(), version, outputs, shadow: predicted.shadow })
}

/// The tensor that stands for the raw body of a pipeline with plugins of its own.
const BODY_TENSOR: &str = "body";

/// An answer as tensors: a raw one is a single BYTES element.
fn tensors_of(answer: Answer) -> Result<Vec<NamedTensor>> {
    match answer {
        Answer::Tensors(outputs) => Ok(outputs),
        Answer::Body(answer) => {
            let shape = Shape::new(&[1]).map_err(|error| to_error(&error))?;
            let tensor = Tensor::from_strings(shape, std::iter::once(&*answer.data));
            let tensor = tensor.map_err(|error| to_error(&error))?;
            Ok(vec![NamedTensor { name: BODY_TENSOR.into(), tensor }])
        }
    }
}

/// A single BYTES element called `body` is a raw body for the plugin.
fn raw_or_tensors(inputs: Vec<NamedTensor>) -> sluice_sandbox::Request {
    match &*inputs {
        [one]
            if *one.name == *BODY_TENSOR
                && one.tensor.dtype() == DType::Bytes
                && one.tensor.shape().elements() == 1 =>
        {
            // One element: everything behind its length.
            let data = one.tensor.to_dense().slice(size_of::<u32>()..);
            sluice_sandbox::Request::Body(HttpBody { content_type: None, data })
        }
        _ => sluice_sandbox::Request::Tensors(inputs),
    }
}

/// The outputs in the order asked for; all of them when none was named.
fn select(outputs: Vec<NamedTensor>, wanted: &[decode::Output]) -> Result<Vec<NamedTensor>> {
    if wanted.is_empty() {
        return Ok(outputs);
    }
    let mut picked: Vec<NamedTensor> = Vec::with_capacity(wanted.len());
    for wanted in wanted {
        let name = decode::shown(&wanted.name);
        if picked.iter().any(|output| *output.name == *wanted.name) {
            return Err(Error::new(Kind::BadRequest, format!("output '{name}' is asked for twice")));
        }
        let found = outputs.iter().find(|output| *output.name == *wanted.name).cloned();
        let fault = || Error::new(Kind::BadRequest, format!("there is no output '{name}'"));
        picked.push(found.ok_or_else(fault)?);
    }
    Ok(picked)
}

/// The id of a request that is not run.
pub(super) fn id_of(message: Bytes) -> String {
    decode::message(message).map(|message| message.id.to_string()).unwrap_or_default()
}

/// The request's `timeout` in microseconds, as Triton has it; 0 is none.
fn timeout(message: &Message) -> Result<Option<Duration>> {
    let microseconds = match decode::get(&message.parameters, "timeout") {
        None => return Ok(None),
        Some(Parameter::Int(value)) => u64::try_from(*value).ok(),
        Some(Parameter::Uint(value)) => Some(*value),
        Some(_) => None,
    };
    let fault = "parameter 'timeout' must be a whole number of microseconds, 0 or more";
    let microseconds = microseconds.ok_or_else(|| Error::new(Kind::BadRequest, fault))?;
    Ok((microseconds > 0).then(|| Duration::from_micros(microseconds)))
}
