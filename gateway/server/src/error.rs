//! The error that a request ends with, from whichever room it came.
//!
//! A room says what kind of failure it was, in words for the caller, and may add
//! details for the log. Status codes are not its business: the one table in
//! `ingress::wire_error` turns a [`Kind`] into an answer.

use std::borrow::Cow;
use std::fmt;

/// What went wrong. Each kind is one row of the error table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    // The caller's fault.
    /// The body is not the JSON that the protocol asks for.
    BadJson,
    /// A shape is malformed or does not match the model.
    BadShape,
    /// A datatype is unknown or does not match the model.
    BadDtype,
    /// The data is longer or shorter than its shape says.
    BadLength,
    /// JSON is nested too deeply.
    LimitDepth,
    /// Something else about the request is malformed.
    BadRequest,
    /// No such model, pipeline or route.
    NotFound,
    /// The route exists, the method does not.
    MethodNotAllowed,
    /// The body did not arrive in time.
    RequestTimeout,
    /// The body, or a tensor decoded from it, is above the limit.
    TooLarge,
    /// The content type or encoding is not supported.
    UnsupportedMedia,
    /// The plugin refused the request with a status of its own.
    Refused(u16),
    // Nobody's fault: too much at once, or not now.
    /// The model's queue is full.
    QueueFull,
    /// The gateway has as much work as it may hold.
    Overloaded,
    /// The gateway is shutting down.
    Draining,
    /// The model is not ready.
    ModelUnavailable,
    /// The request's deadline has passed.
    Deadline,
    // The plugin's fault.
    /// The plugin trapped.
    PluginTrap,
    /// The plugin gave something that makes no sense.
    PluginOutput,
    /// The plugin asked for more memory than it may have.
    PluginMemory,
    /// The plugin's stack overflowed.
    PluginStack,
    /// The plugin used up its time.
    PluginTimeout,
    // The engine's and our own.
    /// The engine failed.
    Engine,
    /// A bug in the gateway.
    Internal,
}

/// A failed request: what kind, what the caller may know, what the log should.
#[derive(Debug, Clone)]
pub struct Error {
    kind: Kind,
    message: Cow<'static, str>,
    detail: Option<Box<str>>,
}

/// What a room of the request path gives.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An error whose message is for the caller: no path, address or foreign data.
    pub fn new(kind: Kind, message: impl Into<Cow<'static, str>>) -> Self {
        Self { kind, message: message.into(), detail: None }
    }

    /// Adds what only the log should see.
    #[must_use]
    pub fn with_detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into().into_boxed_str());
        self
    }

    /// What went wrong.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// For the caller.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// For the log.
    pub fn detail(&self) -> Option<&str> {
        self.detail.as_deref()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}
