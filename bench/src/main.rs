//! `make bench`: every number that has a bar, in one run on one machine.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use sluice_bench::bars::{self, Section};
use sluice_bench::counting::Counting;
use sluice_bench::parts::{allocations, calls, growth, half_load, memory, overload, plugins, v2};
use sluice_bench::server::{Setup, Variant, serve};
use sluice_bench::{bombs, chart, peers, policies};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// What can be measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    /// WASM plugins, native code, the bare engine, bare HTTP.
    Plugins,
    /// One call of a plugin.
    Calls,
    /// Binary tensors against a bare echo.
    V2,
    /// Latency at half of the peak.
    HalfLoad,
    /// Ten times the peak.
    Overload,
    /// Memory of a request that waits.
    Memory,
    /// Allocations of a request.
    Allocations,
    /// Costs with more connections, models and plugins.
    Growth,
}

/// All of them, in the order of the report.
const PARTS: [&str; 8] =
    ["plugins", "calls", "v2", "half-load", "overload", "memory", "allocations", "growth"];

/// Measures what has a bar: each part prints its table, and the end is a list of all bars.
#[derive(Debug, Parser)]
struct Arguments {
    /// What to measure.
    #[arg(long, value_delimiter = ',', default_values = PARTS)]
    parts: Vec<Part>,
    /// Connections, each with one request under way: of the plugins, and of the bombs.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 8, 64])]
    concurrency: Vec<usize>,
    /// Pipelines whose plugins are measured.
    #[arg(long, value_delimiter = ',', default_values_t = plugins::PIPELINES.map(str::to_owned))]
    pipelines: Vec<String>,
    /// Rounds; the one in the middle counts.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Milliseconds of each measurement.
    #[arg(long, default_value_t = 800)]
    milliseconds: u64,
    /// Writes the report into this folder too, with a picture of all bars.
    #[arg(long)]
    report: Option<PathBuf>,
    /// Prints instead where one kind of request allocates: score-fresh, rank-native, v2-binary
    /// and so on; with the first number of `--concurrency` connections.
    #[arg(long)]
    sites: Option<String>,
    /// Measures instead what predictions of this program notice of compile bombs.
    #[arg(long)]
    bombs: Option<PathBuf>,
    /// Compares batching policies in virtual time instead, and writes the report into this
    /// folder.
    #[arg(long)]
    policies: Option<PathBuf>,
    /// Arrivals for that: microseconds since the first one, one a line, ascending.
    #[arg(long, requires = "policies")]
    arrivals: Option<PathBuf>,
    /// Compares with other servers instead: the folder that describes them. The report goes into
    /// `--report`.
    #[arg(long, requires_all = ["program", "report"])]
    peers: Option<PathBuf>,
    /// For that: which ones, as NAME=PYTHON.
    #[arg(long, value_parser = peers::pair)]
    peer: Vec<(String, String)>,
    /// For that: which ones cannot be measured here, as NAME=REASON.
    #[arg(long, value_parser = peers::pair)]
    left_out: Vec<(String, String)>,
    /// For that: the gateway.
    #[arg(long)]
    program: Option<PathBuf>,
    /// For that: the core on which each server runs; the load generator has another.
    #[arg(long, default_value_t = 0)]
    core: usize,
    /// Serves by hand: what that comparison starts for itself.
    #[arg(long, hide = true)]
    by_hand: Option<peers::ByHand>,
    /// For that: where.
    #[arg(long, hide = true, default_value_t = 0)]
    port: u16,
    /// Serves one variant: what the benchmark starts for itself.
    #[arg(long, hide = true)]
    serve: Option<Variant>,
    /// For that: another configuration.
    #[arg(long, hide = true, requires = "serve")]
    config: Option<PathBuf>,
    /// For that: the echo answers with so many bytes.
    #[arg(long, hide = true, requires = "serve")]
    answer_bytes: Option<usize>,
    /// For that: allocations are counted.
    #[arg(long, hide = true, requires = "serve")]
    count: bool,
}

