//! Between the contract's types and ours, with every check that the contract
//! leaves to the host.

use std::sync::Arc;

use bytes::Bytes;
use sluice_tensor::{DType, NamedTensor, Shape, SparseRows, Tensor, TensorError};

use crate::bindings::sluice::plugin::tensors::Dtype;
use crate::bindings::sluice::plugin::types;
use crate::error::{CallError, HostFault};
use crate::held;
use crate::state::State;
use crate::types::{
    Answer, FAILURE_MESSAGE_BYTES_MAX, Failure, HttpAnswer, Parameter, ParameterValue,
    RETRY_AFTER_SECONDS_MAX, Request, RouteCall,
};

/// Most tensors that a plugin may give at once. No model has as many inputs.
const TENSORS_MAX: usize = 256;

/// Most bytes of a tensor's name: room for the longest path that an exporter
/// writes for a node, little enough for a log line.
const TENSOR_NAME_BYTES_MAX: usize = 256;

/// Most bytes of an answer's content type.
const CONTENT_TYPE_BYTES_MAX: usize = 256;

/// What an entry of sparse rows takes: a column and a value.
const ENTRY_BYTES: usize = size_of::<u32>() + size_of::<f32>();

/// The status of an answer that says none.
pub(crate) const STATUS_OK: u16 = 200;

/// Why tensors that a guest gave were not taken.
pub(crate) enum SourceError {
    /// The guest's fault, in words for its author.
    Invalid(String),
    /// A handle that is none, or a limit: ends the call.
    Trap(wasmtime::Error),
}

impl From<TensorError> for SourceError {
    fn from(error: TensorError) -> Self {
        Self::Invalid(error.to_string())
    }
}

impl From<HostFault> for SourceError {
    fn from(fault: HostFault) -> Self {
        Self::Trap(fault.into())
    }
}

pub(crate) fn dtype_from_guest(dtype: Dtype) -> DType {
    match dtype {
        Dtype::Bool => DType::Bool,
        Dtype::Uint8 => DType::U8,
        Dtype::Uint16 => DType::U16,
        Dtype::Uint32 => DType::U32,
        Dtype::Uint64 => DType::U64,
        Dtype::Int8 => DType::I8,
        Dtype::Int16 => DType::I16,
        Dtype::Int32 => DType::I32,
        Dtype::Int64 => DType::I64,
        Dtype::Fp16 => DType::F16,
        Dtype::Bf16 => DType::Bf16,
        Dtype::Fp32 => DType::F32,
        Dtype::Fp64 => DType::F64,
        Dtype::Bytes => DType::Bytes,
    }
}

pub(crate) fn dtype_to_guest(dtype: DType) -> Dtype {
    match dtype {
        DType::Bool => Dtype::Bool,
        DType::U8 => Dtype::Uint8,
        DType::U16 => Dtype::Uint16,
        DType::U32 => Dtype::Uint32,
        DType::U64 => Dtype::Uint64,
        DType::I8 => Dtype::Int8,
        DType::I16 => Dtype::Int16,
        DType::I32 => Dtype::Int32,
        DType::I64 => Dtype::Int64,
        DType::F16 => Dtype::Fp16,
        DType::Bf16 => Dtype::Bf16,
        DType::F32 => Dtype::Fp32,
        DType::F64 => Dtype::Fp64,
        DType::Bytes => Dtype::Bytes,
    }
}

pub(crate) fn shape_from_guest(dims: &[u32]) -> Result<Shape, TensorError> {
    let mut wide = Vec::with_capacity(dims.len());
    for &dim in dims {
        wide.push(usize::try_from(dim).map_err(|_| TensorError::Overflow)?);
    }
    Shape::new(&wide)
}

/// The request as the guest sees it; tensors become handles.
pub(crate) fn request_to_guest(state: &mut State, request: Request) -> wasmtime::Result<types::Request> {
    Ok(match request {
        Request::Body(body) => {
            state.give(body.data.len())?;
            types::Request::Body(types::HttpBody {
                content_type: body.content_type,
                data: Vec::from(body.data),
            })
        }
        Request::Tensors(tensors) => types::Request::Tensors(tensors_to_guest(state, tensors)?),
    })
}

