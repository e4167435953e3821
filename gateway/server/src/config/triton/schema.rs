//! The fields of Triton's model configuration (`inference.ModelConfig`): what a
//! `config.pbtxt` may say, whether it can be done here or not. [`super::support`] says
//! which can.

use self::Kind::{Bool, Double, Enum, Float, Int32, Int64, Message, Text, Uint32, Uint64};

/// A type of message.
#[derive(Debug)]
pub(super) struct Schema {
    pub(super) name: &'static str,
    pub(super) fields: &'static [Field],
}

/// One of its fields.
#[derive(Debug)]
pub(super) struct Field {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    pub(super) label: Label,
}

/// What a field holds.
#[derive(Debug, Clone, Copy)]
pub(super) enum Kind {
    Int32,
    Int64,
    Uint32,
    Uint64,
    Bool,
    Float,
    Double,
    Text,
    /// The enumerators; the place in the list is the number.
    Enum(&'static [&'static str]),
    Message(&'static Schema),
}

/// How often it holds that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Label {
    One,
    Many,
    /// By a key, which is a text or a number.
    Map,
    /// At most one of a group is set.
    OneOf(&'static str),
}

impl Schema {
    pub(super) fn field(&self, name: &str) -> Option<&'static Field> {
        self.fields.iter().find(|field| field.name == name)
    }
}

const fn one(name: &'static str, kind: Kind) -> Field {
    Field { name, kind, label: Label::One }
}

const fn many(name: &'static str, kind: Kind) -> Field {
    Field { name, kind, label: Label::Many }
}

const fn map(name: &'static str, kind: Kind) -> Field {
    Field { name, kind, label: Label::Map }
}

const fn choice(group: &'static str, name: &'static str, kind: Kind) -> Field {
    Field { name, kind, label: Label::OneOf(group) }
}

macro_rules! messages {
    ($($schema:ident = $name:literal [$($field:expr),* $(,)?];)*) => {
        $(static $schema: Schema = Schema { name: $name, fields: &[$($field),*] };)*
    };
}

const DATA_TYPE: Kind = Enum(&[
    "TYPE_INVALID",
    "TYPE_BOOL",
    "TYPE_UINT8",
    "TYPE_UINT16",
    "TYPE_UINT32",
    "TYPE_UINT64",
    "TYPE_INT8",
    "TYPE_INT16",
    "TYPE_INT32",
    "TYPE_INT64",
    "TYPE_FP16",
    "TYPE_FP32",
    "TYPE_FP64",
    "TYPE_STRING",
    "TYPE_BF16",
]);
const FORMAT: Kind = Enum(&["FORMAT_NONE", "FORMAT_NHWC", "FORMAT_NCHW"]);
const INSTANCE_KIND: Kind = Enum(&["KIND_AUTO", "KIND_GPU", "KIND_CPU", "KIND_MODEL"]);
const PRIORITY: Kind = Enum(&["PRIORITY_DEFAULT", "PRIORITY_MAX", "PRIORITY_MIN"]);
const BATCH_INPUT_KIND: Kind = Enum(&[
    "BATCH_ELEMENT_COUNT",
    "BATCH_ACCUMULATED_ELEMENT_COUNT",
    "BATCH_ACCUMULATED_ELEMENT_COUNT_WITH_ZERO",
    "BATCH_MAX_ELEMENT_COUNT_AS_SHAPE",
    "BATCH_ITEM_SHAPE",
    "BATCH_ITEM_SHAPE_FLATTEN",
]);
const CONTROL_KIND: Kind = Enum(&[
    "CONTROL_SEQUENCE_START",
    "CONTROL_SEQUENCE_READY",
    "CONTROL_SEQUENCE_END",
    "CONTROL_SEQUENCE_CORRID",
]);

