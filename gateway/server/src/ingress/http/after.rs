//! Work for when an answer is out: it begins when the connection has taken the last byte,
//! or has gone away.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use hyper::body::{Body as HttpBody, Frame, SizeHint};

use crate::observe::Trace;
use crate::pipeline::ShadowRun;

/// A body whose end is noted, and starts a shadow run.
struct Last {
    inner: Body,
    shadow: Option<Box<ShadowRun>>,
    trace: Option<Arc<Trace>>,
}

impl HttpBody for Last {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        Pin::new(&mut self.inner).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

impl Drop for Last {
    fn drop(&mut self) {
        // The connection drops a body once it has all of it.
        if let Some(trace) = &self.trace {
            trace.event("HTTP_SEND_END");
        }
        if let Some(shadow) = self.shadow.take() {
            shadow.start();
        }
    }
}

/// The same response, with a run that starts when it is sent.
pub(super) fn run_after(response: Response, shadow: Box<ShadowRun>) -> Response {
    response.map(|inner| Body::new(Last { inner, shadow: Some(shadow), trace: None }))
}

/// The same response; when its sending begins and ends is noted, if the request is traced.
pub(super) fn note_sent(response: Response, trace: Option<Arc<Trace>>) -> Response {
    let Some(trace) = trace else { return response };
    trace.event("HTTP_SEND_START");
    response.map(|inner| Body::new(Last { inner, shadow: None, trace: Some(trace) }))
}
