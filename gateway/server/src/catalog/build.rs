//! Config to snapshot. What did not change is taken over from the snapshot before,
//! loaded and warm; the rest is built beside it. Nothing is swapped here: a build
//! that fails leaves no trace.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use sluice_batch::{Clock, Policy};
use sluice_engine::{Engine, EngineChoice, EngineKind, EngineSearch, LoadOptions};
use sluice_sandbox::{Grants, KeyValue, LogSink, PluginLimits, PluginOptions, Sandbox, WasiPolicy};

use super::caller::GrantedModels;
use super::files::{self, StoreFile};
use super::model::{Loaded, Model};
use super::plugin_log::PluginLog;
use super::{Catalog, LoadedPlugin, Pipeline, Snapshot, Stages};
use crate::config::{self, Config, PipelineKind};
use crate::observe::Metrics;
use crate::pipeline::Hook;

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
}

impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, problem) in self.0.iter().enumerate() {
            let end = if number + 1 < self.0.len() { "\n" } else { "" };
            write!(f, "{}: {}{end}", problem.key, problem.message)?;
        }
        Ok(())
    }
}

impl std::error::Error for BuildError {}

/// A snapshot that is ready to be served, and the policies that come with it.
pub struct Built {
    snapshot: Snapshot,
    policies: Vec<(Arc<Model>, Policy)>,
}

impl Built {
    /// The first snapshot: nothing is served yet.
    pub fn start(self) -> Catalog {
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
            && next
                .plugins
                .iter()
                .all(|(name, plugin)| old.plugins.get(name).is_some_and(|old| Arc::ptr_eq(old, plugin)))
    }

    /// Swaps the snapshot in. Cannot fail.
    pub fn commit(self, catalog: &Catalog) -> u64 {
        for (model, policy) in self.policies {
            model.set_policy(policy);
        }
        let generation = self.snapshot.generation;
        catalog.swap(self.snapshot);
        generation
    }
}

/// Builds snapshots. It holds what outlives them: engines, the sandbox, the clock.
pub struct Builder {
    /// Runs plugins.
    pub sandbox: Sandbox,
    /// Time, as the batch queues see it.
    pub clock: Arc<dyn Clock>,
    /// Where everything counts.
    pub metrics: Arc<Metrics>,
    /// Where to look for ONNX Runtime.
    pub engine_search: EngineSearch,
    /// Native stand-ins for plugins.
    pub natives: Overrides,
}

/// A build under way.
struct Build<'a> {
    builder: &'a Builder,
    config: &'a Config,
    previous: Option<&'a Snapshot>,
    policies: Vec<(Arc<Model>, Policy)>,
    problems: Vec<Problem>,
}

impl Builder {
    /// Builds what `config` asks for, taking over what did not change. Blocks on
    /// files, compilers and engines.
    ///
    /// # Errors
    /// All problems together. Everything built so far is released.
    pub fn build(&self, config: Arc<Config>, previous: Option<&Snapshot>) -> Result<Built, BuildError> {
        self.metrics.add_names(&config);
        let mut build =
            Build { builder: self, config: &config, previous, policies: Vec::new(), problems: Vec::new() };
        let stores = build.stores();
        let models = build.models();
        let plugins = build.plugins(&models, &stores);
        let pipelines = build.pipelines(&models, &plugins);
        let Build { policies, problems, .. } = build;
        if !problems.is_empty() {
            if let Some(previous) = previous {
                self.metrics.keep_names(&previous.config);
            }
            return Err(BuildError(problems));
        }
        self.metrics.keep_names(&config);
        if let Ok(digest) = files::digest_file(&config.source) {
            self.metrics.config_digest(&digest);
        }
        let generation = previous.map_or(1, |snapshot| snapshot.generation + 1);
        let snapshot = Snapshot { generation, config, models, plugins, pipelines };
        Ok(Built { snapshot, policies })
    }
}

