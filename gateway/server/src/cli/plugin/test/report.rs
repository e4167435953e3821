//! What a test shows: a line for each case, and below it what went wrong.

use std::fmt::Write as _;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde_json::json;
use sluice_sandbox::{LogLevel, LogSink, PluginInfo};

use crate::catalog::samples::Verdict;
use crate::cli::outcome::{clean, size};

/// Most log lines of one case that are kept.
const LINES_MAX: usize = 100;

/// The plugin's log lines since they were last taken.
#[derive(Default)]
pub(super) struct Lines(Mutex<Vec<String>>);

impl Lines {
    pub(super) fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl LogSink for Lines {
    fn log(&self, _plugin: &str, _request_id: &str, level: LogLevel, context: &str, message: &str) {
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.len() < LINES_MAX {
            let level = format!("{level:?}").to_lowercase();
            lines.push(format!("{level}: {context}{}{message}", if context.is_empty() { "" } else { ": " }));
        }
    }
}

/// A test's outcome.
pub(super) struct Tested<'a> {
    pub(super) plugin: &'a PluginInfo,
    pub(super) loaded_in: Duration,
    /// Each with its log lines.
    pub(super) verdicts: &'a [(Verdict, Vec<String>)],
    /// Whether the lines of cases that passed are shown.
    pub(super) logs: bool,
}

impl Tested<'_> {
    pub(super) fn text(&self) -> String {
        let mut out = String::new();
        let bytes = |count: usize| size(count.try_into().unwrap_or(u64::MAX));
        // Writing to a string cannot fail.
        let _ = writeln!(
            out,
            "a {} of {}, loaded in {:.0?}",
            self.plugin.world,
            bytes(self.plugin.size_bytes),
            self.loaded_in
        );
        let width = self.verdicts.iter().map(|(verdict, _)| verdict.name.chars().count()).max().unwrap_or(0);
        for (verdict, lines) in self.verdicts {
            let word = if verdict.passed() { "ok  " } else { "FAIL" };
            let memory = verdict.memory_peak_bytes.map_or_else(String::new, bytes);
            let _ = writeln!(out, "{word} {:width$}  {:>9.1?}  {memory:>10}", verdict.name, verdict.took);
            for line in &verdict.diff {
                let _ = writeln!(out, "       {}", clean(line));
            }
            if self.logs || !verdict.passed() {
                for line in lines {
                    let _ = writeln!(out, "       log {}", clean(line));
                }
            }
        }
        let passed = self.verdicts.iter().filter(|(verdict, _)| verdict.passed()).count();
        let _ = writeln!(out, "{passed} of {} passed", self.verdicts.len());
        out
    }

    pub(super) fn json(&self) -> String {
        let cases: Vec<_> = self
            .verdicts
            .iter()
            .map(|(verdict, lines)| {
                json!({
                    "name": verdict.name, "passed": verdict.passed(), "diff": verdict.diff,
                    "microseconds": u64::try_from(verdict.took.as_micros()).unwrap_or(u64::MAX),
                    "memory_peak_bytes": verdict.memory_peak_bytes, "log": lines,
                })
            })
            .collect();
        let answer = json!({
            "digest": format!("sha256:{}", self.plugin.digest), "world": self.plugin.world.to_string(),
            "size_bytes": self.plugin.size_bytes, "cases": cases,
        });
        format!("{answer:#}\n")
    }
}
