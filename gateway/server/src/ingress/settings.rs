//! Triton's logging and trace extensions: settings as JSON, the same for HTTP and gRPC, which
//! has them as messages of the same names.
//!
//! A change is checked whole before any of it takes effect. A name that is not known is left
//! out of account, as in Triton. Where logs and traces are written is not for the network to
//! say: that would be a way to write any file.

use serde_json::{Map, Value, json};

use crate::catalog::Snapshot;
use crate::error::{Error, Kind, Result};
use crate::observe::{
    Change, LogSettings, TraceChange, TraceSettings, Tracer, change_log_settings, log_settings,
};

/// `GET /v2/logging`.
pub fn log() -> Value {
    shown(&log_settings())
}

/// `POST /v2/logging`.
///
/// # Errors
/// [`Kind::BadRequest`] for a value of the wrong kind, [`Kind::Unsupported`] for the file.
pub fn change_log(request: &Map<String, Value>) -> Result<Value> {
    if request.contains_key("log_file") {
        return Err(Error::new(
            Kind::Unsupported,
            "log file location can not be updated through network protocol",
        ));
    }
    let flag = |name: &str| match request.get(name) {
        None => Ok(None),
        Some(value) => value.as_bool().map(Some).ok_or_else(|| not_a("boolean")),
    };
    let (info, warning, error) = (flag("log_info")?, flag("log_warning")?, flag("log_error")?);
    let verbose = match request.get("log_verbose_level") {
        None => None,
        Some(value) => Some(value.as_u64().ok_or_else(|| not_a("unsigned-integer"))?),
    };
    let is_iso8601 = match request.get("log_format").map(|format| (format, format.as_str())) {
        None => None,
        Some((_, Some("default"))) => Some(false),
        Some((_, Some("ISO8601"))) => Some(true),
        Some((_, Some(other))) => {
            let other = super::served::shown(other);
            return Err(Error::new(
                Kind::BadRequest,
                format!("invalid argument for --log_format, got: {other}"),
            ));
        }
        Some((_, None)) => return Err(not_a("string")),
    };
    let changed = change_log_settings(|settings| {
        settings.info = info.unwrap_or(settings.info);
        settings.warning = warning.unwrap_or(settings.warning);
        settings.error = error.unwrap_or(settings.error);
        let verbose = verbose.map(|level| u32::try_from(level).unwrap_or(u32::MAX));
        settings.verbose_level = verbose.unwrap_or(settings.verbose_level);
        settings.is_iso8601 = is_iso8601.unwrap_or(settings.is_iso8601);
    });
    changed
        .map(|settings| shown(&settings))
        .map_err(|why| Error::new(Kind::Internal, "the log cannot be changed").with_detail(why))
}

fn shown(settings: &LogSettings) -> Value {
    json!({
        // Lines go to standard error.
        "log_file": "",
        "log_info": settings.info,
        "log_warning": settings.warning,
        "log_error": settings.error,
        "log_verbose_level": settings.verbose_level,
        "log_format": if settings.is_iso8601 { "ISO8601" } else { "default" },
    })
}

/// In the words of Triton's JSON reader.
fn not_a(kind: &str) -> Error {
    Error::new(Kind::BadRequest, format!("attempt to access JSON non-{kind} as {kind}"))
}

/// `GET /v2/trace/setting`, and of a model.
///
/// # Errors
/// [`Kind::NotFound`] for a model that is not served.
pub fn trace(snapshot: &Snapshot, tracer: &Tracer, model: Option<&str>) -> Result<Value> {
    check_served(snapshot, model)?;
    Ok(shown_trace(tracer, &tracer.settings(model)))
}

