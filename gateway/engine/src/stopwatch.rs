//! The one place of this crate that reads a clock: a batch's own timings, which
//! are reported and decide nothing.

#![allow(clippy::disallowed_methods, reason = "a duration that is only reported needs no injected clock")]

use std::time::{Duration, Instant};

/// Measures consecutive stretches of time.
pub(crate) struct Stopwatch {
    since: Instant,
}

impl Stopwatch {
    pub(crate) fn start() -> Self {
        Self { since: Instant::now() }
    }

    /// The time since the start or the last lap.
    pub(crate) fn lap(&mut self) -> Duration {
        let now = Instant::now();
        let passed = now.duration_since(self.since);
        self.since = now;
        passed
    }
}
