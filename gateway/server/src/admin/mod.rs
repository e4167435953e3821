//! The admin listener: metrics, health, what is served, reload. It is another
//! socket than predictions', on loopback by default.

pub mod identity;
mod status;

use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use http::StatusCode;
use http::header::CONTENT_TYPE;
use serde_json::json;
use tokio::sync::watch;

use crate::admission::Admission;
use crate::catalog::Catalog;
use crate::lifecycle::drain::Phase;
use crate::lifecycle::reload::{Outcome, Reloader};
use crate::observe::{self, Metrics};

/// What the admin handlers need.
pub struct Admin {
    /// What is served.
    pub catalog: Arc<Catalog>,
    /// Who is inside.
    pub admission: Arc<Admission>,
    /// Where everything counts.
    pub metrics: Arc<Metrics>,
    /// Applies changes of the config.
    pub reloader: Arc<Reloader>,
    /// Whether the gateway is on its way out.
    pub phase: watch::Receiver<Phase>,
}

/// The routes of the admin listener.
pub fn router(admin: Arc<Admin>) -> Router {
    Router::new()
        .route("/metrics", get(metrics_text))
        .route("/livez", get(|| async { "ok" }))
        .route("/readyz", get(readyz))
        .route("/admin/v1/status", get(status::status))
        .route("/admin/v1/reload", post(reload))
        .with_state(admin)
}

async fn metrics_text(State(admin): State<Arc<Admin>>) -> Response {
    ([(CONTENT_TYPE, observe::CONTENT_TYPE)], admin.metrics.encode()).into_response()
}

async fn readyz(State(admin): State<Arc<Admin>>) -> Response {
    let snapshot = admin.catalog.snapshot();
    let all = snapshot.models.keys().chain(snapshot.pipelines.keys()).all(|name| snapshot.is_ready(name));
    if all && *admin.phase.borrow() == Phase::Serving {
        "ok".into_response()
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "not ready").into_response()
    }
}

/// Reloads the config now and says how it went: 200, or 422 with every problem.
async fn reload(State(admin): State<Arc<Admin>>) -> Response {
    let outcome = admin.reloader.reload().await;
    let status = match outcome {
        Outcome::Refused { .. } => StatusCode::UNPROCESSABLE_ENTITY,
        Outcome::Applied { .. } | Outcome::Unchanged => StatusCode::OK,
    };
    (status, Json(json!(outcome))).into_response()
}
