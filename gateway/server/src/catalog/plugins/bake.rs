//! New versions are watched for a while: one whose calls fail too often is taken back by
//! itself. And versions that were replaced are let go once their last request has ended.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::super::store::{RegistryState, VersionState};
use super::{Actor, Change, Effect, Plugins, traffic};
use crate::error::Result;

/// How often new versions are looked at. A version that fails every call is taken back
/// within this much time of its `bake_calls_min`-th call.
const LOOK: Duration = Duration::from_millis(250);

/// A version that got traffic a short time ago.
#[derive(Debug, Clone)]
pub(super) struct Bake {
    pub(super) plugin: String,
    pub(super) version: String,
    pub(super) until: Instant,
    calls_before: u64,
    failures_before: u64,
}

/// How a version has done since it got traffic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct BakeCounts {
    /// Calls.
    pub calls: u64,
    /// Calls that failed through the plugin's own fault.
    pub failures: u64,
    /// Milliseconds until it is trusted.
    pub left_ms: u64,
}

impl Plugins {
    /// Begins to watch a version that just got traffic.
    pub(super) fn watch_version(&self, plugin: &str, version: &str) {
        let snapshot = self.catalog.snapshot();
        let Some(slot) = snapshot.plugins.get(plugin) else { return };
        let bake = slot.config.rollout.bake;
        if bake.is_zero() {
            return;
        }
        let Some(loaded) = slot.versions.get(version) else { return };
        let (calls_before, failures_before) = loaded.calls_and_failures();
        let bake = Bake {
            plugin: plugin.to_owned(),
            version: version.to_owned(),
            until: Instant::now() + bake,
            calls_before,
            failures_before,
        };
        let mut baking = self.baking.lock().unwrap_or_else(PoisonError::into_inner);
        baking.retain(|other| other.plugin != plugin || other.version != version);
        baking.push(bake);
    }

    /// Somebody decided by hand.
    pub(super) fn forget_bakes(&self, plugin: &str) {
        self.baking.lock().unwrap_or_else(PoisonError::into_inner).retain(|bake| bake.plugin != plugin);
    }

    /// How a version does that is being watched.
    pub fn bake_of(&self, plugin: &str, version: &str) -> Option<BakeCounts> {
        let bake = {
            let baking = self.baking.lock().unwrap_or_else(PoisonError::into_inner);
            baking.iter().find(|bake| bake.plugin == plugin && bake.version == version).cloned()
        }?;
        self.counts(&bake)
    }

    pub(super) fn counts(&self, bake: &Bake) -> Option<BakeCounts> {
        let (calls, failures) = self.loaded(&bake.plugin, &bake.version)?.calls_and_failures();
        let left = bake.until.saturating_duration_since(Instant::now());
        Some(BakeCounts {
            calls: calls.saturating_sub(bake.calls_before),
            failures: failures.saturating_sub(bake.failures_before),
            left_ms: u64::try_from(left.as_millis()).unwrap_or(u64::MAX),
        })
    }

    /// Looks after new and replaced versions until it is dropped.
    pub async fn look_after(self: Arc<Self>) {
        if self.builder.store.is_none() {
            return;
        }
        // What got traffic before a restart and has not been watched long enough.
        self.watch_active();
        loop {
            tokio::time::sleep(LOOK).await;
            self.take_back_failing().await;
            self.let_go_drained().await;
        }
    }

    fn watch_active(&self) {
        let snapshot = self.catalog.snapshot();
        let registry = self.builder.registry();
        for slot in snapshot.plugins.values() {
            if let Some(record) = registry.active(&slot.name) {
                self.watch_version(&slot.name, &record.version);
            }
        }
    }

    async fn take_back_failing(self: &Arc<Self>) {
        let bakes = {
            let mut baking = self.baking.lock().unwrap_or_else(PoisonError::into_inner);
            let now = Instant::now();
            baking.retain(|bake| bake.until > now);
            baking.clone()
        };
        for bake in bakes {
            let snapshot = self.catalog.snapshot();
            let Some(slot) = snapshot.plugins.get(bake.plugin.as_str()) else { continue };
            let Some(counts) = self.counts(&bake) else { continue };
            let rollout = &slot.config.rollout;
            if counts.calls < rollout.calls_min.max(1) || rate(counts) <= rollout.error_rate_max {
                continue;
            }
            let reason = format!(
                "taken back: {} of {} calls failed, at most {:.1} % may",
                counts.failures,
                counts.calls,
                rollout.error_rate_max * 100.0
            );
            self.forget_bakes(&bake.plugin);
            if let Err(error) = self.take_back(&bake.plugin, &bake.version, &reason).await {
                tracing::error!(plugin = bake.plugin, version = bake.version, %error, detail = error.detail(), reason, "a failing version could not be taken back");
            }
        }
    }

