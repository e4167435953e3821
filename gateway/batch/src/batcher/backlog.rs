//! Telling at once who would wait for too long.
//!
//! When more comes than can be run, whatever is admitted beyond what the instances can do by
//! its deadline is answered too late, and keeps what comes after it waiting too: with a full
//! queue nothing but late answers is made. So an entry is only admitted if the rows that go
//! before it, and its own, will have run by its deadline, at the pace of late.

use std::time::Duration;

use super::Batcher;
use crate::entry::Entry;
use crate::order::Tier;
use crate::time::Time;

/// Share of the time until its deadline by which an entry should have run, as estimated. The
/// rest is for runs that take longer than usual.
const PLANNED: f64 = 0.9;

/// What is left of the runs under way, on average.
const UNDER_WAY: f64 = 0.5;

/// The first deadline behind all others.
const LAST_SLOT: usize = usize::MAX;

impl<T> Batcher<T> {
    /// Whether what goes before an entry takes until after its deadline, as far as is known.
    /// Where nothing waits nobody is refused: it will be seen what its run takes.
    pub(super) fn is_behind(&self, entry: &Entry<T>, level: u32) -> bool {
        let Some(deadline) = entry.deadline.filter(|_| !self.is_empty()) else { return false };
        let rows_max = match self.policy.max_batch_size {
            0 => entry.rows,
            most => self.learner.rows_that_pay().unwrap_or(most).min(most),
        };
        let rows_per_run = rows_max.min(self.rows + entry.rows).max(1);
        let cost = self.learner.cost_at_least(rows_per_run);
        let Some(cost) = cost.filter(|cost| !cost.is_zero()) else { return false };
        let room = self.room(deadline.since(self.now), cost, rows_per_run);
        // Mostly everything that waits has room, whatever its order.
        self.rows + entry.rows > room && self.rows_before(entry, deadline, level, room) + entry.rows > room
    }

    /// Rows that can be run within this time.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a float becomes the nearest number there is, and no count is negative"
    )]
    fn room(&self, left: Duration, cost: Duration, rows_per_run: usize) -> usize {
        let under_way = if self.idle == 0 { UNDER_WAY } else { 0.0 };
        let runs = left.as_secs_f64() * PLANNED / cost.as_secs_f64() - under_way;
        (runs.max(0.0).floor() as usize).saturating_mul(self.instances).saturating_mul(rows_per_run)
    }

    /// Rows that run before an entry: those with an earlier deadline that no lower level has.
    /// Tenants take turns, so each of the others is counted with as many rows as this one has
    /// at most. Stops counting where it is more than `enough`.
    fn rows_before(&self, entry: &Entry<T>, deadline: Time, level: u32, enough: usize) -> usize {
        let Some(pool) = self.pool_of(entry.instance) else { return 0 };
        let (mut own, mut others) = (0, 0);
        for (_, slot) in pool.deadlines.range(..=(deadline, LAST_SLOT)) {
            let Some(waiting) = self.waiting.get(*slot) else { continue };
            if waiting.tier >= Tier::of_level(level + 1) {
                continue;
            }
            if waiting.entry.tenant == entry.tenant {
                own += waiting.entry.rows;
                if own > enough {
                    break;
                }
            } else {
                others += waiting.entry.rows;
            }
        }
        let rivals = self.tenants.others_waiting(entry.tenant);
        own + others.min((own + entry.rows).saturating_mul(rivals))
    }
}
