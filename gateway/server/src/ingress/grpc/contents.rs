//! `InferTensorContents`: a tensor's elements as numbers of the protocol, which every data
//! type but FP16 and BF16 may come as. They are packed here as they are read; FP32 and
//! FP64 that came in one piece are packed already, and are a slice of the message.

use bytes::{Bytes, BytesMut};
use sluice_tensor::{DType, Shape, TENSOR_BYTES_MAX, Tensor, TensorError};

use super::decode::{Contents, Grow};
use super::wire::{self, Fields, Value};
use crate::error::{Error, Kind, Result};
use crate::tensor_json::to_error;

/// The number and the name of the field that holds elements of a data type.
fn field_of(dtype: DType) -> Option<(u64, &'static str)> {
    match dtype {
        DType::Bool => Some((1, "bool_contents")),
        DType::I8 | DType::I16 | DType::I32 => Some((2, "int_contents")),
        DType::I64 => Some((3, "int64_contents")),
        DType::U8 | DType::U16 | DType::U32 => Some((4, "uint_contents")),
        DType::U64 => Some((5, "uint64_contents")),
        DType::F32 => Some((6, "fp32_contents")),
        DType::F64 => Some((7, "fp64_contents")),
        DType::Bytes => Some((8, "bytes_contents")),
        DType::F16 | DType::Bf16 => None,
    }
}

/// Reads an input's contents.
///
/// `grow` takes room for them before.
///
/// # Errors
/// Elements in the field of another data type, too few, too many, or one that does not
/// fit the data type.
pub(super) fn decode(dtype: DType, shape: Shape, contents: &Contents, grow: &mut Grow<'_>) -> Result<Tensor> {
    let Some((number, field)) = field_of(dtype) else {
        return Err(Error::new(Kind::BadDtype, format!("{dtype} comes in raw_input_contents only")));
    };
    let element_bytes = dtype.size().unwrap_or(size_of::<u32>());
    let bytes = shape.elements().saturating_mul(element_bytes);
    if bytes > TENSOR_BYTES_MAX {
        return Err(to_error(&TensorError::TooLarge { bytes, max: TENSOR_BYTES_MAX }));
    }
    let unpacked = unpacked_bytes_max(dtype, shape.elements(), contents);
    grow(unpacked)?;
    let out = BytesMut::with_capacity(unpacked);
    let mut elements = Elements { dtype, left: shape.elements(), out, whole: None };
    for piece in std::iter::once(&contents.first).chain(&contents.more) {
        let mut fields = Fields(piece.clone());
        while let Some((read, value)) = fields.next()? {
            match read {
                read if read == number => elements.take(value)?,
                // An empty list of another type is nothing.
                1..=8 if matches!(&value, Value::Bytes(list) if list.is_empty() && read != 8) => {}
                1..=8 => {
                    let what = format!("the data of a {dtype} tensor is {field}");
                    return Err(Error::new(Kind::BadDtype, what));
                }
                _ => {}
            }
        }
    }
    if elements.left > 0 {
        let left = elements.left;
        return Err(Error::new(Kind::BadLength, format!("{field} has {left} elements too few")));
    }
    let data = elements.whole.unwrap_or_else(|| elements.out.freeze());
    Tensor::dense(dtype, shape, data).map_err(|error| to_error(&error))
}

/// Most bytes that the contents become beside themselves: each element takes at least one
/// byte of theirs.
fn unpacked_bytes_max(dtype: DType, elements: usize, contents: &Contents) -> usize {
    let given = contents.byte_len();
    let whole = elements * dtype.size().unwrap_or(0);
    match dtype {
        // One run of them is a tensor's data as it is.
        DType::F32 | DType::F64 if (whole..=whole + RUN_HEAD_BYTES).contains(&given) => 0,
        DType::Bytes => elements.min(given) * size_of::<u32>() + given,
        _ => whole.min(given.saturating_mul(size_of::<u64>())),
    }
}

/// Bytes that stand before a run of packed elements: the field's key and a length.
const RUN_HEAD_BYTES: usize = 6;

