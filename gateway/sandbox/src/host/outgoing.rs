//! What stands behind `wasi:http/outgoing-handler`: whoever has a network.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use crate::CallContext;

/// What one request may use. The sandbox gives up after the same time; stopping earlier
/// is what keeps a body from being read in vain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutgoingLimits {
    /// For everything: resolving, connecting, sending and reading.
    pub timeout: Duration,
    /// Most bytes of the answer's body; more is [`OutgoingError::TooLarge`].
    pub response_bytes_max: usize,
}

/// Why a request got no answer. Plugins see the kind, and the text of `Other`: it must
/// hold no address and no token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OutgoingError {
    /// The configuration does not grant this server, method or scheme.
    #[error("request is not granted")]
    Denied,
    /// The server's name leads to an address that plugins may not reach.
    #[error("destination address is prohibited")]
    AddressProhibited,
    /// The server's name leads nowhere.
    #[error("name of the destination cannot be resolved")]
    NotResolved,
    /// No connection, or it was lost.
    #[error("destination cannot be reached")]
    Unreachable,
    /// The server's certificate or protocol is not acceptable.
    #[error("secure connection cannot be made")]
    Tls,
    /// The limit on time was reached.
    #[error("destination did not answer in time")]
    Timeout,
    /// The answer's body is above the limit.
    #[error("answer is too large")]
    TooLarge,
    /// Too many requests are under way.
    #[error("too many requests are under way")]
    Overloaded,
    /// The server's answer is no HTTP.
    #[error("destination broke the protocol")]
    Protocol,
    /// Anything else.
    #[error("{0}")]
    Other(String),
}

/// Sends the HTTP requests of plugins.
///
/// The sandbox knows nothing of networks: which servers may be reached, name resolution,
/// address checks and connections are the implementation's. Called on guest threads, so
/// it must wait without blocking. The future is dropped when the call is cancelled.
#[async_trait]
pub trait Outgoing: Send + Sync {
    /// Sends a request, whose URI has scheme and authority, and waits for the whole
    /// answer.
    async fn send(
        &self,
        call: &CallContext,
        request: http::Request<Bytes>,
        limits: OutgoingLimits,
    ) -> Result<http::Response<Bytes>, OutgoingError>;
}
