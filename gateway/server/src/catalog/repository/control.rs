//! Loading and unloading while the gateway runs. Each change is the next snapshot, built
//! beside the one that serves and swapped whole: no request fails, and what fails to load
//! leaves what is served as it was.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use super::index::{IndexEntry, ModelState, UnderWay, index};
use super::overrides::{FileOverrides, Held};
use super::{Change, Source};
use crate::catalog::{Builder, Catalog, Model, Snapshot, Turns};
use crate::config::{Config, ModelControl};
use crate::error::{Error, Kind, Result};

/// What a request may say about a load.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LoadParameters {
    /// The model's configuration as JSON, in place of its `config.pbtxt`.
    pub config: Option<String>,
    /// The model's files, by their paths below its folder, in place of all that is there.
    pub files: Vec<(String, Vec<u8>)>,
}

/// Models that were served by a snapshot before, by name and version.
type Leaving = Vec<(Arc<str>, String, Weak<Model>)>;

/// Loads and unloads models of repositories.
pub struct Repositories {
    builder: Arc<Builder>,
    catalog: Arc<Catalog>,
    /// Shared with whatever else swaps snapshots.
    turns: Arc<Turns>,
    held: Held,
    loading: Mutex<BTreeSet<Arc<str>>>,
    leaving: Mutex<Leaving>,
}

/// Why a change ends without a swap.
enum Stop {
    /// There is nothing to change.
    Nothing,
    Refused(Error),
}

/// A model is being loaded until this is dropped.
struct Loading(Arc<Repositories>, Arc<str>);

impl Drop for Loading {
    fn drop(&mut self) {
        self.0.loading.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.1);
    }
}

impl Repositories {
    /// Control over the models of a catalog. `turns` is shared with whatever else swaps
    /// snapshots.
    pub fn new(builder: &Arc<Builder>, catalog: &Arc<Catalog>, turns: &Arc<Turns>) -> Arc<Self> {
        let (loading, leaving) = (Mutex::default(), Mutex::default());
        let (builder, catalog, turns) = (Arc::clone(builder), Arc::clone(catalog), Arc::clone(turns));
        Arc::new(Self { builder, catalog, turns, held: Held::default(), loading, leaving })
    }

    /// What there is, and in which state: of one repository if it is named, else of
    /// everything that is served; if `ready_only`, without what cannot take requests.
    ///
    /// # Errors
    /// [`Kind::NotFound`] for a repository that is not configured.
    pub async fn index(&self, repository: Option<&str>, ready_only: bool) -> Result<Vec<IndexEntry>> {
        let snapshot = self.catalog.snapshot();
        let repository = repository.filter(|name| !name.is_empty()).map(str::to_owned);
        if let Some(name) =
            repository.as_deref().filter(|name| !snapshot.config.repositories.contains_key(*name))
        {
            let shown: String = name.chars().take(128).collect();
            return Err(Error::new(Kind::NotFound, format!("there is no repository '{shown}'")));
        }
        let under_way = self.under_way();
        let work = move || index(&snapshot, repository.as_deref(), &under_way);
        let mut rows = tokio::task::spawn_blocking(work).await.map_err(|_| internal("the index panicked"))?;
        rows.retain(|row| !ready_only || row.state == Some(ModelState::Ready));
        Ok(rows)
    }

