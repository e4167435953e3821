//! A prediction: one request of a call, whether the call has one or a stream of them.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt as _;
use http::Response;
use tokio::time::Instant;
use tracing::Instrument as _;

use super::decode::{self, Message};
use super::encode::{self, Pieces};
use super::receive::Messages;
use super::reply::Reply;
use super::{Admitted, internal, metadata};
use crate::admission::Room;
use crate::catalog::Snapshot;
use crate::error::{Error, Kind, Result};
use crate::ingress;
use crate::ingress::http::{Front, exchange};
use crate::ingress::infer::{InferRequest, InferResponse, InferStream, Inferred};
use crate::ingress::memory::Reach;
use crate::ingress::offload;
use crate::ingress::pace::Pace;
use crate::observe::{self, OTHER, PipelineMetrics, Trace};
use crate::pipeline::Call;
use crate::wire_error::wire_error;

/// What a call's metadata says about each of its requests.
pub(super) struct Caller {
    pub(super) request_id: Arc<str>,
    /// When the caller no longer waits, if it says so.
    pub(super) deadline: Option<Instant>,
    key: Option<Arc<str>>,
    tenant: Option<Arc<str>>,
    reach: Reach,
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
            reach: admitted.reach.clone(),
        })
    }
}

fn deadline_passed() -> Error {
    Error::new(Kind::Deadline, "the request's deadline has passed")
}

/// What a request has come to.
pub(super) struct Predicted {
    pub(super) model: Box<str>,
    pub(super) response: InferResponse,
}

impl Predicted {
    /// Writes the answer; in a stream, whether it is the last one for its request.
    ///
    /// # Errors
    /// More bytes than a message can have.
    pub(super) fn encode(&self, id: &str, is_final: Option<bool>) -> Result<Pieces> {
        let InferResponse { version, outputs, in_memory, .. } = &self.response;
        encode::Response { model: &self.model, version, id, outputs, in_memory, is_final }.encode()
    }
}

/// A request that is being answered: what remains of it when it fails.
#[derive(Default)]
pub(super) struct Progress {
    pub(super) id: String,
    /// Where it counts, once it is known what it asks for.
    metrics: Option<Arc<PipelineMetrics>>,
    /// Where its times are noted, if it is traced.
    pub(super) trace: Option<Arc<Trace>>,
}

