//! What travels with a request through the rooms.

use std::sync::Arc;

use sluice_sandbox::CallContext;
use tokio::time::Instant;

use crate::catalog::Pipeline;

/// One request's identity and its one deadline.
#[derive(Debug, Clone)]
pub struct Call {
    /// The caller's id, or one that we made.
    pub request_id: Arc<str>,
    /// Set at admission; everything waits at most until then.
    pub deadline: Instant,
}

impl Call {
    /// The same, as a plugin sees it.
    pub(super) fn context(&self, pipeline: &Pipeline) -> CallContext {
        CallContext {
            request_id: Arc::clone(&self.request_id),
            pipeline: Arc::clone(&pipeline.name),
            deadline: self.deadline,
            span: tracing::Span::current(),
        }
    }
}
