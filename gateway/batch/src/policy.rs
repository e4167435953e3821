//! How one model's entries are batched.

use std::time::Duration;

/// Entries that wait at most, unless configured otherwise.
///
/// Some eight times the concurrency of a busy gateway. At 10,000 requests a
/// second it is a tenth of a second of work: more would only wait to be late.
/// The entry beyond it is refused with [`crate::Rejected::QueueFull`].
pub const QUEUE_ENTRIES_DEFAULT: usize = 1024;

/// The largest queue that can be configured; larger values mean this one.
///
/// Each waiting entry holds a request's tensors, so a queue of a million is
/// already far beyond what memory allows. The number exists so that the sum of
/// all queued rows cannot overflow (see [`crate::ENTRY_ROWS_MAX`]).
pub const QUEUE_ENTRIES_MAX: usize = 1 << 20;

/// How one model's entries are batched. Can be changed while entries wait.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Policy {
    /// Rows in one batch at most.
    ///
    /// 0 means that the model has no batch dimension: each entry is a batch of
    /// its own, whatever its rows, and never waits for company. An entry with
    /// more rows than this is refused with [`crate::Rejected::TooLarge`]; one
    /// that was admitted before the number was lowered is served, alone.
    pub max_batch_size: usize,
    /// How long an entry may be held back, while an instance is free, for
    /// others to join it.
    ///
    /// 0 takes what has queued: an entry that finds a free instance runs at
    /// once, and batches form only while all instances are busy. That is the
    /// default, because waiting, not batching, is what costs latency. The delay
    /// of the oldest entry of a shape decides for its batch.
    pub max_queue_delay: Duration,
    /// Entries (not rows) that may wait at a time, of all shapes together.
    ///
    /// The next one is refused with [`crate::Rejected::QueueFull`] at once. At
    /// most [`QUEUE_ENTRIES_MAX`]; 0 admits nothing. Lowering it refuses new
    /// entries until enough have left, and drops none that wait.
    pub max_queue_size: usize,
}

impl Default for Policy {
    /// No batching: what is right for a model of which nothing is known.
    fn default() -> Self {
        Self { max_batch_size: 0, max_queue_delay: Duration::ZERO, max_queue_size: QUEUE_ENTRIES_DEFAULT }
    }
}
