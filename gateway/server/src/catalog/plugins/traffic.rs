//! Who gets which version: splits by weight, and shadows.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::super::store::limits::{SPLIT_VERSIONS_MAX, SPLIT_WEIGHT_MAX};
use super::super::store::{RouteRecord, ShadowRecord};
use super::{Actor, Bakes, Change, Effect, Plugins, Wanted};
use crate::error::{Error, Kind, Result};

/// One pipeline's use of one plugin.
struct Place {
    pipeline: String,
    plugin: String,
}

impl Plugins {
    /// Shares a plugin's requests in a pipeline among versions, by weight. Sticky: the same
    /// routing key meets the same version while the weights stay.
    ///
    /// # Errors
    /// Not the actor's plugin, no such pipeline or version, weights that make no sense, or a
    /// version that cannot be loaded or does not fit the pipeline.
    pub async fn split(
        self: &Arc<Self>,
        actor: &Actor,
        pipeline: &str,
        plugin: &str,
        weights: BTreeMap<String, u32>,
    ) -> Result<()> {
        if weights.is_empty() || weights.values().all(|weight| *weight == 0) {
            return Err(Error::new(Kind::BadRequest, "weights must name a version with a weight above 0"));
        }
        if weights.len() > SPLIT_VERSIONS_MAX || weights.values().any(|weight| *weight > SPLIT_WEIGHT_MAX) {
            let message = format!(
                "a split has at most {SPLIT_VERSIONS_MAX} versions of at most {SPLIT_WEIGHT_MAX} each"
            );
            return Err(Error::new(Kind::BadRequest, message));
        }
        let place = self.place(actor, "split", pipeline, plugin).await?;
        self.route(actor, "split", place, move |route| route.split.clone_from(&weights)).await
    }

    /// Ends a split: everything goes to the active version again.
    ///
    /// # Errors
    /// Not the actor's plugin, or no such pipeline.
    pub async fn end_split(self: &Arc<Self>, actor: &Actor, pipeline: &str, plugin: &str) -> Result<()> {
        let place = self.place(actor, "split", pipeline, plugin).await?;
        self.route(actor, "split", place, |route| route.split.clear()).await
    }

    /// Runs a share of a pipeline's requests again with another version of a plugin, once
    /// their answers are sent, and compares.
    ///
    /// # Errors
    /// Not the actor's plugin, no such pipeline or version, a share outside of 0 to 1, or a
    /// version that cannot be loaded or does not fit the pipeline.
    pub async fn shadow(
        self: &Arc<Self>,
        actor: &Actor,
        pipeline: &str,
        plugin: &str,
        version: &str,
        sample: f64,
    ) -> Result<()> {
        if !(sample > 0.0 && sample <= 1.0) {
            return Err(Error::new(Kind::BadRequest, "sample must be above 0 and at most 1"));
        }
        let place = self.place(actor, "shadow", pipeline, plugin).await?;
        let shadow = ShadowRecord { version: version.to_owned(), sample };
        self.route(actor, "shadow", place, move |route| route.shadow = Some(shadow.clone())).await
    }

    /// Ends a shadow.
    ///
    /// # Errors
    /// Not the actor's plugin, or no such pipeline.
    pub async fn end_shadow(self: &Arc<Self>, actor: &Actor, pipeline: &str, plugin: &str) -> Result<()> {
        let place = self.place(actor, "shadow", pipeline, plugin).await?;
        self.route(actor, "shadow", place, |route| route.shadow = None).await
    }

    async fn place(
        self: &Arc<Self>,
        actor: &Actor,
        action: &'static str,
        pipeline: &str,
        plugin: &str,
    ) -> Result<Place> {
        self.check_change(actor, action, plugin, &format!("{pipeline}/{plugin}")).await?;
        let snapshot = self.catalog.snapshot();
        let found = snapshot.pipelines.get(pipeline);
        if !found.is_some_and(|found| found.stages.plugins().any(|stage| *stage.slot.name == *plugin)) {
            // The same words for both: not every pipeline is the actor's to know of.
            let message = format!("there is no pipeline '{pipeline}' that uses plugin '{plugin}'");
            return Err(Error::new(Kind::NotFound, message));
        }
        Ok(Place { pipeline: pipeline.to_owned(), plugin: plugin.to_owned() })
    }

    async fn route(
        self: &Arc<Self>,
        actor: &Actor,
        action: &'static str,
        place: Place,
        edit: impl Fn(&mut RouteRecord) + Send + 'static,
    ) -> Result<()> {
        let target = format!("{}/{}", place.pipeline, place.plugin);
        let wanted = Wanted::with_loading(action, &place.plugin, target);
        self.change(actor, wanted, move |change| {
            let before = change.state().route(&place.pipeline, &place.plugin).cloned();
            let mut after = before.as_deref().cloned().unwrap_or_else(|| RouteRecord {
                pipeline: place.pipeline.clone(),
                plugin: place.plugin.clone(),
                split: BTreeMap::new(),
                shadow: None,
            });
            edit(&mut after);
            if before.as_deref() == Some(&after) {
                return Ok(None);
            }
            // Whose shares have changed is watched from here on.
            let is_split = before.as_deref().is_none_or(|before| before.split != after.split);
            let shared = after.split.keys().filter(|_| is_split).cloned().collect();
            let (from, to) = (before.as_deref().map(describe), Some(describe(&after)));
            set(change, after)?;
            Ok(Some(Effect { from, to, bakes: Bakes::Watch(shared) }))
        })
        .await
        .map(drop)
    }
}

fn set(change: &mut Change, route: RouteRecord) -> Result<(), super::StoreError> {
    change.set_route(route)
}

/// A route in an audit line: `1=90 2=10, shadow 3 at 0.5`.
pub(super) fn describe(route: &RouteRecord) -> String {
    let mut parts: Vec<String> =
        route.split.iter().map(|(version, weight)| format!("{version}={weight}")).collect();
    if let Some(shadow) = &route.shadow {
        parts.push(format!("shadow {} at {}", shadow.version, shadow.sample));
    }
    if parts.is_empty() { "active".to_owned() } else { parts.join(" ") }
}
