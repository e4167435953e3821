//! Outgoing HTTP of plugins: to hosts that the config grants, and to nowhere else.
//!
//! A request passes three doors. Its scheme, host and port must be in the plugin's list.
//! The addresses that the name resolves to are checked at each dial, and exactly those
//! are dialled, so a name server that changes its mind (DNS rebinding) gains nothing.
//! And what goes out is the plugin's request only: no redirect is followed, no proxy is
//! used, no header of the caller is added.
//!
//! The sandbox hands a request over whole and takes the answer whole; both are bounded.

mod address;
mod allow;
mod connect;
mod headers;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use http::uri::{PathAndQuery, Scheme};
use http::{Method, Request, Response, Uri, Version};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use sluice_sandbox::{CallContext, Outgoing, OutgoingError, OutgoingLimits};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};

pub use self::allow::AllowedHost;
use self::allow::Target;
use self::connect::Connector;
use super::certificates::Trusted;

/// Requests of one owner under way at a time; more are refused. It is as many as the
/// calls of one plugin.
const IN_FLIGHT_MAX: usize = 64;

/// Idle connections that are kept for each host of an owner, and for how long. Short,
/// because idle ones count among the owner's connections.
const IDLE_PER_HOST_MAX: usize = 8;
const IDLE_TIMEOUT: Duration = Duration::from_secs(15);

/// Bytes and number of an answer's headers, as on our own listener.
const HEADER_BYTES_MAX: usize = 64 << 10;
const HEADERS_MAX: usize = 100;

/// Bytes of a request's URI: what servers commonly take.
const URI_BYTES_MAX: usize = 8 << 10;

/// How plugins reach other servers: `[egress]` of the config.
#[derive(Debug, Clone, PartialEq)]
pub struct EgressSettings {
    /// Time to resolve, connect and shake hands.
    pub connect_timeout: Duration,
    /// Time for a whole exchange.
    pub timeout: Duration,
    /// Bytes of one body, either way.
    pub body_bytes_max: usize,
    /// Whether names may lead to private addresses. Link-local ones, where clouds keep
    /// a machine's credentials, are refused all the same.
    pub allow_private: bool,
}

/// Why a request got no answer. The texts are for the log.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EgressError {
    /// The host is not in the plugin's list, or the method is none for plugins.
    #[error("request is not granted")]
    Denied,
    /// Not an absolute `http` or `https` URI.
    #[error("URI cannot be used")]
    BadUri,
    /// The name leads to addresses that plugins may not reach.
    #[error("destination address is prohibited")]
    AddressProhibited,
    /// The name leads nowhere.
    #[error("name of the destination cannot be resolved")]
    NotResolved,
    /// No connection, or it was lost.
    #[error("destination cannot be reached: {0}")]
    Unreachable(String),
    /// The server's certificate or protocol is not acceptable.
    #[error("secure connection cannot be made: {0}")]
    Tls(String),
    /// It took too long.
    #[error("destination did not answer in time")]
    Timeout,
    /// The request's body is above the limit.
    #[error("request is too large")]
    RequestTooLarge,
    /// The answer's body is above the limit.
    #[error("answer is too large")]
    ResponseTooLarge,
    /// The owner has too many requests or connections.
    #[error("too many requests are under way")]
    Overloaded,
    /// The answer is no HTTP.
    #[error("destination broke the protocol: {0}")]
    Protocol(String),
}

/// Outgoing HTTP of the whole gateway: certificates, and the connections of each owner.
pub struct Egress {
    settings: EgressSettings,
    tls: Arc<rustls::ClientConfig>,
    runtime: Handle,
    owners: Mutex<BTreeMap<Arc<str>, Weak<Owner>>>,
}

/// What the plugins of one owner share.
struct Owner {
    client: Client<Connector, Full<Bytes>>,
    in_flight: Arc<Semaphore>,
}

/// Outgoing HTTP of one plugin.
pub struct PluginEgress {
    owner: Arc<Owner>,
    hosts: Arc<[AllowedHost]>,
    settings: EgressSettings,
    runtime: Handle,
}

