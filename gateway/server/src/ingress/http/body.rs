//! Reads a request's body, within its size and its time; compression, both ways.

use axum::body::Body;
use axum::response::Response;
use bytes::{Bytes, BytesMut};
use http::header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_LENGTH, VARY};
use http::{HeaderMap, HeaderValue};
use http_body_util::BodyExt;
use hyper::body::Body as _;

use crate::admission::Permit;
use crate::config::Limits;
use crate::error::{Error, Kind, Result};
use crate::ingress::compression::{Compression, PACKED_BYTES_MIN};
use crate::refusal;

/// Refuses a body that says it is too large.
///
/// # Errors
/// [`Kind::TooLarge`] above the limit: it is never read.
pub(super) fn check_length(headers: &HeaderMap, limits: &Limits) -> Result<()> {
    let Some(length) = headers.get(CONTENT_LENGTH) else { return Ok(()) };
    // hyper has refused a malformed length already.
    let length = length.to_str().ok().and_then(|text| text.parse::<usize>().ok()).unwrap_or(usize::MAX);
    if length > limits.body_bytes_max { Err(too_large(limits)) } else { Ok(()) }
}

/// How the body is compressed, if it is.
///
/// # Errors
/// [`Kind::UnsupportedMedia`] for an encoding that nobody here decodes.
pub(super) fn encoding(headers: &HeaderMap) -> Result<Option<Compression>> {
    let mut given = headers.get_all(CONTENT_ENCODING).iter();
    let fault = || {
        Error::new(
            Kind::UnsupportedMedia,
            "Unsupported compression type: send the body as it is, or with one of gzip and deflate",
        )
    };
    let Some(name) = given.next() else { return Ok(None) };
    if given.next().is_some() {
        return Err(fault());
    }
    match name.to_str().map_err(|_| fault())?.trim() {
        "identity" => Ok(None),
        name => Compression::from_name(name).map(Some).ok_or_else(fault),
    }
}

/// Unpacks a compressed body.
///
/// # Errors
/// [`Kind::TooLarge`] when it holds more than a body may have, [`Kind::BadRequest`] when it
/// was not packed so, [`Kind::Overloaded`] when all bodies together are too much.
pub(super) async fn unpack(
    packed: Bytes,
    compression: Compression,
    limits: &Limits,
    permit: &mut Permit,
) -> Result<Bytes> {
    let body = compression.unpack(packed, limits.body_bytes_max, Some(permit)).await?;
    body.ok_or_else(|| too_large(limits))
}

/// The same response, compressed if the client asks for it and it is worth it.
///
/// # Errors
/// None that memory could give.
pub(super) async fn compress(response: Response, headers: &HeaderMap) -> Result<Response> {
    let Some(compression) = accepted(headers) else { return Ok(response) };
    let (mut parts, body) = response.into_parts();
    // Answers of tensors are one piece of memory.
    let Ok(collected) = body.collect().await else {
        return Err(Error::new(Kind::Internal, "internal error").with_detail("an answer broke off"));
    };
    let mut body = collected.to_bytes();
    parts.headers.insert(VARY, HeaderValue::from_static("accept-encoding"));
    if body.len() >= PACKED_BYTES_MIN {
        body = compression.pack([body], BytesMut::new()).await?.freeze();
        parts.headers.insert(CONTENT_ENCODING, HeaderValue::from_static(compression.name()));
    }
    Ok(Response::from_parts(parts, Body::from(body)))
}

/// The first encoding that the client takes and we can make; one with weight 0 it does not
/// take.
fn accepted(headers: &HeaderMap) -> Option<Compression> {
    let text = headers.get(ACCEPT_ENCODING)?.to_str().ok()?;
    let one = |part: &str| {
        let mut fields = part.split(';').map(str::trim);
        let name = fields.next()?;
        let weight = fields.find_map(|field| field.strip_prefix("q=")?.parse::<f32>().ok()).unwrap_or(1.0);
        Compression::from_name(name).filter(|_| weight > 0.0)
    };
    text.split(',').find_map(one)
}

/// Reads the whole body.
///
/// # Errors
/// [`Kind::TooLarge`] at the crossing of the limit, [`Kind::RequestTimeout`] when it
/// does not arrive in time, [`Kind::BadRequest`] when it breaks off,
/// [`Kind::Overloaded`] when all bodies together are too much.
pub(super) async fn read(mut body: Body, limits: &Limits, permit: &mut Permit) -> Result<Bytes> {
    let read = tokio::time::timeout(limits.body_timeout, collect(&mut body, limits, permit)).await;
    let late = || Err(Error::new(Kind::RequestTimeout, "the body did not arrive in time"));
    let read = read.unwrap_or_else(|_| late());
    if read.as_ref().is_err_and(|error| error.kind() == Kind::TooLarge) {
        refusal::discard_rest(body).await;
    }
    read
}

async fn collect(body: &mut Body, limits: &Limits, permit: &mut Permit) -> Result<Bytes> {
    let mut first: Option<Bytes> = None;
    let mut rest = BytesMut::new();
    let expected = body.size_hint().exact().and_then(|bytes| usize::try_from(bytes).ok());
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| Error::new(Kind::BadRequest, "the body broke off or is malformed"))?;
        // Trailers carry nothing that we use.
        let Ok(data) = frame.into_data() else { continue };
        let so_far = first.as_ref().map_or(rest.len(), Bytes::len);
        if so_far + data.len() > limits.body_bytes_max {
            return Err(too_large(limits));
        }
        permit.grow(data.len())?;
        // Most bodies come in one piece, which is passed on without a copy.
        match first.take() {
            None if rest.is_empty() => first = Some(data),
            None => rest.extend_from_slice(&data),
            Some(piece) => {
                rest.reserve(expected.unwrap_or(0).clamp(piece.len() + data.len(), limits.body_bytes_max));
                rest.extend_from_slice(&piece);
                rest.extend_from_slice(&data);
            }
        }
    }
    Ok(first.unwrap_or_else(|| rest.freeze()))
}

fn too_large(limits: &Limits) -> Error {
    Error::new(Kind::TooLarge, format!("the body is larger than {} bytes", limits.body_bytes_max))
}
