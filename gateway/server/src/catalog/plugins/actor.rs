//! Who asks for a change, and whose plugins they may change.

use std::sync::Arc;

use super::Plugins;
use crate::auth::Identity;
use crate::error::{Error, Kind, Result};

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

    /// Whether the actor may see a plugin in a list.
    pub(super) fn may_see(&self, actor: &Actor, plugin: &str) -> bool {
        self.check_plugin(actor, plugin).is_ok()
    }
}
