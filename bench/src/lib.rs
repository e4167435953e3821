//! The benchmark. One run puts side by side, on one machine: the gateway with WASM
//! plugins (a fresh instance for each request, and reused ones), the same functions
//! compiled natively into the pipeline, the bare engine at the batch sizes that the
//! gateway formed, and a bare HTTP echo of the same bodies.

pub mod bare;
#[path = "../../tests/src/bomb.rs"]
#[expect(
    dead_code,
    unreachable_pub,
    clippy::expect_used,
    reason = "the suite's; two of its bombs are used here"
)]
mod bomb;
pub mod bombs;
pub mod calls;
pub mod echo;
pub mod load;
pub mod native;
pub mod policies;
pub mod report;
pub mod server;
pub mod workload;
