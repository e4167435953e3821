//! How sequences are batched.

use std::time::Duration;

/// How the requests of different sequences share batches. Can be changed while they wait.
#[derive(Debug, Clone, PartialEq)]
pub struct SequencePolicy {
    /// How a lane forms its batches.
    pub strategy: Strategy,
    /// A sequence that is silent for so long ends, and its slot is free for another.
    pub max_idle: Duration,
    /// Requests that may wait, of all sequences together: for a slot, or for their turn.
    /// The next one is refused with [`super::Refused::QueueFull`], unless it is the only one
    /// of a sequence that has a slot: there are never more than these and one for each slot.
    pub max_queue_size: usize,
}

/// How a lane forms its batches.
#[derive(Debug, Clone, PartialEq)]
pub enum Strategy {
    /// Each sequence has its row of the batch: its slot. Rows whose sequence has nothing to
    /// run are there and empty.
    Direct {
        /// How long a batch waits for more slots to have something to run. Counts only
        /// beside a minimum above 0.
        max_queue_delay: Duration,
        /// The share of all slots, from 0 to 1, from which on a batch runs at once.
        minimum_slot_utilization: f64,
    },
    /// Batches of whatever sequences have something to run, without empty rows.
    Oldest {
        /// Rows of a batch at most; 0 for a model that takes no batches.
        max_batch_size: usize,
        /// Sizes at which a batch runs at once.
        preferred_batch_sizes: Vec<usize>,
        /// How long a batch that has no such size waits for more.
        max_queue_delay: Duration,
    },
}

impl Strategy {
    /// How long the oldest request of a batch may be held back.
    pub(super) const fn delay(&self) -> Duration {
        match self {
            Self::Direct { max_queue_delay, minimum_slot_utilization } => {
                if *minimum_slot_utilization > 0.0 {
                    *max_queue_delay
                } else {
                    Duration::ZERO
                }
            }
            Self::Oldest { max_queue_delay, .. } => *max_queue_delay,
        }
    }

    /// Rows of a batch at most, of a lane with so many slots.
    pub(super) const fn rows_max(&self, slots: usize) -> usize {
        match self {
            Self::Direct { .. } => slots,
            Self::Oldest { max_batch_size: 0, .. } => 1,
            Self::Oldest { max_batch_size, .. } => *max_batch_size,
        }
    }

    /// How many of so many requests of one shape run now, before their delay has ended;
    /// `None` if they wait for more.
    pub(super) fn early(&self, ready: usize, slots: usize) -> Option<usize> {
        let rows_max = self.rows_max(slots);
        if ready >= rows_max {
            return Some(rows_max);
        }
        match self {
            Self::Direct { minimum_slot_utilization, .. } => {
                let share = ready as f64 / slots as f64;
                (share >= *minimum_slot_utilization).then_some(ready)
            }
            Self::Oldest { preferred_batch_sizes, .. } => {
                preferred_batch_sizes.iter().copied().filter(|size| (1..=ready).contains(size)).max()
            }
        }
    }
}
