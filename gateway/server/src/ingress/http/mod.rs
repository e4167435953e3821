//! HTTP: the routes, and what all of them share around a prediction (identity,
//! admission, deadline, body, errors, metrics).

mod after;
mod binary;
mod body;
pub(super) mod exchange;
mod framing;
mod generate;
mod health;
pub(super) mod metadata;
mod openapi;
mod own;
mod parts;
pub(super) mod repository;
pub(super) mod settings;
mod shared_memory;
mod sse;
mod statistics;
mod tensors;
mod tf_serving;
mod v1;
mod v2;

use std::sync::Arc;

use axum::Router;
use serde::Deserialize;
use tokio::sync::watch;

use crate::admission::Admission;
use crate::auth::{self, Access, Door, Route};
use crate::catalog::Catalog;
use crate::catalog::repository::Repositories;
use crate::config::Limits;
use crate::lifecycle::drain::Phase;
use crate::observe::{Metrics, Tracer};
use crate::shared_memory::SharedMemory;

/// What every handler needs.
pub struct Front {
    /// What is served.
    pub catalog: Arc<Catalog>,
    /// What loads and unloads models.
    pub repositories: Arc<Repositories>,
    /// Who may come in.
    pub admission: Arc<Admission>,
    /// What clients of this machine have registered.
    pub shared_memory: Arc<SharedMemory>,
    /// Where everything counts.
    pub metrics: Arc<Metrics>,
    /// Which requests are traced.
    pub tracer: Arc<Tracer>,
    /// What a request may ask for.
    pub limits: Limits,
    /// Whether the gateway is on its way out.
    pub phase: watch::Receiver<Phase>,
}

impl Front {
    /// Whether the process should be sent requests.
    pub(super) fn is_serving(&self) -> bool {
        *self.phase.borrow() == Phase::Serving
    }

    /// Whether it should, and everything that is served can answer.
    pub(super) fn is_ready(&self) -> bool {
        let snapshot = self.catalog.snapshot();
        let mut names = snapshot.models.keys().chain(snapshot.pipelines.keys());
        self.is_serving() && names.all(|name| snapshot.is_ready(name))
    }
}

/// What a path names: a model or pipeline, or one version of it.
#[derive(Clone, Deserialize)]
struct Named {
    model: String,
    version: Option<String>,
}

/// The table of the prediction listener's routes.
pub fn routes() -> Vec<Route<Arc<Front>>> {
    [v2_routes(), extension_routes(), memory_routes(), v1_routes()].into_iter().flatten().collect()
}

/// KServe V2.
fn v2_routes() -> Vec<Route<Arc<Front>>> {
    use Access::{Predict, Public};
    vec![
        Route::get("/openapi.json", Predict, "this listener in OpenAPI", openapi::serve),
        Route::get("/v2", Predict, "what the server is", metadata::server),
        Route::get("/v2/health/live", Public, "whether the process is there", health::live),
        Route::get("/v2/health/ready", Public, "whether everything can be served", health::ready),
        Route::get("/v2/models", Predict, "what is served", metadata::v1_list),
        Route::get("/v2/models/{model}", Predict, "metadata", metadata::model),
        Route::get(
            "/v2/models/{model}/versions/{version}",
            Predict,
            "metadata of a version",
            metadata::model,
        ),
        Route::get("/v2/models/{model}/ready", Predict, "whether it can be served", health::model_ready),
        Route::get(
            "/v2/models/{model}/versions/{version}/ready",
            Predict,
            "whether that version can be served",
            health::model_ready,
        ),
        Route::post("/v2/models/{model}/infer", Predict, "a prediction", v2::infer),
        Route::post(
            "/v2/models/{model}/versions/{version}/infer",
            Predict,
            "a prediction by that version",
            v2::infer,
        ),
    ]
}

