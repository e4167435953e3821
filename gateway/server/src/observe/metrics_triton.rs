//! Triton's names beside ours, for dashboards and autoscalers that know those: what can be
//! said without a GPU. They are read from the statistics of models and pipelines, so they cost
//! nothing until they are scraped.
//!
//! Triton writes the text form of Prometheus, where counters may have any name. In OpenMetrics
//! a counter ends in `_total`, so these are of the type `unknown`; Prometheus treats both alike.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Arc, PoisonError};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::metrics::MetricType;

use super::exposition::{family, labelled};
use super::machine::Machine;
use super::metrics::{Family, Metrics};
use super::model_statistics::ModelStatistics;
use super::statistics::Statistics;
use crate::config::defaults::MODEL_VERSION;

const FAILURES: Family =
    counter("nv_inference_request_failure", "Number of failed inference requests, by reason");
const PENDING: Family =
    gauge("nv_inference_pending_request_count", "Number of requests that wait for execution");
const LOAD: Family = gauge("nv_model_load_duration_secs", "Time that loading the model took in seconds");
const CPU: Family = gauge("nv_cpu_utilization", "CPU utilization rate of the machine [0.0 - 1.0]");
const MEMORY: Family = gauge("nv_cpu_memory_total_bytes", "CPU total memory (RAM) in bytes");
const MEMORY_USED: Family = gauge("nv_cpu_memory_used_bytes", "CPU used memory (RAM) in bytes");

const fn counter(name: &'static str, help: &'static str) -> Family {
    Family { name, help, kind: MetricType::Unknown }
}

const fn gauge(name: &'static str, help: &'static str) -> Family {
    Family { name, help, kind: MetricType::Gauge }
}

/// A counter, and where its value is.
type Row = (Family, fn(&ModelStatistics) -> u64);

const ROWS: [Row; 12] = [
    (counter("nv_inference_request_success", "Number of successful inference requests"), |of| {
        of.inference_stats.success.count
    }),
    (counter("nv_inference_count", "Number of inferences performed, without cached ones"), |of| {
        of.inference_count
    }),
    (counter("nv_inference_exec_count", "Number of model executions performed"), |of| of.execution_count),
    (counter("nv_inference_request_duration_us", "Cumulative request duration in microseconds"), |of| {
        micros(of.inference_stats.success.ns)
    }),
    (counter("nv_inference_queue_duration_us", "Cumulative queue duration in microseconds"), |of| {
        micros(of.inference_stats.queue.ns)
    }),
    (counter("nv_inference_compute_input_duration_us", "Cumulative input duration in microseconds"), |of| {
        micros(of.inference_stats.compute_input.ns)
    }),
    (counter("nv_inference_compute_infer_duration_us", "Cumulative run duration in microseconds"), |of| {
        micros(of.inference_stats.compute_infer.ns)
    }),
    (
        counter("nv_inference_compute_output_duration_us", "Cumulative output duration in microseconds"),
        |of| micros(of.inference_stats.compute_output.ns),
    ),
    (counter("nv_cache_num_hits_per_model", "Number of cache hits"), |of| of.inference_stats.cache_hit.count),
    (counter("nv_cache_num_misses_per_model", "Number of cache misses"), |of| {
        of.inference_stats.cache_miss.count
    }),
    (counter("nv_cache_hit_duration_per_model", "Cumulative time of cache hits in microseconds"), |of| {
        micros(of.inference_stats.cache_hit.ns)
    }),
    (counter("nv_cache_miss_duration_per_model", "Cumulative time of cache misses in microseconds"), |of| {
        micros(of.inference_stats.cache_miss.ns)
    }),
];

fn micros(nanoseconds: u64) -> u64 {
    nanoseconds / 1000
}

/// One line of labels, with what is counted for it.
struct Served {
    name: Arc<str>,
    version: Arc<str>,
    statistics: Arc<Statistics>,
}

impl Served {
    fn labels(&self) -> [(&'static str, &str); 2] {
        [("model", &*self.name), ("version", &*self.version)]
    }
}

/// The set, as a collector beside ours.
#[derive(Debug)]
pub(super) struct TritonMetrics(pub(super) Arc<Metrics>);

impl Collector for TritonMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let out = &mut encoder;
        let served = self.served();
        let read: Vec<ModelStatistics> =
            served.iter().map(|one| one.statistics.read(&one.name, &one.version)).collect();
        for (name, value) in &ROWS {
            let mut lines = family(out, name)?;
            for (one, read) in served.iter().zip(&read) {
                labelled(&mut lines, &one.labels())?.encode_gauge(&value(read))?;
            }
        }
        let mut lines = family(out, &FAILURES)?;
        for one in &served {
            let [model, version] = one.labels();
            for (reason, count) in one.statistics.failed() {
                labelled(&mut lines, &[model, version, ("reason", reason)])?.encode_gauge(&count)?;
            }
        }
        let mut lines = family(out, &PENDING)?;
        for one in &served {
            labelled(&mut lines, &one.labels())?.encode_gauge(&one.statistics.waiting())?;
        }
        let mut lines = family(out, &LOAD)?;
        for one in served.iter().filter(|one| !one.statistics.load_time().is_zero()) {
            let seconds = one.statistics.load_time().as_secs_f64();
            labelled(&mut lines, &one.labels())?.encode_gauge(&seconds)?;
        }
        let machine = Machine::now();
        if let Some(utilization) = machine.cpu_utilization {
            family(out, &CPU)?.encode_gauge(&utilization)?;
        }
        for (name, bytes) in [(&MEMORY, machine.memory_bytes), (&MEMORY_USED, machine.memory_used_bytes)] {
            if let Some(bytes) = bytes {
                family(out, name)?.encode_gauge(&bytes)?;
            }
        }
        Ok(())
    }
}

impl TritonMetrics {
    /// Versions of models and ensembles that are loaded, and the pipelines that have none.
    fn served(&self) -> Vec<Served> {
        let named = self.0.named.read().unwrap_or_else(PoisonError::into_inner);
        let versions = named.statistics.iter().filter_map(|((name, version), statistics)| {
            let statistics = statistics.upgrade()?;
            Some(Served { name: Arc::clone(name), version: Arc::clone(version), statistics })
        });
        let mut served: Vec<Served> = versions.collect();
        let known: BTreeSet<Arc<str>> = served.iter().map(|one| Arc::clone(&one.name)).collect();
        let has_none = |name: &Arc<str>| !named.models.contains_key(name) && !known.contains(name);
        let pipelines = named.pipelines.iter().filter(|(name, _)| has_none(name));
        served.extend(pipelines.map(|(name, pipeline)| Served {
            name: Arc::clone(name),
            version: MODEL_VERSION.into(),
            statistics: Arc::clone(pipeline.statistics()),
        }));
        served
    }
}
