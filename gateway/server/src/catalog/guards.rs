//! What a request at a model holds while it waits, and puts right when it leaves.

use sluice_batch::Queue;

use super::worker::Job;
use crate::observe::ModelMetrics;

/// Counts the queue again when a caller left it early. Declared before the place in the
/// queue, so that it is dropped after it.
pub(super) struct DepthOnDrop<'a> {
    pub(super) metrics: &'a ModelMetrics,
    pub(super) queue: &'a Queue<Job>,
    pub(super) is_answered: bool,
}

impl Drop for DepthOnDrop<'_> {
    fn drop(&mut self) {
        if !self.is_answered {
            self.metrics.queue_depth(self.queue.depth());
        }
    }
}
