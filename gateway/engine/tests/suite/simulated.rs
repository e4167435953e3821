//! The simulator does what its program says.

use std::panic::{AssertUnwindSafe, catch_unwind};

use sluice_engine::{EngineError, Model};
use sluice_tensor::NamedTensor;

use crate::common::{assert_close, floats, integers, run, sim};

const SHAPES: &str = r#"
    "inputs": [{"name": "x", "dtype": "FP32", "dims": [-1, 2]}, {"name": "k", "dtype": "INT64", "dims": [-1]}],
    "outputs": [{"name": "same", "rule": "echo", "from": "x"}, {"name": "sum", "rule": "sum", "from": "x"},
                {"name": "rows", "rule": "batch_rows"}, {"name": "key", "rule": "echo", "from": "k"}]"#;

fn program(rest: &str) -> String {
    format!("{{{SHAPES}{rest}}}")
}

fn member(values: &[f32], keys: &[i64]) -> Vec<NamedTensor> {
    vec![floats("x", &[keys.len(), 2], values), integers("k", &[keys.len()], keys)]
}

fn run_one(model: &dyn Model, value: f32) -> Result<(), EngineError> {
    run(&mut *model.instance()?, &[member(&[value, 0.0], &[1])]).map(|_| ())
}

#[test]
fn each_member_gets_its_rows_back_with_their_sums_and_the_size_of_the_batch() {
    let model = sim(&program(""), 8);
    let members = [member(&[1.0, 2.0], &[7]), member(&[3.0, 4.0, 5.0, 6.0], &[8, 9])];
    let got = run(&mut *model.instance().unwrap(), &members).unwrap();
    let want = [
        floats("same", &[2, 2], &[3.0, 4.0, 5.0, 6.0]),
        floats("sum", &[2], &[7.0, 11.0]),
        integers("rows", &[2], &[3, 3]),
        integers("key", &[2], &[8, 9]),
    ];
    assert_close(&got.members[1], &want, 0.0, "second member");
    assert_close(&got.members[0][3..], &[integers("key", &[1], &[7])], 0.0, "first member");
}

#[test]
fn faults_come_when_and_as_they_are_told() {
    let model = sim(
        &program(
            r#", "faults": [{"when": {"value": 666}, "then": "refuse"}, {"when": {"run": 2}, "then": "out_of_memory"},
                            {"when": {"every": 5}, "then": "fail"}, {"when": {"value": -1}, "then": "wrong_rows"},
                            {"when": {"value": -2}, "then": "panic"}]"#,
        ),
        8,
    );
    assert!(run_one(&*model, 0.0).is_ok());
    assert!(matches!(run_one(&*model, 0.0), Err(EngineError::OutOfMemory(_))));
    assert!(matches!(run_one(&*model, 666.0), Err(EngineError::Input(_))));
    assert!(matches!(run_one(&*model, -1.0), Err(EngineError::Run(_))));
    assert!(matches!(run_one(&*model, 0.0), Err(EngineError::Run(_))), "the fifth run");
    assert!(catch_unwind(AssertUnwindSafe(|| run_one(&*model, -2.0))).is_err());
    assert!(run_one(&*model, 0.0).is_ok());
}

#[test]
fn memory_is_as_small_as_it_is_told() {
    let model = sim(&program(r#", "instances_max": 1, "rows_max": 1"#), 8);
    let mut first = model.instance().unwrap();
    assert!(matches!(model.instance().err(), Some(EngineError::OutOfMemory(_))));
    let two = member(&[0.0; 4], &[1, 2]);
    assert!(matches!(run(&mut *first, &[two]), Err(EngineError::OutOfMemory(_))));
    drop(first);
    assert!(model.instance().is_ok());
}

#[test]
fn latency_grows_with_the_rows() {
    let model = sim(&program(r#", "latency_us": {"base": 2000, "per_row": 5000}"#), 8);
    let mut instance = model.instance().unwrap();
    let got = run(&mut *instance, &[member(&[0.0; 6], &[1, 2, 3])]).unwrap();
    assert!(got.timings.compute.as_micros() >= 17_000, "{:?}", got.timings);
}
