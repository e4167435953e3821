//! The settings of logs and traces: gRPC's messages are those of HTTP, with each value in a
//! message of its own.

use serde_json::{Map, Value, json};

use crate::auth::Identity;
use crate::error::Result;
use crate::ingress::http::Front;
use crate::ingress::settings;

/// `LogSettings`: changes what is named, and says what is in force.
pub(super) fn log(request: &Value, identity: &Identity) -> Result<Value> {
    let change = entries(request, |choice| {
        // One of bool_param, uint32_param and string_param.
        choice.as_object().and_then(|choice| choice.values().next()).cloned().unwrap_or_default()
    });
    let now = if change.is_empty() { settings::log() } else { settings::change_log(&change)? };
    noted(&change, identity, &now);
    let choice = |value: &Value| match value {
        Value::Bool(_) => json!({ "bool_param": value }),
        Value::Number(_) => json!({ "uint32_param": value }),
        _ => json!({ "string_param": value }),
    };
    Ok(answer(&now, choice))
}

/// `TraceSetting`: the same, globally or for a model. An empty list clears a setting.
pub(super) fn trace(front: &Front, request: &Value, identity: &Identity) -> Result<Value> {
    let change = entries(request, |setting| match setting["value"].as_array() {
        Some(values) if !values.is_empty() => json!(values),
        _ => Value::Null,
    });
    let model = request["model_name"].as_str().filter(|model| !model.is_empty());
    let snapshot = front.catalog.snapshot();
    let now = if change.is_empty() {
        settings::trace(&snapshot, &front.tracer, model)?
    } else {
        settings::change_trace(&snapshot, &front.tracer, model, &change)?
    };
    noted(&change, identity, &now);
    Ok(answer(
        &now,
        |value| if value.is_array() { json!({ "value": value }) } else { json!({ "value": [value] }) },
    ))
}

fn entries(request: &Value, flat: impl Fn(&Value) -> Value) -> Map<String, Value> {
    let settings = request["settings"].as_object().into_iter().flatten();
    settings.map(|(name, value)| (name.clone(), flat(value))).collect()
}

fn answer(settings: &Value, form: impl Fn(&Value) -> Value) -> Value {
    let settings = settings.as_object().into_iter().flatten();
    let settings: Map<String, Value> = settings.map(|(name, value)| (name.clone(), form(value))).collect();
    json!({ "settings": settings })
}

fn noted(change: &Map<String, Value>, identity: &Identity, now: &Value) {
    if !change.is_empty() {
        tracing::warn!(who = &*identity.name, settings = %now, "settings changed");
    }
}
