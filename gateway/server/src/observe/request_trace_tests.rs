//! What traces promise.

use super::*;

fn on(rate: u32) -> TraceChange {
    TraceChange { level: Change::Set((true, false)), rate: Change::Set(rate), ..TraceChange::default() }
}

fn tracer() -> (tempfile::TempDir, Arc<Tracer>) {
    let folder = tempfile::tempdir().expect("a folder");
    let tracer = Tracer::new(Some(folder.path().join("trace.json")));
    (folder, tracer)
}

fn sampled(tracer: &Arc<Tracer>, model: &str, requests: usize) -> usize {
    (0..requests).filter(|_| tracer.sample(model, "r", || Some("1".to_owned())).is_some()).count()
}

/// The array in a file, once it has so many elements.
fn elements(file: &std::path::Path, count: usize) -> Vec<serde_json::Value> {
    for _ in 0..500 {
        if let Ok(text) = std::fs::read_to_string(file)
            && let Ok(serde_json::Value::Array(array)) = serde_json::from_str(&text)
            && array.len() >= count
        {
            return array;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("{} has no {count} elements", file.display());
}

#[test]
fn one_of_rate_requests_is_traced_until_the_count_is_reached() {
    let (_folder, tracer) = tracer();
    assert_eq!(sampled(&tracer, "m", 10), 0, "off at first");
    tracer.change(None, &on(5));
    assert_eq!(sampled(&tracer, "m", 20), 4);
    tracer
        .change(None, &TraceChange { count: Change::Set(2), rate: Change::Set(1), ..TraceChange::default() });
    assert_eq!(sampled(&tracer, "m", 20), 2);
}

#[test]
fn a_models_own_setting_wins_until_it_is_cleared() {
    let (_folder, tracer) = tracer();
    tracer.change(Some("m"), &on(1));
    assert_eq!((sampled(&tracer, "m", 3), sampled(&tracer, "other", 3)), (3, 0));
    tracer.change(None, &on(3));
    assert_eq!(tracer.settings(Some("m")).rate, 1);
    assert_eq!((sampled(&tracer, "m", 3), sampled(&tracer, "other", 3)), (3, 1));
    let clear = TraceChange { rate: Change::Clear, level: Change::Clear, ..TraceChange::default() };
    tracer.change(Some("m"), &clear);
    assert_eq!(tracer.settings(Some("m")), tracer.settings(None));
    tracer.change(None, &clear);
    assert_eq!(tracer.settings(None), DEFAULT);
    assert_eq!(sampled(&tracer, "m", 1000), 0);
}

#[test]
fn models_with_settings_of_their_own_are_bounded() {
    let tracer = Tracer::new(None);
    for number in 0..OVERRIDES_MAX {
        assert!(tracer.change(Some(&format!("m{number}")), &on(1)).is_some());
    }
    assert!(tracer.change(Some("one-more"), &on(1)).is_none());
    assert_eq!(sampled(&tracer, "m1", 3), 0, "without a file nothing is traced");
}

#[test]
fn a_trace_is_written_when_it_is_let_go_and_the_file_is_always_whole() {
    let (folder, tracer) = tracer();
    tracer.change(None, &on(1));
    let file = folder.path().join("trace.json");
    for number in 1..=3 {
        let trace = tracer.sample("m", "r", || Some("1".to_owned())).expect("sampled");
        let clone = Arc::clone(&trace);
        trace.event("REQUEST_START");
        drop(trace);
        clone.event("REQUEST_END");
        drop(clone);
        let array = elements(&file, 2 * number);
        assert_eq!(array.len(), 2 * number, "{array:?}");
        let id = u64::try_from(number).expect("small");
        let head = serde_json::json!({ "id": id, "model_name": "m", "model_version": 1, "request_id": "r" });
        assert_eq!(array[2 * number - 2], head);
        let times = array[2 * number - 1]["timestamps"].as_array().expect("a list");
        assert_eq!((&times[0]["name"], &times[1]["name"]), (&"REQUEST_START".into(), &"REQUEST_END".into()));
        assert!(times[0]["ns"].as_u64() <= times[1]["ns"].as_u64());
    }
}

#[test]
fn tensors_are_written_shortened_and_files_are_numbered() {
    let (folder, tracer) = tracer();
    let change = TraceChange {
        level: Change::Set((false, true)),
        rate: Change::Set(1),
        log_frequency: Change::Set(1),
        ..TraceChange::default()
    };
    tracer.change(None, &change);
    for _ in 0..2 {
        let trace = tracer.sample("m", "", || Some("1".to_owned())).expect("sampled");
        let shape = sluice_tensor::Shape::new(&[1, 1000]).expect("a shape");
        let tensor = sluice_tensor::Tensor::from_f32(shape, &[1.5; 1000]).expect("fits");
        trace.tensors("TENSOR_QUEUE_INPUT", &[NamedTensor { name: "x".into(), tensor }]);
        trace.event("REQUEST_START");
    }
    let first = elements(&folder.path().join("trace.json.0"), 2);
    assert_eq!(first[1]["activity"], "TENSOR_QUEUE_INPUT");
    let tensor = &first[1]["tensor"];
    assert_eq!((&tensor["dtype"], &tensor["shape"]), (&"FP32".into(), &"1,1000".into()));
    assert_eq!(tensor["data"].as_str().expect("text").split(',').count(), 256);
    assert_eq!(elements(&folder.path().join("trace.json.1"), 2).len(), 2);
}

#[test]
fn what_cannot_be_written_is_dropped_and_counted() {
    let folder = tempfile::tempdir().expect("a folder");
    let tracer = Tracer::new(Some(folder.path().join("no/such/folder/trace.json")));
    tracer.change(None, &on(1));
    assert_eq!(sampled(&tracer, "m", 3), 3);
    for _ in 0..500 {
        if tracer.dropped() == 3 {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("{} were dropped", tracer.dropped());
}
