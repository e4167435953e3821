//! What the admin API shows of plugins, versions and pipelines.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError};

use serde::Serialize;
use sluice_sandbox::ProfileError;

use super::super::build::{FILE_VERSION, OCI_VERSION};
use super::super::store::{VersionRecord, VersionState};
use super::super::{LoadedPlugin, LogLine, PluginSlot, ShadowCounts, Snapshot, Split, StagePlugin};
use super::bake::BakeCounts;
use super::{Actor, Plugins};
use crate::config;
use crate::error::{Error, Kind, Result};

/// Most log lines of one answer.
pub const LOG_LINES_MAX: usize = 1000;

/// A plugin.
#[derive(Debug, Serialize)]
pub struct PluginView {
    /// Its name.
    pub plugin: String,
    /// Whose it is.
    pub owner: Option<String>,
    /// Whether the configuration names it: only then can a pipeline use it.
    pub declared: bool,
    /// The version that serves.
    pub active: Option<String>,
    /// The version that a rollback serves.
    pub previous: Option<String>,
    /// Why the version that should serve does not.
    pub problem: Option<String>,
    /// Pipelines that use it.
    pub pipelines: Vec<String>,
    /// All of its versions.
    pub versions: Vec<VersionView>,
}

/// A version of a plugin.
#[derive(Debug, Serialize)]
pub struct VersionView {
    /// The plugin's name.
    pub plugin: String,
    /// The version's name.
    pub version: String,
    /// Whose it is.
    pub owner: Option<String>,
    /// `uploaded` to `retired`, or `failed`.
    pub state: String,
    /// Why it failed.
    pub reason: Option<String>,
    /// `sha256:…`; unknown while it comes in.
    pub digest: Option<String>,
    /// Its size.
    pub size_bytes: Option<u64>,
    /// What it implements.
    pub world: Option<String>,
    /// The version of the contract that it speaks.
    pub contract: Option<String>,
    /// The interfaces that it imports, and whether they are granted.
    pub imports: Vec<ImportView>,
    /// What its author wrote into it.
    pub metadata: serde_json::Value,
    /// What it may use.
    pub limits: LimitsView,
    /// The key whose signature was checked.
    pub signed_by: Option<String>,
    /// Sample cases that it passed.
    pub samples: usize,
    /// The token that brought it.
    pub uploaded_by: Option<String>,
    /// When, RFC 3339.
    pub uploaded_at: Option<String>,
    /// `upload`, `file` or `oci`.
    pub source: String,
    /// How it does, if it is loaded.
    pub usage: Option<UsageView>,
    /// How it does since it got traffic, while it is watched.
    pub bake: Option<BakeCounts>,
}

/// An interface that a component asks for.
#[derive(Debug, Serialize)]
pub struct ImportView {
    /// Its name.
    pub name: String,
    /// Whether the configuration grants it.
    pub granted: bool,
    /// Why not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

/// What a plugin may use.
#[derive(Debug, Serialize)]
pub struct LimitsView {
    /// Memory of one instance.
    pub memory_bytes: usize,
    /// Memory of all instances.
    pub memory_total_bytes: usize,
    /// Stack of one call's own code.
    pub stack_bytes: usize,
    /// Time of one call.
    pub call_timeout_ms: u128,
    /// Time of the trial.
    pub init_timeout_ms: u128,
    /// Calls at a time.
    pub concurrency: usize,
    /// Calls of one instance.
    pub reuse: u32,
    /// Handles of one instance.
    pub resources: usize,
    /// Time of one look-up or request to another server.
    pub host_wait_max_ms: u128,
    /// Time that a call waits for its turn.
    pub permit_wait_max_ms: u128,
    /// Bytes that cross at once.
    pub hostcall_bytes: usize,
    /// Log of one call.
    pub log_bytes_per_call: usize,
    /// Parts of one answer.
    pub answer_parts_max: usize,
    /// Bytes of one answer's parts.
    pub answer_bytes_max: usize,
    /// Servers that it may call.
    pub http_hosts: Vec<String>,
}

/// How a loaded version does.
#[derive(Debug, Serialize)]
pub struct UsageView {
    /// Calls by outcome.
    pub calls: BTreeMap<&'static str, u64>,
    /// Calls under way.
    pub in_flight: usize,
    /// Instances that are alive, idle ones included.
    pub instances: usize,
    /// What they hold now.
    pub memory_bytes: usize,
    /// The most memory that one instance had.
    pub memory_peak_bytes: usize,
}

/// A pipeline.
#[derive(Debug, Serialize)]
pub struct PipelineView {
    /// Its public name.
    pub pipeline: String,
    /// Whether it can answer now.
    pub ready: bool,
    /// Its plugins, in order.
    pub plugins: Vec<StageView>,
}

/// A plugin's place in a pipeline.
#[derive(Debug, Serialize)]
pub struct StageView {
    /// The plugin.
    pub plugin: String,
    /// The version that serves.
    pub active: Option<String>,
    /// What its failure means.
    pub on_failure: &'static str,
    /// Weights by version, where several share the requests.
    pub split: BTreeMap<String, u32>,
    /// The candidate that gets copies.
    pub shadow: Option<ShadowView>,
}

/// A candidate that gets copies of requests.
#[derive(Debug, Serialize)]
pub struct ShadowView {
    /// The candidate.
    pub version: String,
    /// The share of requests that it gets.
    pub sample: f64,
    /// How it does.
    #[serde(flatten)]
    pub counts: ShadowCounts,
}

impl Plugins {
    /// All plugins that the actor may see.
    pub fn list(&self, actor: &Actor) -> Vec<PluginView> {
        let snapshot = self.catalog.snapshot();
        let under_way = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        let mut names: BTreeSet<String> = snapshot.plugins.keys().map(|name| name.to_string()).collect();
        names.extend(under_way.keys().map(|(plugin, _)| plugin.clone()));
        drop(under_way);
        names.iter().filter(|name| self.may_see(actor, name)).map(|name| self.view(&snapshot, name)).collect()
    }

