//! What enters the scheduler, what leaves it, and why.

use std::fmt;
use std::time::Duration;

use crate::time::Time;

/// Rows of one entry at most, whatever the policy says.
///
/// Rows come from outside and are added up over a queue; with this bound and
/// that of the queue the sum stays below 2^52. No tensor that the gateway admits
/// has as many. Exceeding it answers [`Rejected::TooLarge`].
pub const ENTRY_ROWS_MAX: usize = u32::MAX as usize;

/// Which entries may share a batch: those with equal keys.
///
/// The caller derives it from everything that must agree (the inputs' names,
/// data types and all dimensions but the first). The scheduler only compares.
pub type ShapeKey = u64;

/// One request's rows on their way to a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry<T> {
    /// Rows along the batch dimension. May be 0: such an entry takes no room.
    pub rows: usize,
    /// From when on the answer is of no use. At this time or after it the entry
    /// is answered as expired and never run.
    pub deadline: Option<Time>,
    /// Which entries it may share a batch with.
    pub shape: ShapeKey,
    /// What the caller wants back with the batch.
    pub payload: T,
}

/// Entries to be run together.
#[derive(Debug)]
pub struct Batch<T> {
    /// At least one, oldest first, all of one shape key.
    pub entries: Vec<Entry<T>>,
    /// The rows of all entries.
    pub rows: usize,
    /// The key that all entries share.
    pub shape: ShapeKey,
    /// Why the batch was released now.
    pub reason: Reason,
    /// How long the oldest entry waited.
    pub oldest_wait: Duration,
    /// When the batch was released, by the time given to `poll`.
    pub released: Time,
}

/// Why a batch was released when it was. New reasons may come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Reason {
    /// No further entry of its shape that waits would fit in.
    Full,
    /// Its oldest entry had waited as long as the policy lets it.
    Delay,
    /// The queue is draining: nobody will join any more.
    Drain,
    /// No delay is configured: it took what had queued.
    Immediate,
    /// It takes no company: the model has no batch dimension, or the entry was
    /// admitted under a larger `max_batch_size` than today's.
    Alone,
}

impl Reason {
    /// Every reason, for a metric that shows zeros.
    pub const ALL: [Self; 5] = [Self::Full, Self::Delay, Self::Drain, Self::Immediate, Self::Alone];

    /// The value of a metric's label.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Delay => "delay",
            Self::Drain => "drain",
            Self::Immediate => "immediate",
            Self::Alone => "alone",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why an entry was not admitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum Rejected {
    /// As many entries wait as the policy allows. Worth another try later.
    #[error("queue is full")]
    QueueFull,
    /// The queue is being emptied for good: the model is going away.
    #[error("queue is draining")]
    Draining,
    /// More rows than one batch may have. No use in another try.
    #[error("entry has more rows than a batch may have")]
    TooLarge,
}
