//! A closed-loop load generator: each connection sends its next request when it has its answer.

use std::fmt;
use std::fs;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout_at};

/// How long an answer may be overdue when the measurement ends. A connection
/// that still waits then is counted as one error, so that a server that hangs
/// fails the run and does not hang it.
pub const OVERDUE_MAX: Duration = Duration::from_secs(10);

/// Pause before a connection that failed is opened again: without it, a server
/// that is gone would be measured by how fast it refuses.
const RECONNECT_PAUSE: Duration = Duration::from_millis(10);

/// Bytes of a wrong answer that the report shows: enough for a line of text.
const ERROR_BYTES_SHOWN: usize = 200;

/// Looks at the answer to the body of that index and says what is wrong with it.
///
/// Runs on the load generator's thread between two requests: its time is not in
/// the latencies, but it is taken from the throughput.
pub type Check = Arc<dyn Fn(usize, &[u8]) -> Result<(), String> + Send + Sync>;

/// What is spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2 in the way of gRPC: an answer is right if its `grpc-status` is 0.
    Grpc,
}

/// What to send, and for how long.
#[derive(Clone)]
pub struct LoadPlan {
    /// The server.
    pub address: SocketAddr,
    /// How it is spoken to.
    pub protocol: Protocol,
    /// Path and query of the requests, which are POSTs: like the bodies, in turns. At least one.
    pub paths: Vec<String>,
    /// Headers of every request; `host` and `content-length` come by themselves.
    pub headers: Vec<(String, String)>,
    /// What is sent, over and over: each connection goes through all of them in
    /// order, starting at a place of its own. At least one.
    pub bodies: Arc<Vec<Bytes>>,
    /// Connections, each with one request under way. At least one.
    pub concurrency: usize,
    /// How long to send before the measurement begins.
    pub warmup: Duration,
    /// How long to measure.
    pub duration: Duration,
    /// Looks at every answer with status 200, also of the warm-up.
    pub check: Option<Check>,
}

impl fmt::Debug for LoadPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LoadPlan")
            .field("address", &self.address)
            .field("paths", &self.paths.len())
            .field("bodies", &self.bodies.len())
            .field("concurrency", &self.concurrency)
            .field("warmup", &self.warmup)
            .field("duration", &self.duration)
            .finish_non_exhaustive()
    }
}

/// What came back while it was measured. Latencies are those of right answers.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct LoadReport {
    /// Right answers: status 200, and the check has nothing to say.
    pub requests: u64,
    /// Wrong answers, none, and connections that failed.
    pub errors: u64,
    /// Right answers in a second.
    pub throughput_per_s: f64,
    /// Half of the answers came within this many microseconds.
    pub p50_us: u64,
    /// Nine in ten of them.
    pub p90_us: u64,
    /// Ninety-nine in a hundred of them.
    pub p99_us: u64,
    /// All of them.
    pub max_us: u64,
    /// The first error that was seen, also in the warm-up.
    pub first_error: Option<String>,
}

impl LoadReport {
    /// The report as one JSON object, for a file of results.
    #[must_use]
    pub fn to_json(&self) -> serde_json::Value {
        serde_json::json!({
            "requests": self.requests,
            "errors": self.errors,
            "throughput_per_s": self.throughput_per_s,
            "p50_us": self.p50_us,
            "p90_us": self.p90_us,
            "p99_us": self.p99_us,
            "max_us": self.max_us,
            "first_error": self.first_error,
        })
    }
}

/// Runs the plan on a thread of its own, with a runtime of its own, so that load
/// and server do not share workers even when they share a process.
///
/// Never fails: what cannot even be started is an error in the report. If the
/// future is dropped, the load runs to its end and nobody reads the report.
pub async fn run(plan: LoadPlan) -> LoadReport {
    let (done, report) = oneshot::channel();
    let thread = std::thread::Builder::new().name("load".to_owned()).spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let report = match runtime {
            Ok(runtime) => runtime.block_on(measure(plan)),
            Err(error) => failed(format!("cannot start a runtime: {error}")),
        };
        // Whoever asked may have left.
        let _ = done.send(report);
    });
    match thread {
        Ok(_) => report.await.unwrap_or_else(|_| failed("the load generator panicked".to_owned())),
        Err(error) => failed(format!("cannot start a thread: {error}")),
    }
}

/// Reads a text over HTTP; none if it cannot be had.
pub async fn get(address: SocketAddr, path: &str) -> Option<String> {
    let stream = TcpStream::connect(address).await.ok()?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.ok()?;
    let connection = tokio::spawn(connection);
    let request =
        Request::get(path).header(header::HOST, address.to_string()).body(Full::<Bytes>::default()).ok()?;
    let body = sender.send_request(request).await.ok()?.into_body().collect().await.ok()?.to_bytes();
    connection.abort();
    String::from_utf8(body.to_vec()).ok()
}

