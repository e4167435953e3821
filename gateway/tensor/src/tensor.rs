//! The tensor itself: a data type, a shape and bytes.

use std::any::Any;
use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;

use crate::strings::{self, PREFIX_BYTES, Strings};
use crate::{DType, Shape, SparseRows, TENSOR_BYTES_MAX, TensorError};

/// An immutable tensor. Cloning shares the bytes.
#[derive(Debug, Clone)]
pub struct Tensor {
    dtype: DType,
    shape: Shape,
    payload: Payload,
}

#[derive(Debug, Clone)]
enum Payload {
    /// Little-endian, row-major, packed; not necessarily aligned.
    Dense(Bytes),
    /// Written out only where it is needed: in the batch.
    Sparse { rows: Arc<SparseRows>, start: usize, companion: Option<Arc<dyn Any + Send + Sync>> },
}

/// Bytes, and something that lives as long as any view of them.
struct Kept<D, C> {
    data: D,
    _companion: C,
}

impl<D: AsRef<[u8]>, C> AsRef<[u8]> for Kept<D, C> {
    fn as_ref(&self) -> &[u8] {
        self.data.as_ref()
    }
}

/// Bytes that keep `companion` until the last view of them is dropped: who accounts for
/// memory learns in this way when it is free.
pub fn keep_with(data: impl AsRef<[u8]> + Send + 'static, companion: impl Send + 'static) -> Bytes {
    Bytes::from_owner(Kept { data, _companion: companion })
}

/// A tensor under the name of a model's input or output.
#[derive(Debug, Clone)]
pub struct NamedTensor {
    /// The input's or output's name.
    pub name: Arc<str>,
    /// Its value.
    pub tensor: Tensor,
}

/// The tensor of that name, if there is one.
pub fn find<'a>(tensors: &'a [NamedTensor], name: &str) -> Option<&'a Tensor> {
    tensors.iter().find(|named| *named.name == *name).map(|named| &named.tensor)
}

impl Tensor {
    /// A tensor over bytes that arrived from somewhere.
    ///
    /// # Errors
    /// The data does not have the length that shape and data type say, is larger
    /// than [`TENSOR_BYTES_MAX`], is badly framed (BYTES) or no truth value (BOOL).
    pub fn dense(dtype: DType, shape: Shape, data: Bytes) -> Result<Self, TensorError> {
        if data.len() > TENSOR_BYTES_MAX {
            return Err(TensorError::TooLarge { bytes: data.len(), max: TENSOR_BYTES_MAX });
        }
        match shape.bytes(dtype)? {
            Some(want) if want != data.len() => return Err(TensorError::Length { got: data.len(), want }),
            Some(_) => {}
            None => {
                let least = shape.elements().checked_mul(PREFIX_BYTES).ok_or(TensorError::Overflow)?;
                if data.len() < least {
                    return Err(TensorError::Length { got: data.len(), want: least });
                }
                strings::check(&data, shape.elements())?;
            }
        }
        if dtype == DType::Bool && data.iter().any(|byte| *byte > 1) {
            return Err(TensorError::Bool);
        }
        Ok(Self { dtype, shape, payload: Payload::Dense(data) })
    }

    /// A tensor of mostly zeros, kept in that form until it enters a batch.
    ///
    /// # Errors
    /// [`TensorError::TooLarge`] when its rows written out exceed [`TENSOR_BYTES_MAX`].
    pub fn sparse(rows: SparseRows) -> Result<Self, TensorError> {
        let shape = Shape::new(&[rows.rows(), rows.columns()])?;
        let bytes = shape.bytes(DType::F32)?.unwrap_or(0);
        if bytes > TENSOR_BYTES_MAX {
            return Err(TensorError::TooLarge { bytes, max: TENSOR_BYTES_MAX });
        }
        Ok(Self {
            dtype: DType::F32,
            shape,
            payload: Payload::Sparse { rows: Arc::new(rows), start: 0, companion: None },
        })
    }

    /// An f32 tensor.
    ///
    /// # Errors
    /// As [`Tensor::dense`].
    pub fn from_f32(shape: Shape, values: &[f32]) -> Result<Self, TensorError> {
        let data: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        Self::dense(DType::F32, shape, data.into())
    }

