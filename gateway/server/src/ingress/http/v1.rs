//! The routes of KServe V1 and TF-Serving, and bodies that belong to a pipeline's plugin,
//! both ways.

use std::sync::Arc;

use axum::extract::{Path, Request, State};
use axum::response::{IntoResponse, Response};
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, StatusCode};
use sluice_sandbox::{Answer, HttpAnswer, HttpBody, Part};

use super::exchange::{self, Admitted, Encoded};
use super::framing::Framing;
use super::parts::Outgoing;
use super::{Front, sse, tensors, tf_serving};
use crate::error::{Error, Kind, Result};
use crate::ingress::{offload, served};
use crate::pipeline::{self, Streamed};
use crate::refusal;
use crate::tensor_json::DataForm;

/// `GET /v1/models/{model}`.
pub(super) async fn status(State(front): State<Arc<Front>>, Path(model): Path<String>) -> Response {
    tf_serving::status(&front, &model, None)
}

/// `GET /v1/models/{model}/versions/{version}`.
pub(super) async fn version_status(
    State(front): State<Arc<Front>>,
    Path((model, version)): Path<(String, String)>,
) -> Response {
    tf_serving::status(&front, &model, Some(&version))
}

/// `POST /v1/models/{model}:predict`.
pub(super) async fn predict(
    State(front): State<Arc<Front>>,
    Path(target): Path<String>,
    request: Request,
) -> Response {
    match verb(&target) {
        Verb::Predict(model) => run(front, model, None, request).await,
        Verb::None => refusal::no_method(request).await,
        Verb::Other => refusal::no_route(request).await,
    }
}

/// `POST /v1/models/{model}/versions/{version}:predict`.
pub(super) async fn predict_version(
    State(front): State<Arc<Front>>,
    Path((model, target)): Path<(String, String)>,
    request: Request,
) -> Response {
    match verb(&target) {
        Verb::Predict(version) => run(front, &model, Some(version), request).await,
        Verb::None => refusal::no_method(request).await,
        Verb::Other => refusal::no_route(request).await,
    }
}

/// `/v1/models/{model}/labels/{label}`, with whatever method and verb: no version has a
/// label here.
pub(super) async fn label(Path((_, target)): Path<(String, String)>, request: Request) -> Response {
    let label = target.split(':').next().unwrap_or_default();
    let message = format!("Unrecognized servable version label: {}", served::shown(label));
    refusal::respond(Error::new(Kind::NotFound, message), request).await
}

/// What comes behind the last colon.
enum Verb<'a> {
    Predict(&'a str),
    Other,
    None,
}

fn verb(target: &str) -> Verb<'_> {
    match target.rsplit_once(':') {
        Some((name, "predict")) => Verb::Predict(name),
        Some(_) => Verb::Other,
        None => Verb::None,
    }
}

async fn run(front: Arc<Front>, model: &str, version: Option<&str>, request: Request) -> Response {
    let depth_max = front.limits.json_depth_max;
    let work = |admitted| tf_serving::predict(model, version, admitted, depth_max);
    exchange::predict(front, model, request, work).await
}

/// Hands a body to whoever serves the name, and gives back what comes of it.
pub(super) async fn hand_over(model: &str, admitted: Admitted) -> Result<Encoded> {
    let content_type =
        admitted.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let body = HttpBody { content_type, data: admitted.body };
    let request = sluice_sandbox::Request::Body(body);
    let predicted = match pipeline::predict_stream(&admitted.snapshot, model, &admitted.call, request).await?
    {
        Streamed::Whole(predicted) => predicted,
        Streamed::Parts(stream) => {
            let events = wants_events(&admitted.headers);
            let version = served::version(&admitted.snapshot, model);
            let frame = |first: &Part| Framing::of_body(events, first, model, version);
            let outgoing = Outgoing::new(stream, admitted.call.deadline, admitted.memory.room, frame)?;
            return Ok(Encoded::Parts(Box::new(outgoing)));
        }
    };
    let response = match predicted.answer {
        Answer::Body(answer) => tracing::debug_span!("encode").in_scope(|| encode(answer)),
        // No plugin shaped the answer: the tensors as V2 writes them.
        Answer::Tensors(outputs) => {
            let version = served::version(&admitted.snapshot, model);
            let text_bytes = tensors::text_bytes(&outputs, |_| DataForm::Json);
            if text_bytes < offload::LARGE_BYTES {
                tensors::respond(model, version, None, &outputs, |_| DataForm::Json)
            } else {
                let (model, version) = (model.to_owned(), version.to_owned());
                let encode = move || tensors::respond(&model, &version, None, &outputs, |_| DataForm::Json);
                offload::write(text_bytes, admitted.call.deadline, admitted.memory.room, encode).await
            }
        }
    }?;
    Ok(Encoded::Whole { response, shadow: predicted.shadow })
}

/// Whether the caller asks for an answer in events.
fn wants_events(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    accepted.flat_map(|value| value.split(',')).any(|kind| {
        kind.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case(sse::CONTENT_TYPE))
    })
}

/// A plugin's body as a response.
pub(super) fn encode(answer: HttpAnswer) -> Result<Response> {
    let fault = |what| Error::new(Kind::PluginOutput, what);
    let status =
        StatusCode::from_u16(answer.status).map_err(|_| fault("the plugin's status is not valid"))?;
    let content_type = HeaderValue::from_str(&answer.content_type)
        .map_err(|_| fault("the plugin's content type is not valid"))?;
    Ok((status, [(CONTENT_TYPE, content_type)], answer.data).into_response())
}
