//! Parameters in JSON: of a request, an input or an output.

use std::borrow::Cow;
use std::sync::Arc;

use serde_json::value::RawValue;

use super::Keyed;
use crate::error::{Error, Kind, Result};
use crate::pipeline::Parameter;

/// Most parameters of a request or of a tensor.
const PARAMETERS_MAX: usize = 64;

/// The parameters of a request or of a tensor.
pub(crate) type Parameters<'a> = Keyed<'a, PARAMETERS_MAX>;

/// Parameters are few, and flat: numbers, strings and truth values.
pub(crate) fn check_parameters(parameters: Option<&Parameters<'_>>) -> Result<()> {
    let Some(parameters) = parameters else { return Ok(()) };
    if parameters.len() > PARAMETERS_MAX {
        return Err(Error::new(Kind::BadRequest, format!("at most {PARAMETERS_MAX} parameters are allowed")));
    }
    if parameters.values().any(|value| value.get().starts_with(['[', '{', 'n'])) {
        return Err(Error::new(Kind::BadRequest, "a parameter is a number, a string or a truth value"));
    }
    Ok(())
}

/// Reads parameters, each by the form of its value.
///
/// # Errors
/// As [`check_parameters`].
pub(crate) fn parameters(given: Option<Parameters<'_>>) -> Result<Vec<(Arc<str>, Parameter)>> {
    check_parameters(given.as_ref())?;
    let read = |value: &RawValue| {
        let text = value.get();
        let float = || serde_json::from_str(text).ok().map(Parameter::Float);
        match text.as_bytes().first()? {
            b't' | b'f' => serde_json::from_str(text).ok().map(Parameter::Bool),
            b'"' => serde_json::from_str(text).ok().map(|text: Cow<'_, str>| Parameter::Text(text.into())),
            _ => (text.parse().ok().map(Parameter::Integer))
                .or_else(|| text.parse().ok().map(Parameter::Unsigned))
                .or_else(float),
        }
    };
    let one = |(name, value): (Cow<'_, str>, &RawValue)| {
        let value = read(value).ok_or_else(|| {
            Error::new(Kind::BadRequest, "a parameter is a number, a string or a truth value")
        })?;
        Ok((name.into(), value))
    };
    given.unwrap_or_default().into_iter().map(one).collect()
}
