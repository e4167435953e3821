//! Calls to the host: log, stores, models.

use std::time::Duration;

use super::bindings::keyvalue::wasi::keyvalue::{batch, store};
use super::bindings::platform::sluice::plugin::{deadline, inference as wit, parts as wit_parts, spans};
use super::bindings::platform::wasi::logging::logging;
use super::convert;
use crate::log::Level;
use crate::trace::Value;
use crate::{Inputs, Tensor, Tensors, inference, kv, parts};

pub(crate) fn log(level: Level, message: &str) {
    let level = match level {
        Level::Trace => logging::Level::Trace,
        Level::Debug => logging::Level::Debug,
        Level::Info => logging::Level::Info,
        Level::Warn => logging::Level::Warn,
        Level::Error => logging::Level::Error,
        Level::Critical => logging::Level::Critical,
    };
    logging::log(level, "", message);
}

#[derive(Debug)]
pub(crate) struct Bucket(store::Bucket);

fn store_error(error: store::Error) -> kv::Error {
    match error {
        store::Error::NoSuchStore => kv::Error::NoSuchStore,
        store::Error::AccessDenied => kv::Error::AccessDenied,
        store::Error::Other(what) => kv::Error::Other(what),
    }
}

pub(crate) fn open_bucket(name: &str) -> Result<Bucket, kv::Error> {
    store::open(name).map(Bucket).map_err(store_error)
}

impl Bucket {
    pub(crate) fn get(&self, key: &str) -> Result<Option<Vec<u8>>, kv::Error> {
        self.0.get(key).map_err(store_error)
    }

    pub(crate) fn get_many(&self, keys: &[&str]) -> Result<Vec<Option<Vec<u8>>>, kv::Error> {
        let entries = batch::get_many(&self.0, keys).map_err(store_error)?;
        if entries.len() != keys.len() {
            return Err(kv::Error::Other(format!("{} answers to {} keys", entries.len(), keys.len())));
        }
        Ok(entries.into_iter().map(|entry| entry.map(|(_key, value)| value)).collect())
    }
}

fn model_error(error: wit::Error) -> inference::Error {
    match error {
        wit::Error::NotFound(what) => inference::Error::NotFound(what),
        wit::Error::InvalidInput(what) => inference::Error::InvalidInput(what),
        wit::Error::Overloaded => inference::Error::Overloaded,
        wit::Error::Deadline => inference::Error::Deadline,
        wit::Error::Failed(what) => inference::Error::Failed(what),
    }
}

#[derive(Debug)]
pub(crate) struct Pending(wit::Pending);

impl Pending {
    pub(crate) fn wait(self) -> Result<Tensors, inference::Error> {
        self.0.wait().map(convert::received).map_err(model_error)
    }
}

pub(crate) fn infer(model: &str, inputs: Inputs) -> Result<Tensors, inference::Error> {
    wit::infer(model, convert::inputs(inputs)).map(convert::received).map_err(model_error)
}

pub(crate) fn submit(model: &str, inputs: Inputs) -> Result<Pending, inference::Error> {
    wit::submit(model, convert::inputs(inputs)).map(Pending).map_err(model_error)
}

pub(crate) fn time_left() -> Duration {
    Duration::from_millis(deadline::left_ms().into())
}

pub(crate) fn content_type(value: &str) {
    wit_parts::content_type(value);
}

fn send(part: wit_parts::Part) -> Result<(), parts::Error> {
    wit_parts::send(part).map_err(|error| match error {
        wit_parts::Error::Gone => parts::Error::Gone,
        wit_parts::Error::Refused => parts::Error::Refused,
    })
}

pub(crate) fn send_bytes(bytes: Vec<u8>) -> Result<(), parts::Error> {
    send(wit_parts::Part::Body(bytes))
}

pub(crate) fn send_tensors(tensors: Vec<(String, Tensor)>) -> Result<(), parts::Error> {
    send(wit_parts::Part::Tensors(convert::sources(tensors)))
}

pub(crate) fn pause(time: Duration) {
    wit_parts::pause(u32::try_from(time.as_millis()).unwrap_or(u32::MAX));
}

impl From<Value> for spans::Value {
    fn from(value: Value) -> Self {
        match value {
            Value::Text(text) => Self::Text(text),
            Value::Integer(number) => Self::Integer(number),
            Value::Number(number) => Self::Number(number),
            Value::Bool(value) => Self::Bool(value),
        }
    }
}

#[derive(Debug)]
pub(crate) struct Span(spans::Span);

impl Span {
    pub(crate) fn new(name: &str) -> Self {
        Self(spans::Span::new(name))
    }

    pub(crate) fn set(&self, key: &str, value: Value) {
        self.0.set(key, &value.into());
    }

    pub(crate) fn event(&self, name: &str, attributes: Vec<(String, Value)>) {
        let attributes = attributes.into_iter();
        let attributes = attributes.map(|(key, value)| spans::Attribute { key, value: value.into() });
        self.0.event(name, &attributes.collect::<Vec<_>>());
    }
}
