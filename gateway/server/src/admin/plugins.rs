//! `/admin/v1/plugins…`: the life of plugins over HTTP. What happens is in
//! [`crate::catalog::plugins`]; here requests are read and answers written.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::{FromRequestParts, Path, Query, Request, State};
use axum::response::{IntoResponse, Response};
use futures_util::{Stream, StreamExt};
use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use http::request::Parts;
use http::{HeaderMap, HeaderName, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::Admin;
use super::downloads::Sending;
use crate::auth::{Identity, Unwritten};
use crate::catalog::plugins::view::VersionView;
use crate::catalog::plugins::{Actor, Upload};
use crate::error::{Error, Kind, Result};
use crate::refusal::{self, REQUEST_ID, request_id};
use crate::signature::Signature;
use crate::wire_error;

/// A detached signature: the key's name, a colon, and the signature in base64.
pub(super) const SIGNATURE: HeaderName = HeaderName::from_static("x-sluice-signature");

/// Time for an upload to arrive whole. A Python component takes a minute at 5 Mbit/s.
const UPLOAD_TIMEOUT: Duration = Duration::from_secs(120);

/// Bytes of a component that are handed over at a time.
const DOWNLOAD_PIECE_BYTES: usize = 64 << 10;

/// Most bytes of a request in JSON: a split names at most 16 versions.
const JSON_BYTES_MAX: usize = 16 << 10;

/// Time for a request in JSON to arrive whole.
const JSON_TIMEOUT: Duration = Duration::from_secs(10);

/// Lines of an answer to a request that says nothing about how many.
const LINES: usize = 100;

/// Most lines that one request may ask for: what is kept of one version's log. More is 400.
pub(super) const LINES_MAX: usize = 1000;

/// Highest number behind which a page may begin. Lines are numbered from 1; clients in any
/// language can hold this. More is 400.
pub(super) const AFTER_MAX: u64 = i64::MAX.unsigned_abs();

/// Longest profile that one request may ask for, in seconds. More is 400.
pub(super) const PROFILE_SECONDS_MAX: u64 = 60;

/// Length of a profile of which nothing is said, in seconds.
const PROFILE_SECONDS: u64 = 5;

/// An error on its way out, under the request's id.
pub(super) struct Refused {
    error: Error,
    request_id: Arc<str>,
    /// Whether the lifecycle has not seen the request, and so has not written it down.
    is_unwritten: bool,
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let Self { error, request_id, is_unwritten } = self;
        if error.kind() == Kind::Internal {
            tracing::error!(%request_id, %error, detail = error.detail(), "admin request failed");
        }
        let mut response = wire_error::respond(&error, &request_id);
        if let Ok(id) = request_id.parse() {
            response.headers_mut().insert(REQUEST_ID, id);
        }
        if is_unwritten {
            response.extensions_mut().insert(Unwritten(error.kind()));
        }
        response
    }
}

pub(super) type Answer<T> = std::result::Result<T, Refused>;

/// Who asks, and what turns errors into answers.
pub(super) struct Asker(pub(super) Actor);

impl Asker {
    pub(super) fn refuse(&self, error: Error) -> Refused {
        Refused { error, request_id: Arc::clone(&self.0.request_id), is_unwritten: false }
    }

    /// Refuses a request for what it says, before the lifecycle has seen it.
    pub(super) fn refuse_unread(&self, error: Error) -> Refused {
        Refused { is_unwritten: true, ..self.refuse(error) }
    }

