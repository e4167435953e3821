//! WASM plugins against the same functions compiled in, the bare engine and a bare echo,
//! in turns, so that a noisy machine is noisy for all of them.

use std::time::Duration;

use sluice_engine::EngineSearch;

use crate::bars::{Bar, Section, median};
use crate::load::{self, LoadReport};
use crate::metrics::Metrics;
use crate::report::{Bare, Cell, Report};
use crate::requests::Requests;
use crate::server::{Process, Setup, Variant};
use crate::workload::{self, Workload};
use crate::{bare, report};

/// The pipelines of the workload.
pub const PIPELINES: [&str; 3] = ["score", "rank", "dlrm"];

/// What is measured, and for how long.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Of [`PIPELINES`], those that are measured.
    pub pipelines: Vec<String>,
    /// Connections, each with one request under way.
    pub concurrency: Vec<usize>,
    /// Rounds; the one in the middle counts.
    pub rounds: usize,
    /// Time of each measurement.
    pub duration: Duration,
}

/// The connections that the bars are about.
const BARRED: usize = 64;

/// Measures, and proves the answers before.
///
/// # Errors
/// A server does not start, or answers wrongly.
#[expect(clippy::print_stderr, reason = "progress for people")]
pub async fn measure(plan: &Plan) -> Result<Section, String> {
    let mut report = Report::default();
    let servers = Variant::ALL.iter().map(|variant| Ok((*variant, Process::start(&Setup::of(*variant))?)));
    let servers = servers.collect::<Result<Vec<_>, String>>()?;
    for name in PIPELINES.iter().filter(|name| plan.pipelines.iter().any(|wanted| wanted == *name)) {
        let workload = workload::read(name)?;
        let requests = Requests::pipeline(&workload, name);
        for (_, server) in servers.iter().filter(|(variant, _)| *variant != Variant::Echo) {
            requests.prove(server.http).await?;
        }
        for connections in &plan.concurrency {
            eprintln!("bench: {name}, {connections} connections");
            cells(&mut report, plan, &servers, &workload, *connections).await?;
        }
    }
    for (variant, server) in &servers {
        let bytes = load::rss_bytes(server.id()).ok_or("cannot read a server's memory")?;
        report.resident_mb.push((*variant, bytes as f64 / 1e6));
    }
    let text = format!("## Plugins against native code\n\n{}", report.to_markdown());
    Ok(Section { text, bars: bars(&report) })
}

async fn cells(
    report: &mut Report,
    plan: &Plan,
    servers: &[(Variant, Process)],
    workload: &Workload,
    connections: usize,
) -> Result<(), String> {
    let requests = Requests::pipeline(workload, workload.name);
    let model = if workload.name == "dlrm" { "dlrm-model" } else { "mlp" };
    let file = if workload.name == "dlrm" { "dlrm.onnx" } else { "mlp.onnx" };
    let mut rounds: Vec<Vec<LoadReport>> = vec![Vec::new(); servers.len()];
    let (mut before, mut engine, mut rows) = (Vec::new(), Vec::new(), 1);
    for (variant, server) in servers {
        before.push(batches(*variant, server, model).await?);
    }
    for _ in 0..plan.rounds {
        for (((variant, server), rounds), before) in servers.iter().zip(&mut rounds).zip(&before) {
            rounds.push(requests.load(server.http, connections, plan.duration).await?);
            if *variant == Variant::Fresh {
                let formed = batch_rows(*before, batches(*variant, server, model).await?);
                rows = whole(formed.ok_or("the gateway formed no batch")?);
                engine.push(bare::rows_per_second(&engine_search(), file, 1, rows)?);
            }
        }
    }
    report.bare.insert((workload.name, connections), Bare { rows, rows_per_second: median(engine) });
    for (((variant, server), mut rounds), before) in servers.iter().zip(rounds).zip(before) {
        rounds.sort_by(|a, b| a.throughput_per_s.total_cmp(&b.throughput_per_s));
        let batch_rows = batch_rows(before, batches(*variant, server, model).await?);
        let cell = Cell { report: rounds.swap_remove(rounds.len() / 2), batch_rows };
        report.cells.insert((workload.name, connections, *variant as usize), cell);
    }
    Ok(())
}

/// Rows of a batch, between two readings of rows and batches; none for the echo.
fn batch_rows(before: (f64, f64), after: (f64, f64)) -> Option<f64> {
    (after.1 > before.1).then(|| (after.0 - before.0) / (after.1 - before.1))
}

/// The whole number next to it; a batch has 256 rows at most.
fn whole(rows: f64) -> usize {
    let distance = |whole: u16| (f64::from(whole) - rows).abs();
    let nearest = (1..=256_u16).min_by(|a, b| distance(*a).total_cmp(&distance(*b)));
    usize::from(nearest.unwrap_or(1))
}

/// Where the gateway itself would look.
fn engine_search() -> EngineSearch {
    sluice::app::engine_search(None)
}

/// Rows and batches that a server has run so far; none for the echo.
async fn batches(variant: Variant, server: &Process, model: &str) -> Result<(f64, f64), String> {
    if variant == Variant::Echo {
        return Ok((0.0, 0.0));
    }
    let metrics = Metrics::read(server).await?;
    let label = format!("model=\"{model}\"");
    Ok((metrics.sum("sluice_batch_rows_sum", &[&label]), metrics.sum("sluice_batch_rows_count", &[&label])))
}

fn bars(report: &Report) -> Vec<Bar> {
    let mut bars = Vec::new();
    for name in PIPELINES {
        let of = |variant| report.throughput(name, BARRED, variant);
        if of(Variant::Native).is_nan() {
            continue;
        }
        let ratio = |variant| of(variant) / of(Variant::Native);
        bars.push(Bar::at_least(
            format!("`{name}` at 64, reused instances, of native"),
            ratio(Variant::Reuse),
            0.85,
        ));
        bars.push(Bar::at_least(
            format!("`{name}` at 64, fresh instances, of native"),
            ratio(Variant::Fresh),
            0.70,
        ));
    }
    if let Some(bare) = report.bare.get(&("rank", BARRED)) {
        for (variant, what) in [(Variant::Reuse, "reused"), (Variant::Fresh, "fresh")] {
            let rows = report.throughput("rank", BARRED, variant) * report::rows_of("rank");
            let what = format!("`rank` at 64, {what} instances, rows/s of the bare engine's");
            bars.push(Bar::at_least(what, rows / bare.rows_per_second, 0.90));
        }
    }
    bars
}
