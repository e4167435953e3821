//! The wire format of protocol buffers, read and written field by field. Inference
//! messages go through here and not through types that are made for them: a few bytes
//! of a message can stand for a large value, so what is read is bounded as it is read;
//! and tensors are slices of the message, never copies.

use bytes::{BufMut, Bytes, BytesMut};

use crate::error::{Error, Kind, Result};

/// Most bytes of a varint.
const VARINT_BYTES_MAX: usize = 10;

/// One field's value as the wire has it.
#[derive(Debug, Clone)]
pub(super) enum Value {
    /// An integer or a truth value.
    Varint(u64),
    /// Eight bytes, little-endian.
    Fixed64(u64),
    /// A string, bytes, a message, or packed numbers.
    Bytes(Bytes),
    /// Four bytes, little-endian.
    Fixed32(u32),
}

/// What every malformed message is called.
pub(super) fn malformed(what: &str) -> Error {
    Error::new(Kind::BadRequest, format!("the message is malformed: {what}"))
}

impl Value {
    /// The bytes of a message, of packed numbers, of `bytes`.
    ///
    /// # Errors
    /// Another type of field.
    pub(super) fn bytes(self) -> Result<Bytes> {
        match self {
            Self::Bytes(bytes) => Ok(bytes),
            _ => Err(malformed("a field has another type")),
        }
    }

    /// A string.
    ///
    /// # Errors
    /// Another type of field, or no UTF-8.
    pub(super) fn text(self) -> Result<Text> {
        let bytes = self.bytes()?;
        match std::str::from_utf8(&bytes) {
            Ok(_) => Ok(Text(bytes)),
            Err(_) => Err(malformed("a string is not UTF-8")),
        }
    }

    /// An integer or a truth value.
    ///
    /// # Errors
    /// Another type of field.
    pub(super) fn varint(self) -> Result<u64> {
        match self {
            Self::Varint(value) => Ok(value),
            _ => Err(malformed("a field has another type")),
        }
    }
}

/// A string that is a slice of the message.
#[derive(Debug, Clone, Default)]
pub(super) struct Text(Bytes);

impl std::ops::Deref for Text {
    type Target = str;

    fn deref(&self) -> &str {
        // It was checked when it was made.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

/// The fields of a message, one after the other.
#[derive(Debug, Clone)]
pub(super) struct Fields(pub(super) Bytes);

impl Fields {
    /// The next field: its number and its value.
    ///
    /// # Errors
    /// The message is malformed there.
    pub(super) fn next(&mut self) -> Result<Option<(u64, Value)>> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let key = self.varint()?;
        let (number, kind) = (key >> 3, key & 7);
        if number == 0 || key > u64::from(u32::MAX) {
            return Err(malformed("a field's number is not valid"));
        }
        let value = match kind {
            0 => Value::Varint(self.varint()?),
            1 => Value::Fixed64(u64::from_le_bytes(self.array()?)),
            2 => {
                let length = usize::try_from(self.varint()?).unwrap_or(usize::MAX);
                Value::Bytes(self.take(length)?)
            }
            5 => Value::Fixed32(u32::from_le_bytes(self.array()?)),
            // Groups have been gone for longer than this service exists.
            _ => return Err(malformed("a field has an unknown type")),
        };
        Ok(Some((number, value)))
    }

    /// A packed varint.
    ///
    /// # Errors
    /// It is cut short or too long.
    pub(super) fn varint(&mut self) -> Result<u64> {
        let (value, length) = varint(&self.0)?;
        let _ = self.0.split_to(length);
        Ok(value)
    }

    fn take(&mut self, length: usize) -> Result<Bytes> {
        if length > self.0.len() {
            return Err(malformed("a field reaches past the end"));
        }
        Ok(self.0.split_to(length))
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let bytes = self.take(N)?;
        bytes.first_chunk().copied().ok_or_else(|| malformed("a field reaches past the end"))
    }
}

/// The varint at the start of `data`, and how many bytes it takes.
pub(super) fn varint(data: &[u8]) -> Result<(u64, usize)> {
    let mut value = 0_u64;
    for (index, byte) in data.iter().take(VARINT_BYTES_MAX).enumerate() {
        // The tenth byte has room for one bit; more is dropped, as everybody does.
        value |= u64::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            return Ok((value, index + 1));
        }
    }
    Err(malformed("a number is cut short or too long"))
}

/// Bytes that a varint takes.
pub(super) fn varint_bytes(value: u64) -> usize {
    let bits = 64 - (value | 1).leading_zeros();
    usize::try_from(bits.div_ceil(7)).unwrap_or(VARINT_BYTES_MAX)
}

