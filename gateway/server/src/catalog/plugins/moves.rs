//! The moves of a version: activate, roll back, retire, remove.

use std::sync::Arc;

use super::super::store::VersionState;
use super::{Actor, Effect, Plugins};
use crate::error::Result;

impl Plugins {
    /// Makes a version the one that its plugin's pipelines use from the next request on.
    /// Gives whether it was not that before.
    ///
    /// # Errors
    /// Not the actor's plugin, no such version, one that failed or is retired, one that
    /// cannot be loaded or does not fit a pipeline. Then the old version keeps serving.
    pub async fn activate(self: &Arc<Self>, actor: &Actor, plugin: &str, version: &str) -> Result<bool> {
        self.check_plugin(actor, plugin)?;
        let (name, next) = (plugin.to_owned(), version.to_owned());
        let effect = self
            .change(actor, "activate", format!("{plugin}/{version}"), move |change| {
                let from = change.state().plugin(&name).and_then(|plugin| plugin.active.clone());
                let changed = change.activate(&name, &next)?;
                Ok(changed.then_some(Effect { from, to: Some(next) }))
            })
            .await?;
        if effect.is_some() {
            tracing::info!(plugin, version, actor = &*actor.identity.name, "plugin activated");
            self.watch_version(plugin, version);
        }
        Ok(effect.is_some())
    }

    /// Goes back to the version that was active before, or to the one that the
    /// configuration names. Gives the name of what serves now.
    ///
    /// # Errors
    /// Not the actor's plugin, or nothing to go back to.
    pub async fn roll_back(self: &Arc<Self>, actor: &Actor, plugin: &str) -> Result<Option<String>> {
        self.check_plugin(actor, plugin)?;
        let effect = self.change(actor, "rollback", plugin.to_owned(), self.back(plugin)).await?;
        self.forget_bakes(plugin);
        let uploaded = effect.and_then(|effect| effect.to);
        let to = uploaded.or_else(|| {
            let snapshot = self.catalog.snapshot();
            Some(snapshot.plugins.get(plugin)?.active.as_ref()?.version.to_string())
        });
        tracing::info!(plugin, version = to, actor = &*actor.identity.name, "plugin rolled back");
        Ok(to)
    }

    /// The change that goes back one version.
    pub(super) fn back(
        &self,
        plugin: &str,
    ) -> impl FnOnce(&mut super::Change) -> Result<Option<Effect>, super::StoreError> + Send + use<> {
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
            Ok(Some(Effect { from, to }))
        }
    }

    /// Takes a version out of use for good; it stays in the registry.
    ///
    /// # Errors
    /// Not the actor's plugin, no such version, or one that is in use.
    pub async fn retire(self: &Arc<Self>, actor: &Actor, plugin: &str, version: &str) -> Result<()> {
        self.check_plugin(actor, plugin)?;
        let (name, retired) = (plugin.to_owned(), version.to_owned());
        self.change(actor, "retire", format!("{plugin}/{version}"), move |change| {
            let from = change.state().version(&name, &retired).map(|version| version.state.to_string());
            change.advance(&name, &retired, VersionState::Retired, None)?;
            Ok(Some(Effect { from, to: Some(VersionState::Retired.to_string()) }))
        })
        .await
        .map(drop)
    }

    /// Removes a version, and its bytes.
    ///
    /// # Errors
    /// Not the actor's plugin, no such version, or one that is in use.
    pub async fn remove(self: &Arc<Self>, actor: &Actor, plugin: &str, version: &str) -> Result<()> {
        self.check_plugin(actor, plugin)?;
        let (name, removed) = (plugin.to_owned(), version.to_owned());
        self.change(actor, "delete", format!("{plugin}/{version}"), move |change| {
            let digest = change.state().version(&name, &removed).map(|version| version.digest.to_string());
            change.remove_version(&name, &removed)?;
            Ok(Some(Effect { from: digest, to: None }))
        })
        .await
        .map(drop)
    }
}
