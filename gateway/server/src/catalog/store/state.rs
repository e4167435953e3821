//! The registry at one point of time, in memory: what readers see.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::records::{BlobDigest, PluginRecord, RouteRecord, VersionRecord};
use super::tables::{Row, Table};

/// Everything the registry knows but the audit log. Immutable once it is published;
/// a snapshot is one pointer, and records that did not change are shared between
/// snapshots.
#[derive(Debug, Clone, Default)]
pub struct RegistryState {
    pub(super) generation: u64,
    pub(super) plugins: BTreeMap<String, Arc<PluginRecord>>,
    /// By plugin and version.
    pub(super) versions: BTreeMap<(String, String), Arc<VersionRecord>>,
    /// By pipeline and plugin.
    pub(super) routes: BTreeMap<(String, String), Arc<RouteRecord>>,
    /// Rows that could not be read, with what is wrong with them.
    pub(super) quarantined: BTreeMap<(Table, String), Arc<str>>,
}

/// The name of a record.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Key {
    Plugin(String),
    Version(String, String),
    Route(String, String),
    Quarantined(Table, String),
}

impl RegistryState {
    /// Counts up with each commit.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// A plugin.
    pub fn plugin(&self, name: &str) -> Option<&Arc<PluginRecord>> {
        self.plugins.get(name)
    }

    /// All plugins, by name.
    pub fn plugins(&self) -> impl Iterator<Item = &Arc<PluginRecord>> {
        self.plugins.values()
    }

    /// A version of a plugin.
    pub fn version(&self, plugin: &str, version: &str) -> Option<&Arc<VersionRecord>> {
        self.versions.get(&(plugin.to_owned(), version.to_owned()))
    }

    /// All versions of a plugin, by name.
    pub fn versions<'a>(&'a self, plugin: &'a str) -> impl Iterator<Item = &'a Arc<VersionRecord>> {
        let from = (plugin.to_owned(), String::new());
        self.versions.range(from..).take_while(move |(key, _)| key.0 == plugin).map(|(_, record)| record)
    }

    /// All versions of all plugins.
    pub fn all_versions(&self) -> impl Iterator<Item = &Arc<VersionRecord>> {
        self.versions.values()
    }

    /// The version of a plugin that is served, unless it is the configuration's.
    pub fn active(&self, plugin: &str) -> Option<&Arc<VersionRecord>> {
        let active = self.plugins.get(plugin)?.active.as_deref()?;
        self.version(plugin, active)
    }

    /// The split and shadow of a plugin in a pipeline.
    pub fn route(&self, pipeline: &str, plugin: &str) -> Option<&Arc<RouteRecord>> {
        self.routes.get(&(pipeline.to_owned(), plugin.to_owned()))
    }

    /// All splits and shadows, by pipeline and plugin.
    pub fn routes(&self) -> impl Iterator<Item = &Arc<RouteRecord>> {
        self.routes.values()
    }

    /// What uses a version: it is active, or in a split or a shadow of a pipeline.
    pub fn used_by(&self, plugin: &str, version: &str) -> Option<String> {
        let is_active = |record: &Arc<PluginRecord>| record.active.as_deref() == Some(version);
        if self.plugins.get(plugin).is_some_and(is_active) {
            return Some("active".to_owned());
        }
        self.routed_by(plugin, version)
    }

    /// The split or shadow that names a version.
    pub(super) fn routed_by(&self, plugin: &str, version: &str) -> Option<String> {
        self.routes.values().filter(|route| route.plugin == plugin).find_map(|route| {
            if route.split.contains_key(version) {
                Some(format!("in the split of pipeline {}", route.pipeline))
            } else {
                let shadow = route.shadow.as_ref().filter(|shadow| shadow.version == version)?;
                Some(format!("the shadow of pipeline {} (sample {})", route.pipeline, shadow.sample))
            }
        })
    }

    /// Whether a version's bytes are this blob.
    pub fn names_blob(&self, digest: &BlobDigest) -> bool {
        self.versions.values().any(|record| record.digest == *digest)
    }

    /// Whether both have the very same record, or both have none.
    pub(super) fn agrees(&self, other: &Self, key: &Key) -> bool {
        fn same<T>(left: Option<&Arc<T>>, right: Option<&Arc<T>>) -> bool {
            match (left, right) {
                (Some(left), Some(right)) => Arc::ptr_eq(left, right),
                (None, None) => true,
                _ => false,
            }
        }
        match key {
            Key::Plugin(name) => same(self.plugins.get(name), other.plugins.get(name)),
            Key::Version(plugin, version) => {
                same(self.version(plugin, version), other.version(plugin, version))
            }
            Key::Route(pipeline, plugin) => same(self.route(pipeline, plugin), other.route(pipeline, plugin)),
            Key::Quarantined(table, key) => {
                let at = (*table, key.clone());
                self.quarantined.contains_key(&at) == other.quarantined.contains_key(&at)
            }
        }
    }

    /// Takes one record over from another state.
    pub(super) fn take(&mut self, from: &Self, key: &Key) {
        fn put<K: Ord, V>(map: &mut BTreeMap<K, V>, key: K, value: Option<V>) {
            match value {
                Some(value) => drop(map.insert(key, value)),
                None => drop(map.remove(&key)),
            }
        }
        match key {
            Key::Plugin(name) => put(&mut self.plugins, name.clone(), from.plugins.get(name).cloned()),
            Key::Version(plugin, version) => {
                let record = from.version(plugin, version).cloned();
                put(&mut self.versions, (plugin.clone(), version.clone()), record);
            }
            Key::Route(pipeline, plugin) => {
                let record = from.route(pipeline, plugin).cloned();
                put(&mut self.routes, (pipeline.clone(), plugin.clone()), record);
            }
            Key::Quarantined(table, key) => {
                let at = (*table, key.clone());
                let record = from.quarantined.get(&at).cloned();
                put(&mut self.quarantined, at, record);
            }
        }
    }

    /// A record as it is stored.
    pub(super) fn row(&self, key: &Key) -> serde_json::Result<Row> {
        let text = |record: Option<serde_json::Result<String>>| record.transpose();
        Ok(match key {
            Key::Plugin(name) => Row {
                table: Table::Plugins,
                key: name.clone(),
                value: text(self.plugins.get(name).map(serde_json::to_string))?,
            },
            Key::Version(plugin, version) => Row {
                table: Table::Versions,
                key: format!("{plugin}/{version}"),
                value: text(self.version(plugin, version).map(serde_json::to_string))?,
            },
            Key::Route(pipeline, plugin) => Row {
                table: Table::Routes,
                key: format!("{pipeline}/{plugin}"),
                value: text(self.route(pipeline, plugin).map(serde_json::to_string))?,
            },
            // Only ever discarded.
            Key::Quarantined(table, key) => Row { table: *table, key: key.clone(), value: None },
        })
    }
}
