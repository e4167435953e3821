//! Triton's model configuration with types: the fields that act here.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Map, Value as Json};
use sluice_tensor::DType;

/// What a model's `config.pbtxt` says, or what was completed for it.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct ModelConfig {
    /// The model's name; its folder's if empty.
    pub name: String,
    /// `onnxruntime_onnx`, `ensemble`, or empty.
    pub platform: String,
    /// `onnxruntime`, or empty.
    pub backend: String,
    /// Which versions are served.
    pub version_policy: VersionPolicy,
    /// Most rows of a batch; with 0 the dimensions hold no batch dimension.
    pub max_batch_size: i32,
    /// What it takes; all that the model file has if empty.
    pub input: Vec<TensorConfig>,
    /// What it gives; all that the model file has if empty.
    pub output: Vec<TensorConfig>,
    /// How its requests are batched.
    pub dynamic_batching: Option<DynamicBatching>,
    /// How the requests of a sequence are.
    pub sequence_batching: Option<SequenceBatching>,
    /// The models that it is made of.
    pub ensemble_scheduling: Option<EnsembleScheduling>,
    /// Batches that may run at a time.
    pub instance_group: Vec<InstanceGroup>,
    /// The model's file in a version's folder.
    pub default_model_filename: String,
    /// Free words for whoever runs the model.
    pub parameters: BTreeMap<String, Parameter>,
    /// What is run before it is ready.
    pub model_warmup: Vec<Warmup>,
    /// Whether answers are kept.
    pub response_cache: Option<Switch>,
    /// All that was set, under its name: what [`super::show`] completes.
    #[serde(skip)]
    pub set: Map<String, Json>,
}

/// Something that is on or off.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Switch {
    /// Whether it is on.
    pub enable: bool,
}

/// A value of `parameters`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Parameter {
    /// The value.
    pub string_value: String,
}

/// Which versions are served.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct VersionPolicy {
    /// The highest ones.
    pub latest: Option<Latest>,
    /// All of them.
    pub all: Option<All>,
    /// Those that are named.
    pub specific: Option<Specific>,
}

/// The highest versions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Latest {
    /// How many; 0 means one.
    pub num_versions: u32,
}

/// All versions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
pub struct All {}

/// Versions by number.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Specific {
    /// Their numbers.
    pub versions: Vec<i64>,
}

impl VersionPolicy {
    /// Those of the versions (ascending) that are served. Versions that the policy names
    /// and that are not there come second.
    pub fn choose(&self, there: &[u64]) -> (Vec<u64>, Vec<i64>) {
        if let Some(specific) = &self.specific {
            let has = |version: &&i64| u64::try_from(**version).is_ok_and(|number| there.contains(&number));
            let missing = specific.versions.iter().filter(|version| !has(version)).copied().collect();
            let is_named =
                |number: &&u64| i64::try_from(**number).is_ok_and(|it| specific.versions.contains(&it));
            return (there.iter().filter(is_named).copied().collect(), missing);
        }
        let count = match (&self.all, &self.latest) {
            (Some(_), _) => there.len(),
            (None, latest) => latest.map_or(1, |latest| latest.num_versions.max(1) as usize),
        };
        (there[there.len().saturating_sub(count)..].to_vec(), Vec::new())
    }
}

/// An input or output.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct TensorConfig {
    /// As the model file has it.
    pub name: String,
    /// `TYPE_…`
    pub data_type: String,
    /// Without the batch dimension, if the model takes batches; -1 is any size.
    pub dims: Vec<i64>,
    /// The dimensions that the model file has, where they differ from those that clients see.
    pub reshape: Option<Reshape>,
    /// A file with one label for each class, beside `config.pbtxt`.
    pub label_filename: String,
}

impl TensorConfig {
    /// The element type, if the configuration names one.
    pub fn dtype(&self) -> Option<DType> {
        dtype(&self.data_type)
    }
}

/// Other dimensions.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Reshape {
    /// Without the batch dimension.
    pub shape: Vec<i64>,
}

/// The element type of a `TYPE_…`.
pub fn dtype(data_type: &str) -> Option<DType> {
    match data_type.strip_prefix("TYPE_")? {
        "STRING" => Some(DType::Bytes),
        name => DType::from_name(name).filter(|dtype| *dtype != DType::Bytes),
    }
}

/// The `TYPE_…` of an element type.
pub fn data_type(dtype: DType) -> String {
    match dtype {
        DType::Bytes => "TYPE_STRING".to_owned(),
        dtype => format!("TYPE_{}", dtype.name()),
    }
}

/// Batches that may run at a time.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct InstanceGroup {
    /// `KIND_…`
    pub kind: String,
    /// How many; 0 means one.
    pub count: i32,
    /// What each takes of what all models share.
    pub rate_limiter: RateLimiter,
}

/// What an instance takes of what all models share while it runs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct RateLimiter {
    /// Named resources.
    pub resources: Vec<Resource>,
    /// 1 is the highest, 2 has half of its chances; 0 is 1.
    pub priority: u32,
}

