//! Triton's generate extension: `POST /v2/models/{model}/generate` and `generate_stream`.
//! One flat JSON object in, one out, or an event for each answer.
//!
//! For a model, a key that is an input's name is that input; `id` and `parameters` are as
//! in V2; every other key is a parameter. A pipeline whose first plugin takes bodies gets
//! the object as it is. Outputs become keys; what a plugin sends as text is `text_output`,
//! and what it sends as JSON stands for itself.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::HeaderValue;
use http::header::CONTENT_TYPE;
use serde_json::value::RawValue;
use sluice_sandbox::{Answer, HttpBody, Request};
use sluice_tensor::{Dim, NamedTensor, TensorSpec};

use super::exchange::{self, Admitted, Encoded};
use super::framing::{self, Framing};
use super::parts::Outgoing;
use super::{Front, body, sse};
use crate::catalog::{Model, Snapshot, Stages};
use crate::error::{Error, Kind, Result};
use crate::ingress::{parameters, served};
use crate::pipeline::{self, Call, Predicted, Streamed};
use crate::tensor_json::{self, Parameters};

const JSON: &str = "application/json";

/// Most keys of a request: as many inputs and parameters as V2 allows.
const KEYS_MAX: usize = 128;

/// `POST /v2/models/{model}/generate`.
pub(super) async fn one(
    State(front): State<Arc<Front>>,
    Path(model): Path<String>,
    request: axum::extract::Request,
) -> Response {
    let depth_max = front.limits.json_depth_max;
    exchange::predict(front, &model, request, |admitted| whole(&model, None, admitted, depth_max)).await
}

/// `POST /v2/models/{model}/versions/{version}/generate`.
pub(super) async fn one_version(
    State(front): State<Arc<Front>>,
    Path((model, version)): Path<(String, String)>,
    request: axum::extract::Request,
) -> Response {
    let depth_max = front.limits.json_depth_max;
    let version = Some(version);
    exchange::predict(front, &model, request, |admitted| whole(&model, version, admitted, depth_max)).await
}

/// `POST /v2/models/{model}/generate_stream`.
pub(super) async fn stream(
    State(front): State<Arc<Front>>,
    Path(model): Path<String>,
    request: axum::extract::Request,
) -> Response {
    let depth_max = front.limits.json_depth_max;
    exchange::predict(front, &model, request, |admitted| events(&model, None, admitted, depth_max)).await
}

/// `POST /v2/models/{model}/versions/{version}/generate_stream`.
pub(super) async fn stream_version(
    State(front): State<Arc<Front>>,
    Path((model, version)): Path<(String, String)>,
    request: axum::extract::Request,
) -> Response {
    let depth_max = front.limits.json_depth_max;
    let version = Some(version);
    exchange::predict(front, &model, request, |admitted| events(&model, version, admitted, depth_max)).await
}

async fn whole(
    model: &str,
    version: Option<String>,
    admitted: Admitted,
    depth_max: usize,
) -> Result<Encoded> {
    let Admitted { snapshot, mut call, headers, body, .. } = admitted;
    let request = decode(&snapshot, model, version.as_deref(), &mut call, body, depth_max)?;
    let predicted = pipeline::predict(&snapshot, model, &call, request).await?;
    let version = call.version.as_deref().unwrap_or_else(|| served::version(&snapshot, model));
    let json = encode(model, version, &predicted)?;
    let response = ([(CONTENT_TYPE, HeaderValue::from_static(JSON))], json).into_response();
    Ok(Encoded::Whole { response: body::compress(response, &headers).await?, shadow: predicted.shadow })
}

