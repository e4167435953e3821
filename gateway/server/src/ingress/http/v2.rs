//! KServe V2 (Open Inference Protocol): `POST /v2/models/{model}/infer`, for models and for
//! pipelines, in JSON and with Triton's binary tensors.

use std::borrow::Cow;
use std::sync::Arc;

use axum::extract::{Path, State};
use axum::response::Response;
use bytes::Bytes;
use serde::Deserialize;
use tracing::Instrument as _;

use super::exchange::{self, Admitted, Encoded, Memory};
use super::{Front, Named, binary, body, tensors};
use crate::error::{Error, Kind, Result};
use crate::ingress::infer::{self, InferRequest, InferResponse, RequestedOutput};
use crate::ingress::memory::Reach;
use crate::ingress::served::shown;
use crate::ingress::{offload, parameters};
use crate::pipeline::Parameter;
use crate::tensor_json::{self, DataForm, List, Parameters, TENSORS_MAX, TensorJson};

/// `POST /v2/models/{model}[/versions/{version}]/infer`.
pub(super) async fn infer(
    State(front): State<Arc<Front>>,
    Path(Named { model, version }): Path<Named>,
    request: axum::extract::Request,
) -> Response {
    let depth_max = front.limits.json_depth_max;
    exchange::predict(front, &model, request, |admitted| answer(&model, version, admitted, depth_max)).await
}

#[derive(Deserialize)]
struct Request<'a> {
    #[serde(borrow)]
    id: Option<Cow<'a, str>>,
    #[serde(borrow)]
    parameters: Option<Parameters<'a>>,
    #[serde(borrow)]
    inputs: List<TensorJson<'a>, TENSORS_MAX>,
    #[serde(borrow)]
    outputs: Option<List<Output<'a>, TENSORS_MAX>>,
}

#[derive(Deserialize)]
struct Output<'a> {
    #[serde(borrow)]
    name: Cow<'a, str>,
    #[serde(borrow)]
    parameters: Option<Parameters<'a>>,
}

async fn answer(
    model: &str,
    version: Option<String>,
    admitted: Admitted,
    depth_max: usize,
) -> Result<Encoded> {
    // The memory's room is held until the answer is made.
    let Admitted { snapshot, call, headers, body, memory } = admitted;
    let (deadline, bytes) = (call.deadline, body.len());
    let (request, forms, memory) = match binary::header_length(&headers, body.len())? {
        Some(0) => {
            let request = binary::raw_request(&snapshot, model, version.as_deref(), body)?;
            (request, Forms { all: true, each: Vec::new() }, memory)
        }
        length => {
            let read = move || read(body, length, depth_max, memory);
            offload::run(length.unwrap_or(bytes), deadline, read).await?
        }
    };
    let request = InferRequest { version, ..request };
    let InferResponse { version, id, outputs, in_memory, shadow } =
        infer::infer(&snapshot, model, call, request).await?;
    let form = move |index: usize| match in_memory.get(index) {
        Some(true) => DataForm::Memory,
        _ if forms.each.get(index).copied().flatten().unwrap_or(forms.all) => DataForm::Binary,
        _ => DataForm::Json,
    };
    let text_bytes = tensors::text_bytes(&outputs, &form);
    let span = tracing::debug_span!("encode");
    let response = if text_bytes < offload::LARGE_BYTES {
        span.in_scope(|| tensors::respond(model, &version, id.as_deref(), &outputs, form))?
    } else {
        let model = model.to_owned();
        let encode = move || tensors::respond(&model, &version, id.as_deref(), &outputs, form);
        offload::write(text_bytes, deadline, memory.room, encode).instrument(span).await?
    };
    Ok(Encoded::Whole { response: body::compress(response, &headers).await?, shadow })
}

/// Which outputs are wanted in binary.
struct Forms {
    /// Those that do not say it themselves.
    all: bool,
    /// What each says that is asked for by name, in order.
    each: Vec<Option<bool>>,
}

/// Reads a request of which so many bytes are JSON, or all.
fn read(
    mut body: Bytes,
    json_bytes: Option<usize>,
    depth_max: usize,
    mut memory: Memory,
) -> Result<(InferRequest, Forms, Memory)> {
    let data = json_bytes.map_or_else(Bytes::new, |length| body.split_off(length));
    let (request, forms) = decode(&body, data, depth_max, &mut memory)?;
    if json_bytes.is_none() {
        // The tensors have what was in it.
        memory.room.shrink(body.len());
    }
    Ok((request, forms, memory))
}

/// Reads a request of JSON, and the binary tensors behind it.
fn decode(json: &[u8], data: Bytes, depth_max: usize, memory: &mut Memory) -> Result<(InferRequest, Forms)> {
    let Memory { reach, room } = memory;
    tensor_json::check_depth(json, depth_max)?;
    let request: Request<'_> = serde_json::from_slice(json)
        .map_err(|error| Error::new(Kind::BadJson, format!("bad JSON: {error}")))?;
    let outputs = request.outputs.unwrap_or_default();
    if outputs.len() > TENSORS_MAX {
        return Err(Error::new(Kind::BadRequest, format!("at most {TENSORS_MAX} outputs can be asked for")));
    }
    let wishes = parameters::read(tensor_json::parameters(request.parameters)?)?;
    let mut forms = Forms { all: wishes.binary_data_output, each: Vec::with_capacity(outputs.len()) };
    let mut wanted = Vec::with_capacity(outputs.len());
    for output in outputs {
        let (requested, form) = requested(output, reach)?;
        wanted.push(requested);
        forms.each.push(form);
    }
    room.grow(request.inputs.iter().map(TensorJson::decoded_bytes_max).sum())?;
    let mut read = |input: &str, parameters: &[_], want| {
        let data = reach.read(parameters, input, want, |bytes| room.grow(bytes))?;
        data.ok_or_else(|| Error::new(Kind::BadRequest, format!("input '{}' has no data", shown(input))))
    };
    let request = InferRequest {
        version: None,
        id: request.id.map(Cow::into_owned),
        inputs: tensor_json::decode_all(&request.inputs, data, &mut read)?,
        wishes,
        outputs: wanted,
    };
    Ok((request, forms))
}

/// An output that is asked for, and whether in binary.
fn requested(output: Output<'_>, reach: &Reach) -> Result<(RequestedOutput, Option<bool>)> {
    let (mut classification, mut form) = (0, None);
    let parameters = tensor_json::parameters(output.parameters)?;
    for (name, value) in &parameters {
        match (&**name, value) {
            ("classification", value) => {
                let count = parameters::whole(name, value)?;
                classification = usize::try_from(count).unwrap_or(usize::MAX);
            }
            ("binary_data", Parameter::Bool(value)) => form = Some(*value),
            ("binary_data", _) => {
                return Err(Error::new(Kind::BadRequest, "parameter 'binary_data' must be true or false"));
            }
            _ => {}
        }
    }
    let memory = reach.part(&parameters, &output.name)?;
    let other = if form == Some(true) { "binary_data" } else { "classification" };
    if memory.is_some() && (form == Some(true) || classification > 0) {
        let message = format!("Output can't set both 'shared_memory_region' and '{other}'");
        return Err(Error::new(Kind::BadRequest, message));
    }
    Ok((RequestedOutput { name: output.name.into_owned(), classification, memory }, form))
}