    /// Loads a model, or loads it again, and waits until it is served.
    ///
    /// # Errors
    /// [`Kind::ModelUnavailable`] where requests load nothing; [`Kind::NotFound`] for a model
    /// that no repository has; [`Kind::BadRequest`] with the reason why it cannot be served:
    /// what was served before still is.
    pub async fn load(self: &Arc<Self>, name: &str, parameters: LoadParameters) -> Result<()> {
        check_control(&self.catalog.snapshot().config)?;
        let shown: String = name.chars().take(128).collect();
        let missing = || {
            let message = format!("failed to load '{shown}', failed to poll from model repository");
            Error::new(Kind::NotFound, message)
        };
        if sluice_tensor::check_name(name).is_err() {
            return Err(missing());
        }
        let name: Arc<str> = name.into();
        self.loading.lock().unwrap_or_else(PoisonError::into_inner).insert(Arc::clone(&name));
        let loading = Loading(Arc::clone(self), Arc::clone(&name));
        let source = self.source(&name, parameters).await?;
        let change = Change::Load { name: Arc::clone(&name), source };
        let plan = move |snapshot: &Snapshot| -> Result<Option<Change>> {
            check_control(&snapshot.config)?;
            let Change::Load { name, .. } = &change else { return Ok(None) };
            match snapshot.repositories.get(name) {
                Some(entry) if !is_explicit(&snapshot.config, &entry.repository) => Err(not_allowed()),
                _ => Ok(Some(change.clone())),
            }
        };
        let next = self.change(plan, Some(loading)).await?;
        let is_tried =
            |snapshot: &Snapshot| snapshot.repositories.get(&name).filter(|it| !it.is_unloaded).cloned();
        let Some(entry) = is_tried(&next) else { return Err(missing()) };
        if entry.failures.is_empty() {
            tracing::info!(model = %name, versions = ?entry.versions, "model loaded");
            return Ok(());
        }
        if entry.failures.get(&0).is_some_and(|what| what.starts_with(POLL_FAILED)) {
            return Err(missing());
        }
        if let Some(what) = entry.failures.get(&0) {
            // Nothing was tried: the configuration is none.
            return Err(Error::new(Kind::BadRequest, format!("failed to load '{name}': {what}")));
        }
        let failures = entry.failures.iter();
        let reasons =
            failures.map(|(version, what)| format!("version {version} is at UNAVAILABLE state: {what};"));
        let reasons: String = reasons.collect::<Vec<_>>().join(" ");
        Err(Error::new(Kind::BadRequest, format!("load failed for model '{name}': {reasons}")))
    }

    /// What a request brings.
    async fn source(&self, name: &Arc<str>, parameters: LoadParameters) -> Result<Source> {
        let LoadParameters { config, files } = parameters;
        if files.is_empty() {
            return Ok(Source { config: config.map(Into::into), files: None });
        }
        if config.is_none() {
            let message = "parameter 'config' is needed with files: nothing of the model's folder is read";
            return Err(Error::new(Kind::BadRequest, message));
        }
        let (name, held) = (Arc::clone(name), self.held.clone());
        let work = move || FileOverrides::write(&name, &files, &held);
        let written = tokio::task::spawn_blocking(work).await.map_err(|_| internal("writing panicked"))??;
        Ok(Source { config: config.map(Into::into), files: Some(Arc::new(written)) })
    }

    /// Unloads a model. Requests that began with it are answered; a model that is not loaded
    /// is no error.
    ///
    /// # Errors
    /// [`Kind::ModelUnavailable`] where requests unload nothing; [`Kind::InUse`] if a pipeline
    /// or plugin of the configuration needs it.
    pub async fn unload(self: &Arc<Self>, name: &str, dependents: bool) -> Result<()> {
        check_control(&self.catalog.snapshot().config)?;
        let asked = name.to_owned();
        self.change(move |snapshot| plan_unload(snapshot, &asked, dependents), None).await?;
        tracing::info!(model = name, dependents, "model unloaded");
        Ok(())
    }

    /// How often to look for changes, if that is what loads models.
    pub fn poll_interval(&self) -> Option<Duration> {
        let snapshot = self.catalog.snapshot();
        let repositories = snapshot.config.repositories.values();
        repositories.filter(|it| it.control == ModelControl::Poll).map(|it| it.poll).min()
    }

    /// Looks for changes of the repositories that are polled, and serves them.
    pub async fn poll(self: &Arc<Self>) {
        if let Err(error) = self.change(|_| Ok(Some(Change::Poll)), None).await {
            tracing::error!(error = %error, detail = error.detail().unwrap_or(""), "repositories cannot be looked at");
        }
    }

    /// Builds the next snapshot and swaps it in, unless it is the same. What is to change is
    /// decided by `plan`, from what is served when the change is built.
    ///
    /// A change that has begun ends, also when its caller has left: the next one must not
    /// begin to build beside it.
    async fn change<P>(self: &Arc<Self>, plan: P, loading: Option<Loading>) -> Result<Arc<Snapshot>>
    where
        P: Fn(&Snapshot) -> Result<Option<Change>> + Send + 'static,
    {
        let turn = self.turns.load().await;
        let own = Arc::clone(self);
        let work = move || {
            let _held = (turn, loading);
            own.change_in_turn(plan)
        };
        tokio::task::spawn_blocking(work).await.unwrap_or_else(|_| Err(internal("the change panicked")))
    }

