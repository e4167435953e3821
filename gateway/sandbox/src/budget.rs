//! How long one call may still take, not counting its waits in the host.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

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
}

const NOT_WAITING: u64 = u64::MAX;

impl Budget {
    /// A budget that starts to run now.
    pub(crate) fn start(limit: Duration) -> Self {
        Self {
            started: Instant::now(),
            limit,
            waited: AtomicU64::new(0),
            waiting_since: AtomicU64::new(NOT_WAITING),
        }
    }

    fn elapsed_nanos(&self) -> u64 {
        // 584 years fit.
        u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(NOT_WAITING - 1)
    }

    /// What is left; zero when the budget is used up.
    pub(crate) fn left(&self) -> Duration {
        let since = self.waiting_since.load(Ordering::Acquire);
        let until = if since == NOT_WAITING { self.elapsed_nanos() } else { since };
        let used = until.saturating_sub(self.waited.load(Ordering::Acquire));
        self.limit.saturating_sub(Duration::from_nanos(used))
    }

    /// Stops the clock until the guard is dropped.
    pub(crate) fn wait(&self) -> Waiting<'_> {
        self.waiting_since.store(self.elapsed_nanos(), Ordering::Release);
        Waiting { budget: self }
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
        let since = self.budget.waiting_since.swap(NOT_WAITING, Ordering::AcqRel);
        let waited = self.budget.elapsed_nanos().saturating_sub(since);
        self.budget.waited.fetch_add(waited, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_millis(100);

    fn current_thread() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .expect("a runtime")
    }

    #[test]
    fn waits_in_the_host_do_not_use_the_budget() {
        current_thread().block_on(async {
            let budget = Budget::start(LIMIT);
            tokio::time::advance(Duration::from_millis(30)).await;
            {
                let _waiting = budget.wait();
                tokio::time::advance(Duration::from_secs(5)).await;
                assert_eq!(budget.left(), Duration::from_millis(70), "while waiting");
            }
            assert_eq!(budget.left(), Duration::from_millis(70), "after the wait");
            tokio::time::advance(Duration::from_millis(71)).await;
            assert!(budget.left().is_zero());
        });
    }

    #[test]
    fn the_watch_ends_when_the_budget_does_and_not_before() {
        current_thread().block_on(async {
            let budget = Budget::start(LIMIT);
            let watch = async {
                budget.watch().await;
                budget.started.elapsed()
            };
            let wait = async {
                let _waiting = budget.wait();
                tokio::time::sleep(Duration::from_millis(250)).await;
            };
            let (ended, ()) = tokio::join!(watch, wait);
            assert!(ended >= Duration::from_millis(350), "{ended:?}");
            assert!(ended < Duration::from_millis(460), "{ended:?}");
        });
    }
}
