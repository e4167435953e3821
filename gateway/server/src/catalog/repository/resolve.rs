//! A model's folder and its `config.pbtxt`, turned into what the catalog serves.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use serde_json::{Map, Value, json};
use sluice_tensor::TENSOR_BYTES_MAX;

use super::batching::{batching, resources, run_share};
use super::layout::Folder;
use super::overrides::FileOverrides;
use crate::catalog::files;
use crate::config::triton::{
    self, ModelConfig, PBTXT_BYTES_MAX, TensorConfig, Warmup as TritonWarmup, dtype,
};
use crate::config::{
    self, DeclaredTensor, Labels, Presentation, Warmup, WarmupData, WarmupInput, defaults as d,
};

/// The file of a model's configuration.
const CONFIG_FILE: &str = "config.pbtxt";

/// The model's file, unless the configuration says otherwise.
const MODEL_FILE: &str = "model.onnx";

/// Rows of a batch where the configuration leaves it open and the model can be batched: what
/// Triton takes.
const BATCH_ROWS_COMPLETED: usize = 4;

/// What was sent with a request to load a model, in place of what its folder has.
#[derive(Debug, Clone, Default, PartialEq)]
pub(in crate::catalog) struct Source {
    /// The configuration, as JSON.
    pub(in crate::catalog) config: Option<Arc<str>>,
    /// All files.
    pub(in crate::catalog) files: Option<Arc<FileOverrides>>,
}

impl Source {
    /// The folder that a model is read from; `None` if there is none.
    ///
    /// # Errors
    /// It cannot be read, or leads out of its repository.
    pub(in crate::catalog) fn folder(&self, repository: &Path, name: &str) -> Result<Option<Folder>, String> {
        match &self.files {
            Some(files) => files.open(name),
            None => Folder::open(repository, name),
        }
    }
}

/// What a folder is to be served as.
#[derive(Debug)]
pub(in crate::catalog) struct Resolved {
    /// One for each version that its policy chooses, ascending.
    pub(in crate::catalog) versions: Vec<(u64, Result<config::Model, String>)>,
    /// What it is instead, if it is no model.
    pub(in crate::catalog) ensemble: Option<config::Ensemble>,
}

/// Where a model comes from, and the engine's settings for it.
pub(in crate::catalog) struct Origin<'a> {
    pub(in crate::catalog) repository: &'a Arc<str>,
    pub(in crate::catalog) name: &'a Arc<str>,
    pub(in crate::catalog) engine: &'a config::Engine,
}

/// Reads a model's configuration and looks for its versions.
///
/// # Errors
/// What is wrong with the model as a whole.
pub(in crate::catalog) fn resolve(
    origin: &Origin<'_>,
    folder: &Folder,
    source: &Source,
) -> Result<Resolved, String> {
    let parsed = parsed(folder, source)?;
    let (config, ignored) = parsed.map_or_else(Default::default, |parsed| (parsed.config, parsed.ignored));
    if !ignored.is_empty() {
        let fields = ignored.join(", ");
        tracing::info!(model = %origin.name, fields, "fields of the model's configuration have no effect on a CPU");
    }
    if !config.name.is_empty() && *config.name != **origin.name {
        let (named, name) = (&config.name, origin.name);
        return Err(format!(
            "the configuration is named '{named}', its folder '{name}': they must be the same"
        ));
    }
    if config.platform == "ensemble" || config.ensemble_scheduling.is_some() {
        let ensemble = super::steps::ensemble(origin, folder, &config)?;
        return Ok(Resolved { versions: Vec::new(), ensemble: Some(ensemble) });
    }
    let template = template(origin, folder, &config)?;
    let (chosen, missing) = config.version_policy.choose(&folder.versions);
    if folder.versions.is_empty() {
        return Err("at least one version must be there: a folder whose name is a number".to_owned());
    }
    if chosen.is_empty() || !missing.is_empty() {
        return Err(format!("version_policy names versions that are not there: {missing:?}"));
    }
    let file =
        if config.default_model_filename.is_empty() { MODEL_FILE } else { &config.default_model_filename };
    let version = |number: u64| {
        let found = folder.file(&format!("{number}/{file}"))?;
        let found = found.ok_or_else(|| format!("version {number} has no file '{file}'"))?;
        let mut model = template.clone();
        model.version = number.to_string();
        model.file = found;
        model.presentation.files_digest = Some(folder.version_digest(number)?);
        Ok(model)
    };
    let versions = chosen.into_iter().map(|number| (number, version(number))).collect();
    Ok(Resolved { versions, ensemble: None })
}

/// A model's configuration, if it has one.
pub(super) fn parsed(folder: &Folder, source: &Source) -> Result<Option<triton::Parsed>, String> {
    match &source.config {
        Some(text) => triton::parse_json(text).map(Some).map_err(|error| format!("config: {error}")),
        None => {
            let bytes_max = u64::try_from(PBTXT_BYTES_MAX).unwrap_or(u64::MAX);
            let text = folder.text(CONFIG_FILE, bytes_max)?;
            let parsed = text.map(|text| triton::parse_text(&text)).transpose();
            parsed.map_err(|error| format!("{CONFIG_FILE}: {error}"))
        }
    }
}

