//! What the scheduler has learned of a model: what runs cost, which size is best, and for how
//! long it pays to wait.

use std::time::Duration;

use crate::cost::{Costs, nanos};
use crate::entry::ShapeKey;
use crate::floor::Floors;
use crate::policy::{Mode, Policy};
use crate::size::BestSize;
use crate::time::Time;

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

/// What an entry may cost in a batch, against a run of its own, to be waited for: where
/// batching saves little, latency is not spent on it.
const JOINED_COST_MAX: f64 = 0.75;
/// What putting a thread to sleep and waking it costs, with a timer's lateness: a wait that is
/// worth less is none.
const SLEEP_COST: Duration = Duration::from_micros(60);
/// Gaps between arrivals that are waited for: beyond them the next one is not coming soon.
const GAPS_WAITED: u32 = 3;

/// A run that has ended well.
#[derive(Debug, Clone, Copy)]
pub struct Observed {
    /// What its rows have in common.
    pub shape: ShapeKey,
    /// How many rows it had.
    pub rows: usize,
    /// How long it kept its instance busy.
    pub took: Duration,
    /// How long its oldest entry had waited before.
    pub oldest_wait: Duration,
}

/// What is learned of one model.
#[derive(Debug)]
pub(crate) struct Learner {
    costs: Costs,
    size: BestSize,
    floors: Floors,
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
        Self {
            costs: Costs::new(),
            size: BestSize::default(),
            floors: Floors::default(),
            budget: BUDGET_FIRST,
        }
    }

    /// A run of so many rows took so long, and its oldest entry had waited so long before.
    pub(crate) fn observe(&mut self, now: Time, run: &Observed, policy: &Policy) {
        let Observed { shape, rows, took, oldest_wait } = *run;
        self.floors.observe(now, shape, rows, took);
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

    /// No run with such an entry ends sooner than this, as far as is known now.
    pub(crate) fn floor(&self, now: Time, shape: ShapeKey, rows: usize) -> Duration {
        self.floors.of(now, shape, rows)
    }

    /// What a run of so many rows will cost, if that is known.
    pub(crate) fn cost(&self, rows: usize) -> Option<Duration> {
        self.costs.of(rows)
    }

    /// Where a batch is cut however much waits, trials aside; `rows_max` for nowhere.
    pub(crate) fn cut(&self, policy: &Policy) -> usize {
        let rows_max = policy.max_batch_size;
        match policy.mode {
            _ if !policy.preferred_batch_sizes.is_empty() => {
                policy.preferred(rows_max, rows_max).unwrap_or(rows_max)
            }
            Mode::Fixed => rows_max,
            Mode::Backpressure | Mode::Learned => self.size.cut().map_or(rows_max, |cut| cut.min(rows_max)),
        }
    }

    /// What a run of so many rows costs at least, if anything is known.
    pub(crate) fn cost_at_least(&self, rows: usize) -> Option<Duration> {
        self.costs.at_least(rows)
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

    /// As long as the next entry is much cheaper in this batch than in a run of its own, and
    /// the run would still end within the objective.
    fn holds_within(&self, now: Time, objective: Duration, held: &Held) -> Option<Time> {
        let (gap, entry_rows) = (held.gap?, self.entry_rows(held));
        let (cost, next_cost) = (self.cost(held.rows)?, self.cost(held.rows + entry_rows)?);
        let pays = next_cost.saturating_sub(cost) < self.cost(entry_rows)?.mul_f64(JOINED_COST_MAX);
        let latest = held.oldest.after(objective.mul_f64(self.budget)).before(next_cost);
        (pays && now.after(gap) <= latest).then(|| latest.min(now.after(gap * GAPS_WAITED)))
    }

    /// Waiting for the next entry delays the n that wait by the gap to it, and each of all
    /// n + 1 by what the larger run costs more; without it, the next one waits for the run
    /// that begins now, and has a run of its own. Compared by the sum of all latencies, it
    /// pays when `gap < cost(1) / (n + 1) - (cost(n + 1) - cost(n))`, and by more than a
    /// sleep costs. Where another instance is free the next one would not wait, so it never
    /// pays.
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
        (gap + SLEEP_COST < worth && now < latest).then(|| latest.min(now.after(gap * GAPS_WAITED)))
    }

    /// Rows of the next entry: what those that wait have on average.
    const fn entry_rows(&self, held: &Held) -> usize {
        match held.rows.checked_div(held.entries) {
            None | Some(0) => 1,
            Some(rows) => rows,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// A learner of a model whose run takes 10 ms however many rows it has, or of one whose
    /// rows cost 10 ms each.
    fn learner(is_flat: bool) -> Learner {
        let mut learner = Learner::new();
        let policy = Policy::default();
        for rows in [1, 2, 4, 8] {
            let cost = if is_flat { MS * 10 } else { MS * 10 * u32::try_from(rows).expect("small") };
            (0..8).for_each(|_| learner.observe(Time::START, &run(rows, cost, Duration::ZERO), &policy));
        }
        learner
    }

    fn run(rows: usize, took: Duration, oldest_wait: Duration) -> Observed {
        Observed { shape: 0, rows, took, oldest_wait }
    }

    fn held(entries: usize, gap: Duration, idle: usize) -> Held {
        Held { rows: entries, entries, oldest: Time::START, gap: Some(gap), idle }
    }

    #[test]
    fn the_next_entry_is_waited_for_only_where_that_shortens_the_mean() {
        let policy = Policy { mode: Mode::Learned, ..Policy::default() };
        let flat = learner(true);
        // For two: 10 / 2 - 0 ms is what waiting is worth.
        assert!(flat.holds(Time::START, &policy, &held(1, MS * 4, 1)) > Time::START);
        assert_eq!(flat.holds(Time::START, &policy, &held(1, MS * 6, 1)), Time::START);
        assert_eq!(flat.holds(Time::START, &policy, &held(3, MS * 4, 1)), Time::START);
        // Where another instance is free, the next entry waits for nobody.
        assert_eq!(flat.holds(Time::START, &policy, &held(1, MS * 4, 2)), Time::START);
        let steep = learner(false);
        assert_eq!(steep.holds(Time::START, &policy, &held(1, MS, 1)), Time::START);
        assert_eq!(Learner::new().holds(Time::START, &policy, &held(1, MS, 1)), Time::START);
    }

    #[test]
    fn an_objective_is_used_up_for_larger_batches_and_no_further() {
        let policy = Policy {
            mode: Mode::Learned,
            latency_objective: Some(MS * 50),
            max_queue_delay: MS * 20,
            ..Policy::default()
        };
        let flat = learner(true);
        // 0.8 of the objective less the run leave 30 ms; the policy's own bound is 20 ms.
        assert_eq!(flat.holds(Time::START, &policy, &held(1, MS * 15, 1)), Time(MS * 20));
        assert_eq!(flat.holds(Time::START, &policy, &held(1, MS * 2, 1)), Time(MS * 6));
        assert_eq!(flat.holds(Time::START, &policy, &held(1, MS * 40, 1)), Time::START);
        assert_eq!(learner(false).holds(Time::START, &policy, &held(1, MS, 1)), Time::START);
    }

    #[test]
    fn an_objective_that_is_missed_is_planned_for_more_carefully() {
        let policy = Policy { latency_objective: Some(MS * 50), ..Policy::default() };
        let mut learner = learner(true);
        let before = learner.budget;
        (0..5).for_each(|_| learner.observe(Time::START, &run(1, MS * 10, MS * 45), &policy));
        assert!(learner.budget < before * 0.7, "{}", learner.budget);
        (0..2000).for_each(|_| learner.observe(Time::START, &run(1, MS * 10, MS), &policy));
        assert!((learner.budget - BUDGET_MAX).abs() < 0.01, "{}", learner.budget);
    }
}
