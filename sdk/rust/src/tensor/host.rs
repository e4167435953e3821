//! A tensor that stays with the host, and how to read from it.

use crate::{DType, Element, Error, Result, imp};

/// One of the largest elements.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ranked {
    /// Its position, counted row-major.
    pub index: usize,
    /// The element.
    pub value: f64,
}

/// What one call to the host reads at most; longer reads take several calls. The
/// host's own limit on what a call may return lies above it.
const READ_BYTES_MAX: u32 = 4 * 1024 * 1024;

/// An immutable tensor in the host's memory. Nothing of it is copied into the
/// sandbox but what is read.
#[derive(Debug)]
pub struct HostTensor(pub(crate) imp::Tensor);

impl HostTensor {
    /// The type of the elements.
    pub fn dtype(&self) -> DType {
        self.0.dtype()
    }

    /// The dimensions, outermost first.
    pub fn shape(&self) -> Vec<usize> {
        self.0.shape().into_iter().map(|dimension| dimension as usize).collect()
    }

    /// The number of bytes.
    pub fn byte_len(&self) -> u64 {
        self.0.byte_length()
    }

    /// Some bytes. Traps past the end.
    pub fn read(&self, offset: u64, len: u32) -> Vec<u8> {
        self.0.read(offset, len)
    }

    /// All bytes.
    pub fn read_all(&self) -> Vec<u8> {
        let (mut at, end) = (0, self.byte_len());
        let first = chunk_len(at, end);
        let mut bytes = self.read(at, first);
        at += u64::from(first);
        while at < end {
            let len = chunk_len(at, end);
            bytes.extend_from_slice(&self.read(at, len));
            at += u64::from(len);
        }
        bytes
    }

    /// The rows `start .. start + count` as a tensor of their own, without a copy.
    /// Traps past the end.
    #[must_use]
    pub fn rows(&self, start: u32, count: u32) -> Self {
        Self(self.0.rows(start, count))
    }

    /// The `k` largest elements, largest first, equal ones in order, NaN last. The
    /// host searches; only the `k` are copied.
    ///
    /// # Errors
    /// 500 for `bool` and `bytes`.
    pub fn top_k(&self, k: u32) -> Result<Vec<Ranked>> {
        match self.dtype() {
            dtype @ (DType::Bool | DType::Bytes) => Err(self.wrong(dtype, "ranked")),
            _ => Ok(self.0.top_k(k)),
        }
    }

    /// All elements, if they are of exactly this type.
    ///
    /// # Errors
    /// 500 for another type.
    pub fn values<T: Element>(&self) -> Result<Vec<T>> {
        let dtype = self.dtype();
        if dtype == T::DTYPE {
            Ok(T::unpack(&self.read_all()))
        } else {
            Err(self.wrong(dtype, T::DTYPE.name()))
        }
    }

    /// All elements as `f32`, from any type of number; wide ones are rounded.
    ///
    /// # Errors
    /// 500 for `bool` and `bytes`.
    pub fn to_f32(&self) -> Result<Vec<f32>> {
        let dtype = self.dtype();
        let size = match dtype.size_bytes() {
            Some(size) if dtype != DType::Bool => size as u64,
            _ => return Err(self.wrong(dtype, "numbers")),
        };
        let elements = self.byte_len() / size;
        let mut values = self.read_f32(0, read_count(0, elements));
        while (values.len() as u64) < elements {
            let at = values.len() as u64;
            values.extend(self.read_f32(at, read_count(at, elements)));
        }
        Ok(values)
    }

    /// The elements `start .. start + count`, counted row-major, as `f32`: the host
    /// converts. Traps past the end and for `bytes`.
    pub fn read_f32(&self, start: u64, count: u32) -> Vec<f32> {
        self.0.read_fp32(start, count)
    }

    /// These rows, in this order, as a tensor of their own that stays with the host; one
    /// may come several times. Traps past the end.
    #[must_use]
    pub fn gather(&self, rows: &[u32]) -> Self {
        Self(self.0.gather(rows))
    }

    /// All elements of a `bytes` tensor.
    ///
    /// # Errors
    /// 500 for another type, 400 for elements that are not UTF-8.
    pub fn to_strings(&self) -> Result<Vec<String>> {
        let dtype = self.dtype();
        if dtype != DType::Bytes {
            return Err(self.wrong(dtype, "texts"));
        }
        let bytes = self.read_all();
        let (mut rest, mut texts) = (bytes.as_slice(), Vec::new());
        while let Some((len, tail)) = rest.split_first_chunk() {
            let text = tail.split_at_checked(u32::from_le_bytes(*len) as usize);
            let (text, tail) = text.ok_or_else(|| Error::internal("a bytes tensor is cut short"))?;
            texts.push(std::str::from_utf8(text)?.to_owned());
            rest = tail;
        }
        Ok(texts)
    }

