//! Triton's model configuration, `config.pbtxt`: read as text or JSON, checked against what
//! can be done here, and shown whole.
//!
//! | piece | what it does |
//! |---|---|
//! | `pbtxt` | text to a tree |
//! | `schema` | which fields there are |
//! | `decode` | a tree, or JSON, to values with types; and what is absent to its default |
//! | `support` | what cannot be done |
//! | `types` | what acts |

mod decode;
mod pbtxt;
mod schema;
mod support;
mod types;

use serde_json::{Map, Value as Json};

pub use pbtxt::{PBTXT_BYTES_MAX, TextError};
pub use types::{
    Control, ControlInput, Direct, DynamicBatching, EnsembleScheduling, InitialState, InstanceGroup, Latest,
    ModelConfig, Oldest, Parameter, QueuePolicy, Reshape, SequenceBatching, Specific, State, Step,
    TensorConfig, VersionPolicy, Warmup, WarmupInput, data_type, dtype,
};

/// A configuration, and its fields that have no effect here.
#[derive(Debug, Clone, PartialEq)]
pub struct Parsed {
    /// The configuration.
    pub config: ModelConfig,
    /// Fields that cannot change an answer on a CPU.
    pub ignored: Vec<&'static str>,
}

/// Reads the text of a `config.pbtxt`.
///
/// # Errors
/// Where it is malformed, or every field that asks for what cannot be done.
pub fn parse_text(text: &str) -> Result<Parsed, TextError> {
    finish(decode::text(&pbtxt::parse(text)?, &schema::MODEL_CONFIG)?)
}

/// Reads a configuration from JSON.
///
/// # Errors
/// As [`parse_text`].
pub fn parse_json(text: &str) -> Result<Parsed, TextError> {
    let nowhere = pbtxt::Position::default();
    let value: Json =
        serde_json::from_str(text).map_err(|error| TextError::new(nowhere, error.to_string()))?;
    finish(decode::json(&value, &schema::MODEL_CONFIG)?)
}

fn finish(set: Map<String, Json>) -> Result<Parsed, TextError> {
    let fault = |message| TextError::new(pbtxt::Position::default(), message);
    let verdict = support::check(&set);
    if !verdict.refused.is_empty() {
        return Err(fault(verdict.refused.join("; ")));
    }
    let typed: Result<ModelConfig, _> = serde_json::from_value(Json::Object(set.clone()));
    let config = ModelConfig { set, ..typed.map_err(|error| fault(error.to_string()))? };
    if config.max_batch_size < 0 {
        return Err(fault("max_batch_size must be 0 or more".to_owned()));
    }
    Ok(Parsed { config, ignored: verdict.ignored })
}

/// A configuration as Triton shows it, with every default.
pub fn show(set: &Map<String, Json>) -> Json {
    decode::complete(set, &schema::MODEL_CONFIG)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> String {
        parse_text(text).expect_err(text).to_string()
    }

    #[test]
    fn what_cannot_be_done_is_refused_with_the_fields_name() {
        assert!(refused("backend: \"python\"").starts_with("backend 'python' is not supported"));
        assert!(refused("platform: \"tensorrt_plan\"").contains("plugin"));
        assert!(refused("instance_group { kind: KIND_GPU }").starts_with("instance_group.kind 'KIND_GPU'"));
        let two =
            refused("model_transaction_policy { decoupled: true } input { name: \"x\" optional: true }");
        assert!(
            two.contains("input.optional") && two.contains("model_transaction_policy.decoupled"),
            "{two}"
        );
        for field in [
            "runtime: \"x\"",
            "batch_input { }",
            "input { allow_ragged_batch: true }",
            "instance_group { gpus: 0 }",
            "model_operations { op_library_filename: \"a.so\" }",
            "model_repository_agents { agents { } }",
            "max_batch_size: -1",
            "instance_group { passive: true }",
            "optimization { execution_accelerators { cpu_execution_accelerator { name: \"openvino\" } } }",
        ] {
            refused(field);
        }
    }

    #[test]
    fn what_cannot_change_an_answer_is_noted() {
        let parsed = parse_text(
            "optimization { cuda { graphs: true } input_pinned_memory { enable: true } }\n\
             input { name: \"x\" format: FORMAT_NCHW } instance_group { kind: KIND_CPU count: 2 }",
        );
        let parsed = parsed.expect("valid");
        assert_eq!(parsed.ignored, ["input.format", "optimization.cuda", "optimization.input_pinned_memory"]);
        assert_eq!(parsed.config.instance_group[0].count, 2);
    }

    #[test]
    fn the_version_policy_chooses() {
        let choose =
            |text: &str, there: &[u64]| parse_text(text).expect("valid").config.version_policy.choose(there);
        assert_eq!(choose("", &[1, 2, 10]).0, [10]);
        assert_eq!(choose("version_policy { latest { num_versions: 2 } }", &[1, 2, 10]).0, [2, 10]);
        assert_eq!(choose("version_policy { latest { num_versions: 9 } }", &[1, 2]).0, [1, 2]);
        assert_eq!(choose("version_policy { all { } }", &[1, 2, 10]).0, [1, 2, 10]);
        let (there, missing) = choose("version_policy { specific { versions: [2, 7, -1] } }", &[1, 2]);
        assert_eq!((there, missing), (vec![2], vec![7, -1]));
        assert_eq!(choose("", &[]).0, Vec::<u64>::new());
    }
}
