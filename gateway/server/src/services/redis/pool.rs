//! Connections to one server: a few, shared by all, each replaced when it fails.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, Cmd, FromRedisValue, RedisError, TlsCertificates};
use sluice_sandbox::KeyValueError;
use tokio::runtime::Handle;
use tokio::sync::{Mutex, Semaphore};
use tokio::time::{Instant, timeout_at};

use crate::services::certificates::Trusted;
use crate::services::limits::other;

/// Connections. Each carries many commands at a time; several, so that a large answer
/// on one holds up only its share of the others.
const LANES: usize = 4;

/// Time to connect, with TLS and login. A server in the same network takes milliseconds.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// After a failed attempt to connect, calls are refused at once for this long: a server
/// that is away must not cost every call its whole timeout.
const RETRY_AFTER: Duration = Duration::from_millis(250);

/// Commands under way, of all owners together; more are refused. Each may hold an answer
/// of up to 16 MiB, though most hold a kilobyte.
const IN_FLIGHT_MAX: usize = 1024;

/// Those of one owner: an owner whose callers leave while their commands go on
/// keeps three quarters of them free for others.
pub(super) const IN_FLIGHT_OF_OWNER_MAX: usize = IN_FLIGHT_MAX / 4;

/// Whether a command may be sent twice, when the connection broke under the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Repeat {
    /// Doing it twice is doing it once.
    Once,
    /// It may have been done, and would be done again.
    Never,
}

/// The connections to one server. Dropping it closes them.
pub(in crate::services) struct Pool {
    /// The store's name, for the log. The address is the operator's business and may
    /// stand next to a password.
    store: Arc<str>,
    client: Client,
    config: AsyncConnectionConfig,
    timeout: Duration,
    lanes: [Mutex<Lane>; LANES],
    next: AtomicUsize,
    in_flight: Arc<Semaphore>,
    runtime: Handle,
    is_away: AtomicBool,
}

#[derive(Default)]
struct Lane {
    open: Option<MultiplexedConnection>,
    /// Which connection this is: a failure of an old one must not close a new one.
    generation: u64,
    failed_at: Option<Instant>,
}

