//! Config to snapshot. What did not change is taken over from the snapshot before,
//! loaded and warm; the rest is built beside it. Nothing is swapped here: a build
//! that fails leaves no trace.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use sluice_batch::{Clock, Limiter};
use sluice_engine::{Engine, EngineChoice, EngineKind, EngineSearch, Interrupt, LoadOptions};
use sluice_sandbox::{KeyValue, Sandbox};

use super::cache::{ModelCache, ResponseCache};
use super::files;
use super::grants::Granted;
use super::model::{Loaded, Model};
use super::repository::Change;
use super::scheduling;
use super::store::{RegistryState, Store};
use super::{Catalog, Ensemble, Snapshot, timed};
use crate::config::{self, Config};
use crate::observe::Metrics;
use crate::pipeline::Hook;
use crate::services::Services;

mod compile;
mod pipelines;
mod plugins;
mod repositories;

pub use compile::Compile;
pub(super) use compile::Compiled;
pub(super) use plugins::{FILE_VERSION, OCI_VERSION, options};

/// Plugins that are replaced by native code: for the benchmark, which measures
/// what the sandbox costs.
pub type Overrides = BTreeMap<Arc<str>, Arc<dyn Hook>>;

/// One thing that keeps a config from being served.
#[derive(Debug, Clone)]
pub struct Problem {
    key: String,
    message: String,
}

/// Everything that keeps a config from being served.
#[derive(Debug, Clone)]
pub struct BuildError(pub Vec<Problem>);

impl Problem {
    pub(super) fn new(key: String, message: String) -> Self {
        Self { key, message }
    }

    /// The key of the config that it is about.
    pub fn key(&self) -> &str {
        &self.key
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.key, self.message)
    }
}

impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, problem) in self.0.iter().enumerate() {
            let end = if number + 1 < self.0.len() { "\n" } else { "" };
            write!(f, "{problem}{end}")?;
        }
        Ok(())
    }
}

impl std::error::Error for BuildError {}

/// A snapshot that is ready to be served, and the policies that come with it.
pub struct Built {
    snapshot: Snapshot,
    /// Models that stay, with how they are batched from now on.
    policies: Vec<(Arc<Model>, config::Model)>,
    limiter: Arc<Limiter>,
    cache: Arc<ResponseCache>,
}

impl Built {
    /// The first snapshot: nothing is served yet.
    pub fn start(self, metrics: &Metrics) -> Catalog {
        metrics.serves(&self.snapshot.config);
        self.limiter.set(scheduling::resources(&self.snapshot.config.engine));
        Catalog::new(self.snapshot)
    }

    /// The models alone.
    pub(super) fn into_models(self) -> BTreeMap<Arc<str>, Arc<Model>> {
        self.snapshot.models
    }

    /// Whether it serves exactly what `current` serves.
    pub fn changes_nothing(&self, current: &Snapshot) -> bool {
        let (next, old) = (&self.snapshot, current);
        *next.config == *old.config
            && next
                .models
                .iter()
                .all(|(name, model)| old.models.get(name).is_some_and(|old| Arc::ptr_eq(old, model)))
            && next.serves_versions_like(old)
            && next.repositories == old.repositories
            && next
                .plugins
                .iter()
                .all(|(name, slot)| old.plugins.get(name).is_some_and(|old| old.serves_like(slot)))
    }

    /// The snapshot that it would serve.
    pub fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    /// Whether it was built to come right after `current`. Anything else would undo what
    /// came between.
    pub fn follows(&self, current: &Snapshot) -> bool {
        self.snapshot.generation == current.generation + 1
    }

    /// Swaps the snapshot in. Cannot fail; only while [`Self::follows`] holds of what the
    /// catalog has.
    pub fn commit(self, catalog: &Catalog, metrics: &Metrics) -> u64 {
        debug_assert!(self.follows(&catalog.snapshot()), "an old snapshot is not served again");
        let engine = &self.snapshot.config.engine;
        self.limiter.set(scheduling::resources(engine));
        for (model, config) in &self.policies {
            model.take_over(config, engine);
        }
        self.cache.resize(self.snapshot.config.cache.bytes_max);
        metrics.serves(&self.snapshot.config);
        metrics.keep_plugins(self.snapshot.counted());
        let generation = self.snapshot.generation;
        catalog.swap(self.snapshot);
        generation
    }
}

