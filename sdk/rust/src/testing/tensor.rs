//! Host tensors without a host.

use std::cmp::Ordering;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use super::float16::{bf16, fp16};
use crate::{DType, Element, HostTensor, Ranked, Result, Tensor as Source, TensorValue};

/// Bytes that something else owns, shared without a copy.
type Shared = Arc<dyn AsRef<[u8]> + Send + Sync>;

#[derive(Clone)]
pub(crate) struct Tensor {
    dtype: DType,
    shape: Vec<u32>,
    bytes: Shared,
    range: Range<usize>,
}

impl fmt::Debug for Tensor {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} {:?}", self.dtype, self.shape)
    }
}

/// Native constructors; in the sandbox only the host makes these.
impl HostTensor {
    /// A tensor from numbers.
    ///
    /// # Errors
    /// 500 if the shape and the number of values differ.
    pub fn from_values<T: Element>(shape: &[usize], values: impl AsRef<[T]>) -> Result<Self> {
        Ok(Source::from_values(shape, values)?.into_host())
    }

    /// A tensor from its bytes: little-endian, row-major, packed.
    ///
    /// # Errors
    /// 500 if the shape and the number of bytes differ.
    pub fn from_bytes(dtype: DType, shape: &[usize], data: Vec<u8>) -> Result<Self> {
        Ok(Source::from_bytes(dtype, shape, data)?.into_host())
    }

    /// A tensor over bytes that something else owns, unchecked and without a copy:
    /// for a native caller that has the model's output at hand.
    pub fn from_shared(dtype: DType, shape: Vec<u32>, bytes: Arc<dyn AsRef<[u8]> + Send + Sync>) -> Self {
        let range = 0..(*bytes).as_ref().len();
        Self(Tensor { dtype, shape, bytes, range })
    }
}

impl Source {
    /// What the host would hold after the plugin gave this.
    pub fn into_host(self) -> HostTensor {
        let value = match self {
            Self::Handle(handle) => return handle,
            Self::Value(value) => value,
            Self::Sparse(rows) => {
                let shape = vec![u32::try_from(rows.rows()).unwrap_or(u32::MAX), rows.columns];
                TensorValue { dtype: DType::Fp32, shape, data: f32::pack(&rows.to_dense()) }
            }
        };
        HostTensor::from_shared(value.dtype, value.shape, Arc::new(value.data))
    }
}

impl Tensor {
    pub(crate) fn dtype(&self) -> DType {
        self.dtype
    }

    pub(crate) fn shape(&self) -> Vec<u32> {
        self.shape.clone()
    }

    fn bytes(&self) -> &[u8] {
        &(*self.bytes).as_ref()[self.range.clone()]
    }

    pub(crate) fn byte_length(&self) -> u64 {
        self.range.len() as u64
    }

    pub(crate) fn read(&self, offset: u64, len: u32) -> Vec<u8> {
        let start = usize::try_from(offset).expect("within the tensor");
        self.bytes()[start..start + len as usize].to_vec()
    }

