//! Checks answers against the admin listener's OpenAPI document. Only what the document
//! uses is understood; a keyword that is not known here is an error, not a check that
//! cannot fail.

use serde_json::{Map, Value};

use crate::client::Reply;

/// Keywords that say nothing about a value which these tests could check.
const WORDS: [&str; 4] = ["description", "default", "format", "title"];

/// The document.
pub struct Document(Value);

impl Document {
    /// From an answer to `GET /admin/v1/openapi.json`.
    pub fn new(document: Value) -> Self {
        assert_eq!(document["openapi"], "3.1.0");
        Self(document)
    }

    /// Whether an answer is one that the document knows for this route; if not, what is
    /// different.
    ///
    /// # Errors
    /// What is different.
    pub fn check(&self, method: &str, template: &str, reply: &Reply) -> Result<(), String> {
        let operation = &self.0["paths"][template][method.to_ascii_lowercase()];
        let answer = self.follow(&operation["responses"][reply.status.as_str()]);
        if !answer.is_object() {
            return Err(format!("{method} {template}: {} is not documented", reply.status));
        }
        let kind = reply.headers.get("content-type").and_then(|kind| kind.to_str().ok());
        let kind = kind.map(|kind| kind.split(';').next().unwrap_or(kind));
        let context = |what: String| format!("{method} {template}: {}: {what}", reply.status);
        match (answer.get("content"), kind) {
            (None, _) if reply.body.is_empty() => Ok(()),
            (None, _) => Err(context("there is a body".to_owned())),
            (Some(content), Some(kind)) => match content.get(kind) {
                Some(media) if kind == "application/json" => {
                    self.matches(&media["schema"], &reply.json(), "").map_err(context)
                }
                Some(_) => Ok(()),
                None => Err(context(format!("{kind} is not documented"))),
            },
            (Some(_), None) => Err(context("there is no content type".to_owned())),
        }
    }

    fn follow<'a>(&'a self, value: &'a Value) -> &'a Value {
        match value.get("$ref").and_then(Value::as_str) {
            Some(reference) => {
                let pointer = reference.strip_prefix('#').expect("a local reference");
                self.0.pointer(pointer).unwrap_or_else(|| panic!("{reference} leads nowhere"))
            }
            None => value,
        }
    }

    /// Whether a value is as a schema says.
    ///
    /// # Errors
    /// Where it is not, and why.
    fn matches(&self, schema: &Value, value: &Value, at: &str) -> Result<(), String> {
        let schema = self.follow(schema).as_object().expect("a schema is an object");
        for (keyword, rule) in schema {
            let is_right = match keyword.as_str() {
                "type" => is_of(rule, value),
                "enum" => rule.as_array().expect("a list").contains(value),
                "minimum" => value.as_f64().is_none_or(|number| number >= rule.as_f64().expect("a number")),
                "maximum" => value.as_f64().is_none_or(|number| number <= rule.as_f64().expect("a number")),
                "pattern" => value.as_str().is_none_or(|text| is_like(rule, text)),
                "anyOf" => self.count(rule, value, at) > 0,
                "oneOf" => self.count(rule, value, at) == 1,
                "items" => return self.items(schema, value, at),
                "properties" | "required" | "additionalProperties" => continue,
                word if WORDS.contains(&word) => continue,
                word => panic!("what does {word} mean?"),
            };
            if !is_right {
                return Err(format!("{at}: {value} is not of {keyword} {rule}"));
            }
        }
        match value.as_object() {
            Some(object) => self.properties(schema, object, at),
            None => Ok(()),
        }
    }

    fn items(&self, schema: &Map<String, Value>, value: &Value, at: &str) -> Result<(), String> {
        let Some(items) = value.as_array() else { return Err(format!("{at}: {value} is no list")) };
        for (number, item) in items.iter().enumerate() {
            self.matches(&schema["items"], item, &format!("{at}/{number}"))?;
        }
        Ok(())
    }

    fn count(&self, schemas: &Value, value: &Value, at: &str) -> usize {
        let schemas = schemas.as_array().expect("a list");
        schemas.iter().filter(|schema| self.matches(schema, value, at).is_ok()).count()
    }

    fn properties(
        &self,
        schema: &Map<String, Value>,
        object: &Map<String, Value>,
        at: &str,
    ) -> Result<(), String> {
        let known = schema.get("properties").and_then(Value::as_object);
        for name in schema.get("required").and_then(Value::as_array).into_iter().flatten() {
            let name = name.as_str().expect("a name");
            if !object.contains_key(name) {
                return Err(format!("{at}: {name} is missing"));
            }
        }
        for (name, value) in object {
            let at = format!("{at}/{name}");
            match (known.and_then(|known| known.get(name)), schema.get("additionalProperties")) {
                (Some(schema), _) => self.matches(schema, value, &at)?,
                (None, Some(Value::Bool(false))) => return Err(format!("{at} is not documented")),
                (None, Some(schema)) => self.matches(schema, value, &at)?,
                (None, None) => {}
            }
        }
        Ok(())
    }
}

fn is_of(rule: &Value, value: &Value) -> bool {
    let fits = |kind: &Value| match kind.as_str().expect("a name") {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_u64() || value.is_i64(),
        "number" => value.is_number(),
        "null" => value.is_null(),
        other => panic!("what is a {other}?"),
    };
    rule.as_array().map_or_else(|| fits(rule), |kinds| kinds.iter().any(fits))
}

/// The one pattern of answers.
fn is_like(pattern: &Value, text: &str) -> bool {
    assert_eq!(pattern, "^sha256:[0-9a-f]{64}$");
    let digits = text.strip_prefix("sha256:").unwrap_or_default();
    digits.len() == 64 && digits.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn document() -> Document {
        let item = json!({
            "type": "object", "required": ["a"], "additionalProperties": false,
            "properties": { "a": { "type": ["integer", "null"], "minimum": 0 }, "b": { "type": "string" } },
        });
        Document::new(json!({ "openapi": "3.1.0", "components": { "schemas": { "Item": item } } }))
    }

    #[test]
    fn what_is_not_as_documented_is_told_apart() {
        let document = document();
        let item = json!({ "$ref": "#/components/schemas/Item" });
        let list = json!({ "type": "array", "items": item });
        for good in [json!([]), json!([{ "a": 0 }, { "a": null, "b": "x" }])] {
            assert_eq!(document.matches(&list, &good, ""), Ok(()));
        }
        for bad in [
            json!({}),
            json!([{}]),
            json!([{ "a": -1 }]),
            json!([{ "a": 0.5 }]),
            json!([{ "a": 0, "b": null }]),
            json!([{ "a": 0, "c": 1 }]),
        ] {
            assert!(document.matches(&list, &bad, "").is_err(), "{bad}");
        }
        let either = json!({ "oneOf": [item, { "type": "null" }] });
        assert!(document.matches(&either, &Value::Null, "").is_ok());
        assert!(document.matches(&either, &json!({ "c": 1 }), "").is_err());
    }

    #[test]
    #[should_panic(expected = "what does uniqueItems mean?")]
    fn a_keyword_that_is_not_known_is_no_check() {
        let _ = document().matches(&json!({ "uniqueItems": true }), &json!([]), "");
    }
}
