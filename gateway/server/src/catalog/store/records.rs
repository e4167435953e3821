//! What the registry remembers: plugins, versions, routes and the audit log.
//!
//! Records are stored as JSON. A field that is added later needs a serde default; a
//! change that an older program must not read needs a new schema number.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::error::{Result, StoreError};

/// The content address of a blob: `sha256:` and 64 lower-case hex digits.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct BlobDigest(Arc<str>);

impl BlobDigest {
    const PREFIX: &'static str = "sha256:";

    /// Reads a digest. Anything else than the one spelling is refused, so that a
    /// digest can be a file name.
    pub fn parse(text: &str) -> Result<Self> {
        let is_hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        match text.strip_prefix(Self::PREFIX) {
            Some(hex) if hex.len() == 64 && hex.bytes().all(is_hex) => Ok(Self(Arc::from(text))),
            _ => Err(StoreError::Invalid("not a digest: sha256: and 64 lower-case hex digits".to_owned())),
        }
    }

    /// From the hash itself.
    pub(super) fn from_hash(hash: &[u8]) -> Self {
        use std::fmt::Write as _;
        let mut text = String::with_capacity(Self::PREFIX.len() + 64);
        text.push_str(Self::PREFIX);
        for byte in hash {
            let _ = write!(text, "{byte:02x}");
        }
        Self(text.into())
    }

    /// With the prefix.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The 64 digits alone.
    pub fn hex(&self) -> &str {
        &self.0[Self::PREFIX.len()..]
    }
}

impl fmt::Display for BlobDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for BlobDigest {
    type Error = StoreError;

    fn try_from(text: String) -> Result<Self> {
        Self::parse(&text)
    }
}

impl From<BlobDigest> for String {
    fn from(digest: BlobDigest) -> Self {
        digest.0.as_ref().to_owned()
    }
}

/// Where a version stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum VersionState {
    /// Its bytes are stored.
    Uploaded,
    /// The child process has read and checked it.
    Verified,
    /// It is compiled.
    Compiled,
    /// It is on trial.
    Canary,
    /// It can be activated, split to or shadowed.
    Ready,
    /// It is what its plugin serves.
    Active,
    /// Another version took its place; requests under way may still use it, and one
    /// can roll back to it.
    Draining,
    /// Nobody uses it. Kept for the record until it is deleted.
    Retired,
    /// It was refused or misbehaved: the record says why.
    Failed,
}

impl VersionState {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Uploaded,
        Self::Verified,
        Self::Compiled,
        Self::Canary,
        Self::Ready,
        Self::Active,
        Self::Draining,
        Self::Retired,
        Self::Failed,
    ];

    /// The name in records and answers.
    pub fn name(self) -> &'static str {
        match self {
            Self::Uploaded => "uploaded",
            Self::Verified => "verified",
            Self::Compiled => "compiled",
            Self::Canary => "canary",
            Self::Ready => "ready",
            Self::Active => "active",
            Self::Draining => "draining",
            Self::Retired => "retired",
            Self::Failed => "failed",
        }
    }

    /// THE table of transitions. Everything may fail but what is retired. What waits,
    /// is retired or has failed may go through the checks again, from the start.
    pub fn may_become(self, next: Self) -> bool {
        use VersionState::{Active, Canary, Compiled, Draining, Failed, Ready, Retired, Uploaded, Verified};
        match self {
            Uploaded => matches!(next, Verified | Failed),
            Verified => matches!(next, Compiled | Failed),
            Compiled => matches!(next, Canary | Failed),
            Canary => matches!(next, Ready | Failed),
            Ready => matches!(next, Active | Retired | Failed | Uploaded),
            Active => matches!(next, Ready | Draining | Failed),
            Draining => matches!(next, Active | Ready | Retired | Failed),
            Retired | Failed => matches!(next, Uploaded),
        }
    }

    /// Whether a record may be new in this state: the checks can be done before
    /// anything is recorded, an activation cannot.
    pub fn may_start(self) -> bool {
        self <= Self::Ready
    }

    /// Whether requests may be sent to it: what a split or a shadow may name.
    pub fn is_servable(self) -> bool {
        matches!(self, Self::Ready | Self::Active)
    }
}

impl fmt::Display for VersionState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Where a version's bytes came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum VersionSource {
    /// The admin API. The bytes are a blob of the store.
    Upload,
    /// A file that the configuration names. The bytes are that file.
    File,
    /// A registry of artefacts. The bytes are a blob of the store.
    Oci,
}

