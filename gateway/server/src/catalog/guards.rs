//! What a request at a model holds while it is there.

use std::sync::{Arc, Mutex, PoisonError};

use super::worker::BatchWatch;

/// Whether the caller of a job is still there, and which batch it is in.
#[derive(Default)]
pub(super) struct Caller(Mutex<CallerState>);

#[derive(Default)]
struct CallerState {
    gone: bool,
    batch: Option<Arc<BatchWatch>>,
}

impl Caller {
    /// The job joins a batch. Says whether its caller is still there.
    pub(super) fn join(&self, batch: &Arc<BatchWatch>) -> bool {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.batch = Some(Arc::clone(batch));
        !state.gone
    }

    pub(super) fn leave(&self) {
        let batch = {
            let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            state.gone = true;
            state.batch.take()
        };
        if let Some(batch) = batch {
            batch.one_left();
        }
    }
}

/// The caller leaves when this is dropped.
pub(super) struct LeaveOnDrop(pub(super) Arc<Caller>);

impl Drop for LeaveOnDrop {
    fn drop(&mut self) {
        self.0.leave();
    }
}
