//! THE table: what a kind of error looks like on the wire. HTTP and gRPC both
//! read it, so that they cannot drift apart.

use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderValue, StatusCode};

use crate::error::{Error, Kind};

/// Who caused an error: the label that metrics carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Whoever sent the request.
    Caller,
    /// The plugin that ran.
    Plugin,
    /// The engine or the model.
    Engine,
    /// Sluice, or the load on it.
    Gateway,
}

impl Fault {
    /// The value of the metric label `fault`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Caller => "caller",
            Self::Plugin => "plugin",
            Self::Engine => "engine",
            Self::Gateway => "gateway",
        }
    }
}

/// One row of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WireError {
    /// The HTTP status.
    pub status: StatusCode,
    /// The gRPC status code, by number.
    pub grpc: i32,
    /// The reason code in the body and in metrics.
    pub code: &'static str,
    /// Whose fault it is.
    pub fault: Fault,
    /// Whether the same request may succeed later: adds `Retry-After`.
    pub retryable: bool,
}

mod grpc {
    pub(super) const INVALID_ARGUMENT: i32 = 3;
    pub(super) const DEADLINE_EXCEEDED: i32 = 4;
    pub(super) const NOT_FOUND: i32 = 5;
    pub(super) const ALREADY_EXISTS: i32 = 6;
    pub(super) const PERMISSION_DENIED: i32 = 7;
    pub(super) const RESOURCE_EXHAUSTED: i32 = 8;
    pub(super) const FAILED_PRECONDITION: i32 = 9;
    pub(super) const UNIMPLEMENTED: i32 = 12;
    pub(super) const INTERNAL: i32 = 13;
    pub(super) const UNAVAILABLE: i32 = 14;
    pub(super) const UNAUTHENTICATED: i32 = 16;
}

/// Seconds a refused caller is told to wait.
const RETRY_AFTER_SECONDS: HeaderValue = HeaderValue::from_static("1");

/// The row of a kind.
pub fn wire_error(kind: Kind) -> WireError {
    use Fault::{Caller, Engine, Gateway, Plugin};
    let row = |status, grpc, code, fault, retryable| WireError { status, grpc, code, fault, retryable };
    let caller = |status, grpc, code| row(status, grpc, code, Caller, false);
    match kind {
        Kind::BadJson => caller(StatusCode::BAD_REQUEST, grpc::INVALID_ARGUMENT, "bad_json"),
        Kind::BadShape => caller(StatusCode::BAD_REQUEST, grpc::INVALID_ARGUMENT, "bad_shape"),
        Kind::BadDtype => caller(StatusCode::BAD_REQUEST, grpc::INVALID_ARGUMENT, "bad_dtype"),
        Kind::BadLength => caller(StatusCode::BAD_REQUEST, grpc::INVALID_ARGUMENT, "bad_length"),
        Kind::LimitDepth => caller(StatusCode::BAD_REQUEST, grpc::INVALID_ARGUMENT, "limit_depth"),
        Kind::BadRequest => caller(StatusCode::BAD_REQUEST, grpc::INVALID_ARGUMENT, "bad_request"),
        Kind::NotFound => caller(StatusCode::NOT_FOUND, grpc::NOT_FOUND, "not_found"),
        Kind::MethodNotAllowed => {
            caller(StatusCode::METHOD_NOT_ALLOWED, grpc::UNIMPLEMENTED, "method_not_allowed")
        }
        Kind::RequestTimeout => {
            caller(StatusCode::REQUEST_TIMEOUT, grpc::DEADLINE_EXCEEDED, "request_timeout")
        }
        Kind::TooLarge => caller(StatusCode::PAYLOAD_TOO_LARGE, grpc::RESOURCE_EXHAUSTED, "too_large"),
        Kind::UnsupportedMedia => {
            caller(StatusCode::UNSUPPORTED_MEDIA_TYPE, grpc::INVALID_ARGUMENT, "unsupported_media")
        }
        Kind::Refused(status) => refused(status),
        Kind::Unauthenticated => caller(StatusCode::UNAUTHORIZED, grpc::UNAUTHENTICATED, "unauthenticated"),
        Kind::Forbidden => caller(StatusCode::FORBIDDEN, grpc::PERMISSION_DENIED, "forbidden"),
        Kind::Unsupported => caller(StatusCode::NOT_IMPLEMENTED, grpc::UNIMPLEMENTED, "unsupported"),
        Kind::DigestConflict => caller(StatusCode::CONFLICT, grpc::ALREADY_EXISTS, "digest_conflict"),
        Kind::AlreadyExists => caller(StatusCode::CONFLICT, grpc::ALREADY_EXISTS, "already_exists"),
        Kind::InUse => caller(StatusCode::CONFLICT, grpc::FAILED_PRECONDITION, "in_use"),
        Kind::UploadRefused(why) => {
            caller(StatusCode::UNPROCESSABLE_ENTITY, grpc::INVALID_ARGUMENT, why.code())
        }
        Kind::TenantLimit => {
            row(StatusCode::TOO_MANY_REQUESTS, grpc::RESOURCE_EXHAUSTED, "tenant_limit", Gateway, true)
        }
        Kind::StorageFull => {
            row(StatusCode::INSUFFICIENT_STORAGE, grpc::RESOURCE_EXHAUSTED, "storage_full", Gateway, false)
        }
        Kind::QueueFull => {
            row(StatusCode::TOO_MANY_REQUESTS, grpc::RESOURCE_EXHAUSTED, "queue_full", Gateway, true)
        }
        Kind::QueueTimeout => {
            row(StatusCode::SERVICE_UNAVAILABLE, grpc::UNAVAILABLE, "queue_timeout", Gateway, true)
        }
        Kind::Overloaded => {
            row(StatusCode::SERVICE_UNAVAILABLE, grpc::UNAVAILABLE, "overloaded", Gateway, true)
        }
        Kind::Draining => row(StatusCode::SERVICE_UNAVAILABLE, grpc::UNAVAILABLE, "draining", Gateway, true),
        Kind::ModelUnavailable => {
            row(StatusCode::SERVICE_UNAVAILABLE, grpc::UNAVAILABLE, "model_unavailable", Engine, true)
        }
        Kind::Deadline => {
            row(StatusCode::GATEWAY_TIMEOUT, grpc::DEADLINE_EXCEEDED, "deadline", Gateway, false)
        }
        Kind::PluginTrap => row(StatusCode::BAD_GATEWAY, grpc::INTERNAL, "plugin_trap", Plugin, false),
        Kind::PluginOutput => row(StatusCode::BAD_GATEWAY, grpc::INTERNAL, "plugin_output", Plugin, false),
        Kind::PluginMemory => row(StatusCode::BAD_GATEWAY, grpc::INTERNAL, "plugin_memory", Plugin, false),
        Kind::PluginStack => row(StatusCode::BAD_GATEWAY, grpc::INTERNAL, "plugin_stack", Plugin, false),
        Kind::PluginTimeout => {
            row(StatusCode::GATEWAY_TIMEOUT, grpc::DEADLINE_EXCEEDED, "plugin_timeout", Plugin, false)
        }
        Kind::Engine => row(StatusCode::INTERNAL_SERVER_ERROR, grpc::INTERNAL, "engine_error", Engine, false),
        Kind::Internal => row(StatusCode::INTERNAL_SERVER_ERROR, grpc::INTERNAL, "internal", Gateway, false),
    }
}

