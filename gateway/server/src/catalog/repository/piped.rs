//! What Triton's configuration says of a pipeline of plugins, which has none of its kind:
//! tools ask for it to know tensors, and whether one request has several answers.

use serde_json::{Map, Value, json};

use super::resolve::{defaults, tensors};
use crate::catalog::{Pipeline, Stages};
use crate::config::triton;

/// The configuration of a pipeline as Triton shows it.
pub(in crate::catalog) fn completed(name: &str, pipeline: &Pipeline) -> Value {
    let body = || json!([{ "name": "body", "data_type": "TYPE_STRING", "dims": [1] }]);
    let (input, output, rows, is_decoupled) = match &pipeline.stages {
        Stages::Ensemble(ensemble) => return super::steps::completed(name, ensemble),
        Stages::Whole { plugin } => {
            let active = plugin.slot.active.as_ref();
            let sends_parts = active.is_some_and(|version| version.hook.sends_parts());
            (body(), body(), 0, pipeline.streams || sends_parts)
        }
        Stages::Staged { pre, model, post } => {
            // Where a plugin owns a body, rows are its own matter.
            let rows = if pre.is_none() && post.is_none() { model.config().max_batch_size } else { 0 };
            let signature = model.signature();
            let input = if pre.is_some() { body() } else { tensors(&signature.inputs, rows > 0) };
            let output = if post.is_some() { body() } else { tensors(&signature.outputs, rows > 0) };
            (input, output, rows, false)
        }
    };
    let mut set: Map<String, Value> = [
        ("name", json!(name)),
        ("platform", json!("sluice-pipeline")),
        ("version_policy", json!({ "latest": { "num_versions": 1 } })),
        ("max_batch_size", json!(rows)),
        ("input", input),
        ("output", output),
        ("optimization", json!({})),
        ("model_transaction_policy", json!({ "decoupled": is_decoupled })),
    ]
    .into_iter()
    .map(|(key, value)| (key.to_owned(), value))
    .collect();
    defaults(&mut set, name);
    triton::show(&set)
}
