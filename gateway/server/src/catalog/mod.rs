//! What is served. One immutable [`Snapshot`] of models, plugins and pipelines is
//! current at any time; a request takes it at admission and uses nothing else.

mod alone;
mod build;
mod cache;
mod caller;
mod coming;
mod ensemble;
mod exposed;
mod files;
mod grants;
mod guards;
mod hung;
mod loaded;
mod model;
mod outbox;
mod plugin_log;
pub mod plugins;
pub mod repository;
pub mod samples;
mod scheduling;
mod sequence;
mod shadow_stats;
mod slot;
mod statistics;
pub mod store;
mod timed;
mod turns;
pub mod verify;
mod versions;
mod warmup;
mod worker;

pub(crate) use alone::alone;
pub use build::{BuildError, Builder, Built, Compile, Overrides, engine_name};
pub use cache::ResponseCache;
pub use coming::Coming;
pub use ensemble::{Ensemble, Step, Target};
pub use hung::look_after_runs;
pub use loaded::LoadedPlugin;
pub use model::Model;
pub use plugin_log::LogLine;
pub use shadow_stats::{ShadowCounts, ShadowOutcome, ShadowStats};
pub use slot::{PluginSlot, ShadowStage, Split, StagePlugin};
pub use turns::Turns;

use std::collections::BTreeMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use sluice_sandbox::GuestThreads;

use crate::config::Config;
use crate::observe::{PipelineMetrics, PluginMetrics};

/// Everything that is served, at one point of time.
pub struct Snapshot {
    /// Counts up with every change.
    pub generation: u64,
    /// What it was built from.
    pub config: Arc<Config>,
    /// Loaded models by name; of those with several versions the latest.
    pub models: BTreeMap<Arc<str>, Arc<Model>>,
    /// All versions, ascending, of models of repositories and of models with several.
    pub versions: BTreeMap<Arc<str>, Vec<Arc<Model>>>,
    /// What became of the models of repositories.
    repositories: BTreeMap<Arc<str>, repository::Entry>,
    /// Plugins by name, with the versions of them that are loaded.
    pub plugins: BTreeMap<Arc<str>, Arc<PluginSlot>>,
    /// Pipelines by their public name.
    pub pipelines: BTreeMap<Arc<str>, Arc<Pipeline>>,
}

/// A public name that joins plugins and models.
pub struct Pipeline {
    /// What clients call.
    pub name: Arc<str>,
    /// What happens to a request.
    pub stages: Stages,
    /// The deadline of requests that name none, if it is not the gateway's.
    pub timeout: Option<std::time::Duration>,
    /// Whether what a program writes goes out as it is written.
    pub streams: bool,
    /// Where its durations go.
    pub metrics: Arc<PipelineMetrics>,
    /// Where it runs: next to its guests.
    pub threads: GuestThreads,
}

/// What a pipeline does.
pub enum Stages {
    /// Optional plugin, model, optional plugin.
    Staged {
        /// Before the model.
        pre: Option<StagePlugin>,
        /// The model.
        model: Arc<Model>,
        /// After the model.
        post: Option<StagePlugin>,
    },
    /// Models joined by the names of tensors.
    Ensemble(Arc<Ensemble>),
    /// One plugin that calls models itself.
    Whole {
        /// The plugin.
        plugin: StagePlugin,
    },
}

impl Stages {
    /// The plugins that it calls, in order.
    pub fn plugins(&self) -> impl Iterator<Item = &StagePlugin> {
        let (first, second) = match self {
            Self::Staged { pre, post, .. } => (pre.as_ref(), post.as_ref()),
            Self::Ensemble(_) => (None, None),
            Self::Whole { plugin } => (Some(plugin), None),
        };
        first.into_iter().chain(second)
    }
}

/// The current snapshot, swapped whole.
pub struct Catalog {
    current: ArcSwap<Snapshot>,
}

impl Catalog {
    /// Starts with this snapshot.
    pub fn new(snapshot: Snapshot) -> Self {
        Self { current: ArcSwap::from_pointee(snapshot) }
    }

    /// The snapshot that a new request uses.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.current.load_full()
    }

    /// Puts the next snapshot in place. Requests under way keep the old one.
    pub fn swap(&self, next: Snapshot) {
        self.current.store(Arc::new(next));
    }
}

impl Snapshot {
    /// The versions of plugins that are loaded, with where each is counted.
    pub fn counted(&self) -> impl Iterator<Item = (&Arc<str>, &Arc<str>, &Arc<PluginMetrics>)> {
        let loaded = self.plugins.values().flat_map(|slot| slot.versions.values());
        loaded.map(|it| (&it.name, &it.version, &it.metrics))
    }

    /// Whether anything is served under this name.
    pub fn serves(&self, name: &str) -> bool {
        self.pipelines.contains_key(name) || self.models.contains_key(name)
    }

    /// Whether a plugin takes the body of requests for this name.
    pub fn takes_body(&self, name: &str) -> bool {
        let stages = self.pipelines.get(name).map(|pipeline| &pipeline.stages);
        matches!(stages, Some(Stages::Staged { pre: Some(_), .. } | Stages::Whole { .. }))
    }

    /// What takes the inputs that callers of this name give, if no plugin takes the body: of
    /// the version that is asked for, or the latest.
    pub fn asked(&self, name: &str, version: Option<&str>) -> Option<Target> {
        match self.pipelines.get(name).map(|pipeline| &pipeline.stages) {
            Some(Stages::Staged { pre: None, model, .. }) => Some(Target::Model(Arc::clone(model))),
            Some(Stages::Ensemble(ensemble)) => Some(Target::Ensemble(Arc::clone(ensemble))),
            Some(_) => None,
            None => self.model(name, version).ok().map(|model| Target::Model(Arc::clone(model))),
        }
    }

    /// What gives the outputs that answer requests for this name unchanged, if anything does.
    pub fn answering(&self, name: &str, version: Option<&str>) -> Option<Target> {
        match self.pipelines.get(name).map(|pipeline| &pipeline.stages) {
            Some(Stages::Staged { model, post: None, .. }) => Some(Target::Model(Arc::clone(model))),
            Some(Stages::Ensemble(ensemble)) => Some(Target::Ensemble(Arc::clone(ensemble))),
            Some(_) => None,
            None => self.model(name, version).ok().map(|model| Target::Model(Arc::clone(model))),
        }
    }

    /// Where requests for this name are counted, if it is served.
    pub fn metrics(&self, name: &str) -> Option<&Arc<PipelineMetrics>> {
        let of_pipeline = self.pipelines.get(name).map(|pipeline| &pipeline.metrics);
        of_pipeline.or_else(|| self.models.get(name).map(|model| model.request_metrics()))
    }

    /// Whether what is served under this name can answer now.
    pub fn is_ready(&self, name: &str) -> bool {
        match self.pipelines.get(name) {
            Some(pipeline) => pipeline.is_ready(),
            None => self.models.get(name).is_some_and(|model| model.is_ready()),
        }
    }
}

impl Pipeline {
    /// Whether it can answer now.
    pub fn is_ready(&self) -> bool {
        let model = match &self.stages {
            Stages::Staged { model, .. } => model.is_ready(),
            Stages::Ensemble(ensemble) => ensemble.is_ready(),
            Stages::Whole { .. } => true,
        };
        model && self.stages.plugins().all(|stage| stage.slot.active.as_ref().is_some_and(|it| it.is_ready()))
    }
}
