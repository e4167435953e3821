//! How long one call may still take, not counting its waits in the host.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;
use std::time::Duration;

use tokio::time::Instant;

use crate::places::Places;

/// The time budget of one call, shared by the epoch callback, the host
/// functions that wait, and the timer that watches from outside.
///
/// A guest waits for one thing at a time, so one start of waiting is enough.
pub(crate) struct Budget {
    started: Instant,
    limit: Duration,
    /// Nanoseconds of finished waits.
    waited: AtomicU64,
    /// Nanoseconds after `started` that the present wait began; [`NOT_WAITING`] if none.
    waiting_since: AtomicU64,
    /// What was used, in nanoseconds, when the guest last came by a check.
    checked: AtomicU64,
    /// Nanoseconds of the longest piece between two checks.
    longest_piece: AtomicU64,
}

const NOT_WAITING: u64 = u64::MAX;

impl Budget {
    /// A budget that starts to run now.
    pub(crate) fn start(limit: Duration) -> Self {
        Self::start_at(Instant::now(), limit)
    }

    /// The same, for a caller that has just read the clock.
    pub(crate) fn start_at(now: Instant, limit: Duration) -> Self {
        Self {
            started: now,
            limit,
            waited: AtomicU64::new(0),
            waiting_since: AtomicU64::new(NOT_WAITING),
            checked: AtomicU64::new(0),
            longest_piece: AtomicU64::new(0),
        }
    }

    fn nanos_at(&self, now: Instant) -> u64 {
        // 584 years fit.
        u64::try_from(now.saturating_duration_since(self.started).as_nanos()).unwrap_or(NOT_WAITING - 1)
    }

    /// The whole of it.
    pub(crate) fn limit(&self) -> Duration {
        self.limit
    }

    /// What is left; zero when the budget is used up.
    pub(crate) fn left(&self) -> Duration {
        self.left_at(Instant::now())
    }

    fn left_at(&self, now: Instant) -> Duration {
        self.limit.saturating_sub(self.used_at(now))
    }

    /// What was used, beyond the limit too.
    pub(crate) fn used(&self) -> Duration {
        self.used_at(Instant::now())
    }

    /// What was used; the guest comes by a check.
    pub(crate) fn check(&self) -> Duration {
        let used = self.used();
        let nanos = u64::try_from(used.as_nanos()).unwrap_or(u64::MAX);
        // One thread at a time runs the guest, and the others only look.
        let piece = nanos.saturating_sub(self.checked.swap(nanos, Ordering::Relaxed));
        self.longest_piece.fetch_max(piece, Ordering::Relaxed);
        used
    }

    /// The longest piece of computing that no check came into.
    pub(crate) fn longest_piece(&self) -> Duration {
        Duration::from_nanos(self.longest_piece.load(Ordering::Relaxed))
    }

    fn used_at(&self, now: Instant) -> Duration {
        let since = self.waiting_since.load(Ordering::Acquire);
        let until = if since == NOT_WAITING { self.nanos_at(now) } else { since };
        Duration::from_nanos(until.saturating_sub(self.waited.load(Ordering::Acquire)))
    }

    /// Stops the clock until the guard is dropped.
    pub(crate) fn wait(&self) -> Waiting<'_> {
        self.wait_at(Instant::now())
    }

    fn wait_at(&self, now: Instant) -> Waiting<'_> {
        self.waiting_since.store(self.nanos_at(now), Ordering::Release);
        Waiting { budget: self }
    }

    fn resume_at(&self, now: Instant) {
        let since = self.waiting_since.swap(NOT_WAITING, Ordering::AcqRel);
        let waited = self.nanos_at(now).saturating_sub(since);
        self.waited.fetch_add(waited, Ordering::AcqRel);
    }

    /// Returns when the budget is used up. Cancel-safe.
    ///
    /// Running guests are stopped by the epoch callback; this stops those that
    /// sleep in a WASI call, which no epoch reaches.
    pub(crate) async fn watch(&self) {
        loop {
            let left = self.left();
            if left.is_zero() {
                return;
            }
            tokio::time::sleep(left).await;
        }
    }
}