    fn change_in_turn(&self, plan: impl Fn(&Snapshot) -> Result<Option<Change>>) -> Result<Arc<Snapshot>> {
        let build = |current: &Snapshot, prepared: Option<&Snapshot>| {
            let change = plan(current).map_err(Stop::Refused)?.ok_or(Stop::Nothing)?;
            self.builder.build_models(current, &change, prepared).map_err(|error| {
                let message = "something that is configured needs the model, or cannot be served with it";
                Stop::Refused(Error::new(Kind::InUse, message).with_detail(error.to_string()))
            })
        };
        let swapped = self.turns.build_and_swap(&self.catalog, build, |built, current| {
            let before = self.catalog.snapshot();
            if !built.changes_nothing(current) {
                built.commit(&self.catalog, &self.builder.metrics);
            }
            (before, self.catalog.snapshot())
        });
        match swapped {
            Ok((before, next)) => {
                self.note_leaving(&before, &next);
                Ok(next)
            }
            Err(Stop::Nothing) => Ok(self.catalog.snapshot()),
            Err(Stop::Refused(error)) => Err(error),
        }
    }

    fn note_leaving(&self, old: &Snapshot, new: &Snapshot) {
        let mut leaving = self.leaving.lock().unwrap_or_else(PoisonError::into_inner);
        leaving.retain(|(_, _, model)| model.strong_count() > 0);
        for (name, model) in
            old.versions.iter().flat_map(|(name, versions)| versions.iter().map(move |it| (name, it)))
        {
            let version = &model.config().version;
            let stays = new.model_version(name, version).is_some_and(|it| Arc::ptr_eq(it, model));
            if !stays {
                leaving.push((Arc::clone(name), version.clone(), Arc::downgrade(model)));
            }
        }
    }

    fn under_way(&self) -> UnderWay {
        let loading = self.loading.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let leaving = self.leaving.lock().unwrap_or_else(PoisonError::into_inner);
        let there = leaving.iter().filter(|(_, _, model)| model.strong_count() > 0);
        let unloading = there.map(|(name, version, _)| (Arc::clone(name), version.clone())).collect();
        UnderWay { loading, unloading }
    }
}

/// What a request to unload a model is about; nothing if it is not there. With an ensemble
/// may go the models that only it runs, as far as requests may unload those.
fn plan_unload(snapshot: &Snapshot, name: &str, dependents: bool) -> Result<Option<Change>> {
    check_control(&snapshot.config)?;
    let Some((name, entry)) = snapshot.repositories.get_key_value(name) else { return Ok(None) };
    if !is_explicit(&snapshot.config, &entry.repository) {
        return Err(not_allowed());
    }
    let mut names = vec![Arc::clone(name)];
    if let Some(ensemble) = entry.ensemble.as_ref().filter(|_| dependents) {
        let may_go = |model: &&Arc<str>| {
            let entry = snapshot.repositories.get(*model);
            let is_open = entry.is_some_and(|entry| is_explicit(&snapshot.config, &entry.repository));
            is_open && !is_needed(snapshot, model, name)
        };
        names.extend(ensemble.steps.iter().map(|step| &step.model).filter(may_go).map(Arc::clone));
    }
    Ok(Some(Change::Unload { names }))
}

/// Whether another ensemble than `but` runs a model.
fn is_needed(snapshot: &Snapshot, model: &str, but: &Arc<str>) -> bool {
    let others = snapshot.repositories.iter().filter(|(name, _)| *name != but);
    let mut ensembles =
        others.filter_map(|(_, entry)| entry.ensemble.as_ref().filter(|_| !entry.is_unloaded));
    ensembles.any(|ensemble| ensemble.steps.iter().any(|step| *step.model == *model))
}

/// The failure of a model whose folder is not there.
pub(in crate::catalog) const POLL_FAILED: &str = "failed to poll from model repository";

/// Whether requests load anything at all.
fn check_control(config: &Config) -> Result<()> {
    let is_explicit = config.repositories.values().any(|it| it.control == ModelControl::Explicit);
    if is_explicit { Ok(()) } else { Err(not_allowed()) }
}

fn is_explicit(config: &Config, repository: &str) -> bool {
    config.repositories.get(repository).is_some_and(|it| it.control == ModelControl::Explicit)
}

/// In Triton's words.
fn not_allowed() -> Error {
    Error::new(Kind::ModelUnavailable, "explicit model load / unload is not allowed if polling is enabled")
}

fn internal(what: &str) -> Error {
    Error::new(Kind::Internal, "internal error").with_detail(what)
}
