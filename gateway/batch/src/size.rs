//! The best size of a batch: the one beyond which a row gets no cheaper.
//!
//! The costs of sizes are learned while serving. As long as nothing is known against larger
//! batches than the best one, a batch takes what has queued: when traffic grows, the model keeps
//! up from the first run on, and what is to be known is learned from these runs. Where enough has
//! queued, sizes above and below the best one that are not known, or not lately, are tried for
//! a few runs, half an octave after the other, until one is much worse. So a trial never costs
//! much, and what has become cheaper is found again.

use std::collections::BTreeMap;

use crate::cost::{Class, Costs, RUNS_FRESH};

/// How much cheaper a row must be in a batch of twice the size: a larger batch also waits
/// for more entries to come and keeps them for longer.
const OCTAVE_GAIN: f64 = 0.01;

/// How much better another size must be before it takes over. Medians of a steady machine
/// differ by less, so that the choice does not go to and fro.
const LEAD: f64 = 0.02;
/// The same where runs differ among themselves: this share of how much they do. The median of
/// a dozen runs is sure to about a quarter of that, and two of them are compared.
const LEAD_OF_SPREAD: f64 = 0.5;

/// A size whose row costs so much more than the best one's ends the search on its side.
const MUCH_WORSE: f64 = 1.25;

/// A size whose row costs so much more in each of its first two runs ends the search too.
const HOPELESS: f64 = 1.5;
const HOPELESS_RUNS: usize = 2;
/// Runs between trials that do not look good,
const REST_RUNS: u64 = 8;
/// and between those that do: what else runs on the machine comes and goes, and must not be
/// there for one size only.
const PAUSE_RUNS: u64 = 3;
/// Runs that a size must have had to take over,
const SURE_RUNS: usize = 8;
/// unless its row costs less than this share of the best one's.
const CLEARLY_BETTER: f64 = 0.75;

/// Trials of a size after which its upper end is tried, because entries may be too large to
/// add up to its lower one; and after twice as many it is let be for as long as a size is
/// remembered.
const TRIALS: u32 = 9;

/// The best size, as far as it is known.
#[derive(Debug, Default)]
pub(crate) struct BestSize {
    best: Option<Class>,
    /// Where batches are cut. `None` where no larger size is known to be worse.
    cut: Option<usize>,
    /// The run before which nothing is tried: what a bad trial has left behind is worked off.
    rests_until: u64,
    trials: BTreeMap<Class, Trials>,
}

#[derive(Debug, Clone, Copy)]
struct Trials {
    since_run: u64,
    count: u32,
}

impl BestSize {
    /// Decides anew after a run.
    pub(crate) fn update(&mut self, costs: &Costs) {
        let score = |class: Class| score(costs, class);
        let is_sure = |class: &Class| costs.so_far(*class).is_some_and(|(runs, _)| runs >= SURE_RUNS);
        let current = self.best.and_then(score);
        // Where traffic has grown there is no time for more runs.
        let is_clear = |class: &Class| {
            let lately = costs.per_row_lately(*class).and_then(|_| score(*class)).zip(current);
            lately.is_some_and(|(cost, current)| cost < current * CLEARLY_BETTER)
        };
        let counts =
            |class: &Class| self.best.is_none_or(|best| best == *class || is_sure(class) || is_clear(class));
        let scored = costs.known().filter(counts).filter_map(|class| Some((class, score(class)?)));
        let leader = scored.min_by(|(_, one), (_, other)| one.total_cmp(other));
        self.best = match (leader, current) {
            (Some((class, better)), Some(current)) if better >= current * (1.0 - self.lead(costs, class)) => {
                self.best
            }
            (Some((class, _)), _) => Some(class),
            (None, _) => None,
        };
        self.cut = self.best.and_then(|best| self.cut_beyond(costs, best));
    }

    /// Where batches are cut if this size is the best one. A larger one that seems better, or was
    /// long ago, is no reason to: it will be tried.
    fn cut_beyond(&self, costs: &Costs, best: Class) -> Option<usize> {
        let (least, least_per_row) = (score(costs, best)?, costs.per_row(best)?);
        let mut is_worse = false;
        for class in costs.classes_beyond(best) {
            match score(costs, class) {
                Some(cost) if cost < least * (1.0 - self.lead(costs, class)) => {}
                Some(_) => is_worse = true,
                None => is_worse |= is_hopeless(costs, class, least_per_row),
            }
        }
        is_worse.then(|| costs.usual_rows(best))
    }

    /// The size at which batches are cut however much waits; `None` where nothing is known
    /// against larger ones.
    pub(crate) const fn cut(&self) -> Option<usize> {
        self.cut
    }

    /// How much better this class must be than the best one so far.
    fn lead(&self, costs: &Costs, class: Class) -> f64 {
        let current = self.best.map_or(0.0, |best| costs.spread(best));
        LEAD.max(LEAD_OF_SPREAD * f64::midpoint(current, costs.spread(class)))
    }