impl Build<'_> {
    fn keep<T>(&mut self, result: Result<T, Problem>) -> Option<T> {
        result.map_err(|problem| self.problems.push(problem)).ok()
    }

    fn stores(&mut self) -> BTreeMap<Arc<str>, Arc<StoreFile>> {
        let mut stores = BTreeMap::new();
        for (name, config) in &self.config.stores {
            let loaded = match self.unchanged_store(name, config) {
                Some(store) => Ok(store),
                None => files::load_store(name, config).map(Arc::new),
            };
            if let Some(store) = self.keep(loaded) {
                stores.insert(Arc::clone(name), store);
            }
        }
        stores
    }

    /// The store of the snapshot before, if its file still has the same content.
    fn unchanged_store(&self, name: &Arc<str>, config: &config::Store) -> Option<Arc<StoreFile>> {
        let users = self.previous?.plugins.values();
        let store = users
            .flat_map(|plugin| &plugin.stores)
            .find(|(known, _)| known == name)
            .map(|(_, store)| store)?;
        let same = store.config == *config && files::digest_file(config.file()?).ok()? == store.digest;
        same.then(|| Arc::clone(store))
    }

    fn models(&mut self) -> BTreeMap<Arc<str>, Arc<Model>> {
        let mut models = BTreeMap::new();
        for (name, config) in &self.config.models {
            let built = self.model(config).map_err(|what| Problem::new(format!("models.{name}"), what));
            if let Some(model) = self.keep(built) {
                models.insert(Arc::clone(name), model);
            }
        }
        models
    }

    fn model(&mut self, config: &config::Model) -> Result<Arc<Model>, String> {
        let digest = files::digest_file(&config.file)?;
        let known = self.previous.and_then(|snapshot| snapshot.models.get(&config.name));
        if let Some(model) =
            known.filter(|model| model.is_ready() && model.is_same_but_policy(config, &digest))
        {
            self.policies.push((Arc::clone(model), super::model::policy(config)));
            return Ok(Arc::clone(model));
        }
        let engine = self.engine(config.engine)?;
        let options = LoadOptions {
            threads: or_half_the_cores(config.threads),
            spinning: config.spinning,
            max_batch_size: config.max_batch_size,
        };
        tracing::info!(model = %config.name, engine = %engine.describe(), "loading model");
        let model = engine.load(&config.file, &options).map_err(|error| error.to_string())?;
        Model::start(Loaded {
            config: config.clone(),
            digest,
            engine: engine.kind(),
            model,
            clock: Arc::clone(&self.builder.clock),
            metrics: self.builder.metrics.model(&config.name),
            request_metrics: self.builder.metrics.pipeline(&config.name),
        })
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

    fn plugins(
        &mut self,
        models: &BTreeMap<Arc<str>, Arc<Model>>,
        stores: &BTreeMap<Arc<str>, Arc<StoreFile>>,
    ) -> BTreeMap<Arc<str>, Arc<LoadedPlugin>> {
        let mut plugins = BTreeMap::new();
        for (name, config) in &self.config.plugins {
            let granted: Vec<_> =
                config.models.iter().filter_map(|model| models.get(model)).map(Arc::clone).collect();
            let stores: Vec<_> = config
                .stores
                .iter()
                .filter_map(|store| Some((Arc::clone(store), Arc::clone(stores.get(store)?))))
                .collect();
            let built = self.plugin(config, granted, stores);
            let built = built.map_err(|what| Problem::new(format!("plugins.{name}"), what));
            if let Some(plugin) = self.keep(built) {
                plugins.insert(Arc::clone(name), plugin);
            }
        }
        plugins
    }

    fn plugin(
        &self,
        config: &config::Plugin,
        granted: Vec<Arc<Model>>,
        stores: Vec<(Arc<str>, Arc<StoreFile>)>,
    ) -> Result<Arc<LoadedPlugin>, String> {
        let from = |hook: Arc<dyn Hook>, info, granted, stores| {
            let metrics = self.builder.metrics.plugin(&config.name);
            Arc::new(LoadedPlugin { hook, info, metrics, config: config.clone(), granted, stores })
        };
        if let Some(native) = self.builder.natives.get(&config.name) {
            return Ok(from(Arc::clone(native), None, granted, stores));
        }
        let file = config.source.file().ok_or("has no file")?;
        let content = files::read(file, self.config.sandbox.plugin_bytes_max)?;
        let known = self.previous.and_then(|snapshot| snapshot.plugins.get(&config.name));
        if let Some(plugin) = known.filter(|plugin| plugin.is_same(config, &content, &granted, &stores)) {
            return Ok(Arc::clone(plugin));
        }
        let keyvalue = stores
            .iter()
            .map(|(name, store)| (name.to_string(), Arc::clone(&store.store) as Arc<dyn KeyValue>))
            .collect();
        let callable = granted.iter().map(|model| (Arc::clone(model.name()), Arc::clone(model))).collect();
        let inference = (!granted.is_empty()).then(|| Arc::new(GrantedModels(callable)) as _);
        tracing::info!(plugin = %config.name, "loading plugin");
        let log = Arc::new(PluginLog::new(self.builder.metrics.plugin(&config.name)));
        let options = options(config, Grants { keyvalue, inference }, log);
        let plugin = self.builder.sandbox.load(&content, options).map_err(|error| error.to_string())?;
        let info = plugin.info().clone();
        Ok(from(Arc::new(plugin), Some(info), granted, stores))
    }

    fn pipelines(
        &mut self,
        models: &BTreeMap<Arc<str>, Arc<Model>>,
        plugins: &BTreeMap<Arc<str>, Arc<LoadedPlugin>>,
    ) -> BTreeMap<Arc<str>, Arc<Pipeline>> {
        let mut pipelines = BTreeMap::new();
        for (name, config) in &self.config.pipelines {
            let stages = stages(&config.kind, models, plugins);
            let stages = stages.map_err(|what| Problem::new(format!("pipelines.{name}"), what));
            // A part that is not there was reported where it failed to load.
            if let Some(Some(stages)) = self.keep(stages) {
                let metrics = self.builder.metrics.pipeline(name);
                let has_guests = stages.plugins().any(|plugin| plugin.info.is_some());
                let threads = has_guests.then(|| self.builder.sandbox.threads());
                let (name, timeout) = (Arc::clone(name), config.timeout);
                let pipeline = Pipeline { name: Arc::clone(&name), stages, timeout, metrics, threads };
                pipelines.insert(name, Arc::new(pipeline));
            }
        }
        pipelines
    }
}

