//! The benchmark. One run puts side by side, on one machine: the gateway with WASM
//! plugins (a fresh instance for each request, and reused ones), the same functions
//! compiled natively into the pipeline, the bare engine at the batch sizes that the
//! gateway formed, and a bare HTTP echo of the same bodies.

pub mod bare;
pub mod calls;
pub mod echo;
pub mod load;
pub mod native;
pub mod report;
pub mod server;
pub mod workload;
