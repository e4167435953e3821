//! What tests of both OpenAPI documents look at: whether references lead somewhere.

use serde_json::Value;

/// Follows every reference of a document, and says how many there are.
///
/// # Panics
/// On one that leads nowhere.
pub(crate) fn references(document: &Value) -> usize {
    let mut seen = 0;
    let mut open = vec![document];
    while let Some(value) = open.pop() {
        if let Some(reference) = value.get("$ref").and_then(Value::as_str) {
            let pointer = reference.strip_prefix('#').expect("local");
            assert!(document.pointer(pointer).is_some(), "{reference}");
            seen += 1;
        }
        match value {
            Value::Object(map) => open.extend(map.values()),
            Value::Array(items) => open.extend(items),
            _ => {}
        }
    }
    seen
}