messages! {
    RESOURCE = "Resource" [one("name", Text), one("global", Bool), one("count", Uint32)];
    RATE_LIMITER = "ModelRateLimiter" [many("resources", Message(&RESOURCE)), one("priority", Uint32)];
    SECONDARY_DEVICE = "SecondaryDevice" [one("kind", Enum(&["KIND_NVDLA"])), one("device_id", Int64)];
    INSTANCE_GROUP = "ModelInstanceGroup" [
        one("name", Text), one("kind", INSTANCE_KIND), one("count", Int32), one("rate_limiter", Message(&RATE_LIMITER)),
        many("gpus", Int32), many("secondary_devices", Message(&SECONDARY_DEVICE)), many("profile", Text),
        one("passive", Bool), one("host_policy", Text),
    ];
    RESHAPE = "ModelTensorReshape" [many("shape", Int64)];
    INPUT = "ModelInput" [
        one("name", Text), one("data_type", DATA_TYPE), one("format", FORMAT), many("dims", Int64),
        one("reshape", Message(&RESHAPE)), one("is_shape_tensor", Bool), one("allow_ragged_batch", Bool),
        one("optional", Bool), one("is_non_linear_format_io", Bool),
    ];
    OUTPUT = "ModelOutput" [
        one("name", Text), one("data_type", DATA_TYPE), many("dims", Int64), one("reshape", Message(&RESHAPE)),
        one("label_filename", Text), one("is_shape_tensor", Bool), one("is_non_linear_format_io", Bool),
    ];
    BATCH_INPUT = "BatchInput" [
        one("kind", BATCH_INPUT_KIND), many("target_name", Text), one("data_type", DATA_TYPE), many("source_input", Text),
    ];
    BATCH_OUTPUT = "BatchOutput" [
        many("target_name", Text), one("kind", Enum(&["BATCH_SCATTER_WITH_INPUT_SHAPE"])), many("source_input", Text),
    ];
    LATEST = "Latest" [one("num_versions", Uint32)];
    ALL = "All" [];
    SPECIFIC = "Specific" [many("versions", Int64)];
    VERSION_POLICY = "ModelVersionPolicy" [
        choice("policy_choice", "latest", Message(&LATEST)), choice("policy_choice", "all", Message(&ALL)),
        choice("policy_choice", "specific", Message(&SPECIFIC)),
    ];
    GRAPH = "Graph" [one("level", Int32)];
    GRAPH_SHAPE = "Shape" [many("dim", Int64)];
    LOWER_BOUND = "LowerBound" [one("batch_size", Int32), map("input", Message(&GRAPH_SHAPE))];
    GRAPH_SPEC = "GraphSpec" [
        one("batch_size", Int32), map("input", Message(&GRAPH_SHAPE)), one("graph_lower_bound", Message(&LOWER_BOUND)),
    ];
    CUDA = "Cuda" [
        one("graphs", Bool), one("busy_wait_events", Bool), many("graph_spec", Message(&GRAPH_SPEC)),
        one("output_copy_stream", Bool),
    ];
    ACCELERATOR = "Accelerator" [one("name", Text), map("parameters", Text)];
    ACCELERATORS = "ExecutionAccelerators" [
        many("gpu_execution_accelerator", Message(&ACCELERATOR)), many("cpu_execution_accelerator", Message(&ACCELERATOR)),
    ];
    PINNED = "PinnedMemoryBuffer" [one("enable", Bool)];
    OPTIMIZATION = "ModelOptimizationPolicy" [
        one("graph", Message(&GRAPH)), one("priority", PRIORITY), one("cuda", Message(&CUDA)),
        one("execution_accelerators", Message(&ACCELERATORS)), one("input_pinned_memory", Message(&PINNED)),
        one("output_pinned_memory", Message(&PINNED)), one("gather_kernel_buffer_threshold", Uint32),
        one("eager_batching", Bool),
    ];
    QUEUE_POLICY = "ModelQueuePolicy" [
        one("timeout_action", Enum(&["REJECT", "DELAY"])), one("default_timeout_microseconds", Uint64),
        one("allow_timeout_override", Bool), one("max_queue_size", Uint32),
    ];
    DYNAMIC_BATCHING = "ModelDynamicBatching" [
        many("preferred_batch_size", Int32), one("max_queue_delay_microseconds", Uint64), one("preserve_ordering", Bool),
        one("priority_levels", Uint64), one("default_priority_level", Uint64),
        one("default_queue_policy", Message(&QUEUE_POLICY)), map("priority_queue_policy", Message(&QUEUE_POLICY)),
    ];
    CONTROL = "Control" [
        one("kind", CONTROL_KIND), many("int32_false_true", Int32), many("fp32_false_true", Float),
        many("bool_false_true", Bool), one("data_type", DATA_TYPE),
    ];
    CONTROL_INPUT = "ControlInput" [one("name", Text), many("control", Message(&CONTROL))];
    INITIAL_STATE = "InitialState" [
        one("data_type", DATA_TYPE), many("dims", Int64), choice("state_data", "zero_data", Bool),
        choice("state_data", "data_file", Text), one("name", Text),
    ];
    STATE = "State" [
        one("input_name", Text), one("output_name", Text), one("data_type", DATA_TYPE), many("dims", Int64),
        many("initial_state", Message(&INITIAL_STATE)), one("use_same_buffer_for_input_output", Bool),
        one("use_growable_memory", Bool),
    ];
    DIRECT = "StrategyDirect" [one("max_queue_delay_microseconds", Uint64), one("minimum_slot_utilization", Float)];
    OLDEST = "StrategyOldest" [
        one("max_candidate_sequences", Int32), many("preferred_batch_size", Int32),
        one("max_queue_delay_microseconds", Uint64), one("preserve_ordering", Bool),
    ];
    SEQUENCE_BATCHING = "ModelSequenceBatching" [
        choice("strategy_choice", "direct", Message(&DIRECT)), choice("strategy_choice", "oldest", Message(&OLDEST)),
        one("max_sequence_idle_microseconds", Uint64), many("control_input", Message(&CONTROL_INPUT)),
        many("state", Message(&STATE)), one("iterative_sequence", Bool),
    ];
    STEP = "Step" [
        one("model_name", Text), one("model_version", Int64), map("input_map", Text), map("output_map", Text),
        one("model_namespace", Text),
    ];
    ENSEMBLE = "ModelEnsembling" [many("step", Message(&STEP)), one("max_inflight_requests", Uint32)];
    PARAMETER = "ModelParameter" [one("string_value", Text)];
    WARMUP_INPUT = "Input" [
        one("data_type", DATA_TYPE), many("dims", Int64), choice("input_data_type", "zero_data", Bool),
        choice("input_data_type", "random_data", Bool), choice("input_data_type", "input_data_file", Text),
    ];
    WARMUP = "ModelWarmup" [
        one("name", Text), one("batch_size", Uint32), map("inputs", Message(&WARMUP_INPUT)), one("count", Uint32),
    ];
    OPERATIONS = "ModelOperations" [many("op_library_filename", Text)];
    TRANSACTION_POLICY = "ModelTransactionPolicy" [one("decoupled", Bool)];
    AGENT = "Agent" [one("name", Text), map("parameters", Text)];
    AGENTS = "ModelRepositoryAgents" [many("agents", Message(&AGENT))];
    RESPONSE_CACHE = "ModelResponseCache" [one("enable", Bool)];
    METRIC_IDENTIFIER = "MetricIdentifier" [one("family", Text)];
    HISTOGRAM = "HistogramOptions" [many("buckets", Double)];
    METRIC_CONTROL = "MetricControl" [
        one("metric_identifier", Message(&METRIC_IDENTIFIER)),
        choice("metric_options", "histogram_options", Message(&HISTOGRAM)),
    ];
    METRICS = "ModelMetrics" [many("metric_control", Message(&METRIC_CONTROL))];
}