/// Builds snapshots. It holds what outlives them: engines, the sandbox, the clock.
pub struct Builder {
    /// Runs plugins.
    pub sandbox: Sandbox,
    /// What may run at once, of all models together.
    pub limiter: Arc<Limiter>,
    /// Time, as the batch queues see it.
    pub clock: Arc<dyn Clock>,
    /// Where everything counts.
    pub metrics: Arc<Metrics>,
    /// Where to look for ONNX Runtime.
    pub engine_search: EngineSearch,
    /// Native stand-ins for plugins.
    pub natives: Overrides,
    /// What stands behind host services.
    pub services: Services,
    /// Compiles components; without it that is done in this process.
    pub verifier: Option<super::verify::Verifier>,
    /// Answers that are given again.
    pub cache: Arc<ResponseCache>,
    /// The registry of uploaded plugins, if there is a state directory.
    pub store: Option<Arc<Store>>,
}

/// What a build may load of plugins; the rest it takes over, or goes without.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Loads {
    /// The version that becomes active: others wait for this build.
    Active,
    /// Whatever the registry names.
    Uploads,
    /// What the configuration names as well.
    Everything,
}

/// A build under way.
struct Build<'a> {
    builder: &'a Builder,
    config: Arc<Config>,
    previous: Option<&'a Snapshot>,
    /// What was loaded for a build that came to nothing.
    prepared: Option<&'a Snapshot>,
    loads: Loads,
    registry: &'a RegistryState,
    /// Whether files that the configuration names are read again. Nobody's change of a
    /// plugin or model takes up, or fails on, a file that somebody else has changed.
    is_reload: bool,
    policies: Vec<(Arc<Model>, config::Model)>,
    problems: Vec<Problem>,
    /// Ensembles whose models are there.
    joined: BTreeMap<Arc<str>, Arc<Ensemble>>,
}

impl Builder {
    /// The registry as it is now; empty without a state directory.
    pub fn registry(&self) -> Arc<RegistryState> {
        self.store.as_ref().map_or_else(Arc::default, |store| store.snapshot())
    }

    /// Builds what `config` asks for, taking over what did not change, or was loaded for an
    /// earlier try. Blocks on files, compilers and engines.
    ///
    /// # Errors
    /// All problems together. Everything built so far is released.
    pub fn build(
        &self,
        config: Arc<Config>,
        previous: Option<&Snapshot>,
        prepared: Option<&Snapshot>,
    ) -> Result<Built, BuildError> {
        self.build_changed(config, previous, &Change::Reload, prepared)
    }

    /// What `previous` serves, with other models of repositories. Blocks on files and
    /// engines.
    ///
    /// # Errors
    /// What keeps a plugin or pipeline from being served with them. Models that fail are no
    /// error: the snapshot says why, and serves what it served before.
    pub(super) fn build_models(
        &self,
        previous: &Snapshot,
        change: &Change,
        prepared: Option<&Snapshot>,
    ) -> Result<Built, BuildError> {
        let config = Arc::new(previous.config.without_repository_models());
        self.build_changed(config, Some(previous), change, prepared)
    }

    fn build_changed(
        &self,
        config: Arc<Config>,
        previous: Option<&Snapshot>,
        change: &Change,
        prepared: Option<&Snapshot>,
    ) -> Result<Built, BuildError> {
        let registry = &*self.registry();
        self.metrics.add_names(&config);
        let mut build = Build {
            builder: self,
            config,
            previous,
            prepared,
            loads: Loads::Everything,
            registry,
            is_reload: *change == Change::Reload,
            policies: Vec::new(),
            problems: Vec::new(),
            joined: BTreeMap::new(),
        };
        let tables = if build.is_reload { build.tables() } else { Vec::new() };
        let mut models = build.models();
        let mut from_repositories = build.repositories(change);
        for (name, of_model) in &from_repositories.versions {
            models.extend(of_model.last().map(|latest| (Arc::clone(name), Arc::clone(latest))));
        }
        let own = build.older_versions(&models);
        from_repositories.versions.extend(own);
        build.ensembles(&mut from_repositories, &models);
        build.config = Arc::new(build.effective(&from_repositories));
        let versions = std::mem::take(&mut from_repositories.versions);
        let plugins = build.plugins(&models);
        drop(tables);
        let pipelines = build.pipelines(&models, &plugins);
        let Build { config, policies, problems, .. } = build;
        if !problems.is_empty() {
            if let Some(previous) = previous {
                self.metrics.keep_names(&previous.config);
            }
            return Err(BuildError(problems));
        }
        let generation = previous.map_or(1, |snapshot| snapshot.generation + 1);
        let repositories = from_repositories.entries;
        let snapshot = Snapshot { generation, config, models, versions, repositories, plugins, pipelines };
        Ok(Built { snapshot, policies, limiter: Arc::clone(&self.limiter), cache: Arc::clone(&self.cache) })
    }

