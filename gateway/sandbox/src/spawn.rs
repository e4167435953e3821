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
use tokio::sync::Semaphore;
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
    /// All of the threads but one, for calls of heavy plugins.
    turns: Arc<Semaphore>,
}

impl GuestThreads {
    pub(crate) fn new(handle: Handle, threads: usize) -> Self {
        let turns = Arc::new(Semaphore::new(threads.saturating_sub(1).max(1)));
        Self { handle, under_way: Arc::default(), many: threads.max(1), turns }
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
        if pace.is_heavy() {
            let in_turns = in_turns(Arc::clone(&self.turns), work);
            return if self.is_here() { Ok(in_turns.await) } else { self.hop(in_turns).await };
        }
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

/// Runs work piece by piece, each when it is its turn.
async fn in_turns<T>(turns: Arc<Semaphore>, mut work: Pin<Box<impl Future<Output = T>>>) -> T {
    loop {
        // Nobody closes it.
        let turn = turns.acquire().await;
        let piece = poll_fn(|cx| Poll::Ready(work.as_mut().poll(cx))).await;
        drop(turn);
        if let Poll::Ready(done) = piece {
            return done;
        }
        // Whoever wakes the work wakes this.
        let mut is_awake = false;
        poll_fn(|_| if std::mem::replace(&mut is_awake, true) { Poll::Ready(()) } else { Poll::Pending })
            .await;
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

/// How slow a plugin's calls have been: scores that slow calls raise and quick ones lower.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    slow: AtomicU32,
    /// Of calls that no tick could interrupt for too long.
    heavy: AtomicU32,
}

/// A call is heavy if a piece of it took so many ticks without a check: one instruction
/// that fills a hundred megabytes, or what a host function copies. Few enough that a busy
/// machine seldom makes a call look so, and many enough that three of them are harm.
const HEAVY_TICKS: u32 = 4;

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
        self.slow.load(Ordering::Relaxed) <= SLOW_SCORE
    }

    /// Whether its calls leave a thread to others: while they compute, no more of them run
    /// than there are threads but one, over all heavy plugins.
    fn is_heavy(&self) -> bool {
        self.heavy.load(Ordering::Relaxed) > SLOW_SCORE
    }

    /// Takes a call into account that ran for so long, and whose longest piece between two
    /// checks took so long. Counts that race may be lost: they decide on which thread a
    /// guest runs, nothing else.
    pub(crate) fn note(&self, (ran, longest_piece): (Duration, Duration), tick: Duration) {
        count(&self.slow, ran >= tick);
        count(&self.heavy, longest_piece >= tick * HEAVY_TICKS);
    }
}

fn count(place: &AtomicU32, is_slow: bool) {
    let score = place.load(Ordering::Relaxed);
    if is_slow {
        place.store((score + SLOW_CALL).min(SCORE_MAX), Ordering::Relaxed);
    } else if score > 0 {
        place.store(score - 1, Ordering::Relaxed);
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
            pace.note((TICK, TICK), TICK);
        }
        assert!(!pace.is_quick());
        for _ in 0..SLOW_CALL {
            pace.note((Duration::ZERO, Duration::ZERO), TICK);
        }
        assert!(pace.is_quick());
        for _ in 0..1000 {
            pace.note((TICK, TICK), TICK);
        }
        for _ in 0..SCORE_MAX {
            pace.note((Duration::ZERO, Duration::ZERO), TICK);
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
                pace.note((TICK, TICK), TICK);
            }
            assert_eq!(threads.call(&pace, Box::pin(async { here() })).await.expect("runs"), "guest");
            for pace in [pace, Pace::default()] {
                let broken = threads.call(&pace, Box::pin(async { panic!("a bug") })).await;
                assert!(matches!(broken, Err::<(), _>(CallError::Internal(_))));
            }
        });
    }

    #[test]
    fn heavy_plugins_leave_a_thread_to_others() {
        let others = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().expect("starts");
        let threads = GuestThreads::new(others.handle().clone(), 2);
        let running = Arc::new(AtomicUsize::new(0));
        let (heavy, at_once) = (Arc::new(Pace::default()), Arc::new(AtomicUsize::new(0)));
        for _ in 0..3 {
            heavy.note((TICK * HEAVY_TICKS, TICK * HEAVY_TICKS), TICK);
        }
        let work = || {
            let (running, at_once) = (Arc::clone(&running), Arc::clone(&at_once));
            Box::pin(async move {
                for _ in 0..5 {
                    at_once.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                    std::thread::sleep(TICK);
                    running.fetch_sub(1, Ordering::SeqCst);
                    tokio::task::yield_now().await;
                }
            })
        };
        let caller = tokio::runtime::Builder::new_current_thread().build().expect("starts");
        caller.block_on(async {
            let calls = (0..6).map(|_| {
                let (threads, heavy, work) = (threads.clone(), Arc::clone(&heavy), work());
                tokio::spawn(async move { threads.call(&heavy, work).await })
            });
            for call in calls.collect::<Vec<_>>() {
                call.await.expect("no panic").expect("runs");
            }
        });
        assert_eq!(at_once.load(Ordering::SeqCst), 1, "of two threads");
    }
}
