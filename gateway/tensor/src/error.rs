//! What can be wrong with a tensor.

use crate::DType;

/// A tensor, shape or name that is not acceptable. Every variant is the fault
/// of whoever produced the tensor: a caller, a plugin or a model.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TensorError {
    /// The shape has more dimensions than [`crate::RANK_MAX`].
    #[error("shape has {rank} dimensions, at most {max} are allowed")]
    Rank {
        /// Dimensions given.
        rank: usize,
        /// Dimensions allowed.
        max: usize,
    },
    /// The element count, or its size in bytes, does not fit.
    #[error("shape is too large: its elements cannot be counted")]
    Overflow,
    /// There are no elements, and the other dimensions span more than is allowed.
    #[error("shape has no elements, and its other dimensions span {span}, at most {max} are allowed")]
    Empty {
        /// The product of the dimensions that are not zero.
        span: usize,
        /// The largest that is allowed.
        max: usize,
    },
    /// The tensor would be larger than the limit once written out.
    #[error("tensor is {bytes} bytes, at most {max} are allowed")]
    TooLarge {
        /// Bytes of the tensor.
        bytes: usize,
        /// Bytes allowed.
        max: usize,
    },
    /// The data is longer or shorter than shape and data type say.
    #[error("data is {got} bytes, shape and datatype say {want}")]
    Length {
        /// Bytes given.
        got: usize,
        /// Bytes expected.
        want: usize,
    },
    /// A BYTES tensor's length prefixes do not add up.
    #[error("BYTES data is malformed: {0}")]
    Framing(&'static str),
    /// A BOOL tensor holds a byte other than 0 and 1.
    #[error("BOOL data holds a byte other than 0 and 1")]
    Bool,
    /// A range reaches past the end of the tensor.
    #[error("range {start}+{count} reaches past the end, {len}")]
    Range {
        /// First row or byte asked for.
        start: usize,
        /// How many.
        count: usize,
        /// How many there are.
        len: usize,
    },
    /// The operation needs another data type.
    #[error("operation is not defined for {0}")]
    Unsupported(DType),
    /// A sparse tensor's parts do not fit together.
    #[error("sparse rows are malformed: {0}")]
    Sparse(&'static str),
    /// A tensor does not match the model's signature.
    #[error("{0}")]
    Signature(String),
    /// A name is empty, too long or holds a character that is not allowed.
    #[error("name is not valid: use 1 to 128 of A-Z a-z 0-9 _ . - and start with a letter or digit")]
    Name,
}
