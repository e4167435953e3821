//! Reads a request's body, within its size and its time; compression, both ways.

use axum::body::Body;
use axum::response::Response;
use bytes::{Bytes, BytesMut};
use http::header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_LENGTH, VARY};
use http::{HeaderMap, HeaderValue};
use http_body_util::BodyExt;
use hyper::body::Body as _;

use crate::admission::Room;
use crate::error::{Error, Kind, Result};
use crate::ingress::compression::{Compression, PACKED_BYTES_MIN};
use crate::ingress::pace::Pace;
use crate::refusal;

/// Refuses a body that says it is too large.
///
/// # Errors
/// [`Kind::TooLarge`] above the limit: it is never read.
pub(super) fn check_length(headers: &HeaderMap, bytes_max: usize) -> Result<()> {
    let Some(length) = headers.get(CONTENT_LENGTH) else { return Ok(()) };
    // hyper has refused a malformed length already.
    let length = length.to_str().ok().and_then(|text| text.parse::<usize>().ok()).unwrap_or(usize::MAX);
    if length > bytes_max { Err(too_large(bytes_max)) } else { Ok(()) }
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

/// Reads the whole body and unpacks it, if it is compressed.
///
/// # Errors
/// As [`read`], also for what it holds unpacked; [`Kind::BadRequest`] when it was not packed
/// so.
pub(super) async fn read_unpacked(
    body: Body,
    compression: Option<Compression>,
    pace: Pace,
    bytes_max: usize,
    room: &mut Room,
) -> Result<Bytes> {
    let packed = read(body, pace, bytes_max, room).await?;
    let Some(compression) = compression else { return Ok(packed) };
    let packed_bytes = packed.len();
    let body = compression.unpack(packed, bytes_max, Some(room)).await?;
    room.shrink(packed_bytes);
    body.ok_or_else(|| too_large(bytes_max))
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

/// The first encoding that the client takes and we can make, in any of its headers; one with
/// weight 0 it does not take. `*` stands for those that are not named.
fn accepted(headers: &HeaderMap) -> Option<Compression> {
    let mut others = false;
    let mut refused = Vec::new();
    let texts = headers.get_all(ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    for part in texts.flat_map(|text| text.split(',')) {
        let mut fields = part.split(';').map(str::trim);
        let name = fields.next().unwrap_or_default();
        let weight = fields.find_map(|field| field.strip_prefix("q=")?.parse::<f32>().ok()).unwrap_or(1.0);
        match (name, Compression::from_name(name)) {
            (_, Some(compression)) if weight > 0.0 => return Some(compression),
            (_, Some(compression)) => refused.push(compression),
            ("*", None) => others = weight > 0.0,
            _ => {}
        }
    }
    let mut left = [Compression::Gzip, Compression::Deflate].into_iter();
    left.find(|compression| others && !refused.contains(compression))
}

/// Room that is made for the rest of a body at once, and by how much more than what has come
/// already: what is announced sizes nothing.
const RESERVED_BYTES_MIN: usize = 64 << 10;
const RESERVED_TIMES: usize = 4;

/// Reads the whole body.
///
/// # Errors
/// [`Kind::TooLarge`] at the crossing of the limit, [`Kind::RequestTimeout`] when it
/// does not arrive in time, [`Kind::BadRequest`] when it breaks off,
/// [`Kind::Overloaded`] when all bodies together are too much.
async fn read(mut body: Body, pace: Pace, bytes_max: usize, room: &mut Room) -> Result<Bytes> {
    let mut first: Option<Bytes> = None;
    let mut rest = BytesMut::new();
    let expected = body.size_hint().exact().and_then(|bytes| usize::try_from(bytes).ok()).unwrap_or(0);
    loop {
        let so_far = first.as_ref().map_or(rest.len(), Bytes::len);
        let frame = tokio::time::timeout_at(pace.deadline(so_far), body.frame()).await;
        let frame = frame.map_err(|_| Error::new(Kind::RequestTimeout, "the body did not arrive in time"))?;
        let Some(frame) = frame else { break };
        let frame = frame.map_err(|_| Error::new(Kind::BadRequest, "the body broke off or is malformed"))?;
        // Trailers carry nothing that we use.
        let Ok(data) = frame.into_data() else { continue };
        if so_far + data.len() > bytes_max {
            refusal::discard_rest(body).await;
            return Err(too_large(bytes_max));
        }
        if let Err(error) = room.grow(data.len()) {
            room.shrink(so_far);
            drop((first, rest));
            refusal::discard_rest(body).await;
            return Err(error);
        }
        // Most bodies come in one piece, which is passed on without a copy.
        if first.is_none() && rest.is_empty() {
            first = Some(data);
            continue;
        }
        let piece = first.take().unwrap_or_default();
        let needed = so_far + data.len();
        if rest.capacity() < needed {
            let ahead = expected.min((needed * RESERVED_TIMES).max(RESERVED_BYTES_MIN));
            rest.reserve(ahead.max(needed) - rest.len());
        }
        rest.extend_from_slice(&piece);
        rest.extend_from_slice(&data);
    }
    Ok(first.unwrap_or_else(|| rest.freeze()))
}

fn too_large(bytes_max: usize) -> Error {
    Error::new(Kind::TooLarge, format!("the body is larger than {bytes_max} bytes"))
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::time::Duration;

    use http_body_util::StreamBody;
    use hyper::body::Frame;
    use tokio::time::Instant;

    use super::*;
    use crate::admission::Admission;

    fn accept(values: &[&'static str]) -> Option<Compression> {
        let pairs = values.iter().map(|value| (ACCEPT_ENCODING, HeaderValue::from_static(value)));
        accepted(&pairs.collect())
    }

    #[test]
    fn every_accept_encoding_is_looked_at() {
        assert_eq!(accept(&[]), None);
        assert_eq!(accept(&["br"]), None);
        assert_eq!(accept(&["br", "deflate, gzip"]), Some(Compression::Deflate));
        assert_eq!(accept(&["br, *"]), Some(Compression::Gzip));
        assert_eq!(accept(&["*;q=0.5, gzip;q=0"]), Some(Compression::Deflate));
        assert_eq!(accept(&["*;q=0"]), None);
    }

    /// A body that says its length, and comes in these pieces.
    struct Announced<B>(B, u64);

    impl<B: hyper::body::Body + Unpin> hyper::body::Body for Announced<B> {
        type Data = B::Data;
        type Error = B::Error;

        fn poll_frame(
            mut self: std::pin::Pin<&mut Self>,
            cx: &mut std::task::Context<'_>,
        ) -> std::task::Poll<Option<std::result::Result<Frame<B::Data>, B::Error>>> {
            std::pin::Pin::new(&mut self.0).poll_frame(cx)
        }

        fn size_hint(&self) -> hyper::body::SizeHint {
            hyper::body::SizeHint::with_exact(self.1)
        }
    }

    fn announced(pieces: &[&'static [u8]], length: u64) -> Body {
        let frames: Vec<_> =
            pieces.iter().map(|piece| Ok::<_, Infallible>(Frame::data(Bytes::from_static(piece)))).collect();
        Body::new(Announced(StreamBody::new(futures_util::stream::iter(frames)), length))
    }

    #[tokio::test]
    async fn a_length_that_is_only_announced_reserves_nothing() {
        let admission = Admission::new(1, 1, 1 << 30);
        let mut room = admission.room();
        let pace = Pace::new(Instant::now(), Duration::from_secs(30));
        let body = announced(&[b"ab", b"cd", b"ef"], 64 << 20);
        let read = read(body, pace, 64 << 20, &mut room).await.expect("whole");
        assert_eq!((&read[..], admission.bytes()), (&b"abcdef"[..], 6));
        let read = read.try_into_mut().expect("nobody else has it");
        assert!(read.capacity() <= RESERVED_BYTES_MIN, "{} bytes were reserved", read.capacity());
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_stands_still_is_given_up_before_its_longest_time() {
        let admission = Admission::new(1, 1, 1 << 30);
        let begun = Instant::now();
        let silent = Body::new(StreamBody::new(futures_util::stream::pending::<
            std::result::Result<Frame<Bytes>, Infallible>,
        >()));
        let pace = Pace::new(begun, Duration::from_secs(30));
        let error = read(silent, pace, 1 << 20, &mut admission.room()).await.expect_err("it never comes");
        assert_eq!(error.kind(), Kind::RequestTimeout);
        assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    }
}
