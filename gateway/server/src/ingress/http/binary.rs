//! Triton's binary tensor extension: how long the JSON is that stands before the tensors'
//! bytes, and requests that have no JSON at all.

use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderMap, HeaderName};
use sluice_tensor::{DType, Dim, NamedTensor, Shape, Tensor, TensorSpec};

use crate::catalog::Snapshot;
use crate::error::{Error, Kind, Result};
use crate::ingress::infer::{BODY_TENSOR, InferRequest};
use crate::ingress::parameters::Wishes;
use crate::ingress::served;
use crate::tensor_json::to_error;

/// The length of the JSON in a body that goes on with tensors; in both directions.
pub(super) const HEADER_LENGTH: HeaderName = HeaderName::from_static("inference-header-content-length");

/// How many bytes of the body are JSON, if the request says so. 0: none, the body is the
/// data of the only input.
///
/// # Errors
/// [`Kind::BadRequest`] for what is no number, or more than the body.
pub(super) fn header_length(headers: &HeaderMap, body_bytes: usize) -> Result<Option<usize>> {
    let mut given = headers.get_all(HEADER_LENGTH).iter();
    let Some(value) = given.next() else { return Ok(None) };
    if given.next().is_some() {
        return Err(Error::new(Kind::BadRequest, "inference-header-content-length is given twice"));
    }
    let text = value.to_str().unwrap_or("").trim();
    // A sign is no digit, whatever Rust's parser says.
    let digits = Some(text).filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
    match digits.and_then(|text| text.parse::<usize>().ok()) {
        Some(length) if length <= body_bytes => Ok(Some(length)),
        // Triton's words.
        _ => Err(Error::new(
            Kind::BadRequest,
            format!(
                "inference header size should be in range (0, {body_bytes}), got: {}",
                served::shown(text)
            ),
        )),
    }
}

/// A request that is nothing but the data of the only input: its shape follows from the
/// model's, with a batch of one, and at most one dimension that may vary.
///
/// # Errors
/// [`Kind::NotFound`], or [`Kind::BadRequest`] where the shape does not follow.
pub(super) fn raw_request(
    snapshot: &Snapshot,
    target: &str,
    version: Option<&str>,
    body: Bytes,
) -> Result<InferRequest> {
    served::check(snapshot, target, version)?;
    let input = match snapshot.asked(target, version) {
        // The plugin takes any body.
        None => bytes_of_one(BODY_TENSOR.into(), &[1], &body)?,
        Some(model) => {
            let [only] = model.signature().inputs.as_slice() else {
                let count = model.signature().inputs.len();
                return Err(Error::new(
                    Kind::BadRequest,
                    format!(
                        "Raw request must only have 1 input (found 1) to be deduced but got {count} inputs in \
                         '{target}' model configuration"
                    ),
                ));
            };
            raw_input(target, only, model.max_batch_size() > 0, body)?
        }
    };
    let inputs = vec![input];
    Ok(InferRequest { version: None, id: None, inputs, wishes: Wishes::default(), outputs: Vec::new() })
}

fn raw_input(target: &str, spec: &TensorSpec, is_batched: bool, body: Bytes) -> Result<NamedTensor> {
    let fault = |message: String| Error::new(Kind::BadRequest, message);
    let own = if is_batched { spec.dims.get(1..).unwrap_or_default() } else { &spec.dims };
    let mut dims: Vec<usize> = if is_batched { vec![1] } else { Vec::new() };
    if spec.dtype == DType::Bytes {
        if own.iter().any(|dim| dim.to_wire() != 1) || own.len() != 1 {
            return Err(fault(format!(
                "For BYTE datatype raw input '{}', the model must have input shape [1]",
                spec.name
            )));
        }
        dims.push(1);
        return bytes_of_one(spec.name.clone(), &dims, &body);
    }
    let variable = own.iter().filter(|dim| !matches!(dim, Dim::Fixed(_))).count();
    if variable > 1 {
        return Err(fault(format!(
            "The shape of the raw input '{}' can not be deduced because there are more than one variable-sized \
             dimension",
            spec.name
        )));
    }
    let fixed = |dim: &Dim| usize::try_from(dim.to_wire()).unwrap_or(1);
    let one = own.iter().map(fixed).fold(spec.dtype.size().unwrap_or(1), usize::saturating_mul);
    // What the dimension that varies must be.
    let rest = body.len().checked_div(one).unwrap_or(0);
    let expected = if variable == 1 { rest.saturating_mul(one) } else { one };
    if expected != body.len() {
        return Err(fault(format!(
            "input byte size mismatch for input '{}' for model '{target}'. Expected {expected}, got {}",
            spec.name,
            body.len()
        )));
    }
    dims.extend(own.iter().map(|dim| if matches!(dim, Dim::Fixed(_)) { fixed(dim) } else { rest }));
    let shape = Shape::new(&dims).map_err(|error| to_error(&error))?;
    let tensor = Tensor::dense(spec.dtype, shape, body).map_err(|error| to_error(&error))?;
    Ok(NamedTensor { name: spec.name.clone(), tensor })
}

/// A BYTES tensor of one element, which is the whole body.
fn bytes_of_one(name: std::sync::Arc<str>, dims: &[usize], body: &Bytes) -> Result<NamedTensor> {
    let length =
        u32::try_from(body.len()).map_err(|_| Error::new(Kind::TooLarge, "the body is too large"))?;
    let mut framed = BytesMut::with_capacity(size_of::<u32>() + body.len());
    framed.put_u32_le(length);
    framed.extend_from_slice(body);
    let shape = Shape::new(dims).map_err(|error| to_error(&error))?;
    let tensor = Tensor::dense(DType::Bytes, shape, framed.freeze()).map_err(|error| to_error(&error))?;
    Ok(NamedTensor { name, tensor })
}
