//! Messages of a request's body: each five bytes that say its length, then itself, perhaps
//! compressed. What comes in one piece is passed on without a copy.

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use tokio::time::Instant;

use super::compress::Compression;
use super::encode::PREFIX_BYTES;
use super::wire;
use crate::admission::Room;
use crate::error::{Error, Kind, Result};
use crate::ingress::pace::Pace;

/// Bytes of a message that are kept of one that is not read: its id comes before its data.
const KEPT_BYTES_MAX: usize = 1 << 10;

/// A request's messages, one after the other.
pub(super) struct Messages {
    body: Incoming,
    /// What has arrived and was not taken yet.
    ahead: Bytes,
    compression: Option<Compression>,
    message_bytes_max: usize,
}

impl Messages {
    pub(super) fn new(body: Incoming, compression: Option<Compression>, message_bytes_max: usize) -> Self {
        Self { body, ahead: Bytes::new(), compression, message_bytes_max }
    }

    /// Waits until something has arrived that was not taken yet. False at the end.
    async fn arrive(&mut self) -> Result<bool> {
        while self.ahead.is_empty() {
            let Some(frame) = self.body.frame().await else { return Ok(false) };
            let frame = frame.map_err(|_| Error::new(Kind::BadRequest, "the request broke off"))?;
            // Trailers of a request carry nothing that we use.
            self.ahead = frame.into_data().unwrap_or_default();
        }
        Ok(true)
    }

    /// Whether nothing more comes.
    ///
    /// # Errors
    /// The request broke off.
    pub(super) async fn is_at_end(&mut self) -> Result<bool> {
        Ok(!self.arrive().await?)
    }

    /// The next message; `None` when there are no more. Its bytes are counted as they
    /// arrive.
    ///
    /// # Errors
    /// [`Kind::TooLarge`] for one that says that it is, or is once unpacked;
    /// [`Kind::BadRequest`] for one that breaks off or is malformed;
    /// [`Kind::RequestTimeout`] for one that comes too slowly;
    /// [`Kind::Overloaded`] when all bodies together are too much.
    pub(super) async fn next(&mut self, mut room: Option<&mut Room>, pace: Pace) -> Result<Option<Bytes>> {
        if !self.arrive_by(pace.deadline(0)).await? {
            return Ok(None);
        }
        let (is_compressed, length) = self.prefix(room.as_deref_mut(), pace).await?;
        let message = self.take(length, room.as_deref_mut(), pace).await?;
        match (is_compressed, self.compression) {
            (false, _) => Ok(Some(message)),
            (true, Some(compression)) => {
                let packed_bytes = message.len();
                let unpacked =
                    compression.unpack(message, self.message_bytes_max, room.as_deref_mut()).await?;
                if let Some(room) = room {
                    room.shrink(packed_bytes);
                }
                unpacked.ok_or_else(|| self.too_large()).map(Some)
            }
            (true, None) => Err(wire::malformed("it is compressed, and grpc-encoding does not say how")),
        }
    }

    /// Reads past the next message, of which only the beginning is kept: for one that is
    /// refused, but whose id is to be said.
    ///
    /// # Errors
    /// As [`Self::next`], but for what it holds.
    pub(super) async fn skip(&mut self, pace: Pace) -> Result<Bytes> {
        let (is_compressed, length) = self.prefix(None, pace).await?;
        let (mut seen, mut kept) = (0, BytesMut::new());
        while seen < length {
            let piece = self.piece(length, seen, pace).await?;
            seen += piece.len();
            let wanted = piece.len().min(KEPT_BYTES_MAX - kept.len());
            kept.extend_from_slice(piece.get(..wanted).unwrap_or_default());
        }
        let kept = kept.freeze();
        Ok(match self.compression {
            Some(compression) if is_compressed => compression.peek(kept),
            _ => kept,
        })
    }

    /// What stands before a message: whether it is compressed, and its length.
    async fn prefix(&mut self, room: Option<&mut Room>, pace: Pace) -> Result<(bool, usize)> {
        let prefix = self.take(PREFIX_BYTES, room, pace).await?;
        let (is_compressed, length) = match *prefix {
            [flag @ 0..=1, a, b, c, d] => (flag == 1, u32::from_be_bytes([a, b, c, d])),
            _ => return Err(wire::malformed("its compression flag is not valid")),
        };
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        if length > self.message_bytes_max { Err(self.too_large()) } else { Ok((is_compressed, length)) }
    }

    /// The next so many bytes of the body.
    async fn take(&mut self, length: usize, mut room: Option<&mut Room>, pace: Pace) -> Result<Bytes> {
        if let Some(room) = room.as_deref_mut() {
            room.grow(length.min(self.ahead.len()))?;
        }
        if self.ahead.len() >= length {
            return Ok(self.ahead.split_to(length));
        }
        // Room for what has come, and not for what is announced.
        let mut whole = BytesMut::from(&*std::mem::take(&mut self.ahead));
        while whole.len() < length {
            let piece = self.piece(length, whole.len(), pace).await?;
            if let Some(room) = room.as_deref_mut() {
                room.grow(piece.len())?;
            }
            whole.extend_from_slice(&piece);
        }
        Ok(whole.freeze())
    }

    /// More of something that has `length` bytes, of which so many are there.
    async fn piece(&mut self, length: usize, so_far: usize, pace: Pace) -> Result<Bytes> {
        if !self.arrive_by(pace.deadline(so_far)).await? {
            return Err(wire::malformed("it is shorter than its prefix says"));
        }
        Ok(self.ahead.split_to(self.ahead.len().min(length - so_far)))
    }

    /// As [`Self::arrive`], in time.
    async fn arrive_by(&mut self, deadline: Instant) -> Result<bool> {
        let late = |_| Error::new(Kind::RequestTimeout, "the message did not arrive in time");
        tokio::time::timeout_at(deadline, self.arrive()).await.map_err(late)?
    }

    fn too_large(&self) -> Error {
        Error::new(Kind::TooLarge, format!("the message is larger than {} bytes", self.message_bytes_max))
    }
}
