//! `ModelStreamInfer`: many requests over one call. They run at the same time and are
//! answered in their order; one that fails is answered by an error message, and the stream
//! goes on. What answers a request in several parts does not wait for its turn: each part
//! goes out when it is there, between the answers to other requests.

use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::FuturesOrdered;
use futures_util::{FutureExt as _, StreamExt as _};
use http::{HeaderMap, Response};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;
use tracing::Instrument as _;

use super::compress::Compression;
use super::encode::{self, Pieces};
use super::infer::{self, Answered, Caller, Progress};
use super::receive::Messages;
use super::reply::{Event, Reply};
use super::{Admitted, Server, internal, metadata, status};
use crate::admission::Permit;
use crate::error::{Error, Kind, Result};
use crate::ingress::http::Front;
use crate::ingress::infer::InferStream;
use crate::lifecycle::drain::Phase;
use crate::observe::{self, Trace};

/// Requests of one stream that are under way; the next ones stay in the connection's
/// window. Enough to fill a batch; another caller's share is not for one stream to take.
const UNDER_WAY_MAX: usize = 64;

/// Answers that wait for a reader of the stream, beside those in the connection's window.
const AHEAD_MAX: usize = 4;

/// How long a reader may take for one answer. One that never reads holds permits of
/// everybody.
const WRITE_TIME_MAX: Duration = Duration::from_secs(30);

/// How long a stream may stay open with nothing under way. Clients keep one open between
/// requests, so it is long; those that went away without a word are found by the
/// connection's own pings before.
const IDLE_TIME_MAX: Duration = Duration::from_secs(600);

/// A client that asks for this gets the status of the first error, and the stream ends
/// there.
const GRPC_ERROR: &str = "triton_grpc_error";

/// What came of waiting for a request.
enum Read {
    Request {
        message: Bytes,
        permit: Permit,
        arrived: Instant,
    },
    /// It came, and may not come in.
    Refused(Bytes, Error),
    End,
    /// Nothing more can be read.
    Broken(Error),
}

type Reading = Pin<Box<dyn Future<Output = (Messages, Read)> + Send>>;

/// What is left to be said about a request; nothing if all was said.
struct Answer {
    id: String,
    outcome: Result<Option<Pieces>>,
    /// Where its sending is noted, if the request is traced.
    trace: Option<Arc<Trace>>,
}

type Answering = Pin<Box<dyn Future<Output = Answer> + Send>>;

/// Opens a stream.
///
/// # Errors
/// The metadata is malformed.
pub(super) fn open(server: &Arc<Server>, admitted: Admitted) -> Result<Response<Reply>> {
    let caller = Arc::new(Caller::of(&admitted)?);
    let (events, received) = mpsc::channel(AHEAD_MAX);
    let stream = Stream {
        front: Arc::clone(&server.front),
        caller,
        ends_at_error: metadata::is_true(&admitted.headers, GRPC_ERROR),
        headers: admitted.headers,
        writer: Writer { events, packing: admitted.packing },
    };
    let task = tokio::spawn(stream.run(admitted.messages));
    Ok(Reply::packed_stream(received, AbortOnDropHandle::new(task), admitted.packing))
}

struct Stream {
    front: Arc<Front>,
    caller: Arc<Caller>,
    headers: HeaderMap,
    ends_at_error: bool,
    writer: Writer,
}

impl Stream {
    async fn run(self, messages: Messages) {
        let trailers = match self.serve(messages).await {
            Ok(()) => status::ok(),
            Err(Some(error)) => status::failed(&error),
            // The reader is gone, or does not read.
            Err(None) => return,
        };
        let _ = self.writer.events.send(Event::End(trailers)).await;
    }

