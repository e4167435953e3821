//! Gives a tree the types of the schema: out come the fields under their names, as JSON.
//! The same is done for JSON, which clients send to load a model with another configuration.

use serde_json::{Map, Number, Value as Json};

use super::pbtxt::{Field, Message, Position, TextError, Value};
use super::schema::{self, Kind, Label, Schema};

/// How deep JSON may nest; the schema has seven levels, and maps one more each.
const JSON_DEPTH_MAX: usize = super::pbtxt::DEPTH_MAX;

/// The fields that a text sets, with their types.
///
/// # Errors
/// Unknown fields, values of another type or out of range, fields that are set twice.
pub(super) fn text(message: &Message, schema: &'static Schema) -> Result<Map<String, Json>, TextError> {
    let mut decoded = Map::new();
    for field in &message.fields {
        let known = schema.field(&field.name).ok_or_else(|| unknown(field.at, &field.name, schema))?;
        check_choice(field.at, known, schema, &decoded)?;
        match known.label {
            Label::One | Label::OneOf(_) => {
                let value = value(field.at, &field.value, known, schema)?;
                if decoded.insert(known.name.to_owned(), value).is_some() {
                    return Err(TextError::new(field.at, format!("'{}' is set twice", known.name)));
                }
            }
            Label::Many => many(field, known, schema, &mut decoded)?,
            Label::Map => entries(field, known, schema, &mut decoded)?,
        }
    }
    Ok(decoded)
}

fn unknown(at: Position, name: &str, schema: &Schema) -> TextError {
    let known: Vec<&str> = schema.fields.iter().map(|field| field.name).collect();
    let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
    let name: String = name.chars().take(64).collect();
    TextError::new(at, format!("{} has no field '{name}'; its fields are {known}", schema.name))
}

/// Of the fields of a choice one may be set.
fn check_choice(
    at: Position,
    field: &schema::Field,
    schema: &Schema,
    decoded: &Map<String, Json>,
) -> Result<(), TextError> {
    let Label::OneOf(group) = field.label else { return Ok(()) };
    let others = schema.fields.iter().filter(|it| it.label == Label::OneOf(group) && it.name != field.name);
    match others.into_iter().find(|other| decoded.contains_key(other.name)) {
        Some(other) => {
            Err(TextError::new(at, format!("'{}' and '{}' exclude each other", other.name, field.name)))
        }
        None => Ok(()),
    }
}

fn many(
    field: &Field,
    known: &schema::Field,
    schema: &Schema,
    decoded: &mut Map<String, Json>,
) -> Result<(), TextError> {
    let mut values = Vec::new();
    match &field.value {
        Value::List(elements) => {
            for (at, element) in elements {
                values.push(value(*at, element, known, schema)?);
            }
        }
        single => values.push(value(field.at, single, known, schema)?),
    }
    if let Json::Array(all) = decoded.entry(known.name).or_insert_with(|| Json::Array(Vec::new())) {
        all.append(&mut values);
    }
    Ok(())
}

/// `{ key: …, value: … }`, one or a list of them.
fn entries(
    field: &Field,
    known: &schema::Field,
    schema: &Schema,
    decoded: &mut Map<String, Json>,
) -> Result<(), TextError> {
    let single = [(field.at, field.value.clone())];
    let list = match &field.value {
        Value::List(elements) => elements.as_slice(),
        _ => &single,
    };
    let all = decoded.entry(known.name).or_insert_with(|| Json::Object(Map::new()));
    for (at, entry) in list {
        let Value::Message(entry) = entry else {
            return Err(TextError::new(*at, format!("'{}' takes {{ key: … value: … }}", known.name)));
        };
        let (mut key, mut content) = (None, None);
        for part in &entry.fields {
            let slot = match (part.name.as_str(), &part.value) {
                ("key", Value::Word(text) | Value::Text(text)) => key.replace(text.clone()).is_some(),
                ("value", found) => content.replace(value(part.at, found, known, schema)?).is_some(),
                _ => {
                    return Err(TextError::new(part.at, format!("'{}' takes a key and a value", known.name)));
                }
            };
            if slot {
                return Err(TextError::new(part.at, format!("'{}' is set twice", part.name)));
            }
        }
        let Some(key) = key else { return Err(TextError::new(*at, "the key is missing")) };
        let content = content.unwrap_or_else(|| default_of(known.kind));
        if let Json::Object(all) = all {
            all.insert(key, content);
        }
    }
    Ok(())
}

