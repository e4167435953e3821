//! Cheap ways to see a part of a tensor: chosen rows, and numbers as f32.

use bytes::Bytes;
use half::{bf16, f16};

use crate::{DType, TENSOR_BYTES_MAX, Tensor, TensorError, strings};

impl Tensor {
    /// Bytes of what [`Tensor::gather`] makes of these rows.
    ///
    /// # Errors
    /// As [`Tensor::gather`].
    pub fn gathered_bytes(&self, rows: &[u32]) -> Result<usize, TensorError> {
        let len = if self.shape().rank() == 0 { 0 } else { self.shape().rows() };
        if let Some(&row) = rows.iter().find(|&&row| index(row) >= len) {
            return Err(TensorError::Range { start: index(row), count: 1, len });
        }
        let bytes = match self.dtype().size() {
            Some(size) => {
                let row_bytes = self.shape().row_elements().checked_mul(size);
                row_bytes.and_then(|bytes| bytes.checked_mul(rows.len())).ok_or(TensorError::Overflow)?
            }
            // No bytes, however many rows the shape claims.
            None if self.shape().row_elements() == 0 => 0,
            None => {
                let lengths = self.row_ends();
                let length = |row: usize| lengths[row + 1] - lengths[row];
                rows.iter().map(|&row| length(index(row))).fold(0, usize::saturating_add)
            }
        };
        if bytes > TENSOR_BYTES_MAX {
            return Err(TensorError::TooLarge { bytes, max: TENSOR_BYTES_MAX });
        }
        Ok(bytes)
    }

    /// These rows, in this order; one may come several times. Copies them.
    ///
    /// # Errors
    /// [`TensorError::Range`] for a row past the end and for a scalar,
    /// [`TensorError::TooLarge`] when the result exceeds [`TENSOR_BYTES_MAX`].
    pub fn gather(&self, rows: &[u32]) -> Result<Self, TensorError> {
        let bytes = self.gathered_bytes(rows)?;
        let shape = self.shape().with_rows(rows.len())?;
        if bytes == 0 {
            return Self::dense(self.dtype(), shape, Bytes::new());
        }
        let data = self.bytes();
        let mut out = Vec::with_capacity(bytes);
        if let Some(size) = self.dtype().size() {
            let row_bytes = self.shape().row_elements() * size;
            for &row in rows {
                let start = index(row) * row_bytes;
                out.extend_from_slice(&data[start..start + row_bytes]);
            }
        } else {
            let ends = self.row_ends();
            for &row in rows {
                out.extend_from_slice(&data[ends[index(row)]..ends[index(row) + 1]]);
            }
        }
        Self::dense(self.dtype(), shape, out.into())
    }

    /// Where each row of a BYTES tensor begins, and the last one ends. Rows must have
    /// elements: then there are fewer of them than bytes.
    fn row_ends(&self) -> Vec<usize> {
        let per_row = self.shape().row_elements();
        let data = self.bytes();
        let mut ends = vec![0];
        let mut end = 0;
        for _ in 0..self.shape().rows() {
            // The framing was checked when the tensor was made.
            end += strings::range(&data[end..], 0, per_row).map_or(0, |range| range.end);
            ends.push(end);
        }
        ends
    }

    /// The elements `start..start + count` as f32: rounded where that is narrower, 0 and
    /// 1 for truth values.
    ///
    /// # Errors
    /// [`TensorError::Range`] past the end, [`TensorError::Unsupported`] for BYTES.
    pub fn read_f32(&self, start: usize, count: usize) -> Result<Vec<f32>, TensorError> {
        let Some(size) = self.dtype().size() else { return Err(TensorError::Unsupported(self.dtype())) };
        let len = self.shape().elements();
        if start.checked_add(count).is_none_or(|end| end > len) {
            return Err(TensorError::Range { start, count, len });
        }
        let data = self.read(start * size, count * size)?;
        macro_rules! convert {
            ($type:ty, $convert:expr) => {
                data.chunks_exact(size_of::<$type>())
                    .filter_map(|chunk| chunk.try_into().ok())
                    .map(<$type>::from_le_bytes)
                    .map($convert)
                    .collect()
            };
        }
        #[expect(clippy::cast_possible_truncation, reason = "numbers are rounded here on purpose")]
        Ok(match self.dtype() {
            DType::Bytes => return Err(TensorError::Unsupported(DType::Bytes)),
            DType::Bool | DType::U8 => convert!(u8, f32::from),
            DType::U16 => convert!(u16, f32::from),
            DType::U32 => convert!(u32, |value| value as f32),
            DType::U64 => convert!(u64, |value| value as f32),
            DType::I8 => convert!(i8, f32::from),
            DType::I16 => convert!(i16, f32::from),
            DType::I32 => convert!(i32, |value| value as f32),
            DType::I64 => convert!(i64, |value| value as f32),
            DType::F16 => convert!(f16, f32::from),
            DType::Bf16 => convert!(bf16, f32::from),
            DType::F32 => convert!(f32, |value| value),
            DType::F64 => convert!(f64, |value| value as f32),
        })
    }
}

