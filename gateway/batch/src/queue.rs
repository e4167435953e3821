//! The thin shell around [`Batcher`]: one mutex, and the instances' threads.

use crate::batcher::{Batcher, Step, Ticket};
use crate::entry::{Batch, Entry, Expired, Rejected, TenantKey};
use crate::learn::Observed;
use crate::limiter::{Limiter, Permit, User};
use crate::policy::Policy;
use crate::time::{Clock, Time};
use std::fmt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// What a thread gets from [`Queue::next`].
#[derive(Debug)]
pub enum Work<T> {
    /// Run this batch, and drop the permit when it has run, where runs are limited.
    Run(Batch<T>, Option<Permit>),
    /// Answer these: they will not run. Never empty.
    Expired(Vec<Expired<T>>),
}

/// A model's queue, shared by those who submit and the instances that run.
///
/// # How threads are woken
/// Of the threads asleep in [`Queue::next`] one watches the clock (`watch` is
/// when it will wake by itself), the others sleep until told. Whoever changes
/// the queue, by submitting to it or by leaving with work, wakes one thread if
/// something is due before `watch`. Nobody wakes a second thread while a woken
/// one is on its way: that one looks at the whole queue, and passes the wake on
/// if it leaves something behind.
///
/// While something waits that one instance alone may run, all of this is suspended:
/// everybody is woken, and everybody watches the clock.
pub struct Queue<T> {
    state: Mutex<State<T>>,
    wake: Condvar,
    clock: Arc<dyn Clock>,
    /// What bounds the runs of all models together, and this model among them.
    limit: Option<(Arc<Limiter>, Arc<User>)>,
}

struct State<T> {
    batcher: Batcher<T>,
    /// Threads asleep in `next`.
    asleep: usize,
    /// When a sleeping thread will wake by itself, at the latest.
    watch: Option<Time>,
    /// A thread was told to wake and has not come round yet.
    waking: bool,
}

impl<T> Queue<T> {
    /// An empty queue. Deadlines and delays are times of `clock`.
    #[must_use]
    pub fn new(policy: Policy, clock: Arc<dyn Clock>) -> Self {
        let state = State { batcher: Batcher::new(policy), asleep: 0, watch: None, waking: false };
        Self { state: Mutex::new(state), wake: Condvar::new(), clock, limit: None }
    }

    /// Says how many instances will run its batches.
    #[must_use]
    pub fn for_instances(self, instances: usize) -> Self {
        self.lock().batcher.set_instances(instances);
        self
    }

    /// Has its batches wait for a permit before they are formed.
    #[must_use]
    pub fn limited_by(mut self, limiter: Arc<Limiter>, user: Arc<User>) -> Self {
        self.limit = Some((limiter, user));
        self
    }

    /// Queues an entry and wakes an instance if something is due. Does not block.
    ///
    /// Dropping the guard cancels the entry, so a caller that leaves needs to do
    /// nothing else.
    ///
    /// # Errors
    /// The entry itself, with the reason, when it is not admitted.
    pub fn submit(self: &Arc<Self>, entry: Entry<T>) -> Result<Admitted<T>, (Rejected, Entry<T>)> {
        let now = self.clock.now();
        let mut state = self.lock();
        state.tell_idle(0);
        let ticket = state.batcher.push(now, entry)?;
        self.tell_urgency(&state);
        self.wake_for(state);
        Ok(Admitted { queue: Arc::clone(self), ticket: Some(ticket) })
    }

    /// Whether an entry that is being made would be refused for what goes before it: see
    /// [`Batcher::would_be_behind`].
    #[must_use]
    pub fn would_be_behind(&self, deadline: Time, who: (u32, TenantKey), coming: usize) -> bool {
        let now = self.clock.now();
        let mut state = self.lock();
        state.tell_idle(0);
        state.batcher.would_be_behind(now, deadline, who, coming)
    }

