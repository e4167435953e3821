//! Who asks for a change, and whose plugins they may change.

use std::sync::Arc;

use super::super::build::{BuildError, Problem};
use super::super::{Pipeline, Snapshot};
use super::Plugins;
use crate::auth::Identity;
use crate::error::{Error, Kind, Result, UploadRefusal};

/// Who asks for a change, in which request.
#[derive(Debug, Clone)]
pub struct Actor {
    /// Who.
    pub identity: Identity,
    /// The request's id, for the audit log.
    pub request_id: Arc<str>,
}

impl Actor {
    /// The gateway itself: what it does without being asked.
    pub(super) fn gateway() -> Self {
        let mut identity = Identity::loopback();
        identity.name = "gateway".into();
        Self { identity, request_id: "".into() }
    }
}

impl Plugins {
    /// Whose a plugin is: the configuration's word, else the first uploader's. The outer
    /// `None` is a plugin that does not exist.
    #[expect(clippy::option_option, reason = "a plugin that nobody owns is not one that does not exist")]
    pub(super) fn owner_of(&self, plugin: &str) -> Option<Option<Arc<str>>> {
        let snapshot = self.catalog.snapshot();
        if let Some(declared) = snapshot.config.plugins.get(plugin) {
            return Some(declared.owner.clone());
        }
        let record = self.builder.registry().plugin(plugin).cloned();
        record.map(|record| record.owner.as_deref().map(Into::into))
    }

    /// Refuses a plugin that is not the actor's. Only an admin is told whether it exists.
    ///
    /// # Errors
    /// [`Kind::Forbidden`], or [`Kind::NotFound`] for an admin.
    pub fn check_plugin(&self, actor: &Actor, plugin: &str) -> Result<()> {
        let owner = self.owner_of(plugin);
        actor.identity.check_owner(owner.as_ref().and_then(|owner| owner.as_deref()))?;
        if owner.is_none() {
            return Err(Error::new(Kind::NotFound, format!("there is no plugin '{plugin}'")));
        }
        Ok(())
    }

    /// What keeps a change from being served. Operators are told everything, others what is
    /// wrong with their own plugins and pipelines: the rest is not their business.
    pub(super) fn misfit(&self, actor: &Actor, snapshot: &Snapshot, error: &BuildError) -> Error {
        let refused = Kind::UploadRefused(UploadRefusal::CanaryFailed);
        if actor.identity.is_admin() {
            return Error::new(refused, error.to_string());
        }
        let is_theirs = |problem: &&Problem| {
            let key = problem.key();
            let plugin = key.strip_prefix("plugins.").is_some_and(|name| self.may_see(actor, name));
            let pipeline = key.strip_prefix("pipelines.").and_then(|name| snapshot.pipelines.get(name));
            plugin || pipeline.is_some_and(|pipeline| self.may_see_some_of(actor, pipeline))
        };
        let theirs: Vec<String> = error.0.iter().filter(is_theirs).map(ToString::to_string).collect();
        let message = match theirs.is_empty() {
            true => "something that has nothing to do with this plugin cannot be served just now".to_owned(),
            false => theirs.join("\n"),
        };
        Error::new(refused, message).with_detail(error.to_string())
    }

    /// Whether the actor may see a pipeline: one of its plugins is theirs, or they are an
    /// admin.
    pub(super) fn may_see_some_of(&self, actor: &Actor, pipeline: &Pipeline) -> bool {
        actor.identity.is_admin()
            || pipeline.stages.plugins().any(|stage| self.may_see(actor, &stage.slot.name))
    }

    /// Whether the actor may see a plugin in a list.
    pub(super) fn may_see(&self, actor: &Actor, plugin: &str) -> bool {
        self.check_plugin(actor, plugin).is_ok()
    }
}
