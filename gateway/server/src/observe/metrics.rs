//! Every metric: its name, its help, and how it is counted.
//!
//! A name here is the family's: `_total` is added to counters and `_info` to infos when
//! they are written. Labels hold only names from the configuration and words from our
//! code; whatever else a client sends is counted as [`OTHER`].
//!
//! Rooms take a handle ([`PipelineMetrics`], [`ModelMetrics`], [`PluginMetrics`]) when
//! a snapshot is built and count through it, which takes no lock and no memory.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, PoisonError, RwLock, Weak};
use std::time::Duration;

use prometheus_client::metrics::MetricType;

use super::codes::Codes;
use super::histogram::{Histogram, SECONDS};
pub use super::model_metrics::{DepthOf, ModelMetrics};
pub use super::pipeline_metrics::{PipelineMetrics, Stage};
use super::statistics::Statistics;
use super::traces::SpanCounters;
use crate::config::Config;

/// A metric's name, help and type.
#[derive(Debug, Clone, Copy)]
pub(super) struct Family {
    pub(super) name: &'static str,
    pub(super) help: &'static str,
    pub(super) kind: MetricType,
}

macro_rules! families {
    ($($id:ident $kind:ident $name:literal $help:literal)+) => {
        $(pub(super) const $id: Family = Family { name: $name, help: $help, kind: MetricType::$kind };)+
        /// All of them, to be checked together.
        #[cfg(test)]
        pub(super) const FAMILIES: &[Family] = &[$($id),+];
    };
}

families! {
    BUILD Info "sluice_build" "The version that runs"
    CONFIG Info "sluice_config" "The configuration that is served, by digest"
    CONFIG_RELOADS Counter "sluice_config_reloads" "Attempts to reload the configuration, by outcome"
    CONFIG_OK Gauge "sluice_config_last_reload_successful" "1 if the last reload succeeded or none was tried"
    MODELS Gauge "sluice_models_loaded" "Models that are loaded"
    PLUGINS Gauge "sluice_plugins_loaded" "Plugins that are loaded"
    PIPELINES Gauge "sluice_pipelines_loaded" "Pipelines that are served"
    CONNECTIONS Gauge "sluice_connections_open" "Open connections, by listener"
    IN_FLIGHT Gauge "sluice_requests_in_flight" "Requests between admission and answer"
    IN_FLIGHT_BYTES Gauge "sluice_request_bytes_in_flight" "Bytes of the bodies of requests in flight"
    REQUESTS Counter "sluice_requests" "Requests that ended, by pipeline or model, code and whose fault"
    REQUEST_SECONDS Histogram "sluice_request_seconds" "Time from admission to answer in seconds"
    STAGE_SECONDS Histogram "sluice_stage_seconds" "Time in each stage of a request in seconds"
    REJECTED Counter "sluice_requests_rejected" "Requests refused before a pipeline was reached, by reason"
    BATCHES Counter "sluice_batches" "Batches that ran, by why they were closed"
    BATCH_ROWS Histogram "sluice_batch_rows" "Rows of each batch"
    BATCH_SECONDS Histogram "sluice_batch_seconds" "Time of a batch in seconds, by phase"
    QUEUE_SECONDS Histogram "sluice_queue_wait_seconds" "Time a request waited for its batch in seconds"
    QUEUE_DEPTH Gauge "sluice_queue_depth" "Requests that wait for a batch"
    BEST_ROWS Gauge "sluice_batch_best_rows" "The size of a batch beyond which a row gets no cheaper, as learned; 0 while unknown"
    CACHE_LOOKUPS Counter "sluice_cache_lookups" "Requests of models with a response cache, by model and outcome"
    CACHE_ENTRIES Gauge "sluice_cache_entries" "Answers in the response cache"
    CACHE_BYTES Gauge "sluice_cache_bytes" "Bytes of the response cache that are used"
    CACHE_EVICTIONS Counter "sluice_cache_evictions" "Answers that made room for others"
    SHARED_REGIONS Gauge "sluice_shared_memory_regions" "Regions of shared memory that clients have registered"
    SHARED_BYTES Gauge "sluice_shared_memory_bytes" "Bytes of the regions of shared memory that clients have registered"
    HUNG Gauge "sluice_model_instances_hung" "Instances of a model that were given up because a run does not return"
    SEQUENCES Gauge "sluice_sequences" "Sequences of a model, by whether they have a slot or wait for one"
    SEQUENCE_SLOTS Gauge "sluice_sequence_slots" "Sequences that a model can run at a time"
    PLUGIN_CALLS Counter "sluice_plugin_calls" "Calls of plugins by version, by outcome"
    PLUGIN_SECONDS Histogram "sluice_plugin_call_seconds" "Time of a plugin call in seconds, by version"
    PLUGIN_LOG_LINES Counter "sluice_plugin_log_lines" "Log lines of plugins by version, by whether they were written"
    PLUGIN_MEMORY_PEAK Gauge "sluice_plugin_memory_peak_bytes" "The most memory that one instance of a version had"
    PLUGIN_CHANGES Counter "sluice_plugin_changes" "Changes of plugins that were asked for, by action and outcome"
    FALLBACKS Counter "sluice_plugin_fallbacks" "Requests that went on without the plugin that failed, by pipeline and how"
    SHADOWS Counter "sluice_shadow_requests" "Requests that were run again with a candidate, by pipeline and outcome"
    SHADOW_SECONDS Histogram "sluice_shadow_seconds" "Time of a request that was run again with a candidate in seconds"
    LOG_DROPPED Counter "sluice_log_lines_dropped" "Log lines that were dropped because nobody read them fast enough"
    SPANS_EXPORTED Counter "sluice_trace_spans_exported" "Spans that the collector took"
    SPANS_DROPPED Counter "sluice_trace_spans_dropped" "Spans that were dropped, by reason"
    RESIDENT_BYTES Gauge "process_resident_memory_bytes" "Memory of the process in RAM in bytes"
    DESCRIPTORS Gauge "process_open_fds" "Open file descriptors"
    THREADS Gauge "process_threads" "Threads of the process"
}

