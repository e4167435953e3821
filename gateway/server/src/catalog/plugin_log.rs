//! Plugins' log lines: in the gateway's log under the plugin's name and version, and the
//! last of them in memory for the admin API.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use sluice_sandbox::{LogLevel, LogSink};

use super::store::timestamp;
use crate::observe::PluginMetrics;

/// Lines of one version that are kept: what an author wants to see of the last minutes.
const LINES_MAX: usize = 1000;

/// Bytes of these lines. A line has 1 KiB at most, but a failure has a backtrace of 8 KiB:
/// where those fill the log, fewer lines are kept.
const BYTES_MAX: usize = 1 << 20;

/// The number of the next line, over all plugins, so that a reader can merge versions
/// and go on where it stopped.
static SEQUENCE: AtomicU64 = AtomicU64::new(1);

/// A line that a plugin wrote, or a failure of it.
#[derive(Debug, Clone, serde::Serialize)]
pub struct LogLine {
    /// Counts up over all plugins.
    pub sequence: u64,
    /// When, RFC 3339.
    pub at: String,
    /// The plugin's version.
    pub version: Arc<str>,
    /// `trace` to `critical`; `failure` for what the gateway says of a failed call.
    pub level: &'static str,
    /// The request in which it was written.
    pub request_id: Arc<str>,
    /// The line's context, as the plugin gave it.
    pub context: String,
    /// The line, cut and escaped.
    pub message: String,
}

/// Takes one version's lines. The sandbox has cut and escaped them.
pub struct PluginLog {
    version: Arc<str>,
    metrics: Arc<PluginMetrics>,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    lines: VecDeque<LogLine>,
    bytes: usize,
}

impl Kept {
    fn push(&mut self, line: LogLine) {
        self.bytes = self.bytes.saturating_add(line.bytes());
        self.lines.push_back(line);
        while self.lines.len() > LINES_MAX || self.bytes > BYTES_MAX {
            let Some(oldest) = self.lines.pop_front() else { return };
            self.bytes = self.bytes.saturating_sub(oldest.bytes());
        }
    }
}

impl LogLine {
    fn bytes(&self) -> usize {
        size_of::<Self>() + self.at.len() + self.request_id.len() + self.context.len() + self.message.len()
    }
}

impl PluginLog {
    /// Whose lines these are.
    pub(super) fn version(&self) -> &str {
        &self.version
    }

    pub(super) fn new(version: Arc<str>, metrics: Arc<PluginMetrics>) -> Self {
        Self { version, metrics, kept: Mutex::default() }
    }

    /// The lines with numbers above `after`, or the newest; oldest first, at most `limit`.
    pub fn lines(&self, after: Option<u64>, limit: usize) -> Vec<LogLine> {
        let lines = &self.kept.lock().unwrap_or_else(PoisonError::into_inner).lines;
        match after {
            Some(after) => lines.iter().filter(|line| line.sequence > after).take(limit).cloned().collect(),
            None => lines.iter().skip(lines.len().saturating_sub(limit)).cloned().collect(),
        }
    }

    /// Notes that a call failed; the text is for the plugin's author.
    pub fn failure(&self, request_id: &Arc<str>, code: &str, detail: &str) {
        self.keep("failure", request_id, code, detail);
    }

    fn keep(&self, level: &'static str, request_id: &str, context: &str, message: &str) {
        let line = LogLine {
            sequence: SEQUENCE.fetch_add(1, Ordering::Relaxed),
            at: timestamp::now(),
            version: Arc::clone(&self.version),
            level,
            request_id: request_id.into(),
            context: context.to_owned(),
            message: message.to_owned(),
        };
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).push(line);
    }
}

impl LogSink for PluginLog {
    fn log(&self, plugin: &str, request_id: &str, level: LogLevel, context: &str, message: &str) {
        self.metrics.log_lines(1, 0);
        let version = &*self.version;
        match level {
            LogLevel::Trace => {
                tracing::trace!(target: "plugin", plugin, version, request_id, context, "{message}");
            }
            LogLevel::Debug => {
                tracing::debug!(target: "plugin", plugin, version, request_id, context, "{message}");
            }
            LogLevel::Info => {
                tracing::info!(target: "plugin", plugin, version, request_id, context, "{message}");
            }
            LogLevel::Warn => {
                tracing::warn!(target: "plugin", plugin, version, request_id, context, "{message}");
            }
            _ => tracing::error!(target: "plugin", plugin, version, request_id, context, "{message}"),
        }
        self.keep(word(level), request_id, context, message);
    }

    fn dropped(&self) {
        self.metrics.log_lines(0, 1);
    }
}

fn word(level: LogLevel) -> &'static str {
    match level {
        LogLevel::Trace => "trace",
        LogLevel::Debug => "debug",
        LogLevel::Info => "info",
        LogLevel::Warn => "warn",
        LogLevel::Error => "error",
        LogLevel::Critical => "critical",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::{Metrics, SpanCounters};

    #[test]
    fn a_version_s_log_is_bounded_in_lines_and_in_bytes() {
        let metrics = Metrics::new(SpanCounters::default());
        let log = PluginLog::new("1".into(), metrics.plugin(&"p".into(), &"1".into()));
        let request: Arc<str> = "r".into();
        for number in 0..1_500 {
            log.failure(&request, "plugin_trap", &number.to_string());
        }
        let lines = log.lines(None, usize::MAX);
        assert_eq!((lines.len(), lines[999].message.as_str()), (LINES_MAX, "1499"));
        let backtrace = "f".repeat(8 << 10);
        for _ in 0..1_000 {
            log.failure(&request, "plugin_trap", &backtrace);
        }
        let kept = log.kept.lock().expect("not poisoned");
        assert!(kept.bytes <= BYTES_MAX && kept.lines.len() > 100, "{} bytes", kept.bytes);
        assert_eq!(kept.bytes, kept.lines.iter().map(LogLine::bytes).sum::<usize>());
    }
}
