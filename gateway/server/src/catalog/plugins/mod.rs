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
//! | `room` | which version goes where a plugin has as many as it may |
//! | `trial` | a version's sample cases, before it may serve |
//! | `moves` | activate, roll back, retire, remove |
//! | `traffic` | splits and shadows |
//! | `bake` | watches new versions, and takes back those that fail |
//! | `refusals` | what was refused, in the audit log |
//! | `knocks` | the same of what no handler has seen, and reloads |
//! | `now` | what is under way, for operators |
//! | `past` | what versions wrote that were let go |
//! | `view` | what the admin API shows |

mod actor;
mod bake;
mod knocks;
mod moves;
mod now;
mod past;
mod refusals;
mod room;
mod traffic;
mod trial;
mod upload;
pub mod view;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

pub use actor::Actor;
pub use knocks::Knock;
pub use upload::{Upload, Uploaded};

use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::build::Loads;
use super::store::{AuditEntry, Change, Store, StoreError};
use super::verify::Queue;
use super::{Builder, Built, Catalog, LoadedPlugin, Turns};
use crate::error::{Error, Kind, Result};
use crate::observe::Metrics;
use bake::Bake;
use refusals::Refusals;

/// Changes of one token that load versions at a time: each has a thread meanwhile. More
/// wait for those before them; changes that load nothing do not.
const LOADING_PER_TOKEN_MAX: usize = 2;

/// The lifecycle of one gateway's plugins.
pub struct Plugins {
    builder: Arc<Builder>,
    catalog: Arc<Catalog>,
    metrics: Arc<Metrics>,
    /// What changes the snapshot takes turns: a reload, and every change here.
    turns: Arc<Turns>,
    /// Uploads that are not acknowledged yet, and how far they are.
    under_way: Mutex<BTreeMap<(String, String), upload::Progress>>,
    /// Versions that got traffic a short time ago.
    baking: Mutex<Vec<Bake>>,
    /// Plugins that the gateway has just rolled back by itself.
    taken_back: Mutex<BTreeMap<String, Instant>>,
    /// Who loads versions, by the names of tokens.
    loading: Mutex<BTreeMap<Arc<str>, Arc<Semaphore>>>,
    refusals: Refusals,
    past: past::PastLogs,
    /// Who tries a new version: its sample cases compute beside everybody's requests, so one
    /// at a time, owners in turn.
    trials: Arc<Queue>,
    /// Of those who did not get past the door.
    turned_away: Refusals,
}

/// What is to be changed.
struct Wanted {
    action: &'static str,
    plugin: String,
    /// For the audit line.
    target: String,
    /// Whether versions that the change brings in are loaded for it. What brings none in
    /// waits for nothing.
    loads: bool,
    /// Whether its refusal was written down the last time.
    is_again: bool,
}

impl Wanted {
    fn at_once(action: &'static str, plugin: &str, target: String) -> Self {
        Self { action, plugin: plugin.to_owned(), target, loads: false, is_again: false }
    }

    fn with_loading(action: &'static str, plugin: &str, target: String) -> Self {
        Self { loads: true, ..Self::at_once(action, plugin, target) }
    }
}

/// What a change did, for its audit line, and what it means for who is watched.
struct Effect {
    from: Option<String>,
    to: Option<String>,
    bakes: Bakes,
}

/// Which versions of the plugin are watched from now on.
enum Bakes {
    /// The same as before.
    Keep,
    /// These as well, from the beginning.
    Watch(Vec<String>),
    /// Not this one any more: it is taken back.
    Taken {
        version: String,
        /// Whether it was the one that serves: then a rollback has happened.
        was_active: bool,
    },
    /// Not what somebody has left by hand, unless it still gets requests, nor what he went
    /// back to.
    Left { from: Option<String>, to: Option<String> },
}

