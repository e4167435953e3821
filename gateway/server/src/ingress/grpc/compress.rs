//! Compressed messages, both ways. Who sends compressed messages, and takes them, is
//! answered so: nobody else pays for it.

use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue};

use super::encode::{self, PREFIX_BYTES, Pieces};
use crate::error::{Error, Kind, Result};
pub(super) use crate::ingress::compression::Compression;
use crate::ingress::compression::PACKED_BYTES_MIN;

/// How the messages of a request or of an answer are compressed, if they are.
pub(super) const ENCODING: HeaderName = HeaderName::from_static("grpc-encoding");

/// How messages of the other side may be compressed.
pub(super) const ACCEPTED: HeaderName = HeaderName::from_static("grpc-accept-encoding");

/// What is said to whoever compresses otherwise.
pub(super) const SERVED: HeaderValue = HeaderValue::from_static("identity, gzip, deflate");

impl Compression {
    /// What a request says of its messages.
    ///
    /// # Errors
    /// A way that nobody here knows.
    pub(super) fn of(headers: &HeaderMap) -> Result<Option<Self>> {
        match headers.get(ENCODING).map(HeaderValue::as_bytes) {
            None | Some(b"identity") => Ok(None),
            Some(b"gzip") => Ok(Some(Self::Gzip)),
            Some(b"deflate") => Ok(Some(Self::Deflate)),
            Some(_) => Err(Error::new(
                Kind::UnsupportedMedia,
                "this grpc-encoding is not supported: use identity, gzip or deflate",
            )),
        }
    }

    /// The same, if the client takes it too.
    pub(super) fn of_answer(self, headers: &HeaderMap) -> Option<Self> {
        let accepted = headers.get(ACCEPTED)?.to_str().ok()?;
        accepted.split(',').any(|one| one.trim() == self.name()).then_some(self)
    }

    /// Packs a message that goes out.
    ///
    /// # Errors
    /// More bytes than a message can have.
    pub(super) async fn pack_message(self, pieces: Pieces) -> Result<Pieces> {
        if pieces.iter().map(Bytes::len).sum::<usize>() < PACKED_BYTES_MIN {
            return Ok(pieces);
        }
        let mut out = BytesMut::new();
        out.put_bytes(0, PREFIX_BYTES);
        let mut skip = PREFIX_BYTES;
        let behind_prefix = pieces.into_iter().map(|mut piece| {
            let skipped = skip.min(piece.len());
            skip -= skipped;
            piece.split_off(skipped)
        });
        let mut out = self.pack(behind_prefix.collect::<Pieces>(), out).await?;
        let prefix = encode::prefix(true, encode::length(out.len() - PREFIX_BYTES)?);
        out.get_mut(..PREFIX_BYTES).ok_or_else(super::internal)?.copy_from_slice(&prefix);
        Ok(Pieces::from_iter([out.freeze()]))
    }
}
