//! What enters the scheduler, what leaves it, and why.

use std::fmt;
use std::time::Duration;

use crate::time::Time;

/// Rows of one entry at most, whatever the policy says.
///
/// Rows come from outside and are added up over a queue; with this bound and
/// that of the queue the sum stays below 2^52. No tensor that the gateway admits
/// has as many. Exceeding it answers [`Rejected::TooLarge`]. The same bound holds
/// for an entry's weight.
pub const ENTRY_ROWS_MAX: usize = u32::MAX as usize;

/// Which entries may share a batch: those with equal keys.
///
/// The caller derives it from everything that must agree (the inputs' names,
/// data types and all dimensions but the first, padded to the sizes that are
/// allowed). The scheduler only compares.
pub type ShapeKey = u64;

/// Whose entry it is, for the fair share; 0 for nobody in particular.
///
/// The caller derives it from the tenant's name. The scheduler only compares.
pub type TenantKey = u64;

/// One request's rows on their way to a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry<T> {
    /// Rows along the batch dimension. May be 0: such an entry takes no room.
    pub rows: usize,
    /// What it costs beside others: its part of `max_batch_weight`, and what its
    /// tenant is charged. The rows, unless the caller knows better.
    pub weight: usize,
    /// From when on the answer is of no use. At this time or after it, or when a
    /// run would end after it, the entry is answered as expired and never run.
    pub deadline: Option<Time>,
    /// The longest wait in the queue that the caller asks for; it counts where the
    /// policy lets requests shorten their timeout.
    pub timeout: Option<Duration>,
    /// Its level: 1 is the highest, 0 the policy's default, as is a level that the
    /// policy does not have.
    pub priority: u32,
    /// Whose it is.
    pub tenant: TenantKey,
    /// The one instance that may run it, if it is not all the same: what holds the
    /// state of a sequence.
    pub instance: Option<usize>,
    /// Which entries it may share a batch with.
    pub shape: ShapeKey,
    /// What the caller wants back with the batch.
    pub payload: T,
}

impl<T> Entry<T> {
    /// An entry with nothing special about it: no deadline, default priority.
    pub const fn new(rows: usize, shape: ShapeKey, payload: T) -> Self {
        Self {
            rows,
            weight: rows,
            deadline: None,
            timeout: None,
            priority: 0,
            tenant: 0,
            instance: None,
            shape,
            payload,
        }
    }
}

/// An entry that is not run, and why.
#[derive(Debug, PartialEq, Eq)]
pub struct Expired<T> {
    /// The entry.
    pub entry: Entry<T>,
    /// Why it is not run.
    pub why: Lateness,
}

/// Why an entry is answered without a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Lateness {
    /// Its deadline has passed.
    Deadline,
    /// Its deadline would pass during the shortest run that is known of the model.
    Unreachable,
    /// It has waited as long as the policy of its priority lets it.
    Timeout,
}

/// Entries to be run together.
#[derive(Debug)]
pub struct Batch<T> {
    /// At least one, in the order in which they were chosen, all of one shape key.
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
    /// Counts up from 0 with each batch of the scheduler.
    pub number: u64,
    /// Whether answers are to leave in the order of these numbers.
    pub is_ordered: bool,
}

/// Why a batch was released when it was. New reasons may come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Reason {
    /// No further entry of its shape that waits would fit in.
    Full,
    /// Its entries reached a preferred size.
    Preferred,
    /// Its oldest entry had waited as long as the policy lets it.
    Delay,
    /// One of its entries could not wait any longer and still meet its deadline.
    Deadline,
    /// It reached the size beyond which a row gets no cheaper, or waiting on was
    /// not going to pay: both as learned from the runs before.
    Learned,
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
    pub const ALL: [Self; 8] = [
        Self::Full,
        Self::Preferred,
        Self::Delay,
        Self::Deadline,
        Self::Learned,
        Self::Drain,
        Self::Immediate,
        Self::Alone,
    ];

    /// The value of a metric's label.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Preferred => "preferred",
            Self::Delay => "delay",
            Self::Deadline => "deadline",
            Self::Learned => "learned",
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
    /// The tenant's entries take all of the queue that one tenant may have. Worth
    /// another try later.
    #[error("tenant has its share of the queue")]
    TenantFull,
    /// No run could end before its deadline.
    #[error("deadline cannot be met")]
    Unreachable,
    /// What goes before it takes until after its deadline. Worth another try later.
    #[error("too much waits for its deadline to be met")]
    Behind,
    /// The queue is being emptied for good: the model is going away.
    #[error("queue is draining")]
    Draining,
    /// The instance that alone may run it is gone.
    #[error("instance is gone")]
    InstanceGone,
    /// More rows than one batch may have. No use in another try.
    #[error("entry has more rows than a batch may have")]
    TooLarge,
}
