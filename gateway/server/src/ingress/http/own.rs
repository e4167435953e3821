//! Routes of pipelines' own: what no protocol takes may be one. The plugin owns the body,
//! both ways.

use std::sync::Arc;

use axum::Extension;
use axum::extract::{Request, State};
use axum::response::Response;
use http::HeaderValue;
use http::header::ALLOW;
use sluice_sandbox::RouteCall;

use super::exchange::{self, Admitted, Encoded};
use super::{Front, v1};
use crate::auth::{Access, Identity, forbidden};
use crate::catalog::Snapshot;
use crate::config::PathParameters;
use crate::error::Result;
use crate::pipeline::Call;
use crate::refusal;

/// A route that a request fits.
struct Found {
    pipeline: Arc<str>,
    parameters: PathParameters,
}

/// Whatever is no route of a protocol.
pub(super) async fn serve(
    State(front): State<Arc<Front>>,
    Extension(identity): Extension<Identity>,
    request: Request,
) -> Response {
    let snapshot = front.catalog.snapshot();
    let (found, allowed) = find(&snapshot, &request);
    let Some(Found { pipeline, parameters }) = found else {
        if allowed.is_empty() {
            return refusal::no_route(request).await;
        }
        let mut response = refusal::no_method(request).await;
        if let Ok(value) = HeaderValue::from_str(&allowed.join(", ")) {
            response.headers_mut().insert(ALLOW, value);
        }
        return response;
    };
    if snapshot.config.server.predict_needs_token && !Access::Predict.allows(&identity) {
        return refusal::respond(forbidden(), request).await;
    }
    let uri = request.uri();
    let route = RouteCall {
        method: request.method().as_str().to_owned(),
        path: uri.path().to_owned(),
        query: uri.query().map(str::to_owned),
        path_parameters: parameters,
    };
    let work = |admitted| answer(&pipeline, route, admitted);
    exchange::predict_in(snapshot, front, &pipeline, request, work).await
}

async fn answer(pipeline: &str, route: RouteCall, admitted: Admitted) -> Result<Encoded> {
    let call = Call { route: Some(Arc::new(route)), ..admitted.call };
    v1::hand_over(pipeline, Admitted { call, ..admitted }).await
}

/// The route that a request fits; else the methods that its path has.
fn find<'a>(snapshot: &'a Snapshot, request: &Request) -> (Option<Found>, Vec<&'a str>) {
    let mut allowed = Vec::new();
    for (name, pipeline) in &snapshot.config.pipelines {
        for route in &pipeline.routes {
            let Some(parameters) = route.path.matches(request.uri().path()) else { continue };
            if route.method == *request.method() {
                return (Some(Found { pipeline: Arc::clone(name), parameters }), Vec::new());
            }
            allowed.push(route.method.as_str());
        }
    }
    (None, allowed)
}