    /// Blocks the calling thread, the instance of this number, which is free, until there
    /// is work for it. `None` once the queue has drained, or the instance was given up:
    /// its thread may end.
    pub fn next(&self, instance: usize) -> Option<Work<T>> {
        let mut permit = None;
        let mut state = self.lock();
        loop {
            if state.batcher.is_gone(instance) {
                return None;
            }
            let now = self.clock.now();
            if permit.is_none()
                && let Some((limiter, user)) = &self.limit
                && state.batcher.due(instance).is_some_and(|due| due <= now)
            {
                // The batch is formed when it may run: until then more can join.
                self.tell_urgency(&state);
                drop(state);
                permit = Some(limiter.acquire(user));
                state = self.lock();
                continue;
            }
            // This one is awake, and free.
            state.tell_idle(1);
            let step = state.batcher.poll(now, instance);
            self.tell_urgency(&state);
            let until = match step {
                Step::Release(batch) => {
                    self.wake_for(state);
                    return Some(Work::Run(batch, permit));
                }
                Step::Expired(entries) => {
                    self.wake_for(state);
                    return Some(Work::Expired(entries));
                }
                Step::Drained => return None,
                Step::Idle => None,
                Step::WaitUntil(time) => Some(time),
            };
            // Another instance was faster: nobody sleeps on a permit.
            permit = None;
            state = self.sleep(state, until);
        }
    }

    /// Takes out the entries whose deadline has passed. Instances do this before
    /// each batch; call it from a timer so that entries are answered in time
    /// also while all instances are busy, or if there is none.
    pub fn take_expired(&self) -> Vec<Expired<T>> {
        let now = self.clock.now();
        let mut state = self.lock();
        let expired = state.batcher.expire(now);
        self.tell_urgency(&state);
        expired
    }

    /// A batch has run. What a run costs is learned from it.
    ///
    /// Says the size of a batch beyond which a row gets no cheaper, if that is known.
    pub fn observe(&self, run: &Observed) -> Option<usize> {
        let now = self.clock.now();
        let mut state = self.lock();
        state.batcher.observe(now, run);
        state.batcher.best_rows()
    }

    /// The instance of this number is gone for good: gives back what it alone could run,
    /// to be answered.
    pub fn abandon(&self, instance: usize) -> Vec<Entry<T>> {
        let bound = self.lock().batcher.abandon(instance);
        // Its thread may sleep, if it is somebody else who noticed.
        self.wake.notify_all();
        bound
    }

    /// Batches by another policy from now on. Nothing that waits is lost.
    pub fn set_policy(&self, policy: Policy) {
        let mut state = self.lock();
        state.batcher.set_policy(policy);
        self.wake_for(state);
    }

    /// The policy in force.
    pub fn policy(&self) -> Policy {
        self.lock().batcher.policy().clone()
    }

    /// Admits nothing more. What waits is still run, without delay; then every
    /// thread in [`Queue::next`] gets `None`. For good.
    pub fn drain(&self) {
        self.lock().batcher.drain();
        self.wake.notify_all();
    }

    /// Entries that wait.
    pub fn depth(&self) -> usize {
        self.lock().batcher.len()
    }

    /// Threads that wait for work in [`Queue::next`].
    pub fn idle(&self) -> usize {
        self.lock().asleep
    }

    /// When a sleeping thread will wake by itself, for tests that must not run
    /// ahead of it.
    #[cfg(test)]
    pub(crate) fn watch(&self) -> Option<Time> {
        self.lock().watch
    }

    fn cancel(&self, ticket: Ticket) -> Option<Entry<T>> {
        let mut state = self.lock();
        let left = state.batcher.cancel(ticket);
        self.tell_urgency(&state);
        left
    }

    /// Every change of the state is complete before its lock is released, or it
    /// panicked in a way that a second panic here would only spread.
    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whoever waits for a permit is as urgent as what is queued now, not as what was queued
    /// when its wait began. The limiter may be locked while a queue is, never the other way
    /// round.
    fn tell_urgency(&self, state: &State<T>) {
        if let Some((limiter, user)) = &self.limit
            && limiter.limits(user)
        {
            limiter.set_urgent_at(user, state.batcher.urgent_at());
        }
    }

