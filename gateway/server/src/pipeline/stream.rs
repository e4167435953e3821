//! An answer in parts: the same story, told while it happens.
//!
//! The stream owns the request's work. What it gives is bounded on the way (see
//! [`sluice_sandbox::parts`]), so whoever reads slowly slows the plugin down; dropping it
//! ends the plugin's call. The versions were chosen before the first part, and once that
//! is out no other version is tried. The deadline is that of the whole.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::BytesMut;
use sluice_sandbox::{Answer, HttpAnswer, Part, PartReceiver, Request};
use sluice_tensor::NamedTensor;

use super::{Call, Predicted, Ran, ShadowRun, on_time, predict, run_beside_guests, shadow};
use crate::catalog::{Pipeline, Snapshot, Stages};
use crate::error::{Error, Kind, Result};
use crate::observe::{CountedParts, PartOutcome, Trace};

/// Most bytes of a streamed answer that are kept to compare a candidate's answer with.
/// 1 MiB is any text; of longer answers no candidate gets a copy.
const RECORDED_BYTES_MAX: usize = 1 << 20;

/// The status of an answer whose parts went out before it could have said another.
const STATUS_OK: u16 = 200;

/// What came of a request that may be answered in parts.
pub enum Streamed {
    /// One whole answer, as [`predict`] gives it.
    Whole(Predicted),
    /// The first of several parts has come.
    Parts(Box<PartStream>),
}

/// A part, and whether it is known to be the last.
#[derive(Debug)]
pub struct StreamedPart {
    /// The part.
    pub part: Part,
    /// Whether nothing follows. A plugin that sends all of its parts ends without one
    /// that says so: then the stream ends after a part whose `is_last` is false.
    pub is_last: bool,
}

type Work = Pin<Box<dyn Future<Output = Result<Ran>> + Send>>;

/// The parts of one answer. Dropping it ends the plugin's call.
pub struct PartStream {
    /// What runs; `None` once it has ended.
    work: Option<Work>,
    parts: PartReceiver,
    /// What it ended with, until that was said.
    outcome: Option<Result<Ran>>,
    first: Option<Part>,
    is_over: bool,
    count: CountedParts,
    trace: Option<Arc<Trace>>,
    record: Option<Record>,
    shadow: Option<Box<ShadowRun>>,
}

/// Answers one request from one snapshot, within the call's deadline, in parts if what is
/// called sends them. Returns when there is something to say: an error from here is the
/// whole answer, one from the stream breaks it off.
///
/// # Errors
/// As [`predict`].
pub async fn predict_stream(
    snapshot: &Snapshot,
    target: &str,
    call: &Call,
    request: Request,
) -> Result<Streamed> {
    match snapshot.pipelines.get(target) {
        Some(pipeline) if sends_parts(pipeline, call) => {
            PartStream::start(pipeline, call, request).begin().await
        }
        _ => predict(snapshot, target, call, request).await.map(Streamed::Whole),
    }
}

/// Whether the version that this call meets sends parts.
fn sends_parts(pipeline: &Pipeline, call: &Call) -> bool {
    match &pipeline.stages {
        Stages::Staged { .. } | Stages::Ensemble(_) => false,
        Stages::Whole { plugin } => {
            plugin.choose(&call.key).is_some_and(|version| pipeline.streams || version.hook.sends_parts())
        }
    }
}

/// What the stream waits for.
enum Event {
    Part(Part),
    Ended(Result<Ran>),
}

impl PartStream {
    fn start(pipeline: &Arc<Pipeline>, call: &Call, request: Request) -> Self {
        let (sender, parts) = sluice_sandbox::parts();
        let record = shadow::is_wanted(pipeline, call).then(Record::default);
        call.note("REQUEST_START");
        let (trace, count) =
            (call.trace.clone(), CountedParts::new(Arc::clone(pipeline.metrics.statistics())));
        let (pipeline, call) = (Arc::clone(pipeline), call.clone());
        let work = async move {
            on_time(call.deadline, run_beside_guests(&pipeline, &call, request, Some(sender))).await
        };
        Self {
            work: Some(Box::pin(work)),
            parts,
            outcome: None,
            first: None,
            is_over: false,
            count,
            trace,
            record,
            shadow: None,
        }
    }

