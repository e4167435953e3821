//! gRPC: the inference service of the Open Inference Protocol with Triton's extensions,
//! health and reflection.
//!
//! A call is found in the table below, let in by the same door as over HTTP, and read and
//! answered here, on the bare HTTP/2 of the listener. Errors come from the one table.

mod compress;
mod contents;
mod control;
mod decode;
mod encode;
mod health;
mod infer;
mod metadata;
mod methods;
mod outbox;
mod receive;
mod reflection;
mod reply;
mod schema;
mod settings;
mod status;
mod stream;
mod transcode;
mod wire;

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt as _;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use tokio::time::Instant;

pub use methods::{METHODS, Rpc};
pub use reply::Reply;

use self::compress::Compression;
use self::encode::Pieces;
use self::methods::Call;
use self::receive::Messages;
use super::http::Front;
use super::memory::Reach;
use super::pace::Pace;
use crate::admission::Share;
use crate::auth::{Access, Connection, Door, Identity};
use crate::error::{Error, Kind, Result};
use crate::refusal::{REQUEST_ID, request_id};

/// Most bytes of a message that is no prediction: names and settings. A model that is
/// loaded may bring its files, and has the limit of a prediction.
const CONTROL_BYTES_MAX: usize = 64 << 10;

/// How long a message that is no prediction may take to arrive.
const CONTROL_TIME_MAX: Duration = Duration::from_secs(10);

/// What serves calls.
pub struct Server {
    front: Arc<Front>,
    door: Arc<Door>,
}

/// A call that was let in.
struct Admitted {
    headers: HeaderMap,
    identity: Identity,
    request_id: Arc<str>,
    arrived: Instant,
    messages: Messages,
    /// The shared memory that the caller reaches.
    reach: Reach,
    /// The bodies that are arriving over its connection.
    share: Share,
    /// How the answer's messages are compressed.
    packing: Option<Compression>,
}

/// What a bug is called.
fn internal() -> Error {
    Error::new(Kind::Internal, "internal error")
}

impl Server {
    /// Serves what `front` serves, to whom `door` lets in.
    pub fn new(front: Arc<Front>, door: Arc<Door>) -> Arc<Self> {
        Arc::new(Self { front, door })
    }

    /// Answers one call. Dropping the future, or the body that it gives, cancels it.
    pub async fn respond(
        self: &Arc<Self>,
        request: Request<Incoming>,
        connection: Connection,
    ) -> Response<Reply> {
        let request_id = request_id(request.headers());
        let answer = self.answer(request, connection, Arc::clone(&request_id));
        let outcome = AssertUnwindSafe(answer).catch_unwind().await.unwrap_or_else(|_| Err(internal()));
        let mut response = outcome.unwrap_or_else(|error| Reply::error(&error));
        if let Ok(value) = HeaderValue::from_str(&request_id) {
            response.headers_mut().insert(REQUEST_ID, value);
        }
        response
    }

    async fn answer(
        self: &Arc<Self>,
        request: Request<Incoming>,
        connection: Connection,
        request_id: Arc<str>,
    ) -> Result<Response<Reply>> {
        let arrived = Instant::now();
        let (mut parts, body) = request.into_parts();
        if let Some(status) = is_not_grpc(&parts.method, &parts.headers) {
            return Ok(Reply::not_grpc(status));
        }
        let rpc = methods::find(parts.uri.path());
        let access = rpc.map_or(Access::Known, |rpc| rpc.access);
        let identity = self.door.check(access, &parts.uri, &parts.headers, Some(&connection))?;
        // Whatever works on the call has no need of the token, and cannot show it.
        parts.headers.remove(AUTHORIZATION);
        let Some(rpc) = rpc else {
            return Err(Error::new(Kind::MethodNotAllowed, "there is no such method"));
        };
        let compression = Compression::of(&parts.headers)?;
        let has_files = matches!(rpc.call, Call::Infer | Call::Stream | Call::RepositoryLoad);
        let bytes_max = if has_files { self.front.limits.body_bytes_max } else { CONTROL_BYTES_MAX };
        let messages = Messages::new(body, compression, bytes_max);
        let reach = Reach::of(&self.front, Some(&identity), &parts.uri, &parts.headers, Some(&connection));
        let headers = parts.headers;
        let packing = compression.and_then(|compression| compression.of_answer(&headers));
        let share = connection.share;
        let admitted = Admitted { headers, identity, request_id, arrived, messages, reach, share, packing };
        self.dispatch(rpc.call, admitted).await
    }