    /// Answers until the client has nothing more to ask, and everything is answered.
    ///
    /// # Errors
    /// Why the stream ends before that; `None` if nobody reads.
    async fn serve(&self, messages: Messages) -> Result<(), Option<Error>> {
        let mut reading: Option<Reading> = Some(self.read(messages));
        let mut answers: FuturesOrdered<Answering> = FuturesOrdered::new();
        // Why nothing more is read, if it is not the client's will.
        let mut end = None;
        let deadline = self.caller.deadline;
        let mut phase = self.front.phase.clone();
        let mut stopping = std::pin::pin!(stopping(&mut phase));
        while reading.is_some() || !answers.is_empty() {
            let idle_until = Instant::now() + IDLE_TIME_MAX;
            tokio::select! {
                Some(answer) = answers.next() => self.answer(answer).await?,
                (messages, read) = next(&mut reading), if answers.len() < UNDER_WAY_MAX => {
                    reading = None;
                    match read {
                        Read::Request { message, permit, arrived } => {
                            answers.push_back(self.start(message, permit, arrived));
                            reading = Some(self.read(messages));
                        }
                        Read::Refused(message, error) => {
                            answers.push_back(refused(message, error));
                            reading = Some(self.read(messages));
                        }
                        Read::End => {}
                        Read::Broken(error) => end = Some(error),
                    }
                }
                () = &mut stopping, if reading.is_some() => {
                    reading = None;
                    end = Some(Error::new(Kind::Draining, "the gateway is shutting down"));
                }
                () = until(deadline) => {
                    return Err(Some(Error::new(Kind::Deadline, "the stream's deadline has passed")));
                }
                () = tokio::time::sleep_until(idle_until), if answers.is_empty() => {
                    return Err(Some(Error::new(Kind::RequestTimeout, "nothing came over the stream for too long")));
                }
            }
        }
        end.map_or(Ok(()), |error| Err(Some(error)))
    }

    /// Waits for the next request. The permit is taken when its first byte is there.
    fn read(&self, mut messages: Messages) -> Reading {
        let front = Arc::clone(&self.front);
        Box::pin(async move {
            match messages.is_at_end().await {
                Ok(false) => {}
                Ok(true) => return (messages, Read::End),
                Err(error) => return (messages, Read::Broken(error)),
            }
            let arrived = Instant::now();
            let mut admitted = front.admission.admit().inspect_err(|_| front.metrics.rejected("overloaded"));
            // One that is refused has to be read as well: what comes behind it may not be.
            let reading = messages.next(admitted.as_mut().ok());
            let read = tokio::time::timeout(front.limits.body_timeout, reading).await;
            let read = match (read, admitted) {
                (Ok(Ok(Some(message))), Ok(permit)) => Read::Request { message, permit, arrived },
                (Ok(Ok(Some(message))), Err(error)) => Read::Refused(message, error),
                (Ok(Ok(None)), _) => Read::End,
                (Ok(Err(error)), _) => Read::Broken(error),
                (Err(_), _) => {
                    Read::Broken(Error::new(Kind::RequestTimeout, "a message did not arrive in time"))
                }
            };
            (messages, read)
        })
    }

    /// Starts a request.
    fn start(&self, message: Bytes, mut permit: Permit, arrived: Instant) -> Answering {
        let (front, caller) = (Arc::clone(&self.front), Arc::clone(&self.caller));
        let writer = self.writer.clone();
        let span = tracing::debug_span!(
            "predict",
            target = tracing::field::Empty,
            request_id = &*caller.request_id,
            code = tracing::field::Empty
        );
        observe::set_parent(&span, &self.headers);
        Box::pin(async move {
            let mut in_flight = front.metrics.request_in_flight(0);
            in_flight.set_bytes(message.len());
            let mut progress = Progress::default();
            let work = async {
                let answered =
                    infer::predict_stream(&front, &caller, arrived, message, &mut permit, &mut progress)
                        .await?;
                match answered {
                    Answered::One(predicted) => {
                        let pieces = predicted.encode(&progress.id, Some(true))?;
                        if let Some(shadow) = predicted.response.shadow {
                            shadow.start();
                        }
                        Ok(Some(pieces))
                    }
                    Answered::Many { model, answers, wants_empty_final } => {
                        writer.pass_on(&progress.id, model, answers, wants_empty_final).await
                    }
                }
            };
            let outcome = AssertUnwindSafe(work.instrument(span.clone())).catch_unwind().await;
            let outcome = outcome.unwrap_or_else(|_| Err(internal()));
            progress.finish(&front, &outcome, &caller.request_id, arrived, &span);
            Answer { id: progress.id, outcome, trace: progress.trace }
        })
    }