    /// What `previous` serves, under another registry that differs in these plugins: models,
    /// configuration and other plugins stay as they are, so nothing is read again but what
    /// the registry brings.
    ///
    /// # Errors
    /// What keeps a pipeline from serving a version that the registry gives it.
    pub(super) fn rebuild(
        &self,
        previous: &Snapshot,
        registry: &RegistryState,
        changed: &BTreeSet<Arc<str>>,
        prepared: Option<&Snapshot>,
        loads: Loads,
    ) -> Result<Built, BuildError> {
        let config = Arc::clone(&previous.config);
        let mut build = Build {
            builder: self,
            config: Arc::clone(&config),
            previous: Some(previous),
            prepared,
            loads,
            registry,
            is_reload: false,
            policies: Vec::new(),
            problems: Vec::new(),
            joined: previous.ensembles(),
        };
        let plugins = build.plugins_again(previous, changed);
        let pipelines = build.pipelines(&previous.models, &plugins);
        let Build { problems, .. } = build;
        if !problems.is_empty() {
            return Err(BuildError(problems));
        }
        let (generation, models) = (previous.generation + 1, previous.models.clone());
        let (versions, repositories) = (previous.versions.clone(), previous.repositories.clone());
        let snapshot = Snapshot { generation, config, models, versions, repositories, plugins, pipelines };
        Ok(Built {
            snapshot,
            policies: Vec::new(),
            limiter: Arc::clone(&self.limiter),
            cache: Arc::clone(&self.cache),
        })
    }
}

