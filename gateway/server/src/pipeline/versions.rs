//! The versions of a pipeline's plugins that one request uses.

use std::sync::Arc;

use super::Call;
use crate::catalog::{LoadedPlugin, Pipeline, StagePlugin, Stages};
use crate::config::FailurePolicy;
use crate::error::{Error, Kind, Result};
use crate::observe::Stage;

/// Chosen once for a request, so that it never sees two versions of a plugin.
pub(super) struct Versions {
    pre: Option<Arc<LoadedPlugin>>,
    /// After the model, or the one that is the whole pipeline.
    post: Option<Arc<LoadedPlugin>>,
    /// The candidate, if the request is a copy that is run to try it.
    candidate: Option<Arc<LoadedPlugin>>,
}

/// The plugins of a pipeline by the stage that they are.
fn stages(pipeline: &Pipeline) -> (Option<&StagePlugin>, Option<&StagePlugin>) {
    match &pipeline.stages {
        Stages::Staged { pre, post, .. } => (pre.as_ref(), post.as_ref()),
        Stages::Ensemble(_) => (None, None),
        Stages::Whole { plugin } => (None, Some(plugin)),
    }
}

/// Whether a failure may run the request again.
pub(super) fn may_fall_back(pipeline: &Pipeline) -> bool {
    pipeline.stages.plugins().any(|stage| stage.on_failure == FailurePolicy::Previous)
}

impl Versions {
    /// By the request's key, so that the same key meets the same versions.
    ///
    /// # Errors
    /// [`Kind::ModelUnavailable`] if a plugin has no version that serves.
    pub(super) fn choose(pipeline: &Pipeline, call: &Call) -> Result<Self> {
        let choose = |stage: Option<&StagePlugin>| match stage {
            None => Ok(None),
            Some(stage) => match stage.choose(&call.key) {
                Some(plugin) => Ok(Some(Arc::clone(plugin))),
                None => Err(nothing_active(&stage.slot.name)),
            },
        };
        let (pre, post) = stages(pipeline);
        Ok(Self { pre: choose(pre)?, post: choose(post)?, candidate: None })
    }

    /// The same with one plugin in another version.
    fn with(&self, plugin: &Arc<LoadedPlugin>) -> Self {
        let swap = |old: &Option<Arc<LoadedPlugin>>| match old {
            Some(old) if old.name == plugin.name => Some(Arc::clone(plugin)),
            old => old.clone(),
        };
        Self { pre: swap(&self.pre), post: swap(&self.post), candidate: self.candidate.clone() }
    }

    /// For a copy of a request that tries a candidate.
    pub(super) fn try_out(&self, candidate: &Arc<LoadedPlugin>) -> Self {
        Self { candidate: Some(Arc::clone(candidate)), ..self.with(candidate) }
    }

    /// With another version than the one that failed in a stage, where the policy says so and
    /// there is one: the version that serves, where a split's other one failed, else the one
    /// before it.
    pub(super) fn before(&self, pipeline: &Pipeline, failed: Stage) -> Option<Self> {
        let (pre, post) = stages(pipeline);
        let (stage, used) = match failed {
            Stage::Pre => (pre?, self.pre.as_ref()?),
            _ => (post?, self.post.as_ref()?),
        };
        let others = [&stage.slot.active, &stage.slot.previous].into_iter().flatten();
        let previous = others.into_iter().find(|other| !Arc::ptr_eq(other, used))?;
        (stage.on_failure == FailurePolicy::Previous && self.candidate.is_none()).then(|| self.with(previous))
    }

    /// The plugin of a stage.
    pub(super) fn of(&self, stage: Stage) -> Result<&Arc<LoadedPlugin>> {
        let plugin = if stage == Stage::Pre { &self.pre } else { &self.post };
        plugin
            .as_ref()
            .ok_or_else(|| Error::new(Kind::Internal, "internal error").with_detail("no plugin in a stage"))
    }

    /// Whether the caller of this run has its answer already.
    pub(super) fn is_shadow(&self) -> bool {
        self.candidate.is_some()
    }

    /// Whether a call of this plugin is to be counted: of a copy, only the candidate's.
    pub(super) fn counts(&self, plugin: &LoadedPlugin) -> bool {
        self.candidate.as_ref().is_none_or(|it| it.name == plugin.name && it.version == plugin.version)
    }
}

fn nothing_active(plugin: &str) -> Error {
    Error::new(Kind::ModelUnavailable, format!("plugin '{plugin}' has no active version"))
}