impl Egress {
    /// Trusts the system's certificates and those of `ca`; connections are driven by
    /// `runtime`.
    ///
    /// # Errors
    /// `ca` cannot be used.
    pub fn new(settings: EgressSettings, ca: Option<&Path>, runtime: Handle) -> Result<Self, String> {
        Self::trusting(&Trusted::load(ca)?, settings, runtime)
    }

    pub(super) fn trusting(
        trusted: &Trusted,
        settings: EgressSettings,
        runtime: Handle,
    ) -> Result<Self, String> {
        Ok(Self { settings, tls: trusted.client_config()?, runtime, owners: Mutex::default() })
    }

    /// Outgoing HTTP for a plugin: these hosts, over the connections of its owner.
    pub fn for_plugin(&self, owner: &Arc<str>, hosts: impl Into<Arc<[AllowedHost]>>) -> PluginEgress {
        let mut owners = self.owners.lock().unwrap_or_else(PoisonError::into_inner);
        owners.retain(|_, known| known.strong_count() > 0);
        let known = owners.get(owner).and_then(Weak::upgrade);
        let shared = known.unwrap_or_else(|| {
            let shared = Arc::new(self.owner());
            owners.insert(Arc::clone(owner), Arc::downgrade(&shared));
            shared
        });
        PluginEgress {
            owner: shared,
            hosts: hosts.into(),
            settings: self.settings.clone(),
            runtime: self.runtime.clone(),
        }
    }

    fn owner(&self) -> Owner {
        let EgressSettings { allow_private, connect_timeout, .. } = self.settings;
        let connector = Connector::new(Arc::clone(&self.tls), allow_private, connect_timeout);
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_TIMEOUT)
            .pool_max_idle_per_host(IDLE_PER_HOST_MAX)
            .http1_max_buf_size(HEADER_BYTES_MAX)
            .http1_max_headers(HEADERS_MAX)
            .build(connector);
        Owner { client, in_flight: Arc::new(Semaphore::new(IN_FLIGHT_MAX)) }
    }
}

#[async_trait]
impl Outgoing for PluginEgress {
    async fn send(
        &self,
        call: &CallContext,
        request: Request<Bytes>,
        limits: OutgoingLimits,
    ) -> Result<Response<Bytes>, OutgoingError> {
        let answer = Self::send(self, request, limits.timeout, limits.response_bytes_max).await;
        answer.map_err(|error| {
            tracing::debug!(pipeline = %call.pipeline, request_id = %call.request_id, %error, "request of a plugin failed");
            error.into()
        })
    }
}

/// What the plugin is told: the kind, and none of the texts, which hold addresses.
impl From<EgressError> for OutgoingError {
    fn from(error: EgressError) -> Self {
        match error {
            EgressError::Denied => Self::Denied,
            EgressError::BadUri => Self::Other("URI cannot be used".to_owned()),
            EgressError::AddressProhibited => Self::AddressProhibited,
            EgressError::NotResolved => Self::NotResolved,
            EgressError::Unreachable(_) => Self::Unreachable,
            EgressError::Tls(_) => Self::Tls,
            EgressError::Timeout => Self::Timeout,
            EgressError::RequestTooLarge => Self::Other("request is too large".to_owned()),
            EgressError::ResponseTooLarge => Self::TooLarge,
            EgressError::Overloaded => Self::Overloaded,
            EgressError::Protocol(_) => Self::Protocol,
        }
    }
}

