//! The elements of a BYTES tensor: a little-endian `u32` length, then the bytes.

use bytes::{BufMut, Bytes, BytesMut};

use crate::TensorError;

/// Walks the elements of a BYTES tensor whose framing was checked.
#[derive(Debug, Clone)]
pub struct Strings<'a> {
    rest: &'a [u8],
}

impl<'a> Strings<'a> {
    pub(crate) fn new(data: &'a [u8]) -> Self {
        Self { rest: data }
    }
}

impl<'a> Iterator for Strings<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let (element, rest) = split(self.rest)?;
        self.rest = rest;
        Some(element)
    }
}

/// Bytes of the length before each element.
pub(crate) const PREFIX_BYTES: usize = 4;

fn split(data: &[u8]) -> Option<(&[u8], &[u8])> {
    let (prefix, rest) = data.split_first_chunk::<PREFIX_BYTES>()?;
    let length = usize::try_from(u32::from_le_bytes(*prefix)).ok()?;
    rest.split_at_checked(length)
}

/// Checks that `data` holds exactly `elements` elements.
pub(crate) fn check(data: &[u8], elements: usize) -> Result<(), TensorError> {
    let mut rest = data;
    for _ in 0..elements {
        rest = split(rest).ok_or(TensorError::Framing("an element reaches past the end"))?.1;
    }
    if rest.is_empty() { Ok(()) } else { Err(TensorError::Framing("bytes are left after the last element")) }
}

/// The byte range of the elements `start..start + count`.
pub(crate) fn range(data: &[u8], start: usize, count: usize) -> Option<std::ops::Range<usize>> {
    let skip = |mut rest: &[u8], count: usize| {
        let before = rest.len();
        for _ in 0..count {
            rest = split(rest)?.1;
        }
        Some(before - rest.len())
    };
    let from = skip(data, start)?;
    let length = skip(&data[from..], count)?;
    Some(from..from + length)
}

/// Frames elements, each behind its length.
pub(crate) fn frame<'a>(elements: impl Iterator<Item = &'a [u8]>) -> Result<Bytes, TensorError> {
    let mut out = BytesMut::new();
    for element in elements {
        out.put_u32_le(u32::try_from(element.len()).map_err(|_| TensorError::Overflow)?);
        out.put_slice(element);
    }
    Ok(out.freeze())
}
