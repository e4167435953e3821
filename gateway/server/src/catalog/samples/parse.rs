//! From text to sample cases, everything in it checked: it comes with an upload.

use std::borrow::Cow;
use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;
use sluice_sandbox::{HttpBody, Request};
use sluice_tensor::NamedTensor;

use super::{CASES_MAX, Case, DEPTH_MAX, Expect, NAME_BYTES_MAX, SAMPLES_BYTES_MAX, TOLERANCE_DEFAULT};
use crate::error::{Error, Kind};
use crate::tensor_json::{self, TensorJson};

/// Why sample cases cannot be used. The text is for the author of the plugin.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SamplesError {
    /// More than [`SAMPLES_BYTES_MAX`] bytes.
    #[error("sample cases are {0} bytes, at most {SAMPLES_BYTES_MAX}")]
    TooLarge(usize),
    /// More than [`CASES_MAX`].
    #[error("there are {0} sample cases, at most {CASES_MAX}")]
    TooMany(usize),
    /// Nested too deeply.
    #[error("sample cases are nested deeper than {DEPTH_MAX}")]
    TooDeep,
    /// Not the JSON of the format.
    #[error("sample cases are not valid: {0}")]
    Json(String),
    /// Something about one case.
    #[error("sample case '{case}': {what}")]
    Case {
        /// Its name, or its number.
        case: String,
        /// What is wrong with it.
        what: String,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CaseJson<'a> {
    #[serde(borrow)]
    name: Cow<'a, str>,
    #[serde(borrow)]
    request: Option<RequestJson<'a>>,
    #[serde(borrow)]
    outputs: Option<Vec<TensorJson<'a>>>,
    #[serde(borrow)]
    carry_base64: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    models: BTreeMap<Cow<'a, str>, Vec<TensorJson<'a>>>,
    #[serde(borrow)]
    expect: Option<ExpectJson<'a>>,
    tolerance: Option<f64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RequestJson<'a> {
    #[serde(borrow, default)]
    json: Present<'a>,
    #[serde(borrow)]
    text: Option<Cow<'a, str>>,
    #[serde(borrow)]
    base64: Option<Cow<'a, str>>,
    #[serde(borrow)]
    content_type: Option<Cow<'a, str>>,
    #[serde(borrow)]
    tensors: Option<Vec<TensorJson<'a>>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ExpectJson<'a> {
    #[serde(borrow, default)]
    json: Present<'a>,
    #[serde(borrow)]
    text: Option<Cow<'a, str>>,
    #[serde(borrow)]
    inputs: Option<Vec<TensorJson<'a>>>,
    #[serde(borrow)]
    tensors: Option<Vec<TensorJson<'a>>>,
    status: Option<u16>,
}

/// A value that is there, even if it is `null`, which an `Option` would take for none.
#[derive(Default)]
struct Present<'a>(Option<&'a RawValue>);

impl<'de: 'a, 'a> Deserialize<'de> for Present<'a> {
    fn deserialize<D: serde::Deserializer<'de>>(json: D) -> Result<Self, D::Error> {
        <&RawValue>::deserialize(json).map(|value| Self(Some(value)))
    }
}

/// Reads the sample cases of a component or a file.
///
/// # Errors
/// See [`SamplesError`]; the first problem is reported.
pub fn parse(json: &[u8]) -> Result<Vec<Case>, SamplesError> {
    if json.len() > SAMPLES_BYTES_MAX {
        return Err(SamplesError::TooLarge(json.len()));
    }
    tensor_json::check_depth(json, DEPTH_MAX).map_err(|_| SamplesError::TooDeep)?;
    let cases: Vec<CaseJson<'_>> =
        serde_json::from_slice(json).map_err(|error| SamplesError::Json(error.to_string()))?;
    if cases.len() > CASES_MAX {
        return Err(SamplesError::TooMany(cases.len()));
    }
    let mut parsed: Vec<Case> = Vec::with_capacity(cases.len());
    for (number, case) in cases.into_iter().enumerate() {
        let shown = shown_name(&case.name, number);
        let fault = |what: String| SamplesError::Case { case: shown.clone(), what };
        if parsed.iter().any(|known| *known.name == *case.name) {
            return Err(fault("the name stands there twice".to_owned()));
        }
        parsed.push(convert(case).map_err(fault)?);
    }
    Ok(parsed)
}

