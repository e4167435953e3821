//! What runs a model, behind one trait. The only crate that names rten and ort.
#![warn(missing_docs)]
#![allow(unsafe_code, reason = "one of the two crates that may: FFI")]

mod api;
mod error;

pub use api::*;
pub use error::EngineError;