impl VersionSource {
    /// Whether the bytes are a blob of the store.
    pub fn has_blob(self) -> bool {
        matches!(self, Self::Upload | Self::Oci)
    }
}

/// A plugin: a name with versions, one of which may be active.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PluginRecord {
    /// Its name.
    pub name: String,
    /// Whose it is: the first uploader's, or the configuration's.
    pub owner: Option<String>,
    /// The version that is served. None: what the configuration names, if anything.
    pub active: Option<String>,
    /// What was active before, oldest first: at most `HISTORY_MAX`.
    pub history: Vec<String>,
    /// When this record changed, RFC 3339.
    pub updated_at: String,
}

/// One version of a plugin.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct VersionRecord {
    /// The plugin's name.
    pub plugin: String,
    /// The version's name.
    pub version: String,
    /// What its bytes are. Never changes.
    pub digest: BlobDigest,
    /// How many they are. Never changes.
    pub size_bytes: u64,
    /// Whose it is.
    pub owner: Option<String>,
    /// Where it stands.
    pub state: VersionState,
    /// Why it failed, in words for its author.
    pub reason: Option<String>,
    /// What the verifier found out. Opaque here.
    pub facts: serde_json::Value,
    /// The name of the key whose signature was checked.
    pub signed_by: Option<String>,
    /// How many sample cases it passed.
    pub samples: usize,
    /// The name of the token that brought it.
    pub uploaded_by: String,
    /// When, RFC 3339.
    pub uploaded_at: String,
    /// From where.
    pub source: VersionSource,
}

#[cfg(test)]
impl VersionRecord {
    /// A version that is ready, of nobody's: for tests, which say what matters to them.
    pub fn ready(plugin: impl Into<String>, version: impl Into<String>, digest: BlobDigest) -> Self {
        Self {
            plugin: plugin.into(),
            version: version.into(),
            digest,
            size_bytes: 1,
            owner: None,
            state: VersionState::Ready,
            reason: None,
            facts: serde_json::Value::Null,
            signed_by: None,
            samples: 0,
            uploaded_by: "test".to_owned(),
            uploaded_at: super::timestamp::now(),
            source: VersionSource::Upload,
        }
    }
}

/// A candidate that gets copies of requests.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ShadowRecord {
    /// The candidate.
    pub version: String,
    /// The share of requests that are copied, 0 to 1.
    pub sample: f64,
}

/// How one pipeline uses one plugin, where it is not simply the active version.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RouteRecord {
    /// The pipeline's public name.
    pub pipeline: String,
    /// The plugin's name.
    pub plugin: String,
    /// Weight by version. Empty: everything to the active version.
    pub split: BTreeMap<String, u32>,
    /// The candidate that is watched, if any.
    pub shadow: Option<ShadowRecord>,
}

/// What somebody did, as the one who asks for it writes it down. Texts that are too
/// long are cut.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AuditEntry {
    /// The name of the token, or `loopback`, or `gateway` for what it does by itself.
    pub actor: String,
    /// What: `upload`, `activate`, `rollback`, …
    pub action: String,
    /// On what: `plugin/version` or a pipeline.
    pub target: String,
    /// What was before, where that makes sense.
    pub from: Option<String>,
    /// What is now.
    pub to: Option<String>,
    /// `ok`, or the reason code of the refusal.
    pub outcome: String,
    /// The request that asked for it.
    pub request_id: String,
}

/// One line of the audit log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditRecord {
    /// Counts up by one with each line, whatever the clock says.
    pub sequence: u64,
    /// When, RFC 3339.
    pub at: String,
    /// See [`AuditEntry`].
    pub actor: String,
    /// See [`AuditEntry`].
    pub action: String,
    /// See [`AuditEntry`].
    pub target: String,
    /// See [`AuditEntry`].
    pub from: Option<String>,
    /// See [`AuditEntry`].
    pub to: Option<String>,
    /// See [`AuditEntry`].
    pub outcome: String,
    /// See [`AuditEntry`].
    pub request_id: String,
}

impl AuditRecord {
    pub(super) fn new(sequence: u64, at: String, entry: AuditEntry) -> Self {
        use super::limits::cut;
        Self {
            sequence,
            at,
            actor: cut(entry.actor),
            action: cut(entry.action),
            target: cut(entry.target),
            from: entry.from.map(cut),
            to: entry.to.map(cut),
            outcome: cut(entry.outcome),
            request_id: cut(entry.request_id),
        }
    }
}