    pub(crate) fn read_fp32(&self, start: u64, count: u32) -> Vec<f32> {
        let start = usize::try_from(start).expect("within the tensor");
        self.to_f32()[start..start + count as usize].to_vec()
    }

    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        reason = "rounding is the promise"
    )]
    fn to_f32(&self) -> Vec<f32> {
        let bytes = self.bytes();
        match self.dtype {
            DType::Fp32 => f32::unpack(bytes),
            DType::Fp16 => u16::unpack(bytes).into_iter().map(fp16).collect(),
            DType::Bf16 => u16::unpack(bytes).into_iter().map(bf16).collect(),
            DType::Fp64 => f64::unpack(bytes).into_iter().map(|value| value as f32).collect(),
            DType::Uint8 | DType::Bool => bytes.iter().map(|value| f32::from(*value)).collect(),
            DType::Int8 => i8::unpack(bytes).into_iter().map(f32::from).collect(),
            DType::Uint16 => u16::unpack(bytes).into_iter().map(f32::from).collect(),
            DType::Int16 => i16::unpack(bytes).into_iter().map(f32::from).collect(),
            DType::Uint32 => u32::unpack(bytes).into_iter().map(|value| value as f32).collect(),
            DType::Int32 => i32::unpack(bytes).into_iter().map(|value| value as f32).collect(),
            DType::Uint64 => u64::unpack(bytes).into_iter().map(|value| value as f32).collect(),
            DType::Int64 => i64::unpack(bytes).into_iter().map(|value| value as f32).collect(),
            DType::Bytes => panic!("a bytes tensor cannot be read as numbers"),
        }
    }

    pub(crate) fn gather(&self, rows: &[u32]) -> Self {
        let mut shape = self.shape.clone();
        shape[0] = u32::try_from(rows.len()).expect("few rows");
        let parts = rows.iter().flat_map(|row| self.rows(*row, 1).bytes().to_vec());
        let data: Vec<u8> = parts.collect();
        HostTensor::from_shared(self.dtype, shape, Arc::new(data)).0
    }

    pub(crate) fn rows(&self, start: u32, count: u32) -> Self {
        let rows = self.shape.first().copied().expect("a tensor with rows");
        assert!(start.checked_add(count).is_some_and(|end| end <= rows), "rows past the end");
        let row_bytes = self.range.len().checked_div(rows as usize).unwrap_or(0);
        let from = self.range.start + start as usize * row_bytes;
        let mut shape = self.shape.clone();
        shape[0] = count;
        Self {
            dtype: self.dtype,
            shape,
            bytes: self.bytes.clone(),
            range: from..from + count as usize * row_bytes,
        }
    }

    pub(crate) fn top_k(&self, k: u32) -> Vec<Ranked> {
        let all = HostTensor(self.clone()).to_f64();
        let mut ranked: Vec<Ranked> =
            all.into_iter().enumerate().map(|(index, value)| Ranked { index, value }).collect();
        let k = (k as usize).min(ranked.len());
        if k > 0 && k < ranked.len() {
            ranked.select_nth_unstable_by(k - 1, best_first);
        }
        ranked.truncate(k);
        ranked.sort_unstable_by(best_first);
        ranked
    }
}

impl HostTensor {
    #[expect(clippy::cast_precision_loss, reason = "the contract ranks by f64")]
    fn to_f64(&self) -> Vec<f64> {
        let bytes = self.0.bytes();
        match self.dtype() {
            DType::Fp64 => f64::unpack(bytes),
            DType::Int64 => i64::unpack(bytes).into_iter().map(|value| value as f64).collect(),
            DType::Uint64 => u64::unpack(bytes).into_iter().map(|value| value as f64).collect(),
            DType::Int32 => i32::unpack(bytes).into_iter().map(f64::from).collect(),
            DType::Uint32 => u32::unpack(bytes).into_iter().map(f64::from).collect(),
            _ => self.to_f32().expect("numbers").into_iter().map(f64::from).collect(),
        }
    }
}

/// Largest first, NaN last, equal ones in order. Total, so that selecting is exact.
fn best_first(left: &Ranked, right: &Ranked) -> Ordering {
    let by_value = match (left.value.is_nan(), right.value.is_nan()) {
        (false, false) => right.value.partial_cmp(&left.value).unwrap_or(Ordering::Equal),
        (left_nan, right_nan) => left_nan.cmp(&right_nan),
    };
    by_value.then(left.index.cmp(&right.index))
}

#[derive(Debug)]
pub(crate) struct Writer {
    dtype: DType,
    shape: Vec<u32>,
    data: Vec<u8>,
}

impl Writer {
    pub(crate) fn new(dtype: DType, shape: &[u32]) -> Self {
        let size = dtype.size_bytes().expect("a writer takes no bytes tensors");
        let elements: usize = shape.iter().map(|dimension| *dimension as usize).product();
        Self { dtype, shape: shape.to_vec(), data: vec![0; elements * size] }
    }

    pub(crate) fn write(&mut self, offset: u64, data: &[u8]) {
        let start = usize::try_from(offset).expect("within the tensor");
        self.data[start..start + data.len()].copy_from_slice(data);
    }

    pub(crate) fn finish(self) -> Tensor {
        HostTensor::from_shared(self.dtype, self.shape, Arc::new(self.data)).0
    }
}