    /// A BYTES tensor; the elements are framed here.
    ///
    /// # Errors
    /// As [`Tensor::dense`].
    pub fn from_strings<'a>(
        shape: Shape,
        elements: impl Iterator<Item = &'a [u8]>,
    ) -> Result<Self, TensorError> {
        Self::dense(DType::Bytes, shape, strings::frame(elements)?)
    }

    /// The type of the elements.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// The dimensions.
    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    /// Bytes of the tensor with every element written out.
    pub fn byte_len(&self) -> usize {
        match &self.payload {
            Payload::Dense(data) => data.len(),
            Payload::Sparse { .. } => self.shape.elements() * size_of::<f32>(),
        }
    }

    /// Whether its elements are written out already.
    pub fn is_dense(&self) -> bool {
        matches!(self.payload, Payload::Dense(_))
    }

    /// The same tensor, which keeps `companion` for as long as anything uses its elements:
    /// see [`keep_with`].
    #[must_use]
    pub fn kept_with(self, companion: impl Send + Sync + 'static) -> Self {
        let payload = match self.payload {
            Payload::Dense(data) => Payload::Dense(keep_with(data, companion)),
            Payload::Sparse { rows, start, .. } => {
                Payload::Sparse { rows, start, companion: Some(Arc::new(companion)) }
            }
        };
        Self { payload, ..self }
    }

    /// The bytes: shared if they are there already, else written out.
    pub fn to_dense(&self) -> Bytes {
        match &self.payload {
            Payload::Dense(data) => data.clone(),
            Payload::Sparse { .. } => {
                let mut out = vec![0; self.byte_len()];
                self.write_into(&mut out);
                out.into()
            }
        }
    }

    /// Writes the tensor into a batch's buffer: the one copy it makes there.
    ///
    /// # Panics
    /// If `out` is not exactly [`Tensor::byte_len`] bytes.
    pub fn write_into(&self, out: &mut [u8]) {
        assert_eq!(out.len(), self.byte_len(), "the staging slice has the tensor's size");
        match &self.payload {
            Payload::Dense(data) => out.copy_from_slice(data),
            Payload::Sparse { rows, start, .. } => rows.write_rows(*start, out),
        }
    }

    /// A part of the bytes.
    ///
    /// # Errors
    /// [`TensorError::Range`] past the end.
    pub fn read(&self, offset: usize, len: usize) -> Result<Bytes, TensorError> {
        let bytes = self.byte_len();
        match offset.checked_add(len) {
            Some(end) if end <= bytes => Ok(self.to_dense().slice(offset..end)),
            _ => Err(TensorError::Range { start: offset, count: len, len: bytes }),
        }
    }

    /// The rows `start..start + count`, sharing the bytes.
    ///
    /// # Errors
    /// [`TensorError::Range`] past the end or for a scalar.
    pub fn rows(&self, start: usize, count: usize) -> Result<Self, TensorError> {
        let len = if self.shape.rank() == 0 { 0 } else { self.shape.rows() };
        let fault = TensorError::Range { start, count, len };
        if start.checked_add(count).is_none_or(|end| end > len) {
            return Err(fault);
        }
        let shape = self.shape.with_rows(count)?;
        let payload = match &self.payload {
            Payload::Sparse { rows, start: first, companion } => {
                Payload::Sparse { rows: Arc::clone(rows), start: first + start, companion: companion.clone() }
            }
            Payload::Dense(data) => {
                let per_row = self.shape.row_elements();
                let range = match self.dtype.size() {
                    Some(size) => start * per_row * size..(start + count) * per_row * size,
                    None => strings::range(data, start * per_row, count * per_row).ok_or(fault)?,
                };
                Payload::Dense(data.slice(range))
            }
        };
        Ok(Self { dtype: self.dtype, shape, payload })
    }

    /// The same elements in other dimensions, sharing the bytes.
    ///
    /// # Errors
    /// [`TensorError::Length`] if the dimensions have another number of elements.
    pub fn reshaped(&self, shape: Shape) -> Result<Self, TensorError> {
        if shape.elements() != self.shape.elements() {
            return Err(TensorError::Length { got: self.shape.elements(), want: shape.elements() });
        }
        let payload = match &self.payload {
            Payload::Sparse { .. } if shape.dims() != self.shape.dims() => Payload::Dense(self.to_dense()),
            payload => payload.clone(),
        };
        Ok(Self { dtype: self.dtype, shape, payload })
    }

    /// The elements of a BYTES tensor.
    ///
    /// # Errors
    /// [`TensorError::Unsupported`] for any other data type.
    pub fn strings(&self) -> Result<Strings<'_>, TensorError> {
        match &self.payload {
            Payload::Dense(data) if self.dtype == DType::Bytes => Ok(Strings::new(data)),
            _ => Err(TensorError::Unsupported(self.dtype)),
        }
    }

    /// The bytes, borrowed where they are there already.
    pub fn bytes(&self) -> Cow<'_, [u8]> {
        match &self.payload {
            Payload::Dense(data) => Cow::Borrowed(data),
            Payload::Sparse { .. } => Cow::Owned(self.to_dense().to_vec()),
        }
    }
}

