//! The way out: readiness goes first, the listeners next, then what is in flight.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::admission::Admission;

/// Where the process is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Taking requests.
    Serving,
    /// Still taking requests, but not ready: load balancers look away, and each
    /// HTTP/1 answer closes its connection.
    Leaving,
    /// Listeners are closed; what is in flight is finished.
    Stopping,
}

/// How a drain ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Drained {
    /// Every request was answered.
    Clean,
    /// It ended because a run of a model did not return.
    Hung,
    /// This many requests were cut off at the end of the grace.
    Cut(usize),
}

/// Takes the gateway out of service: [`Phase::Leaving`] for `delay`, then
/// [`Phase::Stopping`] and at most `grace` for what is in flight.
pub async fn drain(
    admission: &Arc<Admission>,
    phase: &watch::Sender<Phase>,
    delay: Duration,
    grace: Duration,
) -> Drained {
    phase.send_replace(Phase::Leaving);
    tokio::time::sleep(delay).await;
    phase.send_replace(Phase::Stopping);
    if admission.wait_idle(grace).await { Drained::Clean } else { Drained::Cut(admission.in_flight()) }
}

/// Resolves at SIGTERM or Ctrl-C.
pub async fn shutdown_signal() {
    use tokio::signal::unix::{SignalKind, signal};
    let first_of = |kind| async move {
        match signal(kind) {
            Ok(mut signal) => {
                signal.recv().await;
            }
            // Without a handler the signal keeps its default: it ends the process.
            Err(_) => std::future::pending::<()>().await,
        }
    };
    tokio::select! {
        () = first_of(SignalKind::interrupt()) => {}
        () = first_of(SignalKind::terminate()) => {}
    }
}