async fn events(
    model: &str,
    version: Option<String>,
    admitted: Admitted,
    depth_max: usize,
) -> Result<Encoded> {
    let Admitted { snapshot, mut call, body, .. } = admitted;
    let request = decode(&snapshot, model, version.as_deref(), &mut call, body, depth_max)?;
    let version = call.version.as_deref().unwrap_or_else(|| served::version(&snapshot, model));
    match pipeline::predict_stream(&snapshot, model, &call, request).await? {
        Streamed::Parts(stream) => {
            let frame = |_: &_| Framing::generate(model, version);
            Ok(Encoded::Parts(Box::new(Outgoing::new(stream, call.deadline, frame)?)))
        }
        Streamed::Whole(predicted) => {
            let json = encode(model, version, &predicted)?;
            let event = sse::event(None, &String::from_utf8_lossy(&json));
            let response = ([(CONTENT_TYPE, HeaderValue::from_static(sse::CONTENT_TYPE))], event);
            Ok(Encoded::Whole { response: response.into_response(), shadow: predicted.shadow })
        }
    }
}

/// Writes a whole answer as one flat object.
fn encode(model: &str, version: &str, predicted: &Predicted) -> Result<Bytes> {
    match &predicted.answer {
        Answer::Tensors(outputs) => framing::flat(model, version, outputs).map(Bytes::from),
        Answer::Body(answer) if answer.content_type.starts_with(JSON) => Ok(answer.data.clone()),
        Answer::Body(answer) => {
            let text = String::from_utf8_lossy(&answer.data);
            Ok(framing::text_output(model, version, &text).into())
        }
    }
}

/// The model whose inputs the keys name; none if a plugin takes the body.
fn asked_model<'a>(snapshot: &'a Snapshot, target: &str, version: Option<&str>) -> Option<&'a Model> {
    match snapshot.pipelines.get(target).map(|pipeline| &pipeline.stages) {
        Some(Stages::Staged { pre: None, model, .. }) => Some(model),
        Some(_) => None,
        None => snapshot.model(target, version).ok().map(|model| &**model),
    }
}

/// Reads a request, and what its parameters ask for into the call.
fn decode(
    snapshot: &Snapshot,
    target: &str,
    version: Option<&str>,
    call: &mut Call,
    body: Bytes,
    depth_max: usize,
) -> Result<Request> {
    match version {
        Some(version) => served::check_version(snapshot, target, version)?,
        None if !snapshot.serves(target) => return Err(served::unknown(target)),
        None => {}
    }
    tensor_json::check_depth(&body, depth_max)?;
    let bad = |error: serde_json::Error| Error::new(Kind::BadJson, format!("bad JSON: {error}"));
    let keys: BTreeMap<Cow<'_, str>, &RawValue> = serde_json::from_slice(&body).map_err(bad)?;
    if keys.len() > KEYS_MAX {
        return Err(Error::new(Kind::BadRequest, format!("at most {KEYS_MAX} keys are allowed")));
    }
    let nested =
        keys.get("parameters").map(|value| serde_json::from_str(value.get()).map_err(bad)).transpose()?;
    let mut given: Parameters<'_> = nested.unwrap_or_default();
    let model = asked_model(snapshot, target, version);
    let mut inputs = Vec::new();
    for (name, value) in &keys {
        if matches!(&**name, "id" | "parameters") {
            continue;
        }
        let spec = model.and_then(|model| model.signature().inputs.iter().find(|spec| *spec.name == **name));
        match (model, spec) {
            (Some(model), Some(spec)) => inputs.push(input(spec, value, model.max_batch_size() > 0)?),
            // A plugin reads its own body.
            (None, _) => {}
            (Some(_), None) => {
                given.insert(name.clone(), value);
            }
        }
    }
    let wishes = parameters::read(tensor_json::parameters(Some(given))?)?;
    if let Some(timeout) = wishes.timeout {
        call.shorten_deadline(timeout);
    }
    call.options = wishes.options;
    call.version = version.map(Into::into);
    drop(keys);
    Ok(match model {
        Some(_) => Request::Tensors(inputs),
        None => Request::Body(HttpBody { content_type: Some(JSON.to_owned()), data: body }),
    })
}