/// The stages of a pipeline; `None` when a part of it failed to load.
fn stages(
    kind: &PipelineKind,
    models: &BTreeMap<Arc<str>, Arc<Model>>,
    plugins: &BTreeMap<Arc<str>, Arc<LoadedPlugin>>,
) -> Result<Option<Stages>, String> {
    let hook = |name: &Arc<str>, role: &str, fits: fn(&sluice_sandbox::World) -> bool| {
        let Some(plugin) = plugins.get(name) else { return Ok(None) };
        match &plugin.info {
            Some(info) if !fits(&info.world) => {
                Err(format!("plugin '{name}' is a {} and cannot be the {role}", info.world))
            }
            _ => Ok(Some(Arc::clone(plugin))),
        }
    };
    match kind {
        PipelineKind::Plugin { plugin } => {
            let plugin = hook(plugin, "whole pipeline", |world| world.is_pipeline())?;
            Ok(plugin.map(|plugin| Stages::Whole { plugin }))
        }
        PipelineKind::Staged { pre, model, post } => {
            let pre_hook =
                pre.as_ref().map(|name| hook(name, "preprocessor", |world| world.has_preprocess()));
            let post_hook =
                post.as_ref().map(|name| hook(name, "postprocessor", |world| world.has_postprocess()));
            let (pre_hook, post_hook) = (pre_hook.transpose()?, post_hook.transpose()?);
            let Some(model) = models.get(model) else { return Ok(None) };
            if matches!(pre_hook, Some(None)) || matches!(post_hook, Some(None)) {
                return Ok(None);
            }
            Ok(Some(Stages::Staged {
                pre: pre_hook.flatten(),
                model: Arc::clone(model),
                post: post_hook.flatten(),
            }))
        }
    }
}

/// How a plugin of this configuration is loaded.
pub(super) fn options(config: &config::Plugin, grants: Grants, log: Arc<dyn LogSink>) -> PluginOptions {
    let limits = PluginLimits {
        memory_bytes: config.memory_bytes,
        call_timeout: config.call_timeout,
        concurrency: config.concurrency,
        init_timeout: config.init_timeout,
        log_bytes_per_call: config.log_bytes_per_call,
        resources: config.resources,
        ..PluginLimits::default()
    };
    PluginOptions {
        name: Arc::clone(&config.name),
        config_json: config.config.to_string(),
        reuse: config.reuse,
        wasi: if config.strict { WasiPolicy::Refuse } else { WasiPolicy::Empty },
        limits,
        grants,
        log,
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
