//! What runs a model, behind one trait. The only crate that names rten and ort.
#![warn(missing_docs)]
#![allow(unsafe_code, reason = "one of the two crates that may: FFI")]

mod api;
mod batch;
mod embedded;
mod error;
mod interrupt;
mod onnxruntime;
mod padding;
mod scatter;
mod select;
mod sim;
mod staging;
mod stopwatch;

pub use api::*;
pub use embedded::Embedded;
pub use error::EngineError;
pub use interrupt::{HookGuard, Interrupt};
pub use onnxruntime::{OnnxRuntime, find_onnxruntime};
pub use padding::{Padding, PaddingSpec};
pub use select::{EngineChoice, select};
pub use sim::Sim;
