//! The largest elements of a tensor, so that a plugin need not read all of it.

use half::{bf16, f16};

use crate::{DType, Tensor, TensorError};

/// One of the largest elements: where it is, counted row-major, and its value.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ranked {
    /// Position in the tensor.
    pub index: usize,
    /// The element, widened to f64.
    pub value: f64,
}

impl Tensor {
    /// The `k` largest elements, largest first; equal ones in their order in the
    /// tensor. NaN ranks below everything. At most as many as there are elements.
    ///
    /// # Errors
    /// [`TensorError::Unsupported`] for BYTES and BOOL.
    pub fn top_k(&self, k: usize) -> Result<Vec<Ranked>, TensorError> {
        let mut all: Vec<Ranked> =
            self.to_f64()?.into_iter().enumerate().map(|(index, value)| Ranked { index, value }).collect();
        let k = k.min(all.len());
        if k == 0 {
            return Ok(Vec::new());
        }
        let order = |a: &Ranked, b: &Ranked| {
            let (a_nan, b_nan) = (a.value.is_nan(), b.value.is_nan());
            a_nan
                .cmp(&b_nan)
                .then_with(|| b.value.partial_cmp(&a.value).unwrap_or(std::cmp::Ordering::Equal))
                .then(a.index.cmp(&b.index))
        };
        if k < all.len() {
            all.select_nth_unstable_by(k - 1, order);
            all.truncate(k);
        }
        all.sort_unstable_by(order);
        Ok(all)
    }

    /// All elements widened to f64 (64-bit integers round to the nearest f64).
    ///
    /// # Errors
    /// [`TensorError::Unsupported`] for BYTES and BOOL.
    pub fn to_f64(&self) -> Result<Vec<f64>, TensorError> {
        let data = self.to_dense();
        macro_rules! widen {
            ($type:ty, $convert:expr) => {
                data.chunks_exact(size_of::<$type>())
                    .filter_map(|chunk| chunk.try_into().ok())
                    .map(<$type>::from_le_bytes)
                    .map($convert)
                    .collect()
            };
        }
        Ok(match self.dtype() {
            DType::Bool | DType::Bytes => return Err(TensorError::Unsupported(self.dtype())),
            DType::U8 => widen!(u8, f64::from),
            DType::U16 => widen!(u16, f64::from),
            DType::U32 => widen!(u32, f64::from),
            DType::U64 => widen!(u64, |value| value as f64),
            DType::I8 => widen!(i8, f64::from),
            DType::I16 => widen!(i16, f64::from),
            DType::I32 => widen!(i32, f64::from),
            DType::I64 => widen!(i64, |value| value as f64),
            DType::F16 => widen!(f16, f64::from),
            DType::Bf16 => widen!(bf16, f64::from),
            DType::F32 => widen!(f32, f64::from),
            DType::F64 => widen!(f64, |value| value),
        })
    }
}

#[cfg(test)]
mod tests {
    use crate::{Shape, Tensor};

    fn top(values: &[f32], k: usize) -> Vec<usize> {
        let tensor = Tensor::from_f32(Shape::new(&[values.len()]).expect("fits"), values).expect("valid");
        tensor.top_k(k).expect("numeric").iter().map(|ranked| ranked.index).collect()
    }

    #[test]
    fn largest_first_ties_in_order_and_nan_last() {
        assert_eq!(top(&[1.0, 3.0, 2.0, 3.0], 3), [1, 3, 2]);
        assert_eq!(top(&[f32::NAN, 1.0, f32::NEG_INFINITY], 3), [1, 2, 0]);
        assert_eq!(top(&[1.0], 10), [0]);
        assert_eq!(top(&[1.0], 0), [0usize; 0]);
        assert_eq!(top(&[], 4), [0usize; 0]);
    }
}