/// What all versions of a model have in common.
fn template(origin: &Origin<'_>, folder: &Folder, config: &ModelConfig) -> Result<config::Model, String> {
    let is_open =
        !config.set.contains_key("max_batch_size") && config.input.is_empty() && config.output.is_empty();
    let rows = usize::try_from(config.max_batch_size).map_err(|_| "max_batch_size must be 0 or more")?;
    let max = d::BATCH_ROWS_RANGE.end();
    if u64::try_from(rows).is_ok_and(|rows| rows > *max) {
        return Err(format!("max_batch_size is {rows}, allowed are 0 to {max}"));
    }
    let most_rows = if is_open { BATCH_ROWS_COMPLETED } else { rows };
    let threads = config.parameters.get("intra_op_thread_count").map(|it| it.string_value.parse());
    let threads = threads.transpose().map_err(|_| "parameters.intra_op_thread_count is not a number")?;
    let instances = instances(config)?;
    let groups = &config.instance_group;
    let (resources, run_share) = (resources(groups, &origin.engine.resources)?, run_share(groups));
    let asked = config.sequence_batching.as_ref();
    let sequence =
        asked.map(|asked| super::sequence::sequence(asked, folder, most_rows, instances)).transpose()?;
    Ok(config::Model {
        name: Arc::clone(origin.name),
        version: String::new(),
        file: PathBuf::new(),
        engine: origin.engine.default,
        instances,
        threads: threads.filter(|count: &usize| *count <= 1024).unwrap_or(origin.engine.threads),
        spinning: origin.engine.spinning,
        max_batch_size: most_rows,
        response_cache: config.response_cache.is_some_and(|cache| cache.enable),
        batching: batching(config.dynamic_batching.as_ref(), most_rows, resources, run_share)?,
        padding: None,
        sequence,
        presentation: Presentation {
            repository: Some(Arc::clone(origin.repository)),
            is_batching_open: is_open,
            inputs: declared("input", &config.input)?,
            outputs: declared("output", &config.output)?,
            labels: labels(folder, &config.output)?,
            warmup: warmups(folder, &config.model_warmup, rows)?,
            triton: Some(Arc::new(config.set.clone())),
            parameters: config
                .parameters
                .iter()
                .map(|(key, it)| (key.clone(), it.string_value.clone()))
                .collect(),
            files_digest: None,
        },
    })
}

fn instances(config: &ModelConfig) -> Result<usize, String> {
    let counts = config.instance_group.iter().map(|group| u64::try_from(group.count.max(1)).unwrap_or(1));
    let count = if config.instance_group.is_empty() { 1 } else { counts.sum::<u64>() };
    if !d::INSTANCES_RANGE.contains(&count) {
        let (least, most) = (d::INSTANCES_RANGE.start(), d::INSTANCES_RANGE.end());
        return Err(format!("instance_group has {count} instances, allowed are {least} to {most}"));
    }
    usize::try_from(count).map_err(|error| error.to_string())
}

pub(super) fn declared(kind: &str, tensors: &[TensorConfig]) -> Result<Vec<DeclaredTensor>, String> {
    let mut declared = Vec::with_capacity(tensors.len());
    for tensor in tensors {
        let name = &tensor.name;
        if name.is_empty() {
            return Err(format!("an {kind} has no name"));
        }
        if declared.iter().any(|other: &DeclaredTensor| *other.name == **name) {
            return Err(format!("{kind} '{name}' is there twice"));
        }
        let Some(dtype) = tensor.dtype() else {
            return Err(format!("{kind} '{name}' has no data_type"));
        };
        let reshape = tensor.reshape.as_ref().map(|reshape| reshape.shape.as_slice());
        let tensor = DeclaredTensor::new(name, dtype, &tensor.dims, reshape);
        declared.push(tensor.map_err(|what| format!("{kind} '{name}' {what}"))?);
    }
    Ok(declared)
}

pub(super) fn labels(
    folder: &Folder,
    outputs: &[TensorConfig],
) -> Result<BTreeMap<Arc<str>, Labels>, String> {
    let mut labels = BTreeMap::new();
    for output in outputs.iter().filter(|output| !output.label_filename.is_empty()) {
        let file = &output.label_filename;
        let text = folder.text(file, d::LABEL_BYTES_MAX)?;
        let text = text.ok_or_else(|| format!("output '{}': there is no file '{file}'", output.name))?;
        labels.insert(output.name.as_str().into(), config::label_lines(&text));
    }
    Ok(labels)
}

fn warmups(folder: &Folder, warmups: &[TritonWarmup], rows_max: usize) -> Result<Vec<Warmup>, String> {
    if warmups.len() > d::WARMUPS_MAX {
        return Err(format!("model_warmup has more than {} entries", d::WARMUPS_MAX));
    }
    warmups.iter().map(|warmup| one_warmup(folder, warmup, rows_max)).collect()
}

