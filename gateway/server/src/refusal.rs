//! Answers to requests that are refused before a handler works on them, and the ids
//! that all answers carry.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};
use http::header::EXPECT;
use http::{HeaderMap, HeaderName};
use http_body_util::BodyExt;

use crate::error::{Error, Kind};
use crate::wire_error;

/// The caller's id of a request, echoed in the answer and in our logs and traces.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Longest request id that is taken over; a longer or odd one is replaced.
const REQUEST_ID_BYTES_MAX: usize = 128;

/// The caller's id if it is short and printable, else a new one.
pub fn request_id(headers: &HeaderMap) -> Arc<str> {
    let given = headers.get(REQUEST_ID).and_then(|value| value.to_str().ok());
    match given {
        Some(id) if is_plain(id) => id.into(),
        _ => fresh_id(),
    }
}

/// Whether text is short and printable ASCII, fit for a header and a log.
pub fn is_plain(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= REQUEST_ID_BYTES_MAX
        && text.bytes().all(|byte| (0x21..0x7f).contains(&byte))
}

/// An id that no other request of this process has.
pub fn fresh_id() -> Arc<str> {
    use std::hash::BuildHasher;
    static SEQUENCE: AtomicU64 = AtomicU64::new(0);
    static PROCESS: std::sync::LazyLock<u64> =
        std::sync::LazyLock::new(|| std::hash::RandomState::new().hash_one(std::process::id()));
    let number = SEQUENCE.fetch_add(1, Ordering::Relaxed);
    format!("{:016x}-{number:x}", *PROCESS).into()
}

/// Most bytes that are read and thrown away behind a refusal, and for how long. A
/// connection that is closed under a client that still writes is reset, and the client
/// never sees the answer; a larger body is not worth that.
const DISCARDED_BYTES_MAX: usize = 1 << 20;
const DISCARDED_TIME_MAX: Duration = Duration::from_millis(250);

/// The same for a request that is too large, or one too many, whose sender was let in: most clients
/// look for an answer only when all is sent, and would otherwise be told of a broken pipe.
/// Nothing of it is kept, so that the time is what bounds it.
const BODY_DISCARDED_BYTES_MAX: usize = 256 << 20;
const BODY_DISCARDED_TIME_MAX: Duration = Duration::from_millis(500);

/// Reads a little of the body of a request that was refused. A client that asks before
/// it sends (`Expect: 100-continue`) is not told to send.
pub async fn discard_request(request: Request) {
    if !request.headers().contains_key(EXPECT) {
        discard(request.into_body()).await;
    }
}

/// Reads the body of a request that was let in and cannot be taken, within bounds.
pub async fn discard_body(request: Request) {
    if !request.headers().contains_key(EXPECT) {
        discard_rest(request.into_body()).await;
    }
}

/// Reads the rest of such a body, within bounds.
pub async fn discard_rest(body: Body) {
    read_away(body, BODY_DISCARDED_BYTES_MAX, BODY_DISCARDED_TIME_MAX).await;
}

/// Reads what is left of a body that comes in pieces, within the same time.
pub async fn discard_pieces(pieces: impl Stream) {
    let read = pieces.for_each(|_| std::future::ready(()));
    let _ = tokio::time::timeout(BODY_DISCARDED_TIME_MAX, read).await;
}

/// Reads a little of a body.
async fn discard(body: Body) {
    read_away(body, DISCARDED_BYTES_MAX, DISCARDED_TIME_MAX).await;
}

async fn read_away(mut body: Body, bytes_max: usize, time_max: Duration) {
    let mut left = bytes_max;
    let read = async {
        while let Some(Ok(frame)) = body.frame().await {
            match left.checked_sub(frame.data_ref().map_or(0, Bytes::len)) {
                Some(rest) => left = rest,
                None => return,
            }
        }
    };
    // Running out of time is as good an end as any.
    let _ = tokio::time::timeout(time_max, read).await;
}

/// Answers a request with an error, and reads a little of what it still sends.
pub async fn respond(error: Error, request: Request) -> Response {
    let id = request_id(request.headers());
    if let Some(detail) = error.detail() {
        tracing::debug!(request_id = &*id, error = %error, detail, "request refused");
    }
    discard_request(request).await;
    wire_error::respond(&error, &id)
}

/// Any path that is no route.
pub async fn no_route(request: Request) -> Response {
    respond(Error::new(Kind::NotFound, "no such route"), request).await
}

/// A known path under a method that it does not have.
pub async fn no_method(request: Request) -> Response {
    respond(Error::new(Kind::MethodNotAllowed, "this route has other methods"), request).await
}
