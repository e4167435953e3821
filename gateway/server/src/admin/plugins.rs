//! `/admin/v1/plugins…`: the life of plugins over HTTP. What happens is in
//! [`crate::catalog::plugins`]; here requests are read and answers written.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{FromRequestParts, Path, Query, Request, State};
use axum::response::{IntoResponse, Response};
use futures_util::{Stream, StreamExt};
use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use http::request::Parts;
use http::{HeaderMap, HeaderName, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::Admin;
use crate::auth::Identity;
use crate::catalog::plugins::{Actor, Upload};
use crate::error::{Error, Kind, Result};
use crate::refusal::{REQUEST_ID, request_id};
use crate::signature::Signature;
use crate::wire_error;

/// A detached signature: the key's name, a colon, and the signature in base64.
pub(super) const SIGNATURE: HeaderName = HeaderName::from_static("x-sluice-signature");

/// Time for an upload to arrive whole. A Python component takes a minute at 5 Mbit/s.
const UPLOAD_TIMEOUT: Duration = Duration::from_secs(120);

/// Most bytes of a request in JSON: a split names at most 16 versions.
const JSON_BYTES_MAX: usize = 16 << 10;

/// Lines of an answer that says nothing about how many.
const LINES: usize = 100;

/// An error on its way out, under the request's id.
pub(super) struct Refused {
    error: Error,
    request_id: Arc<str>,
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let Self { error, request_id } = self;
        if error.kind() == Kind::Internal {
            tracing::error!(%request_id, %error, detail = error.detail(), "admin request failed");
        }
        let mut response = wire_error::respond(&error, &request_id);
        if let Ok(id) = request_id.parse() {
            response.headers_mut().insert(REQUEST_ID, id);
        }
        response
    }
}

type Answer<T> = std::result::Result<T, Refused>;

/// Who asks, and what turns errors into answers.
pub(super) struct Asker(Actor);

impl Asker {
    fn refuse(&self, error: Error) -> Refused {
        Refused { error, request_id: Arc::clone(&self.0.request_id) }
    }

    fn answer<T: Serialize>(&self, outcome: Result<T>) -> Answer<Json<T>> {
        outcome.map(Json).map_err(|error| self.refuse(error))
    }
}

impl FromRequestParts<Arc<Admin>> for Asker {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, _: &Arc<Admin>) -> Answer<Self> {
        let request_id = request_id(&parts.headers);
        match parts.extensions.get::<Identity>() {
            Some(identity) => Ok(Self(Actor { identity: identity.clone(), request_id })),
            None => {
                // The door lets nobody pass without one.
                let error = Error::new(Kind::Internal, "internal error").with_detail("no identity");
                Err(Refused { error, request_id })
            }
        }
    }
}

/// `GET /admin/v1/plugins`.
pub(super) async fn list(State(admin): State<Arc<Admin>>, asker: Asker) -> Response {
    Json(json!({ "plugins": admin.plugins.list(&asker.0) })).into_response()
}

/// `GET /admin/v1/plugins/{plugin}`.
pub(super) async fn show(
    State(admin): State<Arc<Admin>>,
    asker: Asker,
    Path(plugin): Path<String>,
) -> Answer<impl IntoResponse> {
    asker.answer(admin.plugins.show(&asker.0, &plugin))
}

/// `GET /admin/v1/plugins/{plugin}/versions/{version}`.
pub(super) async fn show_version(
    State(admin): State<Arc<Admin>>,
    asker: Asker,
    Path((plugin, version)): Path<(String, String)>,
) -> Answer<impl IntoResponse> {
    asker.answer(admin.plugins.show_version(&asker.0, &plugin, &version))
}

/// `GET /admin/v1/plugins/{plugin}/versions/{version}/component`.
pub(super) async fn component(
    State(admin): State<Arc<Admin>>,
    asker: Asker,
    Path((plugin, version)): Path<(String, String)>,
) -> Answer<impl IntoResponse> {
    let bytes = admin.plugins.component(&asker.0, &plugin, &version).await;
    let bytes = bytes.map_err(|error| asker.refuse(error))?;
    Ok(([(CONTENT_TYPE, "application/wasm")], bytes))
}

/// What an upload may say beside its bytes.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct UploadQuery {
    owner: Option<String>,
    #[serde(default)]
    activate: bool,
}