/// The label value of every name that is not configured.
pub const OTHER: &str = "other";

/// What is counted for a version of a plugin.
#[derive(Debug)]
pub struct PluginMetrics {
    pub(super) calls: Codes,
    pub(super) seconds: Histogram,
    pub(super) log_lines: AtomicU64,
    pub(super) log_lines_dropped: AtomicU64,
    pub(super) memory_peak_bytes: AtomicI64,
}

impl PluginMetrics {
    fn new() -> Self {
        Self {
            calls: Codes::default(),
            seconds: Histogram::new(SECONDS),
            log_lines: AtomicU64::new(0),
            log_lines_dropped: AtomicU64::new(0),
            memory_peak_bytes: AtomicI64::new(0),
        }
    }

    /// How many calls there were, by outcome.
    pub fn outcomes(&self) -> impl Iterator<Item = (&'static str, u64)> {
        self.calls.counts().map(|(outcome, _, count)| (outcome, count))
    }

    /// The most memory that one instance had.
    pub fn memory_peak(&self, bytes: usize) {
        self.memory_peak_bytes.fetch_max(i64::try_from(bytes).unwrap_or(i64::MAX), Ordering::Relaxed);
    }

    /// A call ended: `ok`, or a word for what went wrong.
    pub fn call(&self, outcome: &'static str, took: Duration) {
        self.calls.increment(outcome, "");
        self.seconds.observe(took);
    }

    /// The plugin wrote lines to the log, and more that were dropped.
    pub fn log_lines(&self, written: u64, dropped: u64) {
        self.log_lines.fetch_add(written, Ordering::Relaxed);
        self.log_lines_dropped.fetch_add(dropped, Ordering::Relaxed);
    }
}

