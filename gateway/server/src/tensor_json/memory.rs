//! Inputs whose data lie in shared memory.

use std::sync::Arc;

use bytes::Bytes;
use sluice_tensor::{DType, Tensor};

use super::{TensorJson, parameters, shape, to_error};
use crate::error::{Error, Kind, Result, shown};
use crate::pipeline::Parameter;
use crate::shared_memory;

/// Reads the data of an input that lies in shared memory, given its name, its parameters and, where
/// they are known, how many bytes it must have.
pub(crate) type ReadMemory<'a> =
    dyn FnMut(&str, &[(Arc<str>, Parameter)], Option<usize>) -> Result<Bytes> + 'a;

/// Whether an input says that its data lie there.
pub(super) fn is_in_memory(input: &TensorJson<'_>) -> bool {
    let given = input.parameters.as_ref();
    given.is_some_and(|given| shared_memory::PARAMETERS.iter().any(|name| given.contains_key(*name)))
}

/// A tensor that lies in shared memory: copied, and checked then.
pub(super) fn from_memory(
    input: &TensorJson<'_>,
    dtype: DType,
    has_data: bool,
    is_binary: bool,
    read: &mut ReadMemory<'_>,
) -> Result<Tensor> {
    if has_data || is_binary {
        // Triton's words.
        let data = if has_data { " 'data'" } else { "" };
        let binary = if is_binary { " 'binary_data_size'" } else { "" };
        let message = format!(
            "Input must set only one of the following fields: 'data', 'binary_data_size' in 'parameters', \
             'shared_memory_region' in 'parameters'. But set{data}{binary} 'shared_memory_region'"
        );
        return Err(Error::new(Kind::BadRequest, message));
    }
    let name = &*input.name;
    let located =
        |error: Error| Error::new(error.kind(), format!("input '{}': {}", shown(name), error.message()));
    let shape = shape(&input.shape).map_err(located)?;
    let want = shape.bytes(dtype).map_err(|error| located(to_error(&error)))?;
    let data = read(name, &parameters(input.parameters.clone())?, want)?;
    Tensor::dense(dtype, shape, data).map_err(|error| located(to_error(&error)))
}
