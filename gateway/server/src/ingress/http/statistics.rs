//! Triton's statistics extension: `GET /v2/models/stats`, and of one model or version.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use super::{Front, Named};
use crate::refusal::RequestId;

/// `GET /v2/models/stats`.
pub(super) async fn all(State(front): State<Arc<Front>>, id: RequestId) -> Response {
    show(&front, "", "", &id)
}

/// `GET /v2/models/{model}[/versions/{version}]/stats`.
pub(super) async fn model(
    State(front): State<Arc<Front>>,
    Path(Named { model, version }): Path<Named>,
    id: RequestId,
) -> Response {
    show(&front, &model, version.as_deref().unwrap_or_default(), &id)
}

fn show(front: &Front, model: &str, version: &str, id: &RequestId) -> Response {
    match front.catalog.snapshot().statistics(model, version) {
        Ok(statistics) => Json(json!({ "model_stats": statistics })).into_response(),
        Err(error) => id.respond(&error),
    }
}
