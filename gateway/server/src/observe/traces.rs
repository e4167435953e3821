//! Traces over OTLP. The export runs on a thread of its own, drops spans rather than
//! wait, and counts what it drops; a dead collector is nobody else's business.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use http::{HeaderMap, Uri};
use opentelemetry::propagation::{Extractor, TextMapPropagator as _};
use opentelemetry::trace::{TraceContextExt as _, TracerProvider as _};
use opentelemetry::{Context, KeyValue};
use opentelemetry_otlp::{Protocol, WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::{OTelSdkError, OTelSdkResult};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{
    BatchConfigBuilder, BatchSpanProcessor, Sampler, SdkTracerProvider, Span, SpanData, SpanExporter,
    SpanProcessor,
};
use prometheus_client::metrics::counter::Counter;
use tracing::level_filters::LevelFilter;
use tracing::{Level, Subscriber};
use tracing_opentelemetry::{OpenTelemetryLayer, OpenTelemetrySpanExt as _};
use tracing_subscriber::filter::FilterFn;
use tracing_subscriber::registry::LookupSpan;

use super::ObserveError;
use crate::config::Telemetry;

/// Spans that wait for export; more are dropped and counted. About 1 KiB each.
/// OpenTelemetry's default.
const QUEUE_SPANS_MAX: usize = 2048;
/// Spans of one export. OpenTelemetry's default.
const BATCH_SPANS_MAX: usize = 512;
/// How long spans wait for others. OpenTelemetry's default.
const BATCH_DELAY: Duration = Duration::from_secs(5);
/// Time for one export; then its spans are dropped and counted. OpenTelemetry's default.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(10);
/// Time for the last export at shutdown, so that a dead collector cannot hold up an
/// exit that Kubernetes is waiting for.
pub const FLUSH_TIMEOUT: Duration = Duration::from_secs(2);
/// The longest `traceparent` that is looked at: version 00 has 55 characters, later
/// versions may add some.
const TRACEPARENT_BYTES_MAX: usize = 128;
/// The longest `tracestate` that is carried on: what W3C asks for at least.
const TRACESTATE_BYTES_MAX: usize = 512;

static IS_ENABLED: AtomicBool = AtomicBool::new(false);

pub(super) fn set_enabled(is_enabled: bool) {
    IS_ENABLED.store(is_enabled, Ordering::Relaxed);
}

/// What became of the spans.
#[derive(Debug, Clone, Default)]
pub struct SpanCounters {
    /// Taken by the collector.
    pub exported: Counter,
    /// Dropped because too many were waiting.
    pub dropped_queue_full: Counter,
    /// Dropped because the collector did not take them.
    pub dropped_export_failed: Counter,
}

/// Checks the address of a collector: the base of an OTLP/HTTP endpoint.
///
/// # Errors
/// Words for the user.
pub fn check_endpoint(endpoint: &str) -> Result<(), String> {
    let uri: Uri = endpoint.parse().map_err(|error| format!("is not an address: {error}"))?;
    match uri.scheme_str() {
        Some("http") if uri.query().is_none() => Ok(()),
        Some("http") => Err("has a query".to_owned()),
        // A collector beside the gateway speaks TLS to the outside.
        _ => Err("is not an http:// address; https is not supported, use a local collector".to_owned()),
    }
}

/// The running export.
#[derive(Debug)]
pub(super) struct Traces {
    provider: SdkTracerProvider,
}

impl Traces {
    /// None without an endpoint.
    pub(super) fn start(
        telemetry: &Telemetry,
        counters: &SpanCounters,
    ) -> Result<Option<Self>, ObserveError> {
        let Some(endpoint) = &telemetry.otlp_endpoint else { return Ok(None) };
        let failed = |error: &dyn fmt::Display| ObserveError::Traces(error.to_string());
        check_endpoint(endpoint).map_err(|message| failed(&message))?;
        let base = endpoint.trim_end_matches('/');
        let url = if base.ends_with("/v1/traces") { base.to_owned() } else { format!("{base}/v1/traces") };
        let otlp = opentelemetry_otlp::SpanExporter::builder()
            .with_http()
            .with_protocol(Protocol::HttpBinary)
            .with_endpoint(url)
            .with_timeout(EXPORT_TIMEOUT)
            // Waiting to try again would fill the queue with what nobody may ever take.
            .with_retry_policy(opentelemetry_otlp::RetryPolicy::disabled())
            .build()
            .map_err(|error| failed(&error))?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .enable_time()
            .build()
            .map_err(|error| failed(&error))?;
        let waiting = Arc::new(AtomicUsize::new(0));
        let exporter =
            CountingExporter { otlp, runtime, waiting: waiting.clone(), counters: counters.clone() };
        let batch = BatchConfigBuilder::default()
            .with_max_queue_size(QUEUE_SPANS_MAX)
            .with_max_export_batch_size(BATCH_SPANS_MAX)
            .with_scheduled_delay(BATCH_DELAY)
            .build();
        let processor = BatchSpanProcessor::builder(exporter).with_batch_config(batch).build();
        let resource = Resource::builder()
            .with_service_name(telemetry.service_name.clone())
            .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
            .build();
        let sampler = Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(telemetry.sample_ratio)));
        let provider = SdkTracerProvider::builder()
            .with_span_processor(CountingProcessor { inner: processor, waiting, counters: counters.clone() })
            .with_sampler(sampler)
            .with_resource(resource)
            .build();
        Ok(Some(Self { provider }))
    }

    pub(super) fn layer<S>(&self) -> OpenTelemetryLayer<S, opentelemetry_sdk::trace::SdkTracer>
    where
        S: Subscriber + for<'span> LookupSpan<'span>,
    {
        tracing_opentelemetry::layer()
            .with_tracer(self.provider.tracer("sluice"))
            .with_location(false)
            .with_threads(false)
            .with_tracked_inactivity(false)
    }

    pub(super) fn shutdown(self) {
        set_enabled(false);
        if let Err(error) = self.provider.shutdown_with_timeout(FLUSH_TIMEOUT) {
            tracing::warn!(%error, "traces were lost at shutdown");
        }
    }
}

