//! Pipelines of a snapshot: stages that join plugins and models, with their splits and
//! shadows.

use std::collections::BTreeMap;
use std::sync::Arc;

use sluice_sandbox::World;

use super::super::model::Model;
use super::super::store::RouteRecord;
use super::super::{Pipeline, PluginSlot, ShadowStage, ShadowStats, Split, StagePlugin, Stages};
use super::{Build, Problem};
use crate::config::{self, FailurePolicy, PipelineKind};

type Named<T> = BTreeMap<Arc<str>, Arc<T>>;

/// A plugin's role in a pipeline: what it is called, and which worlds fit.
struct Role {
    name: &'static str,
    fits: fn(World) -> bool,
}

const PRE: Role = Role { name: "preprocessor", fits: World::has_preprocess };
const POST: Role = Role { name: "postprocessor", fits: World::has_postprocess };
const WHOLE: Role = Role { name: "whole pipeline", fits: World::is_pipeline };

impl Build<'_> {
    pub(super) fn pipelines(
        &mut self,
        models: &Named<Model>,
        plugins: &Named<PluginSlot>,
    ) -> Named<Pipeline> {
        let mut pipelines = BTreeMap::new();
        let all = Arc::clone(&self.config);
        for (name, config) in &all.pipelines {
            let stages = self.stages(config, models, plugins);
            let stages = stages.map_err(|what| Problem::new(format!("pipelines.{name}"), what));
            // A part that is not there was reported where it failed to load.
            let Some(Some(stages)) = self.keep(stages) else { continue };
            let pipeline = Pipeline {
                name: Arc::clone(name),
                stages,
                timeout: config.timeout,
                streams: config.stream,
                metrics: self.builder.metrics.pipeline(name),
                threads: self.builder.sandbox.threads(),
            };
            pipelines.insert(Arc::clone(name), Arc::new(pipeline));
        }
        pipelines
    }

    /// The stages of a pipeline; `None` when a part of it failed to load.
    fn stages(
        &self,
        config: &config::Pipeline,
        models: &Named<Model>,
        plugins: &Named<PluginSlot>,
    ) -> Result<Option<Stages>, String> {
        match &config.kind {
            PipelineKind::Ensemble(_) => {
                Ok(self.joined.get(&config.name).map(|joined| Stages::Ensemble(Arc::clone(joined))))
            }
            PipelineKind::Plugin { plugin } => {
                let stage = self.stage(config, plugin, &WHOLE, config.post_on_failure, plugins)?;
                Ok(stage.map(|plugin| Stages::Whole { plugin }))
            }
            PipelineKind::Staged { pre, model, post } => {
                let mut ends = Vec::new();
                for (name, role, policy) in
                    [(pre, &PRE, config.pre_on_failure), (post, &POST, config.post_on_failure)]
                {
                    let Some(name) = name else {
                        ends.push(None);
                        continue;
                    };
                    match self.stage(config, name, role, policy, plugins)? {
                        Some(stage) => ends.push(Some(stage)),
                        None => return Ok(None),
                    }
                }
                let (post, pre) = (ends.pop().flatten(), ends.pop().flatten());
                if !self.config.models.contains_key(model) {
                    return Err(format!("no model is named '{model}', and no repository serves one"));
                }
                let Some(model) = models.get(model) else { return Ok(None) };
                Ok(Some(Stages::Staged { pre, model: Arc::clone(model), post }))
            }
        }
    }

    fn stage(
        &self,
        pipeline: &config::Pipeline,
        plugin: &Arc<str>,
        role: &Role,
        on_failure: FailurePolicy,
        plugins: &Named<PluginSlot>,
    ) -> Result<Option<StagePlugin>, String> {
        let Some(slot) = plugins.get(plugin) else { return Ok(None) };
        let route = self.registry.route(&pipeline.name, plugin);
        let stage = StagePlugin {
            slot: Arc::clone(slot),
            on_failure,
            split: route.and_then(|route| split(slot, route)),
            shadow: route.and_then(|route| self.shadow(&pipeline.name, slot, route)),
        };
        let shared = stage.split.iter().flat_map(Split::weights).map(|(plugin, _)| plugin);
        let candidate = stage.shadow.iter().map(|shadow| &shadow.candidate);
        for version in slot.active.iter().chain(shared).chain(candidate) {
            if let Some(info) = version.info()
                && !(role.fits)(info.world)
            {
                let (version, world) = (&version.version, info.world);
                return Err(format!(
                    "plugin '{plugin}' version '{version}' is a {world} and cannot be the {}",
                    role.name
                ));
            }
        }
        Ok(Some(stage))
    }

    /// The candidate that gets copies; its counts go on if it is the same as before.
    fn shadow(
        &self,
        pipeline: &Arc<str>,
        slot: &PluginSlot,
        route: &RouteRecord,
    ) -> Option<Arc<ShadowStage>> {
        let record = route.shadow.as_ref()?;
        let candidate = Arc::clone(slot.versions.get(record.version.as_str())?);
        let before = self.previous.and_then(|snapshot| snapshot.pipelines.get(pipeline));
        let before = before.into_iter().flat_map(|pipeline| pipeline.stages.plugins());
        let stats = before
            .filter(|stage| stage.slot.name == slot.name)
            .filter_map(|stage| stage.shadow.as_ref())
            .find(|shadow| Arc::ptr_eq(&shadow.candidate, &candidate))
            .map_or_else(|| Arc::new(ShadowStats::default()), |shadow| Arc::clone(&shadow.stats));
        Some(Arc::new(ShadowStage { candidate, sample: record.sample, stats }))
    }
}

/// The versions that share the requests. A version that could not be loaded takes none.
fn split(slot: &PluginSlot, route: &RouteRecord) -> Option<Split> {
    let loaded = |(version, weight): (&String, &u32)| {
        Some((*weight, Arc::clone(slot.versions.get(version.as_str())?)))
    };
    Split::new(route.split.iter().filter_map(loaded))
}
