//! What there is to serve, and in which state: Triton's repository index.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::{Entry, layout};
use crate::catalog::Snapshot;
use crate::config::ModelControl;

/// The state of a version of a model, by Triton's names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ModelState {
    /// It takes requests.
    Ready,
    /// It does not; the reason says why.
    Unavailable,
    /// It is being loaded.
    Loading,
    /// Requests that began with it are still under way.
    Unloading,
}

impl ModelState {
    /// Triton's name of it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "READY",
            Self::Unavailable => "UNAVAILABLE",
            Self::Loading => "LOADING",
            Self::Unloading => "UNLOADING",
        }
    }
}

/// A row of the index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndexEntry {
    /// The model.
    pub name: Arc<str>,
    /// Its version; empty for a model as a whole.
    pub version: String,
    /// None for a model that nobody has loaded yet.
    pub state: Option<ModelState>,
    /// Why it is in that state, if there is something to say.
    pub reason: String,
}

/// Models that are on their way in or out.
#[derive(Debug, Default)]
pub(super) struct UnderWay {
    pub(super) loading: BTreeSet<Arc<str>>,
    pub(super) unloading: BTreeSet<(Arc<str>, String)>,
}

/// The index of one repository, or of everything that is served. Blocks on the folders.
pub(super) fn index(snapshot: &Snapshot, repository: Option<&str>, under_way: &UnderWay) -> Vec<IndexEntry> {
    let mut rows = Vec::new();
    let asked =
        snapshot.config.repositories.iter().filter(|(name, _)| repository.is_none_or(|it| it == &***name));
    let mut seen: BTreeSet<Arc<str>> = BTreeSet::new();
    for (repository_name, settings) in asked {
        let listed = match settings.control {
            // Whatever is there can be loaded.
            ModelControl::Explicit => layout::list(&settings.path).unwrap_or_default(),
            _ => Vec::new(),
        };
        let served = snapshot.repositories.iter().filter(|(_, entry)| entry.repository == *repository_name);
        let mut names: BTreeMap<Arc<str>, Option<&Entry>> =
            listed.into_iter().map(|name| (Arc::from(name), None)).collect();
        names.extend(served.map(|(name, entry)| (Arc::clone(name), Some(entry))));
        for (name, entry) in names.into_iter().filter(|(name, _)| seen.insert(Arc::clone(name))) {
            of_model(snapshot, &name, entry, under_way, &mut rows);
        }
    }
    if repository.is_none() {
        own(snapshot, &seen, &mut rows);
    }
    rows
}

fn of_model(
    snapshot: &Snapshot,
    name: &Arc<str>,
    entry: Option<&Entry>,
    under_way: &UnderWay,
    rows: &mut Vec<IndexEntry>,
) {
    let mut found: Vec<(String, Option<ModelState>, &str)> = Vec::new();
    let mut shown = BTreeSet::new();
    let mut stays = Vec::new();
    let served = snapshot.versions.get(name).map_or(&[][..], Vec::as_slice);
    for model in served {
        let failure = entry.and_then(|entry| {
            let of_version = model.version_number().and_then(|number| entry.failures.get(&number));
            of_version.or_else(|| entry.failures.get(&0))
        });
        stays.push(failure.map(|what| format!("what was loaded before is served: {what}")));
    }
    for (model, stays) in served.iter().zip(&stays) {
        let version = &model.config().version;
        let (state, reason) = match model.is_ready() {
            true => (ModelState::Ready, stays.as_deref().unwrap_or_default()),
            false => (ModelState::Unavailable, "its instances are gone"),
        };
        shown.insert(version.clone());
        found.push((version.clone(), Some(state), reason));
    }
    let ensemble = entry.is_some_and(|entry| entry.ensemble.is_some()).then(|| snapshot.pipelines.get(name));
    for version in ensemble.flatten().iter().flat_map(|ensemble| ensemble.versions()) {
        shown.insert(version.to_owned());
        found.push((version.to_owned(), Some(ModelState::Ready), ""));
    }
    for (_, version) in under_way.unloading.iter().filter(|(leaving, _)| leaving == name) {
        if shown.insert(version.clone()) {
            found.push((version.clone(), Some(ModelState::Unloading), ""));
        }
    }
    let is_loading = under_way.loading.contains(name);
    for (version, what) in entry.into_iter().flat_map(|entry| &entry.failures).filter(|_| !is_loading) {
        let version = if *version == 0 { String::new() } else { version.to_string() };
        let is_shown = if version.is_empty() { !shown.is_empty() } else { shown.contains(&version) };
        if !is_shown {
            shown.insert(version.clone());
            found.push((version, Some(ModelState::Unavailable), what));
        }
    }
    for version in entry.into_iter().flat_map(|entry| &entry.unloaded).filter(|_| !is_loading) {
        if shown.insert(version.to_string()) {
            found.push((version.to_string(), Some(ModelState::Unavailable), "unloaded"));
        }
    }
    if found.is_empty() {
        found.push((String::new(), is_loading.then_some(ModelState::Loading), ""));
    }
    rows.extend(found.into_iter().map(|(version, state, reason)| IndexEntry {
        name: Arc::clone(name),
        version,
        state,
        reason: reason.to_owned(),
    }));
}

/// The models and pipelines of the configuration.
fn own(snapshot: &Snapshot, seen: &BTreeSet<Arc<str>>, rows: &mut Vec<IndexEntry>) {
    let mut add = |name: &Arc<str>, version: &str, is_ready: bool| {
        let (state, reason) = match is_ready {
            true => (ModelState::Ready, ""),
            false => (ModelState::Unavailable, "not ready"),
        };
        let (name, version, reason) = (Arc::clone(name), version.to_owned(), reason.to_owned());
        rows.push(IndexEntry { name, version, state: Some(state), reason });
    };
    for (name, latest) in snapshot.models.iter().filter(|(name, _)| !seen.contains(*name)) {
        match snapshot.versions.get(name) {
            Some(versions) => versions.iter().for_each(|it| add(name, &it.config().version, it.is_ready())),
            None => add(name, &latest.config().version, latest.is_ready()),
        }
    }
    for (name, pipeline) in snapshot.pipelines.iter().filter(|(name, _)| !seen.contains(*name)) {
        pipeline.versions().iter().for_each(|version| add(name, version, pipeline.is_ready()));
    }
}
