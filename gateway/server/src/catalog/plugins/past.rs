//! What versions wrote that are not loaded any more: their authors look for it just then,
//! because a version that fails too often is taken back and let go.

use std::collections::{BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::super::Snapshot;
use super::super::plugin_log::PluginLog;

/// Versions whose lines are kept, each with a megabyte at most. The one that was let go
/// first is forgotten first.
const PAST_MAX: usize = 64;

/// The logs of versions that were let go.
#[derive(Default)]
pub(super) struct PastLogs(Mutex<VecDeque<(Arc<str>, Arc<PluginLog>)>>);

impl PastLogs {
    fn all(&self) -> MutexGuard<'_, VecDeque<(Arc<str>, Arc<PluginLog>)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps those of versions that these plugins had before, and have not after.
    pub(super) fn keep(&self, before: &Snapshot, after: &Snapshot, plugins: &BTreeSet<Arc<str>>) {
        for plugin in plugins {
            let Some(old) = before.plugins.get(plugin) else { continue };
            let new = after.plugins.get(plugin);
            let gone = old
                .versions
                .iter()
                .filter(|(version, _)| !new.is_some_and(|new| new.versions.contains_key(*version)));
            let mut all = self.all();
            all.extend(gone.map(|(_, loaded)| (Arc::clone(plugin), Arc::clone(&loaded.log))));
            while all.len() > PAST_MAX {
                all.pop_front();
            }
        }
    }

    /// Those of a plugin.
    pub(super) fn of(&self, plugin: &str) -> Vec<Arc<PluginLog>> {
        self.all().iter().filter(|(name, _)| **name == *plugin).map(|(_, log)| Arc::clone(log)).collect()
    }
}