/// Triton's extensions of it.
fn extension_routes() -> Vec<Route<Arc<Front>>> {
    use Access::{Models, Predict, Settings};
    vec![
        Route::get("/v2/models/stats", Predict, "statistics of everything that is served", statistics::all),
        Route::get("/v2/models/{model}/stats", Predict, "statistics", statistics::model),
        Route::get(
            "/v2/models/{model}/versions/{version}/stats",
            Predict,
            "statistics of a version",
            statistics::model,
        ),
        Route::get("/v2/models/{model}/config", Predict, "its configuration", repository::config),
        Route::get(
            "/v2/models/{model}/versions/{version}/config",
            Predict,
            "the configuration of that version",
            repository::config,
        ),
        Route::post("/v2/repository/index", Predict, "what there is to serve", repository::index),
        Route::post(
            "/v2/repository/{repository}/index",
            Predict,
            "the same of one repository",
            repository::index,
        ),
        Route::post("/v2/repository/models/{model}/load", Models, "loads a model", repository::load),
        Route::post("/v2/repository/models/{model}/unload", Models, "unloads a model", repository::unload),
        Route::post("/v2/models/{model}/generate", Predict, "one answer, in flat JSON", generate::one),
        Route::post(
            "/v2/models/{model}/versions/{version}/generate",
            Predict,
            "one answer of that version, in flat JSON",
            generate::one,
        ),
        Route::post("/v2/models/{model}/generate_stream", Predict, "answers as events", generate::stream),
        Route::post(
            "/v2/models/{model}/versions/{version}/generate_stream",
            Predict,
            "answers of that version as events",
            generate::stream,
        ),
        Route::get("/v2/trace/setting", Predict, "which requests are traced", settings::trace),
        Route::post("/v2/trace/setting", Settings, "changes which are traced", settings::change_trace),
        Route::get(
            "/v2/models/{model}/trace/setting",
            Predict,
            "which of its requests are traced",
            settings::trace,
        ),
        Route::post(
            "/v2/models/{model}/trace/setting",
            Settings,
            "changes which of its requests are traced",
            settings::change_trace,
        ),
        Route::get("/v2/logging", Predict, "which log lines are written", settings::log),
        Route::post("/v2/logging", Settings, "changes which log lines are written", settings::change_log),
    ]
}

/// Triton's shared memory. Every handler of system shared memory checks that its caller is a program on
/// this machine.
fn memory_routes() -> Vec<Route<Arc<Front>>> {
    use Access::Predict;
    vec![
        Route::get(
            "/v2/systemsharedmemory/status",
            Predict,
            "the caller's regions of system shared memory",
            shared_memory::status,
        ),
        Route::get(
            "/v2/systemsharedmemory/region/{region}/status",
            Predict,
            "one of the caller's regions",
            shared_memory::status,
        ),
        Route::post(
            "/v2/systemsharedmemory/region/{region}/register",
            Predict,
            "registers a region of system shared memory",
            shared_memory::register,
        ),
        Route::post(
            "/v2/systemsharedmemory/region/{region}/unregister",
            Predict,
            "forgets a region",
            shared_memory::unregister,
        ),
        Route::post(
            "/v2/systemsharedmemory/unregister",
            Predict,
            "forgets all of the caller's regions",
            shared_memory::unregister,
        ),
        Route::get(
            "/v2/cudasharedmemory/status",
            Predict,
            "regions of CUDA shared memory: none",
            shared_memory::cuda_status,
        ),
        Route::get(
            "/v2/cudasharedmemory/region/{region}/status",
            Predict,
            "no region of CUDA shared memory is there",
            shared_memory::cuda_status,
        ),
        Route::post(
            "/v2/cudasharedmemory/region/{region}/register",
            Predict,
            "CUDA shared memory is not supported",
            shared_memory::cuda_register,
        ),
        Route::post(
            "/v2/cudasharedmemory/region/{region}/unregister",
            Predict,
            "there is nothing to forget",
            shared_memory::cuda_unregister,
        ),
        Route::post(
            "/v2/cudasharedmemory/unregister",
            Predict,
            "there is nothing to forget",
            shared_memory::cuda_unregister,
        ),
    ]
}

/// KServe V1 and TF-Serving.
fn v1_routes() -> Vec<Route<Arc<Front>>> {
    use Access::{Predict, Public};
    vec![
        Route::get("/", Public, "whether the process is there", health::alive),
        Route::get("/v1/models", Predict, "what is served", metadata::v1_list),
        // `{model}` alone, or `{model}:predict`: the router cannot tell them apart.
        Route::get("/v1/models/{target}", Predict, "whether it can be served", v1::status),
        Route::post("/v1/models/{target}", Predict, "a prediction", v1::predict),
        Route::get("/v1/models/{model}/metadata", Predict, "its signature", tf_serving::metadata),
        Route::get(
            "/v1/models/{model}/versions/{target}",
            Predict,
            "whether that version can be served",
            v1::version_status,
        ),
        Route::post(
            "/v1/models/{model}/versions/{target}",
            Predict,
            "a prediction by that version",
            v1::predict_version,
        ),
        Route::get(
            "/v1/models/{model}/versions/{target}/metadata",
            Predict,
            "the signature of that version",
            tf_serving::version_metadata,
        ),
        Route::get("/v1/models/{model}/labels/{target}", Predict, "no version has a label", v1::label),
        Route::post("/v1/models/{model}/labels/{target}", Predict, "no version has a label", v1::label),
    ]
}

/// The routes of the prediction listener, behind its door.
pub fn router(front: Arc<Front>, door: &Arc<Door>) -> Router {
    auth::router(routes(), own::serve, door).with_state(front)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::PathTemplate;

    #[test]
    fn no_pipeline_can_have_a_route_of_the_protocols() {
        for route in routes() {
            let path = route.path.replace("{target}", "x").replace("{*", "{");
            assert!(PathTemplate::parse(&path).is_err(), "{path}");
        }
    }
}
