//! Who makes an admin request, and what they may do.

use std::sync::Arc;

/// What a token allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Scope {
    /// Calling pipelines and models.
    Predict,
    /// Uploading, activating and removing the owner's own plugins.
    PluginsDeploy,
    /// Everything.
    Admin,
}

impl Scope {
    /// The name in configuration files and in answers.
    pub fn name(self) -> &'static str {
        match self {
            Self::Predict => "predict",
            Self::PluginsDeploy => "plugins:deploy",
            Self::Admin => "admin",
        }
    }
}

/// Who makes a request: a token's bearer, or the local operator where the
/// configuration allows loopback without tokens.
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

    /// Whether it may do everything.
    pub fn is_admin(&self) -> bool {
        self.scopes.contains(&Scope::Admin)
    }

    /// Whether it may change plugins of this owner.
    pub fn may_deploy_for(&self, owner: &str) -> bool {
        let own = self.owner.as_deref() == Some(owner);
        self.is_admin() || (own && self.scopes.contains(&Scope::PluginsDeploy))
    }
}
