//! Why a plugin was not pulled or pushed.

/// Why a plugin was not pulled or pushed. The texts are for operators and authors: they
/// name the registry, and hold no credentials.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OciError {
    /// The reference is malformed.
    #[error("'{reference}' is no reference of a plugin: {why}")]
    Reference {
        /// As it was written.
        reference: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// No connection to the registry, or it was lost.
    #[error("registry {host} cannot be reached: {why}")]
    Unreachable {
        /// The registry.
        host: String,
        /// As the system says it.
        why: String,
    },
    /// The registry wants other credentials.
    #[error("registry {host} refuses access to {repository}: check the credentials")]
    Denied {
        /// The registry.
        host: String,
        /// What was asked for.
        repository: String,
    },
    /// The registry has no such repository, tag or digest.
    #[error("registry {host} has no {what}")]
    NotFound {
        /// The registry.
        host: String,
        /// What was asked for.
        what: String,
    },
    /// The registry gave an answer that makes no sense.
    #[error("registry {host} gave a wrong answer: {why}")]
    Protocol {
        /// The registry.
        host: String,
        /// What was wrong.
        why: String,
    },
    /// What came is not what the digest names.
    #[error(
        "{what} has the digest {actual} and not {expected}: it was altered on the way or in the registry"
    )]
    Digest {
        /// Manifest or component.
        what: &'static str,
        /// What was asked for.
        expected: String,
        /// What came.
        actual: String,
    },
    /// It is above a limit.
    #[error("{what} is larger than {bytes_max} bytes")]
    TooLarge {
        /// Manifest or component.
        what: &'static str,
        /// The limit.
        bytes_max: u64,
    },
    /// It is no plugin: another kind of artifact.
    #[error("artifact is no WebAssembly component: {0}")]
    NotPlugin(String),
    /// The file of credentials cannot be used.
    #[error("credentials cannot be used: {0}")]
    Credentials(String),
    /// The operator's certificates cannot be used.
    #[error("{0}")]
    Certificates(String),
    /// The cache cannot be used.
    #[error("pulled plugins cannot be kept: {0}")]
    Cache(String),
}
