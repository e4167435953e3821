//! What the benchmark measures with: a load generator, and the echo server that is its ceiling.

pub mod echo;
pub mod load;
