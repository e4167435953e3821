//! One version of a plugin, compiled and ready to be called.

use std::sync::Arc;

use sluice_sandbox::PluginInfo;

use super::grants::Granted;
use super::plugin_log::PluginLog;
use crate::config;
use crate::observe::PluginMetrics;
use crate::pipeline::Hook;

/// A version of a plugin that can be called, with what it was built from.
pub struct LoadedPlugin {
    /// The plugin's name.
    pub name: Arc<str>,
    /// The version's name.
    pub version: Arc<str>,
    /// What pipelines call.
    pub hook: Arc<dyn Hook>,
    /// The component itself; none for a native stand-in.
    pub plugin: Option<sluice_sandbox::Plugin>,
    /// Where its calls are counted.
    pub metrics: Arc<PluginMetrics>,
    /// Its last lines, for the admin API.
    pub log: Arc<PluginLog>,
    pub(super) config: config::Plugin,
    /// What it was granted; a change of any of it loads the version again.
    pub(super) granted: Granted,
}

impl LoadedPlugin {
    /// What is known of the component; none for a native stand-in.
    pub fn info(&self) -> Option<&PluginInfo> {
        self.plugin.as_ref().map(sluice_sandbox::Plugin::info)
    }

    /// Whose it is; an empty name if nobody's in particular.
    pub(crate) fn owner(&self) -> Arc<str> {
        self.config.owner.clone().unwrap_or_else(|| Arc::from(""))
    }

    /// Whether loading this content again would change nothing.
    pub(super) fn is_same(&self, config: &config::Plugin, digest: &str, granted: &Granted) -> bool {
        self.config.loads_like(config)
            && self.granted.is_same(granted)
            && self.info().is_some_and(|info| info.digest == digest)
    }

    /// Whether it was pulled by the reference that this configuration has, and pulling it
    /// again would change nothing.
    pub(super) fn is_same_reference(&self, config: &config::Plugin, granted: &Granted) -> bool {
        self.config.source == config.source && self.config.loads_like(config) && self.granted.is_same(granted)
    }

    /// Shows the most memory that an instance had in the metrics.
    pub fn note_memory(&self) {
        if let Some(plugin) = &self.plugin {
            self.metrics.memory_peak(plugin.usage().instance_bytes_peak);
        }
    }

    /// Whether its models can answer.
    pub fn is_ready(&self) -> bool {
        self.granted.models.iter().all(|model| model.is_ready())
    }

    /// Calls so far, and how many of them failed through the plugin's own fault.
    pub fn calls_and_failures(&self) -> (u64, u64) {
        self.metrics.outcomes().fold((0, 0), |(calls, failures), (outcome, count)| {
            let failed = if is_failure(outcome) { count } else { 0 };
            (calls + count, failures + failed)
        })
    }
}

/// Whether a call's outcome is the plugin's fault. Its own refusals are not, nor what the
/// load on the gateway does.
fn is_failure(outcome: &str) -> bool {
    ["trap", "stack", "memory", "timeout", "output", "init"].contains(&outcome)
}
