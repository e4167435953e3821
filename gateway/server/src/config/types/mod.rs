//! The running configuration: complete, checked, with every reference resolved.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;

mod access;
mod batching;
mod models;
mod plugins;
mod sequence;

pub use access::{Scope, Tls, Token, TrustedKey};
pub use batching::{BatchWeight, Batching, Padding};
pub use models::{
    DeclaredTensor, Ensemble, EnsembleOutput, Labels, ModelControl, Presentation, Repository, Step, Warmup,
    WarmupData, WarmupInput, label_lines,
};
pub use plugins::{FailurePolicy, OwnRoute, Pipeline, PipelineKind, Plugin, PluginSource, Rollout};
pub use sequence::{Control, ControlKind, FalseTrue, Sequence, SequenceStrategy, State as SequenceState};

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
    /// Where uploaded plugins are kept.
    pub state: State,
    /// Answers that are given again.
    pub cache: Cache,
    /// How uploads are checked.
    pub verify: Verify,
    /// How plugins reach other servers.
    pub egress: Egress,
    /// How plugins are pulled from registries.
    pub oci: Oci,
    /// Who may call what.
    pub tokens: BTreeMap<Arc<str>, Token>,
    /// Whose signatures count.
    pub keys: BTreeMap<Arc<str>, TrustedKey>,
    /// Stores that plugins may use.
    pub stores: BTreeMap<Arc<str>, Store>,
    /// Folders of models.
    pub repositories: BTreeMap<Arc<str>, Repository>,
    /// What an engine runs. In a snapshot's configuration the models of repositories too.
    pub models: BTreeMap<Arc<str>, Model>,
    /// Versions that are served beside those, ascending.
    pub older_versions: BTreeMap<Arc<str>, Vec<Model>>,
    /// What the sandbox runs.
    pub plugins: BTreeMap<Arc<str>, Plugin>,
    /// Public names that join plugins and a model.
    pub pipelines: BTreeMap<Arc<str>, Pipeline>,
}

impl Config {
    /// The keys whose signatures count.
    pub fn trusted_keys(&self) -> crate::signature::TrustedKeys {
        let keys = self.keys.iter();
        crate::signature::TrustedKeys::new(keys.map(|(name, key)| {
            (Arc::clone(name), key.owner.clone(), crate::signature::PublicKey::from_bytes(key.public_key))
        }))
    }

    /// The configuration as the file has it: without the models that repositories brought.
    pub fn without_repository_models(&self) -> Self {
        let mut own = self.clone();
        own.pipelines.retain(|_, pipeline| match &pipeline.kind {
            PipelineKind::Ensemble(ensemble) => ensemble.repository.is_none(),
            _ => true,
        });
        own.models.retain(|_, model| model.presentation.repository.is_none());
        own.older_versions.retain(|name, _| own.models.contains_key(name));
        own
    }

    /// Every file that the configuration is made of: itself, and what it names.
    /// This is what [`super::watch`] watches.
    pub fn files(&self) -> Vec<PathBuf> {
        let older = self.older_versions.values().flatten();
        // Those of repositories are looked after by their repository.
        let models =
            self.models.values().chain(older).filter(|model| model.presentation.repository.is_none());
        let models = models.map(|model| &model.file);
        let plugins = self.plugins.values().filter_map(|plugin| plugin.source.file());
        let stores = self.stores.values().filter_map(Store::file);
        let tls = [&self.server.tls, &self.server.admin_tls];
        let tls = tls.into_iter().flatten().flat_map(Tls::files);
        let ca = self.egress.ca.iter();
        let named = models.chain(plugins).chain(stores).chain(tls).chain(ca);
        std::iter::once(&self.source).chain(named).cloned().collect()
    }
}

/// Listeners, limits and shutdown.
#[derive(Debug, Clone, PartialEq)]
pub struct Server {
    /// Where predictions are served over HTTP.
    pub http: SocketAddr,
    /// Where predictions are served over gRPC.
    pub grpc: SocketAddr,
    /// Where metrics and administration are served; a loopback address unless there are
    /// TLS and tokens.
    pub admin: SocketAddr,
    /// Whether whoever reaches the admin listener, on loopback, may do everything.
    pub admin_without_tokens: bool,
    /// Whether `/metrics` is open to whoever reaches the admin listener.
    pub metrics_without_token: bool,
    /// Whether predictions need a token with the scope `predict`.
    pub predict_needs_token: bool,
    /// What the server's metadata calls it.
    pub name: Arc<str>,
    /// Names, beside `localhost` and its address, that the admin listener answers to.
    pub admin_hosts: Vec<String>,
    /// TLS of the prediction listener.
    pub tls: Option<Tls>,
    /// TLS of the admin listener.
    pub admin_tls: Option<Tls>,
    /// What one caller, and all callers together, may use.
    pub limits: Limits,
    /// System shared memory that clients on this machine register.
    pub shared_memory: SharedMemory,
    /// How long a shutdown waits for requests that are under way.
    pub drain: Duration,
    /// How long a shutdown keeps accepting after readiness has turned false.
    pub drain_delay: Duration,
}

impl Server {
    /// Whether somebody chose an address for gRPC. Where nobody did and another gateway has
    /// the default one, this one serves HTTP alone: whoever starts two of them with only
    /// the other addresses changed expects that.
    pub fn grpc_is_chosen(&self) -> bool {
        self.grpc != super::defaults::GRPC
    }
}

