//! What a run costs, learned from the runs before, by how many rows it had.
//!
//! Sizes fall into classes, two to an octave. Each class remembers its last few runs, and
//! its cost is their median: a run that the machine interrupted changes nothing. What a class
//! that had no run for long has cost is still better than nothing, since traffic that was quiet
//! for a while may grow at once; but it is measured anew as soon as enough has queued.

use std::time::Duration;

/// Runs that a class remembers. The median follows a change after half of them.
const RUNS_KEPT: usize = 15;

/// Runs that a class must have had before it counts for anything.
const RUNS_TRUSTED: usize = 4;

/// Runs of the model after which a class without one is stale. Some seconds at the
/// speed of a small model: long enough that measuring anew costs nothing, short enough that
/// the sizes follow when the machine or the inputs change.
pub(crate) const RUNS_FRESH: u64 = 4096;

/// Classes: two for each octave up to the largest entry, 2^32 rows.
const CLASSES: usize = 64;

/// A class of sizes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Class(pub(crate) usize);

impl Class {
    /// 1, 2, 3, 4, 6, 8, 12, … each begin a class.
    pub(crate) fn of(rows: usize) -> Self {
        let rows = rows.max(1);
        let octave = rows.ilog2() as usize;
        let upper = octave > 0 && rows >> (octave - 1) & 1 == 1;
        Self((2 * octave + usize::from(upper)).min(CLASSES - 1))
    }

    /// The least size of the class.
    pub(crate) const fn rows(self) -> usize {
        let octave = self.0 / 2;
        let base = 1_usize << octave;
        if self.0.is_multiple_of(2) { base } else { base + base / 2 }
    }

    /// The largest size of the class.
    pub(crate) const fn rows_max(self) -> usize {
        match Self(self.0 + 1) {
            next if next.exists() => next.rows() - 1,
            _ => self.rows(),
        }
    }

    /// Whether a size falls into it: between 1 and 2 there is none.
    pub(crate) const fn exists(self) -> bool {
        self.0 != 1 && self.0 < CLASSES
    }
}

#[derive(Debug, Clone, Default)]
struct Seen {
    /// Nanoseconds of each row, newest at `next - 1`.
    per_row: [f64; RUNS_KEPT],
    rows: f64,
    count: usize,
    next: usize,
    last_run: u64,
    median: f64,
    /// The median of before it was stale, which counts until there is a new one.
    before: Option<f64>,
    /// Of the costs of a row, the middle half lies within so much, as a share of the median.
    spread: f64,
}

/// The costs of one model.
#[derive(Debug)]
pub(crate) struct Costs {
    classes: Box<[Seen]>,
    runs: u64,
}

impl Costs {
    pub(crate) fn new() -> Self {
        Self { classes: vec![Seen::default(); CLASSES].into(), runs: 0 }
    }

    /// A run of so many rows took so long.
    pub(crate) fn observe(&mut self, rows: usize, took: Duration) {
        self.runs += 1;
        let class = Class::of(rows);
        let runs = self.runs;
        let Some(seen) = self.classes.get_mut(class.0) else { return };
        if runs - seen.last_run > RUNS_FRESH && seen.count > 0 {
            *seen = Seen { before: seen.cost(), rows: seen.rows, spread: seen.spread, ..Seen::default() };
        }
        seen.last_run = runs;
        seen.add(rows.max(1) as f64, took.as_secs_f64() * 1e9);
    }

    /// Runs seen so far.
    pub(crate) const fn runs(&self) -> u64 {
        self.runs
    }

    fn seen(&self, class: Class) -> Option<&Seen> {
        self.classes.get(class.0).filter(|seen| seen.count > 0)
    }

    fn fresh(&self, class: Class) -> Option<&Seen> {
        self.seen(class).filter(|seen| self.runs - seen.last_run <= RUNS_FRESH)
    }

    pub(crate) fn is_trusted(&self, class: Class) -> bool {
        self.per_row(class).is_some()
    }

    /// Nanoseconds of a row in a run of this class, if that is known, of however long ago.
    pub(crate) fn per_row(&self, class: Class) -> Option<f64> {
        self.seen(class).and_then(Seen::cost)
    }

    /// The same if it was learned lately.
    pub(crate) fn per_row_lately(&self, class: Class) -> Option<f64> {
        self.fresh(class).filter(|seen| seen.count >= RUNS_TRUSTED).map(|seen| seen.median)
    }

    /// Runs of this class lately, as far as they are remembered, and the least that a row cost
    /// in them.
    pub(crate) fn so_far(&self, class: Class) -> Option<(usize, f64)> {
        let seen = self.fresh(class)?;
        Some((seen.count, seen.per_row.iter().take(seen.count).copied().fold(f64::INFINITY, f64::min)))
    }

    /// The rows that a run of this class usually has.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an average of sizes")]
    pub(crate) fn usual_rows(&self, class: Class) -> usize {
        let usual = self.seen(class).map_or(0, |seen| seen.rows.round() as usize);
        usual.clamp(class.rows(), class.rows_max())
    }

    /// How much the costs of a row in this class differ, as a share.
    pub(crate) fn spread(&self, class: Class) -> f64 {
        self.seen(class).map_or(0.0, |seen| seen.spread)
    }

    /// The classes of larger sizes that had a run.
    pub(crate) fn classes_beyond(&self, class: Class) -> impl Iterator<Item = Class> {
        (class.0 + 1..CLASSES).map(Class).filter(|class| self.seen(*class).is_some())
    }

