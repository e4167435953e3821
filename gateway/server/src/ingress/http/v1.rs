//! KServe V1: `POST /v1/models/{model}:predict`. The body belongs to the
//! pipeline's plugin, both ways.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, Request, State};
use axum::response::{IntoResponse, Response};
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, StatusCode};
use serde_json::json;
use sluice_sandbox::{Answer, HttpAnswer, HttpBody, Part};

use super::exchange::{self, Admitted, Encoded};
use super::framing::Framing;
use super::parts::Outgoing;
use super::{Front, sse, tensors};
use crate::error::{Error, Kind, Result};
use crate::ingress::served;
use crate::pipeline::{self, Streamed};
use crate::refusal;
use crate::wire_error::respond;

/// `GET /v1/models/{model}`.
pub(super) async fn status(State(front): State<Arc<Front>>, Path(model): Path<String>) -> Response {
    let snapshot = front.catalog.snapshot();
    if !snapshot.serves(&model) {
        return respond(&served::unknown(&model), "");
    }
    let ready = snapshot.is_ready(&model) && front.is_serving();
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(json!({ "name": model, "ready": ready }))).into_response()
}

/// `POST /v1/models/{model}:predict`.
pub(super) async fn predict(
    State(front): State<Arc<Front>>,
    Path(target): Path<String>,
    request: Request,
) -> Response {
    let Some((model, verb)) = target.rsplit_once(':') else {
        return refusal::no_method(request).await;
    };
    if verb != "predict" {
        return refusal::no_route(request).await;
    }
    exchange::predict(front, model, request, |admitted| hand_over(model, admitted)).await
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
            let outgoing = Outgoing::new(stream, admitted.call.deadline, frame)?;
            return Ok(Encoded::Parts(Box::new(outgoing)));
        }
    };
    let response = match predicted.answer {
        Answer::Body(answer) => tracing::debug_span!("encode").in_scope(|| encode(answer)),
        // No plugin shaped the answer: the tensors as V2 writes them.
        Answer::Tensors(outputs) => {
            let version = served::version(&admitted.snapshot, model);
            tensors::respond(model, version, None, &outputs, |_| false)
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

fn encode(answer: HttpAnswer) -> Result<Response> {
    let fault = |what| Error::new(Kind::PluginOutput, what);
    let status =
        StatusCode::from_u16(answer.status).map_err(|_| fault("the plugin's status is not valid"))?;
    let content_type = HeaderValue::from_str(&answer.content_type)
        .map_err(|_| fault("the plugin's content type is not valid"))?;
    Ok((status, [(CONTENT_TYPE, content_type)], answer.data).into_response())
}