/// What becomes part of a trace: our spans, and what went wrong inside them. Not the
/// spans of libraries, the exporter's among them.
pub(super) fn filter() -> FilterFn {
    let is_wanted = |metadata: &tracing::Metadata<'_>| {
        let level_max = if metadata.is_span() { Level::DEBUG } else { Level::WARN };
        metadata.target().starts_with("sluice") && *metadata.level() <= level_max
    };
    FilterFn::new(is_wanted as fn(&tracing::Metadata<'_>) -> bool).with_max_level_hint(LevelFilter::DEBUG)
}

/// Makes a span the child of the caller's, if the headers name one in W3C's form.
/// Anything else — malformed, doubled, oversized — leaves the span a new trace, and no
/// part of it is repeated anywhere. Baggage is not read. Call it before the span is
/// entered: later it has no effect.
pub fn set_parent(span: &tracing::Span, headers: &HeaderMap) {
    if !IS_ENABLED.load(Ordering::Relaxed) {
        return;
    }
    if let Some(parent) = parent_of(headers) {
        // The only failures are a span that is disabled and one that was entered.
        let _ = span.set_parent(parent);
    }
}

/// The id of the trace that a span belongs to, as 32 hexadecimal digits; None if there
/// are no traces. Starts the span, so [`set_parent`] comes first.
pub fn trace_id(span: &tracing::Span) -> Option<String> {
    if !IS_ENABLED.load(Ordering::Relaxed) {
        return None;
    }
    let context = span.context();
    let span = context.span();
    let span_context = span.span_context();
    span_context.is_valid().then(|| span_context.trace_id().to_string())
}

fn parent_of(headers: &HeaderMap) -> Option<Context> {
    let headers = TraceHeaders::of(headers)?;
    let context = TraceContextPropagator::new().extract_with_context(&Context::new(), &headers);
    context.span().span_context().is_valid().then_some(context)
}

/// The two headers of W3C trace context, checked for form and length.
struct TraceHeaders<'a> {
    parent: &'a str,
    state: Option<&'a str>,
}

impl<'a> TraceHeaders<'a> {
    fn of(headers: &'a HeaderMap) -> Option<Self> {
        let mut parents = headers.get_all("traceparent").iter();
        let parent = parents.next()?.to_str().ok()?;
        let is_well_formed = parents.next().is_none()
            && (55..=TRACEPARENT_BYTES_MAX).contains(&parent.len())
            && parent.bytes().enumerate().take(55).all(|(index, byte)| match index {
                2 | 35 | 52 => byte == b'-',
                _ => byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte),
            });
        let mut states = headers.get_all("tracestate").iter();
        let state = states.next().and_then(|state| state.to_str().ok());
        let state = state.filter(|state| state.len() <= TRACESTATE_BYTES_MAX && states.next().is_none());
        is_well_formed.then_some(Self { parent, state })
    }
}

impl Extractor for TraceHeaders<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        match key {
            "traceparent" => Some(self.parent),
            "tracestate" => self.state,
            _ => None,
        }
    }

    fn keys(&self) -> Vec<&str> {
        vec!["traceparent", "tracestate"]
    }
}

/// Bounds and counts what waits: the SDK's processor drops without telling how much.
#[derive(Debug)]
struct CountingProcessor {
    inner: BatchSpanProcessor,
    waiting: Arc<AtomicUsize>,
    counters: SpanCounters,
}

impl SpanProcessor for CountingProcessor {
    fn on_start(&self, span: &mut Span, context: &Context) {
        self.inner.on_start(span, context);
    }

    fn on_end(&self, span: SpanData) {
        if self.waiting.fetch_add(1, Ordering::Relaxed) < QUEUE_SPANS_MAX {
            self.inner.on_end(span);
        } else {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
            self.counters.dropped_queue_full.inc();
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.inner.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.inner.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.inner.set_resource(resource);
    }
}

/// Runs the exporter's HTTP client, which needs a runtime, on the processor's thread,
/// which has none: a small one of its own, so that a busy gateway delays no export and
/// an export no request.
#[derive(Debug)]
struct CountingExporter {
    otlp: opentelemetry_otlp::SpanExporter,
    runtime: tokio::runtime::Runtime,
    waiting: Arc<AtomicUsize>,
    counters: SpanCounters,
}

impl SpanExporter for CountingExporter {
    fn export(&self, batch: Vec<SpanData>) -> impl Future<Output = OTelSdkResult> + Send {
        let spans = batch.len();
        self.waiting.fetch_sub(spans, Ordering::Relaxed);
        let export = async { tokio::time::timeout(EXPORT_TIMEOUT, self.otlp.export(batch)).await };
        let result = self.runtime.block_on(export).unwrap_or(Err(OTelSdkError::Timeout(EXPORT_TIMEOUT)));
        let counter =
            if result.is_ok() { &self.counters.exported } else { &self.counters.dropped_export_failed };
        counter.inc_by(u64::try_from(spans).unwrap_or(u64::MAX));
        std::future::ready(result)
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.otlp.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.otlp.set_resource(resource);
    }
}

#[cfg(test)]
#[path = "traces_tests.rs"]
mod tests;
