//! `make bench-peers`: other servers beside Sluice on the same workload, each alone on one
//! core, with the same load generator on another.

mod by_hand;
mod description;
mod process;
mod report;
mod style;

use std::path::{Path, PathBuf};
use std::time::Duration;

pub use by_hand::{ByHand, serve};
use tokio::signal::unix::{SignalKind, signal};

use crate::load::{self, LoadPlan, LoadReport};
use crate::requests::Requests;
use crate::workload::{self, Workload};
use description::Description;
use process::Running;
use report::{Cells, Report};

/// What every peer serves.
pub const PIPELINES: [&str; 2] = ["score", "rank"];

/// Connections of the load that proves the answers: each begins with a body of its own, so
/// that all 64 are asked, in whatever batches the server makes of them. It is the warm-up too.
const PROVING: usize = 64;

/// How long it goes on.
const PROVING_TIME: Duration = Duration::from_millis(700);

/// What is measured, and how.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The folder with one folder for each peer.
    pub folder: PathBuf,
    /// Names of peers, and the Python that each is served with; empty for one that needs none.
    pub peers: Vec<(String, String)>,
    /// Names of those that cannot be measured here, and why.
    pub left_out: Vec<(String, String)>,
    /// The gateway.
    pub program: PathBuf,
    /// The core of the server.
    pub core: usize,
    /// Connections, each with one request under way.
    pub concurrency: Vec<usize>,
    /// Rounds; the one in the middle counts.
    pub rounds: usize,
    /// Time of each measurement.
    pub duration: Duration,
}

/// `mosec=/some/python` apart.
///
/// # Errors
/// There is no `=`.
pub fn pair(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or_else(|| format!("{text:?} is not NAME=VALUE"))?;
    Ok((name.to_owned(), value.to_owned()))
}

/// One server, and everything that is known of it.
struct Peer {
    name: String,
    description: Description,
    /// By pipeline.
    requests: Vec<Requests>,
    cells: Cells,
    /// Why it is measured no longer.
    failure: Option<String>,
}

/// Measures all of them and gives the report in Markdown.
///
/// Each round starts the servers one after the other, proves their answers and measures them:
/// what else goes on on the machine hits all of them alike, and no server runs beside another.
/// One that does not start or answers wrongly is left out from then on.
///
/// # Errors
/// A description or the workload cannot be read.
pub async fn measure(plan: &Plan) -> Result<String, String> {
    let workloads = PIPELINES.map(workload::read).into_iter().collect::<Result<Vec<_>, _>>()?;
    let peers = plan.peers.iter().map(|(name, python)| peer(plan, name, python, &workloads));
    let mut peers = peers.collect::<Result<Vec<_>, _>>()?;
    tokio::select! {
        () = rounds(plan, &mut peers) => {}
        () = stopped() => return Err("stopped".to_owned()),
    }
    let mut report = Report { left_out: plan.left_out.clone(), ..Report::default() };
    for peer in peers {
        match peer.failure {
            Some(reason) => report.left_out.push((peer.description.title, reason)),
            None => report.peers.push((peer.name, peer.description, peer.cells)),
        }
    }
    Ok(report.to_markdown(&plan.concurrency, plan.rounds, plan.duration))
}

#[expect(clippy::print_stderr, reason = "progress for people")]
async fn rounds(plan: &Plan, peers: &mut [Peer]) {
    let started = tokio::time::Instant::now();
    for round in 1..=plan.rounds {
        for peer in peers.iter_mut().filter(|peer| peer.failure.is_none()) {
            if let Err(reason) = turn(plan, peer).await {
                eprintln!("peers: {} is left out from now on: {reason}", peer.description.title);
                peer.failure = Some(reason);
                continue;
            }
            let (seen, seconds) = (peer.cells.last_throughputs(), started.elapsed().as_secs());
            let title = &peer.description.title;
            eprintln!("peers: {seconds} s: round {round} of {}: {title}: {seen}", plan.rounds);
        }
    }
}

/// Waits for Ctrl-C or SIGTERM: servers are in groups of their own, which hear neither.
async fn stopped() {
    let Ok(mut term) = signal(SignalKind::terminate()) else { return std::future::pending().await };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = term.recv() => {}
    }
}

fn peer(plan: &Plan, name: &str, python: &str, workloads: &[Workload]) -> Result<Peer, String> {
    let description = Description::read(&plan.folder, name, python, &plan.program)?;
    let requests = workloads.iter().map(|workload| style::requests(&description, workload)).collect();
    Ok(Peer { name: name.to_owned(), description, requests, cells: Cells::default(), failure: None })
}

/// One peer's turn in a round.
async fn turn(plan: &Plan, peer: &mut Peer) -> Result<(), String> {
    let running = Running::start(&peer.description, plan.core)?;
    let outcome = async {
        running.until_right(&peer.requests).await?;
        for (pipeline, requests) in PIPELINES.into_iter().zip(&peer.requests) {
            if peer.description.is_checked() {
                prove(&running, requests).await?;
            }
            for connections in &plan.concurrency {
                let report = requests.load(running.address, *connections, plan.duration).await?;
                peer.cells.add(pipeline, *connections, report);
            }
        }
        Ok(())
    };
    let outcome: Result<(), String> = outcome.await;
    let outcome = outcome.map_err(|reason| format!("{reason}{}", running.last_words()));
    running.stop().await;
    outcome
}

/// Every body, in whatever batches, and every answer looked at.
async fn prove(running: &Running, requests: &Requests) -> Result<(), String> {
    let plan = LoadPlan {
        warmup: Duration::ZERO,
        check: Some(requests.check.clone()),
        ..requests.plan(running.address, PROVING, PROVING_TIME)
    };
    let LoadReport { first_error, .. } = load::run(plan).await;
    first_error.map_or(Ok(()), |error| Err(format!("{requests:?}: {error}")))
}

/// Writes the report.
///
/// # Errors
/// It cannot be written.
pub fn write(folder: &Path, report: &str) -> Result<(), String> {
    let path = folder.join("peers.md");
    std::fs::write(&path, report).map_err(|error| format!("{}: {error}", path.display()))
}