/// Reads an input: a value or an array of values, whose shape the model's signature says.
fn input(spec: &TensorSpec, value: &RawValue, is_batched: bool) -> Result<NamedTensor> {
    let text = value.get();
    let is_array = text.starts_with('[');
    let count = if is_array { elements(text)? } else { 1 };
    let dims = shape(&spec.dims, count, is_batched).ok_or_else(|| {
        Error::new(Kind::BadShape, format!("input '{}' does not take {count} values", spec.name))
    })?;
    let tensor = if is_array {
        tensor_json::decode(spec.dtype, &dims, value)
    } else {
        let array = RawValue::from_string(format!("[{text}]"));
        let array = array.map_err(|error| Error::new(Kind::BadJson, format!("bad JSON: {error}")))?;
        tensor_json::decode(spec.dtype, &dims, &array)
    };
    let name = Arc::clone(&spec.name);
    let tensor =
        tensor.map_err(|error| Error::new(error.kind(), format!("input '{name}': {}", error.message())))?;
    Ok(NamedTensor { name, tensor })
}

/// How many elements an array has, nested ones counted.
fn elements(text: &str) -> Result<usize> {
    fn count(text: &str) -> serde_json::Result<usize> {
        if !text.starts_with('[') {
            return Ok(1);
        }
        let elements: Vec<&RawValue> = serde_json::from_str(text)?;
        elements.iter().try_fold(0, |sum, element| Ok(sum + count(element.get())?))
    }
    count(text).map_err(|error| Error::new(Kind::BadJson, format!("bad JSON: {error}")))
}

/// The shape of so many values: one row, unless only rows can vary; the first other
/// dimension that may vary takes what is left, later ones are 1.
fn shape(dims: &[Dim], count: usize, is_batched: bool) -> Option<Vec<u64>> {
    let fixed = dims.iter().try_fold(1_usize, |product, dim| match dim {
        Dim::Fixed(size) => product.checked_mul(*size),
        Dim::Any(_) => Some(product),
    })?;
    let left = if fixed == 0 {
        (count == 0).then_some(0)?
    } else {
        count.is_multiple_of(fixed).then_some(count / fixed)?
    };
    let varies: Vec<usize> =
        dims.iter().enumerate().filter(|(_, dim)| matches!(dim, Dim::Any(_))).map(|(at, _)| at).collect();
    let rows = usize::from(is_batched && matches!(dims.first(), Some(Dim::Any(_))));
    let takes_rest = varies.get(rows).or_else(|| varies.first()).copied();
    if takes_rest.is_none() && left != 1 {
        return None;
    }
    let size = |(at, dim): (usize, &Dim)| match dim {
        Dim::Fixed(size) => *size,
        Dim::Any(_) if Some(at) == takes_rest => left,
        Dim::Any(_) => 1,
    };
    dims.iter().enumerate().map(size).map(|size| u64::try_from(size).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shape_follows_from_the_signature_and_the_count() {
        let any = || Dim::Any(None);
        for (dims, count, batched, wanted) in [
            (vec![any(), Dim::Fixed(4)], 4, true, Some(vec![1, 4])),
            (vec![any(), Dim::Fixed(4)], 8, true, Some(vec![2, 4])),
            (vec![any(), Dim::Fixed(4)], 6, true, None),
            (vec![any(), any()], 5, true, Some(vec![1, 5])),
            (vec![any(), any()], 5, false, Some(vec![5, 1])),
            (vec![any(), any(), any()], 6, true, Some(vec![1, 6, 1])),
            (vec![Dim::Fixed(1)], 1, false, Some(vec![1])),
            (vec![Dim::Fixed(1)], 2, false, None),
            (vec![], 1, false, Some(vec![])),
            (vec![any(), Dim::Fixed(0)], 0, true, Some(vec![0, 0])),
        ] {
            assert_eq!(shape(&dims, count, batched), wanted, "{dims:?} {count}");
        }
        assert_eq!(elements("[1, [2, 3], []]").expect("valid"), 3);
    }
}
