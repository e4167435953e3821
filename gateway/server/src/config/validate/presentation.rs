//! How a model looks to clients, and what it runs before it is ready: the keys that say what
//! a Triton repository says in `input`, `output`, `label_filename` and `model_warmup`.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use serde_json::json;
use sluice_tensor::{DType, TENSOR_BYTES_MAX};

use super::super::checker::{At, Checker};
use super::super::defaults as d;
use super::super::file::{ModelFile, TensorFile, WarmupDataFile, WarmupFile, WarmupInputFile};
use super::super::types::{
    DeclaredTensor, Labels, Presentation, Warmup, WarmupData, WarmupInput, label_lines,
};

/// What a model's keys say. `older` are the versions that are served beside `latest`.
pub(super) fn presentation<'v>(
    check: &mut Checker<'_>,
    at: At<'_>,
    file: &ModelFile,
    rows_max: usize,
    older: impl Iterator<Item = &'v String>,
    latest: &'v String,
) -> Presentation {
    let numbers: Vec<u64> = older.chain([latest]).filter_map(|version| version.parse().ok()).collect();
    // What Triton calls the choice of these versions.
    let policy = || json!({ "specific": { "versions": numbers } });
    let triton =
        (numbers.len() > 1).then(|| serde_json::Map::from_iter([("version_policy".to_owned(), policy())]));
    Presentation {
        inputs: tensors(check, at, "inputs", &file.inputs),
        outputs: tensors(check, at, "outputs", &file.outputs),
        labels: labels(check, at, &file.labels),
        warmup: warmups(check, at, &file.warmup, rows_max),
        triton: triton.map(Arc::new),
        ..Presentation::default()
    }
}

/// Declared inputs or outputs.
pub(super) fn tensors(
    check: &mut Checker<'_>,
    at: At<'_>,
    key: &str,
    files: &[TensorFile],
) -> Vec<DeclaredTensor> {
    if files.len() > d::DECLARED_TENSORS_MAX {
        check.problem(at, key, format!("has more than {} entries", d::DECLARED_TENSORS_MAX));
    }
    let mut declared: Vec<DeclaredTensor> = Vec::new();
    for file in files.iter().take(d::DECLARED_TENSORS_MAX) {
        let (Some(name), Some(dims)) = (&file.name, &file.dims) else {
            check.problem(at, key, "an entry needs name, datatype and dims");
            continue;
        };
        if declared.iter().any(|other| *other.name == **name) {
            check.problem(at, key, format!("`{name}` is there twice"));
        }
        let Some(dtype) = dtype(check, at, key, file.datatype.as_deref()) else { continue };
        match DeclaredTensor::new(name, dtype, dims, file.reshape.as_deref()) {
            Ok(tensor) => declared.push(tensor),
            Err(what) => check.problem(at, key, format!("`{name}` {what}")),
        }
    }
    declared
}

/// Files of labels, by output.
pub(super) fn labels(
    check: &mut Checker<'_>,
    at: At<'_>,
    files: &BTreeMap<String, String>,
) -> BTreeMap<Arc<str>, Labels> {
    if files.len() > d::DECLARED_TENSORS_MAX {
        check.problem(at, "labels", format!("has more than {} entries", d::DECLARED_TENSORS_MAX));
    }
    let mut labels = BTreeMap::new();
    for (output, file) in files.iter().take(d::DECLARED_TENSORS_MAX) {
        let Some(content) = content(check, at, "labels", file, d::LABEL_BYTES_MAX) else { continue };
        match std::str::from_utf8(&content) {
            Ok(text) => drop(labels.insert(output.as_str().into(), label_lines(text))),
            Err(_) => check.problem(at, "labels", format!("the file of `{output}` is not UTF-8")),
        }
    }
    labels
}

fn warmups(check: &mut Checker<'_>, at: At<'_>, files: &[WarmupFile], rows_max: usize) -> Vec<Warmup> {
    if files.len() > d::WARMUPS_MAX {
        check.problem(at, "warmup", format!("has more than {} entries", d::WARMUPS_MAX));
    }
    let files = files.iter().take(d::WARMUPS_MAX).enumerate();
    files.map(|(place, file)| warmup(check, at, place, file, rows_max)).collect()
}

fn warmup(check: &mut Checker<'_>, at: At<'_>, place: usize, file: &WarmupFile, rows_max: usize) -> Warmup {
    let rows = usize::try_from(file.batch_size.unwrap_or(1)).unwrap_or(usize::MAX);
    if rows == 0 || rows > rows_max.max(1) {
        check.problem(at, "warmup", format!("has batch_size {rows}, allowed are 1 to max_batch_size"));
    }
    let count = file.count.unwrap_or(1);
    if count == 0 || count > d::WARMUP_RUNS_MAX {
        check.problem(at, "warmup", format!("has count {count}, allowed are 1 to {}", d::WARMUP_RUNS_MAX));
    }
    let inputs = file.inputs.iter().filter_map(|(name, input)| warmup_input(check, at, name, input));
    let inputs = inputs.collect();
    let name = file.name.clone().unwrap_or_else(|| format!("{}", place + 1));
    Warmup { name, rows, count, inputs }
}

fn warmup_input(
    check: &mut Checker<'_>,
    at: At<'_>,
    name: &str,
    file: &WarmupInputFile,
) -> Option<WarmupInput> {
    let dtype = dtype(check, at, "warmup", file.datatype.as_deref())?;
    let dims = file.dims.clone();
    if dims.contains(&0) {
        check.problem(at, "warmup", format!("input `{name}` has a dimension 0"));
    }
    let bytes_max = u64::try_from(TENSOR_BYTES_MAX).unwrap_or(u64::MAX);
    let data = match (&file.file, file.data) {
        (Some(_), Some(_)) => {
            check.problem(at, "warmup", format!("input `{name}` has one of data and file"));
            return None;
        }
        (Some(file), None) => WarmupData::File(content(check, at, "warmup", file, bytes_max)?),
        (None, Some(WarmupDataFile::Random)) => WarmupData::Random,
        (None, _) => WarmupData::Zero,
    };
    Some(WarmupInput { name: name.into(), dtype, dims, data })
}

fn dtype(check: &mut Checker<'_>, at: At<'_>, key: &str, name: Option<&str>) -> Option<DType> {
    let known = name.and_then(DType::from_name);
    if known.is_none() {
        check.problem(at, key, "datatype is no datatype of KServe V2, such as \"FP32\"");
    }
    known
}

/// What is in a file.
fn content(check: &mut Checker<'_>, at: At<'_>, key: &str, file: &str, bytes_max: u64) -> Option<Bytes> {
    let before = check.problems.len();
    let path = check.file(at, key, Some(file), bytes_max);
    if check.problems.len() > before {
        return None;
    }
    let read = |path: &Path| std::fs::read(path).map(Bytes::from);
    read(&path)
        .map_err(|error| check.problem(at, key, format!("cannot read {}: {error}", path.display())))
        .ok()
}
