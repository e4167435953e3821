//! Instances that are lent to callers.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::{Admitted, Queue, Work};
use crate::batcher::Step;
use crate::entry::{Entry, Rejected};
use crate::time::Time;

/// What was admitted, and the duty to look after the queue if the caller has it.
type AdmittedQuick<T> = (Admitted<T>, Option<Quick<T>>);

impl<T> Queue<T> {
    /// Queues an entry as [`Queue::submit`] does; but if all that waits is expected to run
    /// within `quick`, and an instance is free and shares no limit, nobody is woken. The
    /// caller then has to look after the queue: give others who are about to submit their
    /// turn, and call [`Quick::borrow`]. Dropping the [`Quick`] wakes an instance's thread
    /// instead, so that nothing is forgotten.
    ///
    /// # Errors
    /// The entry itself, with the reason, when it is not admitted.
    pub fn submit_quick(
        self: &Arc<Self>,
        entry: Entry<T>,
        quick: Duration,
    ) -> Result<AdmittedQuick<T>, (Rejected, Entry<T>)> {
        let is_limited = self.limit.as_ref().is_some_and(|(limiter, user)| limiter.limits(user));
        let (admitted, state) = self.push(entry)?;
        if !is_limited && state.free() > 0 && state.is_quick(quick) {
            return Ok((admitted, Some(Quick { queue: Some(Arc::clone(self)) })));
        }
        self.wake_for(state);
        Ok((admitted, None))
    }

    /// Lends an instance that is free, so that the caller runs what is due. `None` if none
    /// is: then its own thread, or whoever has borrowed it, looks at the queue next.
    fn borrow(self: &Arc<Self>) -> Option<Borrowed<T>> {
        let mut state = self.lock();
        let is_free =
            |instance: &&usize| !state.lent.contains(instance) && !state.batcher.is_gone(**instance);
        let instance = state.asleep.iter().find(is_free).copied()?;
        state.lent.push(instance);
        drop(state);
        Some(Borrowed { queue: Arc::clone(self), instance, since: self.clock.now() })
    }

    fn give_back(&self, instance: usize) {
        let mut state = self.lock();
        state.lent.retain(|lent| *lent != instance);
        if state.batcher.is_draining() {
            // Threads that slept while it began must see it.
            self.wake.notify_all();
        }
        self.wake_for(state);
    }
}

impl<T> super::State<T> {
    /// Whether a run of what waits is expected to take no longer.
    fn is_quick(&self, quick: Duration) -> bool {
        let rows = self.batcher.rows();
        let rows = self.batcher.best_rows().map_or(rows, |best| rows.min(best));
        !self.batcher.has_bound() && self.batcher.cost(rows).is_some_and(|cost| cost <= quick)
    }
}

/// Something quick is queued, and nobody was woken for it yet.
#[must_use = "dropping it wakes a thread"]
pub struct Quick<T> {
    queue: Option<Arc<Queue<T>>>,
}

impl<T> Quick<T> {
    /// Lends an instance that is free, so that the caller runs what is due. `None` if none
    /// is: then its own thread, or whoever has borrowed it, looks at the queue next.
    pub fn borrow(mut self) -> Option<Borrowed<T>> {
        self.queue.take()?.borrow()
    }
}

impl<T> Drop for Quick<T> {
    fn drop(&mut self) {
        if let Some(queue) = &self.queue {
            queue.wake_for(queue.lock());
        }
    }
}

impl<T> fmt::Debug for Quick<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Quick").field("is_owed", &self.queue.is_some()).finish_non_exhaustive()
    }
}

/// An instance that is lent. Dropping it gives it back, and wakes its thread if something
/// is left to do.
#[must_use = "dropping it gives the instance back"]
pub struct Borrowed<T> {
    queue: Arc<Queue<T>>,
    instance: usize,
    since: Time,
}

impl<T> Borrowed<T> {
    /// Its number.
    pub fn instance(&self) -> usize {
        self.instance
    }

    /// Work that is due and expected to end within `quick` of the borrowing; `None` if
    /// there is none, or not enough time.
    pub fn next(&self, quick: Duration) -> Option<Work<T>> {
        let now = self.queue.clock.now();
        let left = quick.checked_sub(now.since(self.since))?;
        let mut state = self.queue.lock();
        if !state.is_quick(left) {
            return None;
        }
        match state.batcher.poll(now, self.instance) {
            Step::Release(batch) => Some(Work::Run(batch, None)),
            Step::Expired(entries) => Some(Work::Expired(entries)),
            _ => None,
        }
    }
}

impl<T> Drop for Borrowed<T> {
    fn drop(&mut self) {
        self.queue.give_back(self.instance);
    }
}

impl<T> fmt::Debug for Borrowed<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Borrowed").field("instance", &self.instance).finish_non_exhaustive()
    }
}
