//! The benchmark. One run measures, part by part (`parts`), every number that has a bar:
//! the gateway with WASM plugins beside the same functions compiled into the pipeline, the
//! bare engine and a bare HTTP echo; single calls; binary tensors; half load and ten times
//! the load; memory, allocations, and how costs grow.

pub mod bare;
pub mod bars;
#[path = "../../tests/src/bomb.rs"]
#[expect(
    dead_code,
    unreachable_pub,
    clippy::expect_used,
    reason = "the suite's; two of its bombs are used here"
)]
mod bomb;
pub mod bombs;
pub mod chart;
pub mod client;
pub mod counting;
pub mod echo;
pub mod grpc;
pub mod load;
pub mod metrics;
pub mod native;
pub mod open;
pub mod parts;
pub mod peers;
pub mod policies;
pub mod report;
pub mod requests;
pub mod server;
pub mod setups;
pub mod workload;
