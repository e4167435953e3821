//! What goes into a plugin and comes out: plain data.

use std::sync::Arc;

use bytes::Bytes;
use sluice_tensor::NamedTensor;
use tokio::time::Instant;

/// Most bytes of a plugin's failure message that reach the caller; more is cut
/// at a character. Enough for a sentence, too little to smuggle a page.
pub const FAILURE_MESSAGE_BYTES_MAX: usize = 1024;

/// Most seconds that a plugin may tell a caller to wait. An hour: what lasts longer is
/// no matter of trying again.
pub const RETRY_AFTER_SECONDS_MAX: u32 = 3600;

/// A body as the caller sent it.
#[derive(Debug, Clone)]
pub struct HttpBody {
    /// The `content-type` header.
    pub content_type: Option<String>,
    /// The bytes.
    pub data: Bytes,
}

/// What the caller sent.
#[derive(Debug, Clone)]
pub enum Request {
    /// A raw V1 body.
    Body(HttpBody),
    /// The tensors of a V2 call.
    Tensors(Vec<NamedTensor>),
}

/// A body for the caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpAnswer {
    /// 200 to 299.
    pub status: u16,
    /// Printable ASCII, fit for a header.
    pub content_type: String,
    /// The bytes.
    pub data: Bytes,
}

/// What the caller gets.
#[derive(Debug, Clone)]
pub enum Answer {
    /// A body.
    Body(HttpAnswer),
    /// The tensors of a V2 answer.
    Tensors(Vec<NamedTensor>),
}

/// A plugin's own refusal of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// 400 to 599.
    pub status: u16,
    /// For the caller; at most [`FAILURE_MESSAGE_BYTES_MAX`].
    pub message: String,
    /// Seconds after which the caller may try again, at most [`RETRY_AFTER_SECONDS_MAX`];
    /// only with 429 and 503.
    pub retry_after_seconds: Option<u32>,
}

/// What a `preprocess` hook decided.
#[derive(Debug, Clone)]
pub enum Prepared {
    /// Run the model.
    Run {
        /// The model's inputs, valid tensors but not yet checked against its signature.
        inputs: Vec<NamedTensor>,
        /// For `postprocess` of the same request.
        carry: Bytes,
    },
    /// Answer at once.
    Answer(Answer),
}

/// A value that the caller set.
#[derive(Debug, Clone, PartialEq)]
pub enum ParameterValue {
    /// A truth value.
    Bool(bool),
    /// A whole number.
    Integer(i64),
    /// Any other number.
    Number(f64),
    /// Text.
    Text(String),
}

/// A parameter of a request.
#[derive(Debug, Clone, PartialEq)]
pub struct Parameter {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: ParameterValue,
}

/// A call of a pipeline's own route.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RouteCall {
    /// In capitals.
    pub method: String,
    /// As the caller wrote it, without the query.
    pub path: String,
    /// What comes behind the question mark.
    pub query: Option<String>,
    /// The parts of the path that the route names, decoded.
    pub path_parameters: Vec<(String, String)>,
}

/// What a call knows beside its data.
#[derive(Debug, Clone)]
pub struct CallContext {
    /// The caller's request id, or one the gateway made.
    pub request_id: Arc<str>,
    /// The pipeline that was called.
    pub pipeline: Arc<str>,
    /// The version of the plugin that serves the call.
    pub plugin_version: Arc<str>,
    /// What traffic is split by, if the caller gave it.
    pub routing_key: Option<Arc<str>>,
    /// Whom the caller's token belongs to.
    pub tenant: Option<Arc<str>>,
    /// Where its model calls stand in a queue with priorities, as the request itself: 1 is the
    /// first, 0 is the model's default. The plugin does not see it.
    pub priority: u32,
    /// What the caller set beside the data, bounded by who made them.
    pub parameters: Arc<[Parameter]>,
    /// How a route of the pipeline's own was called.
    pub route: Option<Arc<RouteCall>>,
    /// When the whole request must be answered.
    pub deadline: Instant,
    /// The request's span: the guest's work is recorded in it.
    pub span: tracing::Span,
}
