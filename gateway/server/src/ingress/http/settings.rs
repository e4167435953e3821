//! Triton's logging and trace extensions over HTTP: `GET` and `POST /v2/logging`,
//! `/v2/trace/setting` and `/v2/models/{model}/trace/setting`.

use std::sync::Arc;

use axum::extract::{Path, Request, State};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::Front;
use crate::auth::Identity;
use crate::error::{Error, Kind, Result};
use crate::ingress::settings;
use crate::refusal::RequestId;

/// Bytes of a change of settings: a handful of words.
const SETTINGS_BYTES_MAX: usize = 64 << 10;

/// `GET /v2/logging`.
pub(super) async fn log() -> Response {
    Json(settings::log()).into_response()
}

/// `POST /v2/logging`.
pub(super) async fn change_log(
    State(front): State<Arc<Front>>,
    Extension(identity): Extension<Identity>,
    id: RequestId,
    request: Request,
) -> Response {
    let changed = read(&front, request).await.and_then(|change| settings::change_log(&change));
    answer(changed, &identity, "log", &id)
}

/// Says what is in force now, and notes who changed it.
fn answer(changed: Result<Value>, identity: &Identity, what: &str, id: &RequestId) -> Response {
    match changed {
        Ok(settings) => {
            tracing::warn!(who = &*identity.name, what, %settings, "settings changed");
            Json(settings).into_response()
        }
        Err(error) => id.respond(&error),
    }
}

/// Reads a change: an object; nothing is an empty one.
pub(super) async fn read(front: &Front, request: Request) -> Result<Map<String, Value>> {
    let body = axum::body::to_bytes(request.into_body(), SETTINGS_BYTES_MAX);
    let body = tokio::time::timeout(front.limits.body_timeout, body)
        .await
        .map_err(|_| Error::new(Kind::RequestTimeout, "the body did not arrive in time"))?
        .map_err(|_| {
            Error::new(Kind::TooLarge, format!("the body is larger than {SETTINGS_BYTES_MAX} bytes"))
        })?;
    if body.is_empty() {
        return Ok(Map::new());
    }
    crate::tensor_json::check_depth(&body, front.limits.json_depth_max)?;
    serde_json::from_slice(&body).map_err(|error| {
        Error::new(Kind::BadJson, format!("failed to parse the request JSON buffer: {error}"))
    })
}

/// One model's requests, or all.
#[derive(Deserialize)]
pub(super) struct Whose {
    model: Option<String>,
}

/// `GET /v2[/models/{model}]/trace/setting`.
pub(super) async fn trace(
    State(front): State<Arc<Front>>,
    Path(Whose { model }): Path<Whose>,
    id: RequestId,
) -> Response {
    match settings::trace(&front.catalog.snapshot(), &front.tracer, model.as_deref()) {
        Ok(settings) => Json(settings).into_response(),
        Err(error) => id.respond(&error),
    }
}

/// `POST /v2[/models/{model}]/trace/setting`.
pub(super) async fn change_trace(
    State(front): State<Arc<Front>>,
    Path(Whose { model }): Path<Whose>,
    Extension(identity): Extension<Identity>,
    id: RequestId,
    request: Request,
) -> Response {
    let changed = read(&front, request).await.and_then(|change| {
        settings::change_trace(&front.catalog.snapshot(), &front.tracer, model.as_deref(), &change)
    });
    answer(changed, &identity, "trace", &id)
}