    /// Waits for the first part, or for an answer that has only one.
    async fn begin(mut self) -> Result<Streamed> {
        match std::future::poll_fn(|cx| self.poll_event(cx)).await {
            Event::Part(part) => {
                self.first = Some(part);
                Ok(Streamed::Parts(Box::new(self)))
            }
            Event::Ended(outcome) => {
                self.note_end();
                let whole = outcome.and_then(Predicted::try_from);
                match &whole {
                    Ok(_) => self.count.made(true),
                    Err(_) => self.count.ended(PartOutcome::Fail),
                }
                whole.map(Streamed::Whole)
            }
        }
    }

    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Event> {
        loop {
            if let Poll::Ready(Some(part)) = self.parts.poll_recv(cx) {
                return Poll::Ready(Event::Part(part));
            }
            // What ended has sent everything before, so nothing can come behind this.
            if let Some(outcome) = self.outcome.take() {
                return Poll::Ready(Event::Ended(outcome));
            }
            let Some(work) = &mut self.work else {
                return Poll::Ready(Event::Ended(Err(internal("a stream was read past its end"))));
            };
            match work.as_mut().poll(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(outcome) => {
                    self.outcome = Some(outcome);
                    self.work = None;
                }
            }
        }
    }

    /// The first part, until it is taken.
    pub fn first(&self) -> Option<&Part> {
        self.first.as_ref()
    }

    /// The next part; `None` after the last, and after an error. Cancel-safe.
    pub async fn next(&mut self) -> Option<Result<StreamedPart>> {
        std::future::poll_fn(|cx| self.poll_next(cx)).await
    }

    /// The same, for who polls by hand.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<StreamedPart>>> {
        self.count.sent();
        if let Some(part) = self.first.take() {
            return Poll::Ready(Some(Ok(self.pass(part, false))));
        }
        if self.is_over {
            return Poll::Ready(None);
        }
        match std::task::ready!(self.poll_event(cx)) {
            Event::Part(part) => Poll::Ready(Some(Ok(self.pass(part, false)))),
            Event::Ended(outcome) => {
                self.is_over = true;
                self.note_end();
                Poll::Ready(self.end(outcome))
            }
        }
    }

    /// Counts a part on its way out, and notes it for a candidate.
    fn pass(&mut self, part: Part, is_last: bool) -> StreamedPart {
        self.count.made(is_last);
        if let Some(record) = &mut self.record {
            record.add(&part);
        }
        StreamedPart { part, is_last }
    }

    fn note_end(&self) {
        if let Some(trace) = &self.trace {
            trace.event("INFER_RESPONSE_COMPLETE");
            trace.event("REQUEST_END");
        }
    }

    fn end(&mut self, outcome: Result<Ran>) -> Option<Result<StreamedPart>> {
        let ran = match outcome {
            Ok(ran) => ran,
            Err(error) => {
                self.count.ended(PartOutcome::Fail);
                return Some(Err(error));
            }
        };
        let last = ran.answer.map(|answer| self.pass(to_part(answer), true));
        if last.is_none() {
            self.count.ended(PartOutcome::Empty);
        }
        let whole = self.record.take().and_then(Record::into_answer);
        self.shadow = ran.shadow.and_then(|shadow| shadow.with_answer(whole));
        last.map(Ok)
    }

    /// The part that was given last cannot be written, so the stream ends here.
    pub fn not_sent(&mut self) {
        self.count.not_sent();
    }

    /// The copy for a candidate, once the stream has ended well: for when it is out.
    pub fn take_shadow(&mut self) -> Option<Box<ShadowRun>> {
        self.shadow.take()
    }
}

fn to_part(answer: Answer) -> Part {
    match answer {
        Answer::Body(body) => Part::Body { content_type: body.content_type.into(), data: body.data },
        Answer::Tensors(tensors) => Part::Tensors(tensors),
    }
}

fn internal(detail: &'static str) -> Error {
    Error::new(Kind::Internal, "internal error").with_detail(detail)
}

impl TryFrom<Ran> for Predicted {
    type Error = Error;

    fn try_from(ran: Ran) -> Result<Self> {
        let answer = ran.answer.ok_or_else(|| internal("an answer was sent, and nobody received it"))?;
        Ok(Self { answer, shadow: ran.shadow })
    }
}

/// A streamed answer as it would have been whole, to compare a candidate's with.
#[derive(Default)]
struct Record {
    body: BytesMut,
    content_type: Option<Arc<str>>,
    tensors: Option<Vec<NamedTensor>>,
    is_too_much: bool,
}

impl Record {
    fn add(&mut self, part: &Part) {
        match part {
            Part::Body { content_type, data } => {
                self.content_type.get_or_insert_with(|| Arc::clone(content_type));
                if self.body.len() + data.len() > RECORDED_BYTES_MAX {
                    self.is_too_much = true;
                }
                if !self.is_too_much {
                    self.body.extend_from_slice(data);
                }
            }
            // A copy is run for one whole answer, which has one part of tensors.
            Part::Tensors(_) if self.tensors.is_some() => self.is_too_much = true,
            Part::Tensors(tensors) => self.tensors = Some(tensors.clone()),
        }
    }

