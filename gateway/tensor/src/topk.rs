//! The largest elements of a tensor, so that a plugin need not read all of it.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

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

/// An element among others: what ranks lower is greater, so that the largest of a heap is
/// the first to go.
#[derive(Debug, Clone, Copy)]
struct Candidate(Ranked);

impl Ord for Candidate {
    fn cmp(&self, other: &Self) -> Ordering {
        let (a, b) = (&self.0, &other.0);
        let values = || b.value.partial_cmp(&a.value).unwrap_or(Ordering::Equal);
        a.value.is_nan().cmp(&b.value.is_nan()).then_with(values).then(a.index.cmp(&b.index))
    }
}

impl PartialOrd for Candidate {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Candidate {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Candidate {}

/// A search for the largest elements of a tensor, a piece of it at a time. It holds as many
/// elements as it is to find, and no copy of the tensor.
#[derive(Debug)]
pub struct TopK {
    k: usize,
    seen: usize,
    best: BinaryHeap<Candidate>,
}

impl TopK {
    /// A search for the `k` largest.
    pub fn new(k: usize) -> Self {
        Self { k, seen: 0, best: BinaryHeap::new() }
    }

    /// Looks at the next `count` elements; whether there are more. The tensor must be the
    /// same each time, and is written out each time if it is not yet.
    ///
    /// # Errors
    /// [`TensorError::Unsupported`] for BYTES and BOOL.
    pub fn look_at(&mut self, tensor: &Tensor, count: usize) -> Result<bool, TensorError> {
        let dtype = tensor.dtype();
        let (Some(size), false) = (dtype.size(), dtype == DType::Bool) else {
            return Err(TensorError::Unsupported(dtype));
        };
        let end = self.seen.saturating_add(count).min(tensor.shape().elements());
        let all = tensor.bytes();
        let data = all.get(self.seen * size..end * size).unwrap_or_default();
        macro_rules! offer {
            ($type:ty, $convert:expr) => {
                for (index, chunk) in (self.seen..).zip(data.chunks_exact(size_of::<$type>())) {
                    if let Ok(bytes) = chunk.try_into() {
                        self.offer(index, $convert(<$type>::from_le_bytes(bytes)));
                    }
                }
            };
        }
        match dtype {
            DType::Bool | DType::Bytes => return Err(TensorError::Unsupported(dtype)),
            DType::U8 => offer!(u8, f64::from),
            DType::U16 => offer!(u16, f64::from),
            DType::U32 => offer!(u32, f64::from),
            DType::U64 => offer!(u64, |value| value as f64),
            DType::I8 => offer!(i8, f64::from),
            DType::I16 => offer!(i16, f64::from),
            DType::I32 => offer!(i32, f64::from),
            DType::I64 => offer!(i64, |value| value as f64),
            DType::F16 => offer!(f16, f64::from),
            DType::Bf16 => offer!(bf16, f64::from),
            DType::F32 => offer!(f32, f64::from),
            DType::F64 => offer!(f64, |value| value),
        }
        self.seen = end;
        Ok(end < tensor.shape().elements())
    }

    fn offer(&mut self, index: usize, value: f64) {
        let candidate = Candidate(Ranked { index, value });
        if self.best.len() < self.k {
            self.best.push(candidate);
        } else if self.best.peek().is_some_and(|worst| candidate < *worst) {
            self.best.pop();
            self.best.push(candidate);
        }
    }

    /// What was found, largest first; equal ones in their order in the tensor.
    pub fn finish(self) -> Vec<Ranked> {
        self.best.into_sorted_vec().into_iter().map(|candidate| candidate.0).collect()
    }
}

impl Tensor {
    /// The `k` largest elements, largest first; equal ones in their order in the
    /// tensor. NaN ranks below everything. At most as many as there are elements.
    ///
    /// # Errors
    /// [`TensorError::Unsupported`] for BYTES and BOOL.
    pub fn top_k(&self, k: usize) -> Result<Vec<Ranked>, TensorError> {
        let mut search = TopK::new(k);
        search.look_at(self, self.shape().elements())?;
        Ok(search.finish())
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
    use super::TopK;
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
    #[test]
    fn piece_by_piece_finds_the_same_and_holds_no_more_than_it_looks_for() {
        let mut state = 7_u32;
        let values: Vec<f32> = std::iter::repeat_with(|| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            f32::from(u8::try_from(state >> 24).expect("a byte"))
        })
        .take(5000)
        .collect();
        let tensor = Tensor::from_f32(Shape::new(&[50, 100]).expect("fits"), &values).expect("valid");
        let mut sorted: Vec<(usize, f32)> = values.iter().copied().enumerate().collect();
        sorted.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        for k in [1, 7, 999, 5000, 6000] {
            let mut search = TopK::new(k);
            while search.look_at(&tensor, 333).expect("numeric") {
                assert!(search.best.len() <= k);
            }
            let found: Vec<usize> = search.finish().iter().map(|ranked| ranked.index).collect();
            let want: Vec<usize> = sorted.iter().take(k).map(|(index, _)| *index).collect();
            assert_eq!(found, want, "{k}");
        }
    }
}
