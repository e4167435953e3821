//! How the parts of an answer look on the wire: as they are, as events, or as Triton's
//! `generate_stream` has them.

use bytes::Bytes;
use sluice_sandbox::Part;
use sluice_tensor::NamedTensor;

use super::{sse, tensors};
use crate::error::{Error, Result};
use crate::tensor_json::{DataForm, encode_flat, put};
use crate::wire_error;

/// The type of answers of tensors, one a line.
const LINES: &str = "application/x-ndjson";

/// The form of a streamed answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// The bytes of a body, or a line of JSON for each answer of tensors.
    Plain,
    /// An event for each part.
    Events,
    /// An event of flat JSON for each part.
    Generate,
}

/// Whose answer it is.
pub(super) struct Whose {
    pub(super) model: String,
    pub(super) version: String,
    /// The request's, if it had one.
    pub(super) id: Option<String>,
}

/// Writes parts in one form.
pub(super) struct Framing {
    form: Form,
    whose: Whose,
    text: sse::Text,
}

impl Framing {
    fn new(form: Form, whose: Whose) -> Self {
        Self { form, whose, text: sse::Text::default() }
    }

    /// A body in chunks; in events if the caller asks for them and the plugin does not make
    /// them itself.
    pub(super) fn of_body(wants_events: bool, first: &Part, model: &str, version: &str) -> Self {
        let makes_events =
            matches!(first, Part::Body { content_type, .. } if content_type.starts_with(sse::CONTENT_TYPE));
        let form = if wants_events && !makes_events { Form::Events } else { Form::Plain };
        Self::new(form, Whose { model: model.to_owned(), version: version.to_owned(), id: None })
    }

    /// Triton's events.
    pub(super) fn generate(whose: Whose) -> Self {
        Self::new(Form::Generate, whose)
    }

    /// What the whole is, told by its first part.
    pub(super) fn content_type(&self, first: &Part) -> String {
        match (self.form, first) {
            (Form::Plain, Part::Body { content_type, .. }) => content_type.to_string(),
            (Form::Plain, Part::Tensors(_)) => LINES.to_owned(),
            _ => sse::CONTENT_TYPE.to_owned(),
        }
    }

    /// Writes a part; nothing for one that waits for the next.
    ///
    /// # Errors
    /// What JSON cannot carry.
    pub(super) fn part(&mut self, part: Part) -> Result<Bytes> {
        match (self.form, part) {
            (Form::Plain, Part::Body { data, .. }) => Ok(data),
            (Form::Plain, Part::Tensors(outputs)) => {
                let mut line = self.json(&outputs)?;
                line.push(b'\n');
                Ok(line.into())
            }
            (Form::Events, Part::Body { data, .. }) => {
                let text = self.text.add(&data);
                Ok(if text.is_empty() && !data.is_empty() { Bytes::new() } else { sse::event(None, &text) })
            }
            (Form::Events, Part::Tensors(outputs)) => {
                let json = self.json(&outputs)?;
                Ok(sse::event(None, &String::from_utf8_lossy(&json)))
            }
            (Form::Generate, Part::Body { content_type, data }) => {
                let text = self.text.add(&data);
                if text.is_empty() && !data.is_empty() {
                    return Ok(Bytes::new());
                }
                let is_json = content_type.starts_with("application/json");
                Ok(sse::event(None, &if is_json { text } else { self.text_output(&text) }))
            }
            (Form::Generate, Part::Tensors(outputs)) => {
                let json = self.whose.flat(&outputs)?;
                Ok(sse::event(None, &String::from_utf8_lossy(&json)))
            }
        }
    }

    fn json(&self, outputs: &[NamedTensor]) -> Result<Vec<u8>> {
        tensors::json(&self.whose.model, &self.whose.version, None, outputs, |_| DataForm::Json)
    }

    fn text_output(&self, text: &str) -> String {
        String::from_utf8_lossy(&self.whose.text_output(text)).into_owned()
    }

    /// What is left at the end.
    pub(super) fn end(&mut self) -> Option<Bytes> {
        let left = self.text.finish()?;
        Some(sse::event(None, &if self.form == Form::Generate { self.text_output(&left) } else { left }))
    }

