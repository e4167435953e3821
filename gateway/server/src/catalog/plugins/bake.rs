//! New versions are watched for a while: one whose calls fail too often is taken back by
//! itself. And versions that were replaced are let go once their last request has ended.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::super::store::{RegistryState, RouteRecord, VersionState};
use super::super::{LoadedPlugin, PluginSlot, Snapshot};
use super::{Actor, Bakes, Change, Effect, Plugins, Wanted, traffic};
use crate::config;
use crate::error::{Error, Result};

/// How often new versions are looked at. A version that fails every call is taken back
/// within this much time of its `bake_calls_min`-th call.
const LOOK: Duration = Duration::from_millis(250);

/// The time of which the newest failures are looked at apart from all calls of a watch. A
/// version that was fine for four minutes and then fails is taken back by these.
const RECENT: Duration = Duration::from_secs(30);

/// Time until a version that could not be taken back is tried again; doubled each time, up
/// to the longest. A full disk may have room by then.
const AGAIN_FIRST: Duration = Duration::from_secs(1);

/// See [`AGAIN_FIRST`].
const AGAIN_LONGEST: Duration = Duration::from_secs(60);

/// How much more often a new version has to fail than the one it is compared with.
const MORE_THAN_USUAL: f64 = 1.5;

/// Versions that could not be let go: when that is tried again, and the time after the next
/// failure.
type Later = BTreeMap<(String, String), (Instant, Duration)>;

/// Calls, and how many of them failed.
type Calls = (u64, u64);

/// A version that got traffic a short time ago.
#[derive(Debug, Clone)]
pub(super) struct Bake {
    pub(super) plugin: String,
    pub(super) version: String,
    pub(super) until: Instant,
    before: Calls,
    /// A version that it is compared with, and its calls before those that count.
    beside: Option<(String, Calls)>,
    /// What there was at each look of the last [`RECENT`].
    recent: VecDeque<(Instant, Calls)>,
    verdict: Option<Verdict>,
}

/// A version that has to go.
#[derive(Debug, Clone)]
struct Verdict {
    reason: String,
    again_at: Instant,
    /// Time after the next failure.
    again_after: Duration,
    /// Why it is still there.
    problem: Option<String>,
}

/// How a version has done since it got traffic.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct BakeCounts {
    /// Calls.
    pub calls: u64,
    /// Calls that failed through the plugin's own fault.
    pub failures: u64,
    /// Milliseconds until it is trusted.
    pub left_ms: u64,
    /// Why it serves although it fails too often.
    pub problem: Option<String>,
}

impl Bake {
    /// Why it has to go, if it has. `beside` is what became of the other version's calls.
    fn look(
        &mut self,
        now: Instant,
        calls: Calls,
        beside: Option<Calls>,
        rollout: &config::Rollout,
    ) -> Option<String> {
        let least = rollout.calls_min.max(1);
        // Where the other one fails as often it is the requests, and whoever sends them would
        // decide which version serves.
        let usual = beside.filter(|(all, _)| *all >= least).map_or(0.0, |(all, failed)| rate(all, failed));
        self.recent.push_back((now, calls));
        while self.recent.front().is_some_and(|(at, _)| now.saturating_duration_since(*at) > RECENT) {
            self.recent.pop_front();
        }
        let since = |(before, failed_before): Calls| {
            (calls.0.saturating_sub(before), calls.1.saturating_sub(failed_before))
        };
        let (all, failed) = since(self.before);
        let most = rollout.error_rate_max;
        let most_here = most.max(usual * MORE_THAN_USUAL);
        if all >= least && rate(all, failed) > most_here {
            return Some(reason(failed, all, "", most));
        }
        let (all, failed) = since(self.recent.front().map_or(calls, |(_, calls)| *calls));
        (failed >= least && rate(all, failed) > most_here)
            .then(|| reason(failed, all, &format!(" of the last {} s", RECENT.as_secs()), most))
    }
}

fn reason(failed: u64, all: u64, when: &str, most: f64) -> String {
    format!("taken back: {failed} of {all} calls{when} failed, at most {:.1} % may", most * 100.0)
}

fn rate(all: u64, failed: u64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "a share of calls")]
    let rate = failed as f64 / all.max(1) as f64;
    rate
}

