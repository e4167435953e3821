//! What is served and what it takes: KServe V2's metadata, and V1's list.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use sluice_tensor::TensorSpec;

use super::{Front, Named};
use crate::catalog::{Model, Snapshot, Stages, engine_name};
use crate::error::Result;
use crate::ingress::served;
use crate::refusal::RequestId;

/// `GET /v2`.
pub(super) async fn server(State(front): State<Arc<Front>>) -> Response {
    Json(server_json(&front.catalog.snapshot())).into_response()
}

/// The extensions of the protocol that are always served.
const EXTENSIONS: [&str; 10] = [
    "classification",
    "model_repository",
    "model_repository(unload_dependents)",
    "schedule_policy",
    "model_configuration",
    "binary_tensor_data",
    "parameters",
    "statistics",
    "trace",
    "logging",
];

/// What the server is.
pub(in crate::ingress) fn server_json(snapshot: &Snapshot) -> Value {
    let name = &*snapshot.config.server.name;
    let memory = snapshot.config.server.shared_memory.enabled.then_some("system_shared_memory");
    let extensions: Vec<&str> = EXTENSIONS.into_iter().chain(memory).collect();
    json!({ "name": name, "version": env!("CARGO_PKG_VERSION"), "extensions": extensions })
}

/// `GET /v1/models`.
pub(super) async fn v1_list(State(front): State<Arc<Front>>) -> Response {
    let snapshot = front.catalog.snapshot();
    let names: Vec<&str> =
        snapshot.pipelines.keys().chain(snapshot.models.keys()).map(|name| &**name).collect();
    Json(json!({ "models": names })).into_response()
}

/// `GET /v2/models/{model}[/versions/{version}]`.
pub(super) async fn model(
    State(front): State<Arc<Front>>,
    Path(Named { model, version }): Path<Named>,
    id: RequestId,
) -> Response {
    let snapshot = front.catalog.snapshot();
    let described = served::check(&snapshot, &model, version.as_deref())
        .and_then(|()| describe(&snapshot, &model, version.as_deref()));
    described.map_or_else(|error| id.respond(&error), |body| Json(body).into_response())
}

/// The metadata of what is served under a name, or of a version of it.
///
/// # Errors
/// [`Kind::NotFound`](crate::error::Kind::NotFound).
pub(in crate::ingress) fn describe(snapshot: &Snapshot, name: &str, version: Option<&str>) -> Result<Value> {
    let body = || vec![json!({ "name": "body", "datatype": "BYTES", "shape": [1] })];
    let (platform, inputs, outputs) = match snapshot.pipelines.get(name).map(|pipeline| &pipeline.stages) {
        Some(Stages::Whole { .. }) => ("sluice-pipeline".to_owned(), body(), body()),
        Some(Stages::Ensemble(ensemble)) => {
            let signature = &ensemble.signature;
            ("ensemble".to_owned(), specs(&signature.inputs), specs(&signature.outputs))
        }
        Some(Stages::Staged { pre, model, post }) => {
            let inputs = if pre.is_some() { body() } else { specs(&model.signature().inputs) };
            let outputs = if post.is_some() { body() } else { specs(&model.signature().outputs) };
            ("sluice-pipeline".to_owned(), inputs, outputs)
        }
        None => {
            let model = snapshot.model(name, version)?;
            (platform(model), specs(&model.signature().inputs), specs(&model.signature().outputs))
        }
    };
    let versions = snapshot.versions_of(name);
    Ok(
        json!({ "name": name, "versions": versions, "platform": platform, "inputs": inputs, "outputs": outputs }),
    )
}

/// Triton's name of the platform where there is one.
fn platform(model: &Model) -> String {
    match engine_name(model.engine()) {
        "onnxruntime" => "onnxruntime_onnx".to_owned(),
        engine => format!("{engine}_onnx"),
    }
}

fn specs(specs: &[TensorSpec]) -> Vec<Value> {
    let one = |spec: &TensorSpec| {
        let shape: Vec<i64> = spec.dims.iter().map(sluice_tensor::Dim::to_wire).collect();
        json!({ "name": &*spec.name, "datatype": spec.dtype.name(), "shape": shape })
    };
    specs.iter().map(one).collect()
}
