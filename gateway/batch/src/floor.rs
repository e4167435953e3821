//! How long a run takes at least, as far as is known: an entry whose deadline is nearer is
//! refused at once.
//!
//! Refusing is wrong as soon as a run could have been shorter, so only runs of the same shape
//! count, and only those that had no more rows than the entry has: what a run of 64 rows takes
//! says nothing about an entry of one.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::entry::ShapeKey;
use crate::time::Time;

/// Runs of a shape that are remembered.
const RUNS_KEPT: usize = 15;

/// Of them so many must have had no more rows than an entry, to say anything about it.
const RUNS_TRUSTED: usize = 4;

/// Shapes that are remembered: those that ran last. Callers choose shapes, so without a bound
/// they would choose how much is remembered; a shape that is forgotten refuses nobody.
const SHAPES_MAX: usize = 64;

/// For how long after a run its time may keep an entry from being run, at least. Later, an
/// entry is tried all the same: a cost that nobody measures any more must not refuse all
/// work for ever.
const FRESH: Duration = Duration::from_secs(1);

/// The last runs, by shape.
#[derive(Debug, Default)]
pub(crate) struct Floors {
    shapes: BTreeMap<ShapeKey, Runs>,
}

#[derive(Debug)]
struct Runs {
    /// Rows and time of each, newest at `next - 1`.
    runs: [(usize, Duration); RUNS_KEPT],
    count: usize,
    next: usize,
    last_run: Time,
}

impl Floors {
    /// A run of this shape and so many rows took so long.
    pub(crate) fn observe(&mut self, now: Time, shape: ShapeKey, rows: usize, took: Duration) {
        if !self.shapes.contains_key(&shape) && self.shapes.len() >= SHAPES_MAX {
            let oldest = self.shapes.iter().min_by_key(|(_, runs)| runs.last_run).map(|(shape, _)| *shape);
            if let Some(oldest) = oldest {
                self.shapes.remove(&oldest);
            }
        }
        let runs = self.shapes.entry(shape).or_insert_with(|| Runs::new(now));
        runs.runs[runs.next] = (rows, took);
        runs.next = (runs.next + 1) % RUNS_KEPT;
        runs.count = (runs.count + 1).min(RUNS_KEPT);
        runs.last_run = now;
    }

    /// No run that an entry of this shape and so many rows is in ends sooner than this. Zero
    /// if that is not known.
    pub(crate) fn of(&self, now: Time, shape: ShapeKey, rows: usize) -> Duration {
        self.shapes.get(&shape).and_then(|runs| runs.floor(now, rows)).unwrap_or(Duration::ZERO)
    }
}

impl Runs {
    const fn new(now: Time) -> Self {
        Self { runs: [(0, Duration::ZERO); RUNS_KEPT], count: 0, next: 0, last_run: now }
    }

    fn floor(&self, now: Time, rows: usize) -> Option<Duration> {
        let comparable = self.runs.iter().take(self.count).filter(|(of, _)| *of <= rows);
        let (count, least) =
            comparable.fold((0, Duration::MAX), |(count, least), (_, took)| (count + 1, least.min(*took)));
        let is_fresh = now.since(self.last_run) <= FRESH.max(least.saturating_mul(4));
        (count >= RUNS_TRUSTED && is_fresh).then_some(least)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn floors(runs: &[(ShapeKey, usize, Duration)]) -> Floors {
        let mut floors = Floors::default();
        runs.iter().for_each(|(shape, rows, took)| floors.observe(Time::START, *shape, *rows, *took));
        floors
    }

    #[test]
    fn runs_of_more_rows_or_of_another_shape_say_nothing_about_an_entry() {
        let floors = floors(&[(7, 64, MS * 130); 6]);
        assert_eq!(floors.of(Time::START, 7, 64), MS * 130);
        assert_eq!(floors.of(Time::START, 7, 100), MS * 130);
        assert_eq!(floors.of(Time::START, 7, 1), Duration::ZERO);
        assert_eq!(floors.of(Time::START, 8, 64), Duration::ZERO);
    }

    #[test]
    fn the_shortest_of_the_last_runs_counts_while_it_is_fresh() {
        let few = floors(&[(7, 1, MS * 5); RUNS_TRUSTED - 1]);
        assert_eq!(few.of(Time::START, 7, 1), Duration::ZERO, "too few to be sure");
        let floors = floors(&[(7, 1, MS * 5), (7, 1, MS * 4), (7, 1, MS * 6), (7, 1, MS * 90)]);
        assert_eq!(floors.of(Time(FRESH), 7, 1), MS * 4);
        assert_eq!(floors.of(Time(FRESH + MS), 7, 1), Duration::ZERO);
    }

    #[test]
    fn callers_do_not_choose_how_many_shapes_are_remembered() {
        let mut floors = Floors::default();
        for shape in 0..10_000 {
            (0..4)
                .for_each(|_| floors.observe(Time(MS * u32::try_from(shape).expect("small")), shape, 1, MS));
        }
        assert_eq!(floors.shapes.len(), SHAPES_MAX);
        assert_eq!(floors.of(Time(MS * 9_999), 9_999, 1), MS);
    }
}
