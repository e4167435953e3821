//! What the suite shares: a real gateway in the test process, a client that is not
//! ours, and the places of the repository.
#![allow(clippy::expect_used, clippy::missing_panics_doc, reason = "a test that cannot go on panics")]

pub mod client;
pub mod gateway;
pub mod guests;

use std::path::PathBuf;

/// The root of the repository.
pub fn repository() -> PathBuf {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..");
    root.canonicalize().expect("the repository is where the crate was built")
}