/// Units of a resource.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Resource {
    /// Its name.
    pub name: String,
    /// How many.
    pub count: u32,
}

/// How requests are batched.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct DynamicBatching {
    /// Sizes that are sent at once.
    pub preferred_batch_size: Vec<i32>,
    /// How long a batch waits for more.
    pub max_queue_delay_microseconds: u64,
    /// Whether answers come in the order of the requests.
    pub preserve_ordering: bool,
    /// Levels of priority; 0 is none.
    pub priority_levels: u64,
    /// The level of a request that names none.
    pub default_priority_level: u64,
    /// The queue's limits.
    pub default_queue_policy: Option<QueuePolicy>,
    /// Those of single levels.
    pub priority_queue_policy: BTreeMap<String, QueuePolicy>,
}

/// A queue's limits.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct QueuePolicy {
    /// `REJECT` or `DELAY`; empty is the former.
    pub timeout_action: String,
    /// How long a request may wait; 0 is as long as it likes.
    pub default_timeout_microseconds: u64,
    /// Whether a request's own timeout may be shorter.
    pub allow_timeout_override: bool,
    /// Requests that may wait; 0 is any number.
    pub max_queue_size: u32,
}

/// How the requests of a sequence are batched.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct SequenceBatching {
    /// Each sequence keeps a slot of a batch.
    pub direct: Option<Direct>,
    /// The oldest requests are batched first.
    pub oldest: Option<Oldest>,
    /// How long a sequence may be silent; 0 is a second.
    pub max_sequence_idle_microseconds: u64,
    /// Inputs that tell the model where a sequence starts and ends.
    pub control_input: Vec<ControlInput>,
    /// What is kept between the requests of a sequence.
    pub state: Vec<State>,
    /// Whether the model asks for more steps itself.
    pub iterative_sequence: bool,
}

/// Each sequence keeps a slot of a batch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Direct {
    /// How long a batch waits for more.
    pub max_queue_delay_microseconds: u64,
    /// The share of slots that ends the wait.
    pub minimum_slot_utilization: f32,
}

/// The oldest requests are batched first.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Oldest {
    /// Sequences at a time.
    pub max_candidate_sequences: i32,
    /// Sizes that are sent at once.
    pub preferred_batch_size: Vec<i32>,
    /// How long a batch waits for more.
    pub max_queue_delay_microseconds: u64,
    /// Whether answers come in the order of the requests.
    pub preserve_ordering: bool,
}

/// An input that the scheduler fills.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct ControlInput {
    /// The input.
    pub name: String,
    /// What it tells.
    pub control: Vec<Control>,
}

/// What a control input tells.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Control {
    /// `CONTROL_SEQUENCE_…`
    pub kind: String,
    /// The values for no and yes.
    pub int32_false_true: Vec<i32>,
    /// The same as floats.
    pub fp32_false_true: Vec<f32>,
    /// The same as truth values.
    pub bool_false_true: Vec<bool>,
    /// Of the correlation id.
    pub data_type: String,
}

/// What is kept between the requests of a sequence.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct State {
    /// Where it goes in.
    pub input_name: String,
    /// Where it comes out.
    pub output_name: String,
    /// `TYPE_…`
    pub data_type: String,
    /// Without the batch dimension.
    pub dims: Vec<i64>,
    /// What it is at the start of a sequence; zeros if empty.
    pub initial_state: Vec<InitialState>,
}

/// A state at the start of a sequence.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct InitialState {
    /// `TYPE_…`
    pub data_type: String,
    /// Without the batch dimension.
    pub dims: Vec<i64>,
    /// All zeros.
    pub zero_data: Option<bool>,
    /// A file in the model's folder `initial_state`.
    pub data_file: Option<String>,
    /// For people.
    pub name: String,
}

/// What an ensemble is made of.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct EnsembleScheduling {
    /// Its steps; each runs when its inputs are there.
    pub step: Vec<Step>,
}

/// One model of an ensemble.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Step {
    /// The model.
    pub model_name: String,
    /// Its version; -1 is the latest.
    pub model_version: i64,
    /// The ensemble's tensor for each of the model's inputs.
    pub input_map: BTreeMap<String, String>,
    /// The ensemble's tensor for the model's outputs.
    pub output_map: BTreeMap<String, String>,
}

/// What is run before a model is ready.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Warmup {
    /// For people.
    pub name: String,
    /// Rows; 0 means one.
    pub batch_size: u32,
    /// Every input.
    pub inputs: BTreeMap<String, WarmupInput>,
    /// How often; 0 means once.
    pub count: u32,
}

/// An input of a warm-up.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct WarmupInput {
    /// `TYPE_…`
    pub data_type: String,
    /// Without the batch dimension.
    pub dims: Vec<i64>,
    /// All zeros.
    pub zero_data: Option<bool>,
    /// Random numbers.
    pub random_data: Option<bool>,
    /// A file in the model's folder `warmup`.
    pub input_data_file: Option<String>,
}
