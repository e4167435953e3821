//! Ten times the load that can be answered: what is still answered in time, and how soon
//! the others know that they will not be.

use std::fmt::Write as _;
use std::time::Duration;

use crate::bars::{Bar, Section, median};
use crate::open::{self, OpenPlan, OpenReport};
use crate::requests::Requests;
use crate::server::{Process, Setup, Variant};
use crate::{setups, workload};

/// Arrivals, against the peak.
const OVERLOAD: f64 = 10.0;

/// How long a caller waits, which it says in a header.
const DEADLINE: Duration = Duration::from_millis(100);

/// Connections of the peak.
const PEAK_CONNECTIONS: usize = 64;

/// Connections of the open loop: what is admitted and waits at most its deadline at the
/// peak's rate, and as many again for what is being refused.
const CONNECTIONS: usize = 1024;

/// Arrivals of one round go on for so long.
const DURATION: Duration = Duration::from_millis(2200);

/// A model whose time is the bound, and not the machine's two cores: 9 ms for 8 rows.
const SIM: &str = r#"{
  "inputs": [
    { "name": "INPUT0", "dtype": "INT32", "dims": [-1, 16] },
    { "name": "INPUT1", "dtype": "INT32", "dims": [-1, 16] }
  ],
  "outputs": [
    { "name": "OUTPUT0", "rule": "echo", "from": "INPUT0" },
    { "name": "OUTPUT1", "rule": "echo", "from": "INPUT1" }
  ],
  "latency_us": { "base": 1000, "per_row": 1000 }
}"#;

const SIM_CONFIG: &str = r#"
[models.sim]
engine = "sim"
file = "{here}/sim.sim.json"
max_batch_size = 8
"#;

/// One round: the peak in a closed loop, and the open loop just after.
struct Round {
    peak_per_s: f64,
    open: OpenReport,
}

/// Measures a simulated model, and `rank`.
///
/// # Errors
/// A server fails.
#[expect(clippy::print_stderr, reason = "progress for people")]
pub async fn measure(rounds: usize, duration: Duration) -> Result<Section, String> {
    let config = setups::write(SIM_CONFIG, &[("sim.sim.json", SIM)])?;
    let rank = Requests::pipeline(&workload::read("rank")?, "rank");
    let cases = [
        (
            "sim, 9 ms for 8 rows",
            Setup::of(Variant::Fresh).config(&config.path()),
            Requests::simple_binary("sim"),
        ),
        ("rank, fresh instances", Setup::of(Variant::Fresh), rank.clone()),
        ("rank, reused instances", Setup::of(Variant::Reuse), rank),
    ];
    let mut section = Section::default();
    let _ = write!(
        section.text,
        "## Ten times the load\n\nPoisson arrivals at ten times the peak, each with {} ms to live; medians of the rounds, \
         times from when a request was due. `sent` below ten means that the generator could not keep up. Generator and \
         server share the machine: refusing costs what is then missing for answering.\n\n\
         | what | peak/s | sent/s | of peak | in time/s | of peak | refused, p50 ms | p99 ms | late ms, p99 | too late | failed | not sent |\n\
         |---|---|---|---|---|---|---|---|---|---|---|---|\n",
        DEADLINE.as_millis()
    );
    for (name, setup, requests) in cases {
        let server = Process::start(&setup)?;
        let mut measured = Vec::new();
        for seed in 1..=rounds {
            eprintln!("bench: overload, {name}");
            measured.push(round(&server, &requests, duration, seed as u64).await?);
        }
        let bars = row(&mut section.text, name, &measured);
        section.bars.extend(bars);
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
    let requests = requests.clone().header("x-request-timeout-ms", &DEADLINE.as_millis().to_string());
    let plan = OpenPlan {
        address: server.http,
        requests,
        rate: peak * OVERLOAD,
        duration: DURATION,
        connections: CONNECTIONS,
        seed,
        deadline: DEADLINE,
    };
    Ok(Round { peak_per_s: peak, open: open::run(plan).await? })
}

fn row(text: &mut String, name: &str, rounds: &[Round]) -> [Bar; 2] {
    let of = |number: fn(&Round) -> f64| median(rounds.iter().map(number).collect());
    let total = |number: fn(&OpenReport) -> u64| rounds.iter().map(|round| number(&round.open)).sum::<u64>();
    let goodput = of(|round| round.open.good_per_s / round.peak_per_s);
    let refused = of(|round| round.open.refused_p99_ms);
    let bars = [
        Bar::at_least(format!("{name}, at ten times the peak: in time, of the peak"), goodput, 0.95),
        Bar::at_most(format!("{name}, at ten times the peak: p99 of refusals"), refused, 10.0).in_unit("ms"),
    ];
    // Writing to a string cannot fail.
    let _ = writeln!(
        text,
        "| {name} | {:.0} | {:.0} | {:.1} | {:.0} | {} | {:.2} | {} | {:.2} | {} | {} | {} |",
        of(|round| round.peak_per_s),
        of(|round| round.open.offered_per_s),
        of(|round| round.open.offered_per_s / round.peak_per_s),
        of(|round| round.open.good_per_s),
        bars[0].cell(),
        of(|round| round.open.refused_p50_ms),
        bars[1].cell(),
        of(|round| round.open.lateness_p99_ms),
        total(|open| open.late),
        total(|open| open.failed),
        total(|open| open.unsent),
    );
    bars
}
