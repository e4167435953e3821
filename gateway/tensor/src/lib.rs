//! Typed tensors and the words that every room shares: data types, shapes,
//! tensors, model signatures, names. No I/O, no tokio, no `unsafe`.
//!
//! A [`Tensor`] is what crosses every boundary of the gateway: HTTP, plugins,
//! the batch and the engine. It is immutable and cheap to clone. Its bytes are
//! little-endian and row-major, as in KServe V2's binary tensors.
#![warn(missing_docs)]

mod dtype;
mod error;
mod name;
mod reads;
mod shape;
mod signature;
mod sparse;
mod strings;
mod tensor;
mod topk;

pub use dtype::DType;
pub use error::TensorError;
pub use name::{NAME_BYTES_MAX, check_name};
pub use reads::Gather;
pub use shape::{EMPTY_SPAN_MAX, RANK_MAX, Shape};
pub use signature::{Dim, EMPTY_INPUT_SPAN_MAX, Signature, TensorSpec};
pub use sparse::SparseRows;
pub use strings::Strings;
pub use tensor::{NamedTensor, Tensor, find, keep_with};
pub use topk::{Ranked, TopK};

/// Most bytes one tensor may hold once its rows are written out.
///
/// A few bytes of a request can describe a huge tensor (a sparse one, or a
/// list of `1`s that decodes four times larger), so the decoded size is what is
/// bounded. 64 MiB is Triton's default body limit. Exceeding it answers 413.
pub const TENSOR_BYTES_MAX: usize = 64 << 20;
