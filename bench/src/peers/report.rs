//! The comparison as text.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use super::PIPELINES;
use super::description::{Description, Role};
use crate::bars::Bar;
use crate::load::LoadReport;

/// The connections at which servers are ranked and compared.
const COMPARED: usize = 64;

/// What is wanted of `score`: so many times the best peer, and the hand-written server.
const BEST_PEER_TIMES: f64 = 3.0;
const HAND_WRITTEN_TIMES: f64 = 2.0;

/// All rounds of one server, by pipeline and connections.
#[derive(Debug, Clone, Default)]
pub(super) struct Cells {
    rounds: BTreeMap<(&'static str, usize), Vec<LoadReport>>,
}

impl Cells {
    /// Another round.
    pub(super) fn add(&mut self, pipeline: &'static str, connections: usize, report: LoadReport) {
        self.rounds.entry((pipeline, connections)).or_default().push(report);
    }

    /// The round in the middle, by throughput, and the errors of all rounds.
    fn median(&self, pipeline: &'static str, connections: usize) -> Option<(LoadReport, u64)> {
        let mut rounds = self.rounds.get(&(pipeline, connections))?.clone();
        let errors = rounds.iter().map(|report| report.errors).sum();
        rounds.sort_by(|one, two| one.throughput_per_s.total_cmp(&two.throughput_per_s));
        (!rounds.is_empty()).then(|| (rounds.swap_remove(rounds.len() / 2), errors))
    }

    fn throughput(&self, pipeline: &'static str, connections: usize) -> f64 {
        self.median(pipeline, connections).map_or(f64::NAN, |(report, _)| report.throughput_per_s)
    }

    /// Requests a second of the last round, for a line of progress.
    pub(super) fn last_throughputs(&self) -> String {
        let mut text = String::new();
        for pipeline in PIPELINES {
            let cells = self.rounds.iter().filter(|((name, _), _)| *name == pipeline);
            let last = cells.filter_map(|((_, connections), rounds)| {
                Some(format!("{connections}: {:.0}", rounds.last()?.throughput_per_s))
            });
            let _ = write!(text, "{pipeline} ({}) ", last.collect::<Vec<_>>().join(", "));
        }
        text + "requests/s"
    }
}

/// Everything that a run measured.
#[derive(Default)]
pub(super) struct Report {
    /// Name, description and numbers of each server.
    pub(super) peers: Vec<(String, Description, Cells)>,
    /// Those without, and why.
    pub(super) left_out: Vec<(String, String)>,
}

impl Report {
    /// The whole report.
    pub(super) fn to_markdown(&self, concurrency: &[usize], rounds: usize, duration: Duration) -> String {
        let mut text = format!(
            "# Peers\n\n\
             One run of `make bench-peers`. Each server alone on one core, the load generator (the same for all) on \
             another, both of one machine; {rounds} rounds through all servers, {} ms for each number, the round in \
             the middle counts. Before each measurement, all 64 bodies were answered rightly under 64 connections. \
             Read the ratios: \"of Sluice\" is requests/s at the same connections, of Sluice with a fresh instance of \
             each plugin for each request, its default.\n",
            duration.as_millis()
        );
        for pipeline in PIPELINES {
            self.table(&mut text, pipeline, concurrency);
        }
        text.push_str("\n## What was asked for\n\n| what | measured | bar | |\n|---|---|---|---|\n");
        for bar in self.bars() {
            let verdict = bar.verdict();
            let _ = writeln!(text, "| {} | {:.2} | {} | {verdict} |", bar.what, bar.number, bar.limit());
        }
        text.push_str("\n## How each is served\n\n");
        for (_, peer, _) in &self.peers {
            let _ = writeln!(text, "- **{}**: {}", peer.title, peer.how);
        }
        for (title, reason) in &self.left_out {
            let reason = reason.lines().next().unwrap_or_default();
            let _ = writeln!(text, "- {title}: left out: {reason}");
        }
        text
    }

