//! What the gateway says about itself: logs, metrics and traces.
//!
//! Other rooms use `tracing`'s macros and the handles of [`Metrics`]; this is the only
//! room that names opentelemetry, and `metrics.rs` the only file that names a metric.
//!
//! Spans are `debug_span!` for the stages of a request. They cost next to nothing
//! unless a collector is configured: the log filter leaves them out, and then no layer
//! is interested in them.

mod codes;
mod counted_parts;
mod exposition;
mod histogram;
mod log_queue;
mod log_settings;
mod logs;
mod machine;
mod metrics;
mod metrics_triton;
mod model_metrics;
mod model_statistics;
mod pipeline_metrics;
mod plugin_spans;
mod process;
mod repeats;
mod request_trace;
mod statistics;
mod trace_file;
mod traces;

use tracing_subscriber::Layer as _;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Registry, reload};

use crate::config::Telemetry;
use log_queue::LogQueue;

pub use counted_parts::CountedParts;
pub use log_settings::{LogSettings, change_log_settings, log_settings};
pub use logs::check_filter;
pub use metrics::{
    CONTENT_TYPE, DepthOf, InFlight, Metrics, ModelMetrics, OTHER, Open, PipelineMetrics, PluginMetrics,
    PluginVersion, Stage,
};
pub use model_statistics::{
    BatchStatistics, DurationStatistics, InferenceStatistics, MemoryUsage, ModelStatistics, PartStatistics,
    ResponseStatistics,
};
pub use plugin_spans::PluginSpans;
pub use repeats::is_failure_written;
pub use request_trace::{Change, Trace, TraceChange, TraceSettings, Tracer};
pub use statistics::{Counted, Failure, PartOutcome, Phases, Statistics, Waiting};
pub use traces::{FLUSH_TIMEOUT, SpanCounters, check_endpoint, set_parent, trace_id};

/// Telemetry cannot start.
#[derive(Debug, thiserror::Error)]
pub enum ObserveError {
    /// The log filter is malformed.
    #[error("log filter: {0}")]
    Filter(String),
    /// There is no thread that could write log lines.
    #[error("logs: {0}")]
    Logs(std::io::Error),
    /// The exporter of traces cannot be built.
    #[error("traces: {0}")]
    Traces(String),
    /// Something else already listens to `tracing` in this process.
    #[error("logs are already set up")]
    AlreadySetUp,
}

/// Running telemetry. Keep it until the process ends, then call [`Guard::shutdown`].
pub struct Guard {
    traces: Option<traces::Traces>,
    log: LogQueue,
    counters: SpanCounters,
}

impl Guard {
    /// What became of the spans, for [`Metrics::new`].
    pub fn span_counters(&self) -> SpanCounters {
        self.counters.clone()
    }

    /// Sends the spans and writes the log lines that are waiting, and stops. Blocks for at
    /// most [`FLUSH_TIMEOUT`] and some seconds, also if the collector is dead and nobody
    /// reads the log; what is not out by then is lost. Call it on a thread that may block.
    pub fn shutdown(self) {
        if let Some(traces) = self.traces {
            traces.shutdown();
        }
        self.log.drain();
    }
}

/// Sets up logs, and traces if a collector is configured. Needs no async runtime, and
/// waits for nobody: a collector that is not there is only noticed by the counters.
///
/// # Errors
/// See [`ObserveError`]; settings that passed [`crate::config::load`] only fail with
/// [`ObserveError::AlreadySetUp`].
pub fn init(telemetry: &Telemetry) -> Result<Guard, ObserveError> {
    let counters = SpanCounters::default();
    let traces = traces::Traces::start(telemetry, &counters)?;
    let (filter, handle) = log_settings::filter(&telemetry.log_filter)?;
    let log = LogQueue::start(std::io::stderr()).map_err(ObserveError::Logs)?;
    let subscriber = subscriber(telemetry, filter, traces.as_ref(), log.clone());
    subscriber.try_init().map_err(|_| ObserveError::AlreadySetUp)?;
    log_settings::install(&telemetry.log_filter, handle);
    traces::set_enabled(traces.is_some());
    Ok(Guard { traces, log, counters })
}

fn subscriber(
    telemetry: &Telemetry,
    filter: reload::Layer<log_settings::LogFilter, Registry>,
    traces: Option<&traces::Traces>,
    log: LogQueue,
) -> impl tracing::Subscriber + Send + Sync + use<> {
    let layer = traces.map(|traces| traces.layer().with_filter(traces::filter()));
    tracing_subscriber::registry().with(logs::layer(telemetry, filter, log)).with(layer)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::LogFormat;

    fn telemetry(otlp_endpoint: Option<&str>) -> Telemetry {
        Telemetry {
            otlp_endpoint: otlp_endpoint.map(str::to_owned),
            sample_ratio: 1.0,
            service_name: "test".to_owned(),
            log_format: LogFormat::Json,
            log_filter: "info".to_owned(),
            triton_metrics: false,
            triton_trace_file: None,
        }
    }

    /// Whether stages of requests are looked at, and whether log lines are.
    fn interest(otlp_endpoint: Option<&str>) -> (bool, bool) {
        let telemetry = telemetry(otlp_endpoint);
        let traces = traces::Traces::start(&telemetry, &SpanCounters::default()).expect("starts");
        let (filter, _handle) = log_settings::filter(&telemetry.log_filter).expect("is fine");
        let log = LogQueue::start(std::io::sink()).expect("a thread");
        let subscriber = subscriber(&telemetry, filter, traces.as_ref(), log);
        tracing::subscriber::with_default(subscriber, || {
            let stage = tracing::debug_span!(target: "sluice", "stage");
            (!stage.is_disabled(), tracing::enabled!(target: "sluice", tracing::Level::INFO))
        })
    }

    #[test]
    fn spans_of_stages_are_off_without_a_collector_and_logs_are_on() {
        assert_eq!(interest(None), (false, true));
        assert_eq!(interest(Some("http://127.0.0.1:1")), (true, true));
    }
}
