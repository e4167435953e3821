//! HTTP: the routes, and what all of them share around a prediction (identity,
//! admission, deadline, body, errors, metrics).

mod body;
mod exchange;
mod health;
mod metadata;
mod tensors;
mod v1;
mod v2;

use std::sync::Arc;

use axum::routing::{get, post};
use axum::{Router, middleware};
use tokio::sync::watch;

use crate::admission::Admission;
use crate::catalog::Catalog;
use crate::config::Limits;
use crate::lifecycle::drain::Phase;
use crate::observe::Metrics;

/// What every handler needs.
pub struct Front {
    /// What is served.
    pub catalog: Arc<Catalog>,
    /// Who may come in.
    pub admission: Arc<Admission>,
    /// Where everything counts.
    pub metrics: Arc<Metrics>,
    /// What a request may ask for.
    pub limits: Limits,
    /// Whether the gateway is on its way out.
    pub phase: watch::Receiver<Phase>,
}

impl Front {
    /// Whether the process should be sent requests.
    fn is_serving(&self) -> bool {
        *self.phase.borrow() == Phase::Serving
    }
}

/// The routes of the prediction listener.
pub fn router(front: Arc<Front>) -> Router {
    Router::new()
        .route("/v2", get(metadata::server))
        .route("/v2/health/live", get(health::live))
        .route("/v2/health/ready", get(health::ready))
        .route("/v2/models/{model}", get(metadata::model))
        .route("/v2/models/{model}/versions/{version}", get(metadata::model_version))
        .route("/v2/models/{model}/ready", get(health::model_ready))
        .route("/v2/models/{model}/versions/{version}/ready", get(health::model_version_ready))
        .route("/v2/models/{model}/infer", post(v2::infer))
        .route("/v2/models/{model}/versions/{version}/infer", post(v2::infer_version))
        .route("/v1/models", get(metadata::v1_list))
        // `{model}` alone, or `{model}:predict`: the router cannot tell them apart.
        .route("/v1/models/{target}", get(v1::status).post(v1::predict))
        .fallback(exchange::no_route)
        .method_not_allowed_fallback(exchange::no_method)
        .layer(middleware::map_response(exchange::in_the_table))
        .with_state(front)
}