/// `PUT /admin/v1/plugins/{plugin}/versions/{version}`: 201 for a new version, 200 for one
/// that is there with the same bytes.
pub(super) async fn upload(
    State(admin): State<Arc<Admin>>,
    asker: Asker,
    Path((plugin, version)): Path<(String, String)>,
    query: std::result::Result<Query<UploadQuery>, axum::extract::rejection::QueryRejection>,
    request: Request,
) -> Answer<Response> {
    let refuse = |error| asker.refuse(error);
    let Query(query) = query
        .map_err(|_| refuse(Error::new(Kind::BadRequest, "the query may hold owner and activate=true")))?;
    let signature = signature(request.headers()).map_err(refuse)?;
    check_encoding(request.headers()).map_err(refuse)?;
    let limit = admin.catalog.snapshot().config.sandbox.plugin_bytes_max;
    check_length(request.headers(), limit).map_err(refuse)?;
    let upload = Upload { plugin: plugin.clone(), version: version.clone(), owner: query.owner, signature };
    let uploaded = admin.plugins.upload(&asker.0, upload, pieces(request)).await.map_err(refuse)?;
    if query.activate {
        admin.plugins.activate(&asker.0, &plugin, &version).await.map_err(refuse)?;
    }
    let view = admin.plugins.show_version(&asker.0, &plugin, &version).map_err(refuse)?;
    let status = if uploaded.is_new { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, Json(view)).into_response())
}

fn signature(headers: &HeaderMap) -> Result<Option<Signature>> {
    let Some(value) = headers.get(SIGNATURE) else { return Ok(None) };
    let parsed = value.to_str().ok().and_then(|text| Signature::from_header(text).ok());
    let malformed = || Error::new(Kind::BadRequest, "x-sluice-signature is not KEY:BASE64");
    parsed.map(Some).ok_or_else(malformed)
}

/// A component is taken as it is: what is unpacked here would have to be bounded here.
fn check_encoding(headers: &HeaderMap) -> Result<()> {
    match headers.get(CONTENT_ENCODING) {
        Some(encoding) if encoding.as_bytes() != b"identity" => {
            Err(Error::new(Kind::UnsupportedMedia, "send the component as it is, without content-encoding"))
        }
        _ => Ok(()),
    }
}

/// An upload that says it is too large is refused before it is read.
fn check_length(headers: &HeaderMap, bytes_max: u64) -> Result<()> {
    let length = headers.get(http::header::CONTENT_LENGTH);
    let length: Option<u64> = length.and_then(|value| value.to_str().ok()?.parse().ok());
    match length {
        Some(length) if length > bytes_max => {
            Err(Error::new(Kind::TooLarge, format!("the component is larger than {bytes_max} bytes")))
        }
        _ => Ok(()),
    }
}

/// The body as it comes, within its time.
fn pieces(request: Request) -> impl Stream<Item = Result<Bytes>> + Send {
    let until = tokio::time::Instant::now() + UPLOAD_TIMEOUT;
    let body = request.into_body().into_data_stream();
    futures_util::stream::unfold(Some(body), move |body| async move {
        let mut body = body?;
        match tokio::time::timeout_at(until, body.next()).await {
            Ok(Some(Ok(piece))) => Some((Ok(piece), Some(body))),
            Ok(Some(Err(_))) => Some((Err(Error::new(Kind::BadRequest, "the upload broke off")), None)),
            Ok(None) => None,
            Err(_) => {
                Some((Err(Error::new(Kind::RequestTimeout, "the upload did not arrive in time")), None))
            }
        }
    })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Activation {
    version: String,
}

/// `POST /admin/v1/plugins/{plugin}/activate`.
pub(super) async fn activate(
    State(admin): State<Arc<Admin>>,
    asker: Asker,
    Path(plugin): Path<String>,
    request: Request,
) -> Answer<impl IntoResponse> {
    admin.plugins.check_plugin(&asker.0, &plugin).map_err(|error| asker.refuse(error))?;
    let Activation { version } = json_of(request).await.map_err(|error| asker.refuse(error))?;
    let changed = admin.plugins.activate(&asker.0, &plugin, &version).await;
    asker.answer(changed.map(|changed| json!({ "plugin": plugin, "active": version, "changed": changed })))
}

/// `POST /admin/v1/plugins/{plugin}/rollback`.
pub(super) async fn rollback(
    State(admin): State<Arc<Admin>>,
    asker: Asker,
    Path(plugin): Path<String>,
) -> Answer<impl IntoResponse> {
    let active = admin.plugins.roll_back(&asker.0, &plugin).await;
    asker.answer(active.map(|active| json!({ "plugin": plugin, "active": active })))
}

/// `POST /admin/v1/plugins/{plugin}/versions/{version}/retire`.
pub(super) async fn retire(
    State(admin): State<Arc<Admin>>,
    asker: Asker,
    Path((plugin, version)): Path<(String, String)>,
) -> Answer<impl IntoResponse> {
    let retired = admin.plugins.retire(&asker.0, &plugin, &version).await;
    asker.answer(retired.and_then(|()| admin.plugins.show_version(&asker.0, &plugin, &version)))
}

/// `DELETE /admin/v1/plugins/{plugin}/versions/{version}`.
pub(super) async fn remove(
    State(admin): State<Arc<Admin>>,
    asker: Asker,
    Path((plugin, version)): Path<(String, String)>,
) -> Answer<StatusCode> {
    let removed = admin.plugins.remove(&asker.0, &plugin, &version).await;
    removed.map(|()| StatusCode::NO_CONTENT).map_err(|error| asker.refuse(error))
}

/// Where to go on in a log, and how far.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Page {
    version: Option<String>,
    after: Option<u64>,
    limit: Option<usize>,
}