/// Writes the fields of a message.
pub(super) struct Writer<'a>(pub(super) &'a mut BytesMut);

impl Writer<'_> {
    /// A varint without a key.
    pub(super) fn raw_varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            // The low seven bits, and that there are more.
            self.0.put_u8(u8::try_from(value & 0x7f).unwrap_or(0) | 0x80);
            value >>= 7;
        }
        self.0.put_u8(u8::try_from(value).unwrap_or(0));
    }

    fn key(&mut self, number: u32, kind: u64) {
        self.raw_varint(u64::from(number) << 3 | kind);
    }

    /// An integer or a truth value, also if it is 0.
    pub(super) fn varint(&mut self, number: u32, value: u64) {
        self.key(number, 0);
        self.raw_varint(value);
    }

    /// A double.
    pub(super) fn double(&mut self, number: u32, value: f64) {
        self.key(number, 1);
        self.0.put_u64_le(value.to_bits());
    }

    /// A float.
    pub(super) fn float(&mut self, number: u32, value: f32) {
        self.key(number, 5);
        self.0.put_u32_le(value.to_bits());
    }

    /// A string, bytes, or a message that is written already.
    pub(super) fn bytes(&mut self, number: u32, value: &[u8]) {
        self.head(number, value.len());
        self.0.put_slice(value);
    }

    /// A string, if it is not empty.
    pub(super) fn text(&mut self, number: u32, value: &str) {
        if !value.is_empty() {
            self.bytes(number, value.as_bytes());
        }
    }

    /// What stands before `length` bytes that come next.
    pub(super) fn head(&mut self, number: u32, length: usize) {
        self.key(number, 2);
        self.raw_varint(length as u64);
    }

    /// A message whose length is known only when it is written. Short ones, of less than
    /// 128 bytes, are written in place.
    pub(super) fn message(&mut self, number: u32, write: impl FnOnce(&mut Writer<'_>)) {
        self.key(number, 2);
        let start = self.0.len();
        self.0.put_u8(0);
        write(self);
        let length = self.0.len() - start - 1;
        match u8::try_from(length) {
            Ok(short @ 0..0x80) => self.0[start] = short,
            _ => {
                // The length takes more room than was left for it: the rest moves.
                let extra = varint_bytes(length as u64) - 1;
                self.0.put_bytes(0, extra);
                let end = self.0.len();
                self.0.copy_within(start + 1..end - extra, start + 1 + extra);
                let mut head = BytesMut::with_capacity(VARINT_BYTES_MAX);
                Writer(&mut head).raw_varint(length as u64);
                self.0[start..start + 1 + extra].copy_from_slice(&head);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_cut_short_or_odd_is_refused() {
        for bad in [
            &[0x08][..],      // no value
            &[0x0a, 5, b'a'], // longer than the message
            &[0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1],
            &[0x0b],          // a group
            &[0x0f],          // no such type
            &[0x00, 0],       // number 0
            &[0x0d, 1, 2, 3], // four bytes of which one is missing
            &[0x80; 11],      // a number without an end
        ] {
            let mut fields = Fields(Bytes::copy_from_slice(bad));
            assert_eq!(fields.next().expect_err("malformed").kind(), Kind::BadRequest, "{bad:?}");
        }
        let mut fields = Fields(Bytes::from_static(&[0x0a, 1, 0xff]));
        let (_, value) = fields.next().expect("well-formed").expect("a field");
        assert!(value.text().is_err(), "no UTF-8");
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(number in 1..1_000_u32, value: u64, data in proptest::collection::vec(any::<u8>(), 0..400)) {
            let mut out = BytesMut::new();
            let mut writer = Writer(&mut out);
            writer.varint(number, value);
            writer.message(number, |inner| inner.bytes(7, &data));
            writer.double(number, 1.5);
            prop_assert_eq!(varint_bytes(value), { let mut out = BytesMut::new(); Writer(&mut out).raw_varint(value); out.len() });
            let mut fields = Fields(out.freeze());
            let (read, first) = fields.next().expect("well-formed").expect("a field");
            prop_assert_eq!((read, first.varint().expect("a number")), (u64::from(number), value));
            let (_, second) = fields.next().expect("well-formed").expect("a field");
            let mut inner = Fields(second.bytes().expect("a message"));
            let (_, inner) = inner.next().expect("well-formed").expect("a field");
            prop_assert_eq!(inner.bytes().expect("bytes"), data);
            let (_, third) = fields.next().expect("well-formed").expect("a field");
            prop_assert!(matches!(third, Value::Fixed64(bits) if f64::from_bits(bits) == 1.5));
            prop_assert!(fields.next().expect("well-formed").is_none());
        }
    }
}
