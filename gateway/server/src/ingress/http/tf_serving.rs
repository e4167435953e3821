//! TF-Serving's REST interface, which KServe V1 shares: rows as `instances`, columns as
//! `inputs`, for whatever takes tensors. Where a plugin takes the body, it is the plugin's.

use std::borrow::Cow;
use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, StatusCode};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};
use sluice_sandbox::{Answer, Request};
use sluice_tensor::{DType, Dim, NamedTensor, TensorSpec};
use tracing::Instrument as _;

use super::exchange::{Admitted, Encoded};
use super::{Front, body, tensors, v1};
use crate::admission::Room;
use crate::catalog::Target;
use crate::error::{Error, Kind, Result};
use crate::ingress::{offload, served};
use crate::pipeline;
use crate::tensor_json::{self, DataForm, nested, nested_write};
use crate::wire_error::respond;

/// The one signature that a model has.
const SIGNATURE: &str = "serving_default";

#[derive(Deserialize)]
struct PredictRequest<'a> {
    #[serde(borrow)]
    signature_name: Option<Cow<'a, str>>,
    #[serde(borrow)]
    instances: Option<&'a RawValue>,
    #[serde(borrow)]
    inputs: Option<&'a RawValue>,
}

/// Answers a `:predict` for whoever serves the name.
pub(super) async fn predict(
    name: &str,
    version: Option<&str>,
    mut admitted: Admitted,
    depth_max: usize,
) -> Result<Encoded> {
    if version.is_some() {
        served::check(&admitted.snapshot, name, version)?;
        admitted.call.version = version.map(Into::into);
    }
    match admitted.snapshot.asked(name, version) {
        Some(asked) => rows_or_columns(name, asked, admitted, depth_max).await,
        None => v1::hand_over(name, admitted).await,
    }
}

async fn rows_or_columns(name: &str, asked: Target, admitted: Admitted, depth_max: usize) -> Result<Encoded> {
    let Admitted { snapshot, call, headers, body, memory } = admitted;
    let (bytes, deadline) = (body.len(), call.deadline);
    let read = move || read(&asked, body, depth_max, memory.room);
    let (inputs, by_rows, room) = offload::run(bytes, deadline, read).await?;
    let predicted = pipeline::predict(&snapshot, name, &call, Request::Tensors(inputs)).await?;
    let response = match predicted.answer {
        Answer::Body(answer) => v1::encode(answer)?,
        Answer::Tensors(outputs) => {
            let write = if by_rows { nested_write::predictions } else { nested_write::outputs };
            let text_bytes = tensors::text_bytes(&outputs, |_| DataForm::Json);
            let large = Some(text_bytes).filter(|bytes| *bytes >= offload::LARGE_BYTES);
            let encode = move || {
                let mut out = Vec::with_capacity(large.unwrap_or_default() + 256);
                write(&outputs, &mut out)?;
                Ok(Bytes::from(out))
            };
            let span = tracing::debug_span!("encode");
            let out = match large {
                None => span.in_scope(encode)?,
                Some(bytes) => offload::write(bytes, deadline, room, encode).instrument(span).await?,
            };
            let json = HeaderValue::from_static("application/json");
            ([(CONTENT_TYPE, json)], out).into_response()
        }
    };
    Ok(Encoded::Whole { response: body::compress(response, &headers).await?, shadow: predicted.shadow })
}

/// Reads a request: its inputs, whether they came by rows, and the room for them.
fn read(
    asked: &Target,
    body: Bytes,
    depth_max: usize,
    mut room: Room,
) -> Result<(Vec<NamedTensor>, bool, Room)> {
    tensor_json::check_depth(&body, depth_max)?;
    let request: PredictRequest<'_> = serde_json::from_slice(&body)
        .map_err(|error| Error::new(Kind::BadJson, format!("bad JSON: {error}")))?;
    if let Some(signature) = request.signature_name.filter(|name| !name.is_empty() && name != SIGNATURE) {
        let message = format!("Serving signature key \"{}\" not found.", served::shown(&signature));
        return Err(Error::new(Kind::BadRequest, message));
    }
    let specs = &asked.signature().inputs;
    // The shape is known only afterwards: until then there is room for the most it can be.
    let most = nested::decoded_bytes_max(specs, body.len());
    room.grow(most)?;
    let (inputs, by_rows) = match (request.instances, request.inputs) {
        (Some(instances), None) => (nested::rows(specs, instances)?, true),
        (None, Some(inputs)) => (nested::columns(specs, inputs)?, false),
        (Some(_), Some(_)) => {
            return Err(Error::new(Kind::BadRequest, "send one of 'instances' and 'inputs', not both"));
        }
        (None, None) => {
            return Err(Error::new(Kind::BadRequest, "Missing 'inputs' or 'instances' key"));
        }
    };
    let decoded: usize = inputs.iter().map(|input| input.tensor.byte_len()).sum();
    room.shrink((most + body.len()).saturating_sub(decoded));
    Ok((inputs, by_rows, room))
}

