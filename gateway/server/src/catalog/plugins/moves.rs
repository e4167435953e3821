//! The moves of a version: activate, roll back, retire, remove.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::super::store::VersionState;
use super::{Actor, Bakes, Change, Effect, Plugins, StoreError, Wanted};
use crate::error::Result;

/// How long after the gateway has taken a version back a rollback that does not say from
/// where is taken for the same wish. Somebody who saw the errors has typed it meanwhile.
const SAME_WISH: Duration = Duration::from_secs(10);

impl Plugins {
    /// Makes a version the one that its plugin's pipelines use from the next request on.
    /// Gives whether it was not that before.
    ///
    /// # Errors
    /// Not the actor's plugin, no such version, one that failed or is retired, one that
    /// cannot be loaded or does not fit a pipeline. Then the old version keeps serving.
    pub async fn activate(self: &Arc<Self>, actor: &Actor, plugin: &str, version: &str) -> Result<bool> {
        let target = format!("{plugin}/{version}");
        self.check_change(actor, "activate", plugin, &target).await?;
        let (name, next) = (plugin.to_owned(), version.to_owned());
        let decide = move |change: &mut Change| {
            let from = change.state().plugin(&name).and_then(|plugin| plugin.active.clone());
            let changed = change.activate(&name, &next)?;
            let bakes = Bakes::Watch(vec![next.clone()]);
            Ok(changed.then_some(Effect { from, to: Some(next.clone()), bakes }))
        };
        let effect = self.change(actor, Wanted::with_loading("activate", plugin, target), decide).await?;
        Ok(effect.is_some())
    }

    /// Goes back to the version that was active before, or to the one that the
    /// configuration names. Gives the name of what serves now, and whether that is new.
    ///
    /// With `from` only if that version is active: the same wish again, or one that the
    /// gateway has fulfilled by itself meanwhile, does not go back two versions.
    ///
    /// # Errors
    /// Not the actor's plugin, or nothing to go back to.
    pub async fn roll_back(
        self: &Arc<Self>,
        actor: &Actor,
        plugin: &str,
        from: Option<String>,
    ) -> Result<(Option<String>, bool)> {
        self.check_change(actor, "rollback", plugin, plugin).await?;
        let (back, this, name) = (self.back(plugin), Arc::clone(self), plugin.to_owned());
        let decide = move |change: &mut Change| {
            let active = change.state().plugin(&name).and_then(|plugin| plugin.active.as_ref());
            let is_done = match &from {
                Some(from) => active != Some(from),
                None => this.was_taken_back(&name),
            };
            if is_done { Ok(None) } else { back(change) }
        };
        let wanted = Wanted::at_once("rollback", plugin, plugin.to_owned());
        let effect = self.change(actor, wanted, decide).await?;
        let is_new = effect.is_some();
        let uploaded = effect.and_then(|effect| effect.to);
        let to = uploaded.or_else(|| {
            let snapshot = self.catalog.snapshot();
            Some(snapshot.plugins.get(plugin)?.active.as_ref()?.version.to_string())
        });
        Ok((to, is_new))
    }

    /// The change that goes back one version.
    pub(super) fn back(
        &self,
        plugin: &str,
    ) -> impl Fn(&mut Change) -> Result<Option<Effect>, StoreError> + Send + use<> {
        let snapshot = self.catalog.snapshot();
        let has_configured = snapshot
            .config
            .plugins
            .get(plugin)
            .is_some_and(|plugin| plugin.source != crate::config::PluginSource::Uploads);
        let plugin = plugin.to_owned();
        move |change| {
            let from = change.state().plugin(&plugin).and_then(|plugin| plugin.active.clone());
            let to = change.roll_back(&plugin, has_configured)?;
            let bakes = Bakes::Left { from: from.clone(), to: to.clone() };
            Ok(Some(Effect { from, to, bakes }))
        }
    }

    pub(super) fn note_taken_back(&self, plugin: &str) {
        let mut taken_back = self.taken_back.lock().unwrap_or_else(PoisonError::into_inner);
        taken_back.retain(|_, at| at.elapsed() < SAME_WISH);
        taken_back.insert(plugin.to_owned(), Instant::now());
    }

    fn was_taken_back(&self, plugin: &str) -> bool {
        let taken_back = self.taken_back.lock().unwrap_or_else(PoisonError::into_inner);
        taken_back.get(plugin).is_some_and(|at| at.elapsed() < SAME_WISH)
    }

    /// Takes a version out of use for good; it stays in the registry.
    ///
    /// # Errors
    /// Not the actor's plugin, no such version, or one that is in use.
    pub async fn retire(self: &Arc<Self>, actor: &Actor, plugin: &str, version: &str) -> Result<()> {
        let target = format!("{plugin}/{version}");
        self.check_change(actor, "retire", plugin, &target).await?;
        let (name, retired) = (plugin.to_owned(), version.to_owned());
        let decide = move |change: &mut Change| {
            let from = change.state().version(&name, &retired).map(|version| version.state.to_string());
            change.advance(&name, &retired, VersionState::Retired, None)?;
            Ok(Some(Effect { from, to: Some(VersionState::Retired.to_string()), bakes: Bakes::Keep }))
        };
        self.change(actor, Wanted::at_once("retire", plugin, target), decide).await.map(drop)
    }

    /// Removes a version, and its bytes.
    ///
    /// # Errors
    /// Not the actor's plugin, no such version, or one that is in use.
    pub async fn remove(self: &Arc<Self>, actor: &Actor, plugin: &str, version: &str) -> Result<()> {
        let target = format!("{plugin}/{version}");
        self.check_change(actor, "delete", plugin, &target).await?;
        let (name, removed) = (plugin.to_owned(), version.to_owned());
        let decide = move |change: &mut Change| {
            let digest = change.state().version(&name, &removed).map(|version| version.digest.to_string());
            change.remove_version(&name, &removed)?;
            Ok(Some(Effect { from: digest, to: None, bakes: Bakes::Keep }))
        };
        self.change(actor, Wanted::at_once("delete", plugin, target), decide).await.map(drop)
    }
}