    /// Takes a failing version out of everything that sends it requests.
    async fn take_back(self: &Arc<Self>, plugin: &str, version: &str, reason: &str) -> Result<()> {
        let back = self.back(plugin);
        let (name, failing, why) = (plugin.to_owned(), version.to_owned(), reason.to_owned());
        let decide = move |change: &mut Change| {
            let active = change.state().plugin(&name).and_then(|record| record.active.clone());
            let mut to = active.clone();
            leave_routes(change, &name, &failing)?;
            if active.as_deref() == Some(&*failing) {
                to = back(change)?.and_then(|effect| effect.to);
            }
            change.advance(&name, &failing, VersionState::Failed, Some(why))?;
            Ok(Some(Effect { from: Some(failing), to: to.or_else(|| Some("configured".to_owned())) }))
        };
        self.change(&Actor::gateway(), "auto_rollback", format!("{plugin}/{version}"), decide).await?;
        tracing::error!(plugin, version, reason, "a failing version was taken back");
        Ok(())
    }

    /// Versions that gave their place up stay `draining` until their last call has ended.
    async fn let_go_drained(self: &Arc<Self>) {
        let registry = self.builder.registry();
        let is_idle = |plugin: &str, version: &str| {
            let loaded = self.loaded(plugin, version).and_then(|loaded| loaded.plugin.clone());
            loaded.is_none_or(|plugin| plugin.calls_in_flight() == 0)
        };
        let drained: Vec<(String, String)> = registry
            .all_versions()
            .filter(|record| {
                record.state == VersionState::Draining && is_idle(&record.plugin, &record.version)
            })
            .map(|record| (record.plugin.clone(), record.version.clone()))
            .collect();
        for (plugin, version) in drained {
            let target = format!("{plugin}/{version}");
            let decide = move |change: &mut Change| {
                // Somebody may have activated it again meanwhile.
                let state = change.state().version(&plugin, &version).map(|record| record.state);
                if state != Some(VersionState::Draining) {
                    return Ok(None);
                }
                change.advance(&plugin, &version, VersionState::Ready, None)?;
                let names = (VersionState::Draining.to_string(), VersionState::Ready.to_string());
                Ok(Some(Effect { from: Some(names.0), to: Some(names.1) }))
            };
            if let Err(error) = self.change(&Actor::gateway(), "drained", target, decide).await {
                tracing::warn!(%error, detail = error.detail(), "a drained version could not be let go");
            }
        }
    }
}

fn rate(counts: BakeCounts) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "a share of calls")]
    let rate = counts.failures as f64 / counts.calls.max(1) as f64;
    rate
}

/// Takes a version out of every split and shadow. A split that is left with nothing is
/// ended.
fn leave_routes(change: &mut Change, plugin: &str, version: &str) -> Result<(), super::StoreError> {
    let named: Vec<_> = routes_with(change.state(), plugin, version);
    for mut route in named {
        tracing::warn!(
            pipeline = route.pipeline,
            plugin,
            version,
            route = traffic::describe(&route),
            "leaves a split or shadow"
        );
        let shares: BTreeMap<String, u32> =
            route.split.into_iter().filter(|(name, _)| name != version).collect();
        route.split = if shares.values().any(|weight| *weight > 0) { shares } else { BTreeMap::new() };
        route.shadow = route.shadow.filter(|shadow| shadow.version != version);
        change.set_route(route)?;
    }
    Ok(())
}

fn routes_with(state: &RegistryState, plugin: &str, version: &str) -> Vec<super::super::store::RouteRecord> {
    let names = |route: &&Arc<super::super::store::RouteRecord>| {
        let shadowed = route.shadow.as_ref().is_some_and(|shadow| shadow.version == version);
        route.plugin == plugin && (shadowed || route.split.contains_key(version))
    };
    state.routes().filter(names).map(|route| route.as_ref().clone()).collect()
}
