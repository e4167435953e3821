//! Where guests run: on their caller's thread or on threads of their own; and tasks there
//! that end when nobody waits any more.
//!
//! A hop to another thread and back takes longer than most calls. So while few requests
//! are under way, a request's calls run where it is: that is what a single caller's latency
//! wants. When many are, they hop: threads that do nothing but guests, beside threads that
//! do nothing but HTTP, have their code in the processor's caches, which gains more than
//! the hop costs (`score` at 64 connections: a fifth).
//!
//! The epoch's tick, which makes every guest yield, is also what tells a slow one: a call
//! that has run for a tick goes on on the guests' threads, and a plugin whose calls are slow
//! again and again begins there ([`Pace`]). A guest that spins therefore holds a thread that
//! also takes connections for two ticks at most, a few times in its life.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::task::{JoinError, JoinHandle};

use crate::error::CallError;

thread_local! {
    /// Whether the guest that was polled last on this thread yielded because its tick was
    /// over, and not because it waits.
    static TICK_IS_OVER: Cell<bool> = const { Cell::new(false) };
}

/// Notes that the running guest has used its tick up.
pub(crate) fn tick_is_over() {
    TICK_IS_OVER.set(true);
}

/// The threads for guests, for when their callers' threads have other things to do.
#[derive(Debug, Clone)]
pub struct GuestThreads {
    handle: Handle,
    /// Pieces of work in [`GuestThreads::run`].
    under_way: Arc<AtomicUsize>,
    /// With fewer under way, work stays where it is.
    many: usize,
}

impl GuestThreads {
    pub(crate) fn new(handle: Handle, threads: usize) -> Self {
        Self { handle, under_way: Arc::default(), many: threads.max(1) }
    }

    /// Runs work that calls guests: where the caller is while there is little of it, else
    /// on the guests' threads. It must not block. Cancel-safe: dropping the future drops
    /// the work, at the latest at a guest's next epoch tick.
    ///
    /// # Errors
    /// [`CallError::Internal`] if it panicked, [`CallError::Closed`] if the sandbox is
    /// going away.
    pub async fn run<T: Send + 'static>(
        &self,
        work: Pin<Box<impl Future<Output = T> + Send + 'static>>,
    ) -> Result<T, CallError> {
        let _under_way = UnderWay(&self.under_way);
        let others = self.under_way.fetch_add(1, Ordering::Relaxed);
        if others < self.many || self.is_here() { Ok(work.await) } else { self.hop(work).await }
    }

    async fn hop<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, CallError> {
        match AbortOnDrop::new(self.handle.spawn(work)).await {
            Ok(outcome) => Ok(outcome),
            Err(error) if error.is_panic() => Err(panicked()),
            Err(_) => Err(CallError::Closed),
        }
    }

    /// Whether the caller is on one of them.
    fn is_here(&self) -> bool {
        Handle::try_current().is_ok_and(|here| here.id() == self.handle.id())
    }

    /// Runs a call here until it is done or turns out to be slow, and then to its end on
    /// the guests' threads. It must not block. Cancel-safe: dropping the future drops the
    /// work, at the latest at a guest's next epoch tick.
    ///
    /// # Errors
    /// [`CallError::Internal`] if it panicked, [`CallError::Closed`] if the sandbox is
    /// going away.
    pub(crate) async fn call<T: Send + 'static>(
        &self,
        pace: &Pace,
        mut work: Pin<Box<impl Future<Output = T> + Send + 'static>>,
    ) -> Result<T, CallError> {
        if self.is_here() {
            return Ok(work.await);
        }
        if pace.is_quick() {
            let here = poll_fn(|cx| {
                TICK_IS_OVER.set(false);
                // What panicked is not polled again.
                match catch_unwind(AssertUnwindSafe(|| work.as_mut().poll(cx))) {
                    Ok(Poll::Ready(outcome)) => Poll::Ready(Some(Ok(outcome))),
                    Ok(Poll::Pending) if TICK_IS_OVER.take() => Poll::Ready(None),
                    Ok(Poll::Pending) => Poll::Pending,
                    Err(_) => Poll::Ready(Some(Err(panicked()))),
                }
            });
            if let Some(outcome) = here.await {
                return outcome;
            }
        }
        self.hop(work).await
    }

    /// Starts work that nobody waits for.
    pub fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        drop(self.handle.spawn(work));
    }
}

/// One piece of work less, when this is dropped.
struct UnderWay<'a>(&'a AtomicUsize);

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

fn panicked() -> CallError {
    CallError::Internal("guest call panicked".to_owned())
}

