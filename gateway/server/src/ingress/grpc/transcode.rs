//! Messages as JSON and back, by their descriptors: protocol buffers' own mapping, with
//! the field names of the .proto files. What the HTTP routes say about models, settings
//! and statistics goes out here as it is, so that the two cannot drift apart.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::{Bytes, BytesMut};
use serde_json::{Map, Value, json};

use super::schema::{Field, SCHEMA, kind};
use super::wire::{self, Fields, Writer};
use crate::error::{Error, Result};

/// Most messages within each other. None of ours has more than six, and none is part of
/// itself; the bound does not rest on that.
const DEPTH_MAX: usize = 16;

/// Most fields of a message that is read: a field of two bytes becomes a value of a
/// hundred.
const FIELDS_MAX: usize = 4096;

/// Reads a message. Fields that are not known are left out, those that are absent too.
///
/// # Errors
/// It is malformed.
pub(super) fn read(message: &str, bytes: Bytes) -> Result<Value> {
    let mut fields_left = FIELDS_MAX;
    read_message(message, bytes, DEPTH_MAX, &mut fields_left)
}

fn read_message(message: &str, bytes: Bytes, depth: usize, left: &mut usize) -> Result<Value> {
    let described = SCHEMA.messages.get(message).filter(|_| depth > 0).ok_or_else(super::internal)?;
    let mut object = Map::new();
    let mut fields = Fields(bytes);
    while let Some((number, value)) = fields.next()? {
        *left = left.checked_sub(1).ok_or_else(|| wire::malformed("it has too many fields"))?;
        let field = described.fields.iter().find(|field| u64::from(field.number) == number);
        let Some(field) = field else { continue };
        let entry = SCHEMA.messages.get(&field.of).is_some_and(|of| of.is_entry);
        if !field.is_repeated {
            object.insert(field.name.clone(), read_value(field, value, depth, left)?);
            continue;
        }
        let slot = object.entry(&field.name).or_insert_with(|| if entry { json!({}) } else { json!([]) });
        match (slot, value) {
            (Value::Object(map), value) => {
                let mut pair = read_value(field, value, depth, left)?;
                // A key or a value that is absent is the default of its type.
                let key = match pair["key"].take() {
                    Value::Null => String::new(),
                    Value::String(key) => key,
                    key => key.to_string(),
                };
                map.insert(key, pair["value"].take());
            }
            (Value::Array(list), wire::Value::Bytes(packed)) if is_packable(field.kind) => {
                let mut packed = Fields(packed);
                while !packed.0.is_empty() {
                    *left = left.checked_sub(1).ok_or_else(|| wire::malformed("it has too many fields"))?;
                    let one = wire::Value::Varint(packed.varint()?);
                    list.push(read_value(field, one, depth, left)?);
                }
            }
            (Value::Array(list), value) => list.push(read_value(field, value, depth, left)?),
            _ => {}
        }
    }
    Ok(Value::Object(object))
}

fn read_value(field: &Field, value: wire::Value, depth: usize, left: &mut usize) -> Result<Value> {
    Ok(match (field.kind, value) {
        (kind::MESSAGE, value) => read_message(&field.of, value.bytes()?, depth - 1, left)?,
        (kind::STRING, value) => json!(&*value.text()?),
        (kind::BYTES, value) => json!(BASE64.encode(value.bytes()?)),
        (kind::BOOL, value) => json!(value.varint()? != 0),
        (kind::INT64 | kind::INT32 | kind::ENUM, value) => json!(value.varint()?.cast_signed()),
        (kind::DOUBLE, wire::Value::Fixed64(bits)) => json!(f64::from_bits(bits)),
        (kind::FLOAT, wire::Value::Fixed32(bits)) => json!(f32::from_bits(bits)),
        (kind::DOUBLE | kind::FLOAT, _) => return Err(wire::malformed("a field has another type")),
        (_, value) => json!(value.varint()?),
    })
}

/// Whether a list of it is one run of varints.
fn is_packable(kind: u64) -> bool {
    matches!(kind, kind::INT64 | kind::UINT64 | kind::INT32 | kind::UINT32 | kind::BOOL | kind::ENUM)
}

/// Writes a message from what its JSON says. Names that are not fields are left out.
///
/// # Errors
/// An internal one: a value is not what its field is. It is ours, not a caller's.
pub(super) fn write(message: &str, value: &Value) -> Result<Bytes> {
    let mut out = BytesMut::new();
    write_message(&mut Writer(&mut out), message, value)?;
    Ok(out.freeze())
}

fn write_message(out: &mut Writer<'_>, message: &str, value: &Value) -> Result<()> {
    let described = SCHEMA.messages.get(message).ok_or_else(super::internal)?;
    for field in &described.fields {
        let value = &value[&*field.name];
        match value {
            Value::Null => {}
            Value::Object(map) if field.is_repeated => {
                for (key, value) in map {
                    write_field(out, field, &json!({ "key": key, "value": value }))?;
                }
            }
            Value::Array(list) if field.is_repeated && is_packable(field.kind) => {
                write_packed(out, field, list)?;
            }
            Value::Array(list) if field.is_repeated => {
                list.iter().try_for_each(|value| write_field(out, field, value))?;
            }
            value if !field.is_choice && is_default(value) => {}
            value => write_field(out, field, value)?,
        }
    }
    Ok(())
}

