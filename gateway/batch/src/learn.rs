//! What the scheduler has learned of a model: what runs cost, which size is best, and for how
//! long it pays to wait.

use std::time::Duration;

use crate::cost::{Costs, nanos};
use crate::policy::{Mode, Policy};
use crate::size::BestSize;
use crate::time::Time;

/// For how long after a run its cost may keep an entry from being run, at least. Later, an
/// entry is tried all the same: a cost that nobody measures any more must not refuse all
/// work for ever.
const COST_FRESH: Duration = Duration::from_secs(1);

/// Share of the objective that an entry may take at most, as planned; the rest is for what
/// the plan does not know.
const BUDGET_MAX: f64 = 0.95;
/// Share of the objective at first.
const BUDGET_FIRST: f64 = 0.8;
/// The budget shrinks by this factor with a batch that missed the objective,
const BUDGET_CUT: f64 = 0.9;
/// and grows by this share of the objective with one that met it: balanced when one batch
/// in a hundred misses.
const BUDGET_STEP: f64 = 0.001;

/// How much cheaper a row must get by one more entry for it to be waited for.
const GAIN_MIN: f64 = 0.01;
/// Gaps between arrivals that are waited for: beyond them the next one is not coming soon.
const GAPS_WAITED: u32 = 3;

/// What is learned of one model.
#[derive(Debug)]
pub(crate) struct Learner {
    costs: Costs,
    size: BestSize,
    last_run: Option<Time>,
    /// Share of the latency objective that is planned with.
    budget: f64,
}

/// A lane for which it is asked how long to wait.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Held {
    pub(crate) rows: usize,
    pub(crate) entries: usize,
    pub(crate) oldest: Time,
    pub(crate) gap: Option<Duration>,
    /// Instances that are free.
    pub(crate) idle: usize,
}

impl Learner {
    pub(crate) fn new() -> Self {
        Self { costs: Costs::new(), size: BestSize::default(), last_run: None, budget: BUDGET_FIRST }
    }

    /// A run of so many rows took so long, and its oldest entry had waited so long before.
    pub(crate) fn observe(
        &mut self,
        now: Time,
        rows: usize,
        took: Duration,
        oldest_wait: Duration,
        policy: &Policy,
    ) {
        self.last_run = Some(now);
        self.costs.observe(rows, took);
        if policy.mode != Mode::Fixed {
            self.size.update(&self.costs);
        }
        if let Some(objective) = policy.latency_objective {
            self.budget = if oldest_wait.saturating_add(took) > objective {
                self.budget * BUDGET_CUT
            } else {
                (self.budget + BUDGET_STEP).min(BUDGET_MAX)
            };
        }
    }

    /// No run ends sooner than this, as far as is known now.
    pub(crate) fn floor(&self, now: Time) -> Duration {
        let floor = self.costs.floor();
        let is_fresh = self.last_run.is_some_and(|last| now.since(last) <= COST_FRESH.max(floor * 4));
        if is_fresh { floor } else { Duration::ZERO }
    }

    /// What a run of so many rows will cost, if that is known.
    pub(crate) fn cost(&self, rows: usize) -> Option<Duration> {
        self.costs.of(rows)
    }

    /// Where a batch is cut for the sake of its cost; `rows_max` for nowhere.
    pub(crate) fn rows(&mut self, policy: &Policy, waiting: usize) -> usize {
        match policy.mode {
            Mode::Fixed => policy.max_batch_size,
            Mode::Backpressure | Mode::Learned => self.size.rows(&self.costs, waiting, policy.max_batch_size),
        }
    }

    /// The size that is best, if that is known.
    pub(crate) fn best_rows(&self) -> Option<usize> {
        self.size.best(&self.costs)
    }

    /// Until when it pays to hold a batch back for the next entry; [`Time::START`] if it
    /// does not.
    pub(crate) fn holds(&self, now: Time, policy: &Policy, held: &Held) -> Time {
        let until = match policy.latency_objective {
            Some(objective) => self.holds_within(now, objective, held),
            None => self.holds_for_the_mean(now, held),
        };
        let until = until.unwrap_or(Time::START);
        match policy.max_queue_delay {
            Duration::ZERO => until,
            bound => until.min(held.oldest.after(bound)),
        }
    }

    /// As long as a row gets cheaper with the next entry, and its run would still end
    /// within the objective.
    fn holds_within(&self, now: Time, objective: Duration, held: &Held) -> Option<Time> {
        let (gap, next_rows) = (held.gap?, held.rows + self.entry_rows(held));
        let (cost, next_cost) = (self.cost(held.rows)?, self.cost(next_rows)?);
        let per_row = cost.as_secs_f64() / held.rows.max(1) as f64;
        let next_per_row = next_cost.as_secs_f64() / next_rows as f64;
        let latest = held.oldest.after(objective.mul_f64(self.budget)).before(next_cost);
        let pays = next_per_row < per_row * (1.0 - GAIN_MIN);
        (pays && now.after(gap) <= latest).then(|| latest.min(now.after(gap * GAPS_WAITED)))
    }

    /// Waiting for the next entry delays the n that wait by the gap to it, and each of all
    /// n + 1 by what the larger run costs more; without it, the next one waits for the run
    /// that begins now, and has a run of its own. Compared by the sum of all latencies, it
    /// pays when `gap < cost(1) / (n + 1) - (cost(n + 1) - cost(n))`. Where another
    /// instance is free the next one would not wait, so it never pays.
    fn holds_for_the_mean(&self, now: Time, held: &Held) -> Option<Time> {
        let gap = held.gap?;
        if held.idle > 1 {
            return None;
        }
        let entry_rows = self.entry_rows(held);
        let seconds = |rows: usize| self.cost(rows).map(|cost| cost.as_secs_f64());
        let alone = seconds(entry_rows)?;
        let more = seconds(held.rows + entry_rows)? - seconds(held.rows)?;
        let worth = nanos((alone / (held.entries + 1) as f64 - more) * 1e9);
        let latest = held.oldest.after(nanos(alone * 1e9));
        (gap < worth && now < latest).then(|| latest.min(now.after(gap * GAPS_WAITED)))
    }

    /// Rows of the next entry: what those that wait have on average.
    const fn entry_rows(&self, held: &Held) -> usize {
        match held.rows.checked_div(held.entries) {
            None | Some(0) => 1,
            Some(rows) => rows,
        }
    }
}
