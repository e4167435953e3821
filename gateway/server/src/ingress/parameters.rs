//! The parameters of a prediction: which of them mean something to the gateway, and what
//! is left for whoever serves the request. One reading for every protocol.

use std::sync::Arc;
use std::time::Duration;

use super::served::shown;
use crate::error::{Error, Kind, Result};
use crate::pipeline::{Parameter, RequestOptions, Sequence, SequenceId};

/// Most parameters of a request, of one of its inputs or of an output. Clients send a
/// handful. More answer 400.
pub const PARAMETERS_MAX: usize = 64;

/// Most bytes of a parameter's name, and of a text that is its value. They are options,
/// not data: what is longer belongs into an input. More answer 400.
pub const PARAMETER_BYTES_MAX: usize = 1024;

/// Names that only the server may use.
const RESERVED_PREFIX: &str = "triton_";

/// What a request's own parameters ask for.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Wishes {
    /// How it is to be treated in the rooms behind the door.
    pub options: RequestOptions,
    /// Whether outputs that do not say it themselves are wanted in binary.
    pub binary_data_output: bool,
}

/// Reads a request's parameters.
///
/// # Errors
/// [`Kind::BadRequest`] for too many, a reserved or doubled name, or a value that its
/// name does not allow.
pub fn read(given: Vec<(Arc<str>, Parameter)>) -> Result<Wishes> {
    check_count(given.len())?;
    let mut wishes = Wishes::default();
    let (mut id, mut start, mut end) = (None, false, false);
    let is_doubled =
        |(at, (name, _)): &(usize, &(Arc<str>, _))| given.iter().take(*at).any(|(it, _)| it == name);
    if let Some((_, (name, _))) = given.iter().enumerate().find(is_doubled) {
        return Err(fault(format!("parameter '{}' is given twice", shown(name))));
    }
    for (name, value) in given {
        check_size(&name, &value)?;
        match &*name {
            "sequence_id" => id = sequence_id(value)?,
            "sequence_start" => start = truth(&name, &value)?,
            "sequence_end" => end = truth(&name, &value)?,
            "binary_data_output" => wishes.binary_data_output = truth(&name, &value)?,
            "priority" => {
                wishes.options.priority = u32::try_from(whole(&name, &value)?)
                    .map_err(|_| fault("parameter 'priority' is too large"))?;
            }
            "timeout" => {
                let microseconds = whole(&name, &value)?;
                // As in Triton, a time in the queue, and no deadline: many clients say it in
                // milliseconds.
                wishes.options.timeout = (microseconds > 0).then(|| Duration::from_micros(microseconds));
            }
            name if name.starts_with(RESERVED_PREFIX) => {
                return Err(fault(
                    "parameter keys starting with 'triton_' are reserved for Triton usage, and should not be \
                     specified.",
                ));
            }
            _ => wishes.options.parameters.push((name, value)),
        }
    }
    if id.is_none() && (start || end) {
        return Err(fault("'sequence_start' and 'sequence_end' need a 'sequence_id' that is not 0"));
    }
    wishes.options.sequence = id.map(|id| Sequence { id, start, end });
    Ok(wishes)
}

/// Parameters are few.
///
/// # Errors
/// [`Kind::BadRequest`].
pub fn check_count(count: usize) -> Result<()> {
    if count > PARAMETERS_MAX {
        return Err(fault(format!("at most {PARAMETERS_MAX} parameters are allowed")));
    }
    Ok(())
}

fn check_size(name: &str, value: &Parameter) -> Result<()> {
    let value = match value {
        Parameter::Text(text) => text.len(),
        _ => 0,
    };
    if name.len().max(value) > PARAMETER_BYTES_MAX {
        return Err(fault(format!("a parameter has at most {PARAMETER_BYTES_MAX} bytes")));
    }
    Ok(())
}

