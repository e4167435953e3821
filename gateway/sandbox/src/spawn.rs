//! The guests' threads, and tasks on them that end when nobody waits any more.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::runtime::Handle;
use tokio::task::{JoinError, JoinHandle};

use crate::error::CallError;

/// The threads that guests run on.
///
/// A call that comes from elsewhere hops there and back. Whoever makes several calls
/// for one request does well to run all of its work there: calls from within stay on
/// the thread.
#[derive(Debug, Clone)]
pub struct GuestThreads(Handle);

impl GuestThreads {
    pub(crate) fn new(handle: Handle) -> Self {
        Self(handle)
    }

    /// Runs work on the guests' threads. It must not block. Cancel-safe: dropping the
    /// future drops the work, at the latest at a guest's next epoch tick.
    ///
    /// # Errors
    /// [`CallError::Internal`] if it panicked, [`CallError::Closed`] if the sandbox is
    /// going away.
    pub async fn run<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, CallError> {
        match AbortOnDrop::new(self.0.spawn(work)).await {
            Ok(outcome) => Ok(outcome),
            Err(error) if error.is_panic() => Err(CallError::Internal("guest call panicked".to_owned())),
            Err(_) => Err(CallError::Closed),
        }
    }

    /// Starts work that nobody waits for.
    pub fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        drop(self.0.spawn(work));
    }

    /// Whether the caller is on one of them.
    pub(crate) fn is_here(&self) -> bool {
        Handle::try_current().is_ok_and(|here| here.id() == self.0.id())
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