impl Pool {
    /// Takes the address apart. Nothing is connected yet, so a server that is away does
    /// not keep the gateway from starting.
    ///
    /// # Errors
    /// The URL cannot be used. The message does not hold it.
    pub(in crate::services) fn new(
        store: &Arc<str>,
        url: &str,
        timeout: Duration,
        trusted: &Trusted,
        runtime: Handle,
    ) -> Result<Self, String> {
        let is_known = ["redis://", "rediss://", "redis+unix://", "unix://"]
            .iter()
            .any(|scheme| url.starts_with(scheme));
        if !is_known {
            return Err("the URL does not start with redis://, rediss:// or unix://".to_owned());
        }
        // TLS takes the process's provider.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = if url.starts_with("rediss://") {
            Client::build_with_tls(url, TlsCertificates { client_tls: None, root_cert: Some(trusted.pem()) })
        } else {
            Client::open(url)
        };
        let client = client.map_err(|error| format!("the URL cannot be used: {}", error.category()))?;
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT_TIMEOUT))
            .set_response_timeout(Some(timeout));
        Ok(Self {
            store: Arc::clone(store),
            client,
            config,
            timeout,
            lanes: std::array::from_fn(|_| Mutex::default()),
            next: AtomicUsize::new(0),
            in_flight: Arc::new(Semaphore::new(IN_FLIGHT_MAX)),
            runtime,
            is_away: AtomicBool::new(false),
        })
    }

    /// Sends a command and waits for its answer, for the store's timeout at most (and
    /// the time to connect, if that is needed).
    ///
    /// A call that is cancelled leaves its command running: the connection is shared, and
    /// its answer has to be read anyway.
    pub(super) async fn run<T: FromRedisValue + Send + 'static>(
        self: &Arc<Self>,
        command: Cmd,
        repeat: Repeat,
        share: &Arc<Semaphore>,
    ) -> Result<T, KeyValueError> {
        let own = Arc::clone(share).try_acquire_owned().map_err(|_| other("store is busy"))?;
        let permit = Arc::clone(&self.in_flight).try_acquire_owned().map_err(|_| other("store is busy"))?;
        let pool = Arc::clone(self);
        // Guests' threads have no sockets.
        let exchange = self.runtime.spawn(async move {
            let _permits = (own, permit);
            pool.exchange(&command, repeat).await
        });
        exchange.await.unwrap_or_else(|_| Err(other("store is not available")))
    }

    async fn exchange<T: FromRedisValue>(&self, command: &Cmd, repeat: Repeat) -> Result<T, KeyValueError> {
        let lane = &self.lanes[self.next.fetch_add(1, Ordering::Relaxed) % LANES];
        let mut attempts = 0;
        loop {
            attempts += 1;
            let (mut connection, generation) = self.connection(lane).await?;
            let error = match self.within(command, &mut connection).await {
                Ok(value) => {
                    self.note_back();
                    return Ok(value);
                }
                Err(error) => error,
            };
            let is_lost = error.is_unrecoverable_error() || error.is_io_error() || error.is_timeout();
            if is_lost {
                let mut lane = lane.lock().await;
                if lane.generation == generation {
                    lane.open = None;
                }
            }
            // The server closed a connection that was idle, or went away and came back.
            let may_repeat = error.is_connection_dropped() && repeat == Repeat::Once && attempts == 1;
            if !may_repeat {
                return Err(self.refusal(&error));
            }
        }
    }

    /// The connection has a timeout of its own; this one holds even if that one sleeps.
    async fn within<T: FromRedisValue>(
        &self,
        command: &Cmd,
        connection: &mut MultiplexedConnection,
    ) -> Result<T, RedisError> {
        let until = Instant::now() + self.timeout;
        match timeout_at(until, command.query_async(connection)).await {
            Ok(answer) => answer,
            Err(_) => Err(RedisError::from(std::io::Error::from(std::io::ErrorKind::TimedOut))),
        }
    }

    /// The lane's connection, opened if there is none. Others who want the lane wait for
    /// the attempt, and share what comes of it.
    async fn connection(&self, lane: &Mutex<Lane>) -> Result<(MultiplexedConnection, u64), KeyValueError> {
        let mut lane = lane.lock().await;
        if let Some(open) = &lane.open {
            return Ok((open.clone(), lane.generation));
        }
        if lane.failed_at.is_some_and(|at| at.elapsed() < RETRY_AFTER) {
            return Err(other("store is not reachable"));
        }
        let attempt = self.client.get_multiplexed_async_connection_with_config(&self.config);
        let outcome = match tokio::time::timeout(CONNECT_TIMEOUT, attempt).await {
            Ok(outcome) => outcome,
            Err(_) => Err(RedisError::from(std::io::Error::from(std::io::ErrorKind::TimedOut))),
        };
        match outcome {
            Ok(connection) => {
                lane.open = Some(connection.clone());
                lane.generation += 1;
                lane.failed_at = None;
                Ok((connection, lane.generation))
            }
            Err(error) => {
                lane.failed_at = Some(Instant::now());
                self.note_away(&error);
                Err(other("store is not reachable"))
            }
        }
    }

    /// What the plugin is told. What the server said may quote others' data.
    fn refusal(&self, error: &RedisError) -> KeyValueError {
        if error.is_timeout() {
            self.note_away(error);
            return other("store did not answer in time");
        }
        if error.is_unrecoverable_error() || error.is_io_error() {
            self.note_away(error);
            return other("store is not reachable");
        }
        match error.code() {
            Some(code) if code.len() <= 32 && code.bytes().all(|byte| byte.is_ascii_uppercase()) => {
                KeyValueError::Other(format!("store refused: {code}"))
            }
            _ => other("store refused"),
        }
    }

    /// One line when the server goes, one when it is back.
    fn note_away(&self, error: &RedisError) {
        if !self.is_away.swap(true, Ordering::Relaxed) {
            tracing::warn!(store = %self.store, kind = ?error.kind(), code = error.code(), "redis is not reachable");
        }
    }

    fn note_back(&self) {
        if self.is_away.load(Ordering::Relaxed) && self.is_away.swap(false, Ordering::Relaxed) {
            tracing::info!(store = %self.store, "redis is reachable again");
        }
    }
}