impl PluginEgress {
    /// Sends a request and reads the answer, in `timeout` at most and into
    /// `response_bytes_max` at most (or what the gateway allows, if that is less).
    ///
    /// Cancel-safe: dropping the future closes the connection.
    ///
    /// # Errors
    /// See [`EgressError`].
    pub async fn send(
        &self,
        request: Request<Bytes>,
        timeout: Duration,
        response_bytes_max: usize,
    ) -> Result<Response<Bytes>, EgressError> {
        let request = self.checked(request)?;
        let permit = Arc::clone(&self.owner.in_flight).try_acquire_owned();
        let permit = permit.map_err(|_| EgressError::Overloaded)?;
        let response_bytes_max = response_bytes_max.min(self.settings.body_bytes_max);
        let timeout = timeout.min(self.settings.timeout);
        let client = self.owner.client.clone();
        // Guests' threads have no sockets, and a busy guest must not delay an answer.
        let exchange = self.runtime.spawn(async move {
            let _permit = permit;
            let until = Instant::now() + timeout;
            exchange(&client, request, until, response_bytes_max).await
        });
        let mut exchange = AbortOnDrop(exchange);
        (&mut exchange.0).await.unwrap_or(Err(EgressError::Unreachable("gateway is going away".to_owned())))
    }

    /// The request as it goes out, if it may.
    fn checked(&self, request: Request<Bytes>) -> Result<Request<Full<Bytes>>, EgressError> {
        let (mut parts, body) = request.into_parts();
        let target = Target::of(&parts.uri)?;
        // CONNECT would make a tunnel; TRACE gives back what proxies add.
        if !target.is_allowed_by(&self.hosts) || [Method::CONNECT, Method::TRACE].contains(&parts.method) {
            return Err(EgressError::Denied);
        }
        if body.len() > self.settings.body_bytes_max {
            return Err(EgressError::RequestTooLarge);
        }
        let path = parts.uri.path_and_query().cloned();
        let path = path.unwrap_or_else(|| PathAndQuery::from_static("/"));
        if path.as_str().len() > URI_BYTES_MAX {
            return Err(EgressError::BadUri);
        }
        parts.uri = Uri::builder()
            .scheme(if target.is_tls() { Scheme::HTTPS } else { Scheme::HTTP })
            .authority(target.authority())
            .path_and_query(path)
            .build()
            .map_err(|_| EgressError::BadUri)?;
        parts.version = Version::HTTP_11;
        parts.extensions.clear();
        headers::clean_request(&mut parts.headers);
        Ok(Request::from_parts(parts, Full::new(body)))
    }
}

async fn exchange(
    client: &Client<Connector, Full<Bytes>>,
    request: Request<Full<Bytes>>,
    until: Instant,
    bytes_max: usize,
) -> Result<Response<Bytes>, EgressError> {
    let answer = timeout_at(until, client.request(request)).await;
    let (mut parts, mut body) =
        answer.map_err(|_| EgressError::Timeout)?.map_err(|error| said(&error))?.into_parts();
    let declared = hyper::body::Body::size_hint(&body).lower();
    if usize::try_from(declared).unwrap_or(usize::MAX) > bytes_max {
        return Err(EgressError::ResponseTooLarge);
    }
    let mut content = BytesMut::new();
    loop {
        let frame = timeout_at(until, body.frame()).await.map_err(|_| EgressError::Timeout)?;
        let Some(frame) = frame else { break };
        let frame = frame.map_err(|error| EgressError::Protocol(error.to_string()))?;
        // Trailers are not for plugins.
        let Ok(data) = frame.into_data() else { continue };
        if content.len().saturating_add(data.len()) > bytes_max {
            return Err(EgressError::ResponseTooLarge);
        }
        content.extend_from_slice(&data);
    }
    headers::clean_response(&mut parts.headers);
    Ok(Response::from_parts(parts, content.freeze()))
}

/// What an error of the client is. The connector's own lie somewhere within.
fn said(error: &hyper_util::client::legacy::Error) -> EgressError {
    let mut source: Option<&(dyn std::error::Error + 'static)> = std::error::Error::source(error);
    let mut deepest = error.to_string();
    while let Some(inner) = source {
        if let Some(known) = inner.downcast_ref::<EgressError>() {
            return known.clone();
        }
        deepest = inner.to_string();
        source = inner.source();
    }
    if error.is_connect() { EgressError::Unreachable(deepest) } else { EgressError::Protocol(deepest) }
}

struct AbortOnDrop<T>(tokio::task::JoinHandle<T>);

impl<T> Drop for AbortOnDrop<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}
