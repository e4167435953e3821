//! What the host does for plugins.

pub mod inference;
pub mod kv;
pub mod log;
