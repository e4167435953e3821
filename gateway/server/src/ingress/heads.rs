//! Heads of requests that come slowly over HTTP/1. Between two requests a connection may be
//! idle for long: clients and proxies keep connections, and one that is closed just as it is
//! used again loses its request. A head that has begun to come has to be whole soon.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::Sleep;

/// The requests of a connection.
#[derive(Debug)]
pub(super) struct Heads {
    /// How long a head may take, from its first byte.
    time_max: Duration,
    /// Requests over HTTP/1 that have come. Before the first it is not known what the peer
    /// speaks, and the connection itself is closed if none comes.
    heard: AtomicUsize,
    /// Those of them that are not answered yet.
    under_way: AtomicUsize,
}

impl Heads {
    pub(super) fn new(time_max: Duration) -> Self {
        Self { time_max, heard: AtomicUsize::new(0), under_way: AtomicUsize::new(0) }
    }

    /// A head has come.
    pub(super) fn begin(&self) {
        self.under_way.fetch_add(1, Ordering::Relaxed);
        self.heard.fetch_add(1, Ordering::Relaxed);
    }

    /// Its request is answered.
    pub(super) fn end(&self) {
        self.under_way.fetch_sub(1, Ordering::Relaxed);
    }

    fn heard(&self) -> usize {
        self.heard.load(Ordering::Relaxed)
    }

    /// Whether what comes now is a head.
    fn is_awaited(&self) -> bool {
        self.heard() > 0 && self.under_way.load(Ordering::Relaxed) == 0
    }
}

/// Watches a connection's reading for heads that do not become whole. A timer is set only for
/// one that did not come in one piece.
#[derive(Default)]
pub(super) struct HeadTimer {
    /// How many requests had come when the first bytes of the next did.
    begun: Option<usize>,
    timer: Option<Pin<Box<Sleep>>>,
}

impl HeadTimer {
    /// Passes on what came of reading, `bytes` of them if it is done, unless a head is late.
    pub(super) fn read(
        &mut self,
        heads: &Heads,
        read: Poll<io::Result<()>>,
        bytes: usize,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        if self.begun.is_some_and(|heard| heard != heads.heard()) {
            // It was whole.
            *self = Self::default();
        }
        if read.is_ready() {
            if self.begun.is_none() && bytes > 0 && heads.is_awaited() {
                self.begun = Some(heads.heard());
            }
            return read;
        }
        if self.begun.is_none() {
            return Poll::Pending;
        }
        let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep(heads.time_max)));
        timer.as_mut().poll(cx).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIME_MAX: Duration = Duration::from_secs(10);

    /// What reading gives after `passed`.
    async fn after(timer: &mut HeadTimer, heads: &Heads, passed: Duration) -> Poll<io::Result<()>> {
        let mut cx = Context::from_waker(std::task::Waker::noop());
        let _ = timer.read(heads, Poll::Pending, 0, &mut cx);
        tokio::time::sleep(passed).await;
        timer.read(heads, Poll::Pending, 0, &mut cx)
    }

    #[tokio::test(start_paused = true)]
    async fn a_head_that_has_begun_is_cut_and_silence_and_bodies_are_not() {
        let (heads, mut timer) = (Heads::new(TIME_MAX), HeadTimer::default());
        let mut cx = Context::from_waker(std::task::Waker::noop());
        for _ in 0..2 {
            let _ = timer.read(&heads, Poll::Ready(Ok(())), 9, &mut cx);
            heads.begin();
            // The body comes as slowly as it likes.
            let _ = timer.read(&heads, Poll::Ready(Ok(())), 9, &mut cx);
            assert!(after(&mut timer, &heads, TIME_MAX * 2).await.is_pending());
            heads.end();
            assert!(after(&mut timer, &heads, TIME_MAX * 2).await.is_pending(), "idle");
        }
        for _ in 0..3 {
            let _ = timer.read(&heads, Poll::Ready(Ok(())), 1, &mut cx);
            let is_late = after(&mut timer, &heads, TIME_MAX / 4).await.is_ready();
            assert!(!is_late, "it has time, counted from its first byte");
        }
        let late = after(&mut timer, &heads, TIME_MAX / 2).await;
        assert!(matches!(late, Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::TimedOut));
    }
}
