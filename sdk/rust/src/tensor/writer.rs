//! Takes a tensor out of the plugin piece by piece.

use super::value::narrow;
use crate::{DType, Element, HostTensor, Result, imp};

/// A tensor that is written into the host's memory piece by piece, each with one
/// copy: for tensors too large to hold in the sandbox as well. It starts as zeros.
#[derive(Debug)]
pub struct TensorWriter(imp::Writer);

impl TensorWriter {
    /// Starts a tensor of zeros. Traps for `bytes`, and above the host's limit.
    ///
    /// # Errors
    /// 500 for a dimension beyond `u32`.
    pub fn new(dtype: DType, shape: &[usize]) -> Result<Self> {
        Ok(Self(imp::Writer::new(dtype, &narrow(shape)?)))
    }

    /// Writes bytes, little-endian. Traps past the end.
    pub fn write(&mut self, offset: u64, data: &[u8]) {
        self.0.write(offset, data);
    }

    /// Writes elements from the position of one on. Traps past the end.
    pub fn write_values<T: Element>(&mut self, start: u64, values: &[T]) {
        self.0.write(start * size_of::<T>() as u64, &T::pack(values));
    }

    /// The finished tensor.
    pub fn finish(self) -> HostTensor {
        HostTensor(self.0.finish())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_written_is_zero() {
        let mut writer = TensorWriter::new(DType::Fp32, &[2, 2]).expect("small");
        writer.write_values(1, &[1.5f32, 2.5]);
        assert_eq!(writer.finish().values::<f32>(), Ok(vec![0.0, 1.5, 2.5, 0.0]));
    }
}