/// How slow a plugin's calls have been: a score that slow calls raise and quick ones lower.
#[derive(Debug, Default)]
pub(crate) struct Pace(AtomicU32);

/// What one slow call adds to the score. A plugin of which one call in so many is slow
/// keeps its score.
const SLOW_CALL: u32 = 16;

/// Above this score a plugin's calls begin on the guests' threads: three slow calls with
/// few quick ones between them.
const SLOW_SCORE: u32 = 2 * SLOW_CALL;

/// No score is higher, so that a plugin that was slow is soon known to be quick again.
const SCORE_MAX: u32 = 64 * SLOW_CALL;

impl Pace {
    fn is_quick(&self) -> bool {
        self.0.load(Ordering::Relaxed) <= SLOW_SCORE
    }

    /// Takes a call into account that ran for so long. Counts that race may be lost: they
    /// decide on which thread a guest runs, nothing else.
    pub(crate) fn note(&self, ran: Duration, tick: Duration) {
        let score = self.0.load(Ordering::Relaxed);
        if ran >= tick {
            self.0.store((score + SLOW_CALL).min(SCORE_MAX), Ordering::Relaxed);
        } else if score > 0 {
            self.0.store(score - 1, Ordering::Relaxed);
        }
    }
}

/// A spawned task, aborted when this is dropped.
///
/// Aborting is a request: the task's locals are dropped by its own runtime, at
/// the latest at the guest's next epoch tick.
#[derive(Debug)]
pub(crate) struct AbortOnDrop<T>(JoinHandle<T>);

impl<T> AbortOnDrop<T> {
    pub(crate) fn new(task: JoinHandle<T>) -> Self {
        Self(task)
    }
}

impl<T> Future for AbortOnDrop<T> {
    type Output = Result<T, JoinError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(cx)
    }
}

impl<T> Drop for AbortOnDrop<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TICK: Duration = Duration::from_millis(5);

    #[test]
    fn slow_plugins_begin_elsewhere_until_they_are_quick_again() {
        let pace = Pace::default();
        assert!(pace.is_quick());
        for _ in 0..3 {
            pace.note(TICK, TICK);
        }
        assert!(!pace.is_quick());
        for _ in 0..SLOW_CALL {
            pace.note(Duration::ZERO, TICK);
        }
        assert!(pace.is_quick());
        for _ in 0..1000 {
            pace.note(TICK, TICK);
        }
        for _ in 0..SCORE_MAX {
            pace.note(Duration::ZERO, TICK);
        }
        assert!(pace.is_quick());
    }

    fn here() -> String {
        std::thread::current().name().unwrap_or_default().to_owned()
    }

    #[test]
    fn work_hops_only_when_there_is_much_of_it() {
        let others =
            tokio::runtime::Builder::new_multi_thread().thread_name("guest").build().expect("starts");
        let threads = GuestThreads::new(others.handle().clone(), 1);
        let caller = tokio::runtime::Builder::new_current_thread().build().expect("starts");
        caller.block_on(async {
            let inner = threads.clone();
            let both = async move { (here(), inner.run(Box::pin(async { here() })).await.expect("runs")) };
            let (first, second) = threads.run(Box::pin(both)).await.expect("runs");
            assert_eq!((first, second.as_str()), (here(), "guest"));
            assert_eq!(threads.run(Box::pin(async { here() })).await.expect("runs"), here(), "both are done");
        });
    }

    #[test]
    fn quick_work_stays_slow_work_moves_and_a_panic_is_an_error() {
        let others =
            tokio::runtime::Builder::new_multi_thread().thread_name("guest").build().expect("starts");
        let threads = GuestThreads::new(others.handle().clone(), 1);
        let caller = tokio::runtime::Builder::new_current_thread().build().expect("starts");
        caller.block_on(async {
            let pace = Pace::default();
            let waits = Box::pin(async {
                tokio::task::yield_now().await;
                here()
            });
            assert_eq!(threads.call(&pace, waits).await.expect("runs"), here());
            let slow = Box::pin(async {
                tick_is_over();
                tokio::task::yield_now().await;
                here()
            });
            assert_eq!(threads.call(&pace, slow).await.expect("runs"), "guest");
            for _ in 0..3 {
                pace.note(TICK, TICK);
            }
            assert_eq!(threads.call(&pace, Box::pin(async { here() })).await.expect("runs"), "guest");
            for pace in [pace, Pace::default()] {
                let broken = threads.call(&pace, Box::pin(async { panic!("a bug") })).await;
                assert!(matches!(broken, Err::<(), _>(CallError::Internal(_))));
            }
        });
    }
}
