//! The life of plugins while the gateway runs: uploaded, checked, tried, activated,
//! split, shadowed, rolled back, retired, removed.
//!
//! Everything that changes what is served goes through [`Plugins::change`]: the change of
//! the registry is made, a snapshot that serves it is built, the registry is committed
//! (durable, with its audit line), the snapshot is swapped. Whatever fails before the
//! commit leaves everything as it was; a process that dies after it comes back with the
//! change. A request keeps the snapshot that it began with.
//!
//! | piece | what it does |
//! |---|---|
//! | `upload` | takes a component in and brings it to `ready` |
//! | `trial` | a version's sample cases, before it may serve |
//! | `moves` | activate, roll back, retire, remove |
//! | `traffic` | splits and shadows |
//! | `bake` | watches new versions, and takes back those that fail |
//! | `now` | what is under way, for operators |
//! | `view` | what the admin API shows |

mod actor;
mod bake;
mod moves;
mod now;
mod traffic;
mod trial;
mod upload;
pub mod view;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

pub use actor::Actor;
pub use upload::{Upload, Uploaded};

use super::store::{AuditEntry, Change, Store, StoreError};
use super::{Builder, Catalog, LoadedPlugin};
use crate::error::{Error, Kind, Result};
use crate::observe::Metrics;
use crate::wire_error::wire_error;
use bake::Bake;

/// The lifecycle of one gateway's plugins.
pub struct Plugins {
    builder: Arc<Builder>,
    catalog: Arc<Catalog>,
    metrics: Arc<Metrics>,
    /// What changes the snapshot takes turns: a reload, and every change here.
    turn: Arc<tokio::sync::Mutex<()>>,
    /// Uploads that are not acknowledged yet, and how far they are.
    under_way: Mutex<BTreeMap<(String, String), upload::Progress>>,
    /// Versions that got traffic a short time ago.
    baking: Mutex<Vec<Bake>>,
}

/// What a change did, for its audit line.
struct Effect {
    from: Option<String>,
    to: Option<String>,
}

impl Plugins {
    /// The lifecycle over a catalog. `turn` is shared with whatever else swaps snapshots.
    pub fn new(
        builder: Arc<Builder>,
        catalog: Arc<Catalog>,
        metrics: Arc<Metrics>,
        turn: Arc<tokio::sync::Mutex<()>>,
    ) -> Arc<Self> {
        let (under_way, baking) = (Mutex::default(), Mutex::default());
        Arc::new(Self { builder, catalog, metrics, turn, under_way, baking })
    }

    /// The registry.
    ///
    /// # Errors
    /// [`Kind::InUse`] without a state directory: the gateway keeps nothing then.
    pub fn store(&self) -> Result<&Arc<Store>> {
        let none =
            || Error::new(Kind::InUse, "this gateway keeps no plugins: set [state] dir in its configuration");
        self.builder.store.as_ref().ok_or_else(none)
    }

    /// Makes one change of what is served. `decide` gives what it did, or nothing if there
    /// was nothing to do.
    ///
    /// Not cancelled with its caller: once begun, a change ends.
    async fn change<F>(
        self: &Arc<Self>,
        actor: &Actor,
        action: &'static str,
        target: String,
        decide: F,
    ) -> Result<Option<Effect>>
    where
        F: FnOnce(&mut Change) -> Result<Option<Effect>, StoreError> + Send + 'static,
    {
        let store = Arc::clone(self.store()?);
        let (this, actor) = (Arc::clone(self), actor.clone());
        let turn = Arc::clone(&self.turn).lock_owned().await;
        let work = move || {
            let _turn = turn;
            let outcome = this.try_change(&store, &actor, action, &target, decide);
            this.note_refusal(&store, &actor, action, &target, outcome.as_ref().err());
            outcome
        };
        tokio::task::spawn_blocking(work).await.unwrap_or_else(|_| Err(panicked()))
    }

    fn try_change(
        &self,
        store: &Store,
        actor: &Actor,
        action: &'static str,
        target: &str,
        decide: impl FnOnce(&mut Change) -> Result<Option<Effect>, StoreError>,
    ) -> Result<Option<Effect>> {
        let mut change = Change::on(&store.snapshot());
        let Some(effect) = decide(&mut change)? else { return Ok(None) };
        let current = self.catalog.snapshot();
        let built = self.builder.rebuild(&current, change.state());
        let built = built.map_err(|error| self.misfit(actor, &current, &error))?;
        let (from, to) = (effect.from.clone(), effect.to.clone());
        store.commit(change, actor.audit(action, target, from, to, "ok"))?;
        built.commit(&self.catalog, &self.metrics);
        self.metrics.plugin_change(action, "ok");
        Ok(Some(effect))
    }

    /// A refusal is written down too: somebody tried.
    fn note_refusal(
        &self,
        store: &Store,
        actor: &Actor,
        action: &'static str,
        target: &str,
        error: Option<&Error>,
    ) {
        let Some(error) = error else { return };
        let code = wire_error(error.kind()).code;
        self.metrics.plugin_change(action, code);
        tracing::warn!(actor = &*actor.identity.name, action, target, code, error = %error, detail = error.detail(), "refused");
        if let Err(error) = store.note(actor.audit(action, target, None, None, code)) {
            tracing::error!(%error, "a refusal could not be written to the audit log");
        }
    }

    /// Forgets the metrics of versions that are not loaded.
    fn keep_metrics(&self) {
        let snapshot = self.catalog.snapshot();
        self.metrics.keep_plugins(|version| snapshot.has_loaded(version));
    }

    /// Reads the audit log: at most `limit` lines after the one with number `after`, or the
    /// newest.
    ///
    /// # Errors
    /// No state directory, or the disk.
    pub async fn audit(&self, after: Option<u64>, limit: usize) -> Result<Vec<super::store::AuditRecord>> {
        let store = Arc::clone(self.store()?);
        let read = move || match after {
            Some(after) => store.audit(after, limit),
            None => store.newest_audit(limit),
        };
        let lines = tokio::task::spawn_blocking(read).await;
        Ok(lines.map_err(|_| panicked())??)
    }

    /// A version that is loaded, for its log and its profile.
    fn loaded(&self, plugin: &str, version: &str) -> Option<Arc<LoadedPlugin>> {
        self.catalog.snapshot().plugins.get(plugin)?.versions.get(version).cloned()
    }
}

fn panicked() -> Error {
    Error::new(Kind::Internal, "internal error").with_detail("a change of a plugin panicked")
}

impl Actor {
    /// The audit line of something that this actor did.
    fn audit(
        &self,
        action: &str,
        target: &str,
        from: Option<String>,
        to: Option<String>,
        outcome: &str,
    ) -> AuditEntry {
        AuditEntry {
            actor: self.identity.name.to_string(),
            action: action.to_owned(),
            target: target.to_owned(),
            from,
            to,
            outcome: outcome.to_owned(),
            request_id: self.request_id.to_string(),
        }
    }
}
