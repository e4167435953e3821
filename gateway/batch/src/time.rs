//! Points of time, and the clocks they are read from.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// A point of time: how long after its clock's start. Monotonic.
///
/// Times of different clocks must not be compared. The scheduler never sees
/// anything else of a clock, which is what lets a test be one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Time(pub Duration);

impl Time {
    /// After every time that a clock shows.
    pub const END: Self = Self(Duration::MAX);

    /// The clock's start: at or before every other time.
    pub const START: Self = Self(Duration::ZERO);

    /// This time and `delay` more; the end of time if that is past it, so that
    /// a delay of [`Duration::MAX`] means "never".
    #[must_use]
    pub const fn after(self, delay: Duration) -> Self {
        Self(self.0.saturating_add(delay))
    }

    /// This time less `span`; the clock's start if that is before it.
    #[must_use]
    pub const fn before(self, span: Duration) -> Self {
        Self(self.0.saturating_sub(span))
    }

    /// How long after `earlier` this is; zero if it is not after it.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

/// Where the time comes from. Never goes backwards.
pub trait Clock: Send + Sync {
    /// The time now.
    fn now(&self) -> Time;
}

/// The machine's monotonic clock: the one place that reads it.
#[derive(Debug, Clone, Copy)]
pub struct MonotonicClock {
    start: std::time::Instant,
}

impl MonotonicClock {
    /// A clock that starts now. One per process: times of two clocks differ.
    #[must_use]
    #[allow(clippy::disallowed_methods, reason = "this is the injected clock that everybody else reads")]
    pub fn new() -> Self {
        Self { start: std::time::Instant::now() }
    }
}

impl Default for MonotonicClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for MonotonicClock {
    fn now(&self) -> Time {
        Time(self.start.elapsed())
    }
}

/// A clock for tests: stands still until it is advanced.
///
/// [`crate::Queue::next`] computes how long to sleep from its clock but sleeps
/// in real time, so advancing this clock does not wake a sleeping thread.
#[derive(Debug, Default)]
pub struct ManualClock {
    now: Mutex<Time>,
}

impl ManualClock {
    /// A clock that stands at its start.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Moves the clock forward.
    pub fn advance(&self, by: Duration) {
        let mut now = self.now.lock().unwrap_or_else(PoisonError::into_inner);
        *now = now.after(by);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Time {
        *self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_delay_without_end_does_not_overflow() {
        let late = Time(Duration::from_secs(5)).after(Duration::MAX);
        assert_eq!(late, Time(Duration::MAX));
        assert_eq!(Time::START.since(late), Duration::ZERO);
    }

    #[test]
    fn a_manual_clock_moves_only_when_told() {
        let clock = ManualClock::new();
        assert_eq!(clock.now(), Time::START);
        clock.advance(Duration::from_millis(3));
        clock.advance(Duration::from_millis(4));
        assert_eq!(clock.now(), Time(Duration::from_millis(7)));
    }

    #[test]
    fn the_monotonic_clock_follows_real_time() {
        let clock = MonotonicClock::new();
        let before = clock.now();
        std::thread::sleep(Duration::from_millis(2));
        assert!(clock.now().since(before) >= Duration::from_millis(2));
    }
}
