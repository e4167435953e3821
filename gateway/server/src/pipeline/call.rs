//! What travels with a request through the rooms.

use std::sync::Arc;

use sluice_sandbox::{CallContext, ParameterValue, RouteCall};
use tokio::time::Instant;

use super::{Parameter, RequestOptions};
use crate::catalog::{LoadedPlugin, Pipeline};
use crate::observe::Trace;

/// One request's identity and its one deadline.
#[derive(Debug, Clone)]
pub struct Call {
    /// The caller's id, or one that we made.
    pub request_id: Arc<str>,
    /// When it came in.
    pub arrived: Instant,
    /// Set at admission; everything waits at most until then.
    pub deadline: Instant,
    /// What keeps a caller on one version of a plugin where several share the requests:
    /// the caller's routing key, else the request's id.
    pub key: Arc<str>,
    /// The version that is asked for, if one is.
    pub version: Option<Arc<str>>,
    /// Whose token the caller has, where tokens are asked for.
    pub tenant: Option<Arc<str>>,
    /// How it wants to be treated.
    pub options: RequestOptions,
    /// How a route of the pipeline's own was called; none on every other route.
    pub route: Option<Arc<RouteCall>>,
    /// Where its times are noted, if it is traced.
    pub trace: Option<Arc<Trace>>,
}

impl Call {
    /// A call that starts now, without a caller's wishes.
    pub fn new(request_id: Arc<str>, deadline: Instant) -> Self {
        let key = Arc::clone(&request_id);
        let options = RequestOptions::default();
        let arrived = Instant::now();
        let (version, tenant, route, trace) = (None, None, None, None);
        Self { request_id, arrived, deadline, key, version, tenant, options, route, trace }
    }

    /// The call of a model that a plugin makes while it works on a request: with the request's
    /// deadline, tenant and priority. Its sequence and its parameters are for the plugin.
    pub fn of_plugin(context: &CallContext) -> Self {
        let call = Self::new(Arc::clone(&context.request_id), context.deadline);
        let key = context.routing_key.clone().unwrap_or_else(|| Arc::clone(&call.key));
        let options = RequestOptions { priority: context.priority, ..RequestOptions::default() };
        Self { key, tenant: context.tenant.clone(), options, ..call }
    }

    /// Notes that something happens now, if the request is traced.
    pub fn note(&self, event: &'static str) {
        if let Some(trace) = &self.trace {
            trace.event(event);
        }
    }

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
            priority: self.options.priority,
            parameters: match &self.options.parameters[..] {
                [] => Arc::default(),
                given => given.iter().map(seen_parameter).collect(),
            },
            route: self.route.clone(),
            deadline: self.deadline,
            span,
        }
    }
}

fn seen_parameter((name, value): &(Arc<str>, Parameter)) -> sluice_sandbox::Parameter {
    let value = match value {
        Parameter::Bool(value) => ParameterValue::Bool(*value),
        Parameter::Integer(number) => ParameterValue::Integer(*number),
        Parameter::Unsigned(number) => match i64::try_from(*number) {
            Ok(number) => ParameterValue::Integer(number),
            // The contract's whole numbers have a sign.
            Err(_) => ParameterValue::Text(number.to_string()),
        },
        Parameter::Float(number) => ParameterValue::Number(*number),
        Parameter::Text(text) => ParameterValue::Text(text.to_string()),
    };
    sluice_sandbox::Parameter { name: name.to_string(), value }
}