/// A parameter as the guest sees it.
pub(crate) fn parameter_to_guest(parameter: &Parameter) -> types::Parameter {
    let value = match &parameter.value {
        ParameterValue::Bool(value) => types::ParameterValue::Bool(*value),
        ParameterValue::Integer(number) => types::ParameterValue::Integer(*number),
        ParameterValue::Number(number) => types::ParameterValue::Number(*number),
        ParameterValue::Text(text) => types::ParameterValue::Text(text.clone()),
    };
    types::Parameter { name: parameter.name.clone(), value }
}

/// The call of an own route as the guest sees it.
pub(crate) fn route_to_guest(route: &RouteCall) -> types::Route {
    types::Route {
        method: route.method.clone(),
        path: route.path.clone(),
        query: route.query.clone(),
        path_parameters: route.path_parameters.clone(),
    }
}

/// Tensors as handles.
pub(crate) fn tensors_to_guest(
    state: &mut State,
    tensors: Vec<NamedTensor>,
) -> wasmtime::Result<Vec<types::NamedTensor>> {
    tensors
        .into_iter()
        .map(|named| {
            let tensor = state.push_tensor(named.tensor)?;
            Ok(types::NamedTensor { name: named.name.to_string(), tensor })
        })
        .collect()
}

/// Tensors that a guest gave. Handles are taken out of the table: they were
/// passed by ownership.
pub(crate) fn tensors_from_guest(
    state: &mut State,
    sources: Vec<types::NamedSource>,
) -> Result<Vec<NamedTensor>, SourceError> {
    if sources.len() > TENSORS_MAX {
        return Err(SourceError::Invalid(format!(
            "{} tensors, at most {TENSORS_MAX} are allowed",
            sources.len()
        )));
    }
    state.arrived();
    let mut tensors: Vec<NamedTensor> = Vec::with_capacity(sources.len());
    for source in sources {
        let name: Arc<str> = source.name.into();
        if name.is_empty() || name.len() > TENSOR_NAME_BYTES_MAX || name.chars().any(char::is_control) {
            return Err(SourceError::Invalid(
                "a tensor's name is empty, too long or not printable".to_owned(),
            ));
        }
        if sluice_tensor::find(&tensors, &name).is_some() {
            return Err(SourceError::Invalid(format!("tensor {name} is given twice")));
        }
        let tensor = tensor_from_guest(state, source.source)?;
        tensors.push(NamedTensor { name, tensor });
    }
    Ok(tensors)
}

fn tensor_from_guest(state: &mut State, source: types::TensorSource) -> Result<Tensor, SourceError> {
    match source {
        types::TensorSource::Value(value) => {
            let shape = shape_from_guest(&value.shape)?;
            let data = held::take_over(state.limiter.host(), value.data)?;
            Ok(Tensor::dense(dtype_from_guest(value.dtype), shape, data)?)
        }
        types::TensorSource::Sparse(rows) => {
            let columns = usize::try_from(rows.columns).map_err(|_| TensorError::Overflow)?;
            let words = [rows.shared_columns.len(), rows.own_columns.len(), rows.row_offsets.len()];
            let entries = words.into_iter().fold(0, usize::saturating_add);
            let charge = held::hold_large(state.limiter.host(), entries.saturating_mul(ENTRY_BYTES))?;
            let tensor = Tensor::sparse(SparseRows::new(
                columns,
                (rows.shared_columns, rows.shared_values),
                rows.row_offsets,
                (rows.own_columns, rows.own_values),
            )?)?;
            Ok(match charge {
                Some(charge) => tensor.kept_with(charge),
                None => tensor,
            })
        }
        types::TensorSource::Handle(handle) => {
            state.table.delete(handle).map_err(|error| SourceError::Trap(error.into()))
        }
    }
}

/// Whether a content type can be a header; if not, why.
pub(crate) fn check_content_type(value: &str) -> Result<(), String> {
    let printable = value.bytes().all(|byte| (b' '..=b'~').contains(&byte));
    if value.is_empty() || value.len() > CONTENT_TYPE_BYTES_MAX || !printable {
        return Err("content type is empty, too long or not printable".to_owned());
    }
    Ok(())
}

