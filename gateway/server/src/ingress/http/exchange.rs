//! What surrounds a prediction, whatever the protocol: the request's id and span,
//! admission, the deadline, the body, and in the end the answer or the error, and
//! the count of it.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::Request;
use axum::response::Response;
use bytes::Bytes;
use futures_util::FutureExt;
use http::header::ACCEPT_ENCODING;
use http::{HeaderMap, HeaderName, HeaderValue};
use tokio::time::Instant;
use tracing::Instrument;

use super::parts::{Count, Outgoing};
use super::{Front, after, body};
use crate::admission::{Permit, Room};
use crate::auth::{Connection, Identity};
use crate::catalog::Snapshot;
use crate::error::{Error, Kind, Result};
use crate::ingress::memory::Reach;
use crate::ingress::pace::Pace;
use crate::ingress::served;
use crate::observe::{self, InFlight, OTHER};
use crate::pipeline::{Call, ShadowRun};
use crate::refusal::{self, REQUEST_ID, request_id};
use crate::wire_error;

/// How long the caller is willing to wait, in milliseconds.
pub(super) const REQUEST_TIMEOUT: HeaderName = HeaderName::from_static("x-request-timeout-ms");

/// What keeps a caller on one version of a plugin while two share the requests: a user's or
/// session's id.
pub(super) const ROUTING_KEY: HeaderName = HeaderName::from_static("x-sluice-key");

/// Longest routing key. Ids have some dozens of characters.
const ROUTING_KEY_BYTES_MAX: usize = 256;

/// A prediction that was let in, with its whole body.
pub(super) struct Admitted {
    pub(super) snapshot: Arc<Snapshot>,
    pub(super) call: Call,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
    pub(super) memory: Memory,
}

/// The shared memory that a caller reaches; and room for the body, what is read of shared
/// memory, and what is made of both.
pub(super) struct Memory {
    pub(super) reach: Reach,
    pub(super) room: Room,
}

/// An answer as it goes out, and what is to be run when it is out.
pub(super) enum Encoded {
    /// All of it.
    Whole { response: Response, shadow: Option<Box<ShadowRun>> },
    /// What comes in parts.
    Parts(Box<Outgoing>),
}

/// What a request holds while it is inside: a drain waits for it.
pub(super) struct Inside {
    _permit: Permit,
    _in_flight: InFlight,
}

/// Runs one prediction for `target`: admits it, reads its body, hands both to
/// `work`, and answers with what comes of it.
pub(super) async fn predict<W, F>(front: Arc<Front>, target: &str, request: Request, work: W) -> Response
where
    W: FnOnce(Admitted) -> F + Send,
    F: Future<Output = Result<Encoded>> + Send,
{
    let snapshot = front.catalog.snapshot();
    predict_in(snapshot, front, target, request, work).await
}

/// The same in a snapshot that was looked at already: a request uses one from start to end.
pub(super) async fn predict_in<W, F>(
    snapshot: Arc<Snapshot>,
    front: Arc<Front>,
    target: &str,
    request: Request,
    work: W,
) -> Response
where
    W: FnOnce(Admitted) -> F + Send,
    F: Future<Output = Result<Encoded>> + Send,
{
    let request_id = request_id(request.headers());
    let metrics = snapshot.metrics(target).map_or_else(|| front.metrics.pipeline(OTHER), Arc::clone);
    let arrived = Instant::now();
    let span =
        tracing::debug_span!("predict", target, request_id = &*request_id, code = tracing::field::Empty);
    observe::set_parent(&span, request.headers());
    let trace = served::trace(&front.tracer, &snapshot, target, &request_id);
    let call_trace = trace.clone();
    // Futures stay where they are made: moving one copies all that it will ever hold.
    let inside = std::pin::pin!(
        async {
            // The permit lives until the answer is made, so that a drain waits for it.
            if let Err(error) = body::check_length(request.headers(), front.limits.body_bytes_max) {
                refusal::discard_body(request).await;
                return Err(error);
            }
            if !snapshot.serves(target) {
                refusal::discard_request(request).await;
                return Err(served::unknown(target));
            }
            let overloaded = |_: &Error| front.metrics.rejected("overloaded");
            let share = request.extensions().get::<Connection>().map(|connection| &connection.share);
            let arriving = match front.admission.arrive(share).inspect_err(overloaded) {
                Ok(arriving) => arriving,
                Err(error) => {
                    refusal::discard_body(request).await;
                    return Err(error);
                }
            };
            let admitted = admit(&front, snapshot, target, Arc::clone(&request_id), arrived, request).await?;
            let permit = arriving.enter().inspect_err(overloaded)?;
            let mut in_flight = front.metrics.request_in_flight(0);
            if let Some(trace) = &call_trace {
                trace.event_at("HTTP_RECV_START", arrived);
                trace.event("HTTP_RECV_END");
            }
            let mut admitted = admitted;
            admitted.call.trace = call_trace;
            in_flight.set_bytes(admitted.body.len());
            // What is answered in parts stays inside until the last of them is out.
            let encoded = Box::pin(work(admitted)).await?;
            Ok((encoded, Inside { _permit: permit, _in_flight: in_flight }))
        }
        .instrument(span.clone())
    );
    let outcome = AssertUnwindSafe(inside).catch_unwind().await;
    let outcome = outcome.unwrap_or_else(|_| Err(Error::new(Kind::Internal, "internal error")));
    let count = Count { metrics, arrived, span, request_id: Arc::clone(&request_id) };
    let mut response = after::note_sent(finish(outcome, count), trace);
    if let Ok(value) = HeaderValue::from_str(&request_id) {
        response.headers_mut().insert(REQUEST_ID, value);
    }
    response
}