/// The whole configuration.
pub(super) static MODEL_CONFIG: Schema = Schema {
    name: "ModelConfig",
    fields: &[
        one("name", Text),
        one("platform", Text),
        one("backend", Text),
        one("runtime", Text),
        one("version_policy", Message(&VERSION_POLICY)),
        one("max_batch_size", Int32),
        many("input", Message(&INPUT)),
        many("output", Message(&OUTPUT)),
        many("batch_input", Message(&BATCH_INPUT)),
        many("batch_output", Message(&BATCH_OUTPUT)),
        one("optimization", Message(&OPTIMIZATION)),
        choice("scheduling_choice", "dynamic_batching", Message(&DYNAMIC_BATCHING)),
        choice("scheduling_choice", "sequence_batching", Message(&SEQUENCE_BATCHING)),
        choice("scheduling_choice", "ensemble_scheduling", Message(&ENSEMBLE)),
        many("instance_group", Message(&INSTANCE_GROUP)),
        one("default_model_filename", Text),
        map("cc_model_filenames", Text),
        map("metric_tags", Text),
        map("parameters", Message(&PARAMETER)),
        many("model_warmup", Message(&WARMUP)),
        one("model_operations", Message(&OPERATIONS)),
        one("model_transaction_policy", Message(&TRANSACTION_POLICY)),
        one("model_repository_agents", Message(&AGENTS)),
        one("response_cache", Message(&RESPONSE_CACHE)),
        one("model_metrics", Message(&METRICS)),
    ],
};
