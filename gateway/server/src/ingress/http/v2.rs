//! KServe V2 (Open Inference Protocol): `POST /v2/models/{model}/infer` in JSON,
//! for models and for pipelines.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Path, Request, State};
use axum::response::Response;
use serde::Deserialize;
use sluice_sandbox::{Answer, HttpBody};
use sluice_tensor::{DType, NamedTensor, Shape, Tensor, find};

use super::exchange::{self, Admitted, Encoded};
use super::{Front, metadata, tensors};
use crate::error::{Error, Kind, Result};
use crate::pipeline;
use crate::tensor_json::{self, Parameters, TENSORS_MAX, TensorJson};
use crate::wire_error::respond;

/// The tensor that stands for the raw body of a pipeline with plugins of its own.
const BODY_TENSOR: &str = "body";

/// The header of Triton's binary tensors.
const BINARY_HEADER: &str = "inference-header-content-length";

/// `POST /v2/models/{model}/infer`.
pub(super) async fn infer(
    State(front): State<Arc<Front>>,
    Path(model): Path<String>,
    request: Request,
) -> Response {
    let depth_max = front.limits.json_depth_max;
    exchange::predict(front, &model, request, |admitted| answer(&model, admitted, depth_max)).await
}

/// `POST /v2/models/{model}/versions/{version}/infer`.
pub(super) async fn infer_version(
    State(front): State<Arc<Front>>,
    Path((model, version)): Path<(String, String)>,
    request: Request,
) -> Response {
    if let Err(error) = metadata::check_version(&front.catalog.snapshot(), &model, &version) {
        return respond(&error, "");
    }
    infer(State(front), Path(model), request).await
}

#[derive(Deserialize)]
struct InferRequest<'a> {
    #[serde(borrow)]
    id: Option<Cow<'a, str>>,
    #[serde(borrow)]
    parameters: Option<Parameters<'a>>,
    #[serde(borrow)]
    inputs: Vec<TensorJson<'a>>,
    #[serde(borrow)]
    outputs: Option<Vec<Output<'a>>>,
}

#[derive(Deserialize)]
struct Output<'a> {
    #[serde(borrow)]
    name: Cow<'a, str>,
}

async fn answer(model: &str, mut admitted: Admitted, depth_max: usize) -> Result<Encoded> {
    if admitted.headers.contains_key(BINARY_HEADER) {
        return Err(Error::new(
            Kind::UnsupportedMedia,
            "binary tensors are not supported: send the data as JSON",
        ));
    }
    tensor_json::check_depth(&admitted.body, depth_max)?;
    let body = admitted.body.clone();
    let request: InferRequest<'_> = serde_json::from_slice(&body)
        .map_err(|error| Error::new(Kind::BadJson, format!("bad JSON: {error}")))?;
    if let Some(timeout) = timeout(request.parameters.as_ref())? {
        admitted.shorten_deadline(timeout);
    }
    let inputs = tensor_json::decode_all(&request.inputs)?;
    let wanted = wanted_outputs(request.outputs.as_deref())?;
    let predicted =
        pipeline::predict(&admitted.snapshot, model, &admitted.call, raw_or_tensors(inputs)?).await?;
    let outputs = match predicted.answer {
        Answer::Tensors(outputs) => outputs,
        Answer::Body(answer) => {
            let shape = Shape::new(&[1]).map_err(|error| tensor_json::to_error(&error))?;
            let data = std::iter::once(&*answer.data);
            let tensor = Tensor::from_strings(shape, data).map_err(|error| tensor_json::to_error(&error))?;
            vec![NamedTensor { name: BODY_TENSOR.into(), tensor }]
        }
    };
    let outputs = select(outputs, &wanted)?;
    let version = metadata::version(&admitted.snapshot, model);
    let id = request.id.as_deref();
    let response =
        tracing::debug_span!("encode").in_scope(|| tensors::respond(model, version, id, &outputs))?;
    Ok(Encoded { response, shadow: predicted.shadow })
}

/// A single BYTES element called `body` is a raw body for the plugin.
fn raw_or_tensors(inputs: Vec<NamedTensor>) -> Result<sluice_sandbox::Request> {
    let is_body = inputs.len() == 1
        && find(&inputs, BODY_TENSOR)
            .is_some_and(|tensor| tensor.dtype() == DType::Bytes && tensor.shape().elements() == 1);
    if !is_body {
        return Ok(sluice_sandbox::Request::Tensors(inputs));
    }
    // One element: everything behind its length.
    let data = inputs[0].tensor.to_dense();
    Ok(sluice_sandbox::Request::Body(HttpBody { content_type: None, data: data.slice(size_of::<u32>()..) }))
}

fn wanted_outputs<'a>(outputs: Option<&'a [Output<'_>]>) -> Result<Vec<&'a str>> {
    let outputs = outputs.unwrap_or_default();
    if outputs.len() > TENSORS_MAX {
        return Err(Error::new(Kind::BadRequest, format!("at most {TENSORS_MAX} outputs can be asked for")));
    }
    let mut names: Vec<&str> = Vec::with_capacity(outputs.len());
    for output in outputs {
        if names.contains(&&*output.name) {
            return Err(Error::new(Kind::BadRequest, format!("output '{}' is asked for twice", output.name)));
        }
        names.push(&output.name);
    }
    Ok(names)
}

/// The outputs in the order asked for; all of them when none was named.
fn select(outputs: Vec<NamedTensor>, wanted: &[&str]) -> Result<Vec<NamedTensor>> {
    if wanted.is_empty() {
        return Ok(outputs);
    }
    let pick = |name: &&str| {
        let found = outputs.iter().find(|output| *output.name == **name).cloned();
        found.ok_or_else(|| Error::new(Kind::BadRequest, format!("there is no output '{name}'")))
    };
    wanted.iter().map(pick).collect()
}

/// The request's `timeout` in microseconds, as Triton has it; 0 is none.
fn timeout(parameters: Option<&Parameters<'_>>) -> Result<Option<Duration>> {
    tensor_json::check_parameters(parameters)?;
    let Some(value) = parameters.and_then(|parameters| parameters.get("timeout")) else { return Ok(None) };
    let microseconds: u64 = serde_json::from_str(value.get()).map_err(|_| {
        Error::new(Kind::BadRequest, "parameter 'timeout' must be a whole number of microseconds, 0 or more")
    })?;
    Ok((microseconds > 0).then(|| Duration::from_micros(microseconds)))
}