    /// Releases the lock, then wakes a thread if one should look at the queue.
    fn wake_for(&self, mut state: MutexGuard<'_, State<T>>) {
        let wakes_all = state.asleep > 0 && state.batcher.has_bound();
        let wakes_one = !wakes_all && state.should_wake();
        drop(state);
        if wakes_all {
            self.wake.notify_all();
        } else if wakes_one {
            self.wake.notify_one();
        }
    }

    /// Sleeps until told to wake, or until `until` if no other thread will wake
    /// by then. Returns too early at worst: the caller looks again.
    fn sleep<'a>(
        &'a self,
        mut state: MutexGuard<'a, State<T>>,
        until: Option<Time>,
    ) -> MutexGuard<'a, State<T>> {
        let watched = until.filter(|&until| state.watch.is_none_or(|watch| until < watch));
        // Nothing but the wait itself stands between the two counts.
        let waits = if state.batcher.has_bound() { until } else { watched };
        let timeout = waits.map(|until| until.since(self.clock.now()));
        state.watch = watched.or(state.watch);
        state.asleep += 1;
        state = match timeout {
            Some(timeout) => self.wake.wait_timeout(state, timeout).unwrap_or_else(PoisonError::into_inner).0,
            None => self.wake.wait(state).unwrap_or_else(PoisonError::into_inner),
        };
        state.asleep -= 1;
        state.waking = false;
        // Another thread may watch an earlier time by now: that stays. If one
        // still sleeps until the same time, it wakes once for nothing.
        if watched.is_some() && state.watch == watched {
            state.watch = None;
        }
        state
    }
}

/// The number of no instance: nothing is bound to it.
const NOBODY: usize = usize::MAX;

impl<T> State<T> {
    /// How many instances have nothing to do: those asleep, and `awake` others.
    fn tell_idle(&mut self, awake: usize) {
        self.batcher.set_idle(self.asleep + awake);
    }

    fn should_wake(&mut self) -> bool {
        let Some(due) = self.batcher.due(NOBODY) else { return false };
        if self.asleep == 0 || self.waking || self.watch.is_some_and(|watch| watch <= due) {
            return false;
        }
        self.waking = true;
        true
    }
}

impl<T> fmt::Debug for Queue<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.lock();
        f.debug_struct("Queue")
            .field("policy", state.batcher.policy())
            .field("depth", &state.batcher.len())
            .field("asleep", &state.asleep)
            .finish_non_exhaustive()
    }
}

/// An admitted entry. Dropping it cancels the entry if it still waits; the
/// payload is then dropped by the same thread, outside of the queue's lock. An
/// entry that has been released runs on, and only its answer goes nowhere.
#[must_use = "dropping it cancels the entry"]
pub struct Admitted<T> {
    queue: Arc<Queue<T>>,
    ticket: Option<Ticket>,
}

impl<T> Admitted<T> {
    /// When it will be answered for having waited for too long, if it still waits then:
    /// call [`Queue::take_expired`] at this time, or a busy instance is late to do it.
    #[must_use]
    pub fn timeout(&self) -> Option<Time> {
        self.ticket.and_then(|ticket| ticket.timeout)
    }

    /// The answer has come, so there is nothing left to cancel: saves the look
    /// into the queue that dropping takes.
    pub fn finish(mut self) {
        self.ticket = None;
    }
}

impl<T> Drop for Admitted<T> {
    fn drop(&mut self) {
        // `cancel` has released the lock by the time the entry is dropped.
        drop(self.ticket.and_then(|ticket| self.queue.cancel(ticket)));
    }
}

impl<T> fmt::Debug for Admitted<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Admitted").field("ticket", &self.ticket).finish_non_exhaustive()
    }
}
