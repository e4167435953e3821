//! Liveness and readiness, of the server and of what it serves.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use serde_json::json;

use super::{Front, Named};
use crate::error::{Error, Kind};
use crate::ingress::served;
use crate::refusal::RequestId;

/// The process answers.
pub(super) async fn live() -> Response {
    Json(json!({ "live": true })).into_response()
}

/// The same, where KServe's clients of V1 look for it.
pub(super) async fn alive() -> Response {
    Json(json!({ "status": "alive" })).into_response()
}

/// The process takes requests, and everything it serves can answer.
pub(super) async fn ready(State(front): State<Arc<Front>>, id: RequestId) -> Response {
    state(front.is_ready(), json!({}), &id)
}

/// One model or pipeline can answer, or one version of it.
pub(super) async fn model_ready(
    State(front): State<Arc<Front>>,
    Path(Named { model, version }): Path<Named>,
    id: RequestId,
) -> Response {
    let snapshot = front.catalog.snapshot();
    if let Err(error) = served::check(&snapshot, &model, version.as_deref()) {
        return id.respond(&error);
    }
    let is_ready = served::is_ready(&snapshot, &model, version.as_deref()) && front.is_serving();
    state(is_ready, json!({ "name": model }), &id)
}

fn state(ready: bool, mut body: serde_json::Value, id: &RequestId) -> Response {
    if !ready {
        return id.respond(&Error::new(Kind::ModelUnavailable, "not ready"));
    }
    body["ready"] = json!(true);
    (StatusCode::OK, Json(body)).into_response()
}
