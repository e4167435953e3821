//! Reads a request's body, within its size and its time.

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH};
use http_body_util::BodyExt;
use hyper::body::Body as _;

use crate::admission::Permit;
use crate::config::Limits;
use crate::error::{Error, Kind, Result};
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

/// Refuses an encoding that nobody here decodes.
///
/// # Errors
/// [`Kind::UnsupportedMedia`].
pub(super) fn check_encoding(headers: &HeaderMap) -> Result<()> {
    match headers.get(CONTENT_ENCODING) {
        Some(encoding) if encoding.as_bytes() != b"identity" => Err(Error::new(
            Kind::UnsupportedMedia,
            "this content-encoding is not supported: send the body as it is",
        )),
        _ => Ok(()),
    }
}

/// Reads the whole body.
///
/// # Errors
/// [`Kind::TooLarge`] at the crossing of the limit, [`Kind::RequestTimeout`] when it
/// does not arrive in time, [`Kind::BadRequest`] when it breaks off,
/// [`Kind::Overloaded`] when all bodies together are too much.
pub(super) async fn read(body: Body, limits: &Limits, permit: &mut Permit) -> Result<Bytes> {
    match tokio::time::timeout(limits.body_timeout, collect(body, limits, permit)).await {
        Ok(bytes) => bytes,
        Err(_) => Err(Error::new(Kind::RequestTimeout, "the body did not arrive in time")),
    }
}

async fn collect(mut body: Body, limits: &Limits, permit: &mut Permit) -> Result<Bytes> {
    let mut first: Option<Bytes> = None;
    let mut rest = BytesMut::new();
    let expected = body.size_hint().exact().and_then(|bytes| usize::try_from(bytes).ok());
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| Error::new(Kind::BadRequest, "the body broke off or is malformed"))?;
        // Trailers carry nothing that we use.
        let Ok(data) = frame.into_data() else { continue };
        let so_far = first.as_ref().map_or(rest.len(), Bytes::len);
        if so_far + data.len() > limits.body_bytes_max {
            refusal::discard(body).await;
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