/// `GET /v1/models/{model}`: KServe's `name` and `ready` beside TF-Serving's list.
pub(super) fn status(front: &Front, name: &str, version: Option<&str>) -> Response {
    let snapshot = front.catalog.snapshot();
    if let Err(error) = served::check(&snapshot, name, version) {
        return respond(&error, "");
    }
    let ready = snapshot.is_ready(name) && front.is_serving();
    let (status, state, code, message) = if ready {
        (StatusCode::OK, "AVAILABLE", "OK", "")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "UNLOADING", "UNAVAILABLE", "not ready")
    };
    let versions = version.map_or_else(|| snapshot.versions_of(name), |version| vec![version]);
    let one = |version: &&str| {
        let status = json!({ "error_code": code, "error_message": message });
        json!({ "version": version, "state": state, "status": status })
    };
    let versions: Vec<Value> = versions.iter().map(one).collect();
    let body = json!({ "name": name, "ready": ready, "model_version_status": versions });
    (status, Json(body)).into_response()
}

/// `GET /v1/models/{model}/metadata`.
pub(super) async fn metadata(State(front): State<Arc<Front>>, Path(name): Path<String>) -> Response {
    described(&front, &name, None)
}

/// `GET /v1/models/{model}/versions/{version}/metadata`.
pub(super) async fn version_metadata(
    State(front): State<Arc<Front>>,
    Path((name, version)): Path<(String, String)>,
) -> Response {
    described(&front, &name, Some(&version))
}

fn described(front: &Front, name: &str, version: Option<&str>) -> Response {
    let snapshot = front.catalog.snapshot();
    if let Err(error) = served::check(&snapshot, name, version) {
        return respond(&error, "");
    }
    // What a plugin takes or gives is known to the plugin only.
    let inputs = snapshot.asked(name, version).map(|asked| described_tensors(&asked.signature().inputs));
    let outputs =
        snapshot.answering(name, version).map(|giver| described_tensors(&giver.signature().outputs));
    let version = version.unwrap_or_else(|| served::version(&snapshot, name));
    let signature = json!({
        "inputs": inputs.unwrap_or_default(),
        "outputs": outputs.unwrap_or_default(),
        "method_name": "tensorflow/serving/predict",
        "defaults": {},
    });
    Json(json!({
        "model_spec": { "name": name, "signature_name": "", "version": version },
        "metadata": { "signature_def": { "signature_def": { SIGNATURE: signature } } },
    }))
    .into_response()
}

fn described_tensors(specs: &[TensorSpec]) -> Map<String, Value> {
    let one = |spec: &TensorSpec| {
        let size = |dim: &Dim| json!({ "size": dim.to_wire().to_string(), "name": "" });
        let dims: Vec<Value> = spec.dims.iter().map(size).collect();
        let shape = json!({ "dim": dims, "unknown_rank": false });
        let name = &*spec.name;
        (name.to_owned(), json!({ "dtype": tensorflow(spec.dtype), "tensor_shape": shape, "name": name }))
    };
    specs.iter().map(one).collect()
}

/// TensorFlow's name of a data type.
fn tensorflow(dtype: DType) -> &'static str {
    match dtype {
        DType::Bool => "DT_BOOL",
        DType::U8 => "DT_UINT8",
        DType::U16 => "DT_UINT16",
        DType::U32 => "DT_UINT32",
        DType::U64 => "DT_UINT64",
        DType::I8 => "DT_INT8",
        DType::I16 => "DT_INT16",
        DType::I32 => "DT_INT32",
        DType::I64 => "DT_INT64",
        DType::F16 => "DT_HALF",
        DType::Bf16 => "DT_BFLOAT16",
        DType::F32 => "DT_FLOAT",
        DType::F64 => "DT_DOUBLE",
        DType::Bytes => "DT_STRING",
    }
}
