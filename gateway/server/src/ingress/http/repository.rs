//! Triton's model repository extension: `POST /v2/repository/index`, `…/models/M/load` and
//! `…/unload`; and the model configuration extension: `GET /v2/models/M/config`.

use std::borrow::Cow;
use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, Request, State};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::StatusCode;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};
use tokio::time::Instant;

use super::{Front, Named, body};
use crate::admission::{Permit, Room};
use crate::auth::Connection;
use crate::catalog::repository::{IndexEntry, LoadParameters};
use crate::error::{Error, Kind, Result};
use crate::ingress::pace::Pace;
use crate::refusal::{self, request_id};
use crate::tensor_json::{Keyed, check_depth};
use crate::wire_error::respond;

/// Most bytes of a request that says what to show or to unload: a handful of words. More
/// answer 413.
const CONTROL_BYTES_MAX: usize = 64 << 10;

/// Keys of a request to load: what is not `parameters` is passed over.
const TOP_KEYS_MAX: usize = 64;

/// Parameters of a request to load: a configuration, and the files of a model.
const LOAD_PARAMETERS_MAX: usize = 1025;

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

/// One repository, or all.
#[derive(Deserialize)]
pub(super) struct Which {
    repository: Option<String>,
}

/// `POST /v2/repository[/{repository}]/index`.
pub(super) async fn index(
    State(front): State<Arc<Front>>,
    Path(Which { repository }): Path<Which>,
    request: Request,
) -> Response {
    answer(request, |request| async move {
        let asked: IndexRequest = read(&front, request, CONTROL_BYTES_MAX).await?;
        let rows = front.repositories.index(repository.as_deref(), asked.ready).await?;
        Ok(Json(Value::Array(rows.iter().map(row).collect())).into_response())
    })
    .await
}

/// `POST /v2/repository/models/{model}/load`.
pub(super) async fn load(
    State(front): State<Arc<Front>>,
    Path(model): Path<String>,
    request: Request,
) -> Response {
    answer(request, |request| async move {
        let parameters = read_load(&front, request).await?;
        front.repositories.load(&model, parameters).await?;
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

/// `GET /v2/models/{model}[/versions/{version}]/config`.
pub(super) async fn config(
    State(front): State<Arc<Front>>,
    Path(Named { model, version }): Path<Named>,
) -> Response {
    match front.catalog.snapshot().triton_config(&model, version.as_deref()) {
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

/// A body, counted and let in for as long as it is looked at.
struct Received {
    body: Bytes,
    _room: Room,
    _permit: Permit,
}

async fn receive(front: &Front, request: Request, bytes_max: usize) -> Result<Received> {
    let bytes_max = bytes_max.min(front.limits.body_bytes_max);
    if let Err(error) = body::check_length(request.headers(), bytes_max) {
        refusal::discard_request(request).await;
        return Err(error);
    }
    let share = request.extensions().get::<Connection>().map(|connection| &connection.share);
    let arriving = match front.admission.arrive(share) {
        Ok(arriving) => arriving,
        Err(error) => {
            front.metrics.rejected("overloaded");
            refusal::discard_body(request).await;
            return Err(error);
        }
    };
    let (parts, incoming) = request.into_parts();
    let encoding = body::encoding(&parts.headers)?;
    let pace = Pace::new(Instant::now(), front.limits.body_timeout);
    let mut room = front.admission.room();
    let body = body::read_unpacked(incoming, encoding, pace, bytes_max, &mut room).await?;
    let permit = arriving.enter().inspect_err(|_| front.metrics.rejected("overloaded"))?;
    check_depth(&body, front.limits.json_depth_max)?;
    Ok(Received { body, _room: room, _permit: permit })
}

/// A body of JSON; an empty one says nothing.
async fn read<T>(front: &Front, request: Request, bytes_max: usize) -> Result<T>
where
    T: Default + for<'a> Deserialize<'a>,
{
    let received = receive(front, request, bytes_max).await?;
    if received.body.iter().all(u8::is_ascii_whitespace) {
        return Ok(T::default());
    }
    // A list would be read as the fields in their order.
    let object = serde_json::from_slice::<Map<String, Value>>(&received.body);
    object.and_then(|object| serde_json::from_value(Value::Object(object))).map_err(|error| unread(&error))
}

fn unread(error: &serde_json::Error) -> Error {
    Error::new(Kind::BadJson, format!("failed to parse the request JSON buffer: {error}"))
}

/// What a request to load brings: as large as a prediction, and never more than texts of it
/// are kept.
async fn read_load(front: &Front, request: Request) -> Result<LoadParameters> {
    let received = receive(front, request, front.limits.body_bytes_max).await?;
    if received.body.iter().all(u8::is_ascii_whitespace) {
        return Ok(LoadParameters::default());
    }
    let top: Keyed<'_, TOP_KEYS_MAX> =
        serde_json::from_slice(&received.body).map_err(|error| unread(&error))?;
    let Some(parameters) = top.get("parameters") else { return Ok(LoadParameters::default()) };
    let parameters: Keyed<'_, LOAD_PARAMETERS_MAX> =
        serde_json::from_str(parameters.get()).map_err(|error| unread(&error))?;
    if parameters.len() > LOAD_PARAMETERS_MAX {
        return Err(bad(&format!("at most {LOAD_PARAMETERS_MAX} parameters are allowed")));
    }
    load_parameters(parameters.iter().map(|(name, value)| (&**name, text(value))))
}

fn text(value: &RawValue) -> Option<Cow<'_, str>> {
    serde_json::from_str::<Text<'_>>(value.get()).ok().map(|Text(text)| text)
}

/// A text, without a copy where it needs none.
#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

/// Whether what depends on a model is to be unloaded with it.
pub(in crate::ingress) fn unload_dependents(parameters: &Map<String, Value>) -> Result<bool> {
    match parameters.get("unload_dependents") {
        None => Ok(false),
        Some(value) => {
            value.as_bool().ok_or_else(|| bad("parameter 'unload_dependents' must be true or false"))
        }
    }
}

/// The parameters of a load, by their names; `None` for one that is no text.
pub(in crate::ingress) fn load_parameters<'a>(
    parameters: impl Iterator<Item = (&'a str, Option<Cow<'a, str>>)>,
) -> Result<LoadParameters> {
    let mut load = LoadParameters::default();
    for (name, text) in parameters {
        let shown: String = name.chars().take(64).collect();
        match (name, name.strip_prefix("file:")) {
            ("config", _) => {
                let text = text.ok_or_else(|| bad("parameter 'config' must be a string of JSON"))?;
                load.config = Some(text.into_owned());
            }
            (_, Some(path)) => {
                let content = text.and_then(|text| STANDARD.decode(&*text).ok());
                let content = content.ok_or_else(|| bad(&format!("parameter '{shown}' must be base64")))?;
                load.files.push((path.to_owned(), content));
            }
            _ => {
                let known = "there are 'config' and 'file:VERSION/NAME'";
                return Err(bad(&format!("parameter '{shown}' is not known: {known}")));
            }
        }
    }
    Ok(load)
}

fn bad(message: &str) -> Error {
    Error::new(Kind::BadRequest, message.to_owned())
}
