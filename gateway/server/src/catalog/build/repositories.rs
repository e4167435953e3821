//! Models of repositories: each is built beside the others, and one that fails leaves what
//! is served as it was.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::super::ensemble::{Target, join_all};
use super::super::model::Model;
use super::super::repository::layout::{self, Folder};
use super::super::repository::resolve::{Origin, Resolved, resolve};
use super::super::repository::steps::composing;
use super::super::repository::{Change, Entry, POLL_FAILED, Source};
use super::{Build, Problem};
use crate::config::{
    self, Config, Ensemble, FailurePolicy, ModelControl, Pipeline, PipelineKind, Repository, watch,
};

type Named<T> = BTreeMap<Arc<str>, T>;

/// How deep ensembles may stand in each other where one is loaded with all that it needs.
const ENSEMBLES_DEPTH_MAX: usize = 8;

/// What repositories add to a snapshot.
#[derive(Default)]
pub(super) struct FromRepositories {
    /// Served or not.
    pub(super) entries: Named<Entry>,
    /// Those that are served, ascending by version.
    pub(super) versions: Named<Vec<Arc<Model>>>,
    /// Those whose failure is a problem of the configuration.
    strict: BTreeSet<Arc<str>>,
}

/// What is done about one model.
enum Plan {
    /// It stays as it is.
    Keep,
    /// It is looked at, and built if its folder differs.
    Look(Source),
    /// It is built.
    Build(Source),
    /// It goes.
    Unload,
}