/// Resident memory of a process, where the system has `/proc`.
#[must_use]
pub fn rss_bytes(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: u64 = line.split_whitespace().next()?.parse().ok()?;
    kibibytes.checked_mul(1024)
}

fn failed(reason: String) -> LoadReport {
    LoadReport { errors: 1, first_error: Some(reason), ..LoadReport::default() }
}

/// What one connection has seen.
#[derive(Default)]
struct Seen {
    latencies_us: Vec<u64>,
    errors: u64,
    first_error: Option<(Instant, String)>,
}

/// What all connections share.
struct Shared {
    plan: LoadPlan,
    uris: Vec<Uri>,
    headers: HeaderMap,
    begin: Instant,
    end: Instant,
}

async fn measure(plan: LoadPlan) -> LoadReport {
    let (uris, headers) = match request_parts(&plan) {
        Ok(parts) => parts,
        Err(reason) => return failed(reason),
    };
    let begin = Instant::now() + plan.warmup;
    let end = begin + plan.duration;
    let shared = Arc::new(Shared { plan, uris, headers, begin, end });
    let mut connections = JoinSet::new();
    for number in 0..shared.plan.concurrency {
        connections.spawn(connection(Arc::clone(&shared), number));
    }
    let mut all = Seen::default();
    while !connections.is_empty() {
        match timeout_at(end + OVERDUE_MAX, connections.join_next()).await {
            Ok(Some(Ok(seen))) => all.add(seen),
            Ok(Some(Err(error))) => all.fail(format!("a connection's task failed: {error}"), true),
            Ok(None) => break,
            Err(_) => {
                connections.abort_all();
                let overdue = connections.len();
                (0..overdue).for_each(|_| all.fail(format!("no answer within {OVERDUE_MAX:?}"), true));
                break;
            }
        }
    }
    all.report(shared.plan.duration)
}

fn request_parts(plan: &LoadPlan) -> Result<(Vec<Uri>, HeaderMap), String> {
    if plan.paths.is_empty() || plan.bodies.is_empty() || plan.concurrency == 0 || plan.duration.is_zero() {
        return Err("a plan needs a path, a body, a connection and a duration".to_owned());
    }
    let host = plan.address.to_string();
    // HTTP/2 has the host in the URI, and not among the headers.
    let (start, is_http1) = match plan.protocol {
        Protocol::Http1 => (String::new(), true),
        Protocol::Grpc => (format!("http://{host}"), false),
    };
    let uris = plan.paths.iter().map(|path| {
        let uri = format!("{start}{path}").parse::<Uri>();
        uri.map_err(|error| format!("path: {error}"))
    });
    let uris = uris.collect::<Result<Vec<_>, _>>()?;
    let mut headers = HeaderMap::new();
    if is_http1 {
        headers.insert(header::HOST, HeaderValue::try_from(host).map_err(|error| format!("host: {error}"))?);
    }
    for (name, value) in &plan.headers {
        let value = HeaderValue::try_from(value).map_err(|error| format!("header {name}: {error}"))?;
        let name = HeaderName::try_from(name).map_err(|error| format!("header {name}: {error}"))?;
        headers.append(name, value);
    }
    Ok((uris, headers))
}

/// One connection's life: sends until the end, and connects again after a failure.
async fn connection(shared: Arc<Shared>, number: usize) -> Seen {
    let bodies = &shared.plan.bodies;
    let mut seen = Seen::default();
    let mut sender = None;
    let mut index = number * bodies.len() / shared.plan.concurrency;
    let mut path = number % shared.uris.len();
    loop {
        let sent = Instant::now();
        if sent >= shared.end {
            return seen;
        }
        let answer = match exchange(&shared, &mut sender, path, index).await {
            Ok((answered, status, body)) => shared.check(index, status, &body).map(|()| answered),
            Err(reason) => {
                sender = None;
                sleep(RECONNECT_PAUSE).await;
                Err(reason)
            }
        };
        let measured = |time: Instant| time >= shared.begin && time < shared.end;
        match answer {
            Ok(answered) if measured(answered) => seen.latencies_us.push(micros(answered - sent)),
            Ok(_) => {}
            Err(reason) => seen.fail(reason, measured(Instant::now())),
        }
        index = (index + 1) % bodies.len();
        path = (path + 1) % shared.uris.len();
    }
}

