//! What a reload would change.
//!
//! A reload is refused whole if [`restart_keys`] names anything. Otherwise [`Changes`]
//! says what is to be built and what to be dropped. Whether the contents of a file
//! changed is not seen here: that takes its digest, which whoever loads it knows.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::types::Config;

/// The keys that differ and take effect only at start: addresses that are bound,
/// engines that are built, telemetry that is installed.
pub fn restart_keys(old: &Config, new: &Config) -> Vec<String> {
    let (a, b) = (&old.server, &new.server);
    let (c, d) = (&old.sandbox, &new.sandbox);
    let (e, f) = (&old.telemetry, &new.telemetry);
    // `ratio` is compared as bits: a NaN would never equal itself.
    let (e_ratio, f_ratio) = (e.sample_ratio.to_bits(), f.sample_ratio.to_bits());
    let differing = [
        ("server.http", a.http != b.http),
        ("server.grpc", a.grpc != b.grpc),
        ("server.admin", a.admin != b.admin),
        ("server.limits", a.limits != b.limits),
        ("server.drain_ms", a.drain != b.drain),
        ("server.drain_delay_ms", a.drain_delay != b.drain_delay),
        ("engine.onnxruntime_library", old.engine.onnxruntime_library != new.engine.onnxruntime_library),
        ("sandbox.guest_threads", c.guest_threads != d.guest_threads),
        ("sandbox.instances_max", c.instances_max != d.instances_max),
        ("sandbox.memory_bytes_max", c.memory_bytes_max != d.memory_bytes_max),
        ("sandbox.cache_dir", c.cache_dir != d.cache_dir),
        ("sandbox.epoch_tick_ms", c.epoch_tick != d.epoch_tick),
        ("telemetry.otlp_endpoint", e.otlp_endpoint != f.otlp_endpoint),
        ("telemetry.sample_ratio", e_ratio != f_ratio),
        ("telemetry.service_name", e.service_name != f.service_name),
        ("telemetry.log_format", e.log_format != f.log_format),
        ("telemetry.log_filter", e.log_filter != f.log_filter),
    ];
    differing.into_iter().filter(|(_, differs)| *differs).map(|(key, _)| key.to_owned()).collect()
}

/// What happened to an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// It was not there.
    Added,
    /// Some setting of it differs.
    Changed,
    /// It is gone.
    Removed,
}

/// The entries that differ, by kind and name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes {
    /// Models.
    pub models: BTreeMap<Arc<str>, Change>,
    /// Plugins.
    pub plugins: BTreeMap<Arc<str>, Change>,
    /// Stores.
    pub stores: BTreeMap<Arc<str>, Change>,
    /// Pipelines.
    pub pipelines: BTreeMap<Arc<str>, Change>,
    /// Whether limits, drain times or another setting that takes effect at once differ.
    pub settings: bool,
}

impl Changes {
    /// Compares two configurations.
    pub fn between(old: &Config, new: &Config) -> Self {
        let (a, b) = (&old.server, &new.server);
        Self {
            models: compare(&old.models, &new.models),
            plugins: compare(&old.plugins, &new.plugins),
            stores: compare(&old.stores, &new.stores),
            pipelines: compare(&old.pipelines, &new.pipelines),
            settings: (&a.limits, a.drain, a.drain_delay) != (&b.limits, b.drain, b.drain_delay),
        }
    }

    /// Whether nothing differs.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

fn compare<T: PartialEq>(
    old: &BTreeMap<Arc<str>, T>,
    new: &BTreeMap<Arc<str>, T>,
) -> BTreeMap<Arc<str>, Change> {
    let removed = old.keys().filter(|name| !new.contains_key(*name)).map(|name| (name, Change::Removed));
    let others = new.iter().filter_map(|(name, entry)| match old.get(name) {
        None => Some((name, Change::Added)),
        Some(before) if before != entry => Some((name, Change::Changed)),
        Some(_) => None,
    });
    removed.chain(others).map(|(name, change)| (name.clone(), change)).collect()
}
