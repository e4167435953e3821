//! Plugins' log lines: in the gateway's log, under the plugin's name.

use std::sync::Arc;

use sluice_sandbox::{LogLevel, LogSink};

use crate::observe::PluginMetrics;

/// Writes one plugin's lines. The sandbox has cut and escaped them.
pub(super) struct PluginLog {
    metrics: Arc<PluginMetrics>,
}

impl PluginLog {
    pub(super) fn new(metrics: Arc<PluginMetrics>) -> Self {
        Self { metrics }
    }
}

impl LogSink for PluginLog {
    fn log(&self, plugin: &str, request_id: &str, level: LogLevel, context: &str, message: &str) {
        self.metrics.log_lines(1, 0);
        match level {
            LogLevel::Trace => tracing::trace!(target: "plugin", plugin, request_id, context, "{message}"),
            LogLevel::Debug => tracing::debug!(target: "plugin", plugin, request_id, context, "{message}"),
            LogLevel::Info => tracing::info!(target: "plugin", plugin, request_id, context, "{message}"),
            LogLevel::Warn => tracing::warn!(target: "plugin", plugin, request_id, context, "{message}"),
            _ => tracing::error!(target: "plugin", plugin, request_id, context, "{message}"),
        }
    }
}
