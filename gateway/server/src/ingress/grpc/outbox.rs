//! Answers of a stream that are ready, in their order, until its reader takes them.

use std::collections::VecDeque;
use std::sync::Arc;

use tokio::sync::mpsc;

use super::reply::{Event, Parcel};
use crate::observe::Trace;

/// Answers that wait. While they do, others are worked on: whoever reads slowly holds nothing but
/// what is in here, which is counted, and no more of them than a stream may have under way. However
/// long it takes to read all, each piece has to be taken within the write timeout, or the stream is
/// reset, and this with it.
pub(super) struct Outbox {
    events: mpsc::Sender<Event>,
    waiting: VecDeque<Waiting>,
}

/// An answer, and where its sending is noted.
type Waiting = (Parcel, Option<Arc<Trace>>);

/// The reader is gone.
#[derive(Debug)]
pub(super) struct NotRead;

impl Outbox {
    pub(super) fn new(events: mpsc::Sender<Event>) -> Self {
        Self { events, waiting: VecDeque::new() }
    }

    /// Takes an answer in. If its request is traced, its sending begins here and ends when
    /// it is handed on.
    pub(super) fn push(&mut self, parcel: Parcel, trace: Option<Arc<Trace>>) {
        if let Some(trace) = &trace {
            trace.event("GRPC_SEND_START");
        }
        self.waiting.push_back((parcel, trace));
    }

    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Hands the first one on. Cancel-safe.
    ///
    /// # Errors
    /// Nobody will ever take it.
    pub(super) async fn send(&mut self) -> Result<(), NotRead> {
        if self.waiting.is_empty() {
            return std::future::pending().await;
        }
        let place = self.events.reserve().await.map_err(|_| NotRead)?;
        if let Some((parcel, trace)) = self.waiting.pop_front() {
            place.send(Event::Message(parcel));
            if let Some(trace) = trace {
                trace.event("GRPC_SEND_END");
            }
        }
        Ok(())
    }
}
