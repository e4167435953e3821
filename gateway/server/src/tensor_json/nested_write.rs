//! Tensors as nested arrays, each value after the other, as TF-Serving's REST interface
//! has them.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use half::{bf16, f16};
use serde::Serialize;
use sluice_tensor::{DType, NamedTensor, Strings};

use super::put;
use crate::error::{Error, Kind, Result};

/// Texts of outputs with such a name are written in base64, as TF-Serving has it.
const BYTES_SUFFIX: &str = "_bytes";

/// Writes the next array of the given dimensions.
type Write<'a> = Box<dyn FnMut(&[usize], &mut Vec<u8>) -> std::result::Result<(), &'static str> + 'a>;

/// An output whose elements are yet to be written, in order.
struct Writer<'a> {
    output: &'a NamedTensor,
    write: Write<'a>,
}

/// Writes `{"predictions": [...]}`: for each row an object of the outputs or, where there
/// is one, its value.
///
/// # Errors
/// [`Kind::BadRequest`] for outputs that are no rows, [`Kind::Engine`] for what JSON cannot
/// carry.
pub(crate) fn predictions(outputs: &[NamedTensor], out: &mut Vec<u8>) -> Result<()> {
    let rows = outputs.first().filter(|output| output.tensor.shape().rank() > 0);
    let rows = rows.map_or(0, |output| output.tensor.shape().rows());
    for output in outputs {
        let shape = output.tensor.shape();
        if shape.rank() == 0 || shape.rows() != rows {
            let message = format!("output '{}' is not one row for each instance: send 'inputs'", output.name);
            return Err(Error::new(Kind::BadRequest, message));
        }
    }
    let data = data(outputs);
    let mut writers = writers(outputs, &data);
    out.extend_from_slice(b"{\"predictions\":[");
    for row in 0..rows {
        if row > 0 {
            out.push(b',');
        }
        values(&mut writers, |output| &output.tensor.shape().dims()[1..], out)?;
    }
    out.extend_from_slice(b"]}");
    Ok(())
}

/// Writes `{"outputs": ...}`: an object of the outputs or, where there is one, its value.
///
/// # Errors
/// [`Kind::Engine`] for what JSON cannot carry.
pub(crate) fn outputs(outputs: &[NamedTensor], out: &mut Vec<u8>) -> Result<()> {
    let data = data(outputs);
    out.extend_from_slice(b"{\"outputs\":");
    values(&mut writers(outputs, &data), |output| output.tensor.shape().dims(), out)?;
    out.push(b'}');
    Ok(())
}

fn data(outputs: &[NamedTensor]) -> Vec<Bytes> {
    outputs.iter().map(|output| output.tensor.to_dense()).collect()
}

fn writers<'a>(outputs: &'a [NamedTensor], data: &'a [Bytes]) -> Vec<Writer<'a>> {
    outputs.iter().zip(data).map(|(output, data)| Writer { output, write: writer(output, data) }).collect()
}

/// Writes one value of each output.
fn values<'a>(
    writers: &mut [Writer<'a>],
    dims: impl Fn(&'a NamedTensor) -> &'a [usize],
    out: &mut Vec<u8>,
) -> Result<()> {
    let is_only = writers.len() == 1;
    if !is_only {
        out.push(b'{');
    }
    for (place, Writer { output, write }) in writers.iter_mut().enumerate() {
        if !is_only {
            if place > 0 {
                out.push(b',');
            }
            put(out, &*output.name);
            out.push(b':');
        }
        let fault = |what| Error::new(Kind::Engine, format!("output '{}' {what}", output.name));
        write(dims(output), out).map_err(fault)?;
    }
    if !is_only {
        out.push(b'}');
    }
    Ok(())
}

fn writer<'a>(output: &'a NamedTensor, data: &'a Bytes) -> Write<'a> {
    macro_rules! numbers {
        ($type:ty, $convert:expr) => {{
            let chunks = data.chunks_exact(size_of::<$type>()).filter_map(|bytes| bytes.try_into().ok());
            let mut items = chunks.map(|bytes| $convert(<$type>::from_le_bytes(bytes)));
            Box::new(move |dims, out| nested(dims, &mut || items.next(), out))
        }};
    }
    match output.tensor.dtype() {
        DType::Bool => {
            let mut items = data.iter().map(|byte| Ok(*byte != 0));
            Box::new(move |dims, out| nested(dims, &mut || items.next(), out))
        }
        DType::U8 => numbers!(u8, Ok),
        DType::U16 => numbers!(u16, Ok),
        DType::U32 => numbers!(u32, Ok),
        DType::U64 => numbers!(u64, Ok),
        DType::I8 => numbers!(i8, Ok),
        DType::I16 => numbers!(i16, Ok),
        DType::I32 => numbers!(i32, Ok),
        DType::I64 => numbers!(i64, Ok),
        DType::F16 => numbers!(f16, |value| finite(f32::from(value))),
        DType::Bf16 => numbers!(bf16, |value| finite(f32::from(value))),
        DType::F32 => numbers!(f32, finite),
        DType::F64 => numbers!(f64, finite64),
        DType::Bytes => {
            let as_bytes = output.name.ends_with(BYTES_SUFFIX);
            let mut items: Option<Strings<'_>> = output.tensor.strings().ok();
            Box::new(move |dims, out| {
                nested(dims, &mut || items.as_mut()?.next().map(|text| Ok(Text::of(text, as_bytes))), out)
            })
        }
    }
}

const NOT_FINITE: &str = "is not finite, which JSON cannot carry";

fn finite(value: f32) -> std::result::Result<f32, &'static str> {
    if value.is_finite() { Ok(value) } else { Err(NOT_FINITE) }
}

