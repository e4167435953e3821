//! What travels with a request through the rooms.

use std::sync::Arc;

use sluice_sandbox::CallContext;
use tokio::time::Instant;

use crate::catalog::{LoadedPlugin, Pipeline};

/// One request's identity and its one deadline.
#[derive(Debug, Clone)]
pub struct Call {
    /// The caller's id, or one that we made.
    pub request_id: Arc<str>,
    /// Set at admission; everything waits at most until then.
    pub deadline: Instant,
    /// What keeps a caller on one version of a plugin where several share the requests:
    /// the caller's routing key, else the request's id.
    pub key: Arc<str>,
    /// Whose token the caller has, where tokens are asked for.
    pub tenant: Option<Arc<str>>,
}

impl Call {
    /// As a plugin sees it that is called in no pipeline, for its sample cases.
    pub fn alone(&self, plugin: &LoadedPlugin) -> CallContext {
        self.seen_by(plugin, "".into(), tracing::Span::current())
    }

    /// As a version of a plugin sees it in a pipeline; `span` is the stage's, so that the
    /// plugin's own spans are inside it.
    pub(super) fn context(
        &self,
        pipeline: &Pipeline,
        plugin: &LoadedPlugin,
        span: &tracing::Span,
    ) -> CallContext {
        self.seen_by(plugin, Arc::clone(&pipeline.name), span.clone())
    }

    fn seen_by(&self, plugin: &LoadedPlugin, pipeline: Arc<str>, span: tracing::Span) -> CallContext {
        CallContext {
            request_id: Arc::clone(&self.request_id),
            pipeline,
            plugin_version: Arc::clone(&plugin.version),
            routing_key: (self.key != self.request_id).then(|| Arc::clone(&self.key)),
            tenant: self.tenant.clone(),
            deadline: self.deadline,
            span,
        }
    }
}