/// What an absent value of a map means.
fn default_of(kind: Kind) -> Json {
    match kind {
        Kind::Message(_) => Json::Object(Map::new()),
        Kind::Text => Json::String(String::new()),
        _ => Json::from(0),
    }
}

fn value(at: Position, value: &Value, field: &schema::Field, schema: &Schema) -> Result<Json, TextError> {
    let fault = |wanted: &str| {
        let name = field.name;
        Err(TextError::new(at, format!("'{name}' of {} is {wanted}", schema.name)))
    };
    match (field.kind, value) {
        (Kind::Message(inner), Value::Message(message)) => text(message, inner).map(Json::Object),
        (Kind::Message(_), _) => fault("a message: { … }"),
        (Kind::Text, Value::Text(text)) => Ok(Json::String(text.clone())),
        (Kind::Text, _) => fault("a quoted string"),
        (kind, Value::Word(word)) => match scalar(kind, word) {
            Some(value) => Ok(value),
            None => fault(&wanted(kind)),
        },
        (kind, _) => fault(&wanted(kind)),
    }
}

fn wanted(kind: Kind) -> String {
    match kind {
        Kind::Int32 => "a whole number of 32 bits".to_owned(),
        Kind::Int64 => "a whole number of 64 bits".to_owned(),
        Kind::Uint32 => "a whole number of 32 bits, 0 or more".to_owned(),
        Kind::Uint64 => "a whole number of 64 bits, 0 or more".to_owned(),
        Kind::Bool => "true or false".to_owned(),
        Kind::Float | Kind::Double => "a finite number".to_owned(),
        Kind::Text => "a string".to_owned(),
        Kind::Enum(names) => format!("one of {}", names.join(", ")),
        Kind::Message(_) => "a message".to_owned(),
    }
}

fn scalar(kind: Kind, word: &str) -> Option<Json> {
    match kind {
        Kind::Int32 => i32::try_from(integer(word)?).ok().map(Json::from),
        Kind::Int64 => i64::try_from(integer(word)?).ok().map(Json::from),
        Kind::Uint32 => u32::try_from(integer(word)?).ok().map(Json::from),
        Kind::Uint64 => u64::try_from(integer(word)?).ok().map(Json::from),
        Kind::Bool => match word {
            "true" | "True" | "t" | "1" => Some(Json::Bool(true)),
            "false" | "False" | "f" | "0" => Some(Json::Bool(false)),
            _ => None,
        },
        Kind::Float | Kind::Double => {
            let text = word.strip_suffix(['f', 'F']).unwrap_or(word);
            text.parse::<f64>().ok().and_then(Number::from_f64).map(Json::Number)
        }
        Kind::Enum(names) => {
            let by_number = || usize::try_from(integer(word)?).ok().and_then(|place| names.get(place));
            let name = names.iter().find(|name| **name == word).or_else(by_number)?;
            Some(Json::String((*name).to_owned()))
        }
        Kind::Text | Kind::Message(_) => None,
    }
}

/// Decimal, hexadecimal or octal.
fn integer(word: &str) -> Option<i128> {
    let (sign, digits) = word.strip_prefix('-').map_or((1, word), |digits| (-1, digits));
    if !digits.starts_with(|first: char| first.is_ascii_digit()) {
        return None;
    }
    let hexadecimal = digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X"));
    let number = match (hexadecimal, digits.strip_prefix('0').filter(|rest| !rest.is_empty())) {
        (Some(rest), _) => i128::from_str_radix(rest, 16),
        (None, Some(rest)) => i128::from_str_radix(rest, 8),
        (None, None) => digits.parse(),
    };
    number.ok().map(|number| sign * number)
}

/// The fields that JSON sets, with their types, as the protocol buffers' JSON form has them:
/// names as they are or in camel case, long numbers as strings too.
///
/// # Errors
/// As [`text`].
pub(super) fn json(value: &Json, schema: &'static Schema) -> Result<Map<String, Json>, TextError> {
    text(&message_of(value, schema, 0)?, schema)
}

