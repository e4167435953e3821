//! What traces promise, against scripted collectors.

use std::convert::Infallible;
use std::net::{SocketAddr, TcpListener};

use bytes::Bytes;
use http::{HeaderValue, Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tracing_subscriber::Layer as _;
use tracing_subscriber::layer::SubscriberExt as _;

use super::*;

const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";

fn telemetry(endpoint: SocketAddr) -> Telemetry {
    Telemetry {
        otlp_endpoint: Some(format!("http://{endpoint}")),
        sample_ratio: 1.0,
        service_name: "the-service".to_owned(),
        log_format: crate::config::LogFormat::Auto,
        log_filter: "info".to_owned(),
        triton_metrics: false,
        triton_trace_file: None,
    }
}

fn headers(parent: &str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert("traceparent", HeaderValue::from_str(parent).expect("a value"));
    headers
}

/// Runs `work` with traces that go to `telemetry`, and shuts them down.
fn traced(telemetry: &Telemetry, counters: &SpanCounters, work: impl FnOnce()) -> Duration {
    let traces = Traces::start(telemetry, counters).expect("starts").expect("has an endpoint");
    let subscriber = tracing_subscriber::registry().with(traces.layer().with_filter(filter()));
    IS_ENABLED.store(true, Ordering::Relaxed);
    tracing::subscriber::with_default(subscriber, work);
    let started = Instant::now();
    traces.provider.shutdown_with_timeout(FLUSH_TIMEOUT).unwrap_or_default();
    started.elapsed()
}

fn spans(count: usize) {
    for _ in 0..count {
        tracing::debug_span!(target: "sluice", "stage").in_scope(|| {});
    }
}

struct Received {
    method_and_path: String,
    content_type: String,
    body: Bytes,
}

/// A collector that hands over what it receives and says yes.
async fn collector() -> (SocketAddr, mpsc::Receiver<Received>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("binds");
    let address = listener.local_addr().expect("an address");
    let (tell, received) = mpsc::channel(16);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let tell = tell.clone();
            let service = hyper::service::service_fn(move |request: Request<Incoming>| {
                let tell = tell.clone();
                async move {
                    let method_and_path = format!("{} {}", request.method(), request.uri().path());
                    let content_type = request.headers().get("content-type").cloned();
                    let content_type =
                        content_type.map_or_else(String::new, |v| v.to_str().unwrap_or("").to_owned());
                    let body = request.into_body().collect().await.expect("a body").to_bytes();
                    tell.send(Received { method_and_path, content_type, body }).await.expect("is heard");
                    Ok::<_, Infallible>(Response::new(Full::new(Bytes::new())))
                }
            });
            tokio::spawn(
                hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service),
            );
        }
    });
    (address, received)
}

