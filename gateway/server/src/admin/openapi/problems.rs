//! Errors: which reason codes come under which status, read off the one table.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::schemas::object;
use crate::error::{Kind, UploadRefusal};
use crate::wire_error::wire_error;

/// What this listener may answer.
const KINDS: [Kind; 15] = [
    Kind::BadRequest,
    Kind::BadJson,
    Kind::Unauthenticated,
    Kind::Forbidden,
    Kind::NotFound,
    Kind::MethodNotAllowed,
    Kind::RequestTimeout,
    Kind::DigestConflict,
    Kind::InUse,
    Kind::TooLarge,
    Kind::UnsupportedMedia,
    Kind::TenantLimit,
    Kind::Internal,
    Kind::Overloaded,
    Kind::StorageFull,
];

/// A status in words.
fn words(status: u16) -> &'static str {
    match status {
        400 => "the request is malformed",
        401 => "no token, or none that is known",
        403 => "the token does not allow that; a plugin of somebody else looks the same as none",
        404 => "there is no such thing",
        405 => "the route has other methods",
        408 => "the body did not arrive in time",
        409 => {
            "it is in use, cannot become that from the state it is in, or exists with other content; \
                or the gateway keeps no plugins"
        }
        413 => "the body is too large",
        415 => "the body is compressed",
        422 => "the component was refused, or does not fit where it is used",
        429 => "too many bad tokens came from this address, or too many components wait",
        503 => "the gateway is too busy",
        507 => "no room: on the disk, or in the registry",
        _ => "a bug, or a disk that fails; the log says more under the request's id",
    }
}

/// The statuses, each with its codes.
fn by_status() -> BTreeMap<u16, Vec<&'static str>> {
    let mut all: BTreeMap<u16, Vec<&'static str>> = BTreeMap::new();
    let refusals = UploadRefusal::ALL.into_iter().map(Kind::UploadRefused);
    for kind in KINDS.into_iter().chain(refusals) {
        let row = wire_error(kind);
        all.entry(row.status.as_u16()).or_default().push(row.code);
    }
    all
}

/// The answers with an error, by status.
pub(super) fn responses() -> Value {
    let mut all = Map::new();
    for (status, codes) in by_status() {
        let body = object(json!({
            "error": { "type": "string", "description": "what is wrong, in words" },
            "code": { "type": "string", "enum": codes },
            "request_id": { "type": "string" },
        }));
        let mut answer = json!({
            "description": words(status),
            "content": { "application/json": { "schema": body } },
        });
        let header = |required: bool| json!({ "required": required, "schema": { "type": "string" } });
        match status {
            401 => answer["headers"] = json!({ "WWW-Authenticate": header(true) }),
            429 | 503 => answer["headers"] = json!({ "Retry-After": header(true) }),
            _ => {}
        }
        all.insert(format!("E{status}"), answer);
    }
    all.into()
}

/// A reference to the answer of a status.
pub(super) fn named(status: u16) -> Value {
    json!({ "$ref": format!("#/components/responses/E{status}") })
}
