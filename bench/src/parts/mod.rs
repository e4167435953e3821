//! The parts of the benchmark. Each measures one thing, says it in Markdown, and gives the
//! numbers that have a bar.

pub mod allocations;
pub mod calls;
pub mod growth;
pub mod half_load;
pub mod memory;
pub mod overload;
pub mod plugins;
pub mod v2;