    pub(super) fn answer<T: Serialize>(&self, outcome: Result<T>) -> Answer<Json<T>> {
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
                Err(Refused { error, request_id, is_unwritten: false })
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
    let busy = || asker.refuse(Error::new(Kind::TenantLimit, "too many components are being sent"));
    let place = Sending::begin(&asker.0.identity).ok_or_else(busy)?;
    let bytes = admin.plugins.component(&asker.0, &plugin, &version).await;
    let bytes = bytes.map_err(|error| asker.refuse(error))?;
    let body = Body::from_stream(in_pieces(bytes.into(), place));
    Ok(([(CONTENT_TYPE, "application/wasm")], body))
}

/// A component as it goes out, which keeps its place for as long as it is held.
fn in_pieces(
    bytes: Bytes,
    place: Sending,
) -> impl Stream<Item = std::result::Result<Bytes, std::convert::Infallible>> + Send {
    futures_util::stream::unfold((bytes, place), |(mut rest, place)| async {
        if rest.is_empty() {
            return None;
        }
        let piece = rest.split_to(rest.len().min(DOWNLOAD_PIECE_BYTES));
        Some((Ok(piece), (rest, place)))
    })
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
    query: Asked<UploadQuery>,
    request: Request,
) -> Answer<Response> {
    let refuse = |error| asker.refuse(error);
    let unread = |error| asker.refuse_unread(error);
    let Query(query) = query
        .map_err(|_| unread(Error::new(Kind::BadRequest, "the query may hold owner and activate=true")))?;
    if let Some(owner) = &query.owner {
        let wrong = |error| unread(Error::new(Kind::BadRequest, format!("the owner: {error}")));
        sluice_tensor::check_name(owner).map_err(wrong)?;
    }
    let limit = admin.catalog.snapshot().config.sandbox.plugin_bytes_max;
    let checked = check_encoding(request.headers())
        .and_then(|()| check_length(request.headers(), limit))
        .and_then(|()| signature(request.headers()));
    let signature = match checked {
        Ok(signature) => signature,
        Err(error) => {
            refusal::discard_too_large(request).await;
            return Err(unread(error));
        }
    };
    let upload = Upload { plugin: plugin.clone(), version: version.clone(), owner: query.owner, signature };
    let mut body = pin!(pieces(request).fuse());
    let uploaded = match admin.plugins.upload(&asker.0, upload, body.as_mut()).await {
        Ok(uploaded) => uploaded,
        Err(error) => {
            // Nothing is left where all of it was read.
            refusal::discard_pieces(body).await;
            return Err(refuse(error));
        }
    };
    if query.activate {
        admin.plugins.activate(&asker.0, &plugin, &version).await.map_err(refuse)?;
    }
    let version = admin.plugins.show_version(&asker.0, &plugin, &version).map_err(refuse)?;
    let status = if uploaded.is_new { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, Json(UploadedView { version, evicted: uploaded.evicted })).into_response())
}

/// The answer to an upload.
#[derive(Serialize)]
struct UploadedView {
    #[serde(flatten)]
    version: VersionView,
    /// The version that had to make room for it.
    evicted: Option<String>,
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
    let allowed = admin.plugins.check_change(&asker.0, "activate", &plugin, &plugin).await;
    allowed.map_err(|error| asker.refuse(error))?;
    let Activation { version } = json_of(request).await.map_err(|error| asker.refuse_unread(error))?;
    let changed = admin.plugins.activate(&asker.0, &plugin, &version).await;
    asker.answer(changed.map(|changed| json!({ "plugin": plugin, "active": version, "changed": changed })))
}

/// What a rollback may say: the version that is to be left.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Return {
    #[serde(default)]
    from: Option<String>,
}

/// `POST /admin/v1/plugins/{plugin}/rollback`.
pub(super) async fn rollback(
    State(admin): State<Arc<Admin>>,
    asker: Asker,
    Path(plugin): Path<String>,
    request: Request,
) -> Answer<impl IntoResponse> {
    let allowed = admin.plugins.check_change(&asker.0, "rollback", &plugin, &plugin).await;
    allowed.map_err(|error| asker.refuse(error))?;
    let Return { from } = json_or_nothing(request).await.map_err(|error| asker.refuse_unread(error))?;
    let active = admin.plugins.roll_back(&asker.0, &plugin, from).await;
    let view = |(active, changed)| json!({ "plugin": plugin, "active": active, "changed": changed });
    asker.answer(active.map(view))
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

/// What a query held, if it could be read.
pub(super) type Asked<T> = std::result::Result<Query<T>, axum::extract::rejection::QueryRejection>;

/// Where to go on in a log, and how far.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LogQuery {
    version: Option<String>,
    after: Option<u64>,
    limit: Option<usize>,
}

/// Where to go on in the audit log, and how far.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AuditQuery {
    after: Option<u64>,
    limit: Option<usize>,
}

/// Where a page begins and how long it is, within their bounds.
fn bounds(after: Option<u64>, limit: Option<usize>) -> Result<(Option<u64>, usize)> {
    let limit = limit.unwrap_or(LINES);
    if after.is_some_and(|after| after > AFTER_MAX) || !(1..=LINES_MAX).contains(&limit) {
        let message = format!("after is at most {AFTER_MAX}, and limit between 1 and {LINES_MAX}");
        return Err(Error::new(Kind::BadRequest, message));
    }
    Ok((after, limit))
}

