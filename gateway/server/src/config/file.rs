//! The type of the file: every key optional, unknown keys refused. What the keys mean
//! is said in `config/sluice.toml`; what they become in [`super::types`].

use std::collections::BTreeMap;
use std::net::SocketAddr;

use serde::Deserialize;

use super::types::{BatchWeight, ControlKind, EngineChoice, FailurePolicy, LogFormat, ModelControl, Scope};

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct ConfigFile {
    pub(super) server: ServerFile,
    pub(super) engine: EngineFile,
    pub(super) sandbox: SandboxFile,
    pub(super) telemetry: TelemetryFile,
    pub(super) state: StateFile,
    pub(super) cache: CacheFile,
    pub(super) verify: VerifyFile,
    pub(super) egress: EgressFile,
    pub(super) oci: OciFile,
    pub(super) tokens: BTreeMap<String, TokenFile>,
    pub(super) keys: BTreeMap<String, KeyFile>,
    pub(super) stores: BTreeMap<String, StoreFile>,
    pub(super) repositories: BTreeMap<String, RepositoryFile>,
    pub(super) models: BTreeMap<String, ModelFile>,
    pub(super) plugins: BTreeMap<String, PluginFile>,
    pub(super) pipelines: BTreeMap<String, PipelineFile>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct ServerFile {
    pub(super) http: Option<SocketAddr>,
    pub(super) grpc: Option<SocketAddr>,
    pub(super) admin: Option<SocketAddr>,
    pub(super) admin_without_tokens: Option<bool>,
    pub(super) metrics_without_token: Option<bool>,
    pub(super) predict_needs_token: Option<bool>,
    pub(super) name: Option<String>,
    pub(super) admin_hosts: Vec<String>,
    pub(super) tls: Option<TlsFile>,
    pub(super) admin_tls: Option<TlsFile>,
    pub(super) drain_ms: Option<u64>,
    pub(super) drain_delay_ms: Option<u64>,
    pub(super) limits: LimitsFile,
    pub(super) shared_memory: SharedMemoryFile,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct SharedMemoryFile {
    pub(super) enabled: Option<bool>,
    pub(super) regions_max: Option<u64>,
    pub(super) bytes_max: Option<u64>,
    pub(super) key_prefix: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct LimitsFile {
    pub(super) body_bytes_max: Option<u64>,
    pub(super) body_timeout_ms: Option<u64>,
    pub(super) write_timeout_ms: Option<u64>,
    pub(super) header_timeout_ms: Option<u64>,
    pub(super) keep_alive_timeout_ms: Option<u64>,
    pub(super) header_bytes_max: Option<u64>,
    pub(super) headers_max: Option<u64>,
    pub(super) connections_max: Option<u64>,
    pub(super) streams_max: Option<u64>,
    pub(super) in_flight_max: Option<u64>,
    pub(super) in_flight_bytes_max: Option<u64>,
    pub(super) request_timeout_default_ms: Option<u64>,
    pub(super) request_timeout_max_ms: Option<u64>,
    pub(super) json_depth_max: Option<u64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct EngineFile {
    pub(super) default: Option<EngineChoice>,
    pub(super) onnxruntime_library: Option<String>,
    pub(super) threads: Option<u64>,
    pub(super) spinning: Option<bool>,
    pub(super) runs_max: Option<u64>,
    pub(super) resources: BTreeMap<String, u64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct SandboxFile {
    pub(super) guest_threads: Option<u64>,
    pub(super) instances_max: Option<u64>,
    pub(super) memory_bytes_max: Option<u64>,
    pub(super) plugin_bytes_max: Option<u64>,
    pub(super) cache_dir: Option<String>,
    pub(super) epoch_tick_ms: Option<u64>,
    pub(super) strict: Option<bool>,
    pub(super) require_signature: Option<bool>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct TlsFile {
    pub(super) certificate: Option<String>,
    pub(super) key: Option<String>,
    pub(super) client_ca: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct StateFile {
    pub(super) dir: Option<String>,
    pub(super) versions_kept: Option<u64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct VerifyFile {
    pub(super) children_max: Option<u64>,
    pub(super) waiting_max: Option<u64>,
    pub(super) cpu_ms: Option<u64>,
    pub(super) timeout_ms: Option<u64>,
    pub(super) memory_bytes: Option<u64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct EgressFile {
    pub(super) ca: Option<String>,
    pub(super) connect_timeout_ms: Option<u64>,
    pub(super) timeout_ms: Option<u64>,
    pub(super) body_bytes_max: Option<u64>,
    pub(super) allow_private: Option<bool>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct OciFile {
    pub(super) insecure_hosts: Vec<String>,
    pub(super) credentials: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct TokenFile {
    pub(super) hash: Option<String>,
    pub(super) scopes: Vec<Scope>,
    pub(super) owner: Option<String>,
    pub(super) expires: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct KeyFile {
    pub(super) owner: Option<String>,
    pub(super) public_key: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct TelemetryFile {
    pub(super) otlp_endpoint: Option<String>,
    pub(super) sample_ratio: Option<f64>,
    pub(super) service_name: Option<String>,
    pub(super) log_format: Option<LogFormat>,
    pub(super) log_filter: Option<String>,
    pub(super) triton_metrics: Option<bool>,
    pub(super) triton_trace_file: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct CacheFile {
    pub(super) size_bytes: Option<u64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct StoreFile {
    pub(super) kind: Option<StoreKind>,
    pub(super) file: Option<String>,
    pub(super) bytes_max: Option<u64>,
    pub(super) url: Option<String>,
    pub(super) timeout_ms: Option<u64>,
}

/// What a store is made of.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum StoreKind {
    #[default]
    File,
    Memory,
    Embedded,
    Redis,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RepositoryFile {
    pub(super) path: Option<String>,
    pub(super) control: Option<ModelControl>,
    pub(super) poll_seconds: Option<u64>,
    pub(super) load: Vec<String>,
    pub(super) exit_on_error: Option<bool>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct ModelFile {
    pub(super) file: Option<String>,
    pub(super) version: Option<String>,
    pub(super) versions: BTreeMap<String, String>,
    pub(super) engine: Option<EngineChoice>,
    pub(super) instances: Option<u64>,
    pub(super) threads: Option<u64>,
    pub(super) spinning: Option<bool>,
    pub(super) max_batch_size: Option<u64>,
    pub(super) max_queue_delay_microseconds: Option<u64>,
    pub(super) max_queue_size: Option<u64>,
    pub(super) response_cache: Option<bool>,
    pub(super) batching: BatchingFile,
    pub(super) padding: Option<PaddingFile>,
    pub(super) labels: BTreeMap<String, String>,
    pub(super) inputs: Vec<TensorFile>,
    pub(super) outputs: Vec<TensorFile>,
    pub(super) warmup: Vec<WarmupFile>,
    pub(super) sequence: Option<SequenceFile>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct SequenceFile {
    pub(super) strategy: Option<SequenceStrategyFile>,
    pub(super) max_sequence_idle_microseconds: Option<u64>,
    pub(super) max_queue_delay_microseconds: Option<u64>,
    pub(super) minimum_slot_utilization: Option<f64>,
    pub(super) max_candidate_sequences: Option<u64>,
    pub(super) preferred_batch_size: Vec<u64>,
    pub(super) state_bytes_max: Option<u64>,
    pub(super) controls: BTreeMap<String, SequenceControlFile>,
    pub(super) states: BTreeMap<String, SequenceStateFile>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum SequenceStrategyFile {
    #[default]
    Direct,
    Oldest,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct SequenceControlFile {
    pub(super) kind: Option<ControlKind>,
    pub(super) int32_false_true: Option<[i32; 2]>,
    pub(super) fp32_false_true: Option<[f32; 2]>,
    pub(super) bool_false_true: Option<[bool; 2]>,
    pub(super) datatype: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct SequenceStateFile {
    pub(super) output: Option<String>,
    pub(super) datatype: Option<String>,
    pub(super) dims: Option<Vec<usize>>,
    pub(super) initial_file: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct BatchingFile {
    pub(super) policy: Option<BatchPolicy>,
    pub(super) latency_objective_ms: Option<u64>,
    pub(super) preferred_batch_size: Vec<u64>,
    pub(super) preserve_ordering: Option<bool>,
    pub(super) priority_levels: Option<u64>,
    pub(super) default_priority_level: Option<u64>,
    pub(super) default_queue_policy: QueuePolicyFile,
    pub(super) priority_queue_policy: BTreeMap<String, QueuePolicyFile>,
    pub(super) weight: Option<BatchWeight>,
    pub(super) max_batch_weight: Option<u64>,
    pub(super) tenants: BTreeMap<String, u64>,
    pub(super) resources: BTreeMap<String, u64>,
    pub(super) run_share: Option<u64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct QueuePolicyFile {
    pub(super) timeout_action: Option<TimeoutActionFile>,
    pub(super) default_timeout_microseconds: Option<u64>,
    pub(super) allow_timeout_override: Option<bool>,
    pub(super) max_queue_size: Option<u64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct PaddingFile {
    pub(super) inputs: Vec<String>,
    pub(super) axis: Option<u64>,
    pub(super) sizes: Vec<u64>,
    pub(super) value: f64,
    pub(super) mask: Option<String>,
    pub(super) trim: Vec<String>,
}

/// An input or output as clients see it.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct TensorFile {
    pub(super) name: Option<String>,
    pub(super) datatype: Option<String>,
    pub(super) dims: Option<Vec<i64>>,
    pub(super) reshape: Option<Vec<i64>>,
}

/// An output of an ensemble: its name, or all about it.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum OutputFile {
    Name(String),
    Declared(TensorFile),
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct WarmupFile {
    pub(super) name: Option<String>,
    pub(super) batch_size: Option<u64>,
    pub(super) count: Option<u32>,
    pub(super) inputs: BTreeMap<String, WarmupInputFile>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct WarmupInputFile {
    pub(super) datatype: Option<String>,
    pub(super) dims: Vec<usize>,
    pub(super) data: Option<WarmupDataFile>,
    pub(super) file: Option<String>,
}

/// What is in an input of a warm-up, if it is not a file's content.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum WarmupDataFile {
    Zero,
    Random,
}

/// What decides about waiting and size.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum BatchPolicy {
    Fixed,
    Backpressure,
    Learned,
}

/// What happens to a request that has waited for too long: Triton's words.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub(super) enum TimeoutActionFile {
    Reject,
    Delay,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct PluginFile {
    pub(super) file: Option<String>,
    pub(super) plugin: Option<String>,
    pub(super) owner: Option<String>,
    pub(super) config: serde_json::Map<String, serde_json::Value>,
    pub(super) reuse: Option<u64>,
    pub(super) memory_bytes: Option<u64>,
    pub(super) memory_total_bytes: Option<u64>,
    pub(super) stack_bytes: Option<u64>,
    pub(super) call_timeout_ms: Option<u64>,
    pub(super) init_timeout_ms: Option<u64>,
    pub(super) host_wait_max_ms: Option<u64>,
    pub(super) permit_wait_max_ms: Option<u64>,
    pub(super) hostcall_bytes: Option<u64>,
    pub(super) log_bytes_per_call: Option<u64>,
    pub(super) answer_parts_max: Option<u64>,
    pub(super) answer_bytes_max: Option<u64>,
    pub(super) resources: Option<u64>,
    pub(super) concurrency: Option<u64>,
    pub(super) stores: Vec<String>,
    pub(super) models: Vec<String>,
    pub(super) http_hosts: Vec<String>,
    pub(super) files: BTreeMap<String, String>,
    pub(super) arguments: Vec<String>,
    pub(super) environment: BTreeMap<String, String>,
    pub(super) strict: Option<bool>,
    pub(super) sockets: Option<bool>,
    pub(super) clocks: Option<bool>,
    pub(super) random: Option<bool>,
    pub(super) require_signature: Option<bool>,
    pub(super) bake_ms: Option<u64>,
    pub(super) bake_error_rate_max: Option<f64>,
    pub(super) bake_calls_min: Option<u64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct PipelineFile {
    pub(super) routes: Vec<RouteFile>,
    pub(super) pre: Option<String>,
    pub(super) model: Option<String>,
    pub(super) post: Option<String>,
    pub(super) plugin: Option<String>,
    pub(super) steps: Vec<StepFile>,
    pub(super) inputs: Vec<TensorFile>,
    pub(super) outputs: Vec<OutputFile>,
    pub(super) max_batch_size: Option<u64>,
    pub(super) labels: BTreeMap<String, String>,
    pub(super) versions: Vec<u64>,
    pub(super) timeout_ms: Option<u64>,
    pub(super) stream: Option<bool>,
    pub(super) on_failure: Option<FailurePolicy>,
    pub(super) pre_on_failure: Option<FailurePolicy>,
    pub(super) post_on_failure: Option<FailurePolicy>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RouteFile {
    pub(super) method: String,
    pub(super) path: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct StepFile {
    pub(super) model: Option<String>,
    pub(super) version: Option<String>,
    pub(super) inputs: BTreeMap<String, String>,
    pub(super) outputs: BTreeMap<String, String>,
}