/// The answer that a hook returned whole, checked.
pub(crate) fn answer_from_guest(state: &mut State, answer: types::Answer) -> Result<Answer, CallError> {
    let nothing = || CallError::Output("says that its answer was sent, and is no handler".to_owned());
    last_from_guest(state, answer)?.ok_or_else(nothing)
}

/// What `handle` returned, checked: the whole answer, or the last of its parts; `None`
/// if it has sent all of them.
pub(crate) fn last_from_guest(state: &mut State, answer: types::Answer) -> Result<Option<Answer>, CallError> {
    match answer {
        types::Answer::Body(body) => {
            if !(200..=299).contains(&body.status) {
                return Err(CallError::Output(format!("answer has status {}", body.status)));
            }
            check_content_type(&body.content_type).map_err(CallError::Output)?;
            Ok(Some(Answer::Body(HttpAnswer {
                status: body.status,
                content_type: body.content_type,
                data: carried(state, body.data)?,
            })))
        }
        types::Answer::Tensors(sources) => Ok(Some(Answer::Tensors(results_from_guest(state, sources)?))),
        types::Answer::Sent => Ok(None),
    }
}

/// Tensors that a hook returned.
pub(crate) fn results_from_guest(
    state: &mut State,
    sources: Vec<types::NamedSource>,
) -> Result<Vec<NamedTensor>, CallError> {
    tensors_from_guest(state, sources).map_err(|error| match error {
        SourceError::Invalid(message) => CallError::Output(message),
        SourceError::Trap(error) => match error.downcast_ref::<HostFault>() {
            Some(HostFault::Memory) => CallError::Memory,
            _ => CallError::Output(error.to_string()),
        },
    })
}

/// Bytes that a hook returned, the plugin's until nobody uses them any more.
pub(crate) fn carried(state: &State, data: Vec<u8>) -> Result<Bytes, CallError> {
    held::take_over(state.limiter.host(), data).map_err(|_| CallError::Memory)
}

/// A refusal that a hook returned, or that it is not one.
pub(crate) fn failure_from_guest(failure: types::Failure) -> CallError {
    if !(400..=599).contains(&failure.status) {
        return CallError::Output(format!("failure has status {}", failure.status));
    }
    let mut message = failure.message;
    let cut = message.floor_char_boundary(FAILURE_MESSAGE_BYTES_MAX);
    message.truncate(cut);
    let may_retry = matches!(failure.status, 429 | 503);
    let retry_after_seconds =
        failure.retry_after.filter(|_| may_retry).map(|seconds| seconds.min(RETRY_AFTER_SECONDS_MAX));
    CallError::Failure(Failure { status: failure.status, message, retry_after_seconds })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_dtype_survives_the_way_to_the_guest_and_back() {
        for dtype in DType::all() {
            assert_eq!(dtype_from_guest(dtype_to_guest(dtype)), dtype);
        }
    }

    #[test]
    fn a_long_failure_message_is_cut_at_a_character() {
        let failure = types::Failure { status: 422, message: "é".repeat(600) + "x", retry_after: None };
        let CallError::Failure(failure) = failure_from_guest(failure) else { panic!("a failure") };
        assert_eq!(failure.message, "é".repeat(512));
        let message = "x".to_owned() + &"é".repeat(600);
        let odd = types::Failure { status: 422, message, retry_after: None };
        let CallError::Failure(odd) = failure_from_guest(odd) else { panic!("a failure") };
        assert_eq!(odd.message.len(), 1023);
    }

    #[test]
    fn a_failure_must_have_a_failure_status() {
        for status in [0, 200, 399, 600, u16::MAX] {
            let failure = types::Failure { status, message: String::new(), retry_after: None };
            assert!(matches!(failure_from_guest(failure), CallError::Output(_)), "{status}");
        }
    }

    #[test]
    fn only_what_may_be_tried_again_says_when_and_no_later_than_in_an_hour() {
        for (status, asked, said) in
            [(429, 7, Some(7)), (503, u32::MAX, Some(3600)), (422, 7, None), (500, 7, None)]
        {
            let failure = types::Failure { status, message: String::new(), retry_after: Some(asked) };
            let CallError::Failure(failure) = failure_from_guest(failure) else { panic!("a failure") };
            assert_eq!(failure.retry_after_seconds, said, "{status}");
        }
    }
}
