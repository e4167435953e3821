//! The messages of our services, from the descriptors that are made of the .proto files:
//! what reflection gives out, and by which everything but tensors is read and written.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use bytes::Bytes;

use super::wire::{Fields, Value};
use crate::error::Result;

/// `scripts/generate-proto.sh` makes it.
static DESCRIPTORS: &[u8] = include_bytes!("../../../proto/descriptors.bin");

/// Everything that the descriptors describe.
pub(super) static SCHEMA: LazyLock<Schema> =
    LazyLock::new(|| Schema::read(Bytes::from_static(DESCRIPTORS)).unwrap_or_default());

/// Files, messages, enumerations and services, by their full names.
#[derive(Debug, Default)]
pub(super) struct Schema {
    /// By their names, in the order in which they were compiled.
    pub(super) files: Vec<File>,
    pub(super) messages: BTreeMap<String, Message>,
    pub(super) enums: BTreeMap<String, Vec<(String, i32)>>,
    pub(super) services: Vec<String>,
    /// Which file, by its place, declares a message, an enumeration, a service, a method
    /// or a field.
    pub(super) symbols: BTreeMap<String, usize>,
}

/// A file, as reflection gives it out.
#[derive(Debug)]
pub(super) struct File {
    pub(super) name: String,
    pub(super) imports: Vec<String>,
    pub(super) descriptor: Bytes,
}

/// A message.
#[derive(Debug, Default)]
pub(super) struct Message {
    pub(super) fields: Vec<Field>,
    /// Whether it is an entry of a map: `key` is 1, `value` is 2.
    pub(super) is_entry: bool,
}

/// A field of a message.
#[derive(Debug, Default)]
pub(super) struct Field {
    pub(super) name: String,
    pub(super) number: u32,
    pub(super) kind: u64,
    /// The message or enumeration, with its package.
    pub(super) of: String,
    pub(super) is_repeated: bool,
    /// Whether it is there or not there, rather than never absent.
    pub(super) is_choice: bool,
}

/// The types of fields, by the numbers that descriptors have for them.
pub(super) mod kind {
    pub(crate) const DOUBLE: u64 = 1;
    pub(crate) const FLOAT: u64 = 2;
    pub(crate) const INT64: u64 = 3;
    pub(crate) const UINT64: u64 = 4;
    pub(crate) const INT32: u64 = 5;
    pub(crate) const BOOL: u64 = 8;
    pub(crate) const STRING: u64 = 9;
    pub(crate) const MESSAGE: u64 = 11;
    pub(crate) const BYTES: u64 = 12;
    pub(crate) const UINT32: u64 = 13;
    pub(crate) const ENUM: u64 = 14;
}

const LABEL_REPEATED: u64 = 3;

impl Schema {
    fn read(set: Bytes) -> Result<Self> {
        let mut schema = Self::default();
        each(set, |number, value| {
            if number == 1 {
                schema.file(value.bytes()?)?;
            }
            Ok(())
        })?;
        Ok(schema)
    }

    fn file(&mut self, descriptor: Bytes) -> Result<()> {
        let (mut name, mut package, mut imports) = (String::new(), String::new(), Vec::new());
        each(descriptor.clone(), |number, value| {
            match number {
                1 => name = value.text()?.to_string(),
                2 => package = value.text()?.to_string(),
                3 => imports.push(value.text()?.to_string()),
                _ => {}
            }
            Ok(())
        })?;
        each(descriptor.clone(), |number, value| match number {
            4 => self.message(&package, value.bytes()?),
            5 => self.enumeration(&package, value.bytes()?),
            6 => self.service(&package, value.bytes()?),
            _ => Ok(()),
        })?;
        self.files.push(File { name, imports, descriptor });
        Ok(())
    }

    fn declare(&mut self, symbol: &str) {
        self.symbols.insert(symbol.to_owned(), self.files.len());
    }

