//! Who makes a request, and what they may do.

use std::sync::{Arc, LazyLock};

use crate::config::Scope;
use crate::error::{Error, Kind, Result};

/// Who makes a request: a token's bearer, or whoever reaches a listener that asks for
/// no token. Every handler finds it in the request's extensions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The token's name: what the audit log shows.
    pub name: Arc<str>,
    /// Whose plugins it may deploy, if it is not an admin.
    pub owner: Option<Arc<str>>,
    /// What it may do.
    pub scopes: Vec<Scope>,
}

impl Identity {
    /// The operator on loopback, where the configuration asks for no tokens.
    pub fn loopback() -> Self {
        Self { name: Arc::from("loopback"), owner: None, scopes: vec![Scope::Admin] }
    }

    /// Somebody whom nobody asked for a token.
    pub fn anonymous() -> Self {
        static NAME: LazyLock<Arc<str>> = LazyLock::new(|| Arc::from("anonymous"));
        Self { name: Arc::clone(&NAME), owner: None, scopes: Vec::new() }
    }

    /// Whether it may do everything.
    pub fn is_admin(&self) -> bool {
        self.scopes.contains(&Scope::Admin)
    }

    /// Whether it has this scope, or all of them.
    pub fn has(&self, scope: Scope) -> bool {
        self.is_admin() || self.scopes.contains(&scope)
    }

    /// Whether it may change plugins of this owner.
    pub fn may_deploy_for(&self, owner: &str) -> bool {
        let own = self.owner.as_deref() == Some(owner);
        self.is_admin() || (own && self.scopes.contains(&Scope::PluginsDeploy))
    }

    /// Refuses a plugin that is another owner's. Pass `None` for one that does not exist:
    /// only an admin is told so, everybody else gets the same answer for both.
    ///
    /// # Errors
    /// [`Kind::Forbidden`].
    pub fn check_owner(&self, owner: Option<&str>) -> Result<()> {
        let is_allowed = self.is_admin() || owner.is_some_and(|owner| self.may_deploy_for(owner));
        if is_allowed { Ok(()) } else { Err(forbidden()) }
    }
}

/// The answer to everything that a token does not allow. It says nothing about what it
/// was asked for.
pub fn forbidden() -> Error {
    Error::new(Kind::Forbidden, "this token does not allow that")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deployer(owner: Option<&str>) -> Identity {
        Identity { name: "ci".into(), owner: owner.map(Into::into), scopes: vec![Scope::PluginsDeploy] }
    }

    #[test]
    fn a2_another_owners_plugin_and_no_plugin_look_the_same() {
        let team = deployer(Some("team-a"));
        assert!(team.check_owner(Some("team-a")).is_ok());
        let others =
            [team.check_owner(Some("team-b")), team.check_owner(None), deployer(None).check_owner(None)];
        for refused in others {
            let refused = refused.expect_err("another's");
            assert_eq!((refused.kind(), refused.message()), (Kind::Forbidden, forbidden().message()));
        }
        assert!(Identity::loopback().check_owner(None).is_ok());
        let predictor = Identity { scopes: vec![Scope::Predict], ..team };
        assert!(predictor.check_owner(Some("team-a")).is_err(), "the owner alone is not enough");
    }
}
