//! Runs on the thread of a caller, in place of an instance's own thread that sleeps.

use std::sync::Arc;
use std::time::Duration;

use sluice_batch::Quick;
use tokio::runtime::{Handle, RuntimeFlavor};

use super::worker::{Job, Runner};

/// How long a run on the thread of a caller may take, as far as is known before.
///
/// Two wake-ups are saved, some 50 microseconds each on a virtual machine: a run that takes
/// many times that gains nothing. It is a guess from the runs before; what if it is wrong is
/// in [`run`].
const QUICK: Duration = Duration::from_micros(500);

/// With fewer other requests under way, a run may be on a caller's thread. With more, the
/// instance's thread is awake most of the time and has the engine's code in its processor's
/// caches, while batches grow.
const FEW: usize = 2;

/// Whether a task's thread can be replaced while the task blocks it.
fn is_replaceable() -> bool {
    Handle::try_current().is_ok_and(|here| here.runtime_flavor() == RuntimeFlavor::MultiThread)
}

/// How long a run may take to be made here, where so many other requests are under way.
pub(super) fn quick(others: usize) -> Duration {
    if others < FEW && is_replaceable() { QUICK } else { Duration::ZERO }
}

/// Runs what is due next on this thread, once everybody who is ready has had a turn.
///
/// A task of its own: the one that waits for the answer keeps its deadline, and interrupts the
/// run when it leaves. And the thread is declared as blocked: if the run is not over when the
/// next thread of the runtime has woken up, that one takes the place of this one, with all
/// that waits for it. So a run that takes longer than expected, or for ever, delays nobody but
/// those who wait for it, just as on the instance's own thread; the most threads that are
/// blocked at once are as many as there are instances.
pub(super) fn run(quick: Quick<Job>, runners: Arc<[Runner]>) {
    let work = async move {
        // Whatever else is ready on this thread joins the batch first.
        tokio::task::yield_now().await;
        if let Some(borrowed) = quick.borrow() {
            tokio::task::block_in_place(|| Runner::run_here(borrowed, &runners, QUICK));
        }
    };
    drop(tokio::spawn(work));
}
