//! Requests whose inputs a plugin is still making.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use sluice_batch::Rejected;

use super::{Model, scheduling};
use crate::error::Result;
use crate::pipeline::Call;

impl Model {
    /// Says that a request's inputs are being made, until what is returned is dropped. Refuses
    /// it now if it would be refused then, so that under overload nobody's time is spent on
    /// inputs that are never run.
    ///
    /// # Errors
    /// [`Kind::QueueFull`].
    pub fn announce(self: &Arc<Self>, call: &Call) -> Result<Coming> {
        let before = self.coming.fetch_add(1, Ordering::Relaxed);
        let coming = Coming(Arc::clone(self));
        // A cached answer needs no queue, and sequences have queues of their own.
        if self.cache.is_some() || self.sequences.is_some() {
            return Ok(coming);
        }
        let who = (call.options.priority, scheduling::tenant_key(call.tenant.as_deref()));
        if self.queue.would_be_behind(self.queue_deadline(call.deadline), who, before) {
            return Err(self.refusal(&Rejected::Behind));
        }
        Ok(coming)
    }
}

/// A request whose inputs are being made: see [`Model::announce`].
pub struct Coming(Arc<Model>);

impl Drop for Coming {
    fn drop(&mut self) {
        self.0.coming.fetch_sub(1, Ordering::Relaxed);
    }
}
