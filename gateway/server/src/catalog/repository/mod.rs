//! Model repositories as Triton lays them out: which models there are, what became of each,
//! and their loading and unloading while the gateway runs.
//!
//! | piece | what it does |
//! |---|---|
//! | `layout` | finds models, versions and files below one folder, and nothing outside |
//! | `resolve` | a folder and its `config.pbtxt` to what the catalog serves; and back, for clients |
//! | `control` | loads, unloads, looks for changes: the next snapshot, swapped whole |
//! | `index` | what there is, and in which state |
//!
//! The models themselves are built in `catalog::build`, beside those of the configuration.

mod batching;
mod control;
mod index;
pub(super) mod layout;
pub(super) mod piped;
pub(super) mod resolve;
mod sequence;
pub(super) mod steps;

use std::collections::BTreeMap;
use std::sync::Arc;

pub use control::{LoadParameters, Repositories};
pub use index::{IndexEntry, ModelState};

pub(super) use control::POLL_FAILED;
pub(super) use resolve::Source;

/// What a model of a repository is, in one snapshot.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Entry {
    /// The repository.
    pub(super) repository: Arc<str>,
    /// The configuration that it was loaded with.
    pub(super) source: Source,
    /// What its folder looked like.
    pub(super) stamp: String,
    /// Versions that are served, ascending. None if it failed or was unloaded.
    pub(super) versions: Vec<u64>,
    /// What it is instead, if it is no model.
    pub(super) ensemble: Option<Arc<crate::config::Ensemble>>,
    /// Why versions are not served, or the last try to load them failed; 0 is the model as
    /// a whole.
    pub(super) failures: BTreeMap<u64, String>,
    /// Versions that were served until a request unloaded them.
    pub(super) unloaded: Vec<u64>,
    /// Whether a request unloaded it.
    pub(super) is_unloaded: bool,
}

impl Entry {
    pub(super) fn new(repository: Arc<str>, source: Source) -> Self {
        let (stamp, versions, failures, unloaded) = Default::default();
        let ensemble = None;
        Self { repository, source, stamp, versions, ensemble, failures, unloaded, is_unloaded: false }
    }
}

/// What is to change about repositories in the next snapshot.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Change {
    /// The configuration was read: folders that are new in it are loaded, those that are
    /// polled are looked at.
    Reload,
    /// Those that are polled are looked at.
    Poll,
    /// A request loads a model, or loads it again; with an ensemble the models that it needs.
    Load { name: Arc<str>, source: Source },
    /// A request unloads models.
    Unload { names: Vec<Arc<str>> },
}
