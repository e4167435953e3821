//! The parts of one streamed answer, counted as they come: [`Statistics::part`] told when
//! and how each of them ended.
//!
//! A part takes from the moment that the one before it was sent (or the request began)
//! until it is there: `compute_infer`; and from there until whoever encodes it asks for the
//! next: `compute_output`, in which a reader that takes its time shows.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::statistics::{PartOutcome, Statistics};

/// See the module. What is dropped before its end counts as cancelled.
#[derive(Debug)]
pub struct CountedParts {
    statistics: Arc<Statistics>,
    number: usize,
    since: Instant,
    /// The part that is being sent.
    out: Option<Out>,
    is_over: bool,
}

#[derive(Debug)]
struct Out {
    infer: Duration,
    made: Instant,
    is_last: bool,
}

impl CountedParts {
    /// The request begins.
    #[must_use]
    pub fn new(statistics: Arc<Statistics>) -> Self {
        Self { statistics, number: 0, since: Instant::now(), out: None, is_over: false }
    }

    /// The next part is there, and whoever sends it has it.
    pub fn made(&mut self, is_last: bool) {
        self.sent();
        let made = Instant::now();
        self.out = Some(Out { infer: made.duration_since(self.since), made, is_last });
    }

    /// The part that was being sent is out; nothing if there was none.
    pub fn sent(&mut self) {
        let Some(out) = self.out.take() else { return };
        self.count(PartOutcome::Success, &out);
        self.is_over |= out.is_last;
        self.since = Instant::now();
    }

    /// Nothing more comes: an error, or no more than that.
    pub fn ended(&mut self, outcome: PartOutcome) {
        self.sent();
        self.close(outcome);
    }

    /// The part that was being sent could not be written.
    pub fn not_sent(&mut self) {
        self.close(PartOutcome::Fail);
    }

    fn close(&mut self, outcome: PartOutcome) {
        if std::mem::replace(&mut self.is_over, true) {
            return;
        }
        let now = Instant::now();
        let none = Out { infer: now.duration_since(self.since), made: now, is_last: true };
        let out = self.out.take().unwrap_or(none);
        self.count(outcome, &out);
    }

    fn count(&mut self, outcome: PartOutcome, out: &Out) {
        self.statistics.part(self.number, outcome, out.infer, out.made.elapsed());
        self.number = self.number.saturating_add(1);
    }
}

impl Drop for CountedParts {
    fn drop(&mut self) {
        if self.out.as_ref().is_some_and(|out| out.is_last) {
            self.sent();
        }
        self.close(PartOutcome::Cancelled);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::PartStatistics;

    const STEP: Duration = Duration::from_millis(1);

    async fn parts(script: &str) -> Vec<(usize, PartStatistics)> {
        let statistics = Arc::new(Statistics::default());
        let mut counted = CountedParts::new(Arc::clone(&statistics));
        for step in script.chars() {
            match step {
                '.' => tokio::time::advance(STEP).await,
                'm' => counted.made(false),
                'l' => counted.made(true),
                's' => counted.sent(),
                'f' => counted.ended(PartOutcome::Fail),
                'e' => counted.ended(PartOutcome::Empty),
                'n' => counted.not_sent(),
                _ => panic!("{step:?} is no step"),
            }
        }
        drop(counted);
        statistics.read("m", "1").response_stats.0
    }

    #[tokio::test(start_paused = true)]
    async fn a_part_takes_from_the_one_before_to_the_one_after() {
        let parts = parts("..m.s...me").await;
        let numbers: Vec<usize> = parts.iter().map(|(number, _)| *number).collect();
        assert_eq!(numbers, [0, 1, 2]);
        let milliseconds = |one: crate::observe::DurationStatistics| (one.count, one.ns / 1_000_000);
        let (_, first) = parts[0];
        assert_eq!(milliseconds(first.compute_infer), (1, 2));
        assert_eq!(milliseconds(first.compute_output), (1, 1));
        assert_eq!(milliseconds(first.success), (1, 3));
        assert_eq!(milliseconds(parts[1].1.compute_infer), (1, 3));
        assert_eq!(milliseconds(parts[2].1.empty_response), (1, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn each_part_ends_once_and_a_stream_that_is_dropped_was_cancelled() {
        for (script, wanted) in [
            ("", "c"),
            ("m", "c"),
            ("ms", "sc"),
            ("mm", "sc"),
            ("l", "s"),
            ("ls", "s"),
            ("lsf", "s"),
            ("mf", "sf"),
            ("mff", "sf"),
            ("mn", "f"),
            ("f", "f"),
            ("me", "se"),
        ] {
            let how = |(_, part): &(usize, PartStatistics)| {
                let all =
                    [('s', part.success), ('f', part.fail), ('e', part.empty_response), ('c', part.cancel)];
                all.iter()
                    .flat_map(|(how, one)| vec![*how; one.count.try_into().expect("few")])
                    .collect::<String>()
            };
            let told: String = parts(script).await.iter().map(how).collect();
            assert_eq!(told, wanted, "{script:?}");
        }
    }
}
