//! Tensors in JSON as KServe V2 has them, both ways. Data goes straight between the
//! text and the packed bytes; nothing is built in between.

mod bounded;
mod memory;
pub(crate) mod nested;
pub(crate) mod nested_write;
mod parameters;

use std::borrow::Cow;
use std::fmt;

use bytes::Bytes;
use half::{bf16, f16};
use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, SeqAccess, Visitor};
use serde_json::value::RawValue;
use sluice_tensor::{DType, NamedTensor, RANK_MAX, Shape, TENSOR_BYTES_MAX, Tensor, TensorError, find};

use crate::error::{Error, Kind, Result};

pub(crate) use bounded::{Keyed, List, decoded_bytes_max, text_bytes};
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

/// Packs elements, each checked against the datatype.
struct Sink {
    dtype: DType,
    out: Vec<u8>,
    /// Elements that are still to come.
    left: usize,
    /// Why it stopped.
    fault: Option<Error>,
}

impl Sink {
    fn fail<E: serde::de::Error>(&mut self, kind: Kind, what: String) -> E {
        let text = E::custom(&what);
        self.fault = Some(Error::new(kind, what));
        text
    }

    fn take_one<E: serde::de::Error>(&mut self) -> std::result::Result<(), E> {
        match self.left.checked_sub(1) {
            Some(left) => {
                self.left = left;
                Ok(())
            }
            None => Err(self.fail(Kind::BadLength, "data has more elements than the shape".to_owned())),
        }
    }

    fn integer<E: serde::de::Error>(&mut self, value: i128) -> std::result::Result<(), E> {
        self.take_one()?;
        macro_rules! pack {
            ($type:ty) => {
                <$type>::try_from(value).ok().map(|value| self.out.extend_from_slice(&value.to_le_bytes()))
            };
        }
        #[expect(clippy::cast_precision_loss, reason = "a float input rounds to the nearest")]
        let float = value as f64;
        let packed = match self.dtype {
            DType::U8 => pack!(u8),
            DType::U16 => pack!(u16),
            DType::U32 => pack!(u32),
            DType::U64 => pack!(u64),
            DType::I8 => pack!(i8),
            DType::I16 => pack!(i16),
            DType::I32 => pack!(i32),
            DType::I64 => pack!(i64),
            DType::Bool => u8::try_from(value).ok().filter(|bit| *bit <= 1).map(|bit| self.out.push(bit)),
            DType::F16 | DType::Bf16 | DType::F32 | DType::F64 => self.float_bytes(float),
            DType::Bytes => None,
        };
        packed.ok_or_else(|| self.misfit(&value))
    }

    fn float<E: serde::de::Error>(&mut self, value: f64) -> std::result::Result<(), E> {
        self.take_one()?;
        self.float_bytes(value).ok_or_else(|| self.misfit(&value))
    }

    /// Packs a float; `None` for a datatype that is not one, and on overflow.
    fn float_bytes(&mut self, value: f64) -> Option<()> {
        #[expect(clippy::cast_possible_truncation, reason = "rounding is meant; overflow is checked below")]
        let single = value as f32;
        match self.dtype {
            DType::F64 => self.out.extend_from_slice(&value.to_le_bytes()),
            DType::F32 if single.is_finite() => self.out.extend_from_slice(&single.to_le_bytes()),
            DType::F16 => {
                let half = f16::from_f64(value);
                half.is_finite().then(|| self.out.extend_from_slice(&half.to_le_bytes()))?;
            }
            DType::Bf16 => {
                let half = bf16::from_f64(value);
                half.is_finite().then(|| self.out.extend_from_slice(&half.to_le_bytes()))?;
            }
            _ => return None,
        }
        Some(())
    }

    fn text<E: serde::de::Error>(&mut self, value: &[u8]) -> std::result::Result<(), E> {
        self.take_one()?;
        if self.dtype != DType::Bytes {
            return Err(self.misfit(&"a string"));
        }
        if self.out.len() + value.len() > TENSOR_BYTES_MAX {
            return Err(self.fail(Kind::TooLarge, format!("tensor is larger than {TENSOR_BYTES_MAX} bytes")));
        }
        let Ok(length) = u32::try_from(value.len()) else { return Err(self.misfit(&"a string")) };
        self.out.extend_from_slice(&length.to_le_bytes());
        self.out.extend_from_slice(value);
        Ok(())
    }

    fn misfit<E: serde::de::Error>(&mut self, value: &dyn fmt::Display) -> E {
        let dtype = self.dtype;
        self.fail(Kind::BadDtype, format!("{value} is not a {dtype}"))
    }
}

/// One element, or an array of them.
struct Elements<'s> {
    sink: &'s mut Sink,
    /// Whether this is inside of the outermost array.
    nested: bool,
}

impl<'de> DeserializeSeed<'de> for Elements<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> std::result::Result<(), D::Error> {
        json.deserialize_any(self)
    }
}

impl Elements<'_> {
    fn element(&mut self) -> Option<&mut Sink> {
        self.nested.then_some(&mut *self.sink)
    }
}

/// The message for data that is not an array at all.
const NOT_AN_ARRAY: &str = "data must be an array";

impl<'de> Visitor<'de> for Elements<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of tensor elements")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut array: A) -> std::result::Result<(), A::Error> {
        while array.next_element_seed(Elements { sink: self.sink, nested: true })?.is_some() {}
        Ok(())
    }

    fn visit_bool<E: serde::de::Error>(mut self, value: bool) -> std::result::Result<(), E> {
        let sink = self.element().ok_or_else(|| E::custom(NOT_AN_ARRAY))?;
        if sink.dtype != DType::Bool {
            return Err(sink.misfit(&value));
        }
        sink.integer(i128::from(value))
    }

    fn visit_u64<E: serde::de::Error>(mut self, value: u64) -> std::result::Result<(), E> {
        self.element().ok_or_else(|| E::custom(NOT_AN_ARRAY))?.integer(i128::from(value))
    }

    fn visit_i64<E: serde::de::Error>(mut self, value: i64) -> std::result::Result<(), E> {
        self.element().ok_or_else(|| E::custom(NOT_AN_ARRAY))?.integer(i128::from(value))
    }

    fn visit_f64<E: serde::de::Error>(mut self, value: f64) -> std::result::Result<(), E> {
        self.element().ok_or_else(|| E::custom(NOT_AN_ARRAY))?.float(value)
    }

    fn visit_str<E: serde::de::Error>(mut self, value: &str) -> std::result::Result<(), E> {
        self.element().ok_or_else(|| E::custom(NOT_AN_ARRAY))?.text(value.as_bytes())
    }
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