/// A wait in the host: see [`Budget::wait`].
pub(crate) struct Waiting<'a> {
    budget: &'a Budget,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.budget.resume_at(Instant::now());
    }
}

/// Waits for somebody else's work, off the budget and out of others' way. Until it is seen to
/// wait it counts: what a store in memory computes is done here and now, and nothing else
/// would stop a guest that asks for it again and again.
pub(crate) async fn wait_for<T>(
    budget: &Budget,
    places: Option<&Arc<Places>>,
    work: impl Future<Output = T>,
) -> T {
    let mut work = pin!(work);
    if let Poll::Ready(done) = poll_fn(|cx| Poll::Ready(work.as_mut().poll(cx))).await {
        return done;
    }
    let (_waiting, _parked) = (budget.wait(), places.map(Places::park));
    work.await
}

/// Lets others run. A guest that stands in their queue is not computing.
pub(crate) async fn step_aside(budget: Arc<Budget>) {
    let _waiting = budget.wait();
    tokio::task::yield_now().await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_in_the_host_do_not_use_the_budget() {
        let budget = Budget::start(Duration::from_millis(100));
        let at = |millis| budget.started + Duration::from_millis(millis);
        assert_eq!(budget.left_at(at(30)), Duration::from_millis(70));
        std::mem::forget(budget.wait_at(at(30)));
        assert_eq!(budget.left_at(at(5000)), Duration::from_millis(70), "while waiting");
        budget.resume_at(at(5030));
        assert_eq!(budget.left_at(at(5030)), Duration::from_millis(70), "after the wait");
        std::mem::forget(budget.wait_at(at(5040)));
        budget.resume_at(at(6040));
        assert_eq!(budget.left_at(at(6040)), Duration::from_millis(60), "after another");
        assert!(budget.left_at(at(6100)).is_zero());
        assert!(budget.left_at(at(9000)).is_zero());
    }

    #[test]
    fn what_a_host_function_computes_counts_and_what_it_waits_for_does_not() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
        let compute = || std::thread::sleep(Duration::from_millis(20));
        runtime.block_on(async {
            let budget = Budget::start(Duration::from_secs(9));
            wait_for(&budget, None, async { compute() }).await;
            let used = budget.used();
            assert!(used >= Duration::from_millis(20), "{used:?}");
            wait_for(&budget, None, tokio::time::sleep(Duration::from_millis(100))).await;
            assert!(budget.used() < used + Duration::from_millis(90), "{:?}", budget.used());
        });
    }

    #[test]
    fn a_guest_that_queues_behind_others_does_not_use_its_budget() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
        runtime.block_on(async {
            let budget = Arc::new(Budget::start(Duration::from_secs(9)));
            let other = async { std::thread::sleep(Duration::from_millis(200)) };
            tokio::join!(step_aside(Arc::clone(&budget)), other);
            assert!(budget.used() < Duration::from_millis(150), "{:?}", budget.used());
        });
    }

    #[test]
    fn the_longest_piece_is_what_no_check_came_into() {
        let budget = Budget::start(Duration::from_secs(9));
        for millis in [2, 30, 2] {
            std::thread::sleep(Duration::from_millis(millis));
            budget.check();
        }
        let longest = budget.longest_piece();
        assert!(longest >= Duration::from_millis(30) && longest < budget.used(), "{longest:?}");
    }

    #[test]
    fn the_watch_ends_when_the_budget_does_and_not_before() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
        let took = runtime.block_on(async {
            let budget = Budget::start(Duration::from_millis(20));
            let wait = async {
                let _waiting = budget.wait();
                tokio::time::sleep(Duration::from_millis(40)).await;
            };
            tokio::join!(budget.watch(), wait);
            budget.started.elapsed()
        });
        assert!(took >= Duration::from_millis(60), "{took:?}");
    }
}