    /// One plugin.
    ///
    /// # Errors
    /// Not the actor's, or none of that name.
    pub fn show(&self, actor: &Actor, plugin: &str) -> Result<PluginView> {
        self.check_plugin(actor, plugin)?;
        Ok(self.view(&self.catalog.snapshot(), plugin))
    }

    /// One version.
    ///
    /// # Errors
    /// Not the actor's, or none of that name.
    pub fn show_version(&self, actor: &Actor, plugin: &str, version: &str) -> Result<VersionView> {
        let view = self.show(actor, plugin)?;
        let found = view.versions.into_iter().find(|found| found.version == version);
        found.ok_or_else(|| no_version(plugin, version))
    }

    /// The bytes of a version.
    ///
    /// # Errors
    /// Not the actor's, none of that name, or one whose bytes are the configuration's.
    pub async fn component(&self, actor: &Actor, plugin: &str, version: &str) -> Result<Vec<u8>> {
        self.check_plugin(actor, plugin)?;
        let store = Arc::clone(self.store()?);
        let record = store.snapshot().version(plugin, version).cloned();
        let record = record.ok_or_else(|| no_version(plugin, version))?;
        let read = tokio::task::spawn_blocking(move || store.read_blob(&record.digest)).await;
        Ok(read.map_err(|_| super::panicked())??)
    }

    /// Lines of a plugin's versions that are or were loaded, or of one of them: those after a number, or the
    /// newest.
    ///
    /// # Errors
    /// Not the actor's, or none of that name.
    pub fn logs(
        &self,
        actor: &Actor,
        plugin: &str,
        version: Option<&str>,
        after: Option<u64>,
        limit: usize,
    ) -> Result<Vec<LogLine>> {
        self.check_plugin(actor, plugin)?;
        let limit = limit.min(LOG_LINES_MAX);
        let snapshot = self.catalog.snapshot();
        let slot = snapshot.plugins.get(plugin);
        let loaded = slot.into_iter().flat_map(|slot| slot.versions.values().map(|it| Arc::clone(&it.log)));
        let logs = loaded.chain(self.past.of(plugin));
        let logs = logs.filter(|log| version.is_none_or(|version| log.version() == version));
        let mut lines: Vec<LogLine> = logs.flat_map(|log| log.lines(after, limit)).collect();
        lines.sort_by_key(|line| line.sequence);
        match after {
            Some(_) => lines.truncate(limit),
            None => drop(lines.drain(..lines.len().saturating_sub(limit))),
        }
        Ok(lines)
    }

    /// Watches a loaded version's calls for a while: a profile for the Firefox profiler.
    ///
    /// # Errors
    /// Not the actor's, not loaded, or another profile under way.
    pub async fn profile(
        &self,
        actor: &Actor,
        plugin: &str,
        version: &str,
        duration: std::time::Duration,
    ) -> Result<Vec<u8>> {
        self.check_plugin(actor, plugin)?;
        let loaded = self.loaded(plugin, version).and_then(|loaded| loaded.plugin.clone());
        let loaded = loaded.ok_or_else(|| {
            Error::new(Kind::NotFound, format!("version '{version}' of plugin '{plugin}' is not loaded"))
        })?;
        loaded.profile(duration).await.map_err(|error| match error {
            ProfileError::Busy => Error::new(Kind::InUse, error.to_string()),
            ProfileError::TooLong { .. } | ProfileError::TooLarge => {
                Error::new(Kind::BadRequest, error.to_string())
            }
            ProfileError::Failed(detail) => {
                Error::new(Kind::Internal, "the profile could not be made").with_detail(detail)
            }
        })
    }

