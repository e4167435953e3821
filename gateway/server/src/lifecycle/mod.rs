//! The life of the process beside requests: reload, and the way out.

pub mod drain;
pub mod reload;