    fn wrong(&self, dtype: DType, wanted: &str) -> Error {
        Error::internal(format!("a {dtype} tensor cannot be read as {wanted}"))
    }
}

/// How many of the elements `at .. end` the next call takes.
fn read_count(at: u64, end: u64) -> u32 {
    const COUNT_MAX: u32 = READ_BYTES_MAX / 4;
    u32::try_from(end - at).unwrap_or(COUNT_MAX).min(COUNT_MAX)
}

/// How much of `at .. end` the next call takes.
fn chunk_len(at: u64, end: u64) -> u32 {
    u32::try_from(end - at).unwrap_or(READ_BYTES_MAX).min(READ_BYTES_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_of_number_reads_as_f32() {
        let signed = HostTensor::from_values(&[2], [-3i64, 4]).expect("fits");
        assert_eq!(signed.to_f32(), Ok(vec![-3.0, 4.0]));
        assert_eq!(signed.values::<i64>(), Ok(vec![-3, 4]));
        assert_eq!(signed.values::<i32>().expect_err("another type").code(), 500);
        let half = HostTensor::from_bytes(DType::Fp16, &[1], vec![0, 0xC0]).expect("fits");
        assert_eq!(half.to_f32(), Ok(vec![-2.0]));
        let brain = HostTensor::from_bytes(DType::Bf16, &[1], vec![0x80, 0x3F]).expect("fits");
        assert_eq!(brain.to_f32(), Ok(vec![1.0]));
        let flags = HostTensor::from_values(&[1], [true]).expect("fits");
        assert_eq!(flags.to_f32().expect_err("no number").code(), 500);
    }

    #[test]
    fn a_tensor_longer_than_one_read_comes_whole() {
        let count = READ_BYTES_MAX as usize / 4 + 3;
        let values: Vec<u32> = (0..u32::try_from(count).expect("small")).collect();
        let tensor = HostTensor::from_values(&[count], &values).expect("fits");
        assert_eq!(tensor.to_f32().expect("numbers").len(), count);
        assert_eq!(tensor.values::<u32>(), Ok(values));
    }

    #[test]
    fn top_k_keeps_the_order_of_equals_and_puts_nan_last() {
        let tensor = HostTensor::from_values(&[5, 1], [1.0f32, f32::NAN, 3.0, 1.0, -1.0]).expect("fits");
        let indices = |k| -> Vec<usize> {
            tensor.top_k(k).expect("numbers").iter().map(|ranked| ranked.index).collect()
        };
        assert_eq!(indices(3), [2, 0, 3]);
        assert_eq!(indices(9), [2, 0, 3, 4, 1]);
        assert_eq!(indices(0), [0usize; 0]);
    }

    #[test]
    fn rows_are_a_part() {
        let tensor = HostTensor::from_values(&[3, 2], [1i32, 2, 3, 4, 5, 6]).expect("fits");
        let part = tensor.rows(1, 2);
        assert_eq!(part.shape(), [2, 2]);
        assert_eq!(part.values::<i32>(), Ok(vec![3, 4, 5, 6]));
        assert_eq!(part.rows(1, 1).values::<i32>(), Ok(vec![5, 6]));
        let chosen = tensor.gather(&[2, 0, 2]);
        assert_eq!((chosen.shape(), chosen.values::<i32>()), (vec![3, 2], Ok(vec![5, 6, 1, 2, 5, 6])));
        assert_eq!(chosen.read_f32(1, 2), [6.0, 1.0]);
    }

    #[test]
    fn texts_come_back() {
        let crate::Tensor::Value(value) = crate::Tensor::strings(&[2], &["a", "Déjà"]).expect("fits")
        else {
            panic!("by value")
        };
        let tensor = HostTensor::from_bytes(DType::Bytes, &[2], value.data).expect("fits");
        assert_eq!(tensor.to_strings(), Ok(vec!["a".to_owned(), "Déjà".to_owned()]));
        let cut = HostTensor::from_bytes(DType::Bytes, &[1], vec![9, 0, 0, 0, 1]).expect("unchecked");
        assert_eq!(cut.to_strings().expect_err("cut short").code(), 500);
    }
}
