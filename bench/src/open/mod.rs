//! An open-loop load generator: requests are sent when they are due, whether or not earlier
//! ones were answered, and every time is counted from the moment that a request was due. So
//! a server that stalls is charged for all that would have come meanwhile.
//!
//! A thread of its own sends; it sleeps from arrival to arrival, finer than a runtime's
//! timers, and writes a whole request at once to a connection that is idle. Reading is one
//! task for each connection. When no connection is idle, or the machine is too slow, requests
//! leave late: the report says how late, and how many could not leave at all.

mod answer;
mod report;

use std::io::{ErrorKind, Write};
use std::net::{SocketAddr, TcpStream as BlockingStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

pub use report::OpenReport;

use crate::policies::Pattern;
use crate::requests::Requests;
use answer::Reader;
use report::Seen;

/// What to send.
#[derive(Debug, Clone)]
pub struct OpenPlan {
    /// The server.
    pub address: SocketAddr,
    /// Requests, in turns.
    pub requests: Requests,
    /// Arrivals a second, on average; they are a Poisson process.
    pub rate: f64,
    /// How long arrivals go on.
    pub duration: Duration,
    /// Connections, all open from the start. One request at a time on each.
    pub connections: usize,
    /// The same seed gives the same arrivals.
    pub seed: u64,
    /// An answer with status 200 after this is no good one.
    pub deadline: Duration,
}

/// Arrivals of the beginning that do not count: the server is settling.
const SETTLING: Duration = Duration::from_millis(200);

/// Most arrivals of one plan: some minutes of the fastest server.
const ARRIVALS_MAX: usize = 4_000_000;

/// How long answers may be overdue at the end. What is missing then was not answered.
const OVERDUE_MAX: Duration = Duration::from_secs(2);

/// How late a request may leave for want of an idle connection. Later it is given up, and
/// counted as one that could not be sent.
const LATE_MAX: Duration = Duration::from_millis(200);

/// How often idle connections are looked for when there are none.
const LOOK_AGAIN: Duration = Duration::from_micros(50);

/// A request that is under way: when it was due, and whether it counts.
#[derive(Debug, Clone, Copy)]
struct Due {
    at: Instant,
    counts: bool,
}

/// A connection as its sender sees it.
struct Lane {
    stream: BlockingStream,
    /// What the next answer on it belongs to.
    due: Mutex<Option<Due>>,
}

/// What sender and readers share.
struct Shared {
    lanes: Vec<Lane>,
    idle: Mutex<Vec<usize>>,
    deadline: Duration,
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs the plan on threads of its own.
///
/// # Errors
/// The connections or the threads cannot be had.
pub async fn run(plan: OpenPlan) -> Result<OpenReport, String> {
    let (done, report) = oneshot::channel();
    let work = move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| error.to_string());
        // Whoever asked may have left.
        let _ = done.send(runtime.and_then(|runtime| runtime.block_on(measure(&plan))));
    };
    std::thread::Builder::new()
        .name("open-read".to_owned())
        .spawn(work)
        .map_err(|error| error.to_string())?;
    report.await.map_err(|_| "the load generator panicked".to_owned())?
}

