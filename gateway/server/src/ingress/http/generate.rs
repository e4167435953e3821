//! Triton's generate extension: `POST /v2/models/{model}/generate` and `generate_stream`.
//! One flat JSON object in, one out, or an event for each answer.
//!
//! For a model or an ensemble, a key that is an input's name is that input; `id` and
//! `parameters` are as in V2; every other key is a parameter. A pipeline whose first plugin takes bodies gets
//! the object as it is. Outputs become keys; what a plugin sends as text is `text_output`,
//! and what it sends as JSON stands for itself.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::HeaderValue;
use http::header::CONTENT_TYPE;
use serde_json::value::RawValue;
use sluice_sandbox::{Answer, HttpBody, Request};
use sluice_tensor::{Dim, NamedTensor, TensorSpec};
use tokio::time::Instant;

use super::exchange::{self, Admitted, Encoded};
use super::framing::{Framing, Whose};
use super::parts::Outgoing;
use super::{Front, Named, body, sse, tensors};
use crate::admission::Room;
use crate::catalog::Snapshot;
use crate::error::{Error, Kind, Result};
use crate::ingress::{offload, parameters, served};
use crate::pipeline::{self, Call, Predicted, Streamed};
use crate::tensor_json::{self, DataForm, Keyed, Parameters};

const JSON: &str = "application/json";

/// Most keys of a request: as many inputs and parameters as V2 allows.
const KEYS_MAX: usize = 128;

/// A request.
type Keys<'a> = Keyed<'a, KEYS_MAX>;

/// `POST /v2/models/{model}[/versions/{version}]/generate`.
pub(super) async fn one(
    State(front): State<Arc<Front>>,
    Path(target): Path<Named>,
    request: axum::extract::Request,
) -> Response {
    let depth_max = front.limits.json_depth_max;
    exchange::predict(front, &target.model, request, |admitted| whole(&target, admitted, depth_max)).await
}

/// `POST /v2/models/{model}[/versions/{version}]/generate_stream`.
pub(super) async fn stream(
    State(front): State<Arc<Front>>,
    Path(target): Path<Named>,
    request: axum::extract::Request,
) -> Response {
    let depth_max = front.limits.json_depth_max;
    exchange::predict(front, &target.model, request, |admitted| events(&target, admitted, depth_max)).await
}

async fn whole(target: &Named, admitted: Admitted, depth_max: usize) -> Result<Encoded> {
    let Admitted { snapshot, call, headers, body, memory } = admitted;
    let Read { request, whose, call, room } =
        read(&snapshot, target, call, body, depth_max, memory.room).await?;
    let Predicted { answer, shadow, .. } =
        pipeline::predict(&snapshot, &target.model, &call, request).await?;
    let json = write(whose, answer, call.deadline, room).await?;
    let response = ([(CONTENT_TYPE, HeaderValue::from_static(JSON))], json).into_response();
    Ok(Encoded::Whole { response: body::compress(response, &headers).await?, shadow })
}

async fn events(target: &Named, admitted: Admitted, depth_max: usize) -> Result<Encoded> {
    let Admitted { snapshot, call, body, memory, .. } = admitted;
    let Read { request, whose, call, room } =
        read(&snapshot, target, call, body, depth_max, memory.room).await?;
    match pipeline::predict_stream(&snapshot, &target.model, &call, request).await? {
        Streamed::Parts(stream) => {
            let frame = |_: &_| Framing::generate(whose);
            Ok(Encoded::Parts(Box::new(Outgoing::new(stream, call.deadline, room, frame)?)))
        }
        Streamed::Whole(Predicted { answer, shadow, .. }) => {
            let json = write(whose, answer, call.deadline, room).await?;
            let event = sse::event(None, &String::from_utf8_lossy(&json));
            let response = ([(CONTENT_TYPE, HeaderValue::from_static(sse::CONTENT_TYPE))], event);
            Ok(Encoded::Whole { response: response.into_response(), shadow })
        }
    }
}

/// A request that was read, what it says about its call, and the room for it.
struct Read {
    request: Request,
    whose: Whose,
    call: Call,
    room: Room,
}

/// As [`decode`], wherever it is done.
async fn read(
    snapshot: &Arc<Snapshot>,
    target: &Named,
    mut call: Call,
    body: Bytes,
    depth_max: usize,
    mut room: Room,
) -> Result<Read> {
    if body.len() < offload::LARGE_BYTES {
        let (request, whose) = decode(snapshot, target, &mut call, body, depth_max, &mut room)?;
        return Ok(Read { request, whose, call, room });
    }
    let (snapshot, target) = (Arc::clone(snapshot), target.clone());
    let (bytes, deadline) = (body.len(), call.deadline);
    let decode = move || {
        let (request, whose) = decode(&snapshot, &target, &mut call, body, depth_max, &mut room)?;
        Ok(Read { request, whose, call, room })
    };
    offload::run(bytes, deadline, decode).await
}

