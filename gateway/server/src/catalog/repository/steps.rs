//! Triton's `ensemble_scheduling`: the steps of an ensemble, and the models that are loaded
//! with it.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};

use super::Source;
use super::layout::Folder;
use super::resolve::{Origin, declared, defaults, labels, parsed};
use crate::catalog::Ensemble;
use crate::config::triton::{self, ModelConfig};
use crate::config::{self, EnsembleOutput, Step};

/// Steps of one ensemble: each may run beside the others.
const STEPS_MAX: usize = 64;

/// An ensemble as its configuration says it.
pub(super) fn ensemble(
    origin: &Origin<'_>,
    folder: &Folder,
    config: &ModelConfig,
) -> Result<config::Ensemble, String> {
    let scheduling = config.ensemble_scheduling.as_ref();
    let asked = scheduling.map_or(&[][..], |scheduling| scheduling.step.as_slice());
    if asked.is_empty() || asked.len() > STEPS_MAX {
        return Err(format!("ensemble_scheduling must have 1 to {STEPS_MAX} steps"));
    }
    if config.input.is_empty() || config.output.is_empty() {
        return Err("an ensemble must declare its input and output".to_owned());
    }
    if !config.instance_group.is_empty() {
        return Err("instance_group is not supported for an ensemble: give it to its models".to_owned());
    }
    let rows = usize::try_from(config.max_batch_size).map_err(|_| "max_batch_size must be 0 or more")?;
    let names = |map: &BTreeMap<String, String>| -> BTreeMap<Arc<str>, Arc<str>> {
        map.iter().map(|(key, value)| (Arc::from(key.as_str()), Arc::from(value.as_str()))).collect()
    };
    let step = |step: &triton::Step| {
        if sluice_tensor::check_name(&step.model_name).is_err() || *step.model_name == **origin.name {
            return Err(format!("ensemble_scheduling.step.model_name '{}' is not a model", step.model_name));
        }
        let version = (step.model_version > 0).then(|| step.model_version.to_string());
        let (inputs, outputs) = (names(&step.input_map), names(&step.output_map));
        Ok(Step { model: step.model_name.as_str().into(), version, inputs, outputs })
    };
    let (versions, missing) = config.version_policy.choose(&folder.versions);
    if !missing.is_empty() {
        return Err(format!("version_policy names versions that are not there: {missing:?}"));
    }
    let outputs = declared("output", &config.output)?;
    Ok(config::Ensemble {
        repository: Some(Arc::clone(origin.repository)),
        max_batch_size: Some(rows),
        inputs: declared("input", &config.input)?,
        outputs: outputs.into_iter().map(EnsembleOutput::Declared).collect(),
        labels: labels(folder, &config.output)?,
        versions: versions.iter().map(u64::to_string).collect(),
        steps: asked.iter().map(step).collect::<Result<_, _>>()?,
        triton: Some(Arc::new(config.set.clone())),
    })
}

/// The models that an ensemble's configuration names; none for a model, or if it cannot be
/// read.
pub(in crate::catalog) fn composing(folder: &Folder, source: &Source) -> Vec<Arc<str>> {
    let config = parsed(folder, source).ok().flatten().map(|parsed| parsed.config);
    let steps = config.and_then(|config| config.ensemble_scheduling).unwrap_or_default().step;
    steps.into_iter().take(STEPS_MAX).map(|step| step.model_name.into()).collect()
}

/// What Triton calls the choice of its versions, where no `config.pbtxt` says it.
fn version_policy(config: &config::Ensemble) -> Value {
    let numbers: Vec<u64> = config.versions.iter().filter_map(|version| version.parse().ok()).collect();
    match config.repository.is_some() || numbers.is_empty() {
        true => json!({ "latest": { "num_versions": 1 } }),
        false => json!({ "specific": { "versions": numbers } }),
    }
}

/// The configuration of an ensemble as Triton shows it.
pub(in crate::catalog) fn completed(name: &str, ensemble: &Ensemble) -> Value {
    let mut set = ensemble.config.triton.as_deref().cloned().unwrap_or_default();
    let steps = ensemble.config.steps.iter().map(|step| {
        let version = step.version.as_ref().and_then(|version| version.parse::<i64>().ok()).unwrap_or(-1);
        json!({ "model_name": &*step.model, "model_version": version, "input_map": step.inputs.iter()
            .map(|(key, value)| (key.to_string(), json!(&**value))).collect::<serde_json::Map<_, _>>(),
            "output_map": step.outputs.iter()
            .map(|(key, value)| (key.to_string(), json!(&**value))).collect::<serde_json::Map<_, _>>() })
    });
    let has_batch = ensemble.max_batch_size > 0;
    let fill = [
        ("name", json!(name)),
        ("platform", json!("ensemble")),
        ("version_policy", version_policy(&ensemble.config)),
        ("optimization", json!({})),
        ("max_batch_size", json!(ensemble.max_batch_size)),
        ("input", super::resolve::tensors(&ensemble.signature.inputs, has_batch)),
        ("output", super::resolve::tensors(&ensemble.signature.outputs, has_batch)),
        ("ensemble_scheduling", json!({ "step": steps.collect::<Vec<_>>() })),
    ];
    for (key, value) in fill {
        set.entry(key).or_insert(value);
    }
    defaults(&mut set, name);
    triton::show(&set)
}