/// Handles by name. [`OTHER`] is always among them, except for plugins, where nobody
/// invents names.
#[derive(Debug, Clone, Default)]
pub(super) struct Named {
    pub(super) pipelines: BTreeMap<Arc<str>, Arc<PipelineMetrics>>,
    pub(super) models: BTreeMap<Arc<str>, Arc<ModelMetrics>>,
    pub(super) plugins: BTreeMap<PluginVersion, Arc<PluginMetrics>>,
    /// By name and version, as long as the version is loaded.
    pub(super) statistics: BTreeMap<(Arc<str>, Arc<str>), Weak<Statistics>>,
}

/// A plugin's name, and a version of it.
pub type PluginVersion = (Arc<str>, Arc<str>);

impl Named {
    /// What a scrape shows: everything configured, and [`OTHER`] once it was needed.
    pub(super) fn shown(&self) -> Self {
        let mut shown = self.clone();
        shown.pipelines.retain(|name, one| &**name != OTHER || one.is_used());
        shown.models.retain(|name, one| &**name != OTHER || one.is_used());
        shown
    }
}

/// All metrics of the process. Shared as `Arc<Metrics>`.
#[derive(Debug)]
pub struct Metrics {
    pub(super) named: RwLock<Named>,
    pub(super) in_flight: AtomicI64,
    pub(super) in_flight_bytes: AtomicI64,
    pub(super) cache_entries: AtomicI64,
    pub(super) cache_bytes: AtomicI64,
    pub(super) cache_evictions: AtomicU64,
    pub(super) shared_regions: AtomicI64,
    pub(super) shared_bytes: AtomicI64,
    pub(super) connections: [AtomicI64; LISTENERS.len()],
    pub(super) rejected: Codes,
    pub(super) reloads: Codes,
    pub(super) plugin_changes: Codes,
    pub(super) is_config_ok: AtomicI64,
    pub(super) loaded: [AtomicI64; 3],
    pub(super) config_digest: RwLock<String>,
    pub(super) engine: OnceLock<String>,
    pub(super) spans: SpanCounters,
}

/// The listeners that connections are counted for.
pub(super) const LISTENERS: [&str; 4] = ["http", "grpc", "admin", OTHER];

/// The content type of [`Metrics::encode`]: OpenMetrics, which Prometheus reads.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

impl Metrics {
    /// Nothing counted yet. `spans` comes from [`super::Guard::span_counters`].
    pub fn new(spans: SpanCounters) -> Self {
        let named = Named {
            pipelines: BTreeMap::from([(OTHER.into(), Arc::new(PipelineMetrics::new()))]),
            models: BTreeMap::from([(OTHER.into(), Arc::new(ModelMetrics::new()))]),
            plugins: BTreeMap::new(),
            statistics: BTreeMap::new(),
        };
        Self {
            named: RwLock::new(named),
            in_flight: AtomicI64::new(0),
            in_flight_bytes: AtomicI64::new(0),
            cache_entries: AtomicI64::new(0),
            cache_bytes: AtomicI64::new(0),
            cache_evictions: AtomicU64::new(0),
            shared_regions: AtomicI64::new(0),
            shared_bytes: AtomicI64::new(0),
            connections: Default::default(),
            rejected: Codes::default(),
            reloads: Codes::default(),
            plugin_changes: Codes::default(),
            is_config_ok: AtomicI64::new(1),
            loaded: Default::default(),
            config_digest: RwLock::default(),
            engine: OnceLock::new(),
            spans,
        }
    }

    /// Makes handles for the names of a configuration that is about to be built. Names
    /// that are there keep their counts.
    pub fn add_names(&self, config: &Config) {
        let mut named = self.named.write().unwrap_or_else(PoisonError::into_inner);
        for name in config.pipelines.keys().chain(config.models.keys()) {
            named.pipelines.entry(name.clone()).or_insert_with(|| Arc::new(PipelineMetrics::new()));
        }
        for name in config.models.keys() {
            named.models.entry(name.clone()).or_insert_with(|| Arc::new(ModelMetrics::new()));
        }
    }

