//! Room 1: where a request enters. It is accepted here, decoded by its protocol's
//! module, and its answer is encoded by the same module.

mod classification;
mod compression;
pub mod grpc;
mod heads;
pub mod http;
pub mod infer;
pub mod listener;
pub mod memory;
mod offload;
mod pace;
pub mod parameters;
mod readers;
pub mod served;
pub mod settings;
mod streams;
