//! Cheap ways to see a part of a tensor: chosen rows, and numbers as f32.

use std::borrow::Cow;

use bytes::Bytes;
use half::{bf16, f16};

use crate::{DType, TENSOR_BYTES_MAX, Tensor, TensorError, strings};

/// Rows on their way out of a tensor, a piece of them at a time.
#[derive(Debug)]
pub struct Gather<'a> {
    tensor: &'a Tensor,
    rows: &'a [u32],
    data: Cow<'a, [u8]>,
    /// Where the rows of a BYTES tensor begin, and the last one ends.
    ends: Vec<usize>,
    bytes: usize,
    next: usize,
    out: Vec<u8>,
}

impl<'a> Gather<'a> {
    /// Bytes that [`Gather::new`] takes for itself.
    pub fn scratch_bytes(tensor: &Tensor) -> usize {
        let counts_rows = tensor.dtype().size().is_none() && tensor.shape().row_elements() > 0;
        if counts_rows {
            tensor.shape().rows().saturating_add(1).saturating_mul(size_of::<usize>())
        } else {
            0
        }
    }

    /// Rows to be copied, in this order; one may come several times. Copies nothing yet.
    ///
    /// # Errors
    /// [`TensorError::Range`] for a row past the end and for a scalar,
    /// [`TensorError::TooLarge`] when the result exceeds [`TENSOR_BYTES_MAX`].
    pub fn new(tensor: &'a Tensor, rows: &'a [u32]) -> Result<Self, TensorError> {
        let shape = tensor.shape();
        let len = if shape.rank() == 0 { 0 } else { shape.rows() };
        if let Some(&row) = rows.iter().find(|&&row| index(row) >= len) {
            return Err(TensorError::Range { start: index(row), count: 1, len });
        }
        let mut ends = Vec::new();
        let bytes = match tensor.dtype().size() {
            Some(size) => {
                let row_bytes = shape.row_elements().checked_mul(size);
                row_bytes.and_then(|bytes| bytes.checked_mul(rows.len())).ok_or(TensorError::Overflow)?
            }
            // No bytes, however many rows the shape claims.
            None if shape.row_elements() == 0 => 0,
            None => {
                ends = tensor.row_ends();
                let length = |row: usize| ends[row + 1] - ends[row];
                rows.iter().map(|&row| length(index(row))).fold(0, usize::saturating_add)
            }
        };
        if bytes > TENSOR_BYTES_MAX {
            return Err(TensorError::TooLarge { bytes, max: TENSOR_BYTES_MAX });
        }
        let data = if bytes == 0 { Cow::Borrowed(&[][..]) } else { tensor.bytes() };
        Ok(Self { tensor, rows, data, ends, bytes, next: 0, out: Vec::new() })
    }

    /// Bytes of the result.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Copies rows until these are so many bytes, or more; whether rows are left.
    pub fn copy(&mut self, bytes: usize) -> bool {
        if self.bytes == 0 {
            return false;
        }
        self.out.reserve_exact(self.bytes - self.out.len());
        let enough = self.out.len().saturating_add(bytes);
        let row_bytes = self.tensor.dtype().size().map(|size| self.tensor.shape().row_elements() * size);
        while let Some(&row) = self.rows.get(self.next) {
            if self.out.len() >= enough {
                return true;
            }
            let row = index(row);
            let range = match row_bytes {
                Some(row_bytes) => row * row_bytes..(row + 1) * row_bytes,
                None => self.ends[row]..self.ends[row + 1],
            };
            self.out.extend_from_slice(&self.data[range]);
            self.next += 1;
        }
        false
    }

    /// The rows that were copied, as a tensor over what `keep` makes of its bytes.
    ///
    /// # Errors
    /// [`TensorError::Length`] if rows are left, or `keep` gives other bytes.
    pub fn finish(self, keep: impl FnOnce(Vec<u8>) -> Bytes) -> Result<Tensor, TensorError> {
        let shape = self.tensor.shape().with_rows(self.rows.len())?;
        Tensor::dense(self.tensor.dtype(), shape, keep(self.out))
    }
}

impl Tensor {
    /// These rows, in this order; one may come several times. Copies them.
    ///
    /// # Errors
    /// As [`Gather::new`].
    pub fn gather(&self, rows: &[u32]) -> Result<Self, TensorError> {
        let mut gather = Gather::new(self, rows)?;
        gather.copy(gather.bytes());
        gather.finish(Bytes::from)
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
        assert_eq!(Gather::new(&words, &[1, 1]).expect("in range").bytes(), 26);
        let mut pieces = Gather::new(&words, &[1, 0]).expect("in range");
        assert!(pieces.copy(1) && !pieces.copy(100), "a row at least at a time");
        assert_eq!(pieces.finish(Bytes::from).expect("whole"), chosen);
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
        let empty =
            Tensor::dense(DType::Bytes, shape(&[crate::EMPTY_SPAN_MAX, 0]), Bytes::new()).expect("valid");
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
