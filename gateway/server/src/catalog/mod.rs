//! What is served. One immutable [`Snapshot`] of models, plugins and pipelines is
//! current at any time; a request takes it at admission and uses nothing else.

mod alone;
mod build;
mod caller;
mod files;
mod model;
mod plugin_log;
pub mod samples;
pub mod store;
pub mod verify;
mod worker;

pub(crate) use alone::alone;
pub use build::{BuildError, Builder, Built, Overrides, engine_name};
pub use model::Model;

use std::collections::BTreeMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use sluice_sandbox::{GuestThreads, PluginInfo};

use files::StoreFile;

use crate::config::{self, Config};
use crate::observe::{PipelineMetrics, PluginMetrics};
use crate::pipeline::Hook;

/// Everything that is served, at one point of time.
pub struct Snapshot {
    /// Counts up with every change.
    pub generation: u64,
    /// What it was built from.
    pub config: Arc<Config>,
    /// Loaded models by name.
    pub models: BTreeMap<Arc<str>, Arc<Model>>,
    /// Loaded plugins by name.
    pub plugins: BTreeMap<Arc<str>, Arc<LoadedPlugin>>,
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
    /// Where its durations go.
    pub metrics: Arc<PipelineMetrics>,
    /// Where it runs, if it has plugins: next to its guests.
    pub threads: Option<GuestThreads>,
}

/// What a pipeline does.
pub enum Stages {
    /// Optional plugin, model, optional plugin.
    Staged {
        /// Before the model.
        pre: Option<Arc<LoadedPlugin>>,
        /// The model.
        model: Arc<Model>,
        /// After the model.
        post: Option<Arc<LoadedPlugin>>,
    },
    /// One plugin that calls models itself.
    Whole {
        /// The plugin.
        plugin: Arc<LoadedPlugin>,
    },
}

impl Stages {
    /// The plugins that it calls.
    pub fn plugins(&self) -> impl Iterator<Item = &Arc<LoadedPlugin>> {
        let (first, second) = match self {
            Self::Staged { pre, post, .. } => (pre.as_ref(), post.as_ref()),
            Self::Whole { plugin } => (Some(plugin), None),
        };
        first.into_iter().chain(second)
    }
}

/// A plugin that can be called, with what it was built from.
pub struct LoadedPlugin {
    /// What pipelines call.
    pub hook: Arc<dyn Hook>,
    /// What is known of the component; none for a native stand-in.
    pub info: Option<PluginInfo>,
    /// Where its calls are counted.
    pub metrics: Arc<PluginMetrics>,
    config: config::Plugin,
    /// What it was granted; a change of any of these builds it again.
    granted: Vec<Arc<Model>>,
    stores: Vec<(Arc<str>, Arc<StoreFile>)>,
}

impl LoadedPlugin {
    /// Whether building it again from these would change nothing.
    fn is_same(
        &self,
        config: &config::Plugin,
        content: &[u8],
        granted: &[Arc<Model>],
        stores: &[(Arc<str>, Arc<StoreFile>)],
    ) -> bool {
        let same_models = self.granted.len() == granted.len()
            && self.granted.iter().zip(granted).all(|(old, new)| Arc::ptr_eq(old, new));
        let same_stores = self.stores.len() == stores.len()
            && self.stores.iter().zip(stores).all(|(old, new)| old.0 == new.0 && Arc::ptr_eq(&old.1, &new.1));
        let same_content = self.info.as_ref().is_some_and(|info| info.digest == files::digest(content));
        self.config == *config && same_models && same_stores && same_content
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
    /// Whether anything is served under this name.
    pub fn serves(&self, name: &str) -> bool {
        self.pipelines.contains_key(name) || self.models.contains_key(name)
    }

    /// Where requests for this name are counted, if it is served.
    pub fn metrics(&self, name: &str) -> Option<&Arc<PipelineMetrics>> {
        let of_pipeline = self.pipelines.get(name).map(|pipeline| &pipeline.metrics);
        of_pipeline.or_else(|| self.models.get(name).map(|model| model.request_metrics()))
    }

    /// Whether what is served under this name can answer now.
    pub fn is_ready(&self, name: &str) -> bool {
        match self.pipelines.get(name).map(|pipeline| &pipeline.stages) {
            Some(Stages::Staged { model, .. }) => model.is_ready(),
            Some(Stages::Whole { plugin }) => plugin.granted.iter().all(|model| model.is_ready()),
            None => self.models.get(name).is_some_and(|model| model.is_ready()),
        }
    }
}