    /// The rows at which a batch should be cut when so many wait, of which a batch may
    /// take `rows_max`. `rows_max` itself means that nothing is known against it.
    pub(crate) fn rows(&mut self, costs: &Costs, waiting: usize, rows_max: usize) -> usize {
        let Some(best) = self.best else { return rows_max };
        let most = Class::of(waiting.min(rows_max));
        if most > best && self.cut.is_none() {
            return rows_max;
        }
        let trial = self.trial(costs, best, most).filter(|_| costs.runs() >= self.rests_until);
        let rows = match trial {
            Some(class) => {
                let looks_good = costs.so_far(class).zip(costs.per_row(best));
                let looks_good = looks_good.is_some_and(|((_, cost), least)| cost <= least * (1.0 + LEAD));
                self.rests_until = costs.runs() + if looks_good { PAUSE_RUNS } else { REST_RUNS };
                self.rows_of_trial(costs, class)
            }
            // The class's sizes cost much the same.
            None if most <= best => rows_max,
            None => self.cut.unwrap_or(rows_max),
        };
        rows.min(rows_max)
    }

    /// The best size, as it is usually run.
    pub(crate) fn best(&self, costs: &Costs) -> Option<usize> {
        self.best.map(|best| costs.usual_rows(best))
    }

    fn rows_of_trial(&mut self, costs: &Costs, class: Class) -> usize {
        let first = Trials { since_run: costs.runs(), count: 0 };
        let trials = self.trials.entry(class).or_insert(first);
        if first.since_run - trials.since_run > RUNS_FRESH {
            *trials = first;
        }
        trials.count += 1;
        if trials.count <= TRIALS { class.rows() } else { class.rows_max() }
    }

    /// Whether trials of a class came to nothing, and not long ago.
    fn is_out_of_reach(&self, costs: &Costs, class: Class) -> bool {
        self.trials
            .get(&class)
            .is_some_and(|trials| trials.count >= 2 * TRIALS && costs.runs() - trials.since_run <= RUNS_FRESH)
    }

    /// A size that should be measured, if there is one up to `most`.
    fn trial(&self, costs: &Costs, best: Class, most: Class) -> Option<Class> {
        let least = costs.per_row(best)?;
        let is_worse =
            |class: Class| costs.per_row_lately(class).is_some_and(|cost| cost > least * MUCH_WORSE);
        let bad = |class: Class| is_worse(class) || is_hopeless(costs, class, least);
        let unknown = |class: Class| {
            let exists = class.exists() && class <= most;
            let is_sure = costs.so_far(class).is_some_and(|(runs, _)| runs >= SURE_RUNS);
            exists && !is_sure && !bad(class) && !self.is_out_of_reach(costs, class)
        };
        let search = |classes: &mut dyn Iterator<Item = usize>| {
            let on_the_way = classes.map(Class).filter(|class| class.exists());
            on_the_way.take_while(|class| !bad(*class)).find(|class| unknown(*class))
        };
        search(&mut (best.0 + 1..=most.0)).or_else(|| search(&mut (0..best.0).rev()))
    }
}

/// What a row costs in a class, for the comparison of sizes.
fn score(costs: &Costs, class: Class) -> Option<f64> {
    let octaves = class.0 as f64 / 2.0;
    costs.per_row(class).map(|cost| cost * (1.0 + OCTAVE_GAIN * octaves))
}

