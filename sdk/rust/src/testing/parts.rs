//! Parts, kept for the test that asks.

use std::cell::RefCell;
use std::time::Duration;

use crate::Tensor;
use crate::parts::Error;

/// A part that was sent.
#[derive(Debug)]
pub enum SentPart {
    /// Bytes of a body.
    Body(Vec<u8>),
    /// An answer of tensors.
    Tensors(Vec<(String, Tensor)>),
}

/// Parts that are kept; more are dropped, for a native caller never asks.
const PARTS_MAX: usize = 1_000;

thread_local! {
    static SENT: RefCell<Vec<SentPart>> = const { RefCell::new(Vec::new()) };
}

/// The parts that were sent on this thread, in order; they are forgotten.
pub fn sent_parts() -> Vec<SentPart> {
    SENT.take()
}

fn keep(part: SentPart) {
    SENT.with_borrow_mut(|sent| {
        if sent.len() < PARTS_MAX {
            sent.push(part);
        }
    });
}

pub(crate) fn content_type(_value: &str) {}

#[expect(clippy::unnecessary_wraps, reason = "the host's may fail")]
pub(crate) fn send_bytes(bytes: Vec<u8>) -> Result<(), Error> {
    keep(SentPart::Body(bytes));
    Ok(())
}

#[expect(clippy::unnecessary_wraps, reason = "the host's may fail")]
pub(crate) fn send_tensors(tensors: Vec<(String, Tensor)>) -> Result<(), Error> {
    keep(SentPart::Tensors(tensors));
    Ok(())
}

/// Nobody waits in a test.
pub(crate) fn pause(_time: Duration) {}
