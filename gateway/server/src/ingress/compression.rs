//! Compressed bodies and messages, both ways: gzip and deflate (zlib), bounded, in steps.

use std::io::{Read, Write};

use bytes::{BufMut, Bytes, BytesMut};
use flate2::read::{MultiGzDecoder, ZlibDecoder};
use flate2::write::{GzEncoder, ZlibEncoder};

use crate::admission::Permit;
use crate::error::{Error, Kind, Result};

/// Bytes that are worked on at a time; after each [`YIELD_STEPS`] of them others get the
/// thread.
const STEP_BYTES: usize = 64 << 10;
const YIELD_STEPS: usize = 8;

/// Answers below this are not compressed: they would hardly be smaller.
pub(super) const PACKED_BYTES_MIN: usize = 1 << 10;

/// How something is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Compression {
    /// RFC 1952.
    Gzip,
    /// RFC 1950, as HTTP means it.
    Deflate,
}

impl Compression {
    /// Its name in headers.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Deflate => "deflate",
        }
    }

    /// The compression of that name.
    pub(super) fn from_name(name: &str) -> Option<Self> {
        [Self::Gzip, Self::Deflate].into_iter().find(|one| one.name().eq_ignore_ascii_case(name))
    }

    /// Unpacks. `None`: it has more than `bytes_max`. Cancel-safe.
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
        let fault =
            |_| Error::new(Kind::BadRequest, format!("it is no {} data, or was cut off", self.name()));
        let mut whole = BytesMut::new();
        let mut step = vec![0; STEP_BYTES];
        for number in 1.. {
            let read = reader.read(&mut step).map_err(fault)?;
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

    /// Packs the pieces, one behind the other, behind what `out` holds already.
    ///
    /// # Errors
    /// None that memory could give.
    pub(super) async fn pack(
        self,
        pieces: impl IntoIterator<Item = Bytes>,
        out: BytesMut,
    ) -> Result<BytesMut> {
        let level = flate2::Compression::fast();
        let pieces = pieces.into_iter();
        let packed = match self {
            Self::Gzip => write(pieces, GzEncoder::new(out.writer(), level), GzEncoder::finish).await,
            Self::Deflate => write(pieces, ZlibEncoder::new(out.writer(), level), ZlibEncoder::finish).await,
        };
        let out = packed.map_err(|error| {
            Error::new(Kind::Internal, "internal error").with_detail(format!("cannot compress: {error}"))
        })?;
        Ok(out.into_inner())
    }
}

async fn write<W: Write, T>(
    pieces: impl Iterator<Item = Bytes>,
    mut encoder: W,
    finish: impl FnOnce(W) -> std::io::Result<T>,
) -> std::io::Result<T> {
    let mut steps = 0;
    for piece in pieces {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_packed_comes_back_and_never_more_than_allowed() {
        let text = Bytes::from("sluice ".repeat(100_000));
        for way in [Compression::Gzip, Compression::Deflate] {
            assert_eq!(Compression::from_name(way.name()), Some(way));
            let pieces = [text.slice(..9), text.slice(9..)];
            let packed = way.pack(pieces, BytesMut::new()).await.expect("packs").freeze();
            assert!(packed.len() < text.len() / 50);
            let unpack = |bytes_max| way.unpack(packed.clone(), bytes_max, None);
            assert_eq!(unpack(text.len()).await.expect("valid"), Some(text.clone()));
            assert_eq!(unpack(text.len() - 1).await.expect("valid"), None, "one byte too many");
            let cut = packed.slice(..packed.len() / 2);
            assert!(way.unpack(cut, text.len(), None).await.is_err());
        }
    }
}
