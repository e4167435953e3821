//! Stand-ins for the host, wherever there is none: what tests and native callers use.
//!
//! Stores, models and log lines belong to the current thread, so that tests which
//! run side by side do not meet.

mod float16;
mod models;
mod parts;
mod spans;
mod stores;
mod tensor;

use std::cell::{Cell, RefCell};
use std::time::Duration;

pub(crate) use models::{Pending, infer, submit};
pub use models::{set_model, submitted_models};
pub use parts::{SentPart, sent_parts};
pub(crate) use parts::{content_type, pause, send_bytes, send_tensors};
pub(crate) use spans::Span;
pub use spans::{EndedSpan, spans};
pub use stores::set_store;
pub(crate) use stores::{Bucket, open_bucket};
pub(crate) use tensor::{Tensor, Writer};

use crate::log::Level;

thread_local! {
    static LINES: RefCell<Vec<(Level, String)>> = const { RefCell::new(Vec::new()) };
    static TIME_LEFT: Cell<Duration> = const { Cell::new(TIME_LEFT_UNSET) };
}

/// Lines kept for [`log_lines`]; more are dropped, for a native caller never asks.
const LINES_MAX: usize = 1_000;

/// What [`deadline::left`](crate::deadline::left) says until a test sets it: plenty.
pub(crate) const TIME_LEFT_UNSET: Duration = Duration::from_secs(60);

/// Sets what [`deadline::left`](crate::deadline::left) says on this thread.
pub fn set_time_left(left: Duration) {
    TIME_LEFT.set(left);
}

pub(crate) fn time_left() -> Duration {
    TIME_LEFT.get()
}

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