/// A plugin's own refusal keeps the plugin's status; below 500 it blames the caller.
fn refused(status: u16) -> WireError {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_GATEWAY);
    let caller = status.is_client_error();
    WireError {
        status,
        grpc: if caller { grpc::INVALID_ARGUMENT } else { grpc::INTERNAL },
        code: "refused",
        fault: if caller { Fault::Caller } else { Fault::Plugin },
        retryable: false,
    }
}

/// Writes the error as JSON: `{"error": …, "code": …, "request_id": …}`.
pub fn body(error: &Error, request_id: &str) -> Vec<u8> {
    #[derive(serde::Serialize)]
    struct Body<'a> {
        error: &'a str,
        code: &'a str,
        request_id: &'a str,
    }
    let body = Body { error: error.message(), code: wire_error(error.kind()).code, request_id };
    serde_json::to_vec(&body).unwrap_or_else(|_| b"{\"error\":\"internal\"}".to_vec())
}

/// Writes the answer: [`body`], with the status and headers of the error's row.
pub fn respond(error: &Error, request_id: &str) -> Response {
    let row = wire_error(error.kind());
    let body = body(error, request_id);
    let json = HeaderValue::from_static("application/json");
    let mut response = (row.status, [(CONTENT_TYPE, json)], Bytes::from(body)).into_response();
    if let Some(seconds) = error.retry_after_seconds() {
        response.headers_mut().insert(RETRY_AFTER, seconds.into());
    } else if row.retryable {
        response.headers_mut().insert(RETRY_AFTER, RETRY_AFTER_SECONDS);
    }
    if row.status == StatusCode::UNAUTHORIZED {
        response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plugin_chooses_its_status_within_400_to_599() {
        assert_eq!(wire_error(Kind::Refused(422)).status, StatusCode::UNPROCESSABLE_ENTITY);
        assert_eq!(wire_error(Kind::Refused(422)).fault, Fault::Caller);
        assert_eq!(wire_error(Kind::Refused(503)).fault, Fault::Plugin);
        assert_eq!(wire_error(Kind::Refused(7)).status, StatusCode::BAD_GATEWAY);
    }

    #[test]
    fn what_may_succeed_later_says_when_to_come_back() {
        for kind in [Kind::QueueFull, Kind::Overloaded, Kind::Draining, Kind::ModelUnavailable] {
            let response = respond(&Error::new(kind, "later"), "r1");
            assert!(response.headers().contains_key(RETRY_AFTER), "{kind:?}");
        }
        let refused = Error::new(Kind::Refused(429), "not so fast").with_retry_after(Some(7));
        assert_eq!(respond(&refused, "r1").headers()[RETRY_AFTER], "7");
        assert!(!respond(&Error::new(Kind::Refused(429), "no"), "r1").headers().contains_key(RETRY_AFTER));
        assert!(!respond(&Error::new(Kind::BadJson, "no"), "r1").headers().contains_key(RETRY_AFTER));
    }
}