impl Build<'_> {
    fn keep<T>(&mut self, result: Result<T, Problem>) -> Option<T> {
        result.map_err(|problem| self.problems.push(problem)).ok()
    }

    /// Tables from files, loaded even where no plugin uses one: a mistake in a file is told
    /// when it is made. Held until the plugins have taken theirs.
    fn tables(&mut self) -> Vec<Arc<dyn KeyValue>> {
        let config = Arc::clone(&self.config);
        let mut tables = Vec::new();
        for (name, settings) in config.stores.iter().filter(|(_, settings)| settings.file().is_some()) {
            let opened = self.builder.services.stores().open(name, None, settings);
            tables.extend(self.keep(opened.map_err(|what| Problem::new(format!("stores.{name}"), what))));
        }
        tables
    }

    /// What a plugin is granted; a store that cannot be opened is reported once.
    fn granted(&mut self, plugin: &config::Plugin, models: &BTreeMap<Arc<str>, Arc<Model>>) -> Granted {
        match Granted::of(&self.builder.services, &self.config, plugin, models) {
            Ok(granted) => granted,
            Err((store, what)) => {
                let key = format!("stores.{store}");
                if !self.problems.iter().any(|problem| problem.key == key) {
                    self.problems.push(Problem::new(key, what));
                }
                Granted::default()
            }
        }
    }

    fn models(&mut self) -> BTreeMap<Arc<str>, Arc<Model>> {
        let mut models = BTreeMap::new();
        let all = Arc::clone(&self.config);
        for (name, config) in &all.models {
            let known = self.previous.and_then(|snapshot| snapshot.models.get(name));
            let built =
                self.model(config, known).map_err(|what| Problem::new(format!("models.{name}"), what));
            if let Some(model) = self.keep(built) {
                models.insert(Arc::clone(name), model);
            }
        }
        models
    }

    /// The models of the configuration that have several versions, with all of them,
    /// ascending; `models` has the latest.
    fn older_versions(
        &mut self,
        models: &BTreeMap<Arc<str>, Arc<Model>>,
    ) -> BTreeMap<Arc<str>, Vec<Arc<Model>>> {
        let mut versions = BTreeMap::new();
        let all = Arc::clone(&self.config);
        let own = all
            .older_versions
            .iter()
            .filter(|(_, older)| older.iter().all(|config| config.presentation.repository.is_none()));
        for (name, older) in own {
            let mut built = Vec::new();
            for config in older {
                let known = self.previous.and_then(|snapshot| snapshot.model_version(name, &config.version));
                let model = self.model(config, known);
                let key = || format!("models.{name}.versions.{}", config.version);
                built.extend(self.keep(model.map_err(|what| Problem::new(key(), what))));
            }
            built.extend(models.get(name).map(Arc::clone));
            versions.insert(Arc::clone(name), built);
        }
        versions
    }

    /// A model, taken over if it is known and nothing but its policy differs.
    fn model(&mut self, config: &config::Model, known: Option<&Arc<Model>>) -> Result<Arc<Model>, String> {
        let is_own = config.presentation.repository.is_none();
        if let Some(model) = known.filter(|_| is_own && !self.is_reload) {
            return Ok(Arc::clone(model));
        }
        let digest = match &config.presentation.files_digest {
            Some(digest) => digest.clone(),
            None => files::digest_file(&config.file)?,
        };
        let is_same = |model: &&Arc<Model>| model.is_ready() && model.is_same_but_batching(config, &digest);
        let prepared = || self.prepared.and_then(|it| it.model_version(&config.name, &config.version));
        if let Some(model) = known.filter(is_same).or_else(|| prepared().filter(is_same)) {
            self.policies.push((Arc::clone(model), config.clone()));
            return Ok(Arc::clone(model));
        }
        let engine = self.engine(config.engine)?;
        let load_timeout = self.config.engine.load_timeout;
        let mut config = config.clone();
        let load = |rows: usize| {
            let options = LoadOptions {
                threads: or_half_the_cores(config.threads),
                spinning: config.spinning,
                max_batch_size: rows,
            };
            let (engine, file) = (Arc::clone(&engine), config.file.clone());
            let work = move |_: &Interrupt| engine.load(&file, &options).map_err(|error| error.to_string());
            timed::within(load_timeout, "the loading", work)?
        };
        tracing::info!(model = %config.name, version = config.version, engine = %engine.describe(), "loading model");
        let started = tokio::time::Instant::now();
        let mut model = load(config.max_batch_size)?;
        if config.presentation.is_batching_open && !model.signature().is_batchable() {
            model = load(0)?;
            config.max_batch_size = 0;
        }
        let metrics = self.builder.metrics.model(&config.name);
        let statistics = self.builder.metrics.statistics(&config.name, &config.version);
        statistics.loaded(started.elapsed());
        let cache =
            config.response_cache.then(|| ModelCache::new(&self.builder.cache, &statistics, &metrics));
        let started = Model::start(Loaded {
            digest,
            engine: engine.kind(),
            model,
            load_timeout,
            limiter: Arc::clone(&self.builder.limiter),
            demand: scheduling::demand(&self.config.engine, &config.batching),
            clock: Arc::clone(&self.builder.clock),
            metrics,
            statistics,
            cache,
            request_metrics: self.builder.metrics.pipeline(&config.name),
            config,
        })?;
        if let Some(known) = known {
            started.succeed(known);
        }
        Ok(started)
    }

    fn engine(&self, choice: config::EngineChoice) -> Result<Arc<dyn Engine>, String> {
        let choice = match choice {
            config::EngineChoice::Auto => EngineChoice::Auto,
            config::EngineChoice::Embedded => EngineChoice::Embedded,
            config::EngineChoice::Onnxruntime => EngineChoice::OnnxRuntime,
            config::EngineChoice::Sim => EngineChoice::Sim,
        };
        let (engine, why) =
            sluice_engine::select(choice, &self.builder.engine_search).map_err(|error| error.to_string())?;
        tracing::info!(engine = engine_name(engine.kind()), %why, "engine selected");
        self.builder.metrics.engine(&engine.describe());
        Ok(engine)
    }
}

/// Threads of one run where the config leaves it open: half of the cores, because
/// HTTP, guests and other models want the rest.
fn or_half_the_cores(threads: usize) -> usize {
    match threads {
        0 => std::thread::available_parallelism().map_or(1, |cores| (usize::from(cores) / 2).max(1)),
        threads => threads,
    }
}

/// The engine's name in the config, in metrics and on the wire.
pub fn engine_name(kind: EngineKind) -> &'static str {
    match kind {
        EngineKind::Embedded => "embedded",
        EngineKind::OnnxRuntime => "onnxruntime",
        EngineKind::Sim => "sim",
    }
}