    fn into_answer(self) -> Option<Answer> {
        if self.is_too_much {
            return None;
        }
        match (self.content_type, self.tensors) {
            (_, Some(tensors)) => Some(Answer::Tensors(tensors)),
            (Some(content_type), None) => Some(Answer::Body(HttpAnswer {
                status: STATUS_OK,
                content_type: content_type.to_string(),
                data: self.body.freeze(),
            })),
            (None, None) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(parts: PartReceiver, work: Work) -> PartStream {
        let (outcome, first) = (None, None);
        let count = CountedParts::new(Arc::default());
        PartStream {
            work: Some(work),
            parts,
            outcome,
            first,
            is_over: false,
            count,
            trace: None,
            record: None,
            shadow: None,
        }
    }

    fn text(data: &'static str) -> Part {
        Part::Body { content_type: "text/plain".into(), data: data.into() }
    }

    fn data(part: &StreamedPart) -> &[u8] {
        match &part.part {
            Part::Body { data, .. } => data,
            Part::Tensors(_) => panic!("a body"),
        }
    }

    fn ran(answer: Option<Answer>) -> Result<Ran> {
        Ok(Ran { answer, shadow: None })
    }

    #[tokio::test]
    async fn what_was_sent_comes_before_what_was_returned_and_the_last_says_so() {
        let (sender, parts) = sluice_sandbox::parts();
        let body = HttpAnswer { status: 200, content_type: "text/plain".to_owned(), data: "c".into() };
        let work = async move {
            sender.send(text("a")).await.expect("received");
            sender.send(text("b")).await.expect("received");
            ran(Some(Answer::Body(body)))
        };
        let Ok(Streamed::Parts(mut stream)) = stream(parts, Box::pin(work)).begin().await else {
            panic!("parts")
        };
        let mut told = Vec::new();
        while let Some(part) = stream.next().await {
            let part = part.expect("no error");
            told.push((String::from_utf8_lossy(data(&part)).into_owned(), part.is_last));
        }
        assert_eq!(told, [("a".to_owned(), false), ("b".to_owned(), false), ("c".to_owned(), true)]);
        assert!(stream.next().await.is_none(), "the end is told as often as it is asked for");
    }

    #[tokio::test]
    async fn an_error_before_the_first_part_is_the_answer_and_after_it_ends_the_stream() {
        let failed = || Err(Error::new(Kind::PluginTrap, "crashed"));
        let (_sender, parts) = sluice_sandbox::parts();
        let begun = stream(parts, Box::pin(async move { failed() })).begin().await;
        assert_eq!(begun.err().map(|error| error.kind()), Some(Kind::PluginTrap));

        let (sender, parts) = sluice_sandbox::parts();
        let work = async move {
            sender.send(text("a")).await.expect("received");
            failed()
        };
        let Ok(Streamed::Parts(mut stream)) = stream(parts, Box::pin(work)).begin().await else {
            panic!("parts")
        };
        assert!(stream.next().await.is_some_and(|part| part.is_ok()));
        let error = stream.next().await.and_then(Result::err).map(|error| error.kind());
        assert_eq!(error, Some(Kind::PluginTrap));
        assert!(stream.next().await.is_none());
    }

    #[tokio::test]
    async fn an_answer_without_parts_is_whole() {
        let (_sender, parts) = sluice_sandbox::parts();
        let work = async { ran(Some(Answer::Tensors(Vec::new()))) };
        let begun = stream(parts, Box::pin(work)).begin().await;
        assert!(matches!(begun, Ok(Streamed::Whole(_))));
    }

    #[test]
    fn a_record_joins_bytes_and_gives_up_on_what_a_copy_cannot_give() {
        let mut record = Record::default();
        ["a", "b"].map(text).iter().for_each(|part| record.add(part));
        let Some(Answer::Body(body)) = record.into_answer() else { panic!("a body") };
        assert_eq!(body.data, "ab");
        let mut record = Record::default();
        (0..2).for_each(|_| record.add(&Part::Tensors(Vec::new())));
        assert!(record.into_answer().is_none());
        let mut record = Record::default();
        let long = Part::Body { content_type: "x".into(), data: vec![0; RECORDED_BYTES_MAX].into() };
        (0..2).for_each(|_| record.add(&long));
        assert!(record.into_answer().is_none());
    }
}