impl Plugins {
    fn bakes_now(&self) -> MutexGuard<'_, Vec<Bake>> {
        self.baking.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a change means for who is watched. Called with the change's turn, right after
    /// its swap.
    pub(super) fn follow(&self, plugin: &str, bakes: &Bakes) {
        match bakes {
            Bakes::Keep => {}
            Bakes::Watch(versions) => versions.iter().for_each(|version| self.watch_version(plugin, version)),
            Bakes::Left { from, to } => {
                let registry = self.builder.registry();
                let is_left = |version: &String| {
                    let is_from = from.as_ref() == Some(version);
                    to.as_ref() == Some(version)
                        || is_from && routes_with(&registry, plugin, version).is_empty()
                };
                self.bakes_now().retain(|bake| bake.plugin != plugin || !is_left(&bake.version));
            }
            Bakes::Taken { version, was_active } => {
                if *was_active {
                    self.note_taken_back(plugin);
                }
                self.bakes_now().retain(|bake| bake.plugin != plugin || bake.version != *version);
            }
        }
    }

    /// Begins to watch a version that just got traffic.
    fn watch_version(&self, plugin: &str, version: &str) {
        let snapshot = self.catalog.snapshot();
        let Some(slot) = snapshot.plugins.get(plugin) else { return };
        let bake = slot.config.rollout.bake;
        if bake.is_zero() {
            return;
        }
        let Some(loaded) = slot.versions.get(version) else { return };
        let before = loaded.calls_and_failures();
        let bake = Bake {
            plugin: plugin.to_owned(),
            version: version.to_owned(),
            until: Instant::now() + bake,
            before,
            beside: beside(slot, version),
            recent: VecDeque::new(),
            verdict: None,
        };
        let mut baking = self.bakes_now();
        baking.retain(|other| other.plugin != plugin || other.version != version);
        baking.push(bake);
    }

    /// How a version does that is being watched.
    pub fn bake_of(&self, plugin: &str, version: &str) -> Option<BakeCounts> {
        let bake =
            self.bakes_now().iter().find(|it| it.plugin == plugin && it.version == version).cloned()?;
        self.counts(&bake)
    }

    pub(super) fn counts(&self, bake: &Bake) -> Option<BakeCounts> {
        let (calls, failures) = self.loaded(&bake.plugin, &bake.version)?.calls_and_failures();
        let left = bake.until.saturating_duration_since(Instant::now());
        Some(BakeCounts {
            calls: calls.saturating_sub(bake.before.0),
            failures: failures.saturating_sub(bake.before.1),
            left_ms: u64::try_from(left.as_millis()).unwrap_or(u64::MAX),
            problem: bake.verdict.as_ref().and_then(|verdict| verdict.problem.clone()),
        })
    }

    /// Looks after new and replaced versions until it is dropped.
    pub async fn look_after(self: Arc<Self>) {
        if self.builder.store.is_none() {
            return;
        }
        // What got traffic before a restart and has not been watched long enough.
        self.watch_served();
        // Letting go may load versions, and nothing that fails waits for that.
        tokio::join!(self.look_at_failing(), self.look_at_drained());
    }

    async fn look_at_failing(self: &Arc<Self>) {
        loop {
            tokio::time::sleep(LOOK).await;
            self.take_back_failing().await;
        }
    }

    async fn look_at_drained(self: &Arc<Self>) {
        let mut later = Later::new();
        loop {
            tokio::time::sleep(LOOK).await;
            self.let_go_drained(&mut later).await;
        }
    }

    /// Watches every version that gets traffic: the active ones, and those in splits.
    fn watch_served(&self) {
        let snapshot = self.catalog.snapshot();
        let registry = self.builder.registry();
        let active = registry.plugins().filter_map(|plugin| Some((&plugin.name, plugin.active.as_ref()?)));
        let split = registry.routes().flat_map(|route| {
            let arms = route.split.iter().filter(|(_, weight)| **weight > 0);
            arms.map(move |(version, _)| (&route.plugin, version))
        });
        let served: BTreeSet<(&String, &String)> = active.chain(split).collect();
        for (plugin, version) in served {
            if snapshot.plugins.contains_key(plugin.as_str()) {
                self.watch_version(plugin, version);
            }
        }
    }

    async fn take_back_failing(self: &Arc<Self>) {
        for (plugin, version, reason, is_again) in self.condemned() {
            if let Err(error) = self.take_back(&plugin, &version, &reason, is_again).await {
                tracing::error!(plugin, version, %error, detail = error.detail(), reason, "a failing version could not be taken back");
                self.postpone(&plugin, &version, &error);
            }
        }
    }