    fn table(&self, text: &mut String, pipeline: &'static str, concurrency: &[usize]) {
        let _ = write!(text, "\n## `{pipeline}`\n\n| server |");
        for connections in concurrency {
            let _ = write!(text, " {connections}: requests/s | of Sluice | p50 ms | p99 ms |");
        }
        text.push_str(" errors |\n|---|");
        text.push_str(&"---|".repeat(4 * concurrency.len() + 1));
        let mut ranked: Vec<_> = self.peers.iter().collect();
        let ranking = concurrency.last().copied().unwrap_or(COMPARED);
        ranked.sort_by(|one, two| {
            two.2.throughput(pipeline, ranking).total_cmp(&one.2.throughput(pipeline, ranking))
        });
        for (_, peer, cells) in ranked {
            let _ = write!(text, "\n| {} |", peer.title);
            let mut all_errors = 0;
            for connections in concurrency {
                let Some((report, errors)) = cells.median(pipeline, *connections) else { continue };
                let ratio = report.throughput_per_s / self.sluice(pipeline, *connections);
                let milliseconds = |us: u64| us as f64 / 1000.0;
                let (p50, p99) = (milliseconds(report.p50_us), milliseconds(report.p99_us));
                let _ = write!(text, " {:.0} | {ratio:.2} | {p50:.2} | {p99:.2} |", report.throughput_per_s);
                all_errors += errors;
            }
            let _ = write!(text, " {all_errors} |");
        }
        text.push('\n');
    }

    /// Requests a second of the gateway as it is by default.
    fn sluice(&self, pipeline: &'static str, connections: usize) -> f64 {
        let default = self.peers.iter().find(|(name, _, _)| name == "sluice");
        default.map_or(f64::NAN, |(_, _, cells)| cells.throughput(pipeline, connections))
    }

    fn bars(&self) -> Vec<Bar> {
        let of = |role: Role| self.peers.iter().filter(move |(_, peer, _)| peer.role == role);
        let at = |cells: &Cells, pipeline| cells.throughput(pipeline, COMPARED);
        let mut bars = Vec::new();
        for (_, sluice, cells) in of(Role::Sluice) {
            let best = |pipeline| {
                of(Role::Peer).max_by(|one, two| at(&one.2, pipeline).total_cmp(&at(&two.2, pipeline)))
            };
            for (pipeline, limit) in [("score", BEST_PEER_TIMES), ("rank", 1.0)] {
                let Some((_, peer, theirs)) = best(pipeline) else { continue };
                let what = format!(
                    "`{pipeline}` at {COMPARED}, {}, of the best peer's ({})",
                    sluice.title, peer.title
                );
                bars.push(Bar::at_least(what, at(cells, pipeline) / at(theirs, pipeline), limit));
            }
            for (_, _, theirs) in of(Role::HandWritten) {
                let what = format!("`score` at {COMPARED}, {}, of the hand-written server's", sluice.title);
                bars.push(Bar::at_least(what, at(cells, "score") / at(theirs, "score"), HAND_WRITTEN_TIMES));
            }
        }
        bars
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::workload::repository;

    fn peer(name: &str, throughputs: [f64; 3]) -> (String, Description, Cells) {
        let folder = repository().join("bench/peers");
        let description =
            Description::read(&folder, name, "python", Path::new("sluice")).expect("a description");
        let mut cells = Cells::default();
        for throughput_per_s in throughputs {
            let report = LoadReport { throughput_per_s, errors: 1, ..LoadReport::default() };
            cells.add("score", COMPARED, report);
        }
        (name.to_owned(), description, cells)
    }

    #[test]
    fn servers_are_ranked_by_the_round_in_the_middle_and_compared_with_the_best_peer() {
        let report = Report {
            peers: vec![
                peer("fastapi", [9.0, 3.0, 1.0]),
                peer("sluice", [30.0, 60.0, 20.0]),
                peer("mosec", [10.0, 10.0, 10.0]),
            ],
            left_out: vec![("ray".to_owned(), "no wheel\nmore".to_owned())],
        };
        let text = report.to_markdown(&[COMPARED], 3, Duration::from_millis(600));
        let line = |start: &str| text.lines().position(|line| line.starts_with(start)).expect(start);
        assert!(line("| Sluice") < line("| Mosec") && line("| Mosec") < line("| FastAPI"), "{text}");
        assert!(text.contains(" 3 | 0.10 | 0.00 | 0.00 | 3 |"), "{text}");
        assert!(text.contains("of the best peer's (Mosec"), "{text}");
        assert!(text.contains("| 3.00 | ≥ 3.00 | met |"), "{text}");
        assert!(text.ends_with("- ray: left out: no wheel\n"), "{text}");
    }
}
