//! A change of the registry: what is to be different, built on one snapshot and
//! committed whole. The moves of the plugin lifecycle are methods here, so that no
//! caller can leave one half out.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::error::{Result, StoreError};
use super::limits::{HISTORY_MAX, cut};
use super::records::{AuditEntry, PluginRecord, RouteRecord, VersionRecord, VersionState};
use super::state::{Key, RegistryState};
use super::tables::Table;
use super::{invariants, timestamp};

/// Records to put and to remove. Several moves may be made one after the other; each
/// sees those before it. Nothing happens until [`super::Store::commit`].
#[derive(Debug, Clone)]
pub struct Change {
    pub(super) base: Arc<RegistryState>,
    pub(super) next: RegistryState,
    pub(super) touched: BTreeSet<Key>,
    /// Audit lines beside the one of the commit.
    pub(super) notes: Vec<AuditEntry>,
    at: String,
}

impl Change {
    /// Starts with no difference to this snapshot.
    pub fn on(base: &Arc<RegistryState>) -> Self {
        Self {
            base: Arc::clone(base),
            next: RegistryState::clone(base),
            touched: BTreeSet::new(),
            notes: Vec::new(),
            at: timestamp::now(),
        }
    }

    /// What the registry would be after this change.
    pub fn state(&self) -> &RegistryState {
        &self.next
    }

    /// Whether nothing is different.
    pub fn is_empty(&self) -> bool {
        self.touched.is_empty()
    }

    /// The plugins of which something is different.
    pub fn plugins(&self) -> BTreeSet<Arc<str>> {
        let plugin = |key: &Key| match key {
            Key::Plugin(plugin) | Key::Version(plugin, _) | Key::Route(_, plugin) => {
                Some(Arc::from(plugin.as_str()))
            }
            Key::Quarantined(..) => None,
        };
        self.touched.iter().filter_map(plugin).collect()
    }

    /// Has an audit line of its own for something that this change does beside what it is
    /// for. It is durable with the change, in front of the change's own line.
    pub fn also(&mut self, note: AuditEntry) {
        self.notes.push(note);
    }

    /// The audit lines of [`Self::also`].
    pub fn notes(&self) -> &[AuditEntry] {
        &self.notes
    }

    /// Adds a version, and its plugin if that is new (it then belongs to the version's
    /// owner). Gives false, and changes nothing, if the version exists with the same
    /// digest; [`StoreError::DigestConflict`] if it exists with another;
    /// [`StoreError::OtherOwner`] if the plugin is not the version's owner's.
    ///
    /// A new version may be in any state up to `ready`. Its blob must be stored by the
    /// time of the commit.
    pub fn add_version(&mut self, record: VersionRecord) -> Result<bool> {
        if let Some(existing) = self.next.version(&record.plugin, &record.version) {
            if existing.digest == record.digest {
                return Ok(false);
            }
            return Err(StoreError::DigestConflict { plugin: record.plugin, version: record.version });
        }
        match self.next.plugin(&record.plugin) {
            Some(plugin) if plugin.owner != record.owner => return Err(StoreError::OtherOwner),
            _ => invariants::check_share(&self.next, &record)?,
        }
        if self.next.plugin(&record.plugin).is_none() {
            self.put_plugin(PluginRecord {
                name: record.plugin.clone(),
                owner: record.owner.clone(),
                active: None,
                history: Vec::new(),
                updated_at: String::new(),
            })?;
        }
        self.put_version(record)?;
        Ok(true)
    }

    /// Moves a version on in its life. The active version is not moved like this: it
    /// has to be rolled back or replaced first ([`StoreError::InUse`]), and a version
    /// in a split or shadow may only stay servable.
    pub fn advance(
        &mut self,
        plugin: &str,
        version: &str,
        to: VersionState,
        reason: Option<String>,
    ) -> Result<()> {
        let used = if to.is_servable() { None } else { self.next.routed_by(plugin, version) };
        let is_active = self.next.plugin(plugin).is_some_and(|it| it.active.as_deref() == Some(version));
        if let Some(used) = if is_active { Some("active".to_owned()) } else { used } {
            return Err(StoreError::InUse { version: version.to_owned(), used });
        }
        if to == VersionState::Active {
            return self.activate(plugin, version).map(drop);
        }
        self.enter(plugin, version, to, reason)?;
        if matches!(to, VersionState::Retired | VersionState::Failed) {
            self.forget(plugin, version)?;
        }
        Ok(())
    }

    /// Changes what is known about a version: its facts, its signature, its samples.
    pub fn edit_version(
        &mut self,
        plugin: &str,
        version: &str,
        edit: impl FnOnce(&mut VersionRecord),
    ) -> Result<()> {
        let mut record = VersionRecord::clone(self.find_version(plugin, version)?);
        edit(&mut record);
        self.put_version(record)
    }

