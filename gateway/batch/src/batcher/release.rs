//! Forming a batch.

use std::time::Duration;

use super::Batcher;
use crate::entry::{Batch, Reason};
use crate::learn::Learner;
use crate::order::Place;
use crate::policy::{Mode, Policy};
use crate::time::Time;

/// Where a batch is cut, and what to call it then.
#[derive(Clone, Copy)]
struct Size {
    rows: usize,
    reason: Reason,
}

/// Fills a batch entry by entry.
struct Filling<'a> {
    now: Time,
    policy: &'a Policy,
    learner: &'a Learner,
    size: Size,
    /// What the run will take at most; a deadline later than that needs no look.
    longest: Duration,
    entries: usize,
    rows: usize,
    weight: usize,
    /// The earliest deadline of those taken.
    deadline: Option<Time>,
    /// Why the next entry was not taken.
    refused: Option<Reason>,
}

impl<T> Batcher<T> {
    /// Releases a batch of a lane that is ripe. What was admitted is served, so an entry
    /// that is larger than a batch goes alone.
    pub(super) fn release(&mut self, of: Option<usize>, number: usize) -> Option<Batch<T>> {
        let Self { policy, waiting, arrivals, shared, bound, tenants, learner, now, .. } = self;
        let pool = match of {
            None => shared,
            Some(instance) => bound.get_mut(&instance)?,
        };
        let lane = pool.lane(number);
        let (key, is_pressed, most) = (lane.key, lane.is_pressed, lane.rows);
        let held_for = now.since(pool.oldest(arrivals, number));
        let size = Size::choose(policy, learner, most);
        let longest = learner.cost(most.min(size.rows)).unwrap_or(Duration::ZERO);
        let mut filling = Filling::new(*now, policy, learner, size, longest);
        let share = |tenant| policy.tenant_weight(tenant);
        let slots = pool.take(number, tenants, share, |place| {
            filling.accepts(place, || waiting.get(place.slot).and_then(|it| it.entry.deadline))
        });
        pool.unpress(number);
        let is_held = match policy.mode {
            Mode::Fixed => !policy.max_queue_delay.is_zero(),
            Mode::Backpressure => false,
            Mode::Learned => true,
        };
        let reason = filling.reason().unwrap_or(if !is_held {
            Reason::Immediate
        } else if is_pressed {
            Reason::Deadline
        } else if policy.mode == Mode::Fixed && held_for >= policy.max_queue_delay {
            Reason::Delay
        } else if self.draining {
            Reason::Drain
        } else {
            Reason::Learned
        });
        let rows = filling.rows;
        let mut oldest = self.now;
        let mut entries = Vec::with_capacity(slots.len());
        for slot in slots {
            if let Some((entry, arrived)) = self.forget(slot) {
                oldest = oldest.min(arrived);
                entries.push(entry);
            }
        }
        self.settle(of, number);
        let number = self.batches;
        self.batches += 1;
        let (oldest_wait, released) = (self.now.since(oldest), self.now);
        let is_ordered = self.policy.preserve_ordering;
        Some(Batch { entries, rows, shape: key, reason, oldest_wait, released, number, is_ordered })
    }
}

impl Size {
    fn choose(policy: &Policy, learner: &mut Learner, waiting: usize) -> Self {
        let rows_max = policy.max_batch_size;
        if let Some(rows) = policy.preferred(waiting, rows_max) {
            return Self { rows, reason: Reason::Preferred };
        }
        match learner.rows(policy, waiting) {
            rows if rows < rows_max => Self { rows, reason: Reason::Learned },
            _ => Self { rows: rows_max, reason: Reason::Full },
        }
    }
}

impl<'a> Filling<'a> {
    const fn new(now: Time, policy: &'a Policy, learner: &'a Learner, size: Size, longest: Duration) -> Self {
        let (entries, rows, weight, deadline, refused) = (0, 0, 0, None, None);
        Self { now, policy, learner, size, longest, entries, rows, weight, deadline, refused }
    }

    /// Whether the entry here joins the batch.
    fn accepts(&mut self, place: &Place, deadline: impl FnOnce() -> Option<Time>) -> bool {
        let (rows, weight) = (self.rows + place.rows, self.weight + place.weight);
        let weight_max = self.policy.max_batch_weight;
        if self.entries > 0 {
            if rows > self.size.rows {
                self.refused = Some(self.cut());
            } else if weight_max > 0 && weight > weight_max {
                self.refused = Some(Reason::Full);
            } else if self.policy.max_batch_size == 0 {
                self.refused = Some(Reason::Alone);
            } else if self.would_be_late(rows) {
                self.refused = Some(Reason::Deadline);
            }
            if self.refused.is_some() {
                return false;
            }
        }
        (self.rows, self.weight, self.entries) = (rows, weight, self.entries + 1);
        let deadline = deadline();
        self.deadline = match (self.deadline, deadline) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        };
        true
    }

    /// What it is called when its size ends it.
    fn cut(&self) -> Reason {
        match self.size.reason {
            Reason::Preferred if self.rows != self.size.rows => Reason::Full,
            reason => reason,
        }
    }

    /// Whether one of those taken would miss its deadline because of the next entry.
    fn would_be_late(&self, rows: usize) -> bool {
        let Some(deadline) = self.deadline.filter(|deadline| *deadline < self.now.after(self.longest)) else {
            return false;
        };
        let ends_late = |rows| self.learner.cost(rows).is_some_and(|cost| self.now.after(cost) > deadline);
        ends_late(rows) && !ends_late(self.rows)
    }

    /// Why it ends where it does, if that is not because nothing is left.
    fn reason(&self) -> Option<Reason> {
        let Policy { max_batch_size, max_batch_weight, .. } = *self.policy;
        let is_heavy = |weight: usize| max_batch_weight > 0 && weight >= max_batch_weight;
        let is_oversized = self.rows > max_batch_size
            || (self.entries == 1 && self.weight > max_batch_weight && max_batch_weight > 0);
        if max_batch_size == 0 || is_oversized {
            return Some(Reason::Alone);
        }
        let is_full = self.rows >= self.size.rows;
        let full = if is_full { Some(self.cut()) } else { is_heavy(self.weight).then_some(Reason::Full) };
        self.refused.or(full)
    }
}
