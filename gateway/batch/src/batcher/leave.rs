//! Entries that leave without a run: expired, timed out, cancelled, or orphaned.

use super::{Batcher, Ticket};
use crate::entry::{Entry, Expired, Lateness};
use crate::policy::TimeoutAction;
use crate::pool::Pool;
use crate::time::Time;

/// How much longer than learned a run may take when a deadline is planned for.
const COST_MARGIN: f64 = 1.25;

impl<T> Batcher<T> {
    /// Takes out the entries that will not run: those whose deadline has passed, or would
    /// during the shortest run that they could be in, in the order of deadlines; then those
    /// that have waited for as long as their policy lets them. `poll` does this first of all;
    /// call it to answer them in time while no instance is free.
    pub fn expire(&mut self, now: Time) -> Vec<Expired<T>> {
        self.now = self.now.max(now);
        let mut expired = Vec::new();
        self.expire_pool(None, &mut expired);
        if !self.bound.is_empty() {
            let bound: Vec<_> = self.bound.keys().copied().collect();
            for instance in bound {
                self.expire_pool(Some(instance), &mut expired);
            }
        }
        while let Some((timeout, slot)) = self.timeouts.first().copied()
            && timeout <= self.now
        {
            self.timeouts.pop_first();
            self.time_out(slot, &mut expired);
        }
        expired
    }

    /// Takes an entry out that still waits; `None` if it has left already.
    pub fn cancel(&mut self, ticket: Ticket) -> Option<Entry<T>> {
        self.waiting.get(ticket.slot).filter(|waiting| waiting.rank.arrival == ticket.arrival)?;
        self.leave(ticket.slot)
    }

    /// The instance of this number will never ask again: takes out what it alone could
    /// run, and refuses such entries from now on.
    pub fn abandon(&mut self, instance: usize) -> Vec<Entry<T>> {
        self.gone.insert(instance);
        let mut orphans = Vec::new();
        let slots: Vec<_> = self
            .waiting
            .iter()
            .filter_map(|(slot, waiting)| (waiting.entry.instance == Some(instance)).then_some(slot))
            .collect();
        for slot in slots {
            orphans.extend(self.leave(slot));
        }
        orphans
    }

    /// In the order of deadlines: one that could be met keeps later ones from being looked
    /// at, which are then answered a little later.
    fn expire_pool(&mut self, of: Option<usize>, expired: &mut Vec<Expired<T>>) {
        while let Some((pool, _)) = self.pool(of)
            && let Some((deadline, slot)) = pool.deadlines.first().copied()
            && let Some(waiting) = self.waiting.get(slot)
            && self.too_late(&waiting.entry).is_some_and(|too_late| too_late <= self.now)
        {
            let why = if deadline <= self.now { Lateness::Deadline } else { Lateness::Unreachable };
            let Some(entry) = self.leave(slot) else { break };
            expired.push(Expired { entry, why });
        }
    }

    /// An entry has waited for as long as its policy lets it.
    fn time_out(&mut self, slot: usize, expired: &mut Vec<Expired<T>>) {
        let Some(waiting) = self.waiting.get_mut(slot) else { return };
        waiting.timeout = None;
        let (before, instance, lane, rank) =
            (waiting.flow(), waiting.entry.instance, waiting.lane, waiting.rank);
        let action = self.policy.queue_policy(waiting.tier.level()).timeout_action;
        match action {
            TimeoutAction::Reject => {
                let why = Lateness::Timeout;
                expired.extend(self.leave(slot).map(|entry| Expired { entry, why }));
            }
            TimeoutAction::Delay => {
                waiting.tier = waiting.tier.delayed();
                let after = waiting.flow();
                let (pool, _, tenants) = self.split(instance);
                if let Some(place) = pool.remove(lane, before, rank, tenants) {
                    pool.insert(lane, after, rank, place, tenants);
                }
            }
        }
    }

    /// Takes one entry out of its lane and of everything else.
    fn leave(&mut self, slot: usize) -> Option<Entry<T>> {
        let waiting = self.waiting.get(slot)?;
        let (flow, rank, lane, instance) =
            (waiting.flow(), waiting.rank, waiting.lane, waiting.entry.instance);
        let (pool, _, tenants) = self.split(instance);
        pool.remove(lane, flow, rank, tenants);
        let entry = self.forget(slot).map(|(entry, _)| entry);
        self.settle(instance, lane);
        entry
    }

    /// Takes out an entry that has left its lane, and says when it arrived.
    pub(super) fn forget(&mut self, slot: usize) -> Option<(Entry<T>, Time)> {
        let waiting = self.waiting.remove(slot)?;
        let (level, lane, arrived, timeout) =
            (waiting.tier.level(), waiting.lane, waiting.arrived, waiting.timeout);
        let entry = waiting.entry;
        let (pool, arrivals, tenants) = self.split(entry.instance);
        pool.depart(arrivals, lane, slot);
        if let Some(deadline) = entry.deadline {
            pool.deadlines.remove(&(deadline, slot));
        }
        tenants.leave(entry.tenant);
        if let Some(timeout) = timeout {
            self.timeouts.remove(&(timeout, slot));
        }
        let (entries, rows) = self.level_mut(level);
        (*entries, *rows) = (entries.saturating_sub(1), rows.saturating_sub(entry.rows));
        self.rows -= entry.rows;
        Some((entry, arrived))
    }

    /// Lets a lane run before its time if the entry with the earliest deadline could not
    /// meet it otherwise.
    pub(super) fn press(&mut self, of: Option<usize>) {
        loop {
            let pool = match of {
                None => &self.shared,
                Some(instance) => match self.bound.get(&instance) {
                    Some(pool) => pool,
                    None => return,
                },
            };
            let Some((_, slot)) = pool.deadlines.first().copied() else { return };
            let Some(lane) = self.waiting.get(slot).map(|waiting| waiting.lane) else { return };
            if self.presses(pool, slot).is_none_or(|at| at > self.now) {
                return;
            }
            if let Some((pool, tenants)) = self.pool(of) {
                pool.press(lane, tenants);
            }
        }
    }

    /// When the lane of this entry, the one of its pool with the earliest deadline, is to
    /// run for the sake of it; `None` if it may run anyway.
    ///
    /// As long before the deadline as a batch of it is going to take; while that is not
    /// known, when half of the time that the entry had is gone.
    pub(super) fn presses(&self, pool: &Pool, slot: usize) -> Option<Time> {
        let waiting = self.waiting.get(slot)?;
        let deadline = waiting.entry.deadline?;
        if pool.is_ripe(waiting.lane) {
            return None;
        }
        let rows = pool.lane(waiting.lane).rows.min(self.policy.max_batch_size);
        let needed = match self.learner.cost(rows) {
            Some(cost) => cost.mul_f64(COST_MARGIN),
            None => deadline.since(waiting.arrived) / 2,
        };
        Some(deadline.before(needed))
    }
}
