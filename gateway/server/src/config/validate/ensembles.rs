//! Pipelines of steps: models joined by the names of tensors.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::super::checker::{At, Checker};
use super::super::defaults as d;
use super::super::file::{OutputFile, PipelineFile, StepFile};
use super::super::types::{Ensemble, EnsembleOutput, Model, PipelineKind, Step};
use super::Named;
use super::presentation::{labels, tensors};

pub(super) fn ensemble(
    check: &mut Checker<'_>,
    at: At<'_>,
    file: &PipelineFile,
    models: &Named<Model>,
) -> Option<PipelineKind> {
    let others = [
        ("pre", file.pre.is_some()),
        ("model", file.model.is_some()),
        ("post", file.post.is_some()),
        ("plugin", file.plugin.is_some()),
        ("stream", file.stream.is_some()),
        ("on_failure", file.on_failure.is_some()),
        ("pre_on_failure", file.pre_on_failure.is_some()),
        ("post_on_failure", file.post_on_failure.is_some()),
    ];
    for (key, _) in others.iter().filter(|(_, is_set)| *is_set) {
        check.problem(at, key, "does not go with steps");
    }
    if file.steps.len() > d::PLUGIN_LIST_MAX {
        check.problem(at, "steps", format!("has more than {} entries", d::PLUGIN_LIST_MAX));
        return None;
    }
    let mut steps = Vec::with_capacity(file.steps.len());
    for step in &file.steps {
        steps.push(self::step(check, at, step, models)?);
    }
    let mut outputs = Vec::new();
    for output in &file.outputs {
        match output {
            OutputFile::Name(name) => outputs.push(EnsembleOutput::Named(name.as_str().into())),
            OutputFile::Declared(tensor) => {
                let declared = tensors(check, at, "outputs", std::slice::from_ref(tensor));
                outputs.extend(declared.into_iter().map(EnsembleOutput::Declared));
            }
        }
    }
    let rows = file.max_batch_size;
    let rows = rows.map(|rows| check.number(at, "max_batch_size", Some(rows), 0, &d::BATCH_ROWS_RANGE));
    Some(PipelineKind::Ensemble(Arc::new(Ensemble {
        max_batch_size: rows,
        inputs: tensors(check, at, "inputs", &file.inputs),
        outputs,
        labels: labels(check, at, &file.labels),
        versions: versions(check, at, &file.versions),
        steps,
        ..Ensemble::default()
    })))
}

/// The versions that it has, ascending.
fn versions(check: &mut Checker<'_>, at: At<'_>, file: &[u64]) -> Vec<String> {
    let numbers: BTreeSet<u64> = file.iter().copied().collect();
    if file.len() > d::VERSIONS_MAX {
        check.problem(at, "versions", format!("has more than {} entries", d::VERSIONS_MAX));
    } else if numbers.len() < file.len() || numbers.contains(&0) {
        check.problem(at, "versions", "must be different numbers from 1, of which the highest is the latest");
    }
    numbers.iter().take(d::VERSIONS_MAX).map(u64::to_string).collect()
}

fn step(check: &mut Checker<'_>, at: At<'_>, step: &StepFile, models: &Named<Model>) -> Option<Step> {
    let Some(name) = &step.model else {
        check.problem(at, "steps", "a step has no model");
        return None;
    };
    let model = check.model(at, "steps", name, models)?;
    let names = |map: &BTreeMap<String, String>| -> BTreeMap<Arc<str>, Arc<str>> {
        map.iter().map(|(key, value)| (Arc::from(key.as_str()), Arc::from(value.as_str()))).collect()
    };
    if step.inputs.is_empty() || step.outputs.is_empty() {
        check.problem(at, "steps", format!("the step of model `{name}` needs inputs and outputs"));
        return None;
    }
    let (inputs, outputs) = (names(&step.inputs), names(&step.outputs));
    Some(Step { model, version: step.version.clone(), inputs, outputs })
}
