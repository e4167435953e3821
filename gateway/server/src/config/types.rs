//! The running configuration: complete, checked, with every reference resolved.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;

/// Everything the gateway is told. Two that are equal serve the same, apart from
/// the contents of the files they name.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// The file it came from, made absolute.
    pub source: PathBuf,
    /// Listeners, limits and shutdown.
    pub server: Server,
    /// What runs models.
    pub engine: Engine,
    /// What runs plugins.
    pub sandbox: Sandbox,
    /// Logs and traces.
    pub telemetry: Telemetry,
    /// Look-up tables that plugins may read.
    pub stores: BTreeMap<Arc<str>, Store>,
    /// What an engine runs.
    pub models: BTreeMap<Arc<str>, Model>,
    /// What the sandbox runs.
    pub plugins: BTreeMap<Arc<str>, Plugin>,
    /// Public names that join plugins and a model.
    pub pipelines: BTreeMap<Arc<str>, Pipeline>,
}

impl Config {
    /// Every file that the configuration is made of: itself, and what it names.
    /// This is what [`super::watch`] watches.
    pub fn files(&self) -> Vec<PathBuf> {
        let models = self.models.values().map(|model| &model.file);
        let plugins = self.plugins.values().map(|plugin| &plugin.file);
        let stores = self.stores.values().map(|store| &store.file);
        std::iter::once(&self.source).chain(models).chain(plugins).chain(stores).cloned().collect()
    }
}

/// Listeners, limits and shutdown.
#[derive(Debug, Clone, PartialEq)]
pub struct Server {
    /// Where predictions are served over HTTP.
    pub http: SocketAddr,
    /// Where predictions will be served over gRPC.
    pub grpc: SocketAddr,
    /// Where metrics and administration are served; always a loopback address.
    pub admin: SocketAddr,
    /// What one caller, and all callers together, may use.
    pub limits: Limits,
    /// How long a shutdown waits for requests that are under way.
    pub drain: Duration,
    /// How long a shutdown keeps accepting after readiness has turned false.
    pub drain_delay: Duration,
}

/// What one caller, and all callers together, may use. The defaults, with a
/// paragraph each, are in [`super::defaults`].
#[derive(Debug, Clone, PartialEq)]
pub struct Limits {
    /// Bytes of one request body.
    pub body_bytes_max: usize,
    /// Time for a whole body to arrive.
    pub body_timeout: Duration,
    /// Time for all headers of a request to arrive.
    pub header_timeout: Duration,
    /// Bytes of all headers of a request.
    pub header_bytes_max: usize,
    /// Headers of a request.
    pub headers_max: usize,
    /// Connections at a time.
    pub connections_max: usize,
    /// Streams at a time on one HTTP/2 connection.
    pub streams_max: u32,
    /// Requests at a time.
    pub in_flight_max: usize,
    /// Bytes of all bodies at a time.
    pub in_flight_bytes_max: usize,
    /// The deadline of a request that names none.
    pub request_timeout_default: Duration,
    /// The longest deadline a request may name.
    pub request_timeout_max: Duration,
    /// Nesting of a JSON body.
    pub json_depth_max: usize,
}

/// What runs models.
#[derive(Debug, Clone, PartialEq)]
pub struct Engine {
    /// The engine of a model that names none.
    pub default: EngineChoice,
    /// The ONNX Runtime library; found by search if not named.
    pub onnxruntime_library: Option<PathBuf>,
    /// Threads of one run, for a model that names none; 0 lets the gateway choose.
    pub threads: usize,
    /// Whether those threads spin while they wait, for a model that does not say.
    pub spinning: bool,
}

/// An engine, or the best that is there.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EngineChoice {
    /// The best that is present.
    #[default]
    Auto,
    /// rten, built in.
    Embedded,
    /// ONNX Runtime.
    Onnxruntime,
    /// Deterministic, for tests.
    Sim,
}

impl EngineChoice {
    /// The name in configuration files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Embedded => "embedded",
            Self::Onnxruntime => "onnxruntime",
            Self::Sim => "sim",
        }
    }
}

/// What runs plugins.
#[derive(Debug, Clone, PartialEq)]
pub struct Sandbox {
    /// Threads that run guests; 0 is one for each core.
    pub guest_threads: usize,
    /// Instances that may exist at a time, of all plugins together.
    pub instances_max: usize,
    /// The most memory any plugin may be given, in bytes.
    pub memory_bytes_max: usize,
    /// The largest plugin file, in bytes.
    pub plugin_bytes_max: u64,
    /// Where compiled code is kept. None if there is neither a setting nor a home.
    pub cache_dir: Option<PathBuf>,
    /// How often running guests are checked against their time.
    pub epoch_tick: Duration,
    /// Whether every plugin is refused WASI.
    pub strict: bool,
}

