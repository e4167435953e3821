//! `make bench`: all variants in one run, in turns, so that a noisy machine is noisy
//! for all of them.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use sluice_bench::load::{self, LoadPlan, LoadReport};
use sluice_bench::report::{Bare, Cell, Report};
use sluice_bench::server::{Process, Variant, serve};
use sluice_bench::workload::{self, Workload};
use sluice_bench::{bare, bombs, calls, policies};
use sluice_engine::EngineSearch;

/// The pipelines of the workload.
const PIPELINES: [&str; 3] = ["score", "rank", "dlrm"];

/// Side by side: WASM plugins, native code, the bare engine, bare HTTP.
#[derive(Debug, Parser)]
struct Arguments {
    /// Connections, each with one request under way.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 8, 64])]
    concurrency: Vec<usize>,
    /// Pipelines to measure.
    #[arg(long, value_delimiter = ',', default_values_t = PIPELINES.map(str::to_owned))]
    pipelines: Vec<String>,
    /// Rounds; the one in the middle counts.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Milliseconds of each measurement.
    #[arg(long, default_value_t = 2000)]
    milliseconds: u64,
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
    /// Serves one variant: what the benchmark starts for itself.
    #[arg(long, hide = true)]
    serve: Option<Variant>,
}

#[expect(clippy::print_stderr, clippy::print_stdout, reason = "a report for people")]
fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("bench: {error}");
            return ExitCode::FAILURE;
        }
    };
    if let Some(folder) = &arguments.policies {
        return match policies::report(folder, arguments.arrivals.as_deref()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("bench: {error}");
                ExitCode::FAILURE
            }
        };
    }
    let outcome = match (arguments.serve, &arguments.bombs) {
        (Some(variant), _) => runtime.block_on(serve(variant)),
        (None, Some(program)) => {
            let (rounds, duration) = (arguments.rounds, Duration::from_millis(arguments.milliseconds));
            runtime
                .block_on(bombs::measure(program, &arguments.concurrency, rounds, duration))
                .map(|report| println!("{report}"))
        }
        (None, None) => runtime.block_on(run(&arguments)).map(|report| println!("{}", report.to_markdown())),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::FAILURE
        }
    }
}

#[expect(clippy::print_stderr, reason = "progress for people")]
async fn run(arguments: &Arguments) -> Result<Report, String> {
    let mut report = Report::default();
    let servers = Variant::ALL.iter().map(|variant| Ok((*variant, Process::start(*variant)?)));
    let servers = servers.collect::<Result<Vec<_>, String>>()?;
    for name in PIPELINES.iter().filter(|name| arguments.pipelines.iter().any(|wanted| wanted == *name)) {
        let workload = workload::read(name)?;
        for (_, server) in servers.iter().filter(|(variant, _)| *variant != Variant::Echo) {
            prove(server, &workload).await?;
        }
        if *name != "dlrm" {
            eprintln!("bench: {name}, single calls");
            report.calls.push(calls::measure(&workload).await?);
        }
        for connections in &arguments.concurrency {
            eprintln!("bench: {name}, {connections} connections");
            measure(&mut report, arguments, &servers, &workload, *connections).await?;
        }
    }
    for (variant, server) in &servers {
        let bytes = load::rss_bytes(server.id()).ok_or("cannot read a server's memory")?;
        report.resident_mb.push((*variant, bytes as f64 / 1e6));
    }
    Ok(report)
}

/// Every body once, against the golden answers.
async fn prove(server: &Process, workload: &Workload) -> Result<(), String> {
    let plan = LoadPlan {
        concurrency: 8,
        warmup: Duration::ZERO,
        duration: Duration::from_millis(500),
        check: Some(workload.check.clone()),
        ..plan(server, workload)
    };
    let report = load::run(plan).await;
    match report.first_error {
        None if report.requests > 0 => Ok(()),
        error => Err(format!("{}: wrong answers: {error:?}", workload.name)),
    }
}

fn plan(server: &Process, workload: &Workload) -> LoadPlan {
    LoadPlan {
        address: server.http,
        path: format!("/v1/models/{}:predict", workload.name),
        headers: vec![("content-type".to_owned(), "application/json".to_owned())],
        bodies: workload.bodies.clone(),
        concurrency: 1,
        warmup: Duration::from_millis(300),
        duration: Duration::from_secs(2),
        check: None,
    }
}

async fn measure(
    report: &mut Report,
    arguments: &Arguments,
    servers: &[(Variant, Process)],
    workload: &Workload,
    connections: usize,
) -> Result<(), String> {
    let model = if workload.name == "dlrm" { "dlrm-model" } else { "mlp" };
    let mut rounds: Vec<Vec<LoadReport>> = vec![Vec::new(); servers.len()];
    let mut before = Vec::new();
    for (_, server) in servers {
        before.push(batches(server, model).await);
    }
    for _ in 0..arguments.rounds {
        for ((_, server), rounds) in servers.iter().zip(&mut rounds) {
            let plan = LoadPlan {
                concurrency: connections,
                duration: Duration::from_millis(arguments.milliseconds),
                ..plan(server, workload)
            };
            rounds.push(load::run(plan).await);
        }
    }
    for (((variant, server), mut rounds), before) in servers.iter().zip(rounds).zip(before) {
        rounds.sort_by(|a, b| a.throughput_per_s.total_cmp(&b.throughput_per_s));
        let batch_rows = match (before, batches(server, model).await) {
            (Some((rows, count)), Some((rows_now, count_now))) if count_now > count => {
                Some((rows_now - rows) / (count_now - count))
            }
            _ => None,
        };
        if *variant == Variant::Fresh {
            let rows = batch_rows.ok_or("the gateway formed no batch")?;
            // The whole number next to it; a batch has 256 rows at most.
            let rows = (1..=256)
                .min_by(|a, b| (f64::from(*a) - rows).abs().total_cmp(&(f64::from(*b) - rows).abs()));
            let rows = usize::from(rows.unwrap_or(1_u16));
            let file = if workload.name == "dlrm" { "dlrm.onnx" } else { "mlp.onnx" };
            let rows_per_second = bare::rows_per_second(&engine_search(), file, 1, rows)?;
            report.bare.insert((workload.name, connections), Bare { rows, rows_per_second });
        }
        let cell = Cell { report: rounds.swap_remove(rounds.len() / 2), batch_rows };
        report.cells.insert((workload.name, connections, *variant as usize), cell);
    }
    Ok(())
}

/// Where the gateway itself would look.
fn engine_search() -> EngineSearch {
    sluice::app::engine_search(None)
}

/// Rows and batches that a server has run so far; none for the echo.
async fn batches(server: &Process, model: &str) -> Option<(f64, f64)> {
    if server.admin == server.http {
        return None;
    }
    let text = load::get(server.admin, "/metrics").await?;
    let label = format!("\"{model}\"");
    let read = |name: &str| {
        let line = text.lines().find(|line| line.starts_with(name) && line.contains(&label))?;
        line.rsplit(' ').next()?.parse::<f64>().ok()
    };
    Some((read("sluice_batch_rows_sum")?, read("sluice_batch_rows_count")?))
}
