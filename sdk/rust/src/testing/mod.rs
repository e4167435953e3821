//! Stand-ins for the host, wherever there is none: what tests and native callers use.
//!
//! Stores, models and log lines belong to the current thread, so that tests which
//! run side by side do not meet.

mod models;
mod stores;
mod tensor;

use std::cell::RefCell;

pub(crate) use models::{Pending, infer, submit};
pub use models::{set_model, submitted_models};
pub use stores::set_store;
pub(crate) use stores::{Bucket, open_bucket};
pub(crate) use tensor::{Tensor, Writer};

use crate::log::Level;

thread_local! {
    static LINES: RefCell<Vec<(Level, String)>> = const { RefCell::new(Vec::new()) };
}

/// Lines kept for [`log_lines`]; more are dropped, for a native caller never asks.
const LINES_MAX: usize = 1_000;

pub(crate) fn log(level: Level, message: &str) {
    LINES.with_borrow_mut(|lines| {
        if lines.len() < LINES_MAX {
            lines.push((level, message.to_owned()));
        }
    });
}

/// The log lines of this thread so far; they are forgotten.
pub fn log_lines() -> Vec<(Level, String)> {
    LINES.take()
}
