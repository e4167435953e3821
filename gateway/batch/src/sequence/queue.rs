//! The thin shell around [`Sequencer`]: one mutex, and a thread for each lane.

use std::fmt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use super::policy::SequencePolicy;
use super::recent::EndedBy;
use super::sequencer::{
    Arrival, Counts, Flight, LaneStep, Outcome, Refused, SequenceTicket, Sequencer, Unrun,
};
use crate::time::Clock;

/// What happens in a queue without anybody having asked.
pub trait Observer<T>: Send + Sync {
    /// A request leaves without having run: it is to be answered. Called outside of the
    /// lock.
    fn unrun(&self, payload: T, why: Unrun);

    /// There is so much now. Called inside of the lock, so that the last call is the truth:
    /// it must not block.
    fn counts(&self, counts: Counts);
}

/// A model's sequences, shared by those who submit and the lanes that run.
pub struct SequenceQueue<K, T, S> {
    state: Mutex<Sequencer<K, T, S>>,
    /// One for each lane: only its thread sleeps on it.
    wakes: Vec<Condvar>,
    clock: Arc<dyn Clock>,
    observer: Box<dyn Observer<T>>,
}

impl<K: Ord + Clone, T, S: Clone> SequenceQueue<K, T, S> {
    /// An empty queue for so many lanes with so many slots each. Deadlines and delays are
    /// times of `clock`.
    #[must_use]
    pub fn new(
        lanes: usize,
        slots: usize,
        policy: SequencePolicy,
        clock: Arc<dyn Clock>,
        observer: Box<dyn Observer<T>>,
    ) -> Self {
        let lanes = lanes.max(1);
        Self {
            state: Mutex::new(Sequencer::new(lanes, slots, policy)),
            wakes: (0..lanes).map(|_| Condvar::new()).collect(),
            clock,
            observer,
        }
    }

    /// Queues a request and wakes the lane that should run it. Does not block. Dropping the
    /// guard cancels the request.
    ///
    /// # Errors
    /// The payload, with the reason, when it is not admitted.
    pub fn submit(
        self: &Arc<Self>,
        arrival: Arrival<K, T>,
    ) -> Result<AdmittedSequence<K, T, S>, (Refused, T)> {
        let ticket = self.change(|state, clock| state.push(clock.now(), arrival))?;
        Ok(AdmittedSequence { queue: Arc::clone(self), ticket: Some(ticket) })
    }

    /// Blocks the thread of a lane, which is free, until there is something to run; then it
    /// must be told to [`Self::finish`]. `None` once nothing more will come.
    pub fn next(&self, lane: usize) -> Option<Flight<K, T, S>> {
        let wake = self.wakes.get(lane)?;
        loop {
            let step = self.change(|state, clock| state.poll(clock.now(), lane));
            let until = match step {
                LaneStep::Run(flight) => return Some(flight),
                LaneStep::Drained => return None,
                LaneStep::WaitUntil(until) => Some(until),
                LaneStep::Idle => None,
            };
            let state = self.lock();
            // What has changed since the lane was polled has touched it.
            if state.is_touched(lane) {
                continue;
            }
            match until.map(|until| until.since(self.clock.now())) {
                Some(timeout) => {
                    drop(wake.wait_timeout(state, timeout).unwrap_or_else(PoisonError::into_inner));
                }
                None => drop(wake.wait(state).unwrap_or_else(PoisonError::into_inner)),
            }
        }
    }

    /// The flight of a lane has ended; one outcome for each of its members, in order.
    pub fn finish(&self, lane: usize, outcomes: impl IntoIterator<Item = Outcome<S>>) {
        self.change(|state, clock| state.finish(clock.now(), lane, outcomes));
    }

    /// The instance of a lane is gone: see [`Sequencer::abandon`].
    pub fn abandon(&self, lane: usize) {
        self.change(|state, _| state.abandon(lane));
    }

    /// Batches by another policy from now on.
    pub fn set_policy(&self, policy: SequencePolicy) {
        self.change(|state, _| state.set_policy(policy));
    }

    /// Admits nothing more; what waits is run. For good.
    pub fn drain(&self) {
        self.change(|state, _| state.drain());
    }

    /// How much there is.
    pub fn counts(&self) -> Counts {
        self.lock().counts()
    }

    /// Remembers that the sequences of `before` ended, because this queue takes its place.
    pub fn succeed(&self, before: &Self) {
        let known: Vec<_> =
            before.lock().known().map(|(key, why)| (key.clone(), why.unwrap_or(EndedBy::Reload))).collect();
        let mut state = self.lock();
        known.into_iter().for_each(|(key, why)| state.remember(key, why));
    }

    /// Changes the state; then wakes the lanes that it concerns, and answers the requests
    /// that left.
    fn change<R>(&self, change: impl FnOnce(&mut Sequencer<K, T, S>, &dyn Clock) -> R) -> R {
        let (outcome, unrun) = {
            let mut state = self.lock();
            let outcome = change(&mut state, &*self.clock);
            let touched = self.wakes.iter().enumerate();
            touched.filter(|(lane, _)| state.is_touched(*lane)).for_each(|(_, wake)| wake.notify_one());
            self.observer.counts(state.counts());
            (outcome, state.take_unrun())
        };
        unrun.into_iter().for_each(|(payload, why)| self.observer.unrun(payload, why));
        outcome
    }

    /// Every change of the state is complete before its lock is released, or it panicked in
    /// a way that a second panic here would only spread.
    fn lock(&self) -> MutexGuard<'_, Sequencer<K, T, S>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Ord + Clone, T, S: Clone> fmt::Debug for SequenceQueue<K, T, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SequenceQueue").field("counts", &self.counts()).finish_non_exhaustive()
    }
}

/// An admitted request. Dropping it cancels the request if it still waits; one that runs
/// goes on, its sequence with it, and only its answer goes nowhere.
#[must_use = "dropping it cancels the request"]
pub struct AdmittedSequence<K: Ord + Clone, T, S: Clone> {
    queue: Arc<SequenceQueue<K, T, S>>,
    ticket: Option<SequenceTicket>,
}

impl<K: Ord + Clone, T, S: Clone> AdmittedSequence<K, T, S> {
    /// The answer has come, so there is nothing left to cancel.
    pub fn finish(mut self) {
        self.ticket = None;
    }
}

impl<K: Ord + Clone, T, S: Clone> Drop for AdmittedSequence<K, T, S> {
    fn drop(&mut self) {
        let Some(ticket) = self.ticket else { return };
        // The lock is released by the time the payload is dropped.
        drop(self.queue.change(|state, clock| state.cancel(clock.now(), ticket)));
    }
}

impl<K: Ord + Clone, T, S: Clone> fmt::Debug for AdmittedSequence<K, T, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AdmittedSequence").field("ticket", &self.ticket).finish_non_exhaustive()
    }
}
