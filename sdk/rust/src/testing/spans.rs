//! Spans, kept for the test that asks.

use std::cell::RefCell;

use crate::trace::Value;

/// A span that has ended.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct EndedSpan {
    /// Its name.
    pub name: String,
    /// The name of the one it was in.
    pub parent: Option<String>,
    /// What was set, in order.
    pub attributes: Vec<(String, Value)>,
    /// The names of what happened in it.
    pub events: Vec<String>,
}

/// Ended spans that are kept; more are dropped, for a native caller never asks.
const SPANS_MAX: usize = 1_000;

thread_local! {
    static OPEN: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
    static ENDED: RefCell<Vec<EndedSpan>> = const { RefCell::new(Vec::new()) };
}

/// The spans of this thread that have ended, in that order; they are forgotten.
pub fn spans() -> Vec<EndedSpan> {
    ENDED.take()
}

#[derive(Debug)]
pub(crate) struct Span(RefCell<EndedSpan>);

impl Span {
    pub(crate) fn new(name: &str) -> Self {
        let parent = OPEN.with_borrow(|open| open.last().cloned());
        OPEN.with_borrow_mut(|open| open.push(name.to_owned()));
        let (attributes, events) = (Vec::new(), Vec::new());
        Self(RefCell::new(EndedSpan { name: name.to_owned(), parent, attributes, events }))
    }

    pub(crate) fn set(&self, key: &str, value: Value) {
        self.0.borrow_mut().attributes.push((key.to_owned(), value));
    }

    pub(crate) fn event(&self, name: &str, _attributes: Vec<(String, Value)>) {
        self.0.borrow_mut().events.push(name.to_owned());
    }
}

impl Drop for Span {
    fn drop(&mut self) {
        let span = self.0.get_mut();
        OPEN.with_borrow_mut(|open| {
            if let Some(at) = open.iter().rposition(|name| *name == span.name) {
                open.remove(at);
            }
        });
        ENDED.with_borrow_mut(|ended| {
            if ended.len() < SPANS_MAX {
                ended.push(span.clone());
            }
        });
    }
}