fn finite64(value: f64) -> std::result::Result<f64, &'static str> {
    if value.is_finite() { Ok(value) } else { Err(NOT_FINITE) }
}

/// A text, or bytes that are none.
#[derive(Serialize)]
#[serde(untagged)]
enum Text<'a> {
    Plain(&'a str),
    Base64 { b64: String },
}

impl<'a> Text<'a> {
    fn of(bytes: &'a [u8], as_bytes: bool) -> Self {
        match std::str::from_utf8(bytes) {
            Ok(text) if !as_bytes => Self::Plain(text),
            _ => Self::Base64 { b64: STANDARD.encode(bytes) },
        }
    }
}

/// Writes arrays of the next items. Recurses as deep as a tensor may have dimensions.
fn nested<T: Serialize>(
    dims: &[usize],
    next: &mut dyn FnMut() -> Option<std::result::Result<T, &'static str>>,
    out: &mut Vec<u8>,
) -> std::result::Result<(), &'static str> {
    let Some((length, inner)) = dims.split_first() else {
        put(out, &next().ok_or("has too few elements")??);
        return Ok(());
    };
    out.push(b'[');
    // Without elements the outer dimensions could be of any length.
    let length = if inner.contains(&0) { 0 } else { *length };
    for place in 0..length {
        if place > 0 {
            out.push(b',');
        }
        nested(inner, next, out)?;
    }
    out.push(b']');
    Ok(())
}

#[cfg(test)]
mod tests {
    use sluice_tensor::{Shape, Tensor};

    use super::*;

    fn text(
        write: impl Fn(&[NamedTensor], &mut Vec<u8>) -> Result<()>,
        of: &[NamedTensor],
    ) -> Result<String, Kind> {
        let mut out = Vec::new();
        write(of, &mut out).map_err(|error| error.kind())?;
        Ok(String::from_utf8(out).expect("UTF-8"))
    }

    fn floats(name: &str, dims: &[usize], values: &[f32]) -> NamedTensor {
        let tensor = Tensor::from_f32(Shape::new(dims).expect("fits"), values).expect("valid");
        NamedTensor { name: name.into(), tensor }
    }

    fn words(name: &str, words: &[&[u8]]) -> NamedTensor {
        let shape = Shape::new(&[words.len()]).expect("fits");
        let tensor = Tensor::from_strings(shape, words.iter().copied()).expect("valid");
        NamedTensor { name: name.into(), tensor }
    }

    #[test]
    fn rows_and_columns_show_the_same_values() {
        let both = [floats("y", &[2, 2], &[1.0, 2.0, 3.0, 4.5]), words("w", &[b"a", b"\xff"])];
        let rows = r#"{"predictions":[{"y":[1.0,2.0],"w":"a"},{"y":[3.0,4.5],"w":{"b64":"/w=="}}]}"#;
        assert_eq!(text(predictions, &both), Ok(rows.to_owned()));
        let columns = r#"{"outputs":{"y":[[1.0,2.0],[3.0,4.5]],"w":["a",{"b64":"/w=="}]}}"#;
        assert_eq!(text(outputs, &both), Ok(columns.to_owned()));
        assert_eq!(text(predictions, &both[..1]), Ok(r#"{"predictions":[[1.0,2.0],[3.0,4.5]]}"#.to_owned()));
        assert_eq!(
            text(outputs, &[words("w_bytes", &[b"a"])]),
            Ok(r#"{"outputs":[{"b64":"YQ=="}]}"#.to_owned())
        );
    }

    #[test]
    fn what_cannot_be_said_is_an_error() {
        assert_eq!(text(outputs, &[floats("y", &[1], &[f32::NAN])]), Err(Kind::Engine));
        assert_eq!(text(predictions, &[floats("y", &[], &[1.0])]), Err(Kind::BadRequest));
        let uneven = [floats("y", &[2], &[1.0, 2.0]), floats("z", &[1], &[1.0])];
        assert_eq!(text(predictions, &uneven), Err(Kind::BadRequest));
        assert_eq!(text(outputs, &[floats("y", &[1 << 20, 0], &[])]), Ok(r#"{"outputs":[]}"#.to_owned()));
    }
}
