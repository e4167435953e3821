//! Plugins and pipelines, as the running configuration has them.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;

use crate::config::PathTemplate;
use crate::oci::Reference;
use crate::services::egress::AllowedHost;

/// A WebAssembly component and what it may use.
#[derive(Debug, Clone, PartialEq)]
pub struct Plugin {
    /// Its name.
    pub name: Arc<str>,
    /// Where its versions come from, beside uploads.
    pub source: PluginSource,
    /// Whose it is; none is the operator's own.
    pub owner: Option<Arc<str>>,
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
    /// Time for one look-up in a store, or one request to another server.
    pub host_wait_max: Duration,
    /// Time that a call waits for its turn.
    pub permit_wait_max: Duration,
    /// Bytes that may cross between the plugin and the gateway at once.
    pub hostcall_bytes: usize,
    /// Bytes that one call may log.
    pub log_bytes_per_call: usize,
    /// Parts that one answer may have.
    pub answer_parts_max: usize,
    /// Bytes that the parts of one answer may have together.
    pub answer_bytes_max: usize,
    /// Handles that an instance may hold.
    pub resources: usize,
    /// Calls at a time.
    pub concurrency: usize,
    /// Memory of all its instances together, in bytes.
    pub memory_total_bytes: usize,
    /// Stack of one call's own code, in bytes.
    pub stack_bytes: usize,
    /// Stores it may use.
    pub stores: Vec<Arc<str>>,
    /// Models it may call.
    pub models: Vec<Arc<str>>,
    /// Servers it may call over HTTP.
    pub http_hosts: Vec<AllowedHost>,
    /// Directories it may read, by the name that it sees.
    pub files: BTreeMap<String, PathBuf>,
    /// Arguments of a command component.
    pub arguments: Vec<String>,
    /// Environment variables that it sees.
    pub environment: BTreeMap<String, String>,
    /// Whether it is refused WASI; true if the whole sandbox is strict.
    pub strict: bool,
    /// Whether it may import `wasi:sockets`, which then refuse every address.
    pub sockets: bool,
    /// Whether it may read clocks.
    pub clocks: bool,
    /// Whether it may have random numbers.
    pub random: bool,
    /// Whether a version needs a valid signature.
    pub require_signature: bool,
    /// When a new version is taken back.
    pub rollout: Rollout,
}

impl super::Config {
    /// How a plugin is run that was uploaded under a name which the configuration does not
    /// have: the default limits, and nothing granted.
    pub fn undeclared(&self, name: &Arc<str>) -> Plugin {
        use super::super::defaults as d;
        let bytes = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX);
        let count = |count: u64| usize::try_from(count).unwrap_or(usize::MAX);
        Plugin {
            name: Arc::clone(name),
            source: PluginSource::Uploads,
            owner: None,
            config: serde_json::Value::Object(serde_json::Map::new()),
            reuse: 1,
            memory_bytes: bytes(d::PLUGIN_MEMORY).min(self.sandbox.memory_bytes_max),
            memory_total_bytes: bytes(d::PLUGIN_MEMORY_TOTAL),
            stack_bytes: d::STACK_BYTES,
            call_timeout: d::CALL_TIMEOUT,
            init_timeout: d::INIT_TIMEOUT,
            host_wait_max: d::HOST_WAIT,
            permit_wait_max: d::PERMIT_WAIT,
            hostcall_bytes: bytes(d::HOSTCALL_BYTES),
            log_bytes_per_call: bytes(d::LOG_BYTES),
            answer_parts_max: count(d::ANSWER_PARTS),
            answer_bytes_max: bytes(d::ANSWER_BYTES),
            resources: count(d::RESOURCES),
            concurrency: count(d::CONCURRENCY),
            stores: Vec::new(),
            models: Vec::new(),
            http_hosts: Vec::new(),
            files: BTreeMap::new(),
            arguments: Vec::new(),
            environment: BTreeMap::new(),
            strict: self.sandbox.strict,
            sockets: false,
            clocks: !self.sandbox.strict,
            random: !self.sandbox.strict,
            require_signature: self.sandbox.require_signature,
            rollout: Rollout { bake: d::BAKE, error_rate_max: d::BAKE_ERROR_RATE, calls_min: d::BAKE_CALLS },
        }
    }
}

impl Plugin {
    /// Whether `other` differs in nothing that an instance is made of: who owns it and how
    /// it is rolled out may change without loading it again.
    pub fn loads_like(&self, other: &Self) -> bool {
        let mut same = self.clone();
        same.source.clone_from(&other.source);
        same.owner.clone_from(&other.owner);
        same.require_signature = other.require_signature;
        same.rollout.clone_from(&other.rollout);
        same == *other
    }
}

/// Where a plugin's versions come from, beside uploads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PluginSource {
    /// Uploads alone.
    Uploads,
    /// A file that is watched.
    File(PathBuf),
    /// A registry. It names a digest.
    Oci(Reference),
}

impl PluginSource {
    /// The file, if it is one.
    pub fn file(&self) -> Option<&PathBuf> {
        match self {
            Self::File(file) => Some(file),
            _ => None,
        }
    }
}

/// When a version that was just activated is taken back by itself.
#[derive(Debug, Clone, PartialEq)]
pub struct Rollout {
    /// How long a new version is watched; zero never takes it back.
    pub bake: Duration,
    /// The share of failed calls, 0 to 1, above which it is taken back.
    pub error_rate_max: f64,
    /// Calls that must have been made before the share counts.
    pub calls_min: u64,
}

/// What a pipeline does when a plugin of it fails: traps, runs over a limit, or answers
/// nonsense. A plugin's own refusal is no failure.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FailurePolicy {
    /// Answers the error.
    #[default]
    Fail,
    /// Goes on without the plugin where the types allow: tensors that came over V2 go to
    /// the model as they are, and the model's outputs to the caller.
    Skip,
    /// Calls the version that was active before.
    Previous,
}

impl FailurePolicy {
    /// The name in configuration files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Fail => "fail",
            Self::Skip => "skip",
            Self::Previous => "previous",
        }
    }
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
    /// Whether what a program writes goes to the caller as it is written.
    pub stream: bool,
    /// Paths that it answers beside the protocols' own.
    pub routes: Vec<OwnRoute>,
    /// When the plugin before the model fails.
    pub pre_on_failure: FailurePolicy,
    /// When the plugin after the model fails, or the one that is the whole pipeline.
    pub post_on_failure: FailurePolicy,
}

/// A path that a pipeline answers by itself. No request fits two of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnRoute {
    /// The method.
    pub method: http::Method,
    /// The path, with places for parameters.
    pub path: PathTemplate,
}

impl OwnRoute {
    /// Whether a request could fit both.
    pub fn overlaps(&self, other: &Self) -> bool {
        self.method == other.method && self.path.overlaps(&other.path)
    }
}

impl std::fmt::Display for OwnRoute {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.method, self.path)
    }
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
    /// Models joined by the names of tensors.
    Ensemble(Arc<super::Ensemble>),
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
            Self::Ensemble(_) => (None, None),
            Self::Plugin { plugin } => (Some(plugin), None),
        };
        first.into_iter().chain(second)
    }
}
