//! The admin listener: metrics, health, what is served, reload, the life of plugins. It is
//! another socket than predictions', on loopback by default.

mod downloads;
pub mod openapi;
mod pipelines;
mod plugins;
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
use crate::catalog::plugins::Plugins;
use crate::lifecycle::drain::Phase;
use crate::lifecycle::reload::{Outcome, Reloader};
use crate::observe::{self, Metrics};
use crate::refusal;

const PLUGIN: &str = "/admin/v1/plugins/{plugin}";
const ACTIVATE: &str = "/admin/v1/plugins/{plugin}/activate";
const ROLLBACK: &str = "/admin/v1/plugins/{plugin}/rollback";
const LOGS: &str = "/admin/v1/plugins/{plugin}/logs";
const VERSION: &str = "/admin/v1/plugins/{plugin}/versions/{version}";
const COMPONENT: &str = "/admin/v1/plugins/{plugin}/versions/{version}/component";
const RETIRE: &str = "/admin/v1/plugins/{plugin}/versions/{version}/retire";
const PROFILE: &str = "/admin/v1/plugins/{plugin}/versions/{version}/profile";
const PIPELINE: &str = "/admin/v1/pipelines/{pipeline}";
const SPLIT: &str = "/admin/v1/pipelines/{pipeline}/split";
const SHADOW: &str = "/admin/v1/pipelines/{pipeline}/shadow";

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
    /// The life of plugins.
    pub plugins: Arc<Plugins>,
    /// Whether the gateway is on its way out.
    pub phase: watch::Receiver<Phase>,
}

/// The table of the admin listener's routes: the router, the OpenAPI document and the
/// suite are made from it.
pub fn routes() -> Vec<Route<Arc<Admin>>> {
    use Access::{Admin as Operator, Deploy};
    vec![
        Route::get("/livez", Access::Public, "whether the process is there", || async { "ok" }),
        Route::get("/readyz", Access::Public, "whether everything can be served", readyz),
        Route::get("/metrics", Access::Metrics, "metrics as OpenMetrics text", metrics_text),
        Route::get("/admin/v1/openapi.json", Access::Known, "this listener in OpenAPI", openapi::serve),
        Route::get("/admin/v1/status", Access::Admin, "what is served", status::status),
        Route::post("/admin/v1/reload", Access::Admin, "read the configuration again", reload),
        Route::get("/admin/v1/audit", Operator, "who changed what", plugins::audit),
        Route::get("/admin/v1/plugins", Deploy, "the plugins that the token may see", plugins::list),
        Route::get(PLUGIN, Deploy, "a plugin and its versions", plugins::show),
        Route::post(ACTIVATE, Deploy, "serve a version from the next request on", plugins::activate),
        Route::post(ROLLBACK, Deploy, "serve the version before again", plugins::rollback),
        Route::get(LOGS, Deploy, "what a plugin wrote, and its failures", plugins::logs),
        Route::put(VERSION, Deploy, "upload a version", plugins::upload),
        Route::get(VERSION, Deploy, "a version", plugins::show_version),
        Route::delete(VERSION, Deploy, "remove a version that is not in use", plugins::remove),
        Route::get(COMPONENT, Deploy, "the bytes of a version", plugins::component),
        Route::post(RETIRE, Deploy, "take a version out of use for good", plugins::retire),
        Route::post(PROFILE, Deploy, "sample a version's calls for the Firefox profiler", plugins::profile),
        Route::get("/admin/v1/pipelines", Deploy, "pipelines, splits and shadows", pipelines::pipelines),
        Route::get(PIPELINE, Deploy, "a pipeline, its splits and shadows", pipelines::pipeline),
        Route::put(SPLIT, Deploy, "share requests among versions by weight", pipelines::split),
        Route::delete(SPLIT, Deploy, "end a split", pipelines::end_split),
        Route::put(SHADOW, Deploy, "try a version on copies of requests", pipelines::shadow),
        Route::delete(SHADOW, Deploy, "end a shadow", pipelines::end_shadow),
    ]
}

/// The routes of the admin listener, behind its door.
pub fn router(admin: Arc<Admin>, door: &Arc<Door>) -> Router {
    let no_browser = middleware::from_fn_with_state(Arc::clone(door), auth::no_browser);
    auth::router(routes(), refusal::no_route, door).layer(no_browser).with_state(admin)
}

async fn metrics_text(State(admin): State<Arc<Admin>>) -> Response {
    let with_triton = admin.catalog.snapshot().config.telemetry.triton_metrics;
    ([(CONTENT_TYPE, observe::CONTENT_TYPE)], admin.metrics.encode(with_triton)).into_response()
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
async fn reload(State(admin): State<Arc<Admin>>, asker: plugins::Asker) -> Response {
    let outcome = admin.reloader.reload().await;
    admin.plugins.reloaded(&asker.0, &outcome).await;
    let status = match outcome {
        Outcome::Refused { .. } => StatusCode::UNPROCESSABLE_ENTITY,
        Outcome::Applied { .. } | Outcome::Unchanged => StatusCode::OK,
    };
    (status, Json(json!(outcome))).into_response()
}