impl Progress {
    /// Counts a request that has ended, and logs it if it failed.
    pub(super) fn finish<T>(
        &self,
        front: &Front,
        outcome: &Result<T>,
        request_id: &str,
        arrived: Instant,
        span: &tracing::Span,
    ) {
        let metrics = self.metrics.as_ref().map_or_else(|| front.metrics.pipeline(OTHER), Arc::clone);
        match outcome {
            Ok(_) => metrics.request_finished("ok", "none", arrived.elapsed()),
            Err(error) => {
                let row = wire_error(error.kind());
                span.record("code", row.code);
                metrics.request_finished(row.code, row.fault.as_str(), arrived.elapsed());
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
    let mut progress = Progress::default();
    let request_id = Arc::clone(&admitted.request_id);
    let arrived = admitted.arrived;
    let inside = async {
        let caller = Caller::of(&admitted)?;
        // The permit lives until the answer is made, so that a drain waits for it.
        let overloaded = |_: &Error| front.metrics.rejected("overloaded");
        let arriving = front.admission.arrive(Some(&admitted.share)).inspect_err(overloaded)?;
        let mut room = front.admission.room();
        let message = receive(front, &caller, arrived, &mut admitted.messages, &mut room).await?;
        let _permit = arriving.enter().inspect_err(overloaded)?;
        let mut in_flight = front.metrics.request_in_flight(0);
        in_flight.set_bytes(message.len());
        let predicted = predict(front, &caller, arrived, message, &mut room, &mut progress).await?;
        let pieces = tracing::debug_span!("encode").in_scope(|| predicted.encode(&progress.id, None))?;
        Reply::message(pieces, admitted.packing, predicted.response.shadow).await
    };
    let outcome = AssertUnwindSafe(inside.instrument(span.clone())).catch_unwind().await;
    let outcome = outcome.unwrap_or_else(|_| Err(internal()));
    progress.finish(front, &outcome, &request_id, arrived, &span);
    outcome.unwrap_or_else(|error| Reply::error(&error)).map(|reply| reply.noted(progress.trace))
}

/// The one message of a call, in time.
async fn receive(
    front: &Front,
    caller: &Caller,
    arrived: Instant,
    messages: &mut Messages,
    room: &mut Room,
) -> Result<Bytes> {
    let body_deadline = arrived + front.limits.body_timeout;
    let deadline = caller.deadline.map_or(body_deadline, |deadline| deadline.min(body_deadline));
    let reading = read(messages, room, Pace::new(arrived, front.limits.body_timeout))
        .instrument(tracing::debug_span!("decode"));
    match tokio::time::timeout_at(deadline, reading).await {
        Ok(message) => message,
        Err(_) if deadline < body_deadline => Err(deadline_passed()),
        Err(_) => Err(Error::new(Kind::RequestTimeout, "the message did not arrive in time")),
    }
}

/// The one message of a call, counted.
///
/// # Errors
/// None, or more than one; and as [`Messages::next`].
pub(super) async fn read(messages: &mut Messages, room: &mut Room, pace: Pace) -> Result<Bytes> {
    let message = messages.next(Some(room), pace).await?;
    let message = message.ok_or_else(|| Error::new(Kind::BadRequest, "the call has no message"))?;
    if !messages.is_at_end().await? {
        return Err(Error::new(Kind::BadRequest, "the call has more than one message"));
    }
    Ok(message)
}

/// A request that was decoded, and may run.
struct Prepared {
    snapshot: Arc<Snapshot>,
    model: Box<str>,
    call: Call,
    request: InferRequest,
    wants_empty_final: bool,
}

/// Decodes a request.
///
/// # Errors
/// What is wrong with it.
async fn prepare(
    front: &Front,
    caller: &Caller,
    arrived: Instant,
    message: Bytes,
    room: &mut Room,
    progress: &mut Progress,
) -> Result<Prepared> {
    let snapshot = front.catalog.snapshot();
    let message = decode::message(message)?;
    progress.id = message.id.to_string();
    let model: Box<str> = (*message.model).into();
    tracing::Span::current().record("target", &*model);
    if let Some(metrics) = snapshot.metrics(&model) {
        progress.metrics = Some(Arc::clone(metrics));
    }
    // Who asks for a model that is not there need not be told what is wrong beside that.
    super::control::check_version(&snapshot, &model, &message.version)?;
    let own_timeout = snapshot.pipelines.get(&*model).and_then(|pipeline| pipeline.timeout);
    let longest = arrived + front.limits.request_timeout_max;
    let deadline = match caller.deadline {
        Some(deadline) => deadline.min(longest),
        None => arrived + own_timeout.unwrap_or(front.limits.request_timeout_default),
    };
    let call = Call::new(Arc::clone(&caller.request_id), deadline);
    let key = caller.key.clone().unwrap_or_else(|| Arc::clone(&caller.request_id));
    let trace = ingress::served::trace(&front.tracer, &snapshot, &model, &caller.request_id);
    if let Some(trace) = &trace {
        trace.event_at("GRPC_WAITREAD_START", arrived);
        trace.event("GRPC_WAITREAD_END");
    }
    progress.trace.clone_from(&trace);
    let call = Call { arrived, key, tenant: caller.tenant.clone(), trace, ..call };
    let wants_empty_final = message.wants_empty_final();
    let request = read_request(front, caller, message, room, deadline).await?;
    Ok(Prepared { snapshot, model, call, request, wants_empty_final })
}

/// Reads the tensors of a request, wherever it is done: raw ones are there, contents are read one
/// element after the other.
async fn read_request(
    front: &Front,
    caller: &Caller,
    message: Message,
    room: &mut Room,
    deadline: Instant,
) -> Result<InferRequest> {
    let bytes: usize = message.inputs.iter().map(|input| input.contents.byte_len()).sum();
    if bytes < offload::LARGE_BYTES {
        return message.request(&caller.reach, &mut |bytes| room.grow(bytes));
    }
    // What it holds is held as long as it is worked on, also when nobody waits any more.
    let (reach, mut taken) = (caller.reach.clone(), std::mem::replace(room, front.admission.room()));
    let read = move || {
        let request = message.request(&reach, &mut |bytes| taken.grow(bytes))?;
        Ok((request, taken))
    };
    let (request, taken) = offload::run(bytes, deadline, read).await?;
    *room = taken;
    Ok(request)
}

/// Decodes a request and runs it.
///
/// # Errors
/// Every kind in the table.
async fn predict(
    front: &Front,
    caller: &Caller,
    arrived: Instant,
    message: Bytes,
    room: &mut Room,
    progress: &mut Progress,
) -> Result<Predicted> {
    let Prepared { snapshot, model, call, request, .. } =
        prepare(front, caller, arrived, message, room, progress).await?;
    let response = ingress::infer::infer(&snapshot, &model, call, request).await?;
    Ok(Predicted { model, response })
}

/// What came of a request of a stream.
pub(super) enum Answered {
    /// One answer.
    One(Predicted),
    /// Several, of which the first is there.
    Many { model: Box<str>, answers: Box<InferStream>, wants_empty_final: bool },
}

/// Decodes a request of a stream and runs it, until there is something to say.
///
/// # Errors
/// Every kind in the table.
pub(super) async fn predict_stream(
    front: &Front,
    caller: &Caller,
    arrived: Instant,
    message: Bytes,
    room: &mut Room,
    progress: &mut Progress,
) -> Result<Answered> {
    let Prepared { snapshot, model, call, request, wants_empty_final } =
        prepare(front, caller, arrived, message, room, progress).await?;
    match ingress::infer::infer_stream(snapshot, &model, call, request).await? {
        Inferred::One(response) => Ok(Answered::One(Predicted { model, response })),
        Inferred::Many(answers) => Ok(Answered::Many { model, answers, wants_empty_final }),
    }
}
