//! Answers of a stream that are ready, in their order, until its reader takes them.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;

use super::reply::{Event, Parcel};
use crate::observe::Trace;

/// Answers that wait, each since it was ready. While they do, others are worked on: whoever
/// reads slowly holds nothing but what is in here, which is counted, and not for long.
pub(super) struct Outbox {
    events: mpsc::Sender<Event>,
    waiting: VecDeque<Waiting>,
    time_max: Duration,
}

/// An answer, since when it is ready, and where its sending is noted.
type Waiting = (Parcel, Instant, Option<Arc<Trace>>);

/// The reader is gone, or too slow.
#[derive(Debug)]
pub(super) struct NotRead;

impl Outbox {
    /// Each answer has to be taken within `time_max` of being ready, however many wait before
    /// it.
    pub(super) fn new(events: mpsc::Sender<Event>, time_max: Duration) -> Self {
        Self { events, waiting: VecDeque::new(), time_max }
    }

    /// Takes an answer in. If its request is traced, its sending begins here and ends when
    /// it is handed on.
    pub(super) fn push(&mut self, parcel: Parcel, trace: Option<Arc<Trace>>) {
        if let Some(trace) = &trace {
            trace.event("GRPC_SEND_START");
        }
        self.waiting.push_back((parcel, Instant::now(), trace));
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
    /// Nobody took it in time.
    pub(super) async fn send(&mut self) -> Result<(), NotRead> {
        let Some((_, ready, _)) = self.waiting.front() else { return std::future::pending().await };
        let place = tokio::time::timeout_at(*ready + self.time_max, self.events.reserve()).await;
        let Ok(Ok(place)) = place else { return Err(NotRead) };
        if let Some((parcel, _, trace)) = self.waiting.pop_front() {
            place.send(Event::Message(parcel));
            if let Some(trace) = trace {
                trace.event("GRPC_SEND_END");
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::super::encode::Pieces;
    use super::*;

    fn parcel() -> Parcel {
        Pieces::from_iter([Bytes::from_static(b"answer")]).into()
    }

    #[tokio::test(start_paused = true)]
    async fn a_reader_of_one_answer_now_and_then_gets_no_more_time_for_the_last() {
        let time_max = Duration::from_secs(30);
        let (events, mut received) = mpsc::channel(1);
        let mut outbox = Outbox::new(events, time_max);
        (0..9).for_each(|_| outbox.push(parcel(), None));
        let begun = Instant::now();
        outbox.send().await.expect("there is a place");
        let slow = async {
            loop {
                tokio::time::sleep(Duration::from_secs(20)).await;
                received.recv().await.expect("an answer");
            }
        };
        let sends = async {
            while !outbox.is_empty() {
                outbox.send().await?;
            }
            Ok(())
        };
        let outcome = tokio::select! { outcome = sends => outcome, () = slow => Ok(()) };
        assert!(matches!(outcome, Err(NotRead)));
        assert_eq!(begun.elapsed(), time_max);
    }
}