/// `GET /admin/v1/plugins/{plugin}/logs`.
pub(super) async fn logs(
    State(admin): State<Arc<Admin>>,
    asker: Asker,
    Path(plugin): Path<String>,
    query: Asked<LogQuery>,
) -> Answer<impl IntoResponse> {
    let wrong = |_| asker.refuse(Error::new(Kind::BadRequest, "the query may hold version, after and limit"));
    let Query(LogQuery { version, after, limit }) = query.map_err(wrong)?;
    let lines = bounds(after, limit)
        .and_then(|(after, limit)| admin.plugins.logs(&asker.0, &plugin, version.as_deref(), after, limit));
    asker.answer(lines.map(|lines| json!({ "lines": lines })))
}

/// `GET /admin/v1/audit`.
pub(super) async fn audit(
    State(admin): State<Arc<Admin>>,
    asker: Asker,
    query: Asked<AuditQuery>,
) -> Answer<impl IntoResponse> {
    let wrong = |_| asker.refuse(Error::new(Kind::BadRequest, "the query may hold after and limit"));
    let Query(AuditQuery { after, limit }) = query.map_err(wrong)?;
    let lines = match bounds(after, limit) {
        Ok((after, limit)) => admin.plugins.audit(after, limit).await,
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
    query: Asked<ProfileQuery>,
) -> Answer<impl IntoResponse> {
    let wrong = || {
        let message = format!("the query may hold seconds, between 1 and {PROFILE_SECONDS_MAX}");
        asker.refuse(Error::new(Kind::BadRequest, message))
    };
    let seconds = query.map_err(|_| wrong())?.0.seconds.unwrap_or(PROFILE_SECONDS);
    if !(1..=PROFILE_SECONDS_MAX).contains(&seconds) {
        return Err(wrong());
    }
    let profile = admin.plugins.profile(&asker.0, &plugin, &version, Duration::from_secs(seconds)).await;
    let profile = profile.map_err(|error| asker.refuse(error))?;
    Ok(([(CONTENT_TYPE, "application/json")], profile))
}

/// A small body in JSON.
pub(super) async fn json_of<T: for<'de> Deserialize<'de>>(request: Request) -> Result<T> {
    parse(&small(request).await?)
}

/// The same where a request may go without.
async fn json_or_nothing<T: for<'de> Deserialize<'de> + Default>(request: Request) -> Result<T> {
    let body = small(request).await?;
    if body.is_empty() { Ok(T::default()) } else { parse(&body) }
}

fn parse<T: for<'de> Deserialize<'de>>(body: &[u8]) -> Result<T> {
    serde_json::from_slice(body).map_err(|error| Error::new(Kind::BadJson, format!("bad JSON: {error}")))
}

async fn small(request: Request) -> Result<Bytes> {
    let reading = axum::body::to_bytes(request.into_body(), JSON_BYTES_MAX);
    tokio::time::timeout(JSON_TIMEOUT, reading)
        .await
        .map_err(|_| Error::new(Kind::RequestTimeout, "the body did not arrive in time"))?
        .map_err(|error| match error.into_inner().is::<http_body_util::LengthLimitError>() {
            true => Error::new(Kind::TooLarge, format!("the body is larger than {JSON_BYTES_MAX} bytes")),
            false => Error::new(Kind::BadRequest, "the body broke off"),
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A request whose body begins, and never ends.
    fn silent() -> Request {
        let begun = futures_util::stream::iter([Ok::<_, std::convert::Infallible>(Bytes::from_static(b"{"))]);
        Request::new(Body::from_stream(begun.chain(futures_util::stream::pending())))
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_does_not_end_costs_a_bounded_time() {
        let start = tokio::time::Instant::now();
        let error = json_of::<Activation>(silent()).await.err().expect("no end, no answer");
        assert_eq!((error.kind(), start.elapsed().as_secs()), (Kind::RequestTimeout, JSON_TIMEOUT.as_secs()));
        let start = tokio::time::Instant::now();
        let pieces: Vec<Result<Bytes>> = pieces(silent()).collect().await;
        assert_eq!((pieces.len(), start.elapsed().as_secs()), (2, UPLOAD_TIMEOUT.as_secs()));
        let error = pieces.into_iter().find_map(Result::err).expect("it ends with an error");
        assert_eq!(error.kind(), Kind::RequestTimeout);
    }

    #[tokio::test]
    async fn a_body_in_json_is_small() {
        let body = format!("{:width$}", "{", width = JSON_BYTES_MAX + 1);
        let error = json_of::<Activation>(Request::new(Body::from(body))).await.err().expect("too large");
        assert_eq!(error.kind(), Kind::TooLarge);
    }
}
