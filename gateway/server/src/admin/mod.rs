//! The admin listener: metrics, health, what is served, reload. It is another
//! socket than predictions', on loopback by default.

mod status;

use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::{Json, Router, middleware};
use http::StatusCode;
use http::header::CONTENT_TYPE;
use serde_json::json;
use tokio::sync::watch;

use crate::admission::Admission;
use crate::auth::{self, Access, Door, Route};
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

/// The table of the admin listener's routes: the router, the OpenAPI document and the
/// suite are made from it.
pub fn routes() -> Vec<Route<Arc<Admin>>> {
    vec![
        Route::get("/livez", Access::Public, "whether the process is there", || async { "ok" }),
        Route::get("/readyz", Access::Public, "whether everything can be served", readyz),
        Route::get("/metrics", Access::Metrics, "metrics as OpenMetrics text", metrics_text),
        Route::get("/admin/v1/status", Access::Admin, "what is served", status::status),
        Route::post("/admin/v1/reload", Access::Admin, "read the configuration again", reload),
    ]
}

/// The routes of the admin listener, behind its door.
pub fn router(admin: Arc<Admin>, door: &Arc<Door>) -> Router {
    let no_browser = middleware::from_fn_with_state(Arc::clone(door), auth::no_browser);
    auth::router(routes(), door).layer(no_browser).with_state(admin)
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
