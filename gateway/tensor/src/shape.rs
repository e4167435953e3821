//! Shapes, whose element count is computed once and checked.

use std::fmt;

use crate::{DType, TensorError};

/// Most dimensions a tensor may have. Eight covers every model family in
/// use; more answers 400 `bad_shape`.
pub const RANK_MAX: usize = 8;

/// Most elements that the dimensions of an empty tensor may span, its zeros left out.
///
/// Such a tensor has no bytes, so nothing else bounds what it says: `[10^11, 0]` would have
/// engines loop over rows that nobody sent, and the next dimension that is filled up or
/// reduced away makes memory of them. Twice what a tensor with elements can span at one byte
/// each. More answers 400 `bad_shape`.
pub const EMPTY_SPAN_MAX: usize = 2 * crate::TENSOR_BYTES_MAX;

/// The dimensions of a tensor. The product of them is known to fit `usize`, also without its
/// zeros, and is bounded by [`EMPTY_SPAN_MAX`] where there are zeros.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Shape {
    dims: [usize; RANK_MAX],
    rank: u8,
    elements: usize,
}

impl Shape {
    /// Checks the rank and multiplies the dimensions.
    ///
    /// # Errors
    /// [`TensorError::Rank`] above [`RANK_MAX`] dimensions,
    /// [`TensorError::Overflow`] when the product does not fit, [`TensorError::Empty`] when
    /// there are no elements and the other dimensions span more than [`EMPTY_SPAN_MAX`].
    pub fn new(dims: &[usize]) -> Result<Self, TensorError> {
        let rank = dims.len();
        if rank > RANK_MAX {
            return Err(TensorError::Rank { rank, max: RANK_MAX });
        }
        // Zero dimensions must not hide what the others are.
        let span = dims
            .iter()
            .filter(|dim| **dim != 0)
            .try_fold(1usize, |product, dim| product.checked_mul(*dim))
            .ok_or(TensorError::Overflow)?;
        let is_empty = dims.contains(&0);
        if is_empty && span > EMPTY_SPAN_MAX {
            return Err(TensorError::Empty { span, max: EMPTY_SPAN_MAX });
        }
        let mut padded = [0; RANK_MAX];
        padded[..rank].copy_from_slice(dims);
        Ok(Self {
            dims: padded,
            rank: u8::try_from(rank).map_err(|_| TensorError::Overflow)?,
            elements: if is_empty { 0 } else { span },
        })
    }

    /// The dimensions, outermost first.
    pub fn dims(&self) -> &[usize] {
        &self.dims[..usize::from(self.rank)]
    }

    /// How many dimensions there are; 0 is a scalar.
    pub fn rank(&self) -> usize {
        usize::from(self.rank)
    }

    /// How many elements there are.
    pub fn elements(&self) -> usize {
        self.elements
    }

    /// The product of the dimensions that are not zero: what a walk over an empty tensor may
    /// still have to visit.
    pub fn span(&self) -> usize {
        self.dims().iter().filter(|dim| **dim != 0).product()
    }

    /// The first dimension: how many rows a batch sees. 1 for a scalar.
    pub fn rows(&self) -> usize {
        self.dims().first().copied().unwrap_or(1)
    }

    /// Elements of one row.
    pub fn row_elements(&self) -> usize {
        self.dims().iter().skip(1).product()
    }

    /// The same shape with another number of rows.
    ///
    /// # Errors
    /// [`TensorError::Overflow`] when the product does not fit, or for a scalar.
    pub fn with_rows(&self, rows: usize) -> Result<Self, TensorError> {
        let mut dims = self.dims;
        if self.rank == 0 {
            return Err(TensorError::Overflow);
        }
        dims[0] = rows;
        Self::new(&dims[..self.rank()])
    }

    /// Bytes of a tensor of this shape; `None` for BYTES.
    ///
    /// # Errors
    /// [`TensorError::Overflow`] when the product does not fit.
    pub fn bytes(&self, dtype: DType) -> Result<Option<usize>, TensorError> {
        match dtype.size() {
            None => Ok(None),
            Some(size) => {
                let bytes = self.elements.checked_mul(size).ok_or(TensorError::Overflow)?;
                Ok(Some(bytes))
            }
        }
    }
}

impl fmt::Debug for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.dims().fmt(f)
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[")?;
        for (index, dim) in self.dims().iter().enumerate() {
            if index > 0 {
                f.write_str(",")?;
            }
            write!(f, "{dim}")?;
        }
        f.write_str("]")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_product_that_does_not_fit_is_refused_even_behind_a_zero() {
        assert_eq!(Shape::new(&[1 << 31, 1 << 31, 4]), Err(TensorError::Overflow));
        assert_eq!(Shape::new(&[0, usize::MAX, 2]), Err(TensorError::Overflow));
        let span = 1 << 40;
        assert_eq!(Shape::new(&[span, 0]), Err(TensorError::Empty { span, max: EMPTY_SPAN_MAX }));
        assert_eq!(Shape::new(&[EMPTY_SPAN_MAX, 0]).expect("as much as is allowed").elements(), 0);
        assert_eq!(Shape::new(&[8, 0, 32, 128]).expect("an empty cache").span(), 8 * 32 * 128);
        assert_eq!(Shape::new(&[1; 9]), Err(TensorError::Rank { rank: 9, max: 8 }));
        let shape = Shape::new(&[usize::MAX / 2]).expect("fits");
        assert_eq!(shape.bytes(DType::F32), Err(TensorError::Overflow));
    }

    #[test]
    fn rows_and_row_elements_describe_the_batch_axis() {
        let shape = Shape::new(&[3, 4, 5]).expect("fits");
        assert_eq!((shape.rows(), shape.row_elements(), shape.elements()), (3, 20, 60));
        assert_eq!(shape.with_rows(7).expect("fits").dims(), &[7, 4, 5]);
        assert_eq!(Shape::new(&[]).expect("scalar").elements(), 1);
        assert_eq!(format!("{shape}"), "[3,4,5]");
    }
}
