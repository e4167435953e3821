//! The body of an answer: messages, and behind them how the call ended.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use hyper::body::{Body, Frame, SizeHint};
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

use super::compress::{self, Compression, ENCODING};
use super::encode::Pieces;
use super::status;
use crate::admission::Room;
use crate::error::{Error, Kind, Result};
use crate::observe::Trace;
use crate::pipeline::ShadowRun;

const GRPC: HeaderValue = HeaderValue::from_static("application/grpc");

/// What a stream's task hands to the connection.
pub(super) enum Event {
    /// A message.
    Message(Parcel),
    /// The end: the status in its trailers.
    End(HeaderMap),
}

/// A message on its way out, and the room that it takes until it has been written.
pub(super) struct Parcel {
    pub(super) pieces: Pieces,
    pub(super) room: Option<Room>,
}

impl From<Pieces> for Parcel {
    fn from(pieces: Pieces) -> Self {
        Self { pieces, room: None }
    }
}

/// The body of an answer.
pub struct Reply {
    /// What goes out next, last piece first.
    pieces: Pieces,
    /// That of the message in several.
    room: Option<Room>,
    then: Then,
    /// Runs when the answer has been taken, or its reader is gone.
    shadow: Option<Box<ShadowRun>>,
    /// Where the sending is noted, if the request is traced.
    trace: Option<Arc<Trace>>,
}

enum Then {
    Nothing,
    Trailers(HeaderMap),
    Stream {
        events: mpsc::Receiver<Event>,
        /// Whoever drops the body, because its reader is gone, ends the work for it.
        _task: AbortOnDropHandle<()>,
    },
}

impl Reply {
    fn respond(mut pieces: Pieces, then: Then, shadow: Option<Box<ShadowRun>>) -> Response<Self> {
        pieces.reverse();
        let mut response = Response::new(Self { pieces, room: None, then, shadow, trace: None });
        response.headers_mut().insert(CONTENT_TYPE, GRPC);
        response
    }

    /// One message and a good end.
    ///
    /// # Errors
    /// The message is larger than one can be.
    pub(super) async fn message(
        pieces: Pieces,
        packing: Option<Compression>,
        shadow: Option<Box<ShadowRun>>,
    ) -> Result<Response<Self>> {
        let Some(packing) = packing else {
            return Ok(Self::respond(pieces, Then::Trailers(status::ok()), shadow));
        };
        let pieces = packing.pack_message(pieces).await?;
        Ok(packed(Self::respond(pieces, Then::Trailers(status::ok()), shadow), packing))
    }

    /// Bytes that it holds.
    pub(in crate::ingress) fn byte_len(&self) -> usize {
        self.pieces.iter().map(Bytes::len).sum()
    }

    /// The same; when its sending begins and ends is noted.
    pub(super) fn noted(mut self, trace: Option<Arc<Trace>>) -> Self {
        if let Some(trace) = &trace {
            trace.event("GRPC_SEND_START");
        }
        self.trace = trace;
        self
    }

    /// An error, which needs no body: it stands in the headers.
    pub(super) fn error(error: &Error) -> Response<Self> {
        let mut response = Self::respond(Pieces::new(), Then::Nothing, None);
        response.headers_mut().extend(status::failed(error));
        if error.kind() == Kind::UnsupportedMedia {
            response.headers_mut().insert(compress::ACCEPTED, compress::SERVED);
        }
        response
    }

    /// What a task makes; it ends when nobody reads any more.
    pub(super) fn stream(events: mpsc::Receiver<Event>, task: AbortOnDropHandle<()>) -> Response<Self> {
        Self::respond(Pieces::new(), Then::Stream { events, _task: task }, None)
    }

    /// The same with messages that are compressed.
    pub(super) fn packed_stream(
        events: mpsc::Receiver<Event>,
        task: AbortOnDropHandle<()>,
        packing: Option<Compression>,
    ) -> Response<Self> {
        let response = Self::stream(events, task);
        match packing {
            Some(packing) => packed(response, packing),
            None => response,
        }
    }

    /// An answer in HTTP's own terms, to somebody who does not speak gRPC.
    pub(super) fn not_grpc(status: StatusCode) -> Response<Self> {
        let mut response = Self::respond(Pieces::new(), Then::Nothing, None);
        response.headers_mut().clear();
        *response.status_mut() = status;
        response
    }
}

/// Says how the messages are compressed.
fn packed(mut response: Response<Reply>, packing: Compression) -> Response<Reply> {
    response.headers_mut().insert(ENCODING, HeaderValue::from_static(packing.name()));
    response
}

impl Body for Reply {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<std::result::Result<Frame<Bytes>, Infallible>>> {
        loop {
            if let Some(piece) = self.pieces.pop() {
                if let Some(room) = &mut self.room {
                    room.shrink(piece.len());
                }
                return Poll::Ready(Some(Ok(Frame::data(piece))));
            }
            match std::mem::replace(&mut self.then, Then::Nothing) {
                Then::Nothing => return Poll::Ready(None),
                Then::Trailers(trailers) => return Poll::Ready(Some(Ok(Frame::trailers(trailers)))),
                Then::Stream { mut events, _task } => match events.poll_recv(cx) {
                    Poll::Pending => {
                        self.then = Then::Stream { events, _task };
                        return Poll::Pending;
                    }
                    Poll::Ready(Some(Event::Message(Parcel { mut pieces, room }))) => {
                        pieces.reverse();
                        self.pieces = pieces;
                        self.room = room;
                        self.then = Then::Stream { events, _task };
                    }
                    Poll::Ready(Some(Event::End(trailers))) => self.then = Then::Trailers(trailers),
                    // The task ended without a word: it panicked.
                    Poll::Ready(None) => self.then = Then::Trailers(status::failed(&super::internal())),
                },
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.pieces.is_empty() && matches!(self.then, Then::Nothing)
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        // The connection drops a body once it has all of it.
        if let Some(trace) = &self.trace {
            trace.event("GRPC_SEND_END");
        }
        if let Some(shadow) = self.shadow.take() {
            shadow.start();
        }
    }
}