fn contains(body: &[u8], wanted: &[u8]) -> bool {
    body.windows(wanted.len()).any(|window| window == wanted)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn spans_reach_the_collector_with_the_callers_trace_and_the_service_name() {
    let (address, mut received) = collector().await;
    let counters = SpanCounters::default();
    let counted = counters.clone();
    let work = move || {
        let request = tracing::debug_span!(target: "sluice", "request");
        set_parent(&request, &headers(PARENT));
        assert_eq!(trace_id(&request).as_deref(), Some(TRACE));
        request.in_scope(|| {
            tracing::debug_span!(target: "sluice::pipeline", "the-stage").in_scope(|| {});
            tracing::info_span!(target: "hyper", "not-ours").in_scope(|| {});
        });
    };
    let send = tokio::task::spawn_blocking(move || traced(&telemetry(address), &counted, work));
    let export = tokio::time::timeout(Duration::from_secs(20), received.recv()).await;
    let export = export.expect("in time").expect("an export");
    send.await.expect("ends");
    assert_eq!(export.method_and_path, "POST /v1/traces");
    assert_eq!(export.content_type, "application/x-protobuf");
    let trace: Vec<u8> =
        (0..16).map(|i| u8::from_str_radix(&TRACE[2 * i..2 * i + 2], 16).expect("hexadecimal")).collect();
    for wanted in [trace.as_slice(), b"the-service", b"service.version", b"the-stage"] {
        assert!(contains(&export.body, wanted), "{wanted:?}");
    }
    assert!(!contains(&export.body, b"not-ours"));
    assert_eq!(counters.exported.get(), 2);
    assert_eq!(counters.dropped_export_failed.get() + counters.dropped_queue_full.get(), 0);
}

#[test]
fn x1_a_collector_that_is_not_there_costs_only_counted_spans() {
    // Bound and dropped: nobody listens.
    let address = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("binds");
    let counters = SpanCounters::default();
    traced(&telemetry(address), &counters, || spans(10));
    assert_eq!(counters.dropped_export_failed.get(), 10);
    assert_eq!(counters.exported.get(), 0);
}

#[test]
fn x1_x2_a_black_hole_bounds_memory_and_shutdown() {
    // Accepted by the kernel, never read.
    let hole = TcpListener::bind("127.0.0.1:0").expect("binds");
    let counters = SpanCounters::default();
    let telemetry = telemetry(hole.local_addr().expect("an address"));
    let started = Instant::now();
    let mut working = Duration::ZERO;
    let shutdown = traced(&telemetry, &counters, || {
        spans(5000);
        working = started.elapsed();
    });
    // What the export holds, what waits, and the rest is dropped and counted.
    let dropped = counters.dropped_queue_full.get();
    assert!((2440..=2952).contains(&dropped), "{dropped}");
    assert!(working < Duration::from_secs(2), "nobody waited: {working:?}");
    assert!(shutdown < FLUSH_TIMEOUT + Duration::from_secs(1), "{shutdown:?}");
}

#[test]
fn without_an_endpoint_nothing_is_started() {
    let mut telemetry = telemetry(SocketAddr::from(([127, 0, 0, 1], 1)));
    telemetry.otlp_endpoint = None;
    assert!(Traces::start(&telemetry, &SpanCounters::default()).expect("is fine").is_none());
}

#[test]
fn the_ratio_decides_for_new_traces_and_the_caller_for_its_own() {
    let address = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("binds");
    let counters = SpanCounters::default();
    let mut telemetry = telemetry(address);
    telemetry.sample_ratio = 0.0;
    traced(&telemetry, &counters, || {
        spans(10);
        for parent in [PARENT, PARENT, &PARENT.replace("-01", "-00")] {
            let request = tracing::debug_span!(target: "sluice", "request");
            set_parent(&request, &headers(parent));
            request.in_scope(|| {});
        }
    });
    assert_eq!(counters.dropped_export_failed.get(), 2, "only those of sampled parents were sent");
}

#[test]
fn x3_malformed_parents_begin_a_new_trace() {
    assert!(parent_of(&headers(PARENT)).is_some());
    // A later version may be longer.
    assert!(parent_of(&headers(&format!("01{}-more", &PARENT[2..]))).is_some());
    for bad in [
        "",
        "00",
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331",
        "00-00000000000000000000000000000000-b7ad6b7169203331-01",
        "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
        "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more",
        "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "00-0af7651916cd43dd8448eb211c8031zz-b7ad6b7169203331-01",
        "00_0af7651916cd43dd8448eb211c80319c_b7ad6b7169203331_01",
        "+0-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    ] {
        assert!(parent_of(&headers(bad)).is_none(), "{bad}");
    }
    assert!(parent_of(&headers(&format!("01{}-{}", &PARENT[2..], "x".repeat(70_000)))).is_none());
    let mut doubled = headers(PARENT);
    doubled.append("traceparent", HeaderValue::from_static(PARENT));
    assert!(parent_of(&doubled).is_none());
    let mut raw = HeaderMap::new();
    raw.insert("traceparent", HeaderValue::from_bytes(b"\xff\xfe").expect("a value"));
    assert!(parent_of(&raw).is_none());
}

#[test]
fn x3_a_hostile_tracestate_is_left_out_and_a_good_one_kept() {
    let state_of = |state: &str| {
        let mut headers = headers(PARENT);
        headers.insert("tracestate", HeaderValue::from_str(state).expect("a value"));
        headers.insert("baggage", HeaderValue::from_str(&"k=v,".repeat(16_000)).expect("a value"));
        let context = parent_of(&headers).expect("the parent is good");
        context.span().span_context().trace_state().header()
    };
    assert_eq!(state_of("vendor=value"), "vendor=value");
    assert_eq!(state_of(&"a=b,".repeat(1000)), "");
    assert_eq!(state_of(";;;=,,"), "");
}

#[test]
fn addresses_that_cannot_be_exported_to_are_refused() {
    for good in ["http://localhost:4318", "http://[::1]:4318/base/", "http://c/v1/traces"] {
        assert_eq!(check_endpoint(good), Ok(()), "{good}");
    }
    for bad in ["", "localhost:4318", "https://c:4318", "http://", "/v1", "http://c?x=1", "ftp://c"] {
        assert!(check_endpoint(bad).is_err(), "{bad}");
    }
}