    /// Writes an error that ends the stream; `None` where only a broken connection says it.
    pub(super) fn error(&self, error: &Error, request_id: &str) -> Option<Bytes> {
        let body = wire_error::body(error, request_id);
        let text = String::from_utf8_lossy(&body);
        match self.form {
            Form::Plain => None,
            Form::Events => Some(sse::event(Some("error"), &text)),
            // As Triton: an event like the others.
            Form::Generate => Some(sse::event(None, &text)),
        }
    }
}

impl Whose {
    /// The beginning of a JSON object.
    fn begin(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(256);
        out.push(b'{');
        if let Some(id) = self.id.as_deref().filter(|id| !id.is_empty()) {
            out.extend_from_slice(b"\"id\":");
            put(&mut out, id);
            out.push(b',');
        }
        out.extend_from_slice(b"\"model_name\":");
        put(&mut out, &*self.model);
        out.extend_from_slice(b",\"model_version\":");
        put(&mut out, &*self.version);
        out
    }

    /// Outputs as the keys of one JSON object: a value for one element, else an array.
    ///
    /// # Errors
    /// What JSON cannot carry.
    pub(super) fn flat(&self, outputs: &[NamedTensor]) -> Result<Vec<u8>> {
        let mut out = self.begin();
        for output in outputs {
            out.push(b',');
            put(&mut out, &*output.name);
            out.push(b':');
            encode_flat(output, &mut out)?;
        }
        out.push(b'}');
        Ok(out)
    }

    /// Text as the one output of a generating model.
    pub(super) fn text_output(&self, text: &str) -> Vec<u8> {
        let mut out = self.begin();
        out.extend_from_slice(b",\"text_output\":");
        put(&mut out, text);
        out.push(b'}');
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;

    fn body(content_type: &str, data: &[u8]) -> Part {
        Part::Body { content_type: content_type.into(), data: Bytes::copy_from_slice(data) }
    }

    #[test]
    fn a_body_is_passed_on_and_becomes_events_only_if_it_is_none() {
        let mut plain = Framing::of_body(false, &body("text/plain", b"a"), "m", "1");
        assert_eq!(plain.part(body("text/plain", b"\xff\n")).expect("bytes"), &b"\xff\n"[..]);
        assert!(plain.error(&Error::new(Kind::PluginTrap, "crashed"), "r").is_none());
        let first = body("text/event-stream", b"data: a\n\n");
        let mut own = Framing::of_body(true, &first, "m", "1");
        assert_eq!(own.part(first).expect("bytes"), &b"data: a\n\n"[..]);
        let mut events = Framing::of_body(true, &body("text/plain", b"a"), "m", "1");
        assert_eq!(events.part(body("text/plain", b"a\nb")).expect("bytes"), "data: a\ndata: b\n\n");
        let error = events.error(&Error::new(Kind::PluginTrap, "crashed"), "r").expect("an event");
        assert!(error.starts_with(b"event: error\ndata: {\"error\":\"crashed\""), "{error:?}");
    }

    #[test]
    fn generated_text_is_an_output_and_generated_json_is_passed_on() {
        let whose = |id| Whose { model: "m".to_owned(), version: "1".to_owned(), id };
        let mut generate = Framing::generate(whose(None));
        let event = generate.part(body("text/plain", b"the \"sea\"\n")).expect("text");
        let wanted =
            "data: {\"model_name\":\"m\",\"model_version\":\"1\",\"text_output\":\"the \\\"sea\\\"\\n\"}\n\n";
        assert_eq!(event, wanted);
        assert_eq!(generate.part(body("application/json", b"{}")).expect("JSON"), "data: {}\n\n");
        assert!(generate.part(body("text/plain", &[0xe6])).expect("waits").is_empty());
        assert!(generate.end().is_some_and(|event| event.starts_with(b"data: {")));
        let mut with_id = Framing::generate(whose(Some("7".to_owned())));
        let event = with_id.part(body("text/plain", b"a")).expect("text");
        assert!(event.starts_with(b"data: {\"id\":\"7\",\"model_name\":"), "{event:?}");
    }
}
