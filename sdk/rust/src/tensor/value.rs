//! A tensor by value.

use crate::{DType, Element, Error, Result};

/// A tensor by value. What it says about itself is checked again by the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorValue {
    /// The type of the elements.
    pub dtype: DType,
    /// At most 8 dimensions, outermost first.
    pub shape: Vec<u32>,
    /// Little-endian, row-major, packed. An element of `Bytes` is a `u32` length and
    /// that many bytes.
    pub data: Vec<u8>,
}

impl TensorValue {
    pub(super) fn from_values<T: Element>(shape: &[usize], values: &[T]) -> Result<Self> {
        let narrow = checked_shape(shape, values.len())?;
        Ok(Self { dtype: T::DTYPE, shape: narrow, data: T::pack(values) })
    }

    pub(super) fn from_strings<S: AsRef<[u8]>>(shape: &[usize], texts: &[S]) -> Result<Self> {
        let shape = checked_shape(shape, texts.len())?;
        let mut data = Vec::with_capacity(texts.iter().map(|text| text.as_ref().len() + 4).sum());
        for text in texts {
            let text = text.as_ref();
            let len =
                u32::try_from(text.len()).map_err(|_| Error::internal("a text is longer than 4 GiB"))?;
            data.extend_from_slice(&len.to_le_bytes());
            data.extend_from_slice(text);
        }
        Ok(Self { dtype: DType::Bytes, shape, data })
    }

    pub(super) fn from_bytes(dtype: DType, shape: &[usize], data: Vec<u8>) -> Result<Self> {
        let shape = match dtype.size_bytes() {
            Some(size) if !data.len().is_multiple_of(size) => {
                let len = data.len();
                return Err(Error::internal(format!("{len} bytes are no whole number of {dtype} elements")));
            }
            Some(size) => checked_shape(shape, data.len() / size)?,
            None => narrow(shape)?,
        };
        Ok(Self { dtype, shape, data })
    }
}

/// The shape as the contract has it, if it holds exactly `count` elements.
fn checked_shape(shape: &[usize], count: usize) -> Result<Vec<u32>> {
    let elements = shape.iter().try_fold(1usize, |product, dimension| product.checked_mul(*dimension));
    if elements != Some(count) {
        return Err(Error::internal(format!("a tensor of shape {shape:?} cannot hold {count} elements")));
    }
    narrow(shape)
}

pub(super) fn narrow(shape: &[usize]) -> Result<Vec<u32>> {
    let too_large = |_| Error::internal(format!("shape {shape:?} has a dimension beyond 32 bits"));
    shape.iter().map(|dimension| u32::try_from(*dimension)).collect::<Result<_, _>>().map_err(too_large)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Tensor;

    fn value(tensor: Tensor) -> TensorValue {
        match tensor {
            Tensor::Value(value) => value,
            other => panic!("no value: {other:?}"),
        }
    }

    #[test]
    fn numbers_are_packed_little_endian() {
        let floats = value(Tensor::f32(&[1, 2], [1.0, -2.0]).expect("fits"));
        assert_eq!(floats.shape, [1, 2]);
        assert_eq!(floats.data, [0, 0, 128, 63, 0, 0, 0, 192]);
        let flags = value(Tensor::from_values(&[3], [true, false, true]).expect("fits"));
        assert_eq!((flags.dtype, flags.data), (DType::Bool, vec![1, 0, 1]));
    }

    #[test]
    fn texts_carry_their_lengths() {
        let texts = value(Tensor::strings(&[2], &["ab", ""]).expect("fits"));
        assert_eq!(texts.data, [2, 0, 0, 0, b'a', b'b', 0, 0, 0, 0]);
    }

    #[test]
    fn a_shape_that_does_not_hold_the_values_is_refused() {
        for refused in [
            Tensor::f32(&[2, 2], [0.0; 3]),
            Tensor::f32(&[usize::MAX, 4], [0.0; 4]),
            Tensor::from_bytes(DType::Int32, &[1], [0; 3]),
            Tensor::from_bytes(DType::Int32, &[2], [0; 4]),
        ] {
            assert_eq!(refused.expect_err("does not fit").code(), 500);
        }
        assert!(Tensor::f32(&[0, 1024], []).is_ok(), "no rows are rows too");
    }
}