/// One request and its whole answer, over the connection that is open or a new
/// one, and when the answer was complete.
async fn exchange(
    shared: &Shared,
    open: &mut Option<Sender>,
    path: usize,
    index: usize,
) -> Result<(Instant, StatusCode, Bytes), String> {
    if open.as_ref().is_none_or(Sender::is_closed) {
        *open = Some(Sender::connect(&shared.plan).await.map_err(|error| format!("connect: {error}"))?);
    }
    let Some(sender) = open else { return Err("no connection".to_owned()) };
    let mut request = Request::new(Full::new(shared.plan.bodies[index].clone()));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = shared.uris[path].clone();
    *request.headers_mut() = shared.headers.clone();
    let response = sender.send(request).await.map_err(|error| format!("send: {error}"))?;
    let (parts, body) = response.into_parts();
    let body = body.collect().await.map_err(|error| format!("receive: {error}"))?;
    if shared.plan.protocol == Protocol::Grpc {
        let status = parts.headers.get("grpc-status");
        let status = body.trailers().and_then(|trailers| trailers.get("grpc-status")).or(status);
        if status.is_none_or(|status| status != "0") {
            return Err(format!("gRPC status {status:?}"));
        }
    }
    Ok((Instant::now(), parts.status, body.to_bytes()))
}

/// A connection.
enum Sender {
    Http1(http1::SendRequest<Full<Bytes>>),
    Http2(http2::SendRequest<Full<Bytes>>),
}

impl Sender {
    async fn connect(plan: &LoadPlan) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        let stream = TcpStream::connect(plan.address).await?;
        stream.set_nodelay(true)?;
        let io = TokioIo::new(stream);
        // A driver ends with its sender, or fails with the request under way.
        match plan.protocol {
            Protocol::Http1 => {
                let (sender, driver) = http1::handshake(io).await?;
                tokio::spawn(driver);
                Ok(Self::Http1(sender))
            }
            Protocol::Grpc => {
                let (sender, driver) = http2::handshake(TokioExecutor::new(), io).await?;
                tokio::spawn(driver);
                Ok(Self::Http2(sender))
            }
        }
    }

    fn is_closed(&self) -> bool {
        match self {
            Self::Http1(sender) => sender.is_closed(),
            Self::Http2(sender) => sender.is_closed(),
        }
    }

    async fn send(&mut self, request: Request<Full<Bytes>>) -> hyper::Result<Response<Incoming>> {
        match self {
            Self::Http1(sender) => {
                sender.ready().await?;
                sender.send_request(request).await
            }
            Self::Http2(sender) => {
                sender.ready().await?;
                sender.send_request(request).await
            }
        }
    }
}

fn micros(latency: Duration) -> u64 {
    u64::try_from(latency.as_micros()).unwrap_or(u64::MAX)
}

impl Shared {
    /// A status other than 200 is an error that carries the beginning of the answer.
    fn check(&self, index: usize, status: StatusCode, body: &[u8]) -> Result<(), String> {
        if status != StatusCode::OK {
            let start = String::from_utf8_lossy(&body[..body.len().min(ERROR_BYTES_SHOWN)]);
            return Err(format!("status {status}: {start}"));
        }
        let check = self.plan.check.as_ref();
        check.map_or(Ok(()), |check| check(index, body)).map_err(|reason| format!("body {index}: {reason}"))
    }
}

impl Seen {
    fn fail(&mut self, reason: String, measured: bool) {
        self.errors += u64::from(measured);
        self.first_error.get_or_insert_with(|| (Instant::now(), reason));
    }

    fn add(&mut self, other: Self) {
        self.latencies_us.extend(other.latencies_us);
        self.errors += other.errors;
        let errors = [self.first_error.take(), other.first_error];
        self.first_error = errors.into_iter().flatten().min_by_key(|(time, _)| *time);
    }

    fn report(mut self, duration: Duration) -> LoadReport {
        self.latencies_us.sort_unstable();
        let requests = self.latencies_us.len();
        LoadReport {
            requests: requests as u64,
            errors: self.errors,
            throughput_per_s: requests as f64 / duration.as_secs_f64(),
            p50_us: percentile(&self.latencies_us, 50),
            p90_us: percentile(&self.latencies_us, 90),
            p99_us: percentile(&self.latencies_us, 99),
            max_us: percentile(&self.latencies_us, 100),
            first_error: self.first_error.map(|(_, reason)| reason),
        }
    }
}

/// The smallest of the sorted values that `percent` of them do not exceed; 0 if
/// there are none.
fn percentile(sorted: &[u64], percent: usize) -> u64 {
    let rank = (sorted.len() * percent).div_ceil(100);
    rank.checked_sub(1).and_then(|place| sorted.get(place)).copied().unwrap_or(0)
}

#[cfg(test)]
mod tests;
