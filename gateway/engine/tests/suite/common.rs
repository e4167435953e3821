//! Engines, fixtures and tensors for the tests.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::Value;
use sluice_engine::{
    BatchOutput, Embedded, Engine, EngineError, EngineSearch, Instance, Interrupt, LoadOptions, Model,
    OnnxRuntime, Sim,
};
use sluice_tensor::{DType, NamedTensor, Shape, Tensor};

/// ONNX Runtime as `make setup` installs it, or as `SLUICE_TEST_ONNXRUNTIME` says.
pub(crate) fn onnxruntime() -> Arc<dyn Engine> {
    let installed = || {
        let home = std::env::var_os("HOME").map(PathBuf::from).unwrap_or_default();
        let cache = std::env::var_os("XDG_CACHE_HOME").map_or_else(|| home.join(".cache"), PathBuf::from);
        cache.join("sluice/onnxruntime/1.31.1/lib/libonnxruntime.so")
    };
    let library = std::env::var_os("SLUICE_TEST_ONNXRUNTIME").map_or_else(installed, PathBuf::from);
    let search = EngineSearch { onnxruntime_library: Some(library), candidates: vec![] };
    match OnnxRuntime::open(&search) {
        Ok(engine) => engine,
        Err(error) => panic!("run `make setup` first, which installs onnxruntime: {error}"),
    }
}

/// Both engines that compute.
pub(crate) fn engines() -> [Arc<dyn Engine>; 2] {
    [onnxruntime(), Arc::new(Embedded)]
}

pub(crate) fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(format!("{name}.onnx"))
}

pub(crate) fn options(max_batch_size: usize) -> LoadOptions {
    LoadOptions { threads: 1, spinning: false, max_batch_size }
}

pub(crate) fn load(engine: &dyn Engine, name: &str, max_batch_size: usize) -> Arc<dyn Model> {
    engine.load(&fixture(name), &options(max_batch_size)).unwrap()
}

/// A simulated model, from the text of its file.
pub(crate) fn sim(program: &str, max_batch_size: usize) -> Arc<dyn Model> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("model.sim.json");
    std::fs::write(&file, program).unwrap();
    Sim.load(&file, &options(max_batch_size)).unwrap()
}

pub(crate) fn tensor(dtype: DType, dims: &[usize], data: Vec<u8>) -> Tensor {
    Tensor::dense(dtype, Shape::new(dims).unwrap(), data.into()).unwrap()
}

pub(crate) fn floats(name: &str, dims: &[usize], values: &[f32]) -> NamedTensor {
    NamedTensor { name: name.into(), tensor: Tensor::from_f32(Shape::new(dims).unwrap(), values).unwrap() }
}

pub(crate) fn integers(name: &str, dims: &[usize], values: &[i64]) -> NamedTensor {
    let data = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    NamedTensor { name: name.into(), tensor: tensor(DType::I64, dims, data) }
}

pub(crate) fn run(
    instance: &mut dyn Instance,
    members: &[Vec<NamedTensor>],
) -> Result<BatchOutput, EngineError> {
    let members: Vec<&[NamedTensor]> = members.iter().map(Vec::as_slice).collect();
    instance.run(&members, &Interrupt::default())
}

/// Runs one member alone on a new instance.
pub(crate) fn run_alone(
    model: &dyn Model,
    member: Vec<NamedTensor>,
) -> Result<Vec<NamedTensor>, EngineError> {
    run(&mut *model.instance()?, &[member]).map(|output| output.members.into_iter().next().unwrap())
}

/// A batch with its right answer.
pub(crate) struct Golden {
    pub(crate) inputs: Vec<NamedTensor>,
    pub(crate) outputs: Vec<NamedTensor>,
}

pub(crate) const GOLDEN_MODELS: [&str; 5] = ["mlp", "ranker", "dlrm", "encoder", "pair"];

/// The goldens of one model, smallest batch first.
pub(crate) fn goldens(name: &str) -> Vec<Golden> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/goldens.json");
    let all: Value = serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
    let tensors = |list: &Value| list.as_array().unwrap().iter().map(golden_tensor).collect();
    let case = |case: &Value| Golden { inputs: tensors(&case["inputs"]), outputs: tensors(&case["outputs"]) };
    all[name].as_array().unwrap().iter().map(case).collect()
}

fn golden_tensor(entry: &Value) -> NamedTensor {
    let dims: Vec<usize> = entry["shape"]
        .as_array()
        .unwrap()
        .iter()
        .map(|dim| dim.as_u64().unwrap().try_into().unwrap())
        .collect();
    let hex = entry["hex"].as_str().unwrap();
    let data = (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap());
    let dtype = DType::from_name(entry["dtype"].as_str().unwrap()).unwrap();
    NamedTensor { name: entry["name"].as_str().unwrap().into(), tensor: tensor(dtype, &dims, data.collect()) }
}

/// Asserts equal names, shapes and types, and values within `tolerance`.
pub(crate) fn assert_close(got: &[NamedTensor], want: &[NamedTensor], tolerance: f64, what: &str) {
    assert_eq!(got.len(), want.len(), "{what}");
    for (got, want) in got.iter().zip(want) {
        assert_eq!(got.name, want.name, "{what}");
        assert_eq!(got.tensor.dtype(), want.tensor.dtype(), "{what} {}", got.name);
        assert_eq!(got.tensor.shape(), want.tensor.shape(), "{what} {}", got.name);
        if want.tensor.dtype() != DType::F32 {
            assert_eq!(got.tensor, want.tensor, "{what} {}", got.name);
            continue;
        }
        let pairs = got.tensor.to_f64().unwrap().into_iter().zip(want.tensor.to_f64().unwrap());
        for (index, (got_value, want_value)) in pairs.enumerate() {
            let off = (got_value - want_value).abs();
            assert!(off <= tolerance, "{what} {}[{index}]: {got_value} is not {want_value}", got.name);
        }
    }
}