/// A `u32` from outside as an index; 32 bits always fit on supported machines.
fn index(value: u32) -> usize {
    value as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Shape, SparseRows};

    fn shape(dims: &[usize]) -> Shape {
        Shape::new(dims).expect("fits")
    }

    #[test]
    fn rows_of_every_kind_are_gathered_in_the_given_order() {
        let numbers = Tensor::from_f32(shape(&[3, 2]), &[0.0, 1.0, 2.0, 3.0, 4.0, 5.0]).expect("valid");
        let chosen = numbers.gather(&[2, 0, 2]).expect("in range");
        let want = Tensor::from_f32(shape(&[3, 2]), &[4.0, 5.0, 0.0, 1.0, 4.0, 5.0]).expect("valid");
        assert_eq!(chosen, want);
        let words = ["a", "", "ccc", "dd"].map(str::as_bytes);
        let words = Tensor::from_strings(shape(&[2, 2]), words.into_iter()).expect("valid");
        let chosen = words.gather(&[1, 0]).expect("in range");
        let texts: Vec<&[u8]> = chosen.strings().expect("BYTES").collect();
        assert_eq!(texts, [b"ccc".as_slice(), b"dd", b"a", b""]);
        assert_eq!(words.gathered_bytes(&[1, 1]), Ok(26));
        let sparse = SparseRows::new(2, (vec![1], vec![1.5]), vec![0, 0, 1], (vec![0], vec![2.0]));
        let sparse = Tensor::sparse(sparse.expect("valid")).expect("small");
        let want = Tensor::from_f32(shape(&[2, 2]), &[2.0, 1.5, 0.0, 1.5]).expect("valid");
        assert_eq!(sparse.gather(&[1, 0]).expect("in range"), want);
        assert_eq!(numbers.gather(&[]).expect("no rows").shape().dims(), [0, 2]);
    }

    #[test]
    fn rows_past_the_end_and_results_above_the_limit_are_refused() {
        let numbers = Tensor::from_f32(shape(&[2, 2]), &[0.0; 4]).expect("valid");
        assert_eq!(numbers.gather(&[0, 2]), Err(TensorError::Range { start: 2, count: 1, len: 2 }));
        let scalar = Tensor::from_f32(shape(&[]), &[0.0]).expect("valid");
        assert!(matches!(scalar.gather(&[0]), Err(TensorError::Range { .. })));
        let wide = Tensor::dense(DType::U8, shape(&[1, 1 << 20]), Bytes::from(vec![0; 1 << 20]));
        let wide = wide.expect("valid");
        assert!(matches!(wide.gather(&[0; 1000]), Err(TensorError::TooLarge { .. })));
        let empty = Tensor::dense(DType::Bytes, shape(&[usize::MAX, 0]), Bytes::new()).expect("valid");
        assert_eq!(empty.gather(&[7, 7]).expect("nothing to copy").shape().dims(), [2, 0]);
        let word = vec![b'x'; 1 << 20];
        let words = Tensor::from_strings(shape(&[1]), [word.as_slice()].into_iter()).expect("valid");
        assert!(matches!(words.gather(&[0; 1000]), Err(TensorError::TooLarge { .. })));
    }

    #[test]
    fn numbers_of_every_type_are_read_as_f32() {
        let read = |dtype, bytes: &[u8], count| {
            let data = Bytes::copy_from_slice(bytes);
            Tensor::dense(dtype, shape(&[count]), data).expect("valid").read_f32(1, 1).expect("in range")
        };
        assert_eq!(read(DType::Bool, &[0, 1], 2), [1.0]);
        assert_eq!(read(DType::I8, &[0, 0xff], 2), [-1.0]);
        assert_eq!(read(DType::U16, &[0, 0, 0xff, 0xff], 2), [65535.0]);
        assert_eq!(read(DType::F16, &[0, 0, 0, 0xc0], 2), [-2.0]);
        assert_eq!(read(DType::Bf16, &[0, 0, 0x40, 0xc0], 2), [-3.0]);
        let wide = [0i64.to_le_bytes(), (1i64 << 40).to_le_bytes()].concat();
        assert_eq!(read(DType::I64, &wide, 2), [1_099_511_627_776.0]);
        let wide = [0f64.to_le_bytes(), 0.1f64.to_le_bytes()].concat();
        assert_eq!(read(DType::F64, &wide, 2), [0.1f32]);
        let words = Tensor::from_strings(shape(&[1]), [b"1".as_slice()].into_iter()).expect("valid");
        assert_eq!(words.read_f32(0, 1), Err(TensorError::Unsupported(DType::Bytes)));
        let numbers = Tensor::from_f32(shape(&[2]), &[1.0, 2.0]).expect("valid");
        assert_eq!(numbers.read_f32(1, 2), Err(TensorError::Range { start: 1, count: 2, len: 2 }));
        assert!(numbers.read_f32(usize::MAX, 2).is_err());
    }
}
