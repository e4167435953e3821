//! Streams of HTTP/2 whose answers nobody takes. Each is ended alone: clients of gRPC send all
//! that they have over one connection, and the other streams of it are read.
//!
//! What writes a stream asks its answer for more only when the reader has made room, so that an
//! answer cannot end itself. The task of the stream is ended, which resets it and frees what is
//! kept for it.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;

use hyper::rt::Executor;

use super::readers::Unread;
use crate::observe::Metrics;

tokio::task_local! {
    /// What the stream of the running task waits for.
    static STREAM: Arc<Stream>;
}

/// Since when a stream waits for its reader.
#[derive(Debug, Default)]
pub(super) struct Stream {
    /// The tick in which it began to, above zero if it does.
    since: AtomicUsize,
}

impl Stream {
    /// That of the task that asks, if it has one: those of HTTP/1 have not.
    pub(super) fn current() -> Option<Arc<Self>> {
        STREAM.try_with(Arc::clone).ok()
    }

    /// It waits, since the tick `now`.
    pub(super) fn begin(&self, now: usize) {
        self.since.store(now.wrapping_add(1).max(1), Ordering::Relaxed);
    }

    pub(super) fn end(&self) {
        self.since.store(0, Ordering::Relaxed);
    }

    /// The tick in which it began to wait, if it waits.
    fn since(&self) -> Option<usize> {
        self.since.load(Ordering::Relaxed).checked_sub(1)
    }
}

/// Runs the streams of a connection.
#[derive(Clone)]
pub(super) struct Streams {
    unread: Arc<Unread>,
    metrics: Arc<Metrics>,
}

impl Streams {
    pub(super) fn new(unread: &Arc<Unread>, metrics: &Arc<Metrics>) -> Self {
        Self { unread: Arc::clone(unread), metrics: Arc::clone(metrics) }
    }
}

impl<F> Executor<F> for Streams
where
    F: Future + Send + 'static,
    F::Output: Send,
{
    fn execute(&self, stream: F) {
        tokio::spawn(run(self.clone(), stream));
    }
}

/// Runs a stream to its end, or until its answer has waited for too long.
async fn run<F: Future>(streams: Streams, stream: F) {
    let waits = Arc::new(Stream::default());
    let mut stream = pin!(STREAM.scope(Arc::clone(&waits), stream));
    let mut ticked = pin!(streams.unread.ticked());
    let is_read = poll_fn(|cx| {
        if stream.as_mut().poll(cx).is_ready() {
            return Poll::Ready(true);
        }
        // Most streams end before any answer of theirs waits, and have no need of ticks.
        while let Some(since) = waits.since() {
            if streams.unread.is_late(since) {
                return Poll::Ready(false);
            }
            std::task::ready!(ticked.as_mut().poll(cx));
            ticked.set(streams.unread.ticked());
        }
        Poll::Pending
    });
    if !is_read.await {
        streams.metrics.rejected("write_timeout");
    }
}
