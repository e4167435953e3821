//! What batching policies cost: the real scheduler in virtual time, one instance, with the
//! cost curves that were measured of the workload's models, and one that is made up.
//!
//! The bound beside them is no policy: it is what no scheduler can beat, also one that knew
//! all arrivals. A request takes at least a run of its own; and the instance can have
//! answered `j` requests no sooner than the first `j` arrivals have brought it `j` times the
//! least cost of a request in a batch of any size. So the `j`-th answer is not before
//! `max(arrival(j) + cost(1), D(j))` with `D(j) = max(arrival(j), D(j - 1)) + least`. The mean
//! of these is a true bound of the mean, which is usually out of reach: it charges every
//! request the cost of the best batch without ever waiting for one. The bound's p99 is that
//! of the same schedule and no proof for other orders of answers.

mod arrivals;
mod curve;
mod plot;
mod simulate;

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use sluice_batch::{Mode, Policy};

pub use arrivals::Pattern;
use curve::Curve;
use plot::{Panel, Series};
use simulate::Outcome;

/// Requests of one simulated history. A p99 rests on 200 of them.
const REQUESTS: usize = 20_000;

/// Most requests in a batch, as the benchmark's configuration has it.
const BATCH_MAX: usize = 64;

/// Arrivals a second, against the most that the instance could answer with the best batches.
const LOADS: [f64; 8] = [0.05, 0.1, 0.2, 0.35, 0.5, 0.7, 0.85, 0.95];

/// What is compared.
fn policies(curve: &Curve) -> Vec<(&'static str, Policy)> {
    let base = Policy { max_batch_size: BATCH_MAX, max_queue_size: 1 << 20, ..Policy::default() };
    let fixed = |delay_us: u64| {
        let max_queue_delay = Duration::from_micros(delay_us);
        Policy { mode: Mode::Fixed, max_queue_delay, ..base.clone() }
    };
    let objective = Some(curve.alone() * 20);
    vec![
        ("fixed, no delay", fixed(0)),
        ("fixed, 1 ms", fixed(1_000)),
        ("fixed, 5 ms", fixed(5_000)),
        ("backpressure", Policy { mode: Mode::Backpressure, ..base.clone() }),
        ("learned", Policy { mode: Mode::Learned, ..base.clone() }),
        ("learned, objective", Policy { mode: Mode::Learned, latency_objective: objective, ..base }),
    ]
}

/// One line of the table.
struct Row {
    model: &'static str,
    pattern: String,
    load: f64,
    policy: &'static str,
    outcome: Outcome,
}

/// Compares the policies and writes `policies.md` and `policies.svg` into a folder.
/// `recorded` is a file of arrivals: microseconds since the first one, one a line, ascending.
///
/// # Errors
/// What cannot be read or written.
pub fn report(folder: &Path, recorded: Option<&Path>) -> Result<(), String> {
    let recorded = recorded.map(arrivals::read).transpose()?;
    let mut rows = Vec::new();
    for curve in [curve::SCORE, curve::RANK, curve::ACCELERATOR] {
        for pattern in Pattern::ALL {
            measure(&mut rows, &curve, &pattern.to_string(), |rate, seed| {
                pattern.arrivals(rate, REQUESTS, seed)
            });
        }
        if let Some(recorded) = &recorded {
            // The same arrivals, closer together or farther apart.
            measure(&mut rows, &curve, "recorded", |rate, _| arrivals::stretched(recorded, rate));
        }
    }
    let write = |name: &str, text: String| {
        let path = folder.join(name);
        std::fs::write(&path, text).map_err(|error| format!("{}: {error}", path.display()))
    };
    std::fs::create_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    write("policies.md", table(&rows))?;
    write("policies.svg", plot::svg(&panels(&rows)))
}

fn measure(rows: &mut Vec<Row>, curve: &Curve, pattern: &str, arrivals: impl Fn(f64, u64) -> Vec<Duration>) {
    for (number, load) in LOADS.into_iter().enumerate() {
        let rate = load / curve.least(BATCH_MAX).as_secs_f64();
        let arrivals = arrivals(rate, number as u64 + 1);
        let mut add = |policy, outcome| {
            rows.push(Row { model: curve.name, pattern: pattern.to_owned(), load, policy, outcome });
        };
        for (name, policy) in policies(curve) {
            add(name, simulate::run(&arrivals, curve, policy));
        }
        add("bound", simulate::bound(&arrivals, curve, BATCH_MAX));
    }
}

