//! What the metrics promise.

use super::super::histogram;
use super::*;

const MS: Duration = Duration::from_millis(1);

fn config(text: &str) -> Config {
    let folder = tempfile::tempdir().expect("a folder");
    for name in ["m.onnx", "p.wasm"] {
        std::fs::write(folder.path().join(name), "").expect("writes");
    }
    let path = folder.path().join("c.toml");
    std::fs::write(&path, text).expect("writes");
    crate::config::load(&path, &crate::config::Overrides::default()).expect("is fine")
}

fn served() -> Config {
    config(
        "[models.m]\nfile=\"m.onnx\"\n[plugins.p]\nfile=\"p.wasm\"\n[pipelines.rank]\nmodel=\"m\"\npre=\"p\"",
    )
}

fn metrics() -> Arc<Metrics> {
    let metrics = Arc::new(Metrics::new(SpanCounters::default()));
    metrics.add_names(&served());
    metrics.keep_names(&served());
    metrics
}

/// The value of a series, as it is written.
fn value(text: &str, series: &str) -> Option<f64> {
    let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '))?;
    line.parse().ok()
}

#[test]
fn tritons_names_say_the_same_and_only_where_they_are_wanted() {
    let metrics = metrics();
    let statistics = metrics.statistics(&"m".into(), "7");
    statistics.loaded(Duration::from_millis(1500));
    let phases = crate::observe::Phases { input: MS, infer: 5 * MS, output: 2 * MS };
    statistics.executed(2, 6, 4 * MS, phases);
    statistics.finished(Ok(()), 10 * MS);
    statistics.finished(Err(crate::observe::Failure::Cancelled), MS);
    statistics.cache_hit(MS);
    let waiting = statistics.wait();
    metrics.pipeline("rank").request_finished("ok", "none", 3 * MS);
    assert!(!metrics.encode(false).contains("nv_"));
    let text = metrics.encode(true);
    for (series, expected) in [
        (r#"nv_inference_request_success{model="m",version="7"}"#, 1.0),
        (r#"nv_inference_request_failure{model="m",version="7",reason="CANCELED"}"#, 1.0),
        (r#"nv_inference_request_failure{model="m",version="7",reason="REJECTED"}"#, 0.0),
        (r#"nv_inference_count{model="m",version="7"}"#, 6.0),
        (r#"nv_inference_exec_count{model="m",version="7"}"#, 1.0),
        (r#"nv_inference_pending_request_count{model="m",version="7"}"#, 1.0),
        (r#"nv_inference_request_duration_us{model="m",version="7"}"#, 10_000.0),
        (r#"nv_inference_queue_duration_us{model="m",version="7"}"#, 4000.0),
        (r#"nv_inference_compute_infer_duration_us{model="m",version="7"}"#, 10_000.0),
        (r#"nv_cache_num_hits_per_model{model="m",version="7"}"#, 1.0),
        (r#"nv_model_load_duration_secs{model="m",version="7"}"#, 1.5),
        (r#"nv_inference_request_success{model="rank",version="1"}"#, 1.0),
    ] {
        assert_eq!(value(&text, series), Some(expected), "{series} in\n{text}");
    }
    assert!(text.contains("# TYPE nv_inference_count unknown"), "{text}");
    assert!(value(&text, "nv_cpu_memory_total_bytes").is_some_and(|bytes| bytes > 1e6));
    drop((waiting, statistics));
    assert!(!metrics.encode(true).contains(r#"version="7""#), "a version that is gone has no series");
}

#[test]
fn i4_what_is_counted_is_what_is_written() {
    let metrics = metrics();
    let rank = metrics.pipeline("rank");
    rank.request_finished("ok", "none", 3 * MS);
    rank.request_finished("ok", "none", 4 * MS);
    rank.request_finished("plugin_trap", "plugin", MS);
    rank.stage(Stage::Pre, 2 * MS);
    let model = metrics.model("m");
    model.batch("full", 64, MS, 5 * MS, MS);
    model.queue_wait(MS);
    let waiting: std::sync::Arc<DepthOf> = std::sync::Arc::new(|| 7);
    model.watch(&waiting);
    let plugin = metrics.plugin(&"p".into(), &"1".into());
    plugin.call("ok", MS);
    plugin.log_lines(3, 2);
    metrics.rejected("overloaded");
    metrics.reload("invalid");
    metrics.config_digest("abc");
    metrics.engine("embedded 0.27");
    let text = metrics.encode(false);
    for (series, expected) in [
        (r#"sluice_requests_total{pipeline="rank",code="ok",fault="none"}"#, 2.0),
        (r#"sluice_requests_total{pipeline="rank",code="plugin_trap",fault="plugin"}"#, 1.0),
        (r#"sluice_request_seconds_count{pipeline="rank"}"#, 3.0),
        (r#"sluice_request_seconds_sum{pipeline="rank"}"#, 0.008),
        (r#"sluice_request_seconds_bucket{le="0.001",pipeline="rank"}"#, 1.0),
        (r#"sluice_request_seconds_bucket{le="0.005",pipeline="rank"}"#, 3.0),
        (r#"sluice_request_seconds_bucket{le="+Inf",pipeline="rank"}"#, 3.0),
        (r#"sluice_stage_seconds_count{pipeline="rank",stage="pre"}"#, 1.0),
        (r#"sluice_stage_seconds_count{pipeline="rank",stage="post"}"#, 0.0),
        (r#"sluice_batches_total{model="m",reason="full"}"#, 1.0),
        (r#"sluice_batch_rows_sum{model="m"}"#, 64.0),
        (r#"sluice_batch_seconds_sum{model="m",phase="compute"}"#, 0.005),
        (r#"sluice_queue_wait_seconds_count{model="m"}"#, 1.0),
        (r#"sluice_queue_depth{model="m"}"#, 7.0),
        (r#"sluice_plugin_calls_total{plugin="p",version="1",outcome="ok"}"#, 1.0),
        (r#"sluice_plugin_log_lines_total{plugin="p",version="1",outcome="dropped"}"#, 2.0),
        (r#"sluice_requests_rejected_total{reason="overloaded"}"#, 1.0),
        (r#"sluice_config_reloads_total{outcome="invalid"}"#, 1.0),
        ("sluice_config_last_reload_successful", 0.0),
        (r#"sluice_config_info{digest="abc"}"#, 1.0),
        ("sluice_models_loaded", 1.0),
        ("sluice_pipelines_loaded", 1.0),
        (r#"sluice_trace_spans_dropped_total{reason="queue_full"}"#, 0.0),
    ] {
        assert_eq!(value(&text, series), Some(expected), "{series} in\n{text}");
    }
    assert!(text.contains(r#"engine="embedded 0.27""#));
    assert!(text.ends_with("# EOF\n"));
}

#[test]
fn x4_invented_names_are_other_and_make_no_series() {
    let metrics = metrics();
    let count = |number: u32| {
        let name = format!("invented-{number}\n{{}}");
        metrics.pipeline(&name).request_finished("not_found", "caller", MS);
        metrics.model(&name).queue_wait(MS);
    };
    count(0);
    let series = metrics.encode(false).lines().count();
    (1..1000).for_each(count);
    let text = metrics.encode(false);
    assert!(!text.contains("invented"));
    let other = r#"sluice_requests_total{pipeline="other",code="not_found",fault="caller"}"#;
    assert_eq!(value(&text, other), Some(1000.0));
    assert_eq!(text.lines().count(), series);
}

#[test]
fn names_come_and_go_with_the_configuration_and_counts_stay() {
    let metrics = metrics();
    let before = metrics.pipeline("rank");
    before.request_finished("ok", "none", MS);
    let next = config("[models.m]\nfile=\"m.onnx\"\n[pipelines.new]\nmodel=\"m\"");
    // A reload that fails half-way: names were added, and the old ones are kept.
    metrics.add_names(&next);
    metrics.keep_names(&served());
    assert!(!metrics.encode(false).contains(r#"pipeline="new""#));
    assert!(Arc::ptr_eq(&before, &metrics.pipeline("rank")));
    // One that succeeds.
    metrics.add_names(&next);
    metrics.keep_names(&next);
    let text = metrics.encode(false);
    assert!(text.contains(r#"pipeline="new""#) && text.contains(r#"pipeline="m""#));
    assert!(!text.contains(r#"pipeline="rank""#) && !text.contains(r#"plugin="p""#));
    assert_eq!(value(&text, "sluice_plugins_loaded"), Some(0.0));
}

#[test]
fn i5_gauges_return_to_zero_with_their_guards() {
    let metrics = metrics();
    let mut request = metrics.request_in_flight(100);
    let connection = metrics.connection_open("http");
    request.set_bytes(40);
    let text = metrics.encode(false);
    assert_eq!(value(&text, "sluice_requests_in_flight"), Some(1.0));
    assert_eq!(value(&text, "sluice_request_bytes_in_flight"), Some(40.0));
    assert_eq!(value(&text, r#"sluice_connections_open{listener="http"}"#), Some(1.0));
    drop((request, connection));
    let text = metrics.encode(false);
    for series in [
        "sluice_requests_in_flight",
        "sluice_request_bytes_in_flight",
        r#"sluice_connections_open{listener="http"}"#,
    ] {
        assert_eq!(value(&text, series), Some(0.0), "{series}");
    }
}

#[test]
fn every_metric_is_described_once_and_every_series_belongs_to_one() {
    let metrics = metrics();
    metrics.pipeline("rank").request_finished("ok", "none", MS);
    let text = metrics.encode(false);
    for family in FAMILIES {
        let help = format!("# HELP {} {}", family.name, family.help);
        assert_eq!(text.lines().filter(|line| **line == help).count(), 1, "{help}\n{text}");
        assert!(family.name.starts_with("sluice_") || family.name.starts_with("process_"));
        assert!(!family.name.ends_with("_total") && !family.name.ends_with("_info"));
    }
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let belongs = FAMILIES.iter().any(|family| line.starts_with(family.name));
        assert!(belongs, "{line}");
    }
}

#[test]
fn sums_are_of_nanoseconds_and_small_durations_have_buckets_of_their_own() {
    let metrics = metrics();
    let model = metrics.model("m");
    (0..1000).for_each(|_| model.queue_wait(Duration::from_nanos(1_600)));
    let text = metrics.encode(false);
    assert_eq!(value(&text, r#"sluice_queue_wait_seconds_sum{model="m"}"#), Some(0.001_6));
    assert_eq!(value(&text, r#"sluice_queue_wait_seconds_bucket{le="0.000001",model="m"}"#), Some(0.0));
    assert_eq!(value(&text, r#"sluice_queue_wait_seconds_bucket{le="0.0000025",model="m"}"#), Some(1000.0));
}

#[test]
fn the_depth_of_a_queue_is_what_it_is_when_it_is_asked_for() {
    let metrics = metrics();
    let depth = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(3));
    let waiting: std::sync::Arc<DepthOf> = {
        let depth = std::sync::Arc::clone(&depth);
        std::sync::Arc::new(move || depth.load(Ordering::Relaxed))
    };
    let (older, newer) = (std::sync::Arc::clone(&waiting), waiting);
    metrics.model("m").watch(&older);
    let shown = || value(&metrics.encode(false), r#"sluice_queue_depth{model="m"}"#);
    assert_eq!(shown(), Some(3.0));
    depth.store(0, Ordering::Relaxed);
    assert_eq!(shown(), Some(0.0));
    drop((older, newer));
    depth.store(9, Ordering::Relaxed);
    assert_eq!(shown(), Some(0.0), "a model that is gone has no queue");
}

#[test]
fn buckets_hold_their_upper_bound_and_what_is_above_all() {
    let histogram = histogram::Histogram::new(&[0.001, 0.01]);
    for took in [Duration::ZERO, MS, 2 * MS, 10 * MS, 11 * MS, Duration::MAX] {
        histogram.observe(took);
    }
    let counts: Vec<u64> = histogram.buckets.iter().map(|bucket| bucket.load(Ordering::Relaxed)).collect();
    assert_eq!(counts, [2, 2, 2]);
}
