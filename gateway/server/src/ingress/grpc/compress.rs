//! Compressed messages, both ways. Who sends compressed messages, and takes them, is
//! answered so: nobody else pays for it.

use std::io::{Read, Write};

use bytes::{BufMut, Bytes, BytesMut};
use flate2::read::{MultiGzDecoder, ZlibDecoder};
use flate2::write::{GzEncoder, ZlibEncoder};
use http::{HeaderMap, HeaderName, HeaderValue};

use super::encode::{self, PREFIX_BYTES, Pieces};
use super::wire;
use crate::admission::Permit;
use crate::error::{Error, Kind, Result};

/// How the messages of a request or of an answer are compressed, if they are.
pub(super) const ENCODING: HeaderName = HeaderName::from_static("grpc-encoding");

const ACCEPTED: HeaderName = HeaderName::from_static("grpc-accept-encoding");

/// Bytes that are worked on at a time; after each [`YIELD_STEPS`] of them others get the
/// thread.
const STEP_BYTES: usize = 64 << 10;
const YIELD_STEPS: usize = 8;

/// Answers below this are not compressed: they would hardly be smaller.
const PACKED_BYTES_MIN: usize = 1 << 10;

/// How messages that say they are compressed are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Compression {
    Gzip,
    Deflate,
}

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

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Deflate => "deflate",
        }
    }

    /// Unpacks a message. `None`: it has more than `bytes_max`.
    ///
    /// # Errors
    /// [`Kind::BadRequest`] for what was never packed, [`Kind::Overloaded`] when all
    /// bodies together are too much.
    pub(super) async fn unpack(
        self,
        packed: Bytes,
        bytes_max: usize,
        mut permit: Option<&mut Permit>,
    ) -> Result<Option<Bytes>> {
        let packed = std::io::Cursor::new(packed);
        let mut reader: Box<dyn Read + Send> = match self {
            Self::Gzip => Box::new(MultiGzDecoder::new(packed)),
            Self::Deflate => Box::new(ZlibDecoder::new(packed)),
        };
        let mut whole = BytesMut::new();
        let mut step = vec![0; STEP_BYTES];
        for number in 1.. {
            let read = reader.read(&mut step).map_err(|_| wire::malformed("it cannot be unpacked"))?;
            if read == 0 {
                break;
            }
            if whole.len() + read > bytes_max {
                return Ok(None);
            }
            if let Some(permit) = permit.as_deref_mut() {
                permit.grow(read)?;
            }
            whole.extend_from_slice(step.get(..read).unwrap_or_default());
            if number % YIELD_STEPS == 0 {
                tokio::task::yield_now().await;
            }
        }
        Ok(Some(whole.freeze()))
    }

    /// Packs a message that goes out.
    ///
    /// # Errors
    /// More bytes than a message can have.
    pub(super) async fn pack(self, pieces: Pieces) -> Result<Pieces> {
        if pieces.iter().map(Bytes::len).sum::<usize>() < PACKED_BYTES_MIN {
            return Ok(pieces);
        }
        let mut out = BytesMut::new();
        out.put_bytes(0, PREFIX_BYTES);
        let level = flate2::Compression::fast();
        let packed = match self {
            Self::Gzip => write(pieces, GzEncoder::new(out.writer(), level), GzEncoder::finish).await,
            Self::Deflate => write(pieces, ZlibEncoder::new(out.writer(), level), ZlibEncoder::finish).await,
        };
        // Memory takes everything that is written to it.
        let mut out = packed.map_err(|_| super::internal())?.into_inner();
        let prefix = encode::prefix(true, encode::length(out.len() - PREFIX_BYTES)?);
        out.get_mut(..PREFIX_BYTES).ok_or_else(super::internal)?.copy_from_slice(&prefix);
        Ok(Pieces::from_iter([out.freeze()]))
    }
}

/// Writes everything of a message but its prefix.
async fn write<W: Write, T>(
    pieces: Pieces,
    mut encoder: W,
    finish: impl FnOnce(W) -> std::io::Result<T>,
) -> std::io::Result<T> {
    let (mut skip, mut steps) = (PREFIX_BYTES, 0);
    for mut piece in pieces {
        let skipped = skip.min(piece.len());
        let _ = piece.split_to(skipped);
        skip -= skipped;
        for step in piece.chunks(STEP_BYTES) {
            encoder.write_all(step)?;
            steps += 1;
            if steps % YIELD_STEPS == 0 {
                tokio::task::yield_now().await;
            }
        }
    }
    finish(encoder)
}
