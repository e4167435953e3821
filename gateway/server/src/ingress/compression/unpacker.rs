//! What unpacks a body, a bounded piece of it at a time: also where the piece gives nothing,
//! as empty members and empty blocks do.

use std::io::{BufRead, Cursor, ErrorKind, Read};

use bytes::{Buf as _, Bytes};
use flate2::bufread::{GzDecoder, ZlibDecoder};

use super::{Compression, STEP_BYTES};
use crate::error::{Error, Kind, Result};

/// Most members of a body that is packed with gzip: 400 above. Tools that pack in blocks,
/// of 64 KiB each, make as many of the largest body; an empty member takes 20 bytes to send
/// and some microseconds to read.
pub(super) const MEMBERS_MAX: usize = 1024;

/// The packed bytes, of which so many may be read at a time.
#[derive(Debug, Default)]
struct Source {
    packed: Cursor<Bytes>,
    left: usize,
}

impl Read for Source {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        let read = self.fill_buf()?.read(out)?;
        self.consume(read);
        Ok(read)
    }
}

impl BufRead for Source {
    fn fill_buf(&mut self) -> std::io::Result<&[u8]> {
        if self.left == 0 && self.packed.has_remaining() {
            return Err(ErrorKind::WouldBlock.into());
        }
        let rest = self.packed.fill_buf()?;
        Ok(rest.get(..self.left).unwrap_or(rest))
    }

    fn consume(&mut self, bytes: usize) {
        self.left = self.left.saturating_sub(bytes);
        self.packed.consume(bytes);
    }
}

/// Unpacks in steps.
#[derive(Debug)]
pub(super) struct Unpacker {
    way: Way,
    members: usize,
}

#[derive(Debug)]
enum Way {
    Gzip(Box<GzDecoder<Source>>),
    Deflate(Box<ZlibDecoder<Source>>),
}

impl Unpacker {
    pub(super) fn new(compression: Compression, packed: Bytes) -> Self {
        let source = Source { packed: Cursor::new(packed), left: STEP_BYTES };
        let way = match compression {
            Compression::Gzip => Way::Gzip(Box::new(GzDecoder::new(source))),
            Compression::Deflate => Way::Deflate(Box::new(ZlibDecoder::new(source))),
        };
        Self { way, members: 1 }
    }

    /// The next bytes; none at the end of a member.
    ///
    /// # Errors
    /// [`ErrorKind::WouldBlock`] when a piece has been read: [`Self::go_on`] allows the next
    /// one. Anything else: it is malformed.
    pub(super) fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        match &mut self.way {
            Way::Gzip(decoder) => decoder.read(out),
            Way::Deflate(decoder) => decoder.read(out),
        }
    }

    /// Allows another piece.
    pub(super) fn go_on(&mut self) {
        let source = match &mut self.way {
            Way::Gzip(decoder) => decoder.get_mut(),
            Way::Deflate(decoder) => decoder.get_mut(),
        };
        source.left = STEP_BYTES;
    }

    /// Goes on to the next member, where there is one.
    ///
    /// # Errors
    /// [`Kind::BadRequest`] for too many.
    pub(super) fn next_member(&mut self) -> Result<bool> {
        let Way::Gzip(decoder) = &mut self.way else { return Ok(false) };
        if !decoder.get_ref().packed.has_remaining() {
            return Ok(false);
        }
        self.members += 1;
        if self.members > MEMBERS_MAX {
            let message = format!("a packed body has at most {MEMBERS_MAX} members");
            return Err(Error::new(Kind::BadRequest, message));
        }
        let rest = decoder.reset(Source::default());
        decoder.reset(rest);
        Ok(true)
    }
}
