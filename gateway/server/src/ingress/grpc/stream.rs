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
use super::decode;
use super::encode::{self, Pieces};
use super::infer::{self, Answered, Caller, Progress};
use super::outbox::{NotRead, Outbox};
use super::receive::Messages;
use super::reply::{Event, Parcel, Reply};
use super::{Admitted, Server, internal, metadata, status};
use crate::admission::{Admission, Permit, Room, Share};
use crate::error::{Error, Kind, Result};
use crate::ingress::http::Front;
use crate::ingress::infer::InferStream;
use crate::ingress::pace::Pace;
use crate::lifecycle::drain::Phase;
use crate::observe::{self, Trace};

/// Requests of one stream that are under way; the next ones stay in the connection's
/// window. Enough to fill a batch; another caller's share is not for one stream to take.
const UNDER_WAY_MAX: usize = 64;

/// Answers that wait for a reader of the stream, beside those in the connection's window.
const AHEAD_MAX: usize = 4;

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
        room: Room,
        arrived: Instant,
    },
    /// It came, and may not come in: its id, and why.
    Refused(String, Error),
    End,
    /// Nothing more can be read.
    Broken(Error),
}

type Reading = Pin<Box<dyn Future<Output = (Messages, Read)> + Send>>;

/// What is left to be said about a request; nothing if all was said.
struct Answer {
    id: String,
    outcome: Result<Option<Parcel>>,
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
        share: admitted.share,
        writer: Writer { events, packing: admitted.packing, admission: Arc::clone(&server.front.admission) },
    };
    let task = tokio::spawn(stream.run(admitted.messages));
    Ok(Reply::packed_stream(received, AbortOnDropHandle::new(task), admitted.packing))
}

struct Stream {
    front: Arc<Front>,
    caller: Arc<Caller>,
    headers: HeaderMap,
    share: Share,
    ends_at_error: bool,
    writer: Writer,
}

impl Stream {
    async fn run(self, messages: Messages) {
        let trailers = match self.serve(messages).await {
            Ok(()) => status::ok(),
            Err(Some(error)) => status::failed(&error),
            // The reader is gone.
            Err(None) => return,
        };
        // Whoever does not read ends the stream's body, and this task with it.
        let _ = self.writer.events.send(Event::End(trailers)).await;
    }