#[expect(clippy::print_stderr, reason = "errors for people")]
fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let outcome = match (&arguments.policies, arguments.by_hand) {
        (Some(folder), _) => policies::report(folder, arguments.arrivals.as_deref()),
        (None, Some(what)) => peers::serve(what, arguments.port),
        (None, None) => tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()
            .map_err(|error| error.to_string())
            .and_then(|runtime| runtime.block_on(run(arguments))),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::FAILURE
        }
    }
}

#[expect(clippy::print_stdout, reason = "a report for people")]
async fn run(arguments: Arguments) -> Result<(), String> {
    let duration = Duration::from_millis(arguments.milliseconds);
    if let Some(variant) = arguments.serve {
        let Arguments { config, answer_bytes, count, .. } = arguments;
        serve(Setup { variant, config, answer_bytes, count }).await
    } else if let Some(program) = &arguments.bombs {
        let report = bombs::measure(program, &arguments.concurrency, arguments.rounds, duration).await?;
        println!("{report}");
        Ok(())
    } else if let (Some(folder), Some(program), Some(report)) =
        (&arguments.peers, &arguments.program, &arguments.report)
    {
        let plan = peers::Plan {
            folder: folder.clone(),
            peers: arguments.peer.clone(),
            left_out: arguments.left_out.clone(),
            program: program.clone(),
            core: arguments.core,
            concurrency: arguments.concurrency.clone(),
            rounds: arguments.rounds,
            duration,
        };
        let text = peers::measure(&plan).await?;
        println!("{text}");
        peers::write(report, &text)
    } else if let Some(case) = &arguments.sites {
        let connections = arguments.concurrency.first().copied().unwrap_or(1);
        println!("{}", allocations::sites(case, connections).await?);
        Ok(())
    } else {
        parts(&arguments, duration).await
    }
}

/// Each part prints what it has as soon as it has it; one that fails stops no other.
#[expect(clippy::print_stderr, clippy::print_stdout, reason = "a report for people")]
async fn parts(arguments: &Arguments, duration: Duration) -> Result<(), String> {
    let (mut whole, mut all, mut failed) = (String::from("# Benchmark\n\n"), Vec::new(), Vec::new());
    for part in &arguments.parts {
        eprintln!("bench: {part:?}");
        match measure(*part, arguments, duration).await {
            Ok(Section { text, bars }) => {
                println!("{text}");
                whole = whole + &text + "\n";
                all.extend(bars);
            }
            Err(error) => failed.push(format!("{part:?}: {error}")),
        }
    }
    let summary = bars::summary(&all);
    println!("{summary}");
    if let Some(folder) = &arguments.report {
        write(folder, &(whole + &summary), &chart::svg(&all))?;
    }
    if failed.is_empty() { Ok(()) } else { Err(failed.join("; ")) }
}

fn write(folder: &Path, report: &str, picture: &str) -> Result<(), String> {
    let files = [("bench.md", report), ("bench.svg", picture)];
    for (name, text) in files {
        let path = folder.join(name);
        std::fs::write(&path, text).map_err(|error| format!("{}: {error}", path.display()))?;
    }
    Ok(())
}

async fn measure(part: Part, arguments: &Arguments, duration: Duration) -> Result<Section, String> {
    match part {
        Part::Plugins => {
            let plan = plugins::Plan {
                pipelines: arguments.pipelines.clone(),
                concurrency: arguments.concurrency.clone(),
                rounds: arguments.rounds,
                duration,
            };
            plugins::measure(&plan).await
        }
        Part::Calls => calls::measure().await,
        Part::V2 => v2::measure(arguments.rounds, duration).await,
        Part::HalfLoad => half_load::measure(arguments.rounds, duration).await,
        Part::Overload => overload::measure(arguments.rounds, duration).await,
        Part::Memory => memory::measure().await,
        Part::Allocations => allocations::measure().await,
        Part::Growth => growth::measure(arguments.rounds, duration).await,
    }
}