impl PartialEq for Tensor {
    /// Same type, shape and bytes, however they are kept.
    fn eq(&self, other: &Self) -> bool {
        self.dtype == other.dtype && self.shape == other.shape && self.bytes() == other.bytes()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn shape(dims: &[usize]) -> Shape {
        Shape::new(dims).expect("fits")
    }

    #[test]
    fn data_must_have_the_length_that_shape_and_datatype_say() {
        let data = Bytes::from_static(&[0; 12]);
        assert!(Tensor::dense(DType::F32, shape(&[3]), data.clone()).is_ok());
        assert_eq!(
            Tensor::dense(DType::F32, shape(&[4]), data.clone()),
            Err(TensorError::Length { got: 12, want: 16 })
        );
        assert_eq!(Tensor::dense(DType::Bool, shape(&[1]), Bytes::from_static(&[2])), Err(TensorError::Bool));
        assert!(Tensor::dense(DType::F32, shape(&[0, 4]), Bytes::new()).is_ok());
    }

    #[test]
    fn bytes_elements_that_overrun_are_refused() {
        for bad in [&[9, 0, 0, 0, b'a'][..], &[0, 0, 0], &[0xff, 0xff, 0xff, 0xff], &[0, 0, 0, 0, 7]] {
            assert!(
                Tensor::dense(DType::Bytes, shape(&[1]), Bytes::copy_from_slice(bad)).is_err(),
                "{bad:?}"
            );
        }
        let huge = shape(&[usize::MAX / 8]);
        assert!(Tensor::dense(DType::Bytes, huge, Bytes::from_static(&[0; 8])).is_err());
    }

    #[test]
    fn rows_of_every_kind_can_be_cut_out() {
        let words = ["a", "", "ccc", "dd"].map(str::as_bytes);
        let tensor = Tensor::from_strings(shape(&[2, 2]), words.into_iter()).expect("valid");
        let second = tensor.rows(1, 1).expect("in range");
        assert_eq!(second.strings().expect("BYTES").collect::<Vec<_>>(), [b"ccc".as_slice(), b"dd"]);
        assert!(tensor.rows(1, 2).is_err());
        let sparse = SparseRows::new(2, (vec![1], vec![1.5]), vec![0, 0, 1], (vec![0], vec![2.0]));
        let sparse = Tensor::sparse(sparse.expect("valid")).expect("small");
        let second = sparse.rows(1, 1).expect("in range");
        assert_eq!(second, Tensor::from_f32(shape(&[1, 2]), &[2.0, 1.5]).expect("valid"));
        assert_eq!(sparse.read(4, 4).expect("in range").as_ref(), 1.5f32.to_le_bytes());
        assert!(sparse.read(usize::MAX, 2).is_err());
    }

    #[test]
    fn a_companion_lives_as_long_as_any_view_of_the_elements() {
        let sparse = SparseRows::new(1, (Vec::new(), Vec::new()), vec![0, 0, 0], (Vec::new(), Vec::new()));
        let dense = Tensor::from_f32(shape(&[2, 1]), &[1.0, 2.0]).expect("valid");
        for tensor in [dense, Tensor::sparse(sparse.expect("valid")).expect("small")] {
            let alive = Arc::new(());
            let kept = tensor.kept_with(Arc::clone(&alive));
            let row = kept.rows(1, 1).expect("in range");
            drop(kept);
            assert_eq!(Arc::strong_count(&alive), 2);
            drop(row);
            assert_eq!(Arc::strong_count(&alive), 1);
        }
    }

    proptest! {
        #[test]
        fn strings_round_trip(words in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..9), 0..9)) {
            let tensor = Tensor::from_strings(shape(&[words.len()]), words.iter().map(Vec::as_slice)).expect("valid");
            let back: Vec<Vec<u8>> = tensor.strings().expect("BYTES").map(<[u8]>::to_vec).collect();
            prop_assert_eq!(back, words);
        }
    }
}
