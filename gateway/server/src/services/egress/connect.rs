//! Opening a connection: resolve, check what came back, dial exactly that.

use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::future::BoxFuture;
use http::Uri;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsConnector;
use tower::Service;

use super::EgressError;
use super::address::{Reach, reach};
use super::allow::{Host, Target};

/// Connections of one owner at a time, busy and idle together. A plugin that is allowed
/// `*.example.com` can name any number of hosts; each connection is a file descriptor of
/// the gateway.
const CONNECTIONS_MAX: usize = 128;

/// Names of one owner that are looked up at a time. The system's resolver blocks a
/// thread for as long as it takes, and nobody can take it back.
const LOOKUPS_MAX: usize = 8;

/// Addresses of a name that are tried.
const ADDRESSES_MAX: usize = 8;

/// Dials for one owner. Whether the host is granted was asked before.
#[derive(Clone)]
pub(super) struct Connector {
    tls: TlsConnector,
    may_be_private: bool,
    timeout: Duration,
    connections: Arc<Semaphore>,
    lookups: Arc<Semaphore>,
}

impl Connector {
    pub(super) fn new(tls: Arc<rustls::ClientConfig>, may_be_private: bool, timeout: Duration) -> Self {
        Self {
            tls: TlsConnector::from(tls),
            may_be_private,
            timeout,
            connections: Arc::new(Semaphore::new(CONNECTIONS_MAX)),
            lookups: Arc::new(Semaphore::new(LOOKUPS_MAX)),
        }
    }

    async fn connect(self, uri: Uri) -> Result<Link, EgressError> {
        let until = Instant::now() + self.timeout;
        let target = Target::of(&uri)?;
        let permit = timeout_at(until, Arc::clone(&self.connections).acquire_owned()).await;
        let permit = permit.map_err(|_| EgressError::Overloaded)?.map_err(|_| EgressError::Overloaded)?;
        let addresses = match target.host() {
            // The list holds this very address.
            Host::Address(address) => vec![SocketAddr::new(*address, target.port())],
            Host::Name(name) => self.resolve(name.clone(), target.port(), until).await?,
        };
        let tcp = dial(&addresses, until).await?;
        if !target.is_tls() {
            return Ok(Link::new(tcp, permit));
        }
        let name = match target.host() {
            Host::Address(address) => ServerName::IpAddress((*address).into()),
            Host::Name(name) => ServerName::try_from(name.clone()).map_err(|_| EgressError::BadUri)?,
        };
        match timeout_at(until, self.tls.connect(name, tcp)).await {
            Ok(Ok(stream)) => Ok(Link::new(stream, permit)),
            Ok(Err(error)) => Err(EgressError::Tls(error.to_string())),
            Err(_) => Err(EgressError::Timeout),
        }
    }

    /// The addresses of a name that may be dialled. They are what is dialled then: a
    /// second answer of the name server, after the check, is never asked for.
    async fn resolve(&self, name: String, port: u16, until: Instant) -> Result<Vec<SocketAddr>, EgressError> {
        let permit = timeout_at(until, Arc::clone(&self.lookups).acquire_owned()).await;
        let permit = permit.map_err(|_| EgressError::Overloaded)?.map_err(|_| EgressError::Overloaded)?;
        let lookup = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            (name.as_str(), port).to_socket_addrs().map(|found| found.take(ADDRESSES_MAX).collect::<Vec<_>>())
        });
        let found = match timeout_at(until, lookup).await {
            Ok(Ok(Ok(found))) if !found.is_empty() => found,
            Ok(_) => return Err(EgressError::NotResolved),
            Err(_) => return Err(EgressError::Timeout),
        };
        let allowed: Vec<_> = found.into_iter().filter(|address| self.may_dial(address.ip())).collect();
        if allowed.is_empty() { Err(EgressError::AddressProhibited) } else { Ok(allowed) }
    }

    fn may_dial(&self, address: IpAddr) -> bool {
        match reach(address) {
            Reach::Public => true,
            Reach::Private => self.may_be_private,
            Reach::Forbidden => false,
        }
    }
}

/// Tries addresses in turn; each gets its share of the time that is left.
async fn dial(addresses: &[SocketAddr], until: Instant) -> Result<TcpStream, EgressError> {
    let mut last = EgressError::NotResolved;
    for (tried, address) in addresses.iter().enumerate() {
        let others = u32::try_from(addresses.len() - tried).unwrap_or(u32::MAX);
        let share = until.saturating_duration_since(Instant::now()) / others;
        last = match tokio::time::timeout(share, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => {
                let _ = stream.set_nodelay(true);
                return Ok(stream);
            }
            Ok(Err(error)) => EgressError::Unreachable(error.to_string()),
            Err(_) => EgressError::Timeout,
        };
    }
    Err(last)
}

impl Service<Uri> for Connector {
    type Response = Link;
    type Error = EgressError;
    type Future = BoxFuture<'static, Result<Link, EgressError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), EgressError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        Box::pin(self.clone().connect(uri))
    }
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// An open connection, and the permit that counts it.
pub(super) struct Link {
    io: TokioIo<Box<dyn Stream>>,
    _permit: OwnedSemaphorePermit,
}

impl Link {
    fn new(stream: impl Stream + 'static, permit: OwnedSemaphorePermit) -> Self {
        Self { io: TokioIo::new(Box::new(stream)), _permit: permit }
    }
}

impl Connection for Link {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl Read for Link {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(context, buffer)
    }
}

impl Write for Link {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(context, parts)
    }
}