async fn admit(
    front: &Front,
    snapshot: Arc<Snapshot>,
    target: &str,
    request_id: Arc<str>,
    arrived: Instant,
    request: Request,
) -> Result<Admitted> {
    let own_timeout = snapshot.pipelines.get(target).and_then(|pipeline| pipeline.timeout);
    let timeout = match timeout_header(request.headers())? {
        Some(asked) => asked.min(front.limits.request_timeout_max),
        None => own_timeout.unwrap_or(front.limits.request_timeout_default),
    };
    let key = routing_key(request.headers())?.unwrap_or_else(|| Arc::clone(&request_id));
    let identity = request.extensions().get::<Identity>();
    let connection = request.extensions().get::<Connection>();
    let reach = Reach::of(front, identity, request.uri(), request.headers(), connection);
    let mut memory = Memory { reach, room: front.admission.room() };
    let tenant = identity.and_then(|identity| identity.owner.clone());
    let call = Call { arrived, key, tenant, ..Call::new(request_id, arrived + timeout) };
    let (parts, incoming) = request.into_parts();
    let encoding = body::encoding(&parts.headers)?;
    let reading = async {
        let pace = Pace::new(arrived, front.limits.body_timeout);
        body::read_unpacked(incoming, encoding, pace, front.limits.body_bytes_max, &mut memory.room).await
    };
    let body = reading.instrument(tracing::debug_span!("decode")).await?;
    Ok(Admitted { snapshot, call, headers: parts.headers, body, memory })
}

fn finish(outcome: Result<(Encoded, Inside)>, count: Count) -> Response {
    match outcome {
        Ok((Encoded::Parts(outgoing), inside)) => outgoing.respond(inside, count),
        Ok((Encoded::Whole { response, shadow }, _inside)) => {
            count.ok();
            match shadow {
                Some(shadow) => after::run_after(response, shadow),
                None => response,
            }
        }
        Err(error) => {
            count.failed(&error);
            let mut response = wire_error::respond(&error, &count.request_id);
            if error.kind() == Kind::UnsupportedMedia {
                // What a body may be packed with.
                let packed = HeaderValue::from_static("gzip, deflate");
                response.headers_mut().insert(ACCEPT_ENCODING, packed);
            }
            response
        }
    }
}

/// A caller's mistake is the caller's business; anything else is ours to know.
pub(in crate::ingress) fn log(error: &Error, row: wire_error::WireError, request_id: &str) {
    let detail = error.detail().unwrap_or("");
    if row.fault == wire_error::Fault::Caller {
        tracing::debug!(request_id, code = row.code, error = %error, detail, "request refused");
    } else if observe::is_failure_written(error.plugin(), row.code) {
        tracing::warn!(request_id, code = row.code, fault = row.fault.as_str(), error = %error, detail, "request failed");
    }
}

/// What keeps a caller on one version of a plugin, if the caller says it.
pub(in crate::ingress) fn routing_key(headers: &HeaderMap) -> Result<Option<Arc<str>>> {
    let Some(value) = headers.get(ROUTING_KEY) else { return Ok(None) };
    match value.to_str() {
        Ok(key) if !key.is_empty() && key.len() <= ROUTING_KEY_BYTES_MAX => Ok(Some(key.into())),
        _ => Err(Error::new(
            Kind::BadRequest,
            format!("x-sluice-key must be 1 to {ROUTING_KEY_BYTES_MAX} printable characters"),
        )),
    }
}

fn timeout_header(headers: &HeaderMap) -> Result<Option<Duration>> {
    let Some(value) = headers.get(REQUEST_TIMEOUT) else { return Ok(None) };
    let milliseconds = value.to_str().ok().and_then(|text| text.parse::<u32>().ok()).filter(|ms| *ms > 0);
    let fault = || {
        Error::new(Kind::BadRequest, "x-request-timeout-ms must be a whole number of milliseconds above 0")
    };
    milliseconds.map(|ms| Some(Duration::from_millis(u64::from(ms)))).ok_or_else(fault)
}