    /// Versions that have to go now, why, and whether that was tried before.
    fn condemned(&self) -> Vec<(String, String, String, bool)> {
        let (snapshot, registry) = (self.catalog.snapshot(), self.builder.registry());
        let now = Instant::now();
        let mut baking = self.bakes_now();
        let is_gone = |bake: &Bake| {
            let state = registry.version(&bake.plugin, &bake.version).map(|record| record.state);
            matches!(state, None | Some(VersionState::Failed | VersionState::Retired))
        };
        // What has to go is not forgotten before it is gone.
        baking.retain(|bake| (bake.until > now || bake.verdict.is_some()) && !is_gone(bake));
        let mut due = Vec::new();
        for bake in baking.iter_mut() {
            if bake.verdict.is_none() {
                bake.verdict = judge(&snapshot, bake, now);
            }
            if let Some(verdict) = bake.verdict.as_ref().filter(|verdict| verdict.again_at <= now) {
                let is_again = verdict.problem.is_some();
                due.push((bake.plugin.clone(), bake.version.clone(), verdict.reason.clone(), is_again));
            }
        }
        due
    }

    fn postpone(&self, plugin: &str, version: &str, error: &Error) {
        let mut baking = self.bakes_now();
        let found = baking.iter_mut().find(|bake| bake.plugin == plugin && bake.version == version);
        let Some(verdict) = found.and_then(|bake| bake.verdict.as_mut()) else { return };
        verdict.again_at = Instant::now() + verdict.again_after;
        verdict.again_after = verdict.again_after.saturating_mul(2).min(AGAIN_LONGEST);
        verdict.problem = Some(format!("{}; it still serves: {error}", verdict.reason));
    }

    /// Takes a failing version out of everything that sends it requests.
    async fn take_back(
        self: &Arc<Self>,
        plugin: &str,
        version: &str,
        reason: &str,
        is_again: bool,
    ) -> Result<()> {
        let back = self.back(plugin);
        let (name, failing, why) = (plugin.to_owned(), version.to_owned(), reason.to_owned());
        let decide = move |change: &mut Change| {
            let active = change.state().plugin(&name).and_then(|record| record.active.clone());
            let mut to = active.clone();
            leave_routes(change, &name, &failing)?;
            let was_active = active.as_deref() == Some(&*failing);
            if was_active {
                to = back(change)?.and_then(|effect| effect.to);
            }
            change.advance(&name, &failing, VersionState::Failed, Some(why.clone()))?;
            let to = to.or_else(|| Some("configured".to_owned()));
            let bakes = Bakes::Taken { version: failing.clone(), was_active };
            Ok(Some(Effect { from: Some(failing.clone()), to, bakes }))
        };
        let target = format!("{plugin}/{version}");
        let wanted = Wanted { is_again, ..Wanted::at_once("auto_rollback", plugin, target) };
        self.change(&Actor::gateway(), wanted, decide).await?;
        tracing::error!(plugin, version, reason, "a failing version was taken back");
        Ok(())
    }

    /// Versions that gave their place up stay `draining` until their last call has ended.
    async fn let_go_drained(self: &Arc<Self>, later: &mut Later) {
        let now = Instant::now();
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
        later.retain(|key, _| drained.contains(key));
        for (plugin, version) in drained {
            let key = (plugin.clone(), version.clone());
            if later.get(&key).is_some_and(|(at, _)| *at > now) {
                continue;
            }
            // With it comes what a rollback made an earlier version that can be gone back to.
            // That it cannot be done now is nobody's attempt, so the audit log has no line.
            let wanted = Wanted::with_loading("drained", &plugin, format!("{plugin}/{version}"));
            let wanted = Wanted { is_again: true, ..wanted };
            let decide = move |change: &mut Change| {
                // Somebody may have activated it again meanwhile.
                let state = change.state().version(&plugin, &version).map(|record| record.state);
                if state != Some(VersionState::Draining) {
                    return Ok(None);
                }
                change.advance(&plugin, &version, VersionState::Ready, None)?;
                let names = (VersionState::Draining.to_string(), VersionState::Ready.to_string());
                Ok(Some(Effect { from: Some(names.0), to: Some(names.1), bakes: Bakes::Keep }))
            };
            if let Err(error) = self.change(&Actor::gateway(), wanted, decide).await {
                let after = later.get(&key).map_or(AGAIN_FIRST, |(_, after)| *after);
                later.insert(key, (now + after, after.saturating_mul(2).min(AGAIN_LONGEST)));
                tracing::warn!(%error, detail = error.detail(), "a drained version could not be let go");
            }
        }
    }
}