fn is_good_name(name: &str) -> bool {
    !name.trim().is_empty() && name.len() <= NAME_BYTES_MAX && !name.chars().any(char::is_control)
}

fn shown_name(name: &str, number: usize) -> String {
    if is_good_name(name) { name.to_owned() } else { format!("number {}", number + 1) }
}

fn convert(case: CaseJson<'_>) -> Result<Case, String> {
    if !is_good_name(&case.name) {
        return Err(format!("a name has 1 to {NAME_BYTES_MAX} bytes and no control characters"));
    }
    let request = case.request.map(request).transpose()?;
    let outputs = case.outputs.as_deref().map(|given| tensors("outputs", given)).transpose()?;
    if request.is_none() && outputs.is_none() {
        return Err("it has neither a request nor outputs".to_owned());
    }
    let models = case.models.iter().map(|(name, given)| {
        sluice_tensor::check_name(name).map_err(|_| format!("'{name}' is not the name of a model"))?;
        Ok((name.clone().into_owned(), tensors("models", given)?))
    });
    let tolerance = case.tolerance.unwrap_or(TOLERANCE_DEFAULT);
    if !(0.0..=1.0).contains(&tolerance) {
        return Err("tolerance must be from 0 to 1".to_owned());
    }
    Ok(Case {
        models: models.collect::<Result<_, String>>()?,
        name: case.name.into_owned(),
        request,
        outputs,
        carry: case.carry_base64.map(|text| from_base64("carry_base64", &text)).transpose()?,
        expect: case.expect.map(expect).transpose()?,
        tolerance,
    })
}

fn request(request: RequestJson<'_>) -> Result<Request, String> {
    const ONE: &str = "request needs exactly one of json, text, base64 and tensors";
    let body = |default: &str, data: Bytes| {
        let content_type = request.content_type.as_deref().unwrap_or(default).to_owned();
        Request::Body(HttpBody { content_type: Some(content_type), data })
    };
    match (request.json.0, &request.text, &request.base64, &request.tensors) {
        (Some(json), None, None, None) => {
            Ok(body("application/json", Bytes::copy_from_slice(json.get().as_bytes())))
        }
        (None, Some(text), None, None) => {
            Ok(body("text/plain; charset=utf-8", Bytes::copy_from_slice(text.as_bytes())))
        }
        (None, None, Some(data), None) => {
            Ok(body("application/octet-stream", from_base64("request.base64", data)?))
        }
        (None, None, None, Some(_)) if request.content_type.is_some() => {
            Err("request.content_type is for bodies, not for tensors".to_owned())
        }
        (None, None, None, Some(given)) => Ok(Request::Tensors(tensors("request.tensors", given)?)),
        _ => Err(ONE.to_owned()),
    }
}

fn expect(expect: ExpectJson<'_>) -> Result<Expect, String> {
    const ONE: &str = "expect needs exactly one of json, text, inputs, tensors and status";
    match (expect.json.0, expect.text, expect.inputs, expect.tensors, expect.status) {
        (Some(json), None, None, None, None) => serde_json::from_str(json.get())
            .map(Expect::Json)
            .map_err(|error| format!("expect.json: {error}")),
        (None, Some(text), None, None, None) => Ok(Expect::Text(text.into_owned())),
        (None, None, Some(given), None, None) => Ok(Expect::Inputs(tensors("expect.inputs", &given)?)),
        (None, None, None, Some(given), None) => Ok(Expect::Tensors(tensors("expect.tensors", &given)?)),
        (None, None, None, None, Some(status)) if (200..=599).contains(&status) => Ok(Expect::Status(status)),
        (None, None, None, None, Some(status)) => Err(format!("{status} is not a status a plugin can give")),
        _ => Err(ONE.to_owned()),
    }
}

fn tensors(place: &str, given: &[TensorJson<'_>]) -> Result<Vec<NamedTensor>, String> {
    let mut no_memory =
        |_: &str, _: &[_], _| Err(Error::new(Kind::Unsupported, "a sample has no shared memory"));
    tensor_json::decode_all(given, Bytes::new(), &mut no_memory)
        .map_err(|error| format!("{place}: {}", error.message()))
}

fn from_base64(place: &str, text: &str) -> Result<Bytes, String> {
    STANDARD.decode(text).map(Bytes::from).map_err(|error| format!("{place}: not base64: {error}"))
}
