//! Tensors: made by the plugin (by value or as sparse rows), or held by the host.

mod dtype;
mod element;
mod host;
mod named;
mod sparse;
mod value;
mod writer;

pub use dtype::DType;
pub use element::Element;
pub use host::{HostTensor, Ranked};
pub use named::Tensors;
pub use sparse::SparseRows;
pub use value::TensorValue;
pub use writer::TensorWriter;

use crate::Result;

/// What a plugin may give wherever a tensor is wanted.
#[derive(Debug)]
pub enum Tensor {
    /// By value: for small ones, and for data that the plugin made.
    Value(TensorValue),
    /// Mostly zeros, given by what is not zero.
    Sparse(SparseRows),
    /// One the host already holds: an input passed on, or one from a writer.
    Handle(HostTensor),
}

impl Tensor {
    /// A tensor of numbers by value, row-major.
    ///
    /// # Errors
    /// 500 if the shape and the number of values differ, or a dimension is beyond `u32`.
    pub fn from_values<T: Element>(shape: &[usize], values: impl AsRef<[T]>) -> Result<Self> {
        TensorValue::from_values(shape, values.as_ref()).map(Self::Value)
    }

    /// 32-bit floats by value: `Tensor::f32(&[n, 4], values)`.
    ///
    /// # Errors
    /// As [`from_values`](Self::from_values).
    pub fn f32(shape: &[usize], values: impl AsRef<[f32]>) -> Result<Self> {
        Self::from_values(shape, values)
    }

    /// 64-bit integers by value, as most embedding look-ups want them.
    ///
    /// # Errors
    /// As [`from_values`](Self::from_values).
    pub fn i64(shape: &[usize], values: impl AsRef<[i64]>) -> Result<Self> {
        Self::from_values(shape, values)
    }

    /// Texts by value.
    ///
    /// # Errors
    /// As [`from_values`](Self::from_values), or if all of them take 4 GiB.
    pub fn strings<S: AsRef<[u8]>>(shape: &[usize], texts: &[S]) -> Result<Self> {
        TensorValue::from_strings(shape, texts).map(Self::Value)
    }

    /// A tensor of any type from its bytes: little-endian, row-major, packed.
    ///
    /// # Errors
    /// 500 if the shape and the number of bytes differ (not checked for `bytes`,
    /// whose elements vary in length).
    pub fn from_bytes(dtype: DType, shape: &[usize], data: impl Into<Vec<u8>>) -> Result<Self> {
        TensorValue::from_bytes(dtype, shape, data.into()).map(Self::Value)
    }

    /// A builder of `[rows, columns]` floats that are mostly zero.
    pub fn sparse_rows(columns: u32) -> SparseRows {
        SparseRows::new(columns)
    }
}

impl From<TensorValue> for Tensor {
    fn from(value: TensorValue) -> Self {
        Self::Value(value)
    }
}

impl From<SparseRows> for Tensor {
    fn from(rows: SparseRows) -> Self {
        Self::Sparse(rows)
    }
}

impl From<HostTensor> for Tensor {
    fn from(handle: HostTensor) -> Self {
        Self::Handle(handle)
    }
}
