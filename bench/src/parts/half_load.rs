//! Latency at half load: Poisson arrivals at half of the peak that was measured just before,
//! against what the engine takes for a batch in the same seconds.

use std::fmt::Write as _;
use std::time::Duration;

use crate::bars::{Bar, Section, median};
use crate::metrics::Metrics;
use crate::open::{self, OpenPlan, OpenReport};
use crate::requests::Requests;
use crate::server::{Process, Setup, Variant};
use crate::workload;

/// How much longer than the engine's time the slowest in a hundred may take.
const BAR: f64 = 3.0;

/// What the benchmark's models wait for a fuller batch, in milliseconds: nothing.
const QUEUE_DELAY_MS: f64 = 0.0;

/// Connections of the peak.
const PEAK_CONNECTIONS: usize = 64;

/// Connections of the open loop: more than are ever busy at half load.
const CONNECTIONS: usize = 256;

/// Arrivals of one round go on for so long.
const DURATION: Duration = Duration::from_millis(2200);

/// A right answer may take this long; none of them should.
const DEADLINE: Duration = Duration::from_secs(1);

/// One round.
struct Round {
    peak_per_s: f64,
    open: OpenReport,
    engine_ms: f64,
}

/// Measures both pipelines, with fresh and with reused instances.
///
/// # Errors
/// A server fails, or answers wrongly.
#[expect(clippy::print_stderr, reason = "progress for people")]
pub async fn measure(rounds: usize, duration: Duration) -> Result<Section, String> {
    let variants = [Variant::Fresh, Variant::Reuse];
    let servers = variants.map(|variant| Process::start(&Setup::of(variant)).map(|server| (variant, server)));
    let servers = servers.into_iter().collect::<Result<Vec<_>, String>>()?;
    let mut section = Section::default();
    section.text.push_str(
        "## Half load\n\nPoisson arrivals at half of the peak, timed from when they were due; medians of the rounds. \
         `late` is how much later than due the generator sent (p50 / p99): it is part of the times.\n\n\
         | pipeline | server | peak/s | sent/s | p50 ms | p99 ms | engine, mean of a batch, ms | p99 of that | late ms | not answered |\n\
         |---|---|---|---|---|---|---|---|---|---|\n",
    );
    for name in ["rank", "score"] {
        let requests = Requests::pipeline(&workload::read(name)?, name);
        let mut measured: Vec<Vec<Round>> = servers.iter().map(|_| Vec::new()).collect();
        for (_, server) in &servers {
            requests.prove(server.http).await?;
        }
        for seed in 1..=rounds {
            for ((variant, server), measured) in servers.iter().zip(&mut measured) {
                eprintln!("bench: half load, {name}, {}", variant.name());
                measured.push(round(server, &requests, duration, seed as u64).await?);
            }
        }
        for ((variant, _), rounds) in servers.iter().zip(&measured) {
            let bar = row(&mut section.text, name, *variant, rounds);
            section.bars.push(bar);
        }
    }
    Ok(section)
}

async fn round(
    server: &Process,
    requests: &Requests,
    duration: Duration,
    seed: u64,
) -> Result<Round, String> {
    let peak = requests.load(server.http, PEAK_CONNECTIONS, duration).await?.throughput_per_s;
    let before = engine(server).await?;
    let plan = OpenPlan {
        address: server.http,
        requests: requests.clone(),
        rate: peak / 2.0,
        duration: DURATION,
        connections: CONNECTIONS,
        seed,
        deadline: DEADLINE,
    };
    let open = open::run(plan).await?;
    let after = engine(server).await?;
    Ok(Round { peak_per_s: peak, open, engine_ms: 1e3 * (after.0 - before.0) / (after.1 - before.1) })
}

/// Seconds that the engine has computed, and batches that it has run.
async fn engine(server: &Process) -> Result<(f64, f64), String> {
    let metrics = Metrics::read(server).await?;
    let labels = ["model=\"mlp\"", "phase=\"compute\""];
    let read = |end: &str| metrics.sum(&format!("sluice_batch_seconds_{end}"), &labels);
    Ok((read("sum"), read("count")))
}

fn row(text: &mut String, name: &str, variant: Variant, rounds: &[Round]) -> Bar {
    let of = |number: fn(&Round) -> f64| median(rounds.iter().map(number).collect());
    let (p99, engine) = (of(|round| round.open.p99_ms), of(|round| round.engine_ms));
    let ratio = of(|round| (round.open.p99_ms - QUEUE_DELAY_MS) / round.engine_ms);
    let lost: u64 =
        rounds.iter().map(|round| round.open.failed + round.open.refused + round.open.unsent).sum();
    let what = format!("`{name}` at half load, {}: p99 of the engine's mean", variant.name());
    let bar = Bar::at_most(what, ratio, BAR);
    // Writing to a string cannot fail.
    let _ = writeln!(
        text,
        "| `{name}` | {} | {:.0} | {:.0} | {:.2} | {p99:.2} | {engine:.3} | {} | {:.2} / {:.2} | {lost} |",
        variant.name(),
        of(|round| round.peak_per_s),
        of(|round| round.open.offered_per_s),
        of(|round| round.open.p50_ms),
        bar.cell(),
        of(|round| round.open.lateness_p50_ms),
        of(|round| round.open.lateness_p99_ms),
    );
    bar
}
