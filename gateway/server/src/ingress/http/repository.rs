//! Triton's model repository extension: `POST /v2/repository/index`, `…/models/M/load` and
//! `…/unload`; and the model configuration extension: `GET /v2/models/M/config`.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, Request, State};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::StatusCode;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tokio::time::Instant;

use super::{Front, body};
use crate::catalog::repository::{IndexEntry, LoadParameters};
use crate::error::{Error, Kind, Result};
use crate::ingress::pace::Pace;
use crate::refusal::{self, request_id};
use crate::tensor_json::check_depth;
use crate::wire_error::respond;

/// Most bytes of a request that says what to show or to unload: a handful of words. More
/// answer 413.
const CONTROL_BYTES_MAX: usize = 64 << 10;

/// Most bytes of a request that loads a model: the text of its configuration, at most a
/// megabyte, in quotes. More answer 413.
const LOAD_BYTES_MAX: usize = 2 << 20;

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct IndexRequest {
    ready: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ControlRequest {
    parameters: Map<String, Value>,
}

/// `POST /v2/repository/index`.
pub(super) async fn index(State(front): State<Arc<Front>>, request: Request) -> Response {
    answer(request, |request| async move { index_of(&front, None, request).await }).await
}

/// `POST /v2/repository/{repository}/index`.
pub(super) async fn index_of_repository(
    State(front): State<Arc<Front>>,
    Path(repository): Path<String>,
    request: Request,
) -> Response {
    answer(request, |request| async move { index_of(&front, Some(&repository), request).await }).await
}

/// `POST /v2/repository/models/{model}/load`.
pub(super) async fn load(
    State(front): State<Arc<Front>>,
    Path(model): Path<String>,
    request: Request,
) -> Response {
    answer(request, |request| async move {
        let asked: ControlRequest = read(&front, request, LOAD_BYTES_MAX).await?;
        front.repositories.load(&model, load_parameters(asked.parameters)?).await?;
        Ok(StatusCode::OK.into_response())
    })
    .await
}

/// `POST /v2/repository/models/{model}/unload`.
pub(super) async fn unload(
    State(front): State<Arc<Front>>,
    Path(model): Path<String>,
    request: Request,
) -> Response {
    answer(request, |request| async move {
        let asked: ControlRequest = read(&front, request, CONTROL_BYTES_MAX).await?;
        let dependents = unload_dependents(&asked.parameters)?;
        front.repositories.unload(&model, dependents).await?;
        Ok(StatusCode::OK.into_response())
    })
    .await
}

/// `GET /v2/models/{model}/config`.
pub(super) async fn config(State(front): State<Arc<Front>>, Path(model): Path<String>) -> Response {
    config_of(&front, &model, None)
}

/// `GET /v2/models/{model}/versions/{version}/config`.
pub(super) async fn config_version(
    State(front): State<Arc<Front>>,
    Path((model, version)): Path<(String, String)>,
) -> Response {
    config_of(&front, &model, Some(&version))
}

fn config_of(front: &Front, model: &str, version: Option<&str>) -> Response {
    match front.catalog.snapshot().triton_config(model, version) {
        Ok(config) => Json(config).into_response(),
        Err(error) => respond(&error, ""),
    }
}

async fn answer<F>(request: Request, work: impl FnOnce(Request) -> F) -> Response
where
    F: Future<Output = Result<Response>>,
{
    let id = request_id(request.headers());
    match work(request).await {
        Ok(response) => response,
        Err(error) => {
            tracing::debug!(%error, detail = error.detail().unwrap_or(""), "repository request refused");
            respond(&error, &id)
        }
    }
}

async fn index_of(front: &Front, repository: Option<&str>, request: Request) -> Result<Response> {
    let asked: IndexRequest = read(front, request, CONTROL_BYTES_MAX).await?;
    let rows = front.repositories.index(repository, asked.ready).await?;
    Ok(Json(Value::Array(rows.iter().map(row).collect())).into_response())
}

pub(in crate::ingress) fn row(entry: &IndexEntry) -> Value {
    let mut row = json!({ "name": &*entry.name });
    if !entry.version.is_empty() {
        row["version"] = json!(entry.version);
    }
    if let Some(state) = entry.state {
        row["state"] = json!(state.as_str());
    }
    if !entry.reason.is_empty() {
        row["reason"] = json!(entry.reason);
    }
    row
}

/// A body of JSON; an empty one says nothing.
async fn read<T>(front: &Front, request: Request, bytes_max: usize) -> Result<T>
where
    T: Default + for<'a> Deserialize<'a>,
{
    let bytes_max = bytes_max.min(front.limits.body_bytes_max);
    if let Err(error) = body::check_length(request.headers(), bytes_max) {
        refusal::discard_request(request).await;
        return Err(error);
    }
    let (parts, incoming) = request.into_parts();
    let encoding = body::encoding(&parts.headers)?;
    let arriving = front.admission.arrive().inspect_err(|_| front.metrics.rejected("overloaded"))?;
    let pace = Pace::new(Instant::now(), front.limits.body_timeout);
    let mut room = front.admission.room();
    let body = body::read_unpacked(incoming, encoding, pace, bytes_max, &mut room).await?;
    let _permit = arriving.enter().inspect_err(|_| front.metrics.rejected("overloaded"))?;
    if body.iter().all(u8::is_ascii_whitespace) {
        return Ok(T::default());
    }
    check_depth(&body, front.limits.json_depth_max)?;
    // A list would be read as the fields in their order.
    let object = serde_json::from_slice::<Map<String, Value>>(&body);
    object.and_then(|object| serde_json::from_value(Value::Object(object))).map_err(|error| {
        Error::new(Kind::BadJson, format!("failed to parse the request JSON buffer: {error}"))
    })
}

/// Whether what depends on a model is to be unloaded with it.
pub(in crate::ingress) fn unload_dependents(parameters: &Map<String, Value>) -> Result<bool> {
    match parameters.get("unload_dependents") {
        None => Ok(false),
        Some(value) => {
            value.as_bool().ok_or_else(|| bad("parameter 'unload_dependents' must be true or false"))
        }
    }
}

pub(in crate::ingress) fn load_parameters(parameters: Map<String, Value>) -> Result<LoadParameters> {
    let mut load = LoadParameters::default();
    for (name, value) in parameters {
        match (name.as_str(), value) {
            ("config", Value::String(text)) => load.config = Some(text),
            ("config", _) => return Err(bad("parameter 'config' must be a string of JSON")),
            (name, value) => {
                let shown: String = name.chars().take(64).collect();
                let Some(path) = name.strip_prefix("file:") else {
                    let known = "there are 'config' and 'file:VERSION/NAME'";
                    return Err(bad(&format!("parameter '{shown}' is not known: {known}")));
                };
                let content = value.as_str().and_then(|text| STANDARD.decode(text).ok());
                let content = content.ok_or_else(|| bad(&format!("parameter '{shown}' must be base64")))?;
                load.files.push((path.to_owned(), content));
            }
        }
    }
    Ok(load)
}

fn bad(message: &str) -> Error {
    Error::new(Kind::BadRequest, message.to_owned())
}