impl Build<'_> {
    /// Builds the models of all repositories. Failures are in the entries; where the
    /// configuration says so they are problems too.
    pub(super) fn repositories(&mut self, change: &Change) -> FromRepositories {
        let mut all = FromRepositories::default();
        let config = Arc::clone(&self.config);
        let mut taken: BTreeSet<Arc<str>> = BTreeSet::new();
        for (name, repository) in &config.repositories {
            let is_known = self
                .previous
                .is_some_and(|previous| previous.config.repositories.get(name) == Some(repository));
            let plans = match self.plans(name, repository, is_known, change) {
                Ok(plans) => plans,
                // A folder that cannot be read for a moment unloads nothing.
                Err(what) if is_known => {
                    tracing::error!(repository = %name, what, "repository cannot be read, its models stay");
                    self.entries_of(name).map(|model| (model, Plan::Keep)).collect()
                }
                Err(what) => {
                    self.problems.push(Problem::new(format!("repositories.{name}.path"), what));
                    continue;
                }
            };
            for (model, plan) in plans {
                let is_strict = repository.exit_on_error && !is_known && *change == Change::Reload;
                let outcome = if !taken.insert(Arc::clone(&model)) {
                    // The first one is served; the entry is its.
                    tracing::error!(%model, repository = %name, "a model of this name is in another repository");
                    Err(format!("model '{model}' is in another repository too"))
                } else if config.models.contains_key(&model) || config.pipelines.contains_key(&model) {
                    Err(format!("'{model}' is the name of a model or pipeline of the configuration too"))
                } else {
                    let entry = self.planned(name, repository, &model, plan, &mut all);
                    entry.failures.values().next().map_or(Ok(()), |what| Err(what.clone()))
                };
                if is_strict {
                    all.strict.insert(Arc::clone(&model));
                }
                if let Err(what) = outcome
                    && is_strict
                {
                    self.problems.push(Problem::new(format!("repositories.{name}: model '{model}'"), what));
                }
            }
        }
        all
    }

    /// Joins the ensembles of the configuration and of repositories. What cannot be joined is
    /// not served: one of the configuration is a problem, one of a repository notes why.
    pub(super) fn ensembles(&mut self, all: &mut FromRepositories, models: &Named<Arc<Model>>) {
        let mut configs: Named<Arc<Ensemble>> = BTreeMap::new();
        for (name, pipeline) in &self.config.pipelines {
            if let PipelineKind::Ensemble(ensemble) = &pipeline.kind {
                configs.insert(Arc::clone(name), Arc::clone(ensemble));
            }
        }
        for (name, entry) in all.entries.iter_mut().filter(|(_, entry)| !entry.is_unloaded) {
            let Some(ensemble) = &entry.ensemble else { continue };
            entry.failures.remove(&0);
            configs.insert(Arc::clone(name), Arc::clone(ensemble));
        }
        let versions = &all.versions;
        let find = |name: &str, version: Option<&str>| {
            let is_it = |model: &&Arc<Model>| version.is_none_or(|version| model.config().version == version);
            let of_versions = versions.get(name).and_then(|all| all.iter().rev().find(is_it));
            let model = of_versions.or_else(|| models.get(name).filter(is_it));
            model.map(|model| Target::Model(Arc::clone(model)))
        };
        let (joined, failed) =
            join_all(&configs, &find, &|name, version| self.builder.metrics.statistics(name, version));
        for (name, what) in failed {
            let Some(entry) = all.entries.get_mut(&name) else {
                self.problems.push(Problem::new(format!("pipelines.{name}"), what));
                continue;
            };
            tracing::error!(ensemble = %name, what, "ensemble of a repository cannot be served");
            if all.strict.contains(&name) {
                let key = format!("repositories.{}: model '{name}'", entry.repository);
                self.problems.push(Problem::new(key, what.clone()));
            }
            entry.failures.insert(0, what);
        }
        for name in joined.keys() {
            self.builder.metrics.add_model(name);
        }
        self.joined = joined;
    }

    /// The configuration with the models and ensembles of repositories.
    pub(super) fn effective(&self, all: &FromRepositories) -> Config {
        let mut config = Config::clone(&self.config);
        for (name, versions) in &all.versions {
            let mut configs: Vec<config::Model> =
                versions.iter().map(|model| self.config_of(model)).collect();
            let Some(latest) = configs.pop() else { continue };
            if latest.presentation.repository.is_none() {
                continue;
            }
            config.models.insert(Arc::clone(name), latest);
            if !configs.is_empty() {
                config.older_versions.insert(Arc::clone(name), configs);
            }
        }
        for (name, ensemble) in &self.joined {
            config.pipelines.entry(Arc::clone(name)).or_insert_with(|| Pipeline {
                name: Arc::clone(name),
                kind: PipelineKind::Ensemble(Arc::clone(&ensemble.config)),
                timeout: None,
                stream: false,
                routes: Vec::new(),
                pre_on_failure: FailurePolicy::Fail,
                post_on_failure: FailurePolicy::Fail,
            });
        }
        config
    }

    /// The configuration of a model, with how it is batched from now on.
    fn config_of(&self, model: &Arc<Model>) -> config::Model {
        let changed = self.policies.iter().find(|(known, _)| Arc::ptr_eq(known, model));
        changed.map_or_else(|| config::Model::clone(&model.current()), |(_, config)| model.batched_as(config))
    }

    fn entries_of<'b>(&'b self, repository: &'b Arc<str>) -> impl Iterator<Item = Arc<str>> + use<'b> {
        let entries = self.previous.into_iter().flat_map(|previous| &previous.repositories);
        entries.filter(move |(_, entry)| entry.repository == *repository).map(|(name, _)| Arc::clone(name))
    }

    fn plans(
        &self,
        name: &Arc<str>,
        repository: &Repository,
        is_known: bool,
        change: &Change,
    ) -> Result<Named<Plan>, String> {
        let kept = || self.entries_of(name).map(|model| (model, Plan::Keep)).collect::<Named<Plan>>();
        let file = Source::default;
        let looks = matches!(change, Change::Reload | Change::Poll);
        let list = || Ok::<_, String>(layout::list(&repository.path)?.into_iter().map(Arc::<str>::from));
        match repository.control {
            ModelControl::None if is_known => Ok(kept()),
            ModelControl::None => Ok(list()?.map(|model| (model, Plan::Build(file()))).collect()),
            ModelControl::Poll if is_known && !looks => Ok(kept()),
            ModelControl::Poll => Ok(list()?.map(|model| (model, Plan::Look(file()))).collect()),
            ModelControl::Explicit if is_known => {
                let mut plans = kept();
                match change {
                    Change::Load { name: model, source } if self.takes(name, repository, model, source) => {
                        let name = model;
                        plans.insert(Arc::clone(name), Plan::Build(source.clone()));
                        self.plan_composing(repository, name, source, &mut plans, 0);
                    }
                    Change::Unload { names } => {
                        for name in names {
                            plans.entry(Arc::clone(name)).and_modify(|plan| *plan = Plan::Unload);
                        }
                    }
                    _ => {}
                }
                Ok(plans)
            }
            ModelControl::Explicit if repository.load.iter().any(|name| name == "*") => {
                Ok(list()?.map(|model| (model, Plan::Build(file()))).collect())
            }
            ModelControl::Explicit => {
                let names = repository.load.iter().map(|name| Arc::from(name.as_str()));
                Ok(names.map(|model| (model, Plan::Build(file()))).collect())
            }
        }
    }

    /// The models that an ensemble needs and that nothing serves yet come with it, if they
    /// are in its repository.
    fn plan_composing(
        &self,
        repository: &Repository,
        name: &str,
        source: &Source,
        plans: &mut Named<Plan>,
        depth: usize,
    ) {
        let folder = source.folder(&repository.path, name).ok().flatten();
        let Some(folder) = folder.filter(|_| depth < ENSEMBLES_DEPTH_MAX) else { return };
        for model in composing(&folder, source) {
            let is_served = self.previous.is_some_and(|previous| previous.serves(&model));
            let is_planned = plans.get(&model).is_some_and(|plan| matches!(plan, Plan::Build(_)));
            if !is_served && !is_planned && self.is_in(repository, &model) {
                let source = Source::default();
                self.plan_composing(repository, &model, &source, plans, depth + 1);
                plans.insert(model, Plan::Build(source));
            }
        }
    }

    /// Whether a model is to be loaded as one of this repository: it is in it, or comes with
    /// its files, is in no other one, and this is the first that takes requests.
    fn takes(&self, name: &str, repository: &Repository, model: &str, source: &Source) -> bool {
        if self.is_in(repository, model) {
            return true;
        }
        let mut all = self.config.repositories.iter();
        let others = self.config.repositories.values();
        let is_first =
            all.find(|(_, it)| it.control == ModelControl::Explicit).is_some_and(|(it, _)| **it == *name);
        source.files.is_some() && is_first && !others.into_iter().any(|it| self.is_in(it, model))
    }

    fn is_in(&self, repository: &Repository, name: &str) -> bool {
        Folder::open(&repository.path, name).is_ok_and(|folder| folder.is_some())
    }

    /// Does what is planned for a model, and notes what came of it.
    fn planned<'b>(
        &mut self,
        repository_name: &Arc<str>,
        repository: &Repository,
        name: &Arc<str>,
        plan: Plan,
        all: &'b mut FromRepositories,
    ) -> &'b Entry {
        let previous = self.previous;
        let before = previous.and_then(|previous| previous.repositories.get(name));
        let before = before.filter(|entry| entry.repository == *repository_name);
        let served: &[Arc<Model>] =
            before.and_then(|_| previous?.versions.get(name)).map_or(&[], |versions| versions.as_slice());
        let (source, unload) = match plan {
            Plan::Keep => (None, false),
            Plan::Unload => (None, true),
            Plan::Look(source) if is_still(repository, name, before, &source) => (None, false),
            Plan::Look(source) | Plan::Build(source) => (Some(source), false),
        };
        let mut versions = served.to_vec();
        let mut entry =
            before.cloned().unwrap_or_else(|| Entry::new(Arc::clone(repository_name), Source::default()));
        if let Some(source) = source {
            entry = Entry::new(Arc::clone(repository_name), source);
            self.builder.metrics.add_model(name);
            let built = self.versions(repository, name, served, &mut entry);
            // Where nothing could be built, what is served stays, with the reason.
            if !built.is_empty() || entry.ensemble.is_some() {
                versions = built;
            }
            entry.versions = versions.iter().filter_map(|model| model.version_number()).collect();
        } else if unload {
            versions.clear();
            entry.unloaded = std::mem::take(&mut entry.versions);
            entry.failures.clear();
            entry.is_unloaded = true;
            // What came with the request that loaded it goes with it.
            entry.source = Source::default();
        }
        if !versions.is_empty() {
            all.versions.insert(Arc::clone(name), versions);
        }
        all.entries.entry(Arc::clone(name)).or_insert(entry)
    }

    /// The versions of a model that can be served. What fails is noted; where that version
    /// is served already, it stays.
    fn versions(
        &mut self,
        repository: &Repository,
        name: &Arc<str>,
        served: &[Arc<Model>],
        entry: &mut Entry,
    ) -> Vec<Arc<Model>> {
        let resolved = match self.resolve(repository, name, entry) {
            Ok(resolved) => resolved,
            Err(what) => {
                tracing::error!(model = %name, what, "model of a repository cannot be served");
                entry.failures.insert(0, what);
                return Vec::new();
            }
        };
        entry.ensemble = resolved.ensemble.map(Arc::new);
        let mut versions = Vec::new();
        for (number, config) in resolved.versions {
            let known = served.iter().find(|model| model.version_number() == Some(number));
            match config.and_then(|config| self.model(&config, known)) {
                Ok(model) => versions.push(model),
                Err(what) => {
                    tracing::error!(model = %name, version = number, what, "version of a model cannot be served");
                    entry.failures.insert(number, what);
                    versions.extend(known.map(Arc::clone));
                }
            }
        }
        versions
    }

    fn resolve(
        &self,
        repository: &Repository,
        name: &Arc<str>,
        entry: &mut Entry,
    ) -> Result<Resolved, String> {
        let folder = entry.source.folder(&repository.path, name)?;
        let folder = folder.ok_or(POLL_FAILED)?;
        entry.stamp = folder.stamp()?.0;
        let origin = Origin { repository: &entry.repository, name, engine: &self.config.engine };
        resolve(&origin, &folder, &entry.source)
    }
}

/// Whether a model's folder is as it was when it was last tried; or is just being written,
/// which is waited for.
fn is_still(repository: &Repository, name: &str, before: Option<&Entry>, source: &Source) -> bool {
    let Some(before) = before else { return false };
    match Folder::open(&repository.path, name).and_then(|folder| folder.map(|it| it.stamp()).transpose()) {
        Ok(Some((stamp, quiet))) => {
            (stamp == before.stamp && before.source == *source) || quiet < watch::DEBOUNCE
        }
        _ => false,
    }
}
