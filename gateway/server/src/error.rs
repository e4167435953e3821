//! The error that a request ends with, from whichever room it came.
//!
//! A room says what kind of failure it was, in words for the caller, and may add
//! details for the log. Status codes are not its business: the one table in
//! `crate::wire_error` turns a [`Kind`] into an answer.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

/// Most characters of a text from outside that are said back: a name of megabytes would come back
/// in an answer of megabytes, that nobody counted.
const SHOWN_CHARACTERS_MAX: usize = 128;

/// The start of a text from outside, for a message.
pub fn shown(text: &str) -> String {
    text.chars().take(SHOWN_CHARACTERS_MAX).collect()
}

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
    /// It is known, and not done here.
    Unsupported,
    /// The content type or encoding is not supported.
    UnsupportedMedia,
    /// The plugin refused the request with a status of its own.
    Refused(u16),
    // The caller's fault, on the admin listener or where tokens are asked for.
    /// No token, or none that is known: the same words and time for all.
    Unauthenticated,
    /// The token has not the scope, or the plugin is another owner's.
    Forbidden,
    /// This version exists with other content.
    DigestConflict,
    /// What is to be made is there already.
    AlreadyExists,
    /// What is to be removed or changed is in use.
    InUse,
    /// An upload was understood and refused. The text is the reason code.
    UploadRefused(UploadRefusal),
    // Nobody's fault: too much at once, or not now.
    /// The model's queue is full.
    QueueFull,
    /// The request waited in the queue for as long as the model's policy lets it.
    QueueTimeout,
    /// One caller or tenant has more under way than it may.
    TenantLimit,
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
    /// No disk space, or the disk refuses to write.
    StorageFull,
    /// A bug in the gateway.
    Internal,
}

/// Why a component was refused: the reason code of a 422.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum UploadRefusal {
    /// Another kind of file.
    NotWasm,
    /// WebAssembly, but not a component.
    NotComponent,
    /// A component of none of the worlds, or an export of another type.
    WrongWorld,
    /// An import that does not exist or is not granted.
    ForbiddenImport,
    /// It needs more memory or tables than it may have.
    Limits,
    /// Checking or compiling it took too much time or memory, or failed.
    CompileLimit,
    /// It is malformed, or uses a feature that is off.
    Invalid,
    /// It failed its trial: start, `init`, or one of its own sample cases.
    CanaryFailed,
    /// A signature is required, and there is none that is valid.
    BadSignature,
}

impl UploadRefusal {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::NotWasm,
        Self::NotComponent,
        Self::WrongWorld,
        Self::ForbiddenImport,
        Self::Limits,
        Self::CompileLimit,
        Self::Invalid,
        Self::CanaryFailed,
        Self::BadSignature,
    ];

    /// The reason code.
    pub fn code(self) -> &'static str {
        match self {
            Self::NotWasm => "not_wasm",
            Self::NotComponent => "not_component",
            Self::WrongWorld => "wrong_world",
            Self::ForbiddenImport => "forbidden_import",
            Self::Limits => "plugin_limits",
            Self::CompileLimit => "compile_limit",
            Self::Invalid => "invalid_component",
            Self::CanaryFailed => "canary_failed",
            Self::BadSignature => "bad_signature",
        }
    }
}

/// A failed request: what kind, what the caller may know, what the log should.
#[derive(Debug, Clone)]
pub struct Error {
    kind: Kind,
    message: Cow<'static, str>,
    detail: Option<Box<str>>,
    retry_after_seconds: Option<u32>,
    plugin: Option<Arc<str>>,
}

/// What a room of the request path gives.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An error whose message is for the caller: no path, address or foreign data.
    pub fn new(kind: Kind, message: impl Into<Cow<'static, str>>) -> Self {
        Self { kind, message: message.into(), detail: None, retry_after_seconds: None, plugin: None }
    }

    /// Adds what only the log should see.
    #[must_use]
    pub fn with_detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into().into_boxed_str());
        self
    }

    /// Says when to come back, where the table's own time is not the right one.
    #[must_use]
    pub fn with_retry_after(mut self, seconds: Option<u32>) -> Self {
        self.retry_after_seconds = seconds;
        self
    }

    /// Says whose call failed.
    #[must_use]
    pub fn of_plugin(mut self, plugin: &Arc<str>) -> Self {
        self.plugin = Some(Arc::clone(plugin));
        self
    }

    /// The plugin whose call failed, if one's did.
    pub fn plugin(&self) -> Option<&Arc<str>> {
        self.plugin.as_ref()
    }

    /// Seconds after which the caller may try again, if not those of the table.
    pub fn retry_after_seconds(&self) -> Option<u32> {
        self.retry_after_seconds
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
