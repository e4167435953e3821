//! Writes all metrics in OpenMetrics text, the form that Prometheus reads.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, PoisonError};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, MetricEncoder, NoLabelSet, text};
use prometheus_client::registry::Registry;

use super::codes::Codes;
use super::histogram::Histogram;
use super::metrics::{self as m, Family, LISTENERS, Metrics, ModelMetrics, Named, PipelineMetrics, Stage};
use super::metrics_triton::TritonMetrics;
use super::process::Usage;

impl Metrics {
    /// All metrics as OpenMetrics text, with the type [`super::CONTENT_TYPE`]; with Triton's
    /// names beside ours if wanted. Takes no lock that a request waits for.
    pub fn encode(self: &Arc<Self>, with_triton: bool) -> String {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(self.clone()));
        if with_triton {
            registry.register_collector(Box::new(TritonMetrics(Arc::clone(self))));
        }
        let mut out = String::with_capacity(16 << 10);
        // A String takes everything that is written to it.
        let _ = text::encode(&mut out, &registry);
        out
    }
}

impl Collector for Metrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let out = &mut encoder;
        let shown = self.named.read().unwrap_or_else(PoisonError::into_inner).shown();
        self.process(out)?;
        self.requests(out, &shown)?;
        batches(out, &shown)?;
        plugins(out, &shown)
    }
}

impl Metrics {
    fn process(&self, out: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let engine = self.engine.get().map_or("", String::as_str);
        let build = [("version", env!("CARGO_PKG_VERSION")), ("engine", engine)];
        family(out, &m::BUILD)?.encode_info(&build)?;
        let digest = self.config_digest.read().unwrap_or_else(PoisonError::into_inner).clone();
        family(out, &m::CONFIG)?.encode_info(&[("digest", digest)])?;
        codes(&mut family(out, &m::CONFIG_RELOADS)?, &self.reloads, "outcome")?;
        gauge(out, &m::CONFIG_OK, &self.is_config_ok)?;
        let mut changes = family(out, &m::PLUGIN_CHANGES)?;
        for (action, outcome, value) in self.plugin_changes.counts() {
            count(&mut changes.encode_family(&[("action", action), ("outcome", outcome)])?, value)?;
        }
        for (name, value) in [&m::MODELS, &m::PLUGINS, &m::PIPELINES].into_iter().zip(&self.loaded) {
            gauge(out, name, value)?;
        }
        let mut connections = family(out, &m::CONNECTIONS)?;
        for (listener, open) in LISTENERS.iter().zip(&self.connections) {
            let labels = [("listener", *listener)];
            connections.encode_family(&labels)?.encode_gauge(&open.load(Ordering::Relaxed))?;
        }
        count(&mut family(out, &m::LOG_DROPPED)?, super::log_queue::dropped())?;
        count(&mut family(out, &m::SPANS_EXPORTED)?, self.spans.exported.get())?;
        let mut dropped = family(out, &m::SPANS_DROPPED)?;
        let reasons = [
            ("queue_full", &self.spans.dropped_queue_full),
            ("export_failed", &self.spans.dropped_export_failed),
        ];
        for (reason, counter) in reasons {
            count(&mut dropped.encode_family(&[("reason", reason)])?, counter.get())?;
        }
        let usage = Usage::now();
        let usage = [
            (&m::RESIDENT_BYTES, usage.resident_bytes),
            (&m::DESCRIPTORS, usage.open_descriptors),
            (&m::THREADS, usage.threads),
        ];
        for (name, value) in usage {
            if let Some(value) = value {
                family(out, name)?.encode_gauge(&i64::try_from(value).unwrap_or(i64::MAX))?;
            }
        }
        Ok(())
    }

