//! What can go wrong with the store, and which row of the error table it is.

use std::io;
use std::path::{Path, PathBuf};

use super::records::VersionState;
use crate::error::{Error, Kind};

/// Why the store refused or failed. Nothing was changed, unless a variant says so.
///
/// `Display` is for the log and for the operator at start: it may hold paths. What a
/// caller sees comes from the conversion into [`Error`].
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another process holds the state directory.
    #[error("the state directory {} is in use by {}", dir.display(), holder(*.pid))]
    Locked {
        /// The directory.
        dir: PathBuf,
        /// Who holds it, if it has written that down.
        pid: Option<u32>,
    },
    /// A newer program wrote the registry. It is left untouched.
    #[error(
        "the registry was written by a newer sluice: its schema is {found}, this program knows {known}; \
         start the newer program, or give this one another state directory"
    )]
    Newer {
        /// The schema that was found.
        found: u64,
        /// The newest schema this program can read.
        known: u64,
    },
    /// The registry and its copy are both unusable. Both are left untouched.
    #[error("the registry cannot be read ({registry}), and neither can its copy ({backup})")]
    Unrecoverable {
        /// What is wrong with `registry.redb`.
        registry: String,
        /// What is wrong with `registry.backup`.
        backup: String,
    },
    /// No space, no quota, or a file system that takes no writes. Works again once
    /// there is room.
    #[error("no room to {operation}: {source}")]
    Full {
        /// What was being done.
        operation: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// The disk failed. If this came from a commit, the change is either whole or
    /// absent, and the current snapshot says which.
    #[error("cannot {operation}: {source}")]
    Io {
        /// What was being done.
        operation: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// Stored bytes are not what they were when they were stored.
    #[error("corrupt: {what}")]
    Corrupt {
        /// What, and how one can tell.
        what: String,
    },
    /// A blob is longer than its writer may write.
    #[error("longer than {bytes_max} bytes")]
    TooLarge {
        /// The bound that was given.
        bytes_max: u64,
    },
    /// A name that is not one: see `sluice_tensor::check_name`.
    #[error(
        "not a name for a {what}: letters, digits, '_', '.' and '-', at most 128, a letter or digit first"
    )]
    Name {
        /// A name of what.
        what: &'static str,
    },
    /// A bound of the registry is reached: something has to be removed first.
    #[error("the registry holds at most {max} {what}")]
    Limit {
        /// Of what.
        what: &'static str,
        /// How many.
        max: usize,
    },
    /// What the change is about does not exist.
    #[error("no such {what}")]
    NotFound {
        /// What.
        what: &'static str,
    },
    /// The version exists with other content.
    #[error("version {version} of {plugin} exists with other content")]
    DigestConflict {
        /// The plugin.
        plugin: String,
        /// The version.
        version: String,
    },
    /// The plugin belongs to somebody else than the version.
    #[error("the plugin has another owner by now")]
    OtherOwner,
    /// What is to be removed or stopped is in use.
    #[error("version {version} is {used}")]
    InUse {
        /// The version.
        version: String,
        /// By what: "active", or a split or shadow with its pipeline.
        used: String,
    },
    /// A version cannot go from one state to the other.
    #[error("version {version} is {from} and cannot become {to}")]
    Illegal {
        /// The version.
        version: String,
        /// Its state.
        from: VersionState,
        /// The state that was asked for.
        to: VersionState,
    },
    /// A split or shadow names a version that requests cannot be sent to.
    #[error("version {version} is {state}, not ready")]
    NotReady {
        /// The version.
        version: String,
        /// Its state.
        state: VersionState,
    },
    /// The change would leave the registry in a state that makes no sense.
    #[error("{0}")]
    Invalid(String),
    /// Somebody changed the same record since the snapshot the change was built on.
    #[error("somebody else changed the same plugin or pipeline meanwhile")]
    Stale,
    /// The record is there but cannot be read: it has to be discarded first.
    #[error("the stored record of this {what} is unreadable and is kept aside: discard it first")]
    Quarantined {
        /// A record of what.
        what: &'static str,
    },
}

/// What the store gives.
pub(super) type Result<T, E = StoreError> = std::result::Result<T, E>;

fn holder(pid: Option<u32>) -> String {
    pid.map_or_else(|| "another process".to_owned(), |pid| format!("process {pid}"))
}

impl StoreError {
    /// Sorts an I/O error: is it room that is missing?
    pub(super) fn io(operation: &'static str, source: io::Error) -> Self {
        use io::ErrorKind::{FileTooLarge, QuotaExceeded, ReadOnlyFilesystem, StorageFull};
        match source.kind() {
            StorageFull | QuotaExceeded | ReadOnlyFilesystem | FileTooLarge => {
                Self::Full { operation, source }
            }
            _ => Self::Io { operation, source },
        }
    }

    /// The same for a path that the operator should know.
    pub(super) fn at(operation: &'static str, path: &Path, source: &io::Error) -> Self {
        Self::io(operation, io::Error::new(source.kind(), format!("{}: {source}", path.display())))
    }

    /// Sorts what redb says.
    pub(super) fn redb(operation: &'static str, error: impl Into<redb::Error>) -> Self {
        match error.into() {
            redb::Error::Io(source) => Self::io(operation, source),
            redb::Error::Corrupted(what) => Self::Corrupt { what: format!("registry.redb: {what}") },
            other => Self::Io { operation, source: io::Error::other(other.to_string()) },
        }
    }

    fn kind(&self) -> Kind {
        match self {
            Self::Full { .. } | Self::Limit { .. } => Kind::StorageFull,
            Self::TooLarge { .. } => Kind::TooLarge,
            Self::Name { .. } | Self::Invalid(_) => Kind::BadRequest,
            Self::NotFound { .. } => Kind::NotFound,
            Self::DigestConflict { .. } => Kind::DigestConflict,
            Self::InUse { .. }
            | Self::Illegal { .. }
            | Self::NotReady { .. }
            | Self::OtherOwner
            | Self::Stale
            | Self::Quarantined { .. } => Kind::InUse,
            Self::Locked { .. }
            | Self::Newer { .. }
            | Self::Unrecoverable { .. }
            | Self::Io { .. }
            | Self::Corrupt { .. } => Kind::Internal,
        }
    }
}

impl From<StoreError> for Error {
    /// The caller's words hold what the caller sent and no path; the rest is for the log.
    fn from(error: StoreError) -> Self {
        match &error {
            StoreError::Full { .. } => Self::new(Kind::StorageFull, "no room left on the gateway's disk")
                .with_detail(error.to_string()),
            _ if error.kind() == Kind::Internal => {
                Self::new(Kind::Internal, "the plugin registry failed").with_detail(error.to_string())
            }
            _ => Self::new(error.kind(), error.to_string()),
        }
    }
}
