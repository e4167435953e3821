//! How the cost of a request grows with what else there is: connections, models, plugins.
//!
//! The cost is the server's processor time for a request. The bars compare neighbours:
//! the most with the next smaller number. One connection alone has no batches to share
//! costs in, and is shown for information.

use std::fmt::Write as _;
use std::time::Duration;

use crate::bars::{Bar, Section, median};
use crate::requests::{Costed, Requests};
use crate::server::{Process, Setup, Variant};
use crate::{setups, workload};

/// The most that a request may cost, of what it costs the neighbour.
const BAR: f64 = 1.2;

/// Connections of the first comparison; the bar is about the last two.
const CONNECTIONS: [usize; 4] = [1, 8, 64, 1024];

/// Connections of the other two.
const LOAD: usize = 64;

/// Models, and plugins, of the others: one, and so many.
const MODELS: usize = 100;
const PLUGINS: usize = 200;

/// Load before each measurement: a thousand connections take a while to open.
const WARMUP: Duration = Duration::from_millis(500);

const HEAD: &str = "| number | requests/s | CPU µs a request | of the fewer | p99 ms | errors |\n|---|---|---|---|---|---|\n";

/// One line: what it is, and its rounds.
struct Line {
    what: String,
    rounds: Vec<Costed>,
}

impl Line {
    fn new(what: impl Into<String>) -> Self {
        Self { what: what.into(), rounds: Vec::new() }
    }

    fn of(&self, number: fn(&Costed) -> f64) -> f64 {
        median(self.rounds.iter().map(number).collect())
    }

    /// Cost against another's, round by round.
    fn growth(&self, other: &Self) -> f64 {
        let pairs = self.rounds.iter().zip(&other.rounds);
        median(pairs.map(|(own, other)| own.cpu_us / other.cpu_us).collect())
    }

    /// Writes the line, and the growth against another one.
    fn write(&self, text: &mut String, growth: Option<f64>) {
        let growth = growth.map_or_else(|| "-".to_owned(), |growth| format!("{growth:.2}"));
        let errors: u64 = self.rounds.iter().map(|round| round.report.errors).sum();
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "| {} | {:.0} | {:.1} | {growth} | {:.2} | {errors} |",
            self.what,
            self.of(|round| round.report.throughput_per_s),
            self.of(|round| round.cpu_us),
            self.of(|round| round.report.p99_us as f64 / 1e3),
        );
    }
}

/// Measures all three.
///
/// # Errors
/// A server fails, or answers wrongly.
pub async fn measure(rounds: usize, duration: Duration) -> Result<Section, String> {
    let mut section = Section::default();
    section.text.push_str(
        "## Growth\n\nProcessor time of the server for a request, user and system; medians of the rounds.\n",
    );
    connections(&mut section, rounds, duration).await?;
    let simple = |number: usize| Requests::simple_binary(&format!("simple-{number}"));
    let (one, many) = (setups::simple(1)?, setups::simple(MODELS)?);
    others(&mut section, ("models", MODELS), [&one, &many], &simple, rounds, duration).await?;
    let workload = workload::read("score")?;
    let score = |number: usize| Requests::pipeline(&workload, &format!("score-{number}"));
    let (one, many) = (setups::score(1)?, setups::score(PLUGINS)?);
    others(&mut section, ("plugins and pipelines", PLUGINS), [&one, &many], &score, rounds, duration).await?;
    Ok(section)
}

/// More connections, on the same server.
#[expect(clippy::print_stderr, reason = "progress for people")]
async fn connections(section: &mut Section, rounds: usize, duration: Duration) -> Result<(), String> {
    let requests = Requests::pipeline(&workload::read("score")?, "score");
    for variant in [Variant::Fresh, Variant::Native] {
        let server = Process::start(&Setup::of(variant))?;
        requests.prove(server.http).await?;
        let mut lines = CONNECTIONS.map(|connections| Line::new(connections.to_string()));
        for _ in 0..rounds {
            for (line, connections) in lines.iter_mut().zip(CONNECTIONS) {
                eprintln!("bench: growth, {}, {connections} connections", variant.name());
                line.rounds
                    .push(requests.load_with_cpu(&server, server.http, connections, WARMUP, duration).await?);
            }
        }
        let _ = write!(section.text, "\n`score`, {}, by connections:\n\n{HEAD}", variant.name());
        let mut before: Option<&Line> = None;
        for line in &lines {
            line.write(&mut section.text, before.map(|before| line.growth(before)));
            before = Some(line);
        }
        let [.., fewer, most] = &lines;
        let what = format!("cost of a request, 64 to 1024 connections, `score`, {}", variant.name());
        section.bars.push(Bar::at_most(what, most.growth(fewer), BAR));
    }
    Ok(())
}

/// One of something against many, with the same load on one of them, and on all.
#[expect(clippy::print_stderr, reason = "progress for people")]
async fn others(
    section: &mut Section,
    (what, count): (&str, usize),
    [one, many]: [&setups::Written; 2],
    requests: &dyn Fn(usize) -> Requests,
    rounds: usize,
    duration: Duration,
) -> Result<(), String> {
    let fresh = Setup::of(Variant::Fresh);
    let (few, lots) =
        (Process::start(&fresh.clone().config(&one.path()))?, Process::start(&fresh.config(&many.path()))?);
    let all = requests(0).spread((1..count).map(requests));
    let (first, last) = (requests(0), requests(count - 1));
    first.prove(few.http).await?;
    last.prove(lots.http).await?;
    let mut lines = [
        Line::new("1"),
        Line::new(format!("{count}, load on one")),
        Line::new(format!("{count}, load on all")),
    ];
    for _ in 0..rounds {
        eprintln!("bench: growth, {what}");
        lines[0].rounds.push(first.load_with_cpu(&few, few.http, LOAD, WARMUP, duration).await?);
        lines[1].rounds.push(last.load_with_cpu(&lots, lots.http, LOAD, WARMUP, duration).await?);
        lines[2].rounds.push(all.load_with_cpu(&lots, lots.http, LOAD, WARMUP, duration).await?);
    }
    let _ = write!(section.text, "\nBy {what}, {LOAD} connections:\n\n{HEAD}");
    let [base, on_one, on_all] = &lines;
    base.write(&mut section.text, None);
    for (line, where_to) in [(on_one, "load on one"), (on_all, "load on all")] {
        let growth = line.growth(base);
        line.write(&mut section.text, Some(growth));
        section.bars.push(Bar::at_most(
            format!("cost of a request, 1 to {count} {what}, {where_to}"),
            growth,
            BAR,
        ));
    }
    Ok(())
}
