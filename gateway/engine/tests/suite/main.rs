//! The promises of the engines, each on the real thing.
//!
//! Needs the ONNX Runtime library that `make setup` fetches: without it these tests
//! fail and say so, because half of what they promise would be unproven.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should say where")]

mod agree;
mod batches;
mod common;
mod dtypes;
mod interrupts;
mod loading;
mod simulated;
mod threads;