type PageQuery = std::result::Result<Query<Page>, axum::extract::rejection::QueryRejection>;

fn page(query: PageQuery) -> Result<Page> {
    let wrong = |_| Error::new(Kind::BadRequest, "the query may hold version, after and limit");
    query.map(|Query(page)| page).map_err(wrong)
}

/// `GET /admin/v1/plugins/{plugin}/logs`.
pub(super) async fn logs(
    State(admin): State<Arc<Admin>>,
    asker: Asker,
    Path(plugin): Path<String>,
    query: PageQuery,
) -> Answer<impl IntoResponse> {
    let lines = page(query).and_then(|Page { version, after, limit }| {
        admin.plugins.logs(&asker.0, &plugin, version.as_deref(), after, limit.unwrap_or(LINES))
    });
    asker.answer(lines.map(|lines| json!({ "lines": lines })))
}

/// `GET /admin/v1/audit`.
pub(super) async fn audit(
    State(admin): State<Arc<Admin>>,
    asker: Asker,
    query: PageQuery,
) -> Answer<impl IntoResponse> {
    let lines = match page(query) {
        Ok(Page { after, limit, .. }) => admin.plugins.audit(after, limit.unwrap_or(LINES)).await,
        Err(error) => Err(error),
    };
    asker.answer(lines.map(|lines| json!({ "entries": lines })))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ProfileQuery {
    seconds: Option<u64>,
}

/// `POST /admin/v1/plugins/{plugin}/versions/{version}/profile`.
pub(super) async fn profile(
    State(admin): State<Arc<Admin>>,
    asker: Asker,
    Path((plugin, version)): Path<(String, String)>,
    query: std::result::Result<Query<ProfileQuery>, axum::extract::rejection::QueryRejection>,
) -> Answer<impl IntoResponse> {
    let wrong = |_| asker.refuse(Error::new(Kind::BadRequest, "the query may hold seconds"));
    let seconds = query.map_err(wrong)?.0.seconds.unwrap_or(5);
    let profile = admin.plugins.profile(&asker.0, &plugin, &version, Duration::from_secs(seconds)).await;
    let profile = profile.map_err(|error| asker.refuse(error))?;
    Ok(([(CONTENT_TYPE, "application/json")], profile))
}

/// `GET /admin/v1/pipelines`.
pub(super) async fn pipelines(State(admin): State<Arc<Admin>>, asker: Asker) -> Response {
    Json(json!({ "pipelines": admin.plugins.pipelines(&asker.0) })).into_response()
}

/// `GET /admin/v1/pipelines/{pipeline}`.
pub(super) async fn pipeline(
    State(admin): State<Arc<Admin>>,
    asker: Asker,
    Path(pipeline): Path<String>,
) -> Answer<impl IntoResponse> {
    let found = admin.plugins.pipelines(&asker.0).into_iter().find(|view| view.pipeline == pipeline);
    let unknown = || {
        // A team learns nothing of pipelines that are not theirs.
        let is_admin = asker.0.identity.is_admin();
        if is_admin {
            Error::new(Kind::NotFound, format!("there is no pipeline '{pipeline}'"))
        } else {
            crate::auth::forbidden()
        }
    };
    asker.answer(found.ok_or_else(unknown))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SplitBody {
    plugin: String,
    weights: BTreeMap<String, u32>,
}

/// `PUT /admin/v1/pipelines/{pipeline}/split`.
pub(super) async fn split(
    State(admin): State<Arc<Admin>>,
    asker: Asker,
    Path(pipeline): Path<String>,
    request: Request,
) -> Answer<impl IntoResponse> {
    let SplitBody { plugin, weights } = json_of(request).await.map_err(|error| asker.refuse(error))?;
    let done = admin.plugins.split(&asker.0, &pipeline, &plugin, weights).await;
    asker.answer(done.and_then(|()| view_of(&admin, &asker, &pipeline)))
}

/// Which plugin of the pipeline is meant.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Which {
    plugin: String,
}

type WhichQuery = std::result::Result<Query<Which>, axum::extract::rejection::QueryRejection>;

fn which(query: WhichQuery) -> Result<String> {
    let missing = |_| Error::new(Kind::BadRequest, "the query must name the plugin: ?plugin=NAME");
    query.map(|Query(which)| which.plugin).map_err(missing)
}

/// `DELETE /admin/v1/pipelines/{pipeline}/split?plugin=`.
pub(super) async fn end_split(
    State(admin): State<Arc<Admin>>,
    asker: Asker,
    Path(pipeline): Path<String>,
    query: WhichQuery,
) -> Answer<impl IntoResponse> {
    let plugin = which(query).map_err(|error| asker.refuse(error))?;
    let done = admin.plugins.end_split(&asker.0, &pipeline, &plugin).await;
    asker.answer(done.and_then(|()| view_of(&admin, &asker, &pipeline)))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ShadowBody {
    plugin: String,
    version: String,
    #[serde(default = "everything")]
    sample: f64,
}

fn everything() -> f64 {
    1.0
}

/// `PUT /admin/v1/pipelines/{pipeline}/shadow`.
pub(super) async fn shadow(
    State(admin): State<Arc<Admin>>,
    asker: Asker,
    Path(pipeline): Path<String>,
    request: Request,
) -> Answer<impl IntoResponse> {
    let ShadowBody { plugin, version, sample } =
        json_of(request).await.map_err(|error| asker.refuse(error))?;
    let done = admin.plugins.shadow(&asker.0, &pipeline, &plugin, &version, sample).await;
    asker.answer(done.and_then(|()| view_of(&admin, &asker, &pipeline)))
}

/// `DELETE /admin/v1/pipelines/{pipeline}/shadow?plugin=`.
pub(super) async fn end_shadow(
    State(admin): State<Arc<Admin>>,
    asker: Asker,
    Path(pipeline): Path<String>,
    query: WhichQuery,
) -> Answer<impl IntoResponse> {
    let plugin = which(query).map_err(|error| asker.refuse(error))?;
    let done = admin.plugins.end_shadow(&asker.0, &pipeline, &plugin).await;
    asker.answer(done.and_then(|()| view_of(&admin, &asker, &pipeline)))
}

fn view_of(admin: &Admin, asker: &Asker, pipeline: &str) -> Result<impl Serialize + use<>> {
    let found = admin.plugins.pipelines(&asker.0).into_iter().find(|view| view.pipeline == pipeline);
    found.ok_or_else(|| Error::new(Kind::NotFound, format!("there is no pipeline '{pipeline}'")))
}

/// A small body in JSON.
async fn json_of<T: for<'de> Deserialize<'de>>(request: Request) -> Result<T> {
    let reading = axum::body::to_bytes(request.into_body(), JSON_BYTES_MAX);
    let body = tokio::time::timeout(UPLOAD_TIMEOUT, reading)
        .await
        .map_err(|_| Error::new(Kind::RequestTimeout, "the body did not arrive in time"))?
        .map_err(|_| Error::new(Kind::TooLarge, format!("the body is larger than {JSON_BYTES_MAX} bytes")))?;
    serde_json::from_slice(&body).map_err(|error| Error::new(Kind::BadJson, format!("bad JSON: {error}")))
}