async fn measure(plan: &OpenPlan) -> Result<OpenReport, String> {
    let (mut lanes, mut streams) = (Vec::new(), Vec::new());
    for _ in 0..plan.connections {
        let (lane, stream) = connect(plan.address).await.map_err(|error| format!("connect: {error}"))?;
        lanes.push(lane);
        streams.push(stream);
    }
    let idle = Mutex::new((0..plan.connections).collect());
    let shared = Arc::new(Shared { lanes, idle, deadline: plan.deadline });
    let mut readers = JoinSet::new();
    for (number, stream) in streams.into_iter().enumerate() {
        readers.spawn(read(Arc::clone(&shared), number, stream));
    }
    let (sent, sender) = oneshot::channel();
    let (messages, arrivals) = (messages(plan), arrivals(plan));
    let sending = Arc::clone(&shared);
    let work = move || {
        // Whoever waits has an answer for that.
        let _ = sent.send(send(&sending, &messages, &arrivals));
    };
    std::thread::Builder::new()
        .name("open-send".to_owned())
        .spawn(work)
        .map_err(|error| error.to_string())?;
    let mut seen = sender.await.map_err(|_| "the sender panicked".to_owned())?;
    let answered = async {
        while lock(&shared.idle).len() < plan.connections {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    // What is missing after that is counted as missing.
    let _ = timeout(OVERDUE_MAX, answered).await;
    for lane in &shared.lanes {
        // Ends its reader. It may have ended by itself.
        let _ = lane.stream.shutdown(std::net::Shutdown::Both);
    }
    while let Some(reader) = readers.join_next().await {
        seen.add(reader.map_err(|error| error.to_string())?);
    }
    Ok(seen.report((plan.duration - SETTLING.min(plan.duration)).as_secs_f64()))
}

async fn connect(address: SocketAddr) -> std::io::Result<(Lane, TcpStream)> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let stream = stream.into_std()?;
    let lane = Lane { stream: stream.try_clone()?, due: Mutex::new(None) };
    Ok((lane, TcpStream::from_std(stream)?))
}

/// The requests as they go over the wire.
fn messages(plan: &OpenPlan) -> Vec<Vec<u8>> {
    let Requests { paths, headers, bodies, .. } = &plan.requests;
    let path = paths.first().map_or("/", String::as_str);
    let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let head = |length: usize| {
        format!("POST {path} HTTP/1.1\r\nhost: {}\r\n{headers}content-length: {length}\r\n\r\n", plan.address)
    };
    bodies.iter().map(|body| [head(body.len()).as_bytes(), body].concat()).collect()
}

fn arrivals(plan: &OpenPlan) -> Vec<Duration> {
    let count = plan.rate * plan.duration.as_secs_f64();
    // Whole arrivals: the last digit does not matter, and a bound holds whatever the rate.
    let count = (0..ARRIVALS_MAX).take_while(|number| (*number as f64) < count).count();
    Pattern::Poisson.arrivals(plan.rate, count, plan.seed)
}

/// Sends all of them, each when it is due.
fn send(shared: &Shared, messages: &[Vec<u8>], arrivals: &[Duration]) -> Seen {
    // Sleeps end within microseconds of their time, not fifty later. Without it they are later.
    #[cfg(target_os = "linux")]
    let _ = rustix::thread::set_current_timer_slack(std::num::NonZeroU64::new(1));
    let mut seen = Seen::default();
    let start = Instant::now() + Duration::from_millis(5);
    for (after, message) in arrivals.iter().zip(messages.iter().cycle()) {
        let due = Due { at: start + *after, counts: *after >= SETTLING };
        let early = due.at.saturating_duration_since(Instant::now());
        if !early.is_zero() {
            std::thread::sleep(early);
        }
        let Some(number) = idle(shared, due.at) else {
            seen.unsent(due.counts);
            continue;
        };
        let Some(lane) = shared.lanes.get(number) else { continue };
        seen.sent(due.counts, due.at.elapsed());
        *lock(&lane.due) = Some(due);
        if let Err(error) = (&lane.stream).write_all(message) {
            // The reader sees the same end, and gives the connection up.
            seen.fail(format!("send: {error}"));
        }
    }
    seen
}

/// A connection that is idle now or soon.
fn idle(shared: &Shared, due: Instant) -> Option<usize> {
    loop {
        if let Some(number) = lock(&shared.idle).pop() {
            return Some(number);
        }
        if due.elapsed() > LATE_MAX {
            return None;
        }
        std::thread::sleep(LOOK_AGAIN);
    }
}

/// Reads the answers of one connection until it ends.
async fn read(shared: Arc<Shared>, number: usize, stream: TcpStream) -> Seen {
    let mut seen = Seen::default();
    let mut reader = Reader::default();
    let Some(lane) = shared.lanes.get(number) else { return seen };
    loop {
        if let Err(error) = stream.readable().await {
            seen.fail(format!("receive: {error}"));
            return seen;
        }
        match stream.try_read_buf(reader.room()) {
            // Closed: by us at the end, or by the server, who then answers nothing any more.
            Ok(0) => return seen,
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => continue,
            Err(error) => {
                seen.fail(format!("receive: {error}"));
                return seen;
            }
        }
        match reader.answer() {
            Ok(None) => {}
            Ok(Some(status)) => {
                if let Some(due) = lock(&lane.due).take() {
                    seen.answered(due.counts, status, due.at.elapsed(), shared.deadline);
                }
                lock(&shared.idle).push(number);
            }
            Err(reason) => {
                seen.fail(reason);
                return seen;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::echo::Echo;

    fn plan(address: SocketAddr, rate: f64, connections: usize) -> OpenPlan {
        let requests = Requests::simple_json("any");
        let deadline = Duration::from_secs(1);
        let duration = Duration::from_millis(1200);
        OpenPlan { address, requests, rate, duration, connections, seed: 1, deadline }
    }

    fn run_now(plan: OpenPlan) -> OpenReport {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        runtime.block_on(run(plan)).expect("a report")
    }

    #[test]
    fn requests_leave_at_the_rate_and_all_are_answered() {
        let echo = Echo::start(1, None).expect("a server");
        let report = run_now(plan(echo.address(), 500.0, 32));
        assert!((300.0..700.0).contains(&report.offered_per_s), "{report:?}");
        assert_eq!((report.refused, report.failed, report.unsent), (0, 0, 0), "{report:?}");
        assert!((report.good_per_s - report.offered_per_s).abs() < 20.0, "{report:?}");
        assert!(0.0 < report.p50_ms && report.p50_ms <= report.p99_ms, "{report:?}");
    }

    #[test]
    fn a_server_that_stalls_is_charged_for_what_was_due_meanwhile() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("a connection");
            let mut request = [0; 4096];
            while std::io::Read::read(&mut stream, &mut request).is_ok_and(|read| read > 0) {
                std::thread::sleep(Duration::from_millis(100));
                let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
                if stream.write_all(answer).is_err() {
                    break;
                }
            }
        });
        // Ten a second can be answered, a hundred are due: most are late, or cannot leave at all.
        let report = run_now(plan(address, 100.0, 1));
        assert!(report.unsent > 20, "{report:?}");
        assert!(report.p50_ms > 150.0, "{report:?}");
        assert!(report.offered_per_s < 50.0, "{report:?}");
    }
}
