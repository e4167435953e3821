//! Versions of what is served, by name.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Ensemble, Model, Pipeline, Snapshot, Stages};
use crate::config::defaults::MODEL_VERSION;
use crate::error::{Error, Kind, Result};
use crate::observe::Statistics;

impl Pipeline {
    /// Its versions, ascending, with what is counted for each. Only an ensemble can have others
    /// than `1`.
    pub(super) fn counted(&self) -> Vec<(&str, &Statistics)> {
        match &self.stages {
            Stages::Ensemble(ensemble) => {
                ensemble.versions.iter().map(|one| (&*one.version, &*one.statistics)).collect()
            }
            _ => vec![(MODEL_VERSION, self.metrics.statistics())],
        }
    }

    /// Its versions, ascending.
    pub fn versions(&self) -> Vec<&str> {
        self.counted().into_iter().map(|(version, _)| version).collect()
    }

    /// Its latest version.
    pub fn version(&self) -> &str {
        match &self.stages {
            Stages::Ensemble(ensemble) => &ensemble.version(None).version,
            _ => MODEL_VERSION,
        }
    }
}

impl Snapshot {
    /// A version of a model, if it is served.
    pub fn model_version(&self, name: &str, version: &str) -> Option<&Arc<Model>> {
        match self.versions.get(name) {
            Some(versions) => versions.iter().find(|model| model.config().version == version),
            None => self.models.get(name).filter(|model| model.config().version == version),
        }
    }

    /// All models with all their versions.
    pub fn all_models(&self) -> impl Iterator<Item = &Arc<Model>> {
        let single = self.models.iter().filter(|(name, _)| !self.versions.contains_key(*name));
        single.map(|(_, model)| model).chain(self.versions.values().flatten())
    }

    /// The versions that are served under a name, ascending; none for an unknown name.
    pub fn versions_of(&self, name: &str) -> Vec<&str> {
        if let Some(pipeline) = self.pipelines.get(name) {
            return pipeline.versions();
        }
        match (self.versions.get(name), self.models.get(name)) {
            (Some(versions), _) => versions.iter().map(|model| &*model.config().version).collect(),
            (None, Some(model)) => vec![&model.config().version],
            (None, None) => Vec::new(),
        }
    }

    /// A model, or a version of it; the latest if none is named.
    ///
    /// # Errors
    /// [`Kind::NotFound`] for a name or version that is not served.
    pub fn model(&self, name: &str, version: Option<&str>) -> Result<&Arc<Model>> {
        let found = match version.filter(|version| !version.is_empty()) {
            Some(version) => self.model_version(name, version),
            None => self.models.get(name),
        };
        found.ok_or_else(|| unknown(name, version))
    }

    /// The configuration of a model or pipeline as Triton shows it, with every default.
    ///
    /// # Errors
    /// [`Kind::NotFound`].
    pub fn triton_config(&self, name: &str, version: Option<&str>) -> Result<serde_json::Value> {
        let Some(pipeline) = self.pipelines.get(name) else {
            return self.model(name, version).map(|model| model.triton_config());
        };
        if version.is_some_and(|version| !version.is_empty() && !pipeline.versions().contains(&version)) {
            return Err(unknown(name, version));
        }
        Ok(super::repository::piped::completed(name, pipeline))
    }

    /// The ensembles that are served.
    pub(super) fn ensembles(&self) -> BTreeMap<Arc<str>, Arc<Ensemble>> {
        let ensembles = self.pipelines.iter().filter_map(|(name, pipeline)| match &pipeline.stages {
            Stages::Ensemble(ensemble) => Some((Arc::clone(name), Arc::clone(ensemble))),
            _ => None,
        });
        ensembles.collect()
    }

    pub(super) fn serves_versions_like(&self, other: &Self) -> bool {
        let same = |(name, versions): (&Arc<str>, &Vec<Arc<Model>>)| {
            other.versions.get(name).is_some_and(|old| {
                old.len() == versions.len()
                    && old.iter().zip(versions).all(|(old, new)| Arc::ptr_eq(old, new))
            })
        };
        self.versions.len() == other.versions.len() && self.versions.iter().all(same)
    }
}

/// The answer to a name or version that is not served, as Triton words it.
pub(super) fn unknown(name: &str, version: Option<&str>) -> Error {
    let shown = |text: &str| text.chars().take(128).collect::<String>();
    let version = version.filter(|version| !version.is_empty());
    let version = version.map_or_else(String::new, |version| format!(" version {}", shown(version)));
    Error::new(Kind::NotFound, format!("Request for unknown model: '{}'{version} is not found", shown(name)))
}
