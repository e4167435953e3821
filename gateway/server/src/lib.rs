//! Sluice, the inference gateway: HTTP in front, plugins in a sandbox, batches on
//! an engine.
//!
//! Start reading at [`pipeline`]: it tells the story of a request. [`ingress`] is
//! where a request enters, [`catalog`] what is served, [`app`] how it all starts.

pub mod admin;
pub mod admission;
pub mod app;
pub mod auth;
pub mod catalog;
pub mod cli;
pub mod config;
pub mod error;
pub mod ingress;
pub mod lifecycle;
pub mod observe;
pub mod oci;
#[cfg(test)]
mod openapi_references;
pub mod pipeline;
pub mod refusal;
pub mod services;
pub mod shared_memory;
pub mod signature;
mod tensor_json;
pub mod wire_error;