    /// All pipelines that use a plugin which the actor may see, with those plugins only; and
    /// those without plugins for an admin.
    pub fn pipelines(&self, actor: &Actor) -> Vec<PipelineView> {
        let snapshot = self.catalog.snapshot();
        let visible = snapshot.pipelines.values().filter(|pipeline| self.may_see_some_of(actor, pipeline));
        visible.map(|pipeline| self.pipeline_view(actor, pipeline)).collect()
    }

    fn pipeline_view(&self, actor: &Actor, pipeline: &super::super::Pipeline) -> PipelineView {
        let stages = pipeline.stages.plugins();
        let visible = stages.filter(|stage| self.may_see(actor, &stage.slot.name));
        PipelineView {
            pipeline: pipeline.name.to_string(),
            ready: pipeline.is_ready(),
            plugins: visible.map(stage_view).collect(),
        }
    }

    fn view(&self, snapshot: &Snapshot, plugin: &str) -> PluginView {
        let slot = snapshot.plugins.get(plugin);
        let registry = self.builder.registry();
        let uses = |pipeline: &&Arc<super::super::Pipeline>| {
            pipeline.stages.plugins().any(|stage| *stage.slot.name == *plugin)
        };
        let name = |version: Option<&Arc<LoadedPlugin>>| version.map(|version| version.version.to_string());
        let mut versions: Vec<VersionView> = Vec::new();
        if let Some(slot) = slot {
            let configured =
                [FILE_VERSION, OCI_VERSION].into_iter().filter_map(|name| slot.versions.get(name));
            versions.extend(configured.map(|loaded| configured_view(slot, loaded)));
            versions.extend(registry.versions(plugin).map(|record| self.record_view(slot, record)));
        }
        versions.extend(self.coming_in(snapshot, plugin));
        // What the configuration does not name is not loaded: the registry knows of it.
        let known = registry.plugin(plugin).filter(|_| slot.is_none_or(|slot| !slot.is_declared));
        let known_active = known.and_then(|record| record.active.clone());
        let known_previous = known.and_then(|record| record.history.last().cloned());
        PluginView {
            plugin: plugin.to_owned(),
            owner: self.owner_of(plugin).flatten().as_deref().map(str::to_owned),
            declared: slot.is_some_and(|slot| slot.is_declared),
            active: name(slot.and_then(|slot| slot.active.as_ref())).or(known_active),
            previous: name(slot.and_then(|slot| slot.previous.as_ref())).or(known_previous),
            problem: slot.and_then(|slot| slot.problem.clone()),
            pipelines: snapshot.pipelines.values().filter(uses).map(|it| it.name.to_string()).collect(),
            versions,
        }
    }

    fn record_view(&self, slot: &PluginSlot, record: &VersionRecord) -> VersionView {
        let loaded = slot.versions.get(record.version.as_str());
        let fact = |key: &str| record.facts.get(key).and_then(|value| value.as_str()).map(str::to_owned);
        VersionView {
            plugin: record.plugin.clone(),
            version: record.version.clone(),
            owner: record.owner.clone(),
            state: record.state.to_string(),
            reason: record.reason.clone(),
            digest: Some(record.digest.to_string()),
            size_bytes: Some(record.size_bytes),
            world: fact("world"),
            contract: fact("contract"),
            imports: Self::imports(slot, &record.facts),
            metadata: record.facts.get("metadata").cloned().unwrap_or_default(),
            limits: limits(&slot.config),
            signed_by: record.signed_by.clone(),
            samples: record.samples,
            uploaded_by: Some(record.uploaded_by.clone()),
            uploaded_at: Some(record.uploaded_at.clone()),
            source: "upload".to_owned(),
            usage: loaded.map(|loaded| usage(loaded)),
            bake: self.bake_of(&record.plugin, &record.version),
        }
    }

    fn imports(slot: &PluginSlot, facts: &serde_json::Value) -> Vec<ImportView> {
        let Ok(facts) = <sluice_sandbox::ComponentFacts as serde::Deserialize>::deserialize(facts) else {
            return Vec::new();
        };
        let verdicts = slot.verdicts(&facts);
        verdicts.into_iter().map(|(name, why)| ImportView { name, granted: why.is_none(), why }).collect()
    }

