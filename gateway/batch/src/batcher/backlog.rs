//! Telling at once who would wait for too long.
//!
//! When more comes than can be run, whatever is admitted beyond what the instances can do by
//! its deadline is answered too late, and keeps what comes after it waiting too: with a full
//! queue nothing but late answers is made. So an entry is only admitted if the rows that go
//! before it, and its own, will have run by its deadline, at the pace of late. A run has the
//! rows of one shape only, so the pace is reckoned with the runs that what waits will take.

use std::time::Duration;

use super::Batcher;
use crate::entry::{Entry, TenantKey};
use crate::order::Tier;
use crate::pool::Pool;
use crate::time::Time;

/// Share of the time until its deadline by which an entry should have run, as estimated. The
/// rest is for runs that take longer than usual.
const PLANNED: f64 = 0.9;

/// What is left of the runs under way, on average.
const UNDER_WAY: f64 = 0.5;

/// The first deadline behind all others.
const LAST_SLOT: usize = usize::MAX;

/// Weight of the latest entry in the average of their rows.
const LATEST: f64 = 1.0 / 16.0;

/// What is asked about an entry.
struct Ask {
    rows: usize,
    deadline: Time,
    level: u32,
    tenant: TenantKey,
    instance: Option<usize>,
    /// Runs more than for what waits already.
    more_runs: usize,
}

impl<T> Batcher<T> {
    /// Whether what goes before an entry takes until after its deadline, as far as is known.
    /// Where nothing waits nobody is refused: it will be seen what its run takes.
    pub(super) fn is_behind(&self, entry: &Entry<T>, level: u32) -> bool {
        let &Entry { rows, deadline, tenant, instance, .. } = entry;
        let Some(deadline) = deadline.filter(|_| !self.is_empty()) else { return false };
        let more_runs = self.pool_of(instance).map_or(1, |pool| pool.more_runs(entry.shape, rows));
        self.is_late(&Ask { rows, deadline, level, tenant, instance, more_runs }, 0)
    }

    /// The same for an entry that is still being made, and will have as many rows as entries
    /// usually have; so have the `coming` ones that are being made before it. Who is told now
    /// is spared the making. Nobody is while an instance has nothing to do: what is made for
    /// it may take longer than the runs.
    pub fn would_be_behind(
        &mut self,
        now: Time,
        deadline: Time,
        (priority, tenant): (u32, TenantKey),
        coming: usize,
    ) -> bool {
        self.now = self.now.max(now);
        if self.is_empty() && (coming == 0 || self.idle > 0) {
            return false;
        }
        let (rows, level) = (self.usual_rows(), self.policy.level(priority));
        let ask = Ask { rows, deadline, level, tenant, instance: None, more_runs: 0 };
        self.is_late(&ask, coming.saturating_mul(rows))
    }

    /// Takes an entry into the average of their rows.
    pub(super) fn note_rows(&mut self, rows: usize) {
        self.rows_on_average += (rows as f64 - self.rows_on_average) * LATEST;
    }

    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an average of sizes")]
    fn usual_rows(&self) -> usize {
        (self.rows_on_average.round() as usize).max(1)
    }

    fn is_late(&self, ask: &Ask, coming: usize) -> bool {
        let all = self.rows + coming + ask.rows;
        let runs = self.runs_of(ask, all).max(1);
        let cost = self.learner.cost_at_least(all.div_ceil(runs).max(1));
        let Some(cost) = cost.filter(|cost| !cost.is_zero()) else { return false };
        // As many of the rows as of their runs.
        let fitting = self.runs_within(ask.deadline.since(self.now), cost);
        let room = fitting.saturating_mul(all) / runs;
        // Mostly everything that waits has room, whatever its order.
        all > room && self.rows_before(ask, room) + coming + ask.rows > room
    }

    /// Runs that `all` rows take: those of what waits, and as many more as there must be. What
    /// is still being made may share the runs of what waits.
    fn runs_of(&self, ask: &Ask, all: usize) -> usize {
        let rows_max = match self.policy.max_batch_size {
            0 => ask.rows,
            _ => self.run_rows,
        };
        let least = all.div_ceil(rows_max.max(1));
        if self.policy.max_batch_size == 0 {
            return least;
        }
        let bound: usize = self.bound.values().map(Pool::runs).sum();
        least.max(self.shared.runs() + bound + ask.more_runs)
    }

    /// Counts runs as batches are cut now.
    pub(super) fn count_runs(&mut self) {
        let rows = self.learner.cut(&self.policy);
        if rows != self.run_rows {
            self.run_rows = rows;
            self.shared.count_runs_of(rows);
            self.bound.values_mut().for_each(|pool| pool.count_runs_of(rows));
        }
    }

    /// Runs that can be made within this time.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a float becomes the nearest number there is, and no count is negative"
    )]
    fn runs_within(&self, left: Duration, cost: Duration) -> usize {
        let under_way = if self.idle == 0 { UNDER_WAY } else { 0.0 };
        let runs = left.as_secs_f64() * PLANNED / cost.as_secs_f64() - under_way;
        (runs.max(0.0).floor() as usize).saturating_mul(self.instances)
    }

    /// Rows that run before an entry: those of higher levels, and those with an earlier deadline
    /// of its own. Tenants take turns, so each of the others is counted with as many rows as this one has
    /// at most. Stops counting where it is more than `enough`.
    fn rows_before(&self, ask: &Ask, enough: usize) -> usize {
        let Some(pool) = self.pool_of(ask.instance) else { return 0 };
        let (mut own, mut others) = (0, 0);
        for (_, slot) in pool.deadlines.range(..=(ask.deadline, LAST_SLOT)) {
            let Some(waiting) = self.waiting.get(*slot) else { continue };
            if waiting.tier >= Tier::of_level(ask.level + 1) || waiting.tier < Tier::of_level(ask.level) {
                continue;
            }
            if waiting.entry.tenant == ask.tenant {
                own += waiting.entry.rows;
                if own > enough {
                    break;
                }
            } else {
                others += waiting.entry.rows;
            }
        }
        let higher: usize = self.levels.iter().take(ask.level as usize).map(|(_, rows)| *rows).sum();
        let rivals = self.tenants.others_waiting(ask.tenant);
        higher + own + others.min((own + ask.rows).saturating_mul(rivals))
    }
}
