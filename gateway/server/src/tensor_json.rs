//! Tensors in JSON as KServe V2 has them, both ways. Data goes straight between the
//! text and the packed bytes; nothing is built in between.

mod bounded;
mod elements;
mod memory;
pub(crate) mod nested;
pub(crate) mod nested_write;
mod parameters;

use std::borrow::Cow;

use bytes::Bytes;
use half::{bf16, f16};
use serde::Deserialize;
use serde::de::DeserializeSeed;
use serde_json::value::RawValue;
use sluice_tensor::{DType, NamedTensor, RANK_MAX, Shape, TENSOR_BYTES_MAX, Tensor, TensorError, find};

use crate::error::{Error, Kind, Result};

pub(crate) use bounded::{Keyed, List, decoded_bytes_max};
use elements::{Elements, Sink};
pub(crate) use memory::ReadMemory;
use memory::{from_memory, is_in_memory};
pub(crate) use parameters::{Parameters, check_parameters, parameters};

/// What a malformed tensor is called on the wire.
pub(crate) fn to_error(error: &TensorError) -> Error {
    let kind = match error {
        TensorError::TooLarge { .. } => Kind::TooLarge,
        TensorError::Length { .. } | TensorError::Framing(_) => Kind::BadLength,
        TensorError::Bool | TensorError::Unsupported(_) => Kind::BadDtype,
        _ => Kind::BadShape,
    };
    Error::new(kind, error.to_string())
}