    /// Uploads that are not acknowledged yet.
    fn coming_in(&self, snapshot: &Snapshot, plugin: &str) -> Vec<VersionView> {
        let config = snapshot.config.plugins.get(plugin).cloned();
        let config = config.unwrap_or_else(|| snapshot.config.undeclared(&plugin.into()));
        let under_way = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        let of_plugin = under_way.iter().filter(|((name, _), _)| name == plugin);
        of_plugin
            .map(|((_, version), progress)| VersionView {
                plugin: plugin.to_owned(),
                version: version.clone(),
                owner: config.owner.as_deref().map(str::to_owned),
                state: progress.state.to_string(),
                reason: None,
                digest: None,
                size_bytes: None,
                world: None,
                contract: None,
                imports: Vec::new(),
                metadata: serde_json::Value::Null,
                limits: limits(&config),
                signed_by: None,
                samples: 0,
                uploaded_by: Some(progress.by.to_string()),
                uploaded_at: Some(progress.started_at.clone()),
                source: "upload".to_owned(),
                usage: None,
                bake: None,
            })
            .collect()
    }
}

/// The version that the configuration names itself.
fn configured_view(slot: &PluginSlot, loaded: &LoadedPlugin) -> VersionView {
    let info = loaded.info();
    let is_active = slot.active.as_ref().is_some_and(|active| active.version == loaded.version);
    let state = if is_active { VersionState::Active } else { VersionState::Ready };
    VersionView {
        plugin: slot.name.to_string(),
        version: loaded.version.to_string(),
        owner: slot.config.owner.as_deref().map(str::to_owned),
        state: state.to_string(),
        reason: None,
        digest: info.map(|info| format!("sha256:{}", info.digest)),
        size_bytes: info.and_then(|info| u64::try_from(info.size_bytes).ok()),
        world: info.map(|info| info.world.to_string()),
        contract: info.map(|info| info.facts.contract.clone()),
        imports: info
            .map(|info| {
                info.imports.iter().map(|name| ImportView { name: name.clone(), granted: true, why: None })
            })
            .into_iter()
            .flatten()
            .collect(),
        metadata: info.and_then(|info| serde_json::to_value(&info.facts.metadata).ok()).unwrap_or_default(),
        limits: limits(&slot.config),
        signed_by: None,
        samples: 0,
        uploaded_by: None,
        uploaded_at: None,
        source: loaded.version.to_string(),
        usage: Some(usage(loaded)),
        bake: None,
    }
}

fn no_version(plugin: &str, version: &str) -> Error {
    Error::new(Kind::NotFound, format!("plugin '{plugin}' has no version '{version}'"))
}

fn limits(config: &config::Plugin) -> LimitsView {
    LimitsView {
        memory_bytes: config.memory_bytes,
        memory_total_bytes: config.memory_total_bytes,
        stack_bytes: config.stack_bytes,
        call_timeout_ms: config.call_timeout.as_millis(),
        init_timeout_ms: config.init_timeout.as_millis(),
        concurrency: config.concurrency,
        reuse: config.reuse,
        resources: config.resources,
        host_wait_max_ms: config.host_wait_max.as_millis(),
        permit_wait_max_ms: config.permit_wait_max.as_millis(),
        hostcall_bytes: config.hostcall_bytes,
        log_bytes_per_call: config.log_bytes_per_call,
        answer_parts_max: config.answer_parts_max,
        answer_bytes_max: config.answer_bytes_max,
        http_hosts: config.http_hosts.iter().map(ToString::to_string).collect(),
    }
}

fn usage(loaded: &LoadedPlugin) -> UsageView {
    let used = loaded.plugin.as_ref().map(sluice_sandbox::Plugin::usage).unwrap_or_default();
    UsageView {
        calls: loaded.metrics.outcomes().collect(),
        in_flight: used.calls_in_flight,
        instances: used.instances,
        memory_bytes: used.memory_bytes,
        memory_peak_bytes: used.instance_bytes_peak,
    }
}

fn stage_view(stage: &StagePlugin) -> StageView {
    let weights = stage.split.iter().flat_map(Split::weights);
    let shadow = stage.shadow.as_ref().map(|shadow| ShadowView {
        version: shadow.candidate.version.to_string(),
        sample: shadow.sample,
        counts: shadow.stats.counts(),
    });
    StageView {
        plugin: stage.slot.name.to_string(),
        active: stage.slot.active.as_ref().map(|active| active.version.to_string()),
        on_failure: stage.on_failure.name(),
        split: weights.map(|(plugin, weight)| (plugin.version.to_string(), weight)).collect(),
        shadow,
    }
}
