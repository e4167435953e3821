//! What plugins tell of their own spans, put into the trace. The sandbox has bounded and
//! cleaned it.

use opentelemetry::{KeyValue, Value};
use sluice_sandbox::{SpanSink, SpanValue};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

/// Prefix of a plugin's attributes, so that none can pass for one of the gateway's or of
/// OpenTelemetry's conventions.
const PREFIX: &str = "plugin.";

/// Hands attributes and events to OpenTelemetry.
#[derive(Debug, Clone, Copy)]
pub struct PluginSpans;

impl SpanSink for PluginSpans {
    fn attribute(&self, span: &Span, key: String, value: SpanValue) {
        span.set_attribute(PREFIX.to_owned() + &key, to_value(value));
    }

    fn event(&self, span: &Span, name: String, attributes: Vec<(String, SpanValue)>) {
        let attributes = attributes.into_iter();
        let attributes =
            attributes.map(|(key, value)| KeyValue::new(PREFIX.to_owned() + &key, to_value(value)));
        span.add_event(name, attributes.collect());
    }
}

fn to_value(value: SpanValue) -> Value {
    match value {
        SpanValue::Text(text) => Value::String(text.into()),
        SpanValue::Integer(number) => Value::I64(number),
        SpanValue::Number(number) => Value::F64(number),
        SpanValue::Bool(value) => Value::Bool(value),
    }
}
