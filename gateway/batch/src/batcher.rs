//! The scheduler as a pure state machine: `push`, `poll`, `cancel`, with time passed in.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::entry::{Batch, ENTRY_ROWS_MAX, Entry, Reason, Rejected, ShapeKey};
use crate::lanes::{Lanes, Rank};
use crate::policy::{Policy, QUEUE_ENTRIES_MAX};
use crate::slab::Slab;
use crate::time::Time;

/// Names one admitted entry, to cancel it. Never names another one, also not
/// after the entry has left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ticket {
    slot: usize,
    rank: Rank,
}

/// What a free instance should do now.
#[derive(Debug)]
pub enum Step<T> {
    /// Run this batch.
    Release(Batch<T>),
    /// Answer these: their deadline has passed. At least one, earliest deadline first.
    Expired(Vec<Entry<T>>),
    /// Nothing is due before this time, unless something is pushed or changed.
    WaitUntil(Time),
    /// Nothing is queued.
    Idle,
    /// Nothing is queued and nothing will be: the queue has drained.
    Drained,
}

/// The scheduler of one model. See the crate's page for what it promises.
///
/// It has no clock: the times given must not go backwards, and one that does is
/// read as the latest given before.
#[derive(Debug)]
pub struct Batcher<T> {
    policy: Policy,
    waiting: Slab<Waiting<T>>,
    lanes: Lanes,
    /// Deadline and slot of each waiting entry that has one.
    deadlines: BTreeSet<(Time, usize)>,
    rows: usize,
    arrivals: u64,
    now: Time,
    draining: bool,
}

#[derive(Debug)]
struct Waiting<T> {
    entry: Entry<T>,
    rank: Rank,
    arrived: Time,
}

impl<T> Batcher<T> {
    /// An empty scheduler.
    #[must_use]
    pub fn new(policy: Policy) -> Self {
        Self {
            lanes: Lanes::new(policy.max_batch_size),
            policy,
            waiting: Slab::new(),
            deadlines: BTreeSet::new(),
            rows: 0,
            arrivals: 0,
            now: Time::START,
            draining: false,
        }
    }

    /// Admits an entry at the end of its lane.
    ///
    /// # Errors
    /// The entry itself, with the reason, when it is not admitted: nothing has
    /// changed then.
    pub fn push(&mut self, now: Time, entry: Entry<T>) -> Result<Ticket, (Rejected, Entry<T>)> {
        self.now = self.now.max(now);
        if let Some(rejected) = self.refuses(entry.rows) {
            return Err((rejected, entry));
        }
        let rank = Rank(self.arrivals);
        self.arrivals += 1;
        self.rows += entry.rows;
        let (key, rows, deadline) = (entry.shape, entry.rows, entry.deadline);
        let slot = self.waiting.insert(Waiting { entry, rank, arrived: self.now });
        self.lanes.insert(key, rank, slot, rows);
        if let Some(deadline) = deadline {
            self.deadlines.insert((deadline, slot));
        }
        Ok(Ticket { slot, rank })
    }

    /// What an instance that is free now should do.
    ///
    /// Call it only when one is free: an entry that waits because all instances
    /// are busy is what makes batches grow. Call again after each answer until
    /// it is not `Release` or `Expired`.
    pub fn poll(&mut self, now: Time) -> Step<T> {
        let expired = self.expire(now);
        if !expired.is_empty() {
            return Step::Expired(expired);
        }
        match self.due() {
            None if self.draining => Step::Drained,
            None => Step::Idle,
            Some(due) if due > self.now => Step::WaitUntil(due),
            Some(_) => self.release().map_or(Step::Idle, Step::Release),
        }
    }

    /// Takes out the entries whose deadline has passed, earliest deadline
    /// first. `poll` does this first of all; call it to answer them in time
    /// while no instance is free.
    pub fn expire(&mut self, now: Time) -> Vec<Entry<T>> {
        self.now = self.now.max(now);
        let mut expired = Vec::new();
        while self.deadlines.first().is_some_and(|(deadline, _)| *deadline <= self.now) {
            let passed = self.deadlines.pop_first();
            expired.extend(passed.and_then(|(_, slot)| self.leave_lane(slot)));
        }
        expired
    }