fn judge(snapshot: &Snapshot, bake: &mut Bake, now: Instant) -> Option<Verdict> {
    let slot = snapshot.plugins.get(bake.plugin.as_str())?;
    let calls = slot.versions.get(bake.version.as_str())?.calls_and_failures();
    let beside = bake.beside.as_ref().and_then(|(version, before)| {
        let (calls, failures) = slot.versions.get(version.as_str())?.calls_and_failures();
        Some((calls.saturating_sub(before.0), failures.saturating_sub(before.1)))
    });
    let reason = bake.look(now, calls, beside, &slot.config.rollout)?;
    Some(Verdict { reason, again_at: now, again_after: AGAIN_FIRST, problem: None })
}

/// What a version is compared with: the one that serves meanwhile, where it shares the requests;
/// else the one that served before, with all of its calls.
fn beside(slot: &PluginSlot, version: &str) -> Option<(String, Calls)> {
    let other = |it: &&Arc<LoadedPlugin>| *it.version != *version;
    if let Some(active) = slot.active.as_ref().filter(other) {
        return Some((active.version.to_string(), active.calls_and_failures()));
    }
    slot.previous.as_ref().filter(other).map(|previous| (previous.version.to_string(), (0, 0)))
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

fn routes_with(state: &RegistryState, plugin: &str, version: &str) -> Vec<RouteRecord> {
    let names = |route: &&Arc<RouteRecord>| {
        let shadowed = route.shadow.as_ref().is_some_and(|shadow| shadow.version == version);
        route.plugin == plugin && (shadowed || route.split.contains_key(version))
    };
    state.routes().filter(names).map(|route| route.as_ref().clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rollout(error_rate_max: f64) -> config::Rollout {
        config::Rollout { bake: Duration::from_secs(300), error_rate_max, calls_min: 20 }
    }

    /// Looks each quarter of a second at 20 calls more, of which `failing` tells how many
    /// fail, and gives the second in which it has to go.
    fn watched(rollout: &config::Rollout, seconds: u64, failing: impl Fn(u64) -> u64) -> Option<u64> {
        watched_beside(None, rollout, seconds, failing)
    }

    fn watched_beside(
        beside: Option<Calls>,
        rollout: &config::Rollout,
        seconds: u64,
        failing: impl Fn(u64) -> u64,
    ) -> Option<u64> {
        let start = Instant::now();
        let (plugin, version) = ("p".to_owned(), "1".to_owned());
        let (until, before) = (start + rollout.bake, (100, 50));
        let recent = VecDeque::new();
        let mut bake = Bake { plugin, version, until, before, beside: None, recent, verdict: None };
        let mut calls = before;
        (0..seconds * 4).find_map(|look| {
            calls = (calls.0 + 20, calls.1 + failing(look / 4));
            let now = start + LOOK * u32::try_from(look).expect("few");
            bake.look(now, calls, beside, rollout).map(|_| look / 4)
        })
    }

    #[test]
    fn a_version_that_fails_late_is_taken_back_as_soon_as_one_that_fails_at_once() {
        let after = |second: u64| move |now: u64| if now >= second { 20 } else { 0 };
        assert_eq!(watched(&rollout(0.05), 300, after(0)), Some(0));
        assert!(watched(&rollout(0.05), 300, after(250)).is_some_and(|second| second <= 252));
        assert!(watched(&rollout(0.5), 300, after(250)).is_some_and(|second| second <= 266));
        assert_eq!(watched(&rollout(0.05), 300, |_| 1), None, "one of twenty may");
    }

    #[test]
    fn requests_that_every_version_fails_take_none_back() {
        let half = |_| 10;
        assert_eq!(watched_beside(Some((1000, 500)), &rollout(0.05), 300, half), None);
        assert_eq!(watched_beside(Some((1000, 100)), &rollout(0.05), 300, half), Some(0));
        assert_eq!(watched_beside(Some((4, 4)), &rollout(0.05), 300, half), Some(0), "four say nothing");
    }
}