/// Packs elements, never more of them than the shape has.
struct Elements {
    dtype: DType,
    left: usize,
    out: BytesMut,
    /// All of them, where they were packed in one piece.
    whole: Option<Bytes>,
}

impl Elements {
    fn take(&mut self, value: Value) -> Result<()> {
        match (value, self.dtype) {
            (Value::Bytes(element), DType::Bytes) => self.string(&element),
            (Value::Bytes(packed), DType::F32 | DType::F64) => self.floats(packed),
            (Value::Bytes(packed), _) => {
                let mut fields = Fields(packed);
                while !fields.0.is_empty() {
                    let value = fields.varint()?;
                    self.integer(value)?;
                }
                Ok(())
            }
            (Value::Varint(value), DType::Bool | DType::I8 | DType::I16 | DType::I32 | DType::I64)
            | (Value::Varint(value), DType::U8 | DType::U16 | DType::U32 | DType::U64) => self.integer(value),
            (Value::Fixed32(bits), DType::F32) => self.number(&bits.to_le_bytes()),
            (Value::Fixed64(bits), DType::F64) => self.number(&bits.to_le_bytes()),
            _ => Err(wire::malformed("a tensor's contents have another type")),
        }
    }

    fn one_more(&mut self, elements: usize) -> Result<()> {
        match self.left.checked_sub(elements) {
            Some(left) => {
                self.left = left;
                Ok(())
            }
            None => Err(Error::new(Kind::BadLength, "the contents have more elements than the shape")),
        }
    }

    fn number(&mut self, bytes: &[u8]) -> Result<()> {
        self.one_more(1)?;
        self.out.extend_from_slice(bytes);
        Ok(())
    }

    fn floats(&mut self, packed: Bytes) -> Result<()> {
        let size = self.dtype.size().unwrap_or(1);
        if !packed.len().is_multiple_of(size) {
            return Err(wire::malformed("packed numbers are cut short"));
        }
        let is_first = self.out.is_empty() && self.whole.is_none();
        self.one_more(packed.len() / size)?;
        if is_first && self.left == 0 {
            // The wire is little-endian and packed, as a tensor is.
            self.whole = Some(packed);
        } else {
            self.out.extend_from_slice(&packed);
        }
        Ok(())
    }

    fn string(&mut self, element: &[u8]) -> Result<()> {
        self.one_more(1)?;
        let length = u32::try_from(element.len()).map_err(|_| wire::malformed("an element is too long"))?;
        let bytes = self.out.len() + size_of::<u32>() + element.len();
        if bytes > TENSOR_BYTES_MAX {
            return Err(to_error(&TensorError::TooLarge { bytes, max: TENSOR_BYTES_MAX }));
        }
        self.out.extend_from_slice(&length.to_le_bytes());
        self.out.extend_from_slice(element);
        Ok(())
    }

    fn integer(&mut self, value: u64) -> Result<()> {
        // The protocol has 32 bits for these; a negative one comes in 64, sign-extended.
        let low = u32::try_from(value & u64::from(u32::MAX)).unwrap_or(0);
        let signed = low.cast_signed();
        let packed = match self.dtype {
            DType::Bool => return self.number(&[u8::from(value != 0)]),
            DType::I64 | DType::U64 => return self.number(&value.to_le_bytes()),
            DType::I32 | DType::U32 => return self.number(&low.to_le_bytes()),
            DType::I8 => i8::try_from(signed).ok().map(|value| self.number(&value.to_le_bytes())),
            DType::I16 => i16::try_from(signed).ok().map(|value| self.number(&value.to_le_bytes())),
            DType::U8 => u8::try_from(low).ok().map(|value| self.number(&value.to_le_bytes())),
            DType::U16 => u16::try_from(low).ok().map(|value| self.number(&value.to_le_bytes())),
            DType::F16 | DType::Bf16 | DType::F32 | DType::F64 | DType::Bytes => None,
        };
        packed.unwrap_or_else(|| {
            Err(Error::new(Kind::BadDtype, format!("an element does not fit {}", self.dtype)))
        })
    }
}
