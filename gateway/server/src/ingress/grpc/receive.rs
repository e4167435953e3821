//! Messages of a request's body: each five bytes that say its length, then itself, perhaps
//! compressed. What comes in one piece is passed on without a copy.

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;

use super::compress::Compression;
use super::encode::PREFIX_BYTES;
use super::wire;
use crate::admission::Permit;
use crate::error::{Error, Kind, Result};

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

    /// The next message; `None` when there are no more. Its bytes are counted for the
    /// permit as they arrive.
    ///
    /// # Errors
    /// [`Kind::TooLarge`] for one that says that it is, or is once unpacked;
    /// [`Kind::BadRequest`] for one that breaks off or is malformed;
    /// [`Kind::Overloaded`] when all bodies together are too much.
    pub(super) async fn next(&mut self, permit: Option<&mut Permit>) -> Result<Option<Bytes>> {
        if !self.arrive().await? {
            return Ok(None);
        }
        let mut permit = permit;
        let prefix = self.take(PREFIX_BYTES, permit.as_deref_mut()).await?;
        let (is_compressed, length) = match *prefix {
            [flag @ 0..=1, a, b, c, d] => (flag == 1, u32::from_be_bytes([a, b, c, d])),
            _ => return Err(wire::malformed("its compression flag is not valid")),
        };
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        if length > self.message_bytes_max {
            return Err(self.too_large());
        }
        let message = self.take(length, permit.as_deref_mut()).await?;
        match (is_compressed, self.compression) {
            (false, _) => Ok(Some(message)),
            (true, Some(compression)) => {
                let unpacked = compression.unpack(message, self.message_bytes_max, permit).await?;
                unpacked.ok_or_else(|| self.too_large()).map(Some)
            }
            (true, None) => Err(wire::malformed("it is compressed, and grpc-encoding does not say how")),
        }
    }

    /// The next so many bytes of the body.
    async fn take(&mut self, length: usize, mut permit: Option<&mut Permit>) -> Result<Bytes> {
        if let Some(permit) = permit.as_deref_mut() {
            permit.grow(length.min(self.ahead.len()))?;
        }
        if self.ahead.len() >= length {
            return Ok(self.ahead.split_to(length));
        }
        // Room for what has come, and not for what is announced.
        let mut whole = BytesMut::from(&*std::mem::take(&mut self.ahead));
        while whole.len() < length {
            if !self.arrive().await? {
                return Err(wire::malformed("it is shorter than its prefix says"));
            }
            let piece = self.ahead.split_to(self.ahead.len().min(length - whole.len()));
            if let Some(permit) = permit.as_deref_mut() {
                permit.grow(piece.len())?;
            }
            whole.extend_from_slice(&piece);
        }
        Ok(whole.freeze())
    }

    fn too_large(&self) -> Error {
        Error::new(Kind::TooLarge, format!("the message is larger than {} bytes", self.message_bytes_max))
    }
}