    fn requests(&self, out: &mut DescriptorEncoder<'_>, shown: &Named) -> fmt::Result {
        gauge(out, &m::IN_FLIGHT, &self.in_flight)?;
        gauge(out, &m::IN_FLIGHT_BYTES, &self.in_flight_bytes)?;
        gauge(out, &m::CACHE_ENTRIES, &self.cache_entries)?;
        gauge(out, &m::CACHE_BYTES, &self.cache_bytes)?;
        gauge(out, &m::SHARED_REGIONS, &self.shared_regions)?;
        gauge(out, &m::SHARED_BYTES, &self.shared_bytes)?;
        count(&mut family(out, &m::CACHE_EVICTIONS)?, self.cache_evictions.load(Ordering::Relaxed))?;
        codes(&mut family(out, &m::REJECTED)?, &self.rejected, "reason")?;
        let pipelines = &shown.pipelines;
        let mut requests = family(out, &m::REQUESTS)?;
        for (name, pipeline) in pipelines {
            for (code, fault, value) in pipeline.requests.counts() {
                let labels = [("pipeline", &**name), ("code", code), ("fault", fault)];
                count(&mut requests.encode_family(&labels)?, value)?;
            }
        }
        histograms(out, &m::REQUEST_SECONDS, pipelines, "pipeline", |one: &PipelineMetrics| &one.seconds)?;
        by_code(out, &m::FALLBACKS, pipelines, ("pipeline", "how"), |one: &PipelineMetrics| &one.fallbacks)?;
        by_code(out, &m::SHADOWS, pipelines, ("pipeline", "outcome"), |one: &PipelineMetrics| &one.shadows)?;
        histograms(out, &m::SHADOW_SECONDS, pipelines, "pipeline", |one: &PipelineMetrics| {
            &one.shadow_seconds
        })?;
        let mut seconds = family(out, &m::STAGE_SECONDS)?;
        for (name, pipeline) in pipelines {
            for ((_, stage), histogram) in Stage::ALL.iter().zip(&pipeline.stages) {
                let labels = [("pipeline", &**name), ("stage", stage)];
                histogram.encode(seconds.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }
}

fn batches(out: &mut DescriptorEncoder<'_>, shown: &Named) -> fmt::Result {
    let models = &shown.models;
    by_code(out, &m::BATCHES, models, ("model", "reason"), |one: &ModelMetrics| &one.batches)?;
    histograms(out, &m::BATCH_ROWS, models, "model", |one: &ModelMetrics| &one.rows)?;
    let mut seconds = family(out, &m::BATCH_SECONDS)?;
    for (name, model) in models {
        for (phase, histogram) in ["gather", "compute", "scatter"].into_iter().zip(&model.phases) {
            let labels = [("model", &**name), ("phase", phase)];
            histogram.encode(seconds.encode_family(&labels)?)?;
        }
    }
    by_code(out, &m::CACHE_LOOKUPS, models, ("model", "outcome"), |one: &ModelMetrics| &one.cache)?;
    histograms(out, &m::QUEUE_SECONDS, models, "model", |one: &ModelMetrics| &one.queue_wait)?;
    let mut depth = family(out, &m::QUEUE_DEPTH)?;
    for (name, model) in models {
        let labels = [("model", &**name)];
        depth.encode_family(&labels)?.encode_gauge(&model.queue_depth())?;
    }
    let mut best = family(out, &m::BEST_ROWS)?;
    for (name, model) in models {
        let labels = [("model", &**name)];
        best.encode_family(&labels)?.encode_gauge(&model.best_rows.load(Ordering::Relaxed))?;
    }
    let mut hung = family(out, &m::HUNG)?;
    for (name, model) in models {
        let labels = [("model", &**name)];
        hung.encode_family(&labels)?.encode_gauge(&model.hung.load(Ordering::Relaxed))?;
    }
    sequences(out, models)
}

fn sequences(out: &mut DescriptorEncoder<'_>, models: &BTreeMap<Arc<str>, Arc<ModelMetrics>>) -> fmt::Result {
    let slots_of = |model: &ModelMetrics| model.sequence_slots.load(Ordering::Relaxed);
    let with_sequences = || models.iter().filter(|(_, model)| slots_of(model) > 0);
    let mut sequences = family(out, &m::SEQUENCES)?;
    for (name, model) in with_sequences() {
        for (state, count) in ["active", "waiting"].into_iter().zip(&model.sequences) {
            let labels = [("model", &**name), ("state", state)];
            labelled(&mut sequences, &labels)?.encode_gauge(&count.load(Ordering::Relaxed))?;
        }
    }
    let mut slots = family(out, &m::SEQUENCE_SLOTS)?;
    for (name, model) in with_sequences() {
        labelled(&mut slots, &[("model", &**name)])?.encode_gauge(&slots_of(model))?;
    }
    Ok(())
}

fn plugins(out: &mut DescriptorEncoder<'_>, shown: &Named) -> fmt::Result {
    let plugins = &shown.plugins;
    let mut calls = family(out, &m::PLUGIN_CALLS)?;
    for ((plugin, version), one) in plugins {
        for (outcome, _, value) in one.calls.counts() {
            let labels = [("plugin", &**plugin), ("version", &**version), ("outcome", outcome)];
            count(&mut labelled(&mut calls, &labels)?, value)?;
        }
    }
    let mut seconds = family(out, &m::PLUGIN_SECONDS)?;
    for ((plugin, version), one) in plugins {
        one.seconds.encode(labelled(&mut seconds, &[("plugin", &**plugin), ("version", &**version)])?)?;
    }
    let mut lines = family(out, &m::PLUGIN_LOG_LINES)?;
    for ((plugin, version), one) in plugins {
        for (outcome, counter) in [("written", &one.log_lines), ("dropped", &one.log_lines_dropped)] {
            let labels = [("plugin", &**plugin), ("version", &**version), ("outcome", outcome)];
            count(&mut labelled(&mut lines, &labels)?, counter.load(Ordering::Relaxed))?;
        }
    }
    let mut peak = family(out, &m::PLUGIN_MEMORY_PEAK)?;
    for ((plugin, version), one) in plugins {
        let labels = [("plugin", &**plugin), ("version", &**version)];
        labelled(&mut peak, &labels)?.encode_gauge(&one.memory_peak_bytes.load(Ordering::Relaxed))?;
    }
    Ok(())
}

pub(super) fn family<'s>(
    out: &'s mut DescriptorEncoder<'_>,
    family: &'s Family,
) -> Result<MetricEncoder<'s>, fmt::Error> {
    out.encode_descriptor(family.name, family.help, None, family.kind)
}

fn gauge(out: &mut DescriptorEncoder<'_>, name: &Family, value: &AtomicI64) -> fmt::Result {
    family(out, name)?.encode_gauge(&value.load(Ordering::Relaxed))
}

fn count(encoder: &mut MetricEncoder<'_>, value: u64) -> fmt::Result {
    encoder.encode_counter::<NoLabelSet, _, u64>(&value, None)
}

fn codes(encoder: &mut MetricEncoder<'_>, codes: &Codes, label: &str) -> fmt::Result {
    for (code, _, value) in codes.counts() {
        count(&mut encoder.encode_family(&[(label, code)])?, value)?;
    }
    Ok(())
}

fn by_code<T>(
    out: &mut DescriptorEncoder<'_>,
    name: &Family,
    all: &BTreeMap<Arc<str>, Arc<T>>,
    (label, code_label): (&str, &str),
    codes: impl Fn(&T) -> &Codes,
) -> fmt::Result {
    let mut encoder = family(out, name)?;
    for (name, one) in all {
        for (code, _, value) in codes(one).counts() {
            let labels = [(label, &**name), (code_label, code)];
            count(&mut labelled(&mut encoder, &labels)?, value)?;
        }
    }
    Ok(())
}

fn histograms<T>(
    out: &mut DescriptorEncoder<'_>,
    name: &Family,
    all: &BTreeMap<Arc<str>, Arc<T>>,
    label: &str,
    histogram: impl Fn(&T) -> &Histogram,
) -> fmt::Result {
    let mut encoder = family(out, name)?;
    for (name, one) in all {
        histogram(one).encode(labelled(&mut encoder, &[(label, &**name)])?)?;
    }
    Ok(())
}

pub(super) fn labelled<'s, S: EncodeLabelSet>(
    encoder: &'s mut MetricEncoder<'_>,
    labels: &'s S,
) -> Result<MetricEncoder<'s>, fmt::Error> {
    encoder.encode_family(labels)
}