    /// Answers until the client has nothing more to ask, and everything is answered.
    ///
    /// # Errors
    /// Why the stream ends before that; `None` if its reader is gone.
    async fn serve(&self, messages: Messages) -> Result<(), Option<Error>> {
        let mut reading: Option<Reading> = Some(self.read(messages));
        let mut answers: FuturesOrdered<Answering> = FuturesOrdered::new();
        let mut outbox = Outbox::new(self.writer.events.clone());
        // Why nothing more is read, if it is not the client's will.
        let mut end = None;
        let deadline = self.caller.deadline;
        let mut phase = self.front.phase.clone();
        let mut stopping = std::pin::pin!(stopping(&mut phase));
        while reading.is_some() || !answers.is_empty() || !outbox.is_empty() {
            let idle_until = Instant::now() + IDLE_TIME_MAX;
            let under_way = answers.len() + outbox.len();
            tokio::select! {
                sent = outbox.send(), if !outbox.is_empty() => sent.map_err(|NotRead| None)?,
                Some(answer) = answers.next() => {
                    let trace = answer.trace.clone();
                    match self.parcel(answer).map_err(Some)? {
                        Ok(Some(parcel)) => outbox.push(parcel, trace),
                        Ok(None) => {}
                        Err(error) => {
                            // What was ready before still goes out.
                            (reading, answers, end) = (None, FuturesOrdered::new(), Some(error));
                        }
                    }
                }
                (messages, read) = next(&mut reading), if under_way < UNDER_WAY_MAX => {
                    reading = None;
                    match read {
                        Read::Request { message, permit, room, arrived } => {
                            answers.push_back(self.start(message, permit, room, arrived));
                            reading = Some(self.read(messages));
                        }
                        Read::Refused(id, error) => {
                            let answer = Answer { id, outcome: Err(error), trace: None };
                            answers.push_back(Box::pin(std::future::ready(answer)));
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
                () = tokio::time::sleep_until(idle_until), if under_way == 0 => {
                    return Err(Some(Error::new(Kind::RequestTimeout, "nothing came over the stream for too long")));
                }
            }
        }
        end.map_or(Ok(()), |error| Err(Some(error)))
    }

    /// Waits for the next request. It takes its place when it is there, as over HTTP.
    fn read(&self, mut messages: Messages) -> Reading {
        let (front, share) = (Arc::clone(&self.front), self.share.clone());
        Box::pin(async move {
            match messages.is_at_end().await {
                Ok(false) => {}
                Ok(true) => return (messages, Read::End),
                Err(error) => return (messages, Read::Broken(error)),
            }
            let read = take(&front, &share, &mut messages).await.unwrap_or_else(Read::Broken);
            if matches!(read, Read::Refused(..)) {
                front.metrics.rejected("overloaded");
            }
            (messages, read)
        })
    }

    /// Starts a request.
    fn start(&self, message: Bytes, permit: Permit, mut room: Room, arrived: Instant) -> Answering {
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
            let _permit = permit;
            let mut in_flight = front.metrics.request_in_flight(0);
            in_flight.set_bytes(message.len());
            let mut progress = Progress::default();
            let work = async {
                let answered =
                    infer::predict_stream(&front, &caller, arrived, message, &mut room, &mut progress)
                        .await?;
                match answered {
                    Answered::One(predicted) => {
                        let pieces = predicted.encode(&progress.id, Some(true))?;
                        if let Some(shadow) = predicted.response.shadow {
                            shadow.start();
                        }
                        writer.parcel(pieces).await.map(Some)
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

    /// An answer as it goes out, if there is anything left to send; or why the stream ends
    /// there, if the client wants it to end at an error.
    ///
    /// # Errors
    /// It cannot be written.
    fn parcel(&self, answer: Answer) -> Result<Result<Option<Parcel>>> {
        match answer.outcome {
            Err(error) if !self.ends_at_error => {
                let pieces = encode::stream_error(error.message(), &answer.id)?;
                Ok(Ok(Some(pieces.into())))
            }
            outcome => Ok(outcome),
        }
    }
}

/// Reads a request that has begun to come. When the gateway is full, nothing of it is kept.
///
/// # Errors
/// Nothing more can be read.
async fn take(front: &Front, share: &Share, messages: &mut Messages) -> Result<Read> {
    let arrived = Instant::now();
    let pace = Pace::new(arrived, front.limits.body_timeout);
    let arriving = match front.admission.arrive(Some(share)) {
        Ok(arriving) => arriving,
        // One that is refused has to be read past: what comes behind it may not be.
        Err(error) => return Ok(Read::Refused(decode::id_of(messages.skip(pace).await?), error)),
    };
    let mut room = front.admission.room();
    let Some(message) = messages.next(Some(&mut room), pace).await? else { return Ok(Read::End) };
    Ok(match arriving.enter() {
        Ok(permit) => Read::Request { message, permit, room, arrived },
        Err(error) => Read::Refused(decode::id_of(message), error),
    })
}

/// Writes to the reader of a stream.
#[derive(Clone)]
struct Writer {
    events: mpsc::Sender<Event>,
    packing: Option<Compression>,
    admission: Arc<Admission>,
}

impl Writer {
    /// An answer, packed and counted.
    async fn parcel(&self, pieces: Pieces) -> Result<Parcel> {
        let pieces = match self.packing {
            Some(packing) => packing.pack_message(pieces).await?,
            None => pieces,
        };
        let mut room = self.admission.room();
        room.note(pieces.iter().map(Bytes::len).sum());
        Ok(Parcel { pieces, room: Some(room) })
    }

    /// Sends an answer before its turn.
    ///
    /// # Errors
    /// Nobody takes it within the request's time.
    async fn send(&self, pieces: Pieces, deadline: Instant) -> Result<()> {
        let parcel = self.parcel(pieces).await?;
        match tokio::time::timeout_at(deadline, self.events.send(Event::Message(parcel))).await {
            Ok(Ok(())) => Ok(()),
            _ => Err(Error::new(Kind::Deadline, "the answers were not read before the request's deadline")),
        }
    }

    /// Sends the answers to one request as they come. What it gives is for the end.
    async fn pass_on(
        &self,
        id: &str,
        model: Box<str>,
        mut answers: Box<InferStream>,
        wants_empty_final: bool,
    ) -> Result<Option<Parcel>> {
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
            self.send(pieces.encode()?, answers.deadline()).await?;
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
        self.parcel(last.encode()?).await.map(Some)
    }
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
