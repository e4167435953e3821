//! `sluice:plugin/spans`: a plugin's steps in the trace of the request.
//!
//! Nothing here fails a call: what is too much or too long is cut or left out. Without
//! somebody who looks at traces a span is an empty handle.

use std::fmt;
use std::sync::Arc;

use tracing::Span;
use wasmtime::component::{HasSelf, Linker, Resource};

use super::logging::clean;
use crate::bindings::sluice::plugin::spans::{self, Attribute, Host, HostSpan, Value};
use crate::state::State;

/// Spans of one call that are recorded. A trace with more is no longer read by people,
/// and each costs the exporter about a kilobyte.
const SPANS_PER_CALL_MAX: u32 = 64;

/// Attributes of one span. Collectors drop from 128 on.
const ATTRIBUTES_PER_SPAN_MAX: u32 = 32;

/// Events of one span, and attributes of one event.
const EVENTS_PER_SPAN_MAX: u32 = 32;
const ATTRIBUTES_PER_EVENT_MAX: usize = 8;

/// Most bytes of a span's, an event's or an attribute's name.
const NAME_BYTES_MAX: usize = 64;

/// Most bytes of an attribute that is text: more is a dump of data.
const TEXT_BYTES_MAX: usize = 256;

/// The value of an attribute.
#[derive(Debug, Clone, PartialEq)]
pub enum SpanValue {
    /// Text without control characters.
    Text(String),
    /// A whole number.
    Integer(i64),
    /// Any other number.
    Number(f64),
    /// A truth value.
    Bool(bool),
}

/// Takes what a plugin tells of its spans. The spans themselves are `tracing`'s, in the
/// span of the call; their fields are fixed when they are compiled, and a plugin's are
/// not.
///
/// What arrives is bounded in number and length, and holds no control characters.
/// Called on a guest thread, so it must not block.
pub trait SpanSink: fmt::Debug + Send + Sync {
    /// Sets an attribute.
    fn attribute(&self, span: &Span, key: String, value: SpanValue);

    /// Records something that happened now.
    fn event(&self, span: &Span, name: String, attributes: Vec<(String, SpanValue)>);
}

/// The spans of one call.
pub(crate) struct CallSpans {
    sink: Option<Arc<dyn SpanSink>>,
    started: u32,
    /// Those that have not ended, innermost last.
    open: Vec<Open>,
}

struct Open {
    number: u32,
    span: Span,
}

impl CallSpans {
    pub(crate) fn new(sink: Option<Arc<dyn SpanSink>>) -> Self {
        Self { sink, started: 0, open: Vec::new() }
    }

    /// Ends what is open and starts to count anew.
    pub(crate) fn next_call(&mut self) {
        self.open.clear();
        self.started = 0;
    }

    /// The span that the guest is in, if it is in one of its own.
    pub(crate) fn innermost(&self) -> Option<Span> {
        self.open.last().map(|open| open.span.clone())
    }

    /// Starts a span within the innermost, or else within the call's. Its number, unless
    /// it is not recorded.
    fn start(&mut self, name: &str, call: &Span) -> Option<u32> {
        let parent = self.open.last().map_or(call, |open| &open.span);
        if self.sink.is_none() || self.started >= SPANS_PER_CALL_MAX || parent.is_disabled() {
            return None;
        }
        let name = clean(name, NAME_BYTES_MAX);
        let span = tracing::debug_span!(target: "sluice_guest", parent: parent, "guest", otel.name = name);
        self.started += 1;
        self.open.push(Open { number: self.started, span });
        Some(self.started)
    }

    fn find(&self, number: u32) -> Option<&Span> {
        self.open.iter().rev().find(|open| open.number == number).map(|open| &open.span)
    }

    /// Ends a span. Those inside it go on; what starts next is in the innermost of them.
    fn end(&mut self, number: u32) {
        self.open.retain(|open| open.number != number);
    }
}

/// A span that a guest holds.
#[expect(unreachable_pub, reason = "the generated bindings re-export it")]
pub struct GuestSpan {
    /// `None` if it is not recorded.
    number: Option<u32>,
    attributes: u32,
    events: u32,
}

pub(crate) fn link(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    spans::add_to_linker::<State, HasSelf<State>>(linker, |state| state)
}

fn cleaned(value: Value) -> SpanValue {
    match value {
        Value::Text(text) => SpanValue::Text(clean(&text, TEXT_BYTES_MAX)),
        Value::Integer(number) => SpanValue::Integer(number),
        Value::Number(number) => SpanValue::Number(number),
        Value::Bool(value) => SpanValue::Bool(value),
    }
}

impl Host for State {}

impl HostSpan for State {
    fn new(&mut self, name: String) -> wasmtime::Result<Resource<GuestSpan>> {
        let number = self.spans.start(&name, &self.call.span);
        Ok(self.table.push(GuestSpan { number, attributes: 0, events: 0 })?)
    }

    fn set(&mut self, span: Resource<GuestSpan>, key: String, value: Value) -> wasmtime::Result<()> {
        let guest = self.table.get_mut(&span)?;
        guest.attributes = guest.attributes.saturating_add(1);
        if guest.attributes > ATTRIBUTES_PER_SPAN_MAX {
            return Ok(());
        }
        if let Some(span) = guest.number.and_then(|number| self.spans.find(number))
            && let Some(sink) = &self.spans.sink
        {
            sink.attribute(span, clean(&key, NAME_BYTES_MAX), cleaned(value));
        }
        Ok(())
    }

    fn event(
        &mut self,
        span: Resource<GuestSpan>,
        name: String,
        attributes: Vec<Attribute>,
    ) -> wasmtime::Result<()> {
        let guest = self.table.get_mut(&span)?;
        guest.events = guest.events.saturating_add(1);
        if guest.events > EVENTS_PER_SPAN_MAX {
            return Ok(());
        }
        if let Some(span) = guest.number.and_then(|number| self.spans.find(number))
            && let Some(sink) = &self.spans.sink
        {
            let attributes = attributes.into_iter().take(ATTRIBUTES_PER_EVENT_MAX);
            let attributes =
                attributes.map(|one| (clean(&one.key, NAME_BYTES_MAX), cleaned(one.value))).collect();
            sink.event(span, clean(&name, NAME_BYTES_MAX), attributes);
        }
        Ok(())
    }

    fn drop(&mut self, span: Resource<GuestSpan>) -> wasmtime::Result<()> {
        if let Some(number) = self.table.delete(span)?.number {
            self.spans.end(number);
        }
        Ok(())
    }
}
