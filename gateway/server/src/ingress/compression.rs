//! Compressed bodies and messages, both ways: gzip and deflate (zlib), bounded, in steps.

mod unpacker;

use std::io::{ErrorKind, Write};

use bytes::{BufMut, Bytes, BytesMut};
use flate2::write::{GzEncoder, ZlibEncoder};

use self::unpacker::Unpacker;
use crate::admission::Room;
use crate::error::{Error, Kind, Result};

/// Bytes that are worked on at a time; after each [`YIELD_STEPS`] of them others get the
/// thread.
const STEP_BYTES: usize = 64 << 10;
const YIELD_STEPS: usize = 8;

/// Bytes that a look at a packed message gives.
const PEEKED_BYTES: usize = 1 << 10;

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
        mut room: Option<&mut Room>,
    ) -> Result<Option<Bytes>> {
        let fault =
            |_| Error::new(Kind::BadRequest, format!("it is no {} data, or was cut off", self.name()));
        let mut unpacker = Unpacker::new(self, packed);
        let mut whole = BytesMut::new();
        let mut step = vec![0; STEP_BYTES];
        for number in 1.. {
            match unpacker.read(&mut step) {
                Ok(0) if !unpacker.next_member()? => break,
                Ok(read) => {
                    if whole.len() + read > bytes_max {
                        return Ok(None);
                    }
                    if let Some(room) = room.as_deref_mut() {
                        room.grow(read)?;
                    }
                    whole.extend_from_slice(step.get(..read).unwrap_or_default());
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => unpacker.go_on(),
                Err(error) => return Err(fault(error)),
            }
            if number % YIELD_STEPS == 0 {
                tokio::task::yield_now().await;
            }
        }
        Ok(Some(whole.freeze()))
    }

    /// The beginning of what is packed, as much of it as one step gives: for a look at a
    /// message that is not read.
    pub(super) fn peek(self, packed: Bytes) -> Bytes {
        let mut step = BytesMut::zeroed(PEEKED_BYTES);
        let read = Unpacker::new(self, packed).read(&mut step).unwrap_or(0);
        step.truncate(read);
        step.freeze()
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
    use super::unpacker::MEMBERS_MAX;
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

    /// So many bytes of gzip members that hold nothing.
    fn empty_members(count: usize) -> Bytes {
        let empty = GzEncoder::new(Vec::new(), flate2::Compression::fast()).finish().expect("packs");
        empty.repeat(count).into()
    }

    #[tokio::test]
    async fn a_body_of_several_members_is_read_and_one_of_too_many_is_refused() {
        let way = Compression::Gzip;
        let part = way.pack([Bytes::from_static(b"part")], BytesMut::new()).await.expect("packs");
        let both = [&part[..], &empty_members(MEMBERS_MAX - 2), &part[..]].concat();
        assert_eq!(way.unpack(both.into(), 8, None).await.expect("valid"), Some("partpart".into()));
        let error = way.unpack(empty_members(MEMBERS_MAX + 1), 8, None).await.expect_err("too many");
        assert_eq!(error.kind(), Kind::BadRequest);
    }

    /// Polls that others get while this is unpacked.
    async fn yields(way: Compression, packed: Bytes) -> usize {
        let mut unpacking = std::pin::pin!(way.unpack(packed, 1 << 20, None));
        let mut polls = 0;
        let unpacked = std::future::poll_fn(|cx| {
            polls += 1;
            unpacking.as_mut().poll(cx)
        });
        let _ = unpacked.await;
        polls
    }

    #[tokio::test]
    async fn what_unpacks_to_nothing_still_lets_others_have_the_thread() {
        assert!(yields(Compression::Gzip, empty_members(1 << 16)).await > MEMBERS_MAX / 16);
        // Stored blocks of no bytes, of which the last never comes.
        let blocks = [&[0x78, 0x01][..], &[0, 0, 0, 0xff, 0xff].repeat(1 << 20)].concat();
        assert!(yields(Compression::Deflate, blocks.into()).await >= 8);
    }

    #[tokio::test]
    async fn the_beginning_of_a_packed_message_can_be_looked_at() {
        let text = Bytes::from("sluice ".repeat(1000));
        for way in [Compression::Gzip, Compression::Deflate] {
            let packed = way.pack([text.clone()], BytesMut::new()).await.expect("packs").freeze();
            let cut = packed.slice(..packed.len() - 9);
            assert!(way.peek(cut).starts_with(b"sluice sluice"));
            assert!(way.peek(Bytes::from_static(b"no such data")).is_empty());
        }
    }
}
