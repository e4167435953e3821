//! Write plugins for the Sluice inference gateway: a struct, one trait, one macro line.
//!
//! ```
//! use sluice_sdk::{Config, Error, Inputs, Prepared, Preprocessor, Request, Tensor};
//!
//! #[derive(serde::Deserialize)]
//! struct Body {
//!     numbers: Vec<f32>,
//! }
//!
//! struct Numbers;
//!
//! impl Preprocessor for Numbers {
//!     fn init(_config: Config) -> Result<Self, String> {
//!         Ok(Self)
//!     }
//!
//!     fn preprocess(&mut self, request: Request) -> Result<Prepared, Error> {
//!         let body: Body = request.json()?;
//!         let x = Tensor::f32(&[1, body.numbers.len()], body.numbers)?;
//!         Ok(Inputs::new().with("x", x).into())
//!     }
//! }
//!
//! sluice_sdk::export_preprocessor!(Numbers);
//! ```
//!
//! Nothing here is WebAssembly to the author: on any other target the same code
//! compiles against in-memory stand-ins (module [`testing`]), so a plugin's
//! logic is tested with plain `cargo test`. The guide is the crate's README.

mod answer;
mod carry;
mod config;
mod error;
mod export;
mod host;
pub mod json;
mod plugin;
mod prepared;
mod request;
mod tensor;

#[cfg(not(target_arch = "wasm32"))]
pub mod testing;
#[cfg(not(target_arch = "wasm32"))]
use testing as imp;

#[cfg(target_arch = "wasm32")]
#[doc(hidden)]
pub mod wasm;
#[cfg(target_arch = "wasm32")]
use wasm as imp;

pub use answer::{Answer, HttpAnswer};
pub use carry::{Carry, CarryReader, CarryWriter};
pub use config::Config;
pub use error::{Error, Result};
pub use host::{deadline, inference, kv, log, parts, trace};
pub use plugin::{Pipeline, Postprocessor, Preprocessor, Transformer};
pub use prepared::{Inputs, Prepared};
pub use request::{Body, Context, Parameter, Payload, Request, Route};
pub use tensor::{
    DType, Element, HostTensor, Ranked, SparseRows, Tensor, TensorValue, TensorWriter, Tensors,
};

/// Compiles and runs the code of the guide.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