/// What a field has that is not there.
fn is_default(value: &Value) -> bool {
    match value {
        Value::Bool(value) => !value,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        _ => false,
    }
}

fn write_packed(out: &mut Writer<'_>, field: &Field, list: &[Value]) -> Result<()> {
    let mut packed = BytesMut::new();
    for value in list {
        Writer(&mut packed).raw_varint(integer(field, value)?);
    }
    if !packed.is_empty() {
        out.bytes(field.number, &packed);
    }
    Ok(())
}

fn write_field(out: &mut Writer<'_>, field: &Field, value: &Value) -> Result<()> {
    match field.kind {
        kind::MESSAGE => {
            let mut inner = BytesMut::new();
            write_message(&mut Writer(&mut inner), &field.of, value)?;
            out.bytes(field.number, &inner);
        }
        kind::STRING => out.bytes(field.number, text(field, value)?.as_bytes()),
        kind::BYTES => {
            let bytes = BASE64.decode(text(field, value)?).map_err(|_| misfit(field))?;
            out.bytes(field.number, &bytes);
        }
        kind::DOUBLE => out.double(field.number, value.as_f64().ok_or_else(|| misfit(field))?),
        #[expect(clippy::cast_possible_truncation, reason = "the field has this precision")]
        kind::FLOAT => out.float(field.number, value.as_f64().ok_or_else(|| misfit(field))? as f32),
        _ => out.varint(field.number, integer(field, value)?),
    }
    Ok(())
}

fn text<'a>(field: &Field, value: &'a Value) -> Result<&'a str> {
    value.as_str().ok_or_else(|| misfit(field))
}

/// An integer, a truth value or the name of an enumeration's value, as a varint has it.
fn integer(field: &Field, value: &Value) -> Result<u64> {
    let number = match value {
        Value::Bool(value) => Some(u64::from(*value)),
        Value::Number(number) => number.as_u64().or_else(|| number.as_i64().map(i64::cast_unsigned)),
        // Integers of 64 bits may come as text, because JavaScript has none.
        Value::String(text) if field.kind == kind::ENUM => SCHEMA
            .enums
            .get(&field.of)
            .and_then(|values| values.iter().find(|(name, _)| name == text))
            .map(|(_, number)| i64::from(*number).cast_unsigned()),
        Value::String(text) => text.parse::<u64>().ok().or_else(|| text.parse().ok().map(i64::cast_unsigned)),
        _ => None,
    };
    number.ok_or_else(|| misfit(field))
}

fn misfit(field: &Field) -> Error {
    super::internal().with_detail(format!("a value does not fit the field {}", field.name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round_trip(message: &str, value: &Value) -> Value {
        read(message, write(message, value).expect("it fits")).expect("well-formed")
    }

    #[test]
    fn a_message_says_what_its_json_says() {
        let config = json!({
            "name": "m", "platform": "onnxruntime_onnx", "max_batch_size": 8,
            "version_policy": { "specific": { "versions": [1, 300] } },
            "input": [{ "name": "x", "data_type": 11, "dims": [-1, 3] }],
            "instance_group": [{ "name": "m_0", "kind": 2, "count": 2 }],
            "dynamic_batching": { "preferred_batch_size": [4, 8], "priority_queue_policy": { "1": { "max_queue_size": 7 } } },
            "parameters": { "a": { "string_value": "b" } },
        });
        let named = |config: &Value| {
            let mut config = config.clone();
            config["input"][0]["data_type"] = json!("TYPE_FP32");
            config["instance_group"][0]["kind"] = json!("KIND_CPU");
            config
        };
        let back = round_trip("inference.ModelConfigResponse", &json!({ "config": named(&config) }));
        assert_eq!(back["config"]["dynamic_batching"], config["dynamic_batching"]);
        assert_eq!(back["config"]["input"], config["input"]);
        assert_eq!(back["config"]["version_policy"], config["version_policy"]);
        assert_eq!(back["config"]["instance_group"], config["instance_group"]);
        assert_eq!(back["config"]["parameters"], config["parameters"]);
        assert_eq!(back["config"]["max_batch_size"], 8);
    }

    #[test]
    fn choices_are_written_also_when_they_are_nothing() {
        let settings = json!({ "settings": { "log_info": { "bool_param": false }, "log_file": { "string_param": "" } } });
        assert_eq!(round_trip("inference.LogSettingsResponse", &settings), settings);
        let index = json!({ "models": [{ "name": "m", "reason": "" }, { "name": "n" }] });
        assert_eq!(
            round_trip("inference.RepositoryIndexResponse", &index)["models"][0],
            json!({ "name": "m" })
        );
    }

    #[test]
    fn hostile_messages_are_bounded() {
        let many = [0x08, 1].repeat(FIELDS_MAX + 1);
        assert!(read("inference.RepositoryIndexRequest", many.into()).is_err());
        assert_eq!(read("inference.ServerLiveRequest", Bytes::new()).expect("empty"), json!({}));
        assert!(write("inference.ModelReadyResponse", &json!({ "ready": "yes" })).is_err());
    }
}