/// A sequence's name; 0 and the empty text are none, as Triton has it.
fn sequence_id(value: Parameter) -> Result<Option<SequenceId>> {
    match value {
        Parameter::Text(text) if text.is_empty() => Ok(None),
        Parameter::Text(text) => Ok(Some(SequenceId::Text(text))),
        number => match whole("sequence_id", &number) {
            Ok(0) => Ok(None),
            Ok(number) => Ok(Some(SequenceId::Number(number))),
            Err(_) => Err(fault("parameter 'sequence_id' must be a whole number, 0 or more, or a string")),
        },
    }
}

/// The value of a parameter that says yes or no.
///
/// # Errors
/// [`Kind::BadRequest`] for anything else.
pub fn truth(name: &str, value: &Parameter) -> Result<bool> {
    match value {
        Parameter::Bool(value) => Ok(*value),
        _ => Err(fault(format!("parameter '{name}' must be true or false"))),
    }
}

/// The value of a parameter that counts.
///
/// # Errors
/// [`Kind::BadRequest`] for anything else.
pub fn whole(name: &str, value: &Parameter) -> Result<u64> {
    let number = match value {
        Parameter::Integer(value) => u64::try_from(*value).ok(),
        Parameter::Unsigned(value) => Some(*value),
        _ => None,
    };
    number.ok_or_else(|| {
        let unit = if name == "timeout" { " of microseconds" } else { "" };
        fault(format!("parameter '{name}' must be a whole number{unit}, 0 or more"))
    })
}

fn fault(message: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(Kind::BadRequest, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(pairs: &[(&str, Parameter)]) -> Vec<(Arc<str>, Parameter)> {
        pairs.iter().map(|(name, value)| (Arc::from(*name), value.clone())).collect()
    }

    #[test]
    fn reserved_names_mean_what_triton_says_and_others_are_passed_on() {
        let wishes = read(given(&[
            ("priority", Parameter::Integer(2)),
            ("timeout", Parameter::Integer(1500)),
            ("sequence_id", Parameter::Unsigned(u64::MAX)),
            ("sequence_end", Parameter::Bool(true)),
            ("temperature", Parameter::Float(0.5)),
        ]))
        .expect("valid");
        assert_eq!(wishes.options.priority, 2);
        assert_eq!(wishes.options.timeout, Some(Duration::from_micros(1500)));
        let sequence = Sequence { id: SequenceId::Number(u64::MAX), start: false, end: true };
        assert_eq!(wishes.options.sequence, Some(sequence));
        assert_eq!(wishes.options.parameter("temperature"), Some(&Parameter::Float(0.5)));
        assert_eq!(wishes.options.parameter("priority"), None);
        let none = read(given(&[("sequence_id", Parameter::Integer(0)), ("timeout", Parameter::Integer(0))]));
        assert_eq!(none.expect("valid"), Wishes::default());
    }

    #[test]
    fn parameters_that_make_no_sense_are_refused() {
        let long = Parameter::Text("x".repeat(PARAMETER_BYTES_MAX + 1).into());
        for (name, value) in [
            ("priority", Parameter::Integer(-1)),
            ("priority", Parameter::Unsigned(u64::MAX)),
            ("priority", Parameter::Text("1".into())),
            ("timeout", Parameter::Float(1.5)),
            ("timeout", Parameter::Integer(-7)),
            ("sequence_id", Parameter::Bool(true)),
            ("sequence_start", Parameter::Integer(1)),
            ("sequence_start", Parameter::Bool(true)),
            ("binary_data_output", Parameter::Integer(1)),
            ("triton_x", Parameter::Integer(1)),
            ("note", long),
        ] {
            let refused = read(given(&[(name, value.clone())]));
            assert_eq!(refused.map_err(|error| error.kind()), Err(Kind::BadRequest), "{name} {value:?}");
        }
        let twice = read(given(&[("x", Parameter::Integer(1)), ("x", Parameter::Integer(2))]));
        assert_eq!(twice.map_err(|error| error.kind()), Err(Kind::BadRequest), "a name that is given twice");
        let many = (0..=PARAMETERS_MAX).map(|n| (n.to_string().into(), Parameter::Bool(true))).collect();
        assert!(read(many).is_err());
    }
}