/// Whether each of the first runs of a class was so dear that no more are needed.
fn is_hopeless(costs: &Costs, class: Class, least: f64) -> bool {
    costs.so_far(class).is_some_and(|(runs, cost)| runs >= HOPELESS_RUNS && cost > least * HOPELESS)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// Noise of some percent either way, the same in each run of the test.
    struct Machine {
        noise: u64,
        percent: f64,
    }

    impl Machine {
        fn run(&mut self, cost: f64) -> Duration {
            self.noise ^= self.noise << 13;
            self.noise ^= self.noise >> 7;
            self.noise ^= self.noise << 17;
            let unit = (self.noise >> 11) as f64 / (1_u64 << 53) as f64 - 0.5;
            Duration::from_secs_f64(cost * 1e-6 * (1.0 + 2.0 * unit * self.percent / 100.0))
        }
    }

    /// Microseconds of a row for a model whose cost at powers of two is measured.
    fn curve(points: &[(usize, f64)], rows: usize) -> f64 {
        let above = points.iter().position(|(size, _)| *size >= rows).unwrap_or(points.len() - 1);
        let ((less, low), (more, high)) = (points[above.saturating_sub(1)], points[above]);
        if more == less { high } else { low + (high - low) * ((rows - less) as f64 / (more - less) as f64) }
    }

    const SCORE: [(usize, f64); 6] = [(1, 34.0), (2, 13.0), (4, 7.8), (8, 6.8), (16, 6.1), (64, 5.9)];
    const RANK: [(usize, f64); 6] =
        [(1, 382.0), (2, 369.0), (4, 359.0), (8, 504.0), (16, 523.0), (64, 494.0)];

    /// Serves a queue that is never empty, and says the sizes that were run.
    fn serve(
        best: &mut BestSize,
        costs: &mut Costs,
        machine: &mut Machine,
        per_row: impl Fn(usize) -> f64,
        (runs, max): (usize, usize),
    ) -> Vec<usize> {
        let serve = |_| {
            let rows = best.rows(costs, 64, max).min(64);
            costs.observe(rows, machine.run(per_row(rows) * rows as f64));
            best.update(costs);
            rows
        };
        (0..runs).map(serve).collect()
    }

    fn usual(sizes: &[usize]) -> usize {
        let count = |size: usize| sizes.iter().filter(|other| **other == size).count();
        sizes.iter().copied().max_by_key(|size| count(*size)).expect("runs")
    }

    #[test]
    fn a_model_whose_rows_get_dearer_is_run_in_small_batches_and_one_whose_rows_get_cheaper_in_large_ones() {
        for (points, expected) in [(&RANK, 2..=4), (&SCORE, 16..=64)] {
            let (mut best, mut costs) = (BestSize::default(), Costs::new());
            let mut machine = Machine { noise: 7, percent: 5.0 };
            let sizes = serve(&mut best, &mut costs, &mut machine, |rows| curve(points, rows), (4000, 64));
            let late = &sizes[600..];
            assert!(expected.contains(&usual(late)), "{}: {:?}", usual(late), best.best(&costs));
            let spent: f64 = late.iter().map(|rows| curve(points, *rows)).sum();
            let least = points.iter().map(|(_, cost)| *cost).fold(f64::INFINITY, f64::min);
            let mean = spent / late.len() as f64;
            assert!(mean < least * 1.06, "a row costs {mean} us, {least} at best");
        }
    }

    #[test]
    fn a_steady_machine_is_not_served_by_turns_in_this_size_and_that() {
        let (mut best, mut costs) = (BestSize::default(), Costs::new());
        let mut machine = Machine { noise: 3, percent: 3.0 };
        let sizes = serve(&mut best, &mut costs, &mut machine, |rows| curve(&RANK, rows), (20_000, 64));
        let late = &sizes[2000..];
        let changes = late.windows(2).filter(|pair| pair[0] != pair[1]).count();
        assert!(changes * 50 < late.len(), "{changes} changes in {} runs", late.len());
    }

    #[test]
    fn a_noisy_machine_is_not_served_by_turns_either() {
        let (mut best, mut costs) = (BestSize::default(), Costs::new());
        let mut machine = Machine { noise: 11, percent: 25.0 };
        let mut serve = |runs| {
            let mut chosen = Vec::new();
            for _ in 0..runs {
                serve(&mut best, &mut costs, &mut machine, |rows| curve(&RANK, rows), (1, 64));
                chosen.extend(best.best);
            }
            chosen
        };
        serve(2_000);
        let chosen = serve(20_000);
        let changes = chosen.windows(2).filter(|pair| pair[0] != pair[1]).count();
        assert!(changes <= 40, "{changes} changes of the best size in 20,000 runs");
        let dear = chosen.iter().filter(|class| class.rows() > 6).count();
        assert!(dear * 10 < chosen.len(), "{dear} of 20,000 runs at a dear size");
    }

    #[test]
    fn entries_too_large_for_some_sizes_do_not_have_them_tried_for_ever() {
        let (mut best, mut costs) = (BestSize::default(), Costs::new());
        let sizes: Vec<_> = (0..2000)
            .map(|_| {
                // Entries of 60 rows, so that none add up to 64 or 256.
                let rows = (best.rows(&costs, 960, 960) / 60).max(1) * 60;
                costs.observe(rows, Duration::from_secs_f64(curve(&RANK, rows / 60) * rows as f64 * 1e-6));
                best.update(&costs);
                rows
            })
            .collect();
        assert!((120..=300).contains(&usual(&sizes[1000..])), "{}", usual(&sizes[1000..]));
        let others = sizes[1000..].iter().filter(|rows| **rows != usual(&sizes[1000..])).count();
        assert!(others < 130, "{others} runs of other sizes");
    }

    #[test]
    fn the_size_follows_when_the_costs_change() {
        let (mut best, mut costs) = (BestSize::default(), Costs::new());
        let mut machine = Machine { noise: 5, percent: 5.0 };
        serve(&mut best, &mut costs, &mut machine, |rows| curve(&RANK, rows), (3000, 64));
        assert!(best.best(&costs).is_some_and(|rows| rows <= 4), "{:?}", best.best(&costs));
        let sizes = serve(&mut best, &mut costs, &mut machine, |rows| curve(&SCORE, rows), (16_000, 64));
        assert!(usual(&sizes[8000..]) >= 16, "{}", usual(&sizes[8000..]));
        let sizes = serve(&mut best, &mut costs, &mut machine, |rows| curve(&RANK, rows), (16_000, 64));
        assert!(usual(&sizes[8000..]) <= 4, "{}", usual(&sizes[8000..]));
    }
}