    /// Sends an answer.
    ///
    /// # Errors
    /// The stream ends: at an error, if the client wants that, or because nobody reads.
    async fn answer(&self, answer: Answer) -> Result<(), Option<Error>> {
        let pieces = match answer.outcome {
            Ok(None) => return Ok(()),
            Ok(Some(pieces)) => pieces,
            Err(error) if self.ends_at_error => return Err(Some(error)),
            Err(error) => encode::stream_error(error.message(), &answer.id).map_err(Some)?,
        };
        let note = |event| answer.trace.iter().for_each(|trace| trace.event(event));
        note("GRPC_SEND_START");
        let sent = self.writer.send(pieces).await.map_err(Some)?;
        note("GRPC_SEND_END");
        match sent {
            Sent::Taken => Ok(()),
            Sent::NotRead => Err(None),
        }
    }
}

/// Writes to the reader of a stream.
#[derive(Clone)]
struct Writer {
    events: mpsc::Sender<Event>,
    packing: Option<Compression>,
}

/// What became of a message.
enum Sent {
    Taken,
    /// Nobody reads, or too slowly.
    NotRead,
}

impl Writer {
    async fn send(&self, pieces: Pieces) -> Result<Sent> {
        let pieces = match self.packing {
            Some(packing) => packing.pack_message(pieces).await?,
            None => pieces,
        };
        let sent = self.events.send(Event::Message(pieces));
        match tokio::time::timeout(WRITE_TIME_MAX, sent).await {
            Ok(Ok(())) => Ok(Sent::Taken),
            _ => Ok(Sent::NotRead),
        }
    }

    /// Sends the answers to one request as they come. What it gives is for the end.
    async fn pass_on(
        &self,
        id: &str,
        model: Box<str>,
        mut answers: Box<InferStream>,
        wants_empty_final: bool,
    ) -> Result<Option<Pieces>> {
        let (mut version, mut is_said) = (String::new(), false);
        while let Some(next) = answers.next().await {
            let (response, is_last) = next?;
            let pieces = encode::Response {
                model: &model,
                version: &response.version,
                id,
                outputs: &response.outputs,
                in_memory: &response.in_memory,
                is_final: Some(is_last),
            };
            if matches!(self.send(pieces.encode()?).await?, Sent::NotRead) {
                return Err(Error::new(Kind::RequestTimeout, "nobody reads the answers"));
            }
            (version, is_said) = (response.version, is_last);
            if let Some(shadow) = response.shadow {
                shadow.start();
            }
        }
        if let Some(shadow) = answers.take_shadow() {
            shadow.start();
        }
        if is_said || !wants_empty_final {
            return Ok(None);
        }
        let (model, version) = (&*model, &*version);
        let last =
            encode::Response { model, version, id, outputs: &[], in_memory: &[], is_final: Some(true) };
        last.encode().map(Some)
    }
}

/// The answer to a request that may not come in; its id is all that is read of it.
fn refused(message: Bytes, error: Error) -> Answering {
    let id = infer::id_of(message);
    Box::pin(std::future::ready(Answer { id, outcome: Err(error), trace: None }))
}

async fn next(reading: &mut Option<Reading>) -> (Messages, Read) {
    match reading {
        Some(reading) => reading.await,
        None => std::future::pending().await,
    }
}

async fn stopping(phase: &mut watch::Receiver<Phase>) {
    // An error means that the gateway is gone altogether.
    let _ = phase.wait_for(|phase| *phase == Phase::Stopping).await;
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}
