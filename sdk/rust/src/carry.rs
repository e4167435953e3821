//! What travels from a request's preprocessor to its postprocessor.

use serde::Deserialize;

use crate::{Error, Result};

/// What the preprocessor of the same request left; empty without one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Carry(Vec<u8>);

impl Carry {
    /// A carry from its bytes.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Self {
        Self(bytes.into())
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// The carry read as JSON: the counterpart of
    /// [`Inputs::carry_json`](crate::Inputs::carry_json).
    ///
    /// # Errors
    /// 500: the two plugins of the pipeline do not fit each other.
    pub fn json<'a, T: Deserialize<'a>>(&'a self) -> Result<T> {
        serde_json::from_slice(&self.0).map_err(|error| misfit(&error.to_string()))
    }

    /// The carry read part by part: the counterpart of [`CarryWriter`].
    pub fn reader(&self) -> CarryReader<'_> {
        CarryReader { rest: &self.0 }
    }
}

fn misfit(what: &str) -> Error {
    Error::internal(format!("the carry does not fit: {what}"))
}

/// Writes a carry of a few parts in a compact form, where JSON would cost more than
/// the work itself. Parts have no names: read them in the order of writing.
#[derive(Debug, Clone, Default)]
pub struct CarryWriter(Vec<u8>);

impl CarryWriter {
    /// An empty carry with room for so many bytes.
    pub fn with_capacity(bytes: usize) -> Self {
        Self(Vec::with_capacity(bytes))
    }

    /// A number.
    pub fn u32(&mut self, number: u32) -> &mut Self {
        self.0.extend_from_slice(&number.to_le_bytes());
        self
    }

    /// A text of less than 4 GiB.
    ///
    /// # Panics
    /// On a longer one, which no sandbox can hold.
    pub fn str(&mut self, text: &str) -> &mut Self {
        self.u32(u32::try_from(text.len()).expect("a text is shorter than 4 GiB"));
        self.0.extend_from_slice(text.as_bytes());
        self
    }

    /// The carry.
    pub fn finish(self) -> Vec<u8> {
        self.0
    }
}

/// Reads what a [`CarryWriter`] wrote. Texts are borrowed from the carry.
#[derive(Debug, Clone, Copy)]
pub struct CarryReader<'a> {
    rest: &'a [u8],
}

impl<'a> CarryReader<'a> {
    fn take(&mut self, len: usize) -> Result<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(len).ok_or_else(|| misfit("it is cut short"))?;
        self.rest = rest;
        Ok(taken)
    }

    /// The next number.
    ///
    /// # Errors
    /// 500 past the end.
    pub fn u32(&mut self) -> Result<u32> {
        let bytes = self.take(4)?;
        Ok(u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
    }

    /// The next text.
    ///
    /// # Errors
    /// 500 past the end, or where there is no text.
    pub fn str(&mut self) -> Result<&'a str> {
        let len = usize::try_from(self.u32()?).map_err(|_| misfit("a text is too long"))?;
        std::str::from_utf8(self.take(len)?).map_err(|_| misfit("a text is not UTF-8"))
    }

    /// Whether everything was read.
    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_come_back_in_the_order_of_writing() {
        let mut writer = CarryWriter::default();
        writer.str("r17").u32(10).str("").str("Déjà Vu");
        let carry = Carry::new(writer.finish());
        let mut reader = carry.reader();
        assert_eq!(reader.str(), Ok("r17"));
        assert_eq!(reader.u32(), Ok(10));
        assert_eq!(reader.str(), Ok(""));
        assert_eq!(reader.str(), Ok("Déjà Vu"));
        assert!(reader.is_empty());
        assert_eq!(reader.u32().expect_err("past the end").code(), 500);
    }

    #[test]
    fn a_foreign_carry_is_a_500_and_never_a_panic() {
        let foreign = Carry::new([255, 255, 255, 255, 1]);
        assert_eq!(foreign.reader().str().expect_err("cut short").code(), 500);
        assert_eq!(foreign.json::<u32>().expect_err("no JSON").code(), 500);
        let mut not_text = CarryWriter::default();
        not_text.u32(1);
        let mut bytes = not_text.finish();
        bytes.push(0xFF);
        assert_eq!(Carry::new(bytes).reader().str().expect_err("not UTF-8").code(), 500);
    }
}