    fn message(&mut self, scope: &str, descriptor: Bytes) -> Result<()> {
        let full = format!("{scope}.{}", name_of(&descriptor)?);
        let mut message = Message::default();
        each(descriptor, |number, value| {
            match number {
                2 => message.fields.push(field(value.bytes()?)?),
                3 => self.message(&full, value.bytes()?)?,
                4 => self.enumeration(&full, value.bytes()?)?,
                7 => message.is_entry = is_entry(value.bytes()?)?,
                _ => {}
            }
            Ok(())
        })?;
        self.declare(&full);
        for field in &message.fields {
            self.declare(&format!("{full}.{}", field.name));
        }
        self.messages.insert(full, message);
        Ok(())
    }

    fn enumeration(&mut self, scope: &str, descriptor: Bytes) -> Result<()> {
        let full = format!("{scope}.{}", name_of(&descriptor)?);
        let mut values = Vec::new();
        each(descriptor, |number, value| {
            if number == 2 {
                let value = value.bytes()?;
                let name = name_of(&value)?;
                let mut number = 0;
                each(value, |at, value| {
                    if at == 2 {
                        number = i32::try_from(value.varint()?.cast_signed()).unwrap_or(0);
                    }
                    Ok(())
                })?;
                values.push((name, number));
            }
            Ok(())
        })?;
        self.declare(&full);
        self.enums.insert(full, values);
        Ok(())
    }

    fn service(&mut self, package: &str, descriptor: Bytes) -> Result<()> {
        let full = format!("{package}.{}", name_of(&descriptor)?);
        each(descriptor, |number, value| {
            if number == 2 {
                let method = name_of(&value.bytes()?)?;
                self.declare(&format!("{full}.{method}"));
            }
            Ok(())
        })?;
        self.declare(&full);
        self.services.push(full);
        Ok(())
    }
}

fn each(message: Bytes, mut work: impl FnMut(u64, Value) -> Result<()>) -> Result<()> {
    let mut fields = Fields(message);
    while let Some((number, value)) = fields.next()? {
        work(number, value)?;
    }
    Ok(())
}

/// Every descriptor has its name first.
fn name_of(descriptor: &Bytes) -> Result<String> {
    let mut name = String::new();
    each(descriptor.clone(), |number, value| {
        if number == 1 {
            name = value.text()?.to_string();
        }
        Ok(())
    })?;
    Ok(name)
}

fn is_entry(options: Bytes) -> Result<bool> {
    let mut is_entry = false;
    each(options, |number, value| {
        if number == 7 {
            is_entry = value.varint()? != 0;
        }
        Ok(())
    })?;
    Ok(is_entry)
}

fn field(descriptor: Bytes) -> Result<Field> {
    let mut field = Field::default();
    each(descriptor, |number, value| {
        match number {
            1 => field.name = value.text()?.to_string(),
            3 => field.number = u32::try_from(value.varint()?).unwrap_or(0),
            4 => field.is_repeated = value.varint()? == LABEL_REPEATED,
            5 => field.kind = value.varint()?,
            6 => field.of = value.text()?.trim_start_matches('.').to_owned(),
            9 => field.is_choice = true,
            _ => {}
        }
        Ok(())
    })?;
    Ok(field)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_committed_descriptors_describe_the_services() {
        assert_eq!(
            SCHEMA.services,
            [
                "inference.GRPCInferenceService",
                "grpc.health.v1.Health",
                "grpc.reflection.v1.ServerReflection",
                "grpc.reflection.v1alpha.ServerReflection"
            ]
        );
        let request = &SCHEMA.messages["inference.ModelInferRequest"];
        let raw = request.fields.iter().find(|field| field.name == "raw_input_contents").expect("a field");
        assert_eq!((raw.number, raw.kind, raw.is_repeated), (7, kind::BYTES, true));
        assert!(SCHEMA.messages["inference.ModelInferRequest.ParametersEntry"].is_entry);
        let file = SCHEMA.symbols["inference.GRPCInferenceService.ModelInfer"];
        assert_eq!(SCHEMA.files[file].name, "grpc_service.proto");
        assert_eq!(SCHEMA.files[file].imports, ["model_config.proto"]);
        // Every type of a field is one that can be read and written.
        let kinds = [1, 2, 3, 4, 5, 8, 9, 11, 12, 13, 14];
        let mut fields = SCHEMA.messages.values().flat_map(|message| &message.fields);
        assert!(fields.all(|field| kinds.contains(&field.kind)));
    }
}
