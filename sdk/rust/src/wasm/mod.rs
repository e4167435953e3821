//! The real host: bindings to the contract, and what the macros export.

pub mod bindings;
mod calls;
mod convert;
mod export;
mod tensor;

pub(crate) use calls::{
    Bucket, Pending, Span, content_type, infer, log, open_bucket, pause, send_bytes, send_tensors, submit,
    time_left,
};
pub use export::{PipelineExport, PostprocessorExport, PreprocessorExport, Slot, TransformerExport};
pub(crate) use tensor::{Tensor, Writer};

/// Hands out the memory behind the plugin's data before it grows any.
#[cfg(all(feature = "allocator", target_os = "unknown"))]
#[global_allocator]
static HEAP: dlmalloc::GlobalDlmalloc = dlmalloc::GlobalDlmalloc;
