//! What is under way: uploads, versions that are watched, and what is wrong with the store.

use std::sync::PoisonError;

use serde::Serialize;

use super::Plugins;
use super::bake::BakeCounts;

/// Something about the registry that the operator should know.
#[derive(Debug, Serialize)]
pub struct ProblemView {
    /// Where: `versions/rank/2`, or a file of the state directory.
    pub place: String,
    /// What is wrong and what was done about it.
    pub what: String,
}

/// An upload that is not acknowledged yet.
#[derive(Debug, Serialize)]
pub struct UploadView {
    /// The plugin.
    pub plugin: String,
    /// Its version.
    pub version: String,
    /// How far it is.
    pub state: String,
    /// The token that brings it.
    pub uploaded_by: String,
    /// When it began, RFC 3339.
    pub started_at: String,
}

/// A version that got traffic a short time ago.
#[derive(Debug, Serialize)]
pub struct BakeView {
    /// The plugin.
    pub plugin: String,
    /// Its version.
    pub version: String,
    /// How it does.
    #[serde(flatten)]
    pub counts: BakeCounts,
}

impl Plugins {
    /// Whether the gateway keeps plugins at all.
    pub fn has_store(&self) -> bool {
        self.builder.store.is_some()
    }

    /// What is wrong with the registry; nothing without one.
    pub fn store_problems(&self) -> Vec<ProblemView> {
        let problems = self.builder.store.iter().flat_map(|store| store.problems());
        problems.map(|problem| ProblemView { place: problem.place, what: problem.what }).collect()
    }

    /// Uploads that are not acknowledged yet.
    pub fn uploads(&self) -> Vec<UploadView> {
        let under_way = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        let view =
            |((plugin, version), progress): (&(String, String), &super::upload::Progress)| UploadView {
                plugin: plugin.clone(),
                version: version.clone(),
                state: progress.state.to_string(),
                uploaded_by: progress.by.to_string(),
                started_at: progress.started_at.clone(),
            };
        under_way.iter().map(view).collect()
    }

    /// Versions that are being watched, and how they do.
    pub fn bakes(&self) -> Vec<BakeView> {
        let baking = self.baking.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let view = |bake: super::Bake| {
            let counts = self.counts(&bake)?;
            Some(BakeView { plugin: bake.plugin, version: bake.version, counts })
        };
        baking.into_iter().filter_map(view).collect()
    }
}
