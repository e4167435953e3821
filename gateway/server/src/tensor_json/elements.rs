//! Elements of a tensor as JSON has them, packed one by one.

use std::fmt;

use half::{bf16, f16};
use serde::de::{DeserializeSeed, Deserializer, SeqAccess, Visitor};
use sluice_tensor::{DType, TENSOR_BYTES_MAX};

use crate::error::{Error, Kind};

/// Packs elements, each checked against the datatype.
pub(super) struct Sink {
    pub(super) dtype: DType,
    pub(super) out: Vec<u8>,
    /// Elements that are still to come.
    pub(super) left: usize,
    /// Why it stopped.
    pub(super) fault: Option<Error>,
}

impl Sink {
    pub(super) fn fail<E: serde::de::Error>(&mut self, kind: Kind, what: String) -> E {
        let text = E::custom(&what);
        self.fault = Some(Error::new(kind, what));
        text
    }

    fn take_one<E: serde::de::Error>(&mut self) -> std::result::Result<(), E> {
        match self.left.checked_sub(1) {
            Some(left) => {
                self.left = left;
                Ok(())
            }
            None => Err(self.fail(Kind::BadLength, "data has more elements than the shape".to_owned())),
        }
    }

    pub(super) fn integer<E: serde::de::Error>(&mut self, value: i128) -> std::result::Result<(), E> {
        self.take_one()?;
        macro_rules! pack {
            ($type:ty) => {
                <$type>::try_from(value).ok().map(|value| self.out.extend_from_slice(&value.to_le_bytes()))
            };
        }
        #[expect(clippy::cast_precision_loss, reason = "a float input rounds to the nearest")]
        let float = value as f64;
        let packed = match self.dtype {
            DType::U8 => pack!(u8),
            DType::U16 => pack!(u16),
            DType::U32 => pack!(u32),
            DType::U64 => pack!(u64),
            DType::I8 => pack!(i8),
            DType::I16 => pack!(i16),
            DType::I32 => pack!(i32),
            DType::I64 => pack!(i64),
            DType::Bool => u8::try_from(value).ok().filter(|bit| *bit <= 1).map(|bit| self.out.push(bit)),
            DType::F16 | DType::Bf16 | DType::F32 | DType::F64 => self.float_bytes(float),
            DType::Bytes => None,
        };
        packed.ok_or_else(|| self.misfit(&value))
    }

    pub(super) fn float<E: serde::de::Error>(&mut self, value: f64) -> std::result::Result<(), E> {
        let is_float = matches!(self.dtype, DType::F16 | DType::Bf16 | DType::F32 | DType::F64);
        if value == 0.0 && value.is_sign_negative() && !is_float {
            // `-0` is a whole number, and is read as a float for its sign.
            return self.integer(0);
        }
        self.take_one()?;
        self.float_bytes(value).ok_or_else(|| self.misfit(&value))
    }

    /// Packs a float; `None` for a datatype that is not one, and on overflow.
    fn float_bytes(&mut self, value: f64) -> Option<()> {
        #[expect(clippy::cast_possible_truncation, reason = "rounding is meant; overflow is checked below")]
        let single = value as f32;
        match self.dtype {
            DType::F64 => self.out.extend_from_slice(&value.to_le_bytes()),
            DType::F32 if single.is_finite() => self.out.extend_from_slice(&single.to_le_bytes()),
            DType::F16 => {
                let half = f16::from_f64(value);
                half.is_finite().then(|| self.out.extend_from_slice(&half.to_le_bytes()))?;
            }
            DType::Bf16 => {
                let half = bf16::from_f64(value);
                half.is_finite().then(|| self.out.extend_from_slice(&half.to_le_bytes()))?;
            }
            _ => return None,
        }
        Some(())
    }

    pub(super) fn text<E: serde::de::Error>(&mut self, value: &[u8]) -> std::result::Result<(), E> {
        self.take_one()?;
        if self.dtype != DType::Bytes {
            return Err(self.misfit(&"a string"));
        }
        if self.out.len() + value.len() > TENSOR_BYTES_MAX {
            return Err(self.fail(Kind::TooLarge, format!("tensor is larger than {TENSOR_BYTES_MAX} bytes")));
        }
        let Ok(length) = u32::try_from(value.len()) else { return Err(self.misfit(&"a string")) };
        self.out.extend_from_slice(&length.to_le_bytes());
        self.out.extend_from_slice(value);
        Ok(())
    }

    pub(super) fn misfit<E: serde::de::Error>(&mut self, value: &dyn fmt::Display) -> E {
        let dtype = self.dtype;
        self.fail(Kind::BadDtype, format!("{value} is not a {dtype}"))
    }
}

/// One element, or an array of them.
pub(super) struct Elements<'s> {
    pub(super) sink: &'s mut Sink,
    /// Whether this is inside of the outermost array.
    pub(super) nested: bool,
}

impl<'de> DeserializeSeed<'de> for Elements<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> std::result::Result<(), D::Error> {
        json.deserialize_any(self)
    }
}

impl Elements<'_> {
    fn element(&mut self) -> Option<&mut Sink> {
        self.nested.then_some(&mut *self.sink)
    }
}

/// The message for data that is not an array at all.
const NOT_AN_ARRAY: &str = "data must be an array";

impl<'de> Visitor<'de> for Elements<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of tensor elements")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut array: A) -> std::result::Result<(), A::Error> {
        while array.next_element_seed(Elements { sink: self.sink, nested: true })?.is_some() {}
        Ok(())
    }

    fn visit_bool<E: serde::de::Error>(mut self, value: bool) -> std::result::Result<(), E> {
        let sink = self.element().ok_or_else(|| E::custom(NOT_AN_ARRAY))?;
        if sink.dtype != DType::Bool {
            return Err(sink.misfit(&value));
        }
        sink.integer(i128::from(value))
    }

    fn visit_u64<E: serde::de::Error>(mut self, value: u64) -> std::result::Result<(), E> {
        self.element().ok_or_else(|| E::custom(NOT_AN_ARRAY))?.integer(i128::from(value))
    }

    fn visit_i64<E: serde::de::Error>(mut self, value: i64) -> std::result::Result<(), E> {
        self.element().ok_or_else(|| E::custom(NOT_AN_ARRAY))?.integer(i128::from(value))
    }

    fn visit_f64<E: serde::de::Error>(mut self, value: f64) -> std::result::Result<(), E> {
        self.element().ok_or_else(|| E::custom(NOT_AN_ARRAY))?.float(value)
    }

    fn visit_str<E: serde::de::Error>(mut self, value: &str) -> std::result::Result<(), E> {
        self.element().ok_or_else(|| E::custom(NOT_AN_ARRAY))?.text(value.as_bytes())
    }
}