/// `POST /v2/trace/setting`, and of a model. `null` clears a setting.
///
/// # Errors
/// [`Kind::NotFound`] for a model that is not served, [`Kind::BadRequest`] for a value that a
/// setting cannot have, [`Kind::Unsupported`] for the file.
pub fn change_trace(
    snapshot: &Snapshot,
    tracer: &Tracer,
    model: Option<&str>,
    request: &Map<String, Value>,
) -> Result<Value> {
    check_served(snapshot, model)?;
    if request.contains_key("trace_file") {
        return Err(Error::new(
            Kind::Unsupported,
            "trace file location can not be updated through network protocol",
        ));
    }
    let change = TraceChange {
        level: read_level(request.get("trace_level"))?,
        rate: read_number(request, "trace_rate", 1, i64::from(u32::MAX))?.map(narrow),
        count: read_number(request, "trace_count", -1, i64::MAX)?,
        log_frequency: read_number(request, "log_frequency", 0, i64::from(u32::MAX))?.map(narrow),
    };
    match tracer.change(model, &change) {
        Some(settings) => Ok(shown_trace(tracer, &settings)),
        None => Err(Error::new(Kind::BadRequest, "too many models have trace settings of their own")),
    }
}

fn check_served(snapshot: &Snapshot, model: Option<&str>) -> Result<()> {
    match model {
        Some(model) if !snapshot.serves(model) => Err(super::served::unknown(model)),
        _ => Ok(()),
    }
}

fn narrow(number: i64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

fn read_level(value: Option<&Value>) -> Result<Change<(bool, bool)>> {
    let words = match value {
        None => return Ok(Change::Keep),
        Some(Value::Null) => return Ok(Change::Clear),
        Some(Value::Array(words)) => words.as_slice(),
        Some(word) => std::slice::from_ref(word),
    };
    let (mut timestamps, mut tensors) = (false, false);
    for word in words {
        match word.as_str() {
            Some("OFF") if words.len() == 1 => {}
            Some("TIMESTAMPS") => timestamps = true,
            Some("TENSORS") => tensors = true,
            // What Triton once had: all there is.
            Some("MIN" | "MAX") => timestamps = true,
            _ => {
                return Err(Error::new(
                    Kind::BadRequest,
                    "trace_level must be OFF, or TIMESTAMPS and TENSORS in a list",
                ));
            }
        }
    }
    Ok(Change::Set((timestamps, tensors)))
}

/// A number, as Triton has them: in a text, which a list of one may hold.
fn read_number(request: &Map<String, Value>, name: &str, least: i64, most: i64) -> Result<Change<i64>> {
    let value = match request.get(name) {
        None => return Ok(Change::Keep),
        Some(Value::Null) => return Ok(Change::Clear),
        Some(Value::Array(one)) if one.len() == 1 => &one[0],
        Some(value) => value,
    };
    let number = value.as_str().map_or_else(|| value.as_i64(), |text| text.parse().ok());
    match number.filter(|number| (least..=most).contains(number)) {
        Some(number) => Ok(Change::Set(number)),
        None => {
            let got = super::served::shown(value.as_str().unwrap_or("another type"));
            Err(Error::new(Kind::BadRequest, format!("Unable to parse '{name}', got: {got}")))
        }
    }
}

fn shown_trace(tracer: &Tracer, settings: &TraceSettings) -> Value {
    let levels = [(settings.timestamps, "TIMESTAMPS"), (settings.tensors, "TENSORS")];
    let mut level: Vec<&str> = levels.iter().filter(|(is_on, _)| *is_on).map(|(_, name)| *name).collect();
    if level.is_empty() {
        level.push("OFF");
    }
    // The name is enough to tell it: where it lies is the operator's business.
    let file = tracer.file().and_then(|file| file.file_name()).map(|name| name.to_string_lossy());
    json!({
        "trace_file": file.unwrap_or_default(),
        "trace_level": level,
        "trace_rate": settings.rate.to_string(),
        "trace_count": settings.count.to_string(),
        "log_frequency": settings.log_frequency.to_string(),
        "trace_mode": "triton",
    })
}