    /// Makes a version the one that its plugin serves. The one before it drains, or
    /// stays ready if a split or shadow still names it, and can be rolled back to.
    /// Gives false if it is active already.
    pub fn activate(&mut self, plugin: &str, version: &str) -> Result<bool> {
        let mut record = PluginRecord::clone(self.find_plugin(plugin)?);
        if record.active.as_deref() == Some(version) {
            return Ok(false);
        }
        self.enter(plugin, version, VersionState::Active, None)?;
        record.history.retain(|previous| previous != version);
        if let Some(previous) = record.active.replace(version.to_owned()) {
            self.step_down(plugin, &previous)?;
            record.history.push(previous);
            let excess = record.history.len().saturating_sub(HISTORY_MAX);
            record.history.drain(..excess);
        }
        self.put_plugin(record)?;
        Ok(true)
    }

    /// Makes the version that was active before the active one again, and gives its
    /// name. Rolling back twice goes back two versions. When no previous version is
    /// left: with `to_configured`, to what the configuration names (none); otherwise
    /// [`StoreError::NotFound`].
    pub fn roll_back(&mut self, plugin: &str, to_configured: bool) -> Result<Option<String>> {
        let mut record = PluginRecord::clone(self.find_plugin(plugin)?);
        let nothing = StoreError::NotFound { what: "previous version to roll back to" };
        let Some(current) = record.active.take() else { return Err(nothing) };
        let previous = loop {
            let Some(previous) = record.history.pop() else { break None };
            let state = self.next.version(plugin, &previous).map(|it| it.state);
            if state.is_some_and(|state| state.may_become(VersionState::Active)) {
                break Some(previous);
            }
        };
        if previous.is_none() && !to_configured {
            return Err(nothing);
        }
        if let Some(previous) = &previous {
            self.enter(plugin, previous, VersionState::Active, None)?;
        }
        self.step_down(plugin, &current)?;
        record.active.clone_from(&previous);
        self.put_plugin(record)?;
        Ok(previous)
    }

    /// Removes a version that is not in use, and its plugin with the last one.
    pub fn remove_version(&mut self, plugin: &str, version: &str) -> Result<()> {
        self.find_version(plugin, version)?;
        if let Some(used) = self.next.used_by(plugin, version) {
            return Err(StoreError::InUse { version: version.to_owned(), used });
        }
        self.forget(plugin, version)?;
        self.next.versions.remove(&(plugin.to_owned(), version.to_owned()));
        self.touched.insert(Key::Version(plugin.to_owned(), version.to_owned()));
        let is_last = self.next.versions(plugin).next().is_none();
        let Some(record) = self.next.plugin(plugin).cloned() else { return Ok(()) };
        if is_last && record.active.is_none() {
            self.next.plugins.remove(plugin);
        } else {
            // The same record, but not the one that others saw: of two changes that each
            // remove one of the last two versions, the second has to be stale.
            self.next.plugins.insert(plugin.to_owned(), Arc::new(PluginRecord::clone(&record)));
        }
        self.touched.insert(Key::Plugin(plugin.to_owned()));
        Ok(())
    }

    /// Sets the split and shadow of a plugin in a pipeline; one with neither is removed.
    /// All versions that it names must be ready or active; one that still drains, because it
    /// has just given its place up, is ready again.
    pub fn set_route(&mut self, record: RouteRecord) -> Result<()> {
        if record.split.is_empty() && record.shadow.is_none() {
            return self.remove_route(&record.pipeline, &record.plugin).map(drop);
        }
        let key = Key::Route(record.pipeline.clone(), record.plugin.clone());
        self.refuse_quarantined(&key)?;
        let shadow = record.shadow.iter().map(|shadow| &shadow.version);
        for version in record.split.keys().chain(shadow) {
            let state = self.next.version(&record.plugin, version).map(|it| it.state);
            if state == Some(VersionState::Draining) {
                self.enter(&record.plugin, version, VersionState::Ready, None)?;
            }
        }
        invariants::check_route(&self.next, &record)?;
        self.next.routes.insert((record.pipeline.clone(), record.plugin.clone()), Arc::new(record));
        self.touched.insert(key);
        Ok(())
    }

    /// Removes a split and shadow. Gives whether there was one.
    pub fn remove_route(&mut self, pipeline: &str, plugin: &str) -> Result<bool> {
        let key = Key::Route(pipeline.to_owned(), plugin.to_owned());
        self.refuse_quarantined(&key)?;
        let removed = self.next.routes.remove(&(pipeline.to_owned(), plugin.to_owned())).is_some();
        if removed {
            self.touched.insert(key);
        }
        Ok(removed)
    }

