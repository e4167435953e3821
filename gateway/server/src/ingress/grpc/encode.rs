//! `ModelInferResponse`, from tensors to the wire. Large tensors are not copied: they go
//! out as pieces of their own behind what describes them.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use sluice_tensor::NamedTensor;
use smallvec::SmallVec;

use super::wire::{Writer, varint_bytes};
use crate::error::{Error, Kind, Result};

/// Bytes before every message: whether it is compressed, and its length.
pub(super) const PREFIX_BYTES: usize = 5;

/// Room in front of a response for its prefix and, in a stream, for the field that it
/// stands in: a key and a length.
const ROOM_BYTES: usize = PREFIX_BYTES + 11;

/// A tensor above this many bytes goes out as it lies in the engine's output; below, a
/// copy costs less than one more frame on the connection.
const COPIED_BYTES_MAX: usize = 8 << 10;

/// A message as it goes out, in pieces, with its prefix.
pub(super) type Pieces = SmallVec<[Bytes; 2]>;

/// What a response says.
pub(super) struct Response<'a> {
    pub(super) model: &'a str,
    pub(super) version: &'a str,
    pub(super) id: &'a str,
    pub(super) outputs: &'a [NamedTensor],
    /// Which of them are in shared memory already, by their index; nothing where none is.
    pub(super) in_memory: &'a [bool],
    /// In a stream: whether nothing more comes for the request. `None` is a response
    /// outside of a stream.
    pub(super) is_final: Option<bool>,
}

impl Response<'_> {
    /// Writes it. In a stream it is wrapped in a `ModelStreamInferResponse`.
    ///
    /// # Errors
    /// More bytes than a message can have.
    pub(super) fn encode(&self) -> Result<Pieces> {
        let mut head = BytesMut::with_capacity(ROOM_BYTES + 256 + self.copied_bytes());
        head.put_bytes(0, ROOM_BYTES);
        let mut writer = Writer(&mut head);
        writer.text(1, self.model);
        writer.text(2, self.version);
        writer.text(3, self.id);
        if let Some(is_final) = self.is_final {
            writer.message(4, |entry| {
                entry.text(1, "triton_final_response");
                entry.message(2, |value| value.varint(1, u64::from(is_final)));
            });
        }
        for output in self.outputs {
            writer.message(5, |tensor| describe(tensor, output));
        }
        let mut pieces = Pieces::new();
        let mut before = 0;
        for (index, output) in self.outputs.iter().enumerate() {
            // Clients count the entries: one that is elsewhere has an empty one.
            let is_elsewhere = self.in_memory.get(index) == Some(&true);
            let data = if is_elsewhere { Bytes::new() } else { output.tensor.to_dense() };
            let mut writer = Writer(&mut head);
            if data.len() <= COPIED_BYTES_MAX {
                writer.bytes(6, &data);
            } else {
                writer.head(6, data.len());
                let described = head.split().freeze();
                before += described.len() + data.len();
                pieces.extend([described, data]);
            }
        }
        let length = before + head.len() - ROOM_BYTES;
        if !head.is_empty() {
            pieces.push(head.freeze());
        }
        if let Some(first) = pieces.first_mut() {
            *first = finish(std::mem::take(first), length, self.is_final.is_some())?;
        }
        Ok(pieces)
    }

    fn copied_bytes(&self) -> usize {
        let bytes = self.outputs.iter().map(|output| output.tensor.byte_len());
        bytes.filter(|bytes| *bytes <= COPIED_BYTES_MAX).sum()
    }
}

fn describe(out: &mut Writer<'_>, output: &NamedTensor) {
    out.text(1, &output.name);
    out.text(2, output.tensor.dtype().name());
    let dims = output.tensor.shape().dims();
    if !dims.is_empty() {
        out.head(3, dims.iter().map(|dim| varint_bytes(*dim as u64)).sum());
        dims.iter().for_each(|dim| out.raw_varint(*dim as u64));
    }
}

/// Fills the room in front of a response of this length.
fn finish(first: Bytes, length: usize, is_wrapped: bool) -> Result<Bytes> {
    // Nobody else has it: it was frozen a moment ago.
    let mut first = first.try_into_mut().unwrap_or_else(|shared| BytesMut::from(&*shared));
    let mut front = BytesMut::with_capacity(ROOM_BYTES);
    if is_wrapped {
        Writer(&mut front).head(2, length);
    }
    let message = self::length(length + front.len())?;
    let start = ROOM_BYTES - front.len() - PREFIX_BYTES;
    first[start + PREFIX_BYTES..ROOM_BYTES].copy_from_slice(&front);
    first[start..start + PREFIX_BYTES].copy_from_slice(&prefix(false, message));
    first.advance(start);
    Ok(first.freeze())
}

/// What stands before a message.
pub(super) fn prefix(is_compressed: bool, length: u32) -> [u8; PREFIX_BYTES] {
    let [a, b, c, d] = length.to_be_bytes();
    [u8::from(is_compressed), a, b, c, d]
}

/// A message that is written already, with its prefix.
///
/// # Errors
/// More bytes than a message can have.
pub(super) fn whole(message: &[u8]) -> Result<Pieces> {
    let mut out = BytesMut::with_capacity(PREFIX_BYTES + message.len());
    out.put_slice(&prefix(false, length(message.len())?));
    out.put_slice(message);
    Ok(Pieces::from_iter([out.freeze()]))
}

/// The length of a message, as its prefix has it.
///
/// # Errors
/// More bytes than a message can have.
pub(super) fn length(bytes: usize) -> Result<u32> {
    u32::try_from(bytes).map_err(|_| Error::new(Kind::Internal, "the answer is larger than a message can be"))
}

/// `ModelStreamInferResponse` of a request that failed.
pub(super) fn stream_error(message: &str, id: &str) -> Result<Pieces> {
    let mut out = BytesMut::with_capacity(64 + message.len() + id.len());
    out.put_bytes(0, PREFIX_BYTES);
    let mut writer = Writer(&mut out);
    writer.text(1, message);
    // The id says which of the stream's requests it was.
    writer.message(2, |response| response.text(3, id));
    let length = length(out.len() - PREFIX_BYTES)?;
    out[..PREFIX_BYTES].copy_from_slice(&prefix(false, length));
    Ok(Pieces::from_iter([out.freeze()]))
}
