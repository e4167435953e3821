//! An answer in parts as the body of a response. The request's place stays taken, and the
//! plugin's call goes on, until the last part is out, the caller has gone, or the deadline
//! has passed.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderName, HeaderValue};
use hyper::body::{Body as HttpBody, Frame};
use sluice_sandbox::Part;
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use super::exchange::{self, Inside};
use super::framing::Framing;
use crate::admission::Room;
use crate::error::{Error, Kind, Result};
use crate::observe::PipelineMetrics;
use crate::pipeline::{PartStream, ShadowRun};
use crate::wire_error::wire_error;

/// Keeps proxies from collecting a stream before they pass it on.
const ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

/// An answer whose parts are still coming.
pub(super) struct Outgoing {
    stream: Box<PartStream>,
    framing: Framing,
    content_type: HeaderValue,
    deadline: Instant,
    room: Room,
}

impl Outgoing {
    /// # Errors
    /// [`Kind::PluginOutput`] for a content type that is none.
    pub(super) fn new(
        stream: Box<PartStream>,
        deadline: Instant,
        room: Room,
        frame: impl FnOnce(&Part) -> Framing,
    ) -> Result<Self> {
        let internal = || Error::new(Kind::Internal, "internal error").with_detail("a stream without a part");
        let first = stream.first().ok_or_else(internal)?;
        let framing = frame(first);
        let content_type = HeaderValue::from_str(&framing.content_type(first))
            .map_err(|_| Error::new(Kind::PluginOutput, "the plugin's content type is not valid"))?;
        Ok(Self { stream, framing, content_type, deadline, room })
    }

    /// The response; what is `inside` goes when it is over.
    pub(super) fn respond(self, inside: Inside, count: Count) -> Response {
        let held = Held { stream: self.stream, _inside: inside, _room: self.room };
        let held = Arc::new(Mutex::new(Some(held)));
        let release = {
            let (held, late) = (Arc::clone(&held), self.deadline + UNREAD_TIME_MAX);
            tokio::spawn(async move {
                tokio::time::sleep_until(late).await;
                drop(lock(&held).take());
            })
        };
        let body = Parts {
            held,
            framing: self.framing,
            broken: None,
            count: Some(count),
            shadow: None,
            _release: AbortOnDropHandle::new(release),
        };
        let headers = [
            (CONTENT_TYPE, self.content_type),
            (CACHE_CONTROL, HeaderValue::from_static("no-cache")),
            (ACCEL_BUFFERING, HeaderValue::from_static("no")),
        ];
        (headers, Body::new(body)).into_response()
    }
}

/// Where the end of a stream is counted and logged.
pub(super) struct Count {
    pub(super) metrics: Arc<PipelineMetrics>,
    pub(super) arrived: Instant,
    pub(super) span: tracing::Span,
    pub(super) request_id: Arc<str>,
}

impl Count {
    pub(super) fn ok(&self) {
        self.metrics.request_finished("ok", "none", self.arrived.elapsed());
    }

    pub(super) fn failed(&self, error: &Error) {
        let row = wire_error(error.kind());
        self.span.record("code", row.code);
        self.metrics.request_finished(row.code, row.fault.as_str(), self.arrived.elapsed());
        exchange::log(error, row, &self.request_id);
    }
}

/// What an answer in parts holds until it is over: with the stream the plugin's call.
struct Held {
    stream: Box<PartStream>,
    _inside: Inside,
    _room: Room,
}

/// How long after its deadline an answer that nobody reads is given up. The stream itself
/// says that it is late, if somebody asks it; who reads nothing does not, and would hold the
/// plugin's call, and everybody's place, for ever.
const UNREAD_TIME_MAX: Duration = Duration::from_millis(100);

fn lock(held: &Mutex<Option<Held>>) -> MutexGuard<'_, Option<Held>> {
    held.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Parts {
    /// `None` once it is over.
    held: Arc<Mutex<Option<Held>>>,
    framing: Framing,
    /// What breaks the answer off at the next poll: an error that comes with the head of the
    /// answer would take that along, and the caller would not even see its status.
    broken: Option<axum::Error>,
    count: Option<Count>,
    shadow: Option<Box<ShadowRun>>,
    _release: AbortOnDropHandle<()>,
}

impl Parts {
    /// Ends well: what is left to write, and then nothing.
    fn end(&mut self) -> Option<Bytes> {
        if let Some(mut held) = lock(&self.held).take() {
            self.shadow = held.stream.take_shadow();
        }
        if let Some(count) = self.count.take() {
            count.ok();
        }
        self.framing.end()
    }

    /// Ends badly: with an event that says so, or by breaking the connection off.
    fn fail(&mut self, error: &Error) -> std::result::Result<Bytes, axum::Error> {
        drop(lock(&self.held).take());
        let count = self.count.take();
        if let Some(count) = &count {
            count.failed(error);
        }
        let request_id = count.as_ref().map_or("", |count| &count.request_id);
        self.framing.error(error, request_id).ok_or_else(|| axum::Error::new(error.clone()))
    }
}

impl HttpBody for Parts {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<std::result::Result<Frame<Bytes>, Self::Error>>> {
        let this = &mut *self;
        if let Some(error) = this.broken.take() {
            return Poll::Ready(Some(Err(error)));
        }
        loop {
            let next = match &mut *lock(&this.held) {
                Some(held) => std::task::ready!(held.stream.poll_next(cx)),
                None if this.count.is_none() => return Poll::Ready(None),
                // It was not read in time, and is now.
                None => Some(Err(Error::new(Kind::Deadline, "the deadline has passed"))),
            };
            let written = match next {
                None => match this.end() {
                    Some(rest) => Ok(rest),
                    None => return Poll::Ready(None),
                },
                Some(Err(error)) => this.fail(&error),
                Some(Ok(next)) => match this.framing.part(next.part) {
                    Ok(bytes) if bytes.is_empty() => continue,
                    Ok(bytes) => Ok(bytes),
                    Err(error) => this.fail(&error),
                },
            };
            return match written {
                Ok(bytes) => Poll::Ready(Some(Ok(Frame::data(bytes)))),
                Err(error) => {
                    this.broken = Some(error);
                    cx.waker().wake_by_ref();
                    Poll::Pending
                }
            };
        }
    }
}

impl Drop for Parts {
    fn drop(&mut self) {
        if let Some(count) = self.count.take() {
            // The caller went away, which ends the plugin's call: 499 in the log of a proxy.
            count.span.record("code", "cancelled");
            count.metrics.request_finished("cancelled", "caller", count.arrived.elapsed());
        }
        if let Some(shadow) = self.shadow.take() {
            shadow.start();
        }
    }
}