fn one_warmup(folder: &Folder, warmup: &TritonWarmup, rows_max: usize) -> Result<Warmup, String> {
    let name = &warmup.name;
    let rows = usize::try_from(warmup.batch_size.max(1)).unwrap_or(usize::MAX);
    if rows > rows_max.max(1) {
        return Err(format!("model_warmup '{name}' has batch_size {rows}, above max_batch_size"));
    }
    if warmup.count > d::WARMUP_RUNS_MAX {
        return Err(format!(
            "model_warmup '{name}' has count {}, above {}",
            warmup.count,
            d::WARMUP_RUNS_MAX
        ));
    }
    let mut inputs = Vec::new();
    for (input, given) in &warmup.inputs {
        let what = || format!("model_warmup '{name}', input '{input}'");
        let dtype = dtype(&given.data_type).ok_or_else(|| format!("{} has no data_type", what()))?;
        let dims = given.dims.iter().map(|dim| usize::try_from(*dim).ok().filter(|dim| *dim > 0));
        let dims =
            dims.collect::<Option<Vec<_>>>().ok_or_else(|| format!("{}: dims must be above 0", what()))?;
        let data = match (&given.input_data_file, given.random_data) {
            (Some(file), _) => {
                let path = folder.file(&format!("warmup/{file}"))?;
                let path = path.ok_or_else(|| format!("{}: there is no file 'warmup/{file}'", what()))?;
                let bytes_max = u64::try_from(TENSOR_BYTES_MAX).unwrap_or(u64::MAX);
                WarmupData::File(Bytes::from(files::read(&path, bytes_max)?))
            }
            (None, Some(true)) => WarmupData::Random,
            (None, _) => WarmupData::Zero,
        };
        inputs.push(WarmupInput { name: input.as_str().into(), dtype, dims, data });
    }
    Ok(Warmup { name: name.clone(), rows, count: warmup.count.max(1), inputs })
}

/// The configuration as Triton completes it.
pub(in crate::catalog) fn completed(model: &crate::catalog::Model) -> Value {
    let config = model.current();
    let has_batch = config.max_batch_size > 0;
    let mut set = config.presentation.triton.as_deref().cloned().unwrap_or_default();
    let mut fill = |key: &str, value: Value| {
        let is_empty = set.get(key).is_none_or(|old| matches!(old, Value::String(text) if text.is_empty()));
        if is_empty || matches!(set.get(key), Some(Value::Array(list)) if list.is_empty()) {
            set.insert(key.to_owned(), value);
        }
    };
    fill("name", json!(&**model.name()));
    fill("platform", json!("onnxruntime_onnx"));
    fill("backend", json!("onnxruntime"));
    fill(
        "default_model_filename",
        json!(config.file.file_name().and_then(|name| name.to_str()).unwrap_or(MODEL_FILE)),
    );
    fill("version_policy", json!({ "latest": { "num_versions": 1 } }));
    fill("input", tensors(&model.signature().inputs, has_batch));
    fill("output", tensors(&model.signature().outputs, has_batch));
    fill(
        "instance_group",
        json!([{ "name": &**model.name(), "kind": "KIND_CPU", "count": config.instances }]),
    );
    fill("optimization", json!({}));
    set.insert("max_batch_size".to_owned(), json!(config.max_batch_size));
    let has_scheduling = ["dynamic_batching", "sequence_batching", "ensemble_scheduling"];
    if has_batch
        && config.presentation.is_batching_open
        && !has_scheduling.iter().any(|key| set.contains_key(*key))
    {
        set.insert("dynamic_batching".to_owned(), json!({}));
    }
    defaults(&mut set, model.name());
    triton::show(&set)
}

/// Defaults that are not zero.
pub(super) fn defaults(set: &mut Map<String, Value>, name: &str) {
    if let Some(Value::Object(optimization)) = set.get_mut("optimization") {
        for key in ["input_pinned_memory", "output_pinned_memory"] {
            optimization.entry(key).or_insert_with(|| json!({ "enable": true }));
        }
    }
    let Some(Value::Array(groups)) = set.get_mut("instance_group") else { return };
    for (place, group) in
        groups.iter_mut().enumerate().filter_map(|(place, it)| Some((place, it.as_object_mut()?)))
    {
        group.entry("name").or_insert_with(|| json!(format!("{name}_{place}")));
        if group.get("kind").is_none_or(|kind| kind == "KIND_AUTO") {
            group.insert("kind".to_owned(), json!("KIND_CPU"));
        }
        if group.get("count").is_none_or(|count| count == 0) {
            group.insert("count".to_owned(), json!(1));
        }
    }
}

/// Inputs or outputs as the configuration has them: without the batch dimension.
pub(super) fn tensors(specs: &[sluice_tensor::TensorSpec], has_batch: bool) -> Value {
    let tensor = |spec: &sluice_tensor::TensorSpec| {
        let dims = spec.dims.iter().skip(usize::from(has_batch)).map(sluice_tensor::Dim::to_wire);
        let dims: Vec<i64> = dims.collect();
        json!({ "name": &*spec.name, "data_type": triton::data_type(spec.dtype), "dims": dims })
    };
    Value::Array(specs.iter().map(tensor).collect())
}