    /// When `poll` will next have something to hand out: [`Time::START`] if it
    /// has now, `None` if nothing is queued.
    #[must_use]
    pub fn due(&self) -> Option<Time> {
        let (_, oldest) = self.lanes.oldest()?;
        let arrived = self.waiting.get(oldest)?.arrived;
        let at_once = self.draining || self.policy.max_queue_delay.is_zero();
        if at_once || self.lanes.oldest_full().is_some() {
            return Some(Time::START);
        }
        let delay_ends = arrived.after(self.policy.max_queue_delay);
        let deadline = self.deadlines.first().map(|(deadline, _)| *deadline);
        Some(deadline.map_or(delay_ends, |deadline| deadline.min(delay_ends)))
    }

    /// Takes an entry out that still waits; `None` if it has left already.
    pub fn cancel(&mut self, ticket: Ticket) -> Option<Entry<T>> {
        self.waiting.get(ticket.slot).filter(|waiting| waiting.rank == ticket.rank)?;
        self.leave_lane(ticket.slot)
    }

    /// Batches by another policy from now on; entries that wait stay admitted
    /// and keep the time they have waited.
    pub fn set_policy(&mut self, policy: Policy) {
        self.lanes.set_rows_max(policy.max_batch_size);
        self.policy = policy;
    }

    /// The policy in force.
    #[must_use]
    pub const fn policy(&self) -> &Policy {
        &self.policy
    }

    /// Admits nothing more and releases what waits without delay. For good.
    pub const fn drain(&mut self) {
        self.draining = true;
    }

    /// Entries that wait.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Whether nothing waits.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Rows of all entries that wait.
    #[must_use]
    pub const fn rows(&self) -> usize {
        self.rows
    }

    fn refuses(&self, rows: usize) -> Option<Rejected> {
        let rows_max = match self.policy.max_batch_size {
            0 => ENTRY_ROWS_MAX,
            configured => configured.min(ENTRY_ROWS_MAX),
        };
        if self.draining {
            Some(Rejected::Draining)
        } else if rows > rows_max {
            Some(Rejected::TooLarge)
        } else if self.len() >= self.policy.max_queue_size.min(QUEUE_ENTRIES_MAX) {
            Some(Rejected::QueueFull)
        } else {
            None
        }
    }

    /// Releases the batch whose head is oldest among those that are due.
    fn release(&mut self) -> Option<Batch<T>> {
        let (key, wait) = self.pick()?;
        let full = self.lanes.is_full(key);
        let slots = self.lanes.take(key);
        let entries: Vec<_> = slots.into_iter().filter_map(|slot| self.forget(slot)).collect();
        let rows = entries.iter().map(|entry| entry.rows).sum();
        let reason = self.reason(rows, full, wait);
        Some(Batch { entries, rows, shape: key, reason, oldest_wait: wait, released: self.now })
    }

    /// The lane to release, and how long its head has waited. The oldest head
    /// of all is the first to be due by time: when it is not, only full lanes are.
    fn pick(&self) -> Option<(ShapeKey, Duration)> {
        let (key, wait) = self.waited(self.lanes.oldest()?)?;
        if self.draining || wait >= self.policy.max_queue_delay {
            return Some((key, wait));
        }
        self.waited(self.lanes.oldest_full()?)
    }

    fn waited(&self, (key, slot): (ShapeKey, usize)) -> Option<(ShapeKey, Duration)> {
        Some((key, self.now.since(self.waiting.get(slot)?.arrived)))
    }

    fn reason(&self, rows: usize, full: bool, wait: Duration) -> Reason {
        if self.policy.max_batch_size == 0 || rows > self.policy.max_batch_size {
            Reason::Alone
        } else if full {
            Reason::Full
        } else if self.policy.max_queue_delay.is_zero() {
            Reason::Immediate
        } else if wait >= self.policy.max_queue_delay {
            Reason::Delay
        } else {
            Reason::Drain
        }
    }

    /// Takes one entry out of its lane and of everything else.
    fn leave_lane(&mut self, slot: usize) -> Option<Entry<T>> {
        let waiting = self.waiting.get(slot)?;
        self.lanes.remove(waiting.entry.shape, waiting.rank);
        self.forget(slot)
    }

    /// Takes out an entry that has left its lane.
    fn forget(&mut self, slot: usize) -> Option<Entry<T>> {
        let entry = self.waiting.remove(slot)?.entry;
        if let Some(deadline) = entry.deadline {
            self.deadlines.remove(&(deadline, slot));
        }
        self.rows -= entry.rows;
        Some(entry)
    }

    /// Slots and lanes held, for the tests of memory.
    #[cfg(test)]
    pub(crate) fn footprint(&self) -> (usize, usize, usize) {
        (self.waiting.slots(), self.lanes.count(), self.deadlines.len())
    }
}