/// Refuses JSON that is nested deeper than `depth_max`, before anything parses it.
///
/// # Errors
/// [`Kind::LimitDepth`].
pub(crate) fn check_depth(json: &[u8], depth_max: usize) -> Result<()> {
    let (mut depth, mut in_string, mut escaped) = (0usize, false, false);
    for byte in json {
        if in_string {
            in_string = escaped || *byte != b'"';
            escaped = !escaped && *byte == b'\\';
            continue;
        }
        match byte {
            b'"' => in_string = true,
            b'[' | b'{' => {
                depth += 1;
                if depth > depth_max {
                    return Err(Error::new(
                        Kind::LimitDepth,
                        format!("JSON is nested deeper than {depth_max}"),
                    ));
                }
            }
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    Ok(())
}

/// Most tensors of a request, and most outputs it may ask for by name.
pub(crate) const TENSORS_MAX: usize = 64;

/// A tensor as V2 writes it.
#[derive(Deserialize)]
pub(crate) struct TensorJson<'a> {
    #[serde(borrow)]
    name: Cow<'a, str>,
    shape: List<u64, RANK_MAX>,
    #[serde(borrow)]
    datatype: Cow<'a, str>,
    #[serde(borrow)]
    parameters: Option<Parameters<'a>>,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
}

/// The parameter that says how many of the bytes behind the JSON are a tensor's.
const BINARY_DATA_SIZE: &str = "binary_data_size";

/// Reads all tensors of a request. Those whose data is binary share `behind`, the bytes
/// behind the JSON, in the order in which they are named.
///
/// # Errors
/// Too many, a name twice, bytes that are missing or left, or what is wrong with one of
/// the tensors, by name.
pub(crate) fn decode_all(
    inputs: &[TensorJson<'_>],
    mut behind: Bytes,
    memory: &mut ReadMemory<'_>,
) -> Result<Vec<NamedTensor>> {
    if inputs.is_empty() || inputs.len() > TENSORS_MAX {
        return Err(Error::new(Kind::BadShape, format!("a request has 1 to {TENSORS_MAX} inputs")));
    }
    let mut decoded: Vec<NamedTensor> = Vec::with_capacity(inputs.len());
    for input in inputs {
        check_parameters(input.parameters.as_ref())?;
        let name = &*input.name;
        if find(&decoded, name).is_some() {
            return Err(Error::new(Kind::BadRequest, format!("input '{name}' is given twice")));
        }
        let dtype = DType::from_name(&input.datatype)
            .ok_or_else(|| Error::new(Kind::BadDtype, format!("input '{name}' has an unknown datatype")))?;
        let tensor = match (input.data, binary_data_size(input)?) {
            (data, binary) if is_in_memory(input) => {
                from_memory(input, dtype, data.is_some(), binary.is_some(), memory)
            }
            (Some(data), None) => decode(dtype, &input.shape, data),
            (None, Some(size)) => binary(dtype, &input.shape, size, &mut behind),
            (Some(_), Some(_)) => Err(Error::new(
                Kind::BadRequest,
                "it must have only one of 'data' and the parameter 'binary_data_size'",
            )),
            (None, None) => Err(Error::new(Kind::BadJson, "bad JSON: missing field `data`")),
        };
        // What is wrong with shared memory names the tensor itself, or the region.
        let located = |error: Error| match is_in_memory(input) {
            true => error,
            false => Error::new(error.kind(), format!("input '{name}': {}", error.message())),
        };
        let tensor = tensor.map_err(located)?;
        decoded.push(NamedTensor { name: name.into(), tensor });
    }
    if !behind.is_empty() {
        let left = behind.len();
        return Err(Error::new(
            Kind::BadLength,
            format!("unexpected additional input data: {left} bytes belong to no input"),
        ));
    }
    Ok(decoded)
}

fn binary_data_size(input: &TensorJson<'_>) -> Result<Option<usize>> {
    let Some(size) = input.parameters.as_ref().and_then(|given| given.get(BINARY_DATA_SIZE)) else {
        return Ok(None);
    };
    size.get().parse().map(Some).map_err(|_| {
        let message = format!("input '{}': '{BINARY_DATA_SIZE}' must be a whole number of bytes", input.name);
        Error::new(Kind::BadRequest, message)
    })
}

/// A tensor of the next bytes behind the JSON: a slice of them, not a copy.
fn binary(dtype: DType, dims: &[u64], size: usize, behind: &mut Bytes) -> Result<Tensor> {
    let shape = shape(dims)?;
    if size > behind.len() {
        let missing = size - behind.len();
        return Err(Error::new(Kind::BadLength, format!("{missing} additional bytes are expected")));
    }
    Tensor::dense(dtype, shape, behind.split_to(size)).map_err(|error| to_error(&error))
}

fn shape(dims: &[u64]) -> Result<Shape> {
    let dims: Vec<usize> = dims
        .iter()
        .map(|dim| usize::try_from(*dim))
        .collect::<std::result::Result<_, _>>()
        .map_err(|_| Error::new(Kind::BadShape, "a dimension is too large"))?;
    Shape::new(&dims).map_err(|error| to_error(&error))
}

/// Reads a tensor's `data`: flat or nested arrays, row-major either way.
///
/// # Errors
/// A bad shape, elements that do not fit the datatype, or too few or many of them.
pub(crate) fn decode(dtype: DType, dims: &[u64], data: &RawValue) -> Result<Tensor> {
    let shape = shape(dims)?;
    let element_bytes = dtype.size().unwrap_or(size_of::<u32>());
    let bytes = shape.elements().saturating_mul(element_bytes);
    if bytes > TENSOR_BYTES_MAX {
        return Err(to_error(&TensorError::TooLarge { bytes, max: TENSOR_BYTES_MAX }));
    }
    let mut sink = Sink {
        dtype,
        out: Vec::with_capacity(
            shape.elements().min(bounded::elements_max(data.get().len())) * element_bytes,
        ),
        left: shape.elements(),
        fault: None,
    };
    let mut json = serde_json::Deserializer::from_str(data.get());
    if let Err(error) = (Elements { sink: &mut sink, nested: false }).deserialize(&mut json) {
        return Err(sink.fault.take().unwrap_or_else(|| Error::new(Kind::BadJson, error.to_string())));
    }
    if sink.left > 0 {
        return Err(Error::new(Kind::BadLength, format!("data has {} elements too few", sink.left)));
    }
    Tensor::dense(dtype, shape, sink.out.into()).map_err(|error| to_error(&error))
}

/// How an output's data comes.
#[derive(Debug, Clone, Copy)]
pub(crate) enum DataForm {
    /// In the JSON.
    Json,
    /// In binary behind it.
    Binary,
    /// It is in shared memory already.
    Memory,
}

/// Writes tensors as a V2 array. Of those that are binary, by their index, only the size is
/// written.
///
/// # Errors
/// [`Kind::Engine`] for what JSON cannot carry: a float that is not finite, a
/// string that is not UTF-8.
pub(crate) fn encode_all(
    tensors: &[NamedTensor],
    form: impl Fn(usize) -> DataForm,
    out: &mut Vec<u8>,
) -> Result<()> {
    let texts = tensors.iter().enumerate().filter(|(index, _)| matches!(form(*index), DataForm::Json));
    out.reserve(texts.map(|(_, named)| named.tensor.byte_len() * 3).sum());
    out.push(b'[');
    for (number, named) in tensors.iter().enumerate() {
        if number > 0 {
            out.push(b',');
        }
        out.extend_from_slice(b"{\"name\":");
        put(out, &*named.name);
        out.extend_from_slice(b",\"datatype\":");
        put(out, named.tensor.dtype().name());
        out.extend_from_slice(b",\"shape\":");
        out.extend_from_slice(named.tensor.shape().to_string().as_bytes());
        match form(number) {
            DataForm::Json => {}
            DataForm::Binary => {
                out.extend_from_slice(b",\"parameters\":{\"binary_data_size\":");
                put(out, &named.tensor.byte_len());
                out.extend_from_slice(b"}}");
                continue;
            }
            DataForm::Memory => {
                // Nothing but what it is, as Triton has it: its clients take parameters to mean
                // that the data is binary.
                out.push(b'}');
                continue;
            }
        }
        out.extend_from_slice(b",\"data\":[");
        encode(&named.tensor, out)
            .map_err(|what| Error::new(Kind::Engine, format!("output '{}' {what}", named.name)))?;
        out.extend_from_slice(b"]}");
    }
    out.push(b']');
    Ok(())
}

/// Writes a tensor as one value if it has one element, else as a flat array.
///
/// # Errors
/// As [`encode_all`].
pub(crate) fn encode_flat(named: &NamedTensor, out: &mut Vec<u8>) -> Result<()> {
    let is_one = named.tensor.shape().elements() == 1;
    if !is_one {
        out.push(b'[');
    }
    encode(&named.tensor, out)
        .map_err(|what| Error::new(Kind::Engine, format!("output '{}' {what}", named.name)))?;
    if !is_one {
        out.push(b']');
    }
    Ok(())
}

/// Writes the elements, flat.
fn encode(tensor: &Tensor, out: &mut Vec<u8>) -> std::result::Result<(), &'static str> {
    let data = tensor.bytes();
    let start = out.len();
    macro_rules! numbers {
        ($type:ty) => {
            for bytes in data.chunks_exact(size_of::<$type>()).filter_map(|bytes| bytes.try_into().ok()) {
                put(out, &<$type>::from_le_bytes(bytes));
                out.push(b',');
            }
        };
    }
    macro_rules! floats {
        ($type:ty, $wide:ty) => {
            for bytes in data.chunks_exact(size_of::<$type>()).filter_map(|bytes| bytes.try_into().ok()) {
                let value = <$wide>::from(<$type>::from_le_bytes(bytes));
                if !value.is_finite() {
                    return Err("is not finite, which JSON cannot carry");
                }
                put(out, &value);
                out.push(b',');
            }
        };
    }
    match tensor.dtype() {
        DType::Bool => {
            for byte in data.iter() {
                put(out, &(*byte != 0));
                out.push(b',');
            }
        }
        DType::U8 => numbers!(u8),
        DType::U16 => numbers!(u16),
        DType::U32 => numbers!(u32),
        DType::U64 => numbers!(u64),
        DType::I8 => numbers!(i8),
        DType::I16 => numbers!(i16),
        DType::I32 => numbers!(i32),
        DType::I64 => numbers!(i64),
        DType::F16 => floats!(f16, f32),
        DType::Bf16 => floats!(bf16, f32),
        DType::F32 => floats!(f32, f32),
        DType::F64 => floats!(f64, f64),
        DType::Bytes => {
            for text in tensor.strings().map_err(|_| "is not a list of strings")? {
                put(out, std::str::from_utf8(text).map_err(|_| "holds text that is not UTF-8")?);
                out.push(b',');
            }
        }
    }
    if out.len() > start {
        out.pop();
    }
    Ok(())
}

/// Writes one value as JSON. Writing to memory cannot fail.
pub(crate) fn put<T: serde::Serialize + ?Sized>(out: &mut Vec<u8>, value: &T) {
    let written = serde_json::to_writer(out, value);
    debug_assert!(written.is_ok(), "a number or string is always valid JSON");
}

#[cfg(test)]
mod tests;