fn table(rows: &[Row]) -> String {
    let mut text = String::from(
        "# Batching policies compared\n\nWritten by `make bench-policies`: the real scheduler in virtual time, one \
         instance, batches of at most 64 requests, 20,000 requests a line, costs of a run with 5 % of noise. Load 1 \
         is what the instance could answer if every batch had the best size. `busy` is the share of the time that \
         the engine runs: what a policy leaves to others. The objective of the last policy is 20 times the cost of \
         one request. `bound` is not a policy but what none can beat (see `bench/src/policies/mod.rs`); its p99 is \
         that of the same schedule.\n\n`score` and `rank` are costs that were measured; `accelerator` is made up: a large \
         batch is hardly dearer than a small one. `recorded` are arrivals over loopback, stretched to the load. \
         Waking a thread is free here: on a real machine a timer adds some 50 µs to every wait, which is why \
         `learned` does not wait for less.\n",
    );
    let mut heading = String::new();
    for row in rows {
        let here = format!("{}, {}", row.model, row.pattern);
        if here != heading {
            let _ = write!(
                text,
                "\n## {here}\n\n| load | policy | mean ms | p50 ms | p99 ms | batch | busy |\n|---|---|---|---|---|---|---|\n"
            );
            heading = here;
        }
        let Outcome { mean, p50, p99, batch, busy } = row.outcome;
        let _ = writeln!(
            text,
            "| {:.2} | {} | {mean:.3} | {p50:.3} | {p99:.3} | {batch:.1} | {busy:.2} |",
            row.load, row.policy
        );
    }
    text
}

fn panels(rows: &[Row]) -> Vec<Panel> {
    let mut panels: Vec<Panel> = Vec::new();
    for row in rows {
        for (what, value) in [("mean", row.outcome.mean), ("p99", row.outcome.p99)] {
            let title = format!("{}, {}: {what} latency, ms", row.model, row.pattern);
            let at = panels.iter().position(|panel| panel.title == title).unwrap_or_else(|| {
                panels.push(Panel { title, series: Vec::new() });
                panels.len() - 1
            });
            let series = &mut panels[at].series;
            match series.iter_mut().find(|series| series.name == row.policy) {
                Some(series) => series.points.push((row.load, value)),
                None => series.push(Series { name: row.policy, points: vec![(row.load, value)] }),
            }
        }
    }
    panels
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(curve: &Curve, load: f64, name: &str) -> Outcome {
        let rate = load / curve.least(BATCH_MAX).as_secs_f64();
        let arrivals = Pattern::Poisson.arrivals(rate, 4_000, 1);
        let (_, policy) = policies(curve).into_iter().find(|(known, _)| *known == name).expect("a policy");
        simulate::run(&arrivals, curve, policy)
    }

    #[test]
    fn nothing_waits_at_low_load_unless_it_is_told_to() {
        for curve in [curve::SCORE, curve::RANK] {
            let alone = curve.alone().as_secs_f64() * 1e3;
            for name in ["backpressure", "learned"] {
                let Outcome { mean, .. } = outcome(&curve, 0.05, name);
                assert!(mean < alone * 1.3, "{name} on {}: {mean} ms, {alone} ms alone", curve.name);
            }
        }
    }

    #[test]
    fn the_learned_size_keeps_up_where_full_batches_do_not() {
        // Full batches of this model are a third dearer than small ones.
        let (full, learned) =
            (outcome(&curve::RANK, 0.95, "fixed, no delay"), outcome(&curve::RANK, 0.95, "backpressure"));
        assert!(learned.mean * 3.0 < full.mean, "{} ms against {} ms", learned.mean, full.mean);
    }

    #[test]
    fn no_policy_beats_the_bound() {
        for curve in [curve::SCORE, curve::RANK] {
            for load in [0.1, 0.5, 0.95] {
                let rate = load / curve.least(BATCH_MAX).as_secs_f64();
                let arrivals = Pattern::Bursts.arrivals(rate, 2_000, 3);
                let bound = simulate::bound(&arrivals, &curve, BATCH_MAX);
                for (name, policy) in policies(&curve) {
                    let got = simulate::run(&arrivals, &curve, policy);
                    // The costs of runs have noise, the bound has none.
                    assert!(got.mean > bound.mean * 0.97, "{name} at {load}: {} < {}", got.mean, bound.mean);
                }
            }
        }
    }
}