/// Logs and traces.
#[derive(Debug, Clone, PartialEq)]
pub struct Telemetry {
    /// Base address of an OTLP/HTTP collector; no traces without it.
    pub otlp_endpoint: Option<String>,
    /// Share of the requests without a sampled parent that are traced, 0 to 1.
    pub sample_ratio: f64,
    /// `service.name` of the traces.
    pub service_name: String,
    /// How log lines look.
    pub log_format: LogFormat,
    /// Which log lines are written.
    pub log_filter: String,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people on a terminal, JSON otherwise.
    #[default]
    Auto,
    /// One readable line for each event.
    Human,
    /// One JSON object for each event.
    Json,
}

/// A look-up table from a file of JSON lines `{"key": …, "value": …}`.
#[derive(Debug, Clone, PartialEq)]
pub struct Store {
    /// The file.
    pub file: PathBuf,
    /// The largest file that is loaded, in bytes.
    pub bytes_max: u64,
}

/// What an engine runs, and how its requests are batched.
#[derive(Debug, Clone, PartialEq)]
pub struct Model {
    /// Its public name.
    pub name: Arc<str>,
    /// Its version, as clients see it.
    pub version: String,
    /// The model file.
    pub file: PathBuf,
    /// Its engine.
    pub engine: EngineChoice,
    /// Batches that may run at a time.
    pub instances: usize,
    /// Threads of one run; 0 lets the gateway choose.
    pub threads: usize,
    /// Whether those threads spin while they wait.
    pub spinning: bool,
    /// Most rows of a batch; 0 for a model that takes no batches.
    pub max_batch_size: usize,
    /// How long a batch that is not full waits for more rows.
    pub max_queue_delay: Duration,
    /// Requests that may wait.
    pub max_queue_size: usize,
}

/// A WebAssembly component and what it may use.
#[derive(Debug, Clone, PartialEq)]
pub struct Plugin {
    /// Its name.
    pub name: Arc<str>,
    /// The component.
    pub file: PathBuf,
    /// Given to the plugin's `init` as it stands; an empty object if absent.
    pub config: serde_json::Value,
    /// Calls that one instance serves before it is thrown away.
    pub reuse: u32,
    /// Memory of one instance, all memories and tables together, in bytes.
    pub memory_bytes: usize,
    /// Time for one call.
    pub call_timeout: Duration,
    /// Time for the trial at load.
    pub init_timeout: Duration,
    /// Bytes that one call may log.
    pub log_bytes_per_call: usize,
    /// Handles that an instance may hold.
    pub resources: usize,
    /// Calls at a time.
    pub concurrency: usize,
    /// Stores it may read.
    pub stores: Vec<Arc<str>>,
    /// Models it may call.
    pub models: Vec<Arc<str>>,
    /// Whether it is refused WASI; true if the whole sandbox is strict.
    pub strict: bool,
}

/// A public name that joins plugins and a model.
#[derive(Debug, Clone, PartialEq)]
pub struct Pipeline {
    /// Its public name.
    pub name: Arc<str>,
    /// What it is made of.
    pub kind: PipelineKind,
    /// The deadline of a request that names none; the server's if absent.
    pub timeout: Option<Duration>,
}

/// What a pipeline is made of. Every name in it exists.
#[derive(Debug, Clone, PartialEq)]
pub enum PipelineKind {
    /// A model with a plugin before it, after it, both or neither.
    Staged {
        /// Makes the model's inputs out of the request.
        pre: Option<Arc<str>>,
        /// The model.
        model: Arc<str>,
        /// Makes the answer out of the model's outputs.
        post: Option<Arc<str>>,
    },
    /// One plugin of the `pipeline` world, which calls models by itself.
    Plugin {
        /// The plugin.
        plugin: Arc<str>,
    },
}

impl PipelineKind {
    /// The plugins it calls, in order.
    pub fn plugins(&self) -> impl Iterator<Item = &Arc<str>> {
        let (first, second) = match self {
            Self::Staged { pre, post, .. } => (pre.as_ref(), post.as_ref()),
            Self::Plugin { plugin } => (Some(plugin), None),
        };
        first.into_iter().chain(second)
    }
}
