//! Who may do what, and how connections are protected.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use serde::Deserialize;

/// What a token allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize)]
pub enum Scope {
    /// Calling pipelines and models.
    #[serde(rename = "predict")]
    Predict,
    /// Uploading, activating and removing the owner's own plugins.
    #[serde(rename = "plugins:deploy")]
    PluginsDeploy,
    /// Reading metrics.
    #[serde(rename = "metrics")]
    Metrics,
    /// Everything.
    #[serde(rename = "admin")]
    Admin,
}

impl Scope {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Predict, Self::PluginsDeploy, Self::Metrics, Self::Admin];

    /// The name in configuration files and in answers.
    pub fn name(self) -> &'static str {
        match self {
            Self::Predict => "predict",
            Self::PluginsDeploy => "plugins:deploy",
            Self::Metrics => "metrics",
            Self::Admin => "admin",
        }
    }
}

/// A bearer token that is known, by its hash.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    /// SHA-256 of the token.
    pub hash: [u8; 32],
    /// What it allows.
    pub scopes: Vec<Scope>,
    /// Whose it is: plugins of this owner may be deployed with it.
    pub owner: Option<Arc<str>>,
    /// Seconds since 1970 after which it is unknown.
    pub expires: Option<u64>,
}

/// Even a hash is nobody's business.
impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token")
            .field("scopes", &self.scopes)
            .field("owner", &self.owner)
            .finish_non_exhaustive()
    }
}

/// A key whose signatures count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrustedKey {
    /// Whose plugins it may sign; none signs everybody's.
    pub owner: Option<Arc<str>>,
    /// The ed25519 public key.
    pub public_key: [u8; 32],
}

/// The files of a TLS listener. They are watched, and read again when they change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tls {
    /// The certificate chain, PEM.
    pub certificate: PathBuf,
    /// Its private key, PEM.
    pub key: PathBuf,
    /// Where clients' certificates must come from; without it clients need none.
    pub client_ca: Option<PathBuf>,
}

impl Tls {
    /// All of its files.
    pub fn files(&self) -> impl Iterator<Item = &PathBuf> {
        [&self.certificate, &self.key].into_iter().chain(&self.client_ca)
    }
}