    /// Makes handles for a model of a repository that is about to be built.
    pub fn add_model(&self, name: &Arc<str>) {
        let mut named = self.named.write().unwrap_or_else(PoisonError::into_inner);
        named.pipelines.entry(name.clone()).or_insert_with(|| Arc::new(PipelineMetrics::new()));
        named.models.entry(name.clone()).or_insert_with(|| Arc::new(ModelMetrics::new()));
    }

    /// This is what is served from now on.
    pub fn serves(&self, config: &Config) {
        self.keep_names(config);
        self.config_digest(&config.digest.0);
    }

    /// Forgets the names that a configuration does not have, once it is what is served
    /// (or served again, after a reload that failed). So the labels are bounded by one
    /// configuration, however often it changes.
    pub fn keep_names(&self, config: &Config) {
        let mut named = self.named.write().unwrap_or_else(PoisonError::into_inner);
        named.pipelines.retain(|name, _| {
            &**name == OTHER || config.pipelines.contains_key(name) || config.models.contains_key(name)
        });
        named.models.retain(|name, _| &**name == OTHER || config.models.contains_key(name));
        let counts = [config.models.len(), config.plugins.len(), config.pipelines.len()];
        for (gauge, count) in self.loaded.iter().zip(counts) {
            gauge.store(i64::try_from(count).unwrap_or(i64::MAX), Ordering::Relaxed);
        }
    }

    /// The handle of a pipeline, or of a model called directly; [`OTHER`]'s if the name
    /// is not configured. Takes a lock: for when a snapshot is built, and for errors.
    pub fn pipeline(&self, name: &str) -> Arc<PipelineMetrics> {
        let named = self.named.read().unwrap_or_else(PoisonError::into_inner);
        let found = named.pipelines.get(name).or_else(|| named.pipelines.get(OTHER));
        found.cloned().unwrap_or_else(|| Arc::new(PipelineMetrics::new()))
    }

    /// The handle of a model; see [`Self::pipeline`].
    pub fn model(&self, name: &str) -> Arc<ModelMetrics> {
        let named = self.named.read().unwrap_or_else(PoisonError::into_inner);
        let found = named.models.get(name).or_else(|| named.models.get(OTHER));
        found.cloned().unwrap_or_else(|| Arc::new(ModelMetrics::new()))
    }

    /// The statistics of a version of a model. They end with whoever holds them, so that
    /// versions that come and go do not add up; one that is loaded anew while it is still
    /// there goes on counting.
    pub fn statistics(&self, name: &Arc<str>, version: &str) -> Arc<Statistics> {
        let mut named = self.named.write().unwrap_or_else(PoisonError::into_inner);
        named.statistics.retain(|_, statistics| statistics.strong_count() > 0);
        let key = (Arc::clone(name), Arc::from(version));
        if let Some(known) = named.statistics.get(&key).and_then(Weak::upgrade) {
            return known;
        }
        let new = Arc::new(Statistics::default());
        named.statistics.insert(key, Arc::downgrade(&new));
        new
    }

    /// The handle of a version of a plugin, made if it is new. Call
    /// [`Self::keep_plugins`] once it is clear what is served.
    pub fn plugin(&self, name: &Arc<str>, version: &Arc<str>) -> Arc<PluginMetrics> {
        let mut named = self.named.write().unwrap_or_else(PoisonError::into_inner);
        let key = (Arc::clone(name), Arc::clone(version));
        Arc::clone(named.plugins.entry(key).or_insert_with(|| Arc::new(PluginMetrics::new())))
    }

    /// These versions are loaded. Others are forgotten, so that uploads do not add up in
    /// labels; those of them that are being loaded come back with this once they are served.
    pub fn keep_plugins<'a>(
        &self,
        loaded: impl Iterator<Item = (&'a Arc<str>, &'a Arc<str>, &'a Arc<PluginMetrics>)>,
    ) {
        let mut named = self.named.write().unwrap_or_else(PoisonError::into_inner);
        named.plugins = loaded
            .map(|(name, version, metrics)| ((Arc::clone(name), Arc::clone(version)), Arc::clone(metrics)))
            .collect();
    }

