//! The numbers of a run, and the tables that are printed.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::load::LoadReport;
use crate::server::Variant;

/// One variant under one load: the median of its rounds, by throughput.
#[derive(Debug, Clone)]
pub struct Cell {
    /// The round in the middle.
    pub report: LoadReport,
    /// Rows of a batch, on average over all rounds; none for the echo.
    pub batch_rows: Option<f64>,
}

/// The bare engine at the batch size that the gateway formed.
#[derive(Debug, Clone, Copy)]
pub struct Bare {
    /// Rows of a batch.
    pub rows: usize,
    /// Rows per second of the engine alone.
    pub rows_per_second: f64,
}

/// Everything that a run measured.
#[derive(Default)]
pub struct Report {
    /// By pipeline, connections and variant.
    pub cells: BTreeMap<(&'static str, usize, usize), Cell>,
    /// By pipeline and connections.
    pub bare: BTreeMap<(&'static str, usize), Bare>,
    /// Megabytes of each server after all of it.
    pub resident_mb: Vec<(Variant, f64)>,
}

/// Rows of one request.
pub fn rows_of(pipeline: &str) -> f64 {
    if pipeline == "score" { 1.0 } else { 64.0 }
}

impl Report {
    /// Requests a second; not a number if that was not measured.
    pub fn throughput(&self, pipeline: &'static str, connections: usize, variant: Variant) -> f64 {
        let cell = self.cells.get(&(pipeline, connections, variant as usize));
        cell.map_or(f64::NAN, |cell| cell.report.throughput_per_s)
    }

    /// The tables, in Markdown.
    pub fn to_markdown(&self) -> String {
        let mut text = String::new();
        text.push_str("| pipeline | connections | server | requests/s | of native | p50 ms | p99 ms | rows a batch | errors |\n");
        text.push_str("|---|---|---|---|---|---|---|---|---|\n");
        for ((pipeline, connections, variant), cell) in &self.cells {
            let variant = Variant::ALL[*variant];
            let ratio =
                cell.report.throughput_per_s / self.throughput(pipeline, *connections, Variant::Native);
            let rows = cell.batch_rows.map_or_else(|| "-".to_owned(), |rows| format!("{rows:.1}"));
            let milliseconds = |us: u64| us as f64 / 1000.0;
            let _ = writeln!(
                text,
                "| {pipeline} | {connections} | {} | {:.0} | {ratio:.2} | {:.2} | {:.2} | {rows} | {} |",
                variant.name(),
                cell.report.throughput_per_s,
                milliseconds(cell.report.p50_us),
                milliseconds(cell.report.p99_us),
                cell.report.errors,
            );
        }
        text.push_str("\n| pipeline | connections | rows a batch | bare engine rows/s | gateway rows/s (fresh) | of bare | (reused) | of bare |\n");
        text.push_str("|---|---|---|---|---|---|---|---|\n");
        for ((pipeline, connections), bare) in &self.bare {
            let fresh = self.throughput(pipeline, *connections, Variant::Fresh) * rows_of(pipeline);
            let reuse = self.throughput(pipeline, *connections, Variant::Reuse) * rows_of(pipeline);
            let _ = writeln!(
                text,
                "| {pipeline} | {connections} | {} | {:.0} | {fresh:.0} | {:.2} | {reuse:.0} | {:.2} |",
                bare.rows,
                bare.rows_per_second,
                fresh / bare.rows_per_second,
                reuse / bare.rows_per_second,
            );
        }
        text.push_str("\n| server | memory after all of it |\n|---|---|\n");
        for (variant, megabytes) in &self.resident_mb {
            let _ = writeln!(text, "| {} | {megabytes:.0} MB |", variant.name());
        }
        text
    }
}