fn message_of(value: &Json, schema: &'static Schema, depth: usize) -> Result<Message, TextError> {
    let nowhere = Position::default();
    let fault = |message: String| Err(TextError::new(nowhere, message));
    let Json::Object(object) = value else { return fault(format!("{} is an object", schema.name)) };
    if depth > JSON_DEPTH_MAX {
        return fault(format!("is nested deeper than {JSON_DEPTH_MAX} levels"));
    }
    let mut fields = Vec::new();
    for (name, value) in object.iter().filter(|(_, value)| !value.is_null()) {
        let by_name = schema.field(name);
        let known = by_name.or_else(|| schema.fields.iter().find(|field| camel(field.name) == *name));
        let known = known.ok_or_else(|| unknown(nowhere, name, schema))?;
        let value = match (known.label, value) {
            (Label::Many, Json::Array(elements)) => {
                let element = |element| Ok((nowhere, value_of(element, known.kind, depth)?));
                Value::List(elements.iter().map(element).collect::<Result<_, TextError>>()?)
            }
            (Label::Map, Json::Object(entries)) => {
                let entry = |(key, value): (&String, &Json)| {
                    let part = |name: &str, value| Field { name: name.to_owned(), at: nowhere, value };
                    let value = value_of(value, known.kind, depth)?;
                    let fields = vec![part("key", Value::Text(key.clone())), part("value", value)];
                    Ok((nowhere, Value::Message(Message { fields })))
                };
                Value::List(entries.iter().map(entry).collect::<Result<_, TextError>>()?)
            }
            (Label::Many | Label::Map, _) => {
                let what = if known.label == Label::Map { "an object" } else { "a list" };
                return fault(format!("'{}' of {} is {what}", known.name, schema.name));
            }
            (_, value) => value_of(value, known.kind, depth)?,
        };
        fields.push(Field { name: known.name.to_owned(), at: nowhere, value });
    }
    Ok(Message { fields })
}

fn value_of(value: &Json, kind: Kind, depth: usize) -> Result<Value, TextError> {
    Ok(match (value, kind) {
        (value, Kind::Message(schema)) => Value::Message(message_of(value, schema, depth + 1)?),
        (Json::String(text), Kind::Text) => Value::Text(text.clone()),
        (Json::String(text), _) => Value::Word(text.clone()),
        (Json::Number(number), _) => Value::Word(number.to_string()),
        (Json::Bool(truth), _) => Value::Word(truth.to_string()),
        _ => Value::List(Vec::new()),
    })
}

fn camel(name: &str) -> String {
    let mut parts = name.split('_');
    let mut camel = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let mut characters = part.chars();
        camel.extend(characters.next().map(|first| first.to_ascii_uppercase()));
        camel.push_str(characters.as_str());
    }
    camel
}

/// The whole configuration as Triton shows it: what is not set has its default, but for
/// messages and choices, which are absent.
pub(super) fn complete(decoded: &Map<String, Json>, schema: &'static Schema) -> Json {
    let mut whole = Map::new();
    for field in schema.fields {
        let set = decoded.get(field.name);
        let value = match (field.label, field.kind, set) {
            (Label::Many, Kind::Message(inner), Some(Json::Array(elements))) => {
                Json::Array(elements.iter().map(|element| complete_one(element, inner)).collect())
            }
            (Label::Map, Kind::Message(inner), Some(Json::Object(entries))) => {
                let entry = |(key, value): (&String, &Json)| (key.clone(), complete_one(value, inner));
                Json::Object(entries.iter().map(entry).collect())
            }
            (Label::One | Label::OneOf(_), Kind::Message(inner), Some(value)) => complete_one(value, inner),
            (_, _, Some(value)) => value.clone(),
            (Label::Many, _, None) => Json::Array(Vec::new()),
            (Label::Map, _, None) => Json::Object(Map::new()),
            (Label::OneOf(_), _, None) | (_, Kind::Message(_), None) => continue,
            (Label::One, kind, None) => zero(kind),
        };
        whole.insert(field.name.to_owned(), value);
    }
    Json::Object(whole)
}

fn complete_one(value: &Json, schema: &'static Schema) -> Json {
    value.as_object().map_or(Json::Null, |decoded| complete(decoded, schema))
}

fn zero(kind: Kind) -> Json {
    match kind {
        Kind::Text => Json::String(String::new()),
        Kind::Bool => Json::Bool(false),
        Kind::Enum(names) => Json::String(names.first().copied().unwrap_or_default().to_owned()),
        _ => Json::from(0),
    }
}

#[cfg(test)]
#[path = "decode_tests.rs"]
mod tests;