    async fn dispatch(self: &Arc<Self>, call: Call, mut admitted: Admitted) -> Result<Response<Reply>> {
        match call {
            Call::Infer => return Ok(infer::unary(&self.front, admitted).await),
            Call::Stream => return stream::open(self, admitted),
            Call::Reflection => return Ok(reflection::info(self, admitted.messages)),
            Call::RepositoryLoad => return self.load(admitted).await,
            _ => {}
        }
        let timeout = metadata::timeout(&admitted.headers)?;
        let deadline = admitted.arrived + timeout.unwrap_or(CONTROL_TIME_MAX).min(CONTROL_TIME_MAX);
        let request =
            tokio::time::timeout_at(deadline, single(&mut admitted.messages, admitted.arrived)).await;
        let request =
            request.map_err(|_| Error::new(Kind::RequestTimeout, "the message did not arrive in time"))??;
        if call == Call::HealthWatch {
            return health::watch(self, request);
        }
        let pieces = match call {
            Call::HealthCheck => health::check(self, request)?,
            call => control::answer(&self.front, call, &admitted, request).await?,
        };
        Reply::message(pieces, admitted.packing, None).await
    }

    async fn load(&self, mut admitted: Admitted) -> Result<Response<Reply>> {
        let overloaded = |_: &Error| self.front.metrics.rejected("overloaded");
        let arriving = self.front.admission.arrive(Some(&admitted.share)).inspect_err(overloaded)?;
        let mut room = self.front.admission.room();
        let pace = Pace::new(admitted.arrived, self.front.limits.body_timeout);
        let reading = infer::read(&mut admitted.messages, &mut room, pace);
        let deadline = admitted.arrived + self.front.limits.body_timeout;
        let request = tokio::time::timeout_at(deadline, reading).await;
        let request =
            request.map_err(|_| Error::new(Kind::RequestTimeout, "the message did not arrive in time"))??;
        let _permit = arriving.enter().inspect_err(overloaded)?;
        let pieces: Pieces = control::answer(&self.front, Call::RepositoryLoad, &admitted, request).await?;
        Reply::message(pieces, admitted.packing, None).await
    }
}

/// The one message of a call that has one.
///
/// # Errors
/// None, or more than one; and as [`Messages::next`].
async fn single(messages: &mut Messages, arrived: Instant) -> Result<Bytes> {
    let message = messages.next(None, Pace::new(arrived, CONTROL_TIME_MAX)).await?;
    let message = message.ok_or_else(|| Error::new(Kind::BadRequest, "the call has no message"))?;
    if !messages.is_at_end().await? {
        return Err(Error::new(Kind::BadRequest, "the call has more than one message"));
    }
    Ok(message)
}

/// What to tell somebody who does not speak gRPC, in HTTP's own terms.
fn is_not_grpc(method: &Method, headers: &HeaderMap) -> Option<StatusCode> {
    if method != Method::POST {
        return Some(StatusCode::METHOD_NOT_ALLOWED);
    }
    let kind = headers.get(CONTENT_TYPE).map_or(&b""[..], HeaderValue::as_bytes);
    let rest = kind.strip_prefix(b"application/grpc");
    // `+proto` is ours; gRPC-Web and JSON are other protocols.
    let is_ours = rest.is_some_and(|rest| {
        rest.is_empty() || rest.starts_with(b";") || rest == b"+proto" || rest.starts_with(b"+proto;")
    });
    (!is_ours).then_some(StatusCode::UNSUPPORTED_MEDIA_TYPE)
}