    /// The classes that are known, smallest first.
    pub(crate) fn known(&self) -> impl DoubleEndedIterator<Item = Class> {
        (0..CLASSES).map(Class).filter(|class| self.is_trusted(*class))
    }

    /// What a run of so many rows costs at least: as [`Self::of`] says up to the largest size
    /// that is known, beyond it no more than that one.
    pub(crate) fn at_least(&self, rows: usize) -> Option<Duration> {
        let largest = self.known().next_back()?;
        self.of(if Class::of(rows) > largest { self.usual_rows(largest) } else { rows })
    }

    /// What a run of so many rows will cost; `None` while nothing near is known. Between
    /// known sizes on the line from one to the other, below the least as much as that
    /// one, above the largest in proportion.
    pub(crate) fn of(&self, rows: usize) -> Option<Duration> {
        let class = Class::of(rows);
        if let Some(per_row) = self.per_row(class) {
            return Some(nanos(per_row * rows.max(1) as f64));
        }
        let total =
            |class: Class| Some((self.seen(class)?.rows, self.per_row(class)? * self.seen(class)?.rows));
        let below = (0..class.0).rev().map(Class).find(|class| self.is_trusted(*class)).and_then(total);
        let above = (class.0 + 1..CLASSES).map(Class).find(|class| self.is_trusted(*class)).and_then(total);
        let rows = rows.max(1) as f64;
        let cost = match (below, above) {
            (None, None) => return None,
            (None, Some((_, cost))) => cost,
            (Some((known, cost)), None) => cost * rows / known,
            (Some((less, low)), Some((more, high))) => {
                low + (high - low) * ((rows - less) / (more - less)).clamp(0.0, 1.0)
            }
        };
        Some(nanos(cost))
    }
}

impl Seen {
    /// Nanoseconds of a row, if there were enough runs.
    fn cost(&self) -> Option<f64> {
        if self.count >= RUNS_TRUSTED { Some(self.median) } else { self.before }
    }

    fn add(&mut self, rows: f64, took: f64) {
        self.per_row[self.next] = took / rows;
        self.next = (self.next + 1) % RUNS_KEPT;
        self.count = (self.count + 1).min(RUNS_KEPT);
        let is_first = self.count == 1 && self.before.is_none();
        self.rows = if is_first { rows } else { self.rows + (rows - self.rows) / 8.0 };
        let mut sorted = self.per_row;
        let sorted = &mut sorted[..self.count];
        sorted.sort_unstable_by(f64::total_cmp);
        self.median = sorted[self.count / 2];
        self.spread =
            (sorted[self.count * 3 / 4] - sorted[self.count / 4]) / self.median.max(f64::MIN_POSITIVE);
    }
}

/// Nanoseconds as a duration; never negative, never without end.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to what fits")]
pub(crate) fn nanos(nanos: f64) -> Duration {
    Duration::from_nanos(nanos.clamp(0.0, 1e18) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn us(us: u64) -> Duration {
        Duration::from_micros(us)
    }

    #[test]
    fn every_size_has_a_class_and_classes_are_half_octaves() {
        let classes: Vec<_> = [1, 2, 3, 4, 5, 6, 7, 8, 11, 12, 16, 64, 96, 100].map(Class::of).into();
        let numbers: Vec<_> = classes.iter().map(|class| class.0).collect();
        assert_eq!(numbers, [0, 2, 3, 4, 4, 5, 5, 6, 6, 7, 8, 12, 13, 13]);
        for number in (0..CLASSES).filter(|number| Class(*number).exists()) {
            assert_eq!(Class::of(Class(number).rows()), Class(number));
        }
        assert!(Class::of(usize::MAX).exists());
    }

    #[test]
    fn one_slow_run_among_many_changes_nothing() {
        let mut costs = Costs::new();
        for run in 0..20 {
            costs.observe(8, if run % 7 == 3 { us(90_000) } else { us(80) });
        }
        assert_eq!(costs.of(8), Some(us(80)));
    }

    #[test]
    fn unknown_sizes_lie_between_their_neighbours() {
        let mut costs = Costs::new();
        assert_eq!(costs.of(4), None);
        for _ in 0..RUNS_TRUSTED {
            costs.observe(4, us(40));
            costs.observe(16, us(100));
        }
        assert_eq!(costs.of(2), Some(us(40)), "no less than the least that is known");
        assert_eq!(costs.of(10), Some(us(70)));
        assert_eq!(costs.of(32), Some(us(200)));
    }

    #[test]
    fn a_size_that_no_run_had_for_long_is_known_until_it_was_measured_anew() {
        let mut costs = Costs::new();
        (0..RUNS_TRUSTED).for_each(|_| costs.observe(64, us(640)));
        (0..=RUNS_FRESH).for_each(|_| costs.observe(4, us(40)));
        assert_eq!(costs.of(64), Some(us(640)));
        assert_eq!((costs.per_row_lately(Class::of(64)), costs.so_far(Class::of(64))), (None, None));
        (1..RUNS_TRUSTED).for_each(|_| costs.observe(64, us(128)));
        assert_eq!(costs.of(64), Some(us(640)), "the first runs may be those of a machine that woke up");
        costs.observe(64, us(128));
        assert_eq!(costs.of(64), Some(us(128)));
    }
}
