//! The accept loop. It is our own, because the limits that keep strangers from
//! holding connections for nothing have to be set in one place and for both
//! versions of HTTP.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use http::header::{ALLOW, CONNECTION, HOST};
use http::{HeaderValue, Method, Request, StatusCode, Version};
use hyper::body::{Body as _, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulConnection;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::time::{Instant, Interval, MissedTickBehavior};
use tokio_util::task::TaskTracker;
use tower::ServiceExt;

use super::grpc;
use super::readers::{self, Asked, Unread, Watched};
use super::streams::Streams;
use crate::admission::{Admission, Share};
use crate::auth::Connection;
use crate::auth::tls::Keeper;
use crate::config::Limits;
use crate::error::{Error, Kind};
use crate::lifecycle::drain::Phase;
use crate::observe::Metrics;
use crate::refusal;

/// Most connections that wait in the kernel to be accepted.
const BACKLOG: i32 = 1024;

/// Pause after a failed accept, such as when file descriptors have run out: the
/// loop must neither spin nor end.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// How long an open connection may still bring a request after the gateway began to
/// stop. Its answer says `Connection: close`; closing at once would instead lose a
/// request that is on its way.
const LINGER: Duration = Duration::from_millis(500);

/// A stream may have this many bytes on the way before we read them; with the
/// connection's window it bounds what a sender can make us hold.
const HTTP2_STREAM_WINDOW_BYTES: u32 = 64 << 10;

/// The same for a whole HTTP/2 connection.
const HTTP2_CONNECTION_WINDOW_BYTES: u32 = 1 << 20;

/// The same two for gRPC. A megabyte holds the message of most requests; four are what one
/// peer may make us hold, above what is admitted.
const GRPC_STREAM_WINDOW_BYTES: u32 = 1 << 20;
const GRPC_CONNECTION_WINDOW_BYTES: u32 = 4 << 20;

/// How often a silent HTTP/2 peer is asked whether it is still there, and how long it may
/// take to say so over gRPC, where streams stay open with nothing on them.
const KEEP_ALIVE: Duration = Duration::from_secs(30);

/// The methods that some route or other has: what a 405 says that comes before the routes.
const SERVED: HeaderValue = HeaderValue::from_static("GET, HEAD, POST, PUT, DELETE");

/// What a listener speaks.
#[derive(Clone)]
pub enum Service {
    /// HTTP of both versions, by a router.
    Http(axum::Router),
    /// gRPC: HTTP/2 and nothing else.
    Grpc(Arc<grpc::Server>),
}

/// A bound socket that serves one protocol.
pub struct Listener {
    socket: TcpListener,
    service: Service,
    tls: Option<Arc<Keeper>>,
    limits: Limits,
    name: &'static str,
    admission: Arc<Admission>,
    metrics: Arc<Metrics>,
}

/// What every connection of a listener is served with.
#[derive(Clone)]
struct Serving {
    service: Service,
    tls: Option<Arc<Keeper>>,
    limits: Limits,
    phase: watch::Receiver<Phase>,
    admission: Arc<Admission>,
    metrics: Arc<Metrics>,
}

impl Listener {
    /// Binds the address. Port 0 picks a free one. Connections begin with TLS if there
    /// are certificates. `name` is the metric label of its connections; answers that they do
    /// not take are counted in `admission`.
    ///
    /// # Errors
    /// The address is taken or not ours.
    pub fn bind(
        address: SocketAddr,
        service: Service,
        tls: Option<Arc<Keeper>>,
        limits: &Limits,
        name: &'static str,
        admission: &Arc<Admission>,
        metrics: &Arc<Metrics>,
    ) -> io::Result<Self> {
        let domain = socket2::Domain::for_address(address);
        let socket = socket2::Socket::new(domain, socket2::Type::STREAM, Some(socket2::Protocol::TCP))?;
        socket.set_reuse_address(true)?;
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        let socket = TcpListener::from_std(socket.into())?;
        let (admission, metrics) = (Arc::clone(admission), Arc::clone(metrics));
        Ok(Self { socket, service, tls, limits: limits.clone(), name, admission, metrics })
    }

    /// Where it listens.
    ///
    /// # Errors
    /// The socket is broken.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Accepts until the gateway stops, then waits until every connection has
    /// finished what it was doing.
    pub async fn serve(self, phase: watch::Receiver<Phase>) {
        let places = Arc::new(Semaphore::new(self.limits.connections_max));
        let connections = TaskTracker::new();
        let serving = Serving {
            service: self.service,
            tls: self.tls,
            limits: self.limits,
            phase: phase.clone(),
            admission: self.admission,
            metrics: Arc::clone(&self.metrics),
        };
        let start = |stream: TcpStream, peer: SocketAddr| {
            // Above the cap a connection is closed at once, which costs least.
            let Ok(place) = Arc::clone(&places).try_acquire_owned() else { return };
            let open = self.metrics.connection_open(self.name);
            let connection = serve_peer(stream, peer, serving.clone());
            connections.spawn(async move {
                connection.await;
                drop((place, open));
            });
        };
        let mut stopping = pin!(stopped(phase.clone()));
        loop {
            tokio::select! {
                accepted = self.socket.accept() => match accepted {
                    Ok((stream, peer)) => start(stream, peer),
                    Err(error) => {
                        tracing::warn!(%error, "accept failed");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                },
                () = &mut stopping => break,
            }
        }
        // Whoever has connected already is served: closing the socket would reset them.
        while let Some(Ok((stream, peer))) = self.socket.accept().now_or_never() {
            start(stream, peer);
        }
        drop(self.socket);
        connections.close();
        connections.wait().await;
    }
}

async fn stopped(mut phase: watch::Receiver<Phase>) {
    // An error means that the gateway is gone altogether.
    let _ = phase.wait_for(|phase| *phase == Phase::Stopping).await;
}

/// Begins TLS if there is any, then serves. One deadline covers the handshake and the
/// head of the first request.
async fn serve_peer(stream: TcpStream, peer: SocketAddr, serving: Serving) {
    // Answers are written whole: waiting to fill a packet only adds delay.
    let _ = stream.set_nodelay(true);
    // A connection without an address is gone already.
    let Ok(local) = stream.local_addr() else { return };
    let connection = Connection { peer, local, share: Share::default() };
    let deadline = Instant::now() + serving.limits.header_timeout;
    let Some(tls) = &serving.tls else {
        return serve_connection(stream, connection, serving, deadline).await;
    };
    let handshake = tokio::time::timeout_at(deadline, tls.acceptor().accept(stream));
    let accepted = tokio::select! {
        accepted = handshake => accepted,
        () = lingered(serving.phase.clone()) => return,
    };
    match accepted {
        Ok(Ok(stream)) => serve_connection(stream, connection, serving, deadline).await,
        Ok(Err(error)) => {
            serving.metrics.rejected("tls_handshake");
            tracing::debug!(%peer, %error, "handshake failed");
        }
        Err(_) => serving.metrics.rejected("tls_timeout"),
    }
}

/// The gateway began to stop a while ago.
async fn lingered(phase: watch::Receiver<Phase>) {
    stopped(phase).await;
    tokio::time::sleep(LINGER).await;
}

async fn serve_connection<S>(stream: S, connection: Connection, serving: Serving, deadline: Instant)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let heard = Arc::new(AtomicBool::new(false));
    let hears = Arc::clone(&heard);
    let unread = Unread::new(serving.admission, serving.limits.header_timeout);
    let streams = Streams::new(&unread, &serving.metrics);
    let stream = TokioIo::new(Watched::new(stream, &unread));
    let tick = serving.limits.write_timeout / readers::TICKS_IN_TIMEOUT;
    let mut ticks = tokio::time::interval_at(Instant::now() + tick, tick);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let watch = Watch {
        heard,
        deadline,
        watches_silence: true,
        unread: Arc::clone(&unread),
        ticks,
        phase: serving.phase.clone(),
        watches_stop: true,
        metrics: serving.metrics,
    };
    match serving.service {
        Service::Http(router) => {
            let service = service_fn(move |request: Request<Incoming>| {
                hears.store(true, Ordering::Release);
                let asked = Asked::new(&unread, request.version());
                let answer = respond(router.clone(), request, connection.clone(), serving.phase.clone());
                async move {
                    let bytes =
                        |body: &Body| body.size_hint().exact().and_then(|bytes| bytes.try_into().ok());
                    answer.await.map(|response| {
                        response.map(|body| {
                            let bytes = bytes(&body).unwrap_or(0);
                            readers::Answer::new(body, bytes, asked)
                        })
                    })
                }
            });
            let served = builder(&serving.limits, streams);
            let served = served.serve_connection(stream, service);
            watch.drive(served).await;
        }
        Service::Grpc(server) => {
            let service = service_fn(move |request: Request<Incoming>| {
                hears.store(true, Ordering::Release);
                let asked = Asked::new(&unread, request.version());
                let (server, connection) = (Arc::clone(&server), connection.clone());
                async move {
                    let response = server.respond(request, connection).await;
                    Ok::<_, Infallible>(response.map(|reply| {
                        let bytes = reply.byte_len();
                        readers::Answer::new(reply, bytes, asked)
                    }))
                }
            });
            let served = grpc_builder(&serving.limits, streams);
            let served = served.serve_connection(stream, service);
            watch.drive(served).await;
        }
    }
}

/// What a connection is ended for.
struct Watch {
    /// Whether a request has come, and until when one has to.
    heard: Arc<AtomicBool>,
    deadline: Instant,
    watches_silence: bool,
    unread: Arc<Unread>,
    ticks: Interval,
    phase: watch::Receiver<Phase>,
    watches_stop: bool,
    metrics: Arc<Metrics>,
}

impl Watch {
    /// Serves a connection to its end: that of its peer, of the time for its first request or
    /// for taking its answers, or of the gateway.
    async fn drive<C: GracefulConnection>(self, served: C) {
        let mut served = pin!(served);
        // Apart from the connection, which wakes some times a request: what is in here is looked
        // at when it wakes itself.
        let mut watching: FuturesUnordered<_> = std::iter::once(self.next()).collect();
        loop {
            tokio::select! {
                biased;
                // An error here is the peer's: a broken request or connection.
                _ = &mut served => return,
                Some((watch, seen)) = watching.next() => match seen {
                    Seen::End => return,
                    Seen::Stop => {
                        served.as_mut().graceful_shutdown();
                        watching.push(watch.next());
                    }
                },
            }
        }
    }

    /// Waits for something that ends the connection, now or soon.
    async fn next(mut self) -> (Self, Seen) {
        let mut stopping = pin!(lingered(self.phase.clone()));
        loop {
            tokio::select! {
                () = tokio::time::sleep_until(self.deadline), if self.watches_silence => {
                    // The version detection reads without a timeout of its own: a peer
                    // that has not sent one whole request head by now is closed.
                    if !self.heard.load(Ordering::Acquire) {
                        return (self, Seen::End);
                    }
                    self.watches_silence = false;
                }
                _ = self.ticks.tick() => {
                    if self.unread.tick() {
                        self.metrics.rejected("write_timeout");
                        return (self, Seen::End);
                    }
                }
                () = &mut stopping, if self.watches_stop => {
                    self.watches_stop = false;
                    return (self, Seen::Stop);
                }
            }
        }
    }
}

/// What a connection's watch has seen.
enum Seen {
    /// It has to end.
    End,
    /// The gateway stops: it may finish what it is doing.
    Stop,
}

async fn respond(
    router: axum::Router,
    mut request: Request<Incoming>,
    connection: Connection,
    phase: watch::Receiver<Phase>,
) -> Result<Response, Infallible> {
    let version = request.version();
    let mut response = match for_a_proxy(&request) {
        Some(error) => {
            let mut response = refusal::respond(error, request.map(Body::new)).await;
            if response.status() == StatusCode::METHOD_NOT_ALLOWED {
                response.headers_mut().insert(ALLOW, SERVED);
            }
            response
        }
        None => {
            request.extensions_mut().insert(connection);
            router.oneshot(request.map(Body::new)).await?
        }
    };
    if version < Version::HTTP_2 && *phase.borrow() != Phase::Serving {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    Ok(response)
}

/// Refuses what only makes sense to a proxy, which we are not (H15): it would let a
/// request carry two hosts, or ask for its own headers back.
fn for_a_proxy(request: &Request<Incoming>) -> Option<Error> {
    let uri = request.uri();
    if matches!(*request.method(), Method::CONNECT | Method::TRACE) {
        return Some(Error::new(Kind::MethodNotAllowed, "this method is not served"));
    }
    // HTTP/2 always has the host in its URI.
    if request.version() >= Version::HTTP_2 {
        return None;
    }
    if uri.authority().is_some() {
        return Some(Error::new(Kind::BadRequest, "ask by path, not by a whole URI"));
    }
    let hosts = request.headers().get_all(HOST).iter().count();
    let is_one = hosts == 1 || (hosts == 0 && request.version() < Version::HTTP_11);
    (!is_one).then(|| Error::new(Kind::BadRequest, "a request has one header `host`"))
}

/// The same for gRPC: no HTTP/1, and more on the way at a time, because its messages are
/// tensors.
fn grpc_builder(limits: &Limits, streams: Streams) -> auto::Builder<Streams> {
    let mut builder = builder(limits, streams).http2_only();
    builder
        .http2()
        .initial_stream_window_size(GRPC_STREAM_WINDOW_BYTES)
        .initial_connection_window_size(GRPC_CONNECTION_WINDOW_BYTES)
        .keep_alive_timeout(KEEP_ALIVE);
    builder
}

fn builder(limits: &Limits, streams: Streams) -> auto::Builder<Streams> {
    let mut builder = auto::Builder::new(streams);
    builder
        .http1()
        .timer(TokioTimer::new())
        // Also what passes between two requests; a head that has begun has less (see `heads`).
        .header_read_timeout(limits.keep_alive_timeout)
        .max_headers(limits.headers_max)
        // hyper refuses a buffer below 8 KiB.
        .max_buf_size(limits.header_bytes_max.max(8 << 10));
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits.streams_max)
        .max_header_list_size(u32::try_from(limits.header_bytes_max).unwrap_or(u32::MAX))
        .initial_stream_window_size(HTTP2_STREAM_WINDOW_BYTES)
        .initial_connection_window_size(HTTP2_CONNECTION_WINDOW_BYTES)
        .keep_alive_interval(Some(KEEP_ALIVE));
    builder
}