/// System shared memory that clients on this machine register by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SharedMemory {
    /// Whether they may.
    pub enabled: bool,
    /// Regions at a time, of all clients together.
    pub regions_max: usize,
    /// Bytes of all regions together.
    pub bytes_max: u64,
    /// How the names of shared memory begin that may be registered.
    pub key_prefix: String,
}

/// What one caller, and all callers together, may use. The defaults, with a
/// paragraph each, are in [`super::defaults`].
#[derive(Debug, Clone, PartialEq)]
pub struct Limits {
    /// Bytes of one request body.
    pub body_bytes_max: usize,
    /// Time for a whole body to arrive.
    pub body_timeout: Duration,
    /// Time in which a reader has to take something of its answer.
    pub write_timeout: Duration,
    /// Time for all headers of a request to arrive.
    pub header_timeout: Duration,
    /// Time that a connection of HTTP/1 may be idle between two requests.
    pub keep_alive_timeout: Duration,
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
    /// Batches that run at a time, of all models together; 0 for no such bound.
    pub runs_max: usize,
    /// Units of each resource that runs of all models share.
    pub resources: BTreeMap<Arc<str>, usize>,
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
    /// Whether every uploaded or pulled plugin needs a valid signature.
    pub require_signature: bool,
}

/// Where uploaded plugins are kept.
#[derive(Debug, Clone, PartialEq)]
pub struct State {
    /// The directory; without one nothing can be uploaded.
    pub dir: Option<PathBuf>,
    /// Versions of each plugin that stay compiled beside those that serve.
    pub versions_kept: usize,
}

/// How components are checked, in a process of their own.
#[derive(Debug, Clone, PartialEq)]
pub struct Verify {
    /// Checks at a time.
    pub children_max: usize,
    /// Checks that may wait; more are answered 429.
    pub waiting_max: usize,
    /// Processor time of one check.
    pub cpu: Duration,
    /// Time of one check on the clock.
    pub timeout: Duration,
    /// Address space of one check, in bytes.
    pub memory_bytes: u64,
}

/// How plugins reach other servers.
#[derive(Debug, Clone, PartialEq)]
pub struct Egress {
    /// Certificates that are trusted beside the system's.
    pub ca: Option<PathBuf>,
    /// Time to connect.
    pub connect_timeout: Duration,
    /// Time for a whole exchange.
    pub timeout: Duration,
    /// Bytes of one body, either way.
    pub body_bytes_max: usize,
    /// Whether names may lead to addresses of this machine and of private networks.
    pub allow_private: bool,
}

/// How plugins are pulled from registries.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Oci {
    /// Registries, `host:port`, that are spoken to without TLS; loopback always may be.
    pub insecure_hosts: Vec<String>,
    /// A `config.json` as docker writes it, with credentials.
    pub credentials: Option<PathBuf>,
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
    /// Whether `/metrics` has Triton's names too.
    pub triton_metrics: bool,
    /// Where traces of single requests are written, when somebody asks for them.
    pub triton_trace_file: Option<PathBuf>,
}

/// Answers of models that are given again, for models with `response_cache`.
#[derive(Debug, Clone, PartialEq)]
pub struct Cache {
    /// Bytes of all of them.
    pub bytes_max: usize,
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

/// Keys and values that plugins may look up, and perhaps change.
#[derive(Clone, PartialEq)]
pub enum Store {
    /// A table from a file of JSON lines `{"key": …, "value": …}`, in memory, read-only.
    File {
        /// The file.
        file: PathBuf,
        /// The largest file that is loaded, in bytes.
        bytes_max: u64,
    },
    /// In memory, empty at each start.
    Memory {
        /// Most bytes of keys and values of one owner.
        bytes_max: u64,
    },
    /// In a file of the state directory; the plugins of one owner share it.
    Embedded {
        /// Most bytes of keys and values of one owner.
        bytes_max: u64,
    },
    /// On a Redis server.
    Redis {
        /// `redis://` or `rediss://`, with credentials: never logged.
        url: String,
        /// Time for one command.
        timeout: Duration,
    },
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::File { file, bytes_max } => {
                f.debug_struct("File").field("file", file).field("bytes_max", bytes_max).finish()
            }
            Self::Memory { bytes_max } => f.debug_struct("Memory").field("bytes_max", bytes_max).finish(),
            Self::Embedded { bytes_max } => f.debug_struct("Embedded").field("bytes_max", bytes_max).finish(),
            // The URL may hold a password.
            Self::Redis { timeout, .. } => {
                f.debug_struct("Redis").field("timeout", timeout).finish_non_exhaustive()
            }
        }
    }
}

impl Store {
    /// The file it is loaded from.
    pub fn file(&self) -> Option<&PathBuf> {
        match self {
            Self::File { file, .. } => Some(file),
            _ => None,
        }
    }
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
    /// Whether its answers may be given again to equal requests.
    pub response_cache: bool,
    /// How its requests are batched.
    pub batching: Batching,
    /// How they are padded.
    pub padding: Option<Padding>,
    /// How it looks to clients, and what it does before it is ready.
    pub presentation: Presentation,
    /// How its sequences are run, if its requests come in sequences.
    pub sequence: Option<Sequence>,
}