    /// Gives a plugin another owner.
    pub fn set_owner(&mut self, plugin: &str, owner: Option<String>) -> Result<()> {
        let mut record = PluginRecord::clone(self.find_plugin(plugin)?);
        record.owner = owner;
        self.put_plugin(record)
    }

    /// Deletes a record that could not be read, by the place that
    /// [`super::Store::problems`] gives it. This is the only way such a record goes.
    pub fn discard(&mut self, place: &str) -> Result<()> {
        let is_at = |(table, key): &&(Table, String)| super::load::place(*table, key) == place;
        let found = self.next.quarantined.keys().find(is_at).cloned();
        let (table, key) = found.ok_or(StoreError::NotFound { what: "quarantined record" })?;
        self.next.quarantined.remove(&(table, key.clone()));
        self.touched.insert(Key::Quarantined(table, key));
        Ok(())
    }

    fn find_plugin(&self, plugin: &str) -> Result<&Arc<PluginRecord>> {
        self.next.plugin(plugin).ok_or(StoreError::NotFound { what: "plugin" })
    }

    fn find_version(&self, plugin: &str, version: &str) -> Result<&Arc<VersionRecord>> {
        self.next.version(plugin, version).ok_or(StoreError::NotFound { what: "version" })
    }

    fn enter(&mut self, plugin: &str, version: &str, to: VersionState, reason: Option<String>) -> Result<()> {
        let mut record = VersionRecord::clone(self.find_version(plugin, version)?);
        if !record.state.may_become(to) {
            let version = record.version;
            return Err(StoreError::Illegal { version, from: record.state, to });
        }
        record.state = to;
        record.reason = reason;
        self.put_version(record)
    }

    /// The active version gives its place up.
    fn step_down(&mut self, plugin: &str, version: &str) -> Result<()> {
        let is_routed = self.next.routed_by(plugin, version).is_some();
        let to = if is_routed { VersionState::Ready } else { VersionState::Draining };
        self.enter(plugin, version, to, None)
    }

    /// Takes a version out of its plugin's history.
    fn forget(&mut self, plugin: &str, version: &str) -> Result<()> {
        let Some(record) = self.next.plugin(plugin) else { return Ok(()) };
        if !record.history.iter().any(|previous| previous == version) {
            return Ok(());
        }
        let mut record = PluginRecord::clone(record);
        record.history.retain(|previous| previous != version);
        self.put_plugin(record)
    }

    fn put_plugin(&mut self, mut record: PluginRecord) -> Result<()> {
        let key = Key::Plugin(record.name.clone());
        self.refuse_quarantined(&key)?;
        record.updated_at.clone_from(&self.at);
        self.next.plugins.insert(record.name.clone(), Arc::new(record));
        self.touched.insert(key);
        Ok(())
    }

    fn put_version(&mut self, mut record: VersionRecord) -> Result<()> {
        let key = Key::Version(record.plugin.clone(), record.version.clone());
        self.refuse_quarantined(&key)?;
        record.reason = record.reason.map(cut);
        invariants::check_step(self.next.version(&record.plugin, &record.version).map(Arc::as_ref), &record)?;
        self.next.versions.insert((record.plugin.clone(), record.version.clone()), Arc::new(record));
        self.touched.insert(key);
        Ok(())
    }

    fn refuse_quarantined(&self, key: &Key) -> Result<()> {
        let (at, what) = match key {
            Key::Plugin(name) => ((Table::Plugins, name.clone()), "plugin"),
            Key::Version(plugin, version) => ((Table::Versions, format!("{plugin}/{version}")), "version"),
            Key::Route(pipeline, plugin) => ((Table::Routes, format!("{pipeline}/{plugin}")), "route"),
            Key::Quarantined(..) => return Ok(()),
        };
        if self.next.quarantined.contains_key(&at) {
            return Err(StoreError::Quarantined { what });
        }
        Ok(())
    }

    /// The state after this change if it is made on top of `current`, which may be
    /// newer than what it was built on: [`StoreError::Stale`] if a record that it
    /// touches is not the one it saw.
    pub(super) fn onto(self, current: &Arc<RegistryState>) -> Result<(RegistryState, BTreeSet<Key>)> {
        let next = if Arc::ptr_eq(&self.base, current) {
            self.next
        } else {
            let mut merged = RegistryState::clone(current);
            for key in &self.touched {
                if !self.base.agrees(current, key) {
                    return Err(StoreError::Stale);
                }
                merged.take(&self.next, key);
            }
            merged
        };
        invariants::check(&next, &self.touched)?;
        Ok((next, self.touched))
    }
}
