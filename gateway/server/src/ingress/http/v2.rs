//! KServe V2 (Open Inference Protocol): `POST /v2/models/{model}/infer` in JSON,
//! for models and for pipelines.

use std::borrow::Cow;
use std::sync::Arc;

use axum::extract::{Path, State};
use axum::response::Response;
use serde::Deserialize;

use super::exchange::{self, Admitted, Encoded};
use super::{Front, tensors};
use crate::error::{Error, Kind, Result};
use crate::ingress::infer::{self, InferRequest, InferResponse, RequestedOutput};
use crate::ingress::parameters;
use crate::tensor_json::{self, Parameters, TENSORS_MAX, TensorJson};

/// The header of Triton's binary tensors.
const BINARY_HEADER: &str = "inference-header-content-length";

/// `POST /v2/models/{model}/infer`.
pub(super) async fn infer(
    State(front): State<Arc<Front>>,
    Path(model): Path<String>,
    request: axum::extract::Request,
) -> Response {
    let depth_max = front.limits.json_depth_max;
    exchange::predict(front, &model, request, |admitted| answer(&model, None, admitted, depth_max)).await
}

/// `POST /v2/models/{model}/versions/{version}/infer`.
pub(super) async fn infer_version(
    State(front): State<Arc<Front>>,
    Path((model, version)): Path<(String, String)>,
    request: axum::extract::Request,
) -> Response {
    let depth_max = front.limits.json_depth_max;
    exchange::predict(front, &model, request, |admitted| answer(&model, Some(version), admitted, depth_max))
        .await
}

#[derive(Deserialize)]
struct Request<'a> {
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

async fn answer(
    model: &str,
    version: Option<String>,
    admitted: Admitted,
    depth_max: usize,
) -> Result<Encoded> {
    if admitted.headers.contains_key(BINARY_HEADER) {
        return Err(Error::new(
            Kind::UnsupportedMedia,
            "binary tensors are not supported: send the data as JSON",
        ));
    }
    let request = InferRequest { version, ..decode(&admitted.body, depth_max)? };
    let InferResponse { version, id, outputs, shadow } =
        infer::infer(&admitted.snapshot, model, admitted.call, request).await?;
    let encode = || tensors::respond(model, &version, id.as_deref(), &outputs);
    let response = tracing::debug_span!("encode").in_scope(encode)?;
    Ok(Encoded { response, shadow })
}

fn decode(body: &[u8], depth_max: usize) -> Result<InferRequest> {
    tensor_json::check_depth(body, depth_max)?;
    let request: Request<'_> = serde_json::from_slice(body)
        .map_err(|error| Error::new(Kind::BadJson, format!("bad JSON: {error}")))?;
    let outputs = request.outputs.unwrap_or_default();
    if outputs.len() > TENSORS_MAX {
        return Err(Error::new(Kind::BadRequest, format!("at most {TENSORS_MAX} outputs can be asked for")));
    }
    let wanted = |output: Output<'_>| RequestedOutput { name: output.name.into_owned(), classification: 0 };
    Ok(InferRequest {
        version: None,
        id: request.id.map(Cow::into_owned),
        inputs: tensor_json::decode_all(&request.inputs)?,
        wishes: parameters::read(tensor_json::parameters(request.parameters)?)?,
        outputs: outputs.into_iter().map(wanted).collect(),
    })
}
