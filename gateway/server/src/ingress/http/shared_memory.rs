//! Triton's shared memory extensions over HTTP: `/v2/systemsharedmemory/…` and
//! `/v2/cudasharedmemory/…`.

use std::sync::Arc;

use axum::extract::{Path, Request, State};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use http::StatusCode;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::{Front, settings};
use crate::auth::{Connection, Identity};
use crate::error::Result;
use crate::ingress::memory::{self, Reach};
use crate::refusal::request_id;
use crate::wire_error::respond;

/// One region, or all.
#[derive(Deserialize)]
pub(super) struct Which {
    region: Option<String>,
}

/// `GET /v2/systemsharedmemory[/region/{region}]/status`.
pub(super) async fn status(
    State(front): State<Arc<Front>>,
    Path(Which { region }): Path<Which>,
    Extension(identity): Extension<Identity>,
    request: Request,
) -> Response {
    let regions = reach(&front, &identity, &request).status(region.as_deref());
    answer(&request_id(request.headers()), regions.map(list))
}

/// `POST /v2/systemsharedmemory/region/{region}/register`.
pub(super) async fn register(
    State(front): State<Arc<Front>>,
    Path(region): Path<String>,
    Extension(identity): Extension<Identity>,
    request: Request,
) -> Response {
    let id = request_id(request.headers());
    let reach = reach(&front, &identity, &request);
    let registered = async {
        let segment = memory::segment(&settings::read(&front, request).await?)?;
        reach.register(&region, segment)
    };
    answer(&id, registered.await.map(|()| StatusCode::OK.into_response()))
}

/// `POST /v2/systemsharedmemory[/region/{region}]/unregister`.
pub(super) async fn unregister(
    State(front): State<Arc<Front>>,
    Path(Which { region }): Path<Which>,
    Extension(identity): Extension<Identity>,
    request: Request,
) -> Response {
    let done = reach(&front, &identity, &request).unregister(region.as_deref());
    answer(&request_id(request.headers()), done.map(|()| StatusCode::OK.into_response()))
}

/// `GET /v2/cudasharedmemory[/region/{region}]/status`.
pub(super) async fn cuda_status(Path(Which { region }): Path<Which>, request: Request) -> Response {
    answer(&request_id(request.headers()), memory::none_of("cuda", region.as_deref()).map(list))
}

/// `POST /v2/cudasharedmemory/region/{region}/register`.
pub(super) async fn cuda_register(request: Request) -> Response {
    answer(&request_id(request.headers()), Err(memory::no_cuda()))
}

/// `POST /v2/cudasharedmemory/…/unregister`: nothing is registered.
pub(super) async fn cuda_unregister() -> StatusCode {
    StatusCode::OK
}

fn reach(front: &Front, identity: &Identity, request: &Request) -> Reach {
    let connection = request.extensions().get::<Connection>();
    Reach::of(front, Some(identity), request.uri(), request.headers(), connection)
}

/// Regions as HTTP has them: a list.
fn list(regions: Map<String, Value>) -> Response {
    Json(regions.into_iter().map(|(_, region)| region).collect::<Vec<_>>()).into_response()
}

fn answer(id: &str, outcome: Result<Response>) -> Response {
    outcome.unwrap_or_else(|error| {
        tracing::debug!(%error, detail = error.detail().unwrap_or(""), "shared memory refused");
        respond(&error, id)
    })
}