/// As [`encode`], wherever it is done.
async fn write(whose: Whose, answer: Answer, deadline: Instant, room: Room) -> Result<Bytes> {
    let text_bytes = match &answer {
        Answer::Tensors(outputs) => tensors::text_bytes(outputs, |_| DataForm::Json),
        Answer::Body(answer) => answer.data.len(),
    };
    let encode = move || encode(&whose, &answer);
    if text_bytes < offload::LARGE_BYTES {
        return encode();
    }
    offload::write(text_bytes, deadline, room, encode).await
}

/// Writes a whole answer as one flat object.
fn encode(whose: &Whose, answer: &Answer) -> Result<Bytes> {
    match answer {
        Answer::Tensors(outputs) => whose.flat(outputs).map(Bytes::from),
        Answer::Body(answer) if answer.content_type.starts_with(JSON) => Ok(answer.data.clone()),
        Answer::Body(answer) => Ok(whose.text_output(&String::from_utf8_lossy(&answer.data)).into()),
    }
}

/// Reads a request, and what its parameters ask for into the call; and whose answer it will
/// be.
fn decode(
    snapshot: &Snapshot,
    Named { model: name, version }: &Named,
    call: &mut Call,
    body: Bytes,
    depth_max: usize,
    room: &mut Room,
) -> Result<(Request, Whose)> {
    served::check(snapshot, name, version.as_deref())?;
    tensor_json::check_depth(&body, depth_max)?;
    let bad = |error: serde_json::Error| Error::new(Kind::BadJson, format!("bad JSON: {error}"));
    let keys: Keys<'_> = serde_json::from_slice(&body).map_err(bad)?;
    if keys.len() > KEYS_MAX {
        return Err(Error::new(Kind::BadRequest, format!("at most {KEYS_MAX} keys are allowed")));
    }
    let nested =
        keys.get("parameters").map(|value| serde_json::from_str(value.get()).map_err(bad)).transpose()?;
    let mut given: Parameters<'_> = nested.unwrap_or_default();
    let asked = snapshot.asked(name, version.as_deref());
    let id = keys.get("id").map(|value| serde_json::from_str(value.get()).map_err(bad)).transpose();
    // A plugin may call anything `id`.
    let id: Option<String> = if asked.is_some() { id? } else { id.unwrap_or_default() };
    let mut inputs = Vec::new();
    for (key, value) in &*keys {
        if matches!(&**key, "id" | "parameters") {
            continue;
        }
        // A plugin reads its own body.
        let Some(asked) = &asked else { continue };
        match asked.signature().inputs.iter().find(|spec| *spec.name == **key) {
            Some(spec) => inputs.push(input(spec, value, asked.max_batch_size() > 0, room)?),
            None if given.insert(key.clone(), value).is_some() => {
                let message = format!("parameter '{}' is given twice", served::shown(key));
                return Err(Error::new(Kind::BadRequest, message));
            }
            None => {}
        }
    }
    let wishes = parameters::read(tensor_json::parameters(Some(given))?)?;
    if let Some(timeout) = wishes.timeout {
        call.shorten_deadline(timeout);
    }
    call.options = wishes.options;
    call.version = version.as_deref().map(Into::into);
    drop(keys);
    let version = version.as_deref().unwrap_or_else(|| served::version(snapshot, name));
    let whose = Whose { model: name.clone(), version: version.to_owned(), id };
    let request = match asked {
        Some(_) => {
            room.shrink(body.len());
            Request::Tensors(inputs)
        }
        None => Request::Body(HttpBody { content_type: Some(JSON.to_owned()), data: body }),
    };
    Ok((request, whose))
}

/// Reads an input: a value or an array of values, whose shape the model's signature says.
fn input(spec: &TensorSpec, value: &RawValue, is_batched: bool, room: &mut Room) -> Result<NamedTensor> {
    let text = value.get();
    let is_array = text.starts_with('[');
    let count = elements(text);
    let dims = shape(&spec.dims, count, is_batched).ok_or_else(|| {
        Error::new(Kind::BadShape, format!("input '{}' does not take {count} values", spec.name))
    })?;
    room.grow(tensor_json::decoded_bytes_max(spec.dtype, &dims, text.len()))?;
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

/// How many elements a value of JSON has, those of nested arrays counted; an object is one.
/// One pass, however deep they are nested, and nothing is kept.
fn elements(json: &str) -> usize {
    let (mut count, mut braces) = (0, 0_usize);
    let (mut in_string, mut is_escaped, mut in_word) = (false, false, false);
    for byte in json.bytes() {
        if in_string {
            in_string = is_escaped || byte != b'"';
            is_escaped = !is_escaped && byte == b'\\';
            continue;
        }
        let is_between = matches!(byte, b'[' | b']' | b',' | b':' | b'}') || byte.is_ascii_whitespace();
        if braces == 0 && !is_between && !in_word {
            count += 1;
        }
        in_word = !is_between;
        match byte {
            b'"' => in_string = true,
            b'{' => (braces, in_word) = (braces + 1, false),
            b'}' => braces = braces.saturating_sub(1),
            _ => {}
        }
    }
    count
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
        assert_eq!(elements(r#"[1, [2.5e1, "a,\"]"], [], [[]], null, {"a": [1, 2]}]"#), 5);
        assert_eq!(elements("7"), 1);
    }
}