    /// The response cache holds so much now.
    pub fn cache_size(&self, entries: usize, bytes: usize) {
        self.cache_entries.store(i64::try_from(entries).unwrap_or(i64::MAX), Ordering::Relaxed);
        self.cache_bytes.store(i64::try_from(bytes).unwrap_or(i64::MAX), Ordering::Relaxed);
    }

    /// So much shared memory is registered now.
    pub fn shared_memory(&self, regions: usize, bytes: u64) {
        self.shared_regions.store(i64::try_from(regions).unwrap_or(i64::MAX), Ordering::Relaxed);
        self.shared_bytes.store(i64::try_from(bytes).unwrap_or(i64::MAX), Ordering::Relaxed);
    }

    /// So many answers made room for others in the response cache.
    pub fn cache_evicted(&self, entries: usize) {
        self.cache_evictions.fetch_add(u64::try_from(entries).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// Somebody asked for a change of a plugin: the action, and `ok` or the reason code.
    pub fn plugin_change(&self, action: &'static str, outcome: &'static str) {
        self.plugin_changes.increment(action, outcome);
    }

    /// A request is in flight, with a body of so many bytes, until the guard is dropped.
    #[must_use]
    pub fn request_in_flight(self: &Arc<Self>, body_bytes: usize) -> InFlight {
        let bytes = i64::try_from(body_bytes).unwrap_or(i64::MAX);
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        self.in_flight_bytes.fetch_add(bytes, Ordering::Relaxed);
        InFlight { metrics: self.clone(), bytes }
    }

    /// A connection of a listener (`http`, `grpc`, `admin`) is open until the guard is
    /// dropped.
    #[must_use]
    pub fn connection_open(self: &Arc<Self>, listener: &str) -> Open {
        let index = LISTENERS.iter().position(|known| *known == listener);
        let open = Open { metrics: self.clone(), index: index.unwrap_or(LISTENERS.len() - 1) };
        open.add(1);
        open
    }

    /// A request was refused before a pipeline was reached.
    pub fn rejected(&self, reason: &'static str) {
        self.rejected.increment(reason, "");
    }

    /// A reload was tried: `ok`, `unchanged`, `invalid`, `needs_restart`, `failed`.
    pub fn reload(&self, outcome: &'static str) {
        self.reloads.increment(outcome, "");
        let is_ok = matches!(outcome, "ok" | "unchanged");
        self.is_config_ok.store(i64::from(is_ok), Ordering::Relaxed);
    }

    /// The digest of the configuration that is served.
    pub fn config_digest(&self, digest: &str) {
        digest.clone_into(&mut self.config_digest.write().unwrap_or_else(PoisonError::into_inner));
    }

    /// Which engine models run on by default, for the build info. Only the first counts.
    pub fn engine(&self, description: &str) {
        let _ = self.engine.set(description.to_owned());
    }
}

/// See [`Metrics::request_in_flight`].
#[derive(Debug)]
pub struct InFlight {
    metrics: Arc<Metrics>,
    bytes: i64,
}

impl InFlight {
    /// The body turned out to have so many bytes.
    pub fn set_bytes(&mut self, body_bytes: usize) {
        let bytes = i64::try_from(body_bytes).unwrap_or(i64::MAX);
        self.metrics.in_flight_bytes.fetch_add(bytes.saturating_sub(self.bytes), Ordering::Relaxed);
        self.bytes = bytes;
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.metrics.in_flight.fetch_sub(1, Ordering::Relaxed);
        self.metrics.in_flight_bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// See [`Metrics::connection_open`].
#[derive(Debug)]
pub struct Open {
    metrics: Arc<Metrics>,
    index: usize,
}

impl Open {
    fn add(&self, count: i64) {
        if let Some(gauge) = self.metrics.connections.get(self.index) {
            gauge.fetch_add(count, Ordering::Relaxed);
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.add(-1);
    }
}

#[cfg(test)]
#[path = "metrics_tests.rs"]
mod tests;
