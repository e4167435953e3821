//! What the suite shares: a real gateway in the test process, a client that is not
//! ours, and the places of the repository.
#![allow(clippy::expect_used, clippy::missing_panics_doc, reason = "a test that cannot go on panics")]

pub mod bomb;
pub mod canary;
pub mod client;
pub mod gateway;
pub mod grpc;
pub mod guests;
pub mod models;
pub mod openapi;
pub mod plugin_store;
pub mod process;
pub mod text;
pub mod versions;

/// The sandbox's own suite writes guests as text; so does this one.
#[path = "../../gateway/sandbox/tests/suite/guest.rs"]
#[expect(
    dead_code,
    clippy::unwrap_used,
    reason = "each suite uses a part of it, and a test that cannot go on panics"
)]
mod guest;
pub mod services;

use std::path::PathBuf;

/// The root of the repository.
pub fn repository() -> PathBuf {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..");
    root.canonicalize().expect("the repository is where the crate was built")
}

/// The real program, built beside the suite; `SLUICE_PROGRAM` names another one.
pub fn program() -> PathBuf {
    let beside = || {
        let tests = std::env::current_exe().expect("a path");
        let folder = tests.parent().and_then(|deps| deps.parent()).expect("a target folder");
        folder.join("sluice")
    };
    let program = std::env::var_os("SLUICE_PROGRAM").map_or_else(beside, PathBuf::from);
    assert!(program.is_file(), "{} is not built: cargo build --bin sluice", program.display());
    program
}