impl Plugins {
    /// The lifecycle over a catalog. `turns` is shared with whatever else swaps snapshots.
    pub fn new(
        builder: Arc<Builder>,
        catalog: Arc<Catalog>,
        metrics: Arc<Metrics>,
        turns: Arc<Turns>,
    ) -> Arc<Self> {
        Arc::new(Self {
            builder,
            catalog,
            metrics,
            turns,
            under_way: Mutex::default(),
            baking: Mutex::default(),
            taken_back: Mutex::default(),
            loading: Mutex::default(),
            refusals: Refusals::of_tokens(),
            past: past::PastLogs::default(),
            trials: Queue::new(1, upload::UPLOADS_MAX),
            turned_away: Refusals::at_the_door(),
        })
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
    /// was nothing to do; it is asked again where it was asked to prepare.
    ///
    /// Not cancelled with its caller: once begun, a change ends, with everything that
    /// follows from it.
    async fn change<F>(self: &Arc<Self>, actor: &Actor, wanted: Wanted, decide: F) -> Result<Option<Effect>>
    where
        F: Fn(&mut Change) -> Result<Option<Effect>, StoreError> + Send + 'static,
    {
        let store = Arc::clone(self.store()?);
        let (this, actor) = (Arc::clone(self), actor.clone());
        if !wanted.loads {
            let turn = self.turns.swap_soon().await;
            let work = move || {
                let _turn = turn;
                let outcome = this.try_change(&store, &actor, &wanted, &decide, None);
                this.note_end(&store, &actor, &wanted, outcome)
            };
            return tokio::task::spawn_blocking(work).await.unwrap_or_else(|_| Err(panicked()));
        }
        let place = self.place_to_load(&actor.identity.name).acquire_owned().await.map_err(|_| panicked())?;
        let work = move || {
            let _place = place;
            let outcome = this.prepare(&store, &actor, &wanted, &decide).and_then(|prepared| {
                let Some(prepared) = prepared else { return Ok(None) };
                let _turn = this.turns.swap();
                this.try_change(&store, &actor, &wanted, &decide, Some(&prepared))
            });
            this.note_end(&store, &actor, &wanted, outcome)
        };
        tokio::task::spawn_blocking(work).await.unwrap_or_else(|_| Err(panicked()))
    }

    fn place_to_load(&self, token: &Arc<str>) -> Arc<Semaphore> {
        let mut loading = self.loading.lock().unwrap_or_else(PoisonError::into_inner);
        // Whoever loads nothing now needs no entry.
        loading.retain(|_, places| Arc::strong_count(places) > 1);
        let new = || Arc::new(Semaphore::new(LOADING_PER_TOKEN_MAX));
        Arc::clone(loading.entry(Arc::clone(token)).or_insert_with(new))
    }

    /// Loads what a change brings in, beside whatever else happens. Nothing if there is
    /// nothing to do.
    fn prepare(
        &self,
        store: &Store,
        actor: &Actor,
        wanted: &Wanted,
        decide: &impl Fn(&mut Change) -> Result<Option<Effect>, StoreError>,
    ) -> Result<Option<Built>> {
        let mut change = Change::on(&store.snapshot());
        if decide(&mut change)?.is_none() {
            return Ok(None);
        }
        let current = self.catalog.snapshot();
        let changed = changed(&change, wanted);
        let built = self.builder.rebuild(&current, change.state(), &changed, None, Loads::Uploads);
        built.map(Some).map_err(|error| self.misfit(actor, &current, &error))
    }

    /// Call it with the turn to swap.
    fn try_change(
        &self,
        store: &Store,
        actor: &Actor,
        wanted: &Wanted,
        decide: &impl Fn(&mut Change) -> Result<Option<Effect>, StoreError>,
        prepared: Option<&Built>,
    ) -> Result<Option<Effect>> {
        let Wanted { action, target, plugin, .. } = wanted;
        let mut change = Change::on(&store.snapshot());
        let Some(effect) = decide(&mut change)? else { return Ok(None) };
        let current = self.catalog.snapshot();
        let (changed, prepared) = (changed(&change, wanted), prepared.map(Built::snapshot));
        let built = self.builder.rebuild(&current, change.state(), &changed, prepared, Loads::Active);
        let built = built.map_err(|error| self.misfit(actor, &current, &error))?;
        let (from, to) = (effect.from.clone(), effect.to.clone());
        store.commit(change, actor.audit(action, target, from, to, "ok"))?;
        built.commit(&self.catalog, &self.metrics);
        self.past.keep(&current, &self.catalog.snapshot(), &changed);
        self.follow(plugin, &effect.bakes);
        self.metrics.plugin_change(wanted.action, "ok");
        let (from, to) = (effect.from.as_deref(), effect.to.as_deref());
        tracing::info!(action, target, from, to, actor = &*actor.identity.name, "plugins changed");
        Ok(Some(effect))
    }

    fn note_end<T>(&self, store: &Store, actor: &Actor, wanted: &Wanted, outcome: Result<T>) -> Result<T> {
        if let Err(error) = outcome.as_ref()
            && !wanted.is_again
        {
            self.note_refusal(store, actor, wanted.action, &wanted.target, error);
        }
        outcome
    }

    /// Forgets the metrics of versions that are not loaded.
    fn keep_metrics(&self) {
        let snapshot = self.catalog.snapshot();
        self.metrics.keep_plugins(snapshot.counted());
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

/// The plugins whose versions a change touches.
fn changed(change: &Change, wanted: &Wanted) -> BTreeSet<Arc<str>> {
    let own = Arc::from(wanted.plugin.as_str());
    change.plugins().into_iter().chain([own]).collect()
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
