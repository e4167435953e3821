//! What the caller sent.

use std::time::Duration;

use serde::Deserialize;

use crate::{Error, Result, Tensors};

/// What is known of a call beside its data.
#[derive(Debug, Clone, PartialEq)]
pub struct Context {
    /// The caller's request id, or one that the gateway made.
    pub request_id: String,
    /// The pipeline that was called.
    pub pipeline: String,
    /// The version of this plugin that serves the request. All of a request's hooks run
    /// in one version.
    pub plugin_version: String,
    /// What the request had left when this call began; [`deadline::left`](crate::deadline::left)
    /// tells what is left now.
    pub time_left: Duration,
    /// What traffic is split by, if the caller gave it.
    pub routing_key: Option<String>,
    /// Whom the caller's token belongs to, where tokens are asked for.
    pub tenant: Option<String>,
    /// Whether the caller gets parts of an answer as they are sent: see
    /// [`parts`](crate::parts).
    pub in_parts: bool,
    /// What the caller set beside the data, in the order it was sent.
    pub parameters: Vec<(String, Parameter)>,
    /// How a route of the pipeline's own was called; none on every other route.
    pub route: Option<Route>,
}

/// A value that the caller set.
#[derive(Debug, Clone, PartialEq)]
pub enum Parameter {
    /// A truth value.
    Bool(bool),
    /// A whole number.
    Integer(i64),
    /// Any other number.
    Number(f64),
    /// Text.
    Text(String),
}

/// A call of a pipeline's own route.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Route {
    /// In capitals.
    pub method: String,
    /// As the caller wrote it, without the query.
    pub path: String,
    /// What comes behind the question mark, as the caller wrote it.
    pub query: Option<String>,
    /// The parts of the path that the route names, decoded.
    pub path_parameters: Vec<(String, String)>,
}

impl Context {
    /// The parameter of that name.
    pub fn parameter(&self, name: &str) -> Option<&Parameter> {
        self.parameters.iter().find(|(other, _)| other == name).map(|(_, value)| value)
    }
}

/// Nobody's request with plenty of time, for tests and native callers.
impl Default for Context {
    fn default() -> Self {
        Self {
            request_id: String::new(),
            pipeline: String::new(),
            plugin_version: String::new(),
            time_left: Duration::from_secs(60),
            routing_key: None,
            tenant: None,
            in_parts: false,
            parameters: Vec::new(),
            route: None,
        }
    }
}

/// A body as the caller sent it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Body {
    /// The `content-type` header, if there was one.
    pub content_type: Option<String>,
    /// The bytes.
    pub data: Vec<u8>,
}

/// The data of a call: a V1 `:predict` body, or the tensors of a V2 `infer`.
#[derive(Debug)]
pub enum Payload {
    /// The raw body of a V1 `:predict` call.
    Body(Body),
    /// The tensors of a V2 `infer` call, held by the host.
    Tensors(Tensors),
}

/// One call to the plugin.
#[derive(Debug)]
pub struct Request {
    /// Who asks for what.
    pub context: Context,
    /// The data.
    pub payload: Payload,
}

impl Request {
    /// A request with a body, as tests and native callers need it.
    pub fn from_body(data: impl Into<Vec<u8>>) -> Self {
        let body = Body { content_type: Some("application/json".to_owned()), data: data.into() };
        Self { context: Context::default(), payload: Payload::Body(body) }
    }

    /// A request with tensors.
    pub fn from_tensors(tensors: Tensors) -> Self {
        Self { context: Context::default(), payload: Payload::Tensors(tensors) }
    }

    /// The same request under another id, to another pipeline.
    #[must_use]
    pub fn with_context(mut self, request_id: impl Into<String>, pipeline: impl Into<String>) -> Self {
        self.context.request_id = request_id.into();
        self.context.pipeline = pipeline.into();
        self
    }

    /// The request's id.
    pub fn id(&self) -> &str {
        &self.context.request_id
    }

    /// The body's bytes.
    ///
    /// # Errors
    /// 400 if the caller sent V2 tensors instead.
    pub fn bytes(&self) -> Result<&[u8]> {
        match &self.payload {
            Payload::Body(body) => Ok(&body.data),
            Payload::Tensors(_) => {
                Err(Error::bad_request("a V1 predict body is wanted here, not V2 tensors"))
            }
        }
    }

    /// The body as text.
    ///
    /// # Errors
    /// 400 if it is not UTF-8, or not a body.
    pub fn text(&self) -> Result<&str> {
        let wrong = |error| Error::bad_request(format!("the body is not UTF-8: {error}"));
        std::str::from_utf8(self.bytes()?).map_err(wrong)
    }

    /// The body read as JSON. `&str` fields and [`Text`](crate::json::Text) borrow
    /// from the request, so that nothing is copied that need not be.
    ///
    /// # Errors
    /// 400 with what is wrong and where: `missing field "k" at line 1 column 17`.
    pub fn json<'a, T: Deserialize<'a>>(&'a self) -> Result<T> {
        serde_json::from_slice(self.bytes()?)
            .map_err(|error| Error::bad_request(format!("the body does not fit: {error}")))
    }

    /// The tensors of a V2 call.
    ///
    /// # Errors
    /// 400 if the caller sent a V1 body instead.
    pub fn tensors(&self) -> Result<&Tensors> {
        match &self.payload {
            Payload::Tensors(tensors) => Ok(tensors),
            Payload::Body(_) => Err(Error::bad_request("V2 tensors are wanted here, not a V1 predict body")),
        }
    }

    /// The tensors of a V2 call, to be passed on.
    ///
    /// # Errors
    /// As [`tensors`](Self::tensors).
    pub fn into_tensors(self) -> Result<Tensors> {
        self.tensors()?;
        match self.payload {
            Payload::Tensors(tensors) => Ok(tensors),
            Payload::Body(_) => Ok(Tensors::default()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Deserialize)]
    struct Named<'a> {
        name: &'a str,
    }

    #[test]
    fn json_borrows_from_the_body() {
        let request = Request::from_body(r#"{"name": "jaws"}"#);
        let named: Named<'_> = request.json().expect("fits");
        let body = request.bytes().expect("a body").as_ptr_range();
        assert_eq!(named.name, "jaws");
        assert!(body.contains(&named.name.as_ptr()));
    }

    #[test]
    fn a_body_that_does_not_fit_is_a_400_that_names_the_place() {
        let refusal = Request::from_body("{\n\"title\": 1}").json::<Named<'_>>().err().expect("no name");
        assert_eq!(refusal.code(), 400);
        assert!(refusal.message().contains("missing field `name` at line 2 column"), "{refusal}");
    }

    #[test]
    fn a_body_is_not_tensors_and_tensors_are_not_a_body() {
        assert_eq!(Request::from_body("{}").tensors().expect_err("a body").code(), 400);
        assert_eq!(Request::from_tensors(Tensors::default()).bytes().expect_err("tensors").code(), 400);
        assert!(Request::from_tensors(Tensors::default()).into_tensors().is_ok());
    }
}
