//! What the host does for plugins.

pub mod deadline;
pub mod inference;
pub mod kv;
pub mod log;
pub mod parts;
pub mod trace;
