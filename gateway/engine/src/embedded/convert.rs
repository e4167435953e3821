//! Between the file's data types and the few that rten has.

use bytes::Bytes;
use rten::{Value, ValueOrView, ValueView};
use rten_tensor::{AsView as _, Layout as _};
use sluice_tensor::{DType, Shape, TensorSpec};

use crate::EngineError;
use crate::scatter::RawOutput;
use crate::staging::StagedInput;

/// How a data type travels in rten.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Carrier {
    /// As it is.
    Native,
    /// As i32, each value converted and checked.
    Int32,
}

/// How `spec` travels.
///
/// # Errors
/// [`EngineError::Unsupported`]: rten would compute in another precision, or cannot.
pub(super) fn carrier(spec: &TensorSpec) -> Result<Carrier, EngineError> {
    match spec.dtype {
        DType::F32 | DType::I32 | DType::I8 | DType::U8 => Ok(Carrier::Native),
        DType::Bool | DType::I16 | DType::U16 | DType::U32 | DType::I64 | DType::U64 => Ok(Carrier::Int32),
        DType::F16 | DType::Bf16 | DType::F64 | DType::Bytes => Err(EngineError::Unsupported(format!(
            "'{}' has datatype {}, which the embedded engine does not compute in; use onnxruntime",
            spec.name, spec.dtype
        ))),
    }
}

/// Converts a staged input's values where rten has them as i32. `magnitude_max` is
/// the most that the model's arithmetic leaves room for.
///
/// # Errors
/// [`EngineError::Input`]: a value does not fit.
pub(super) fn widen(
    spec: &TensorSpec,
    staged: &StagedInput,
    magnitude_max: u64,
    out: &mut Vec<i32>,
) -> Result<(), EngineError> {
    out.clear();
    let unfit = |value: String| {
        EngineError::Input(format!(
            "'{}' holds {value}; the embedded engine computes in 32 bits and takes at most {magnitude_max} here",
            spec.name
        ))
    };
    let magnitude_max = i32::try_from(magnitude_max).unwrap_or(i32::MAX);
    let fits = |value: &i32| value.unsigned_abs() <= magnitude_max.unsigned_abs();
    macro_rules! convert {
        ($type:ty) => {
            for value in staged.elements_of::<$type>() {
                let narrow = i32::try_from(*value).ok().filter(fits);
                out.push(narrow.ok_or_else(|| unfit(value.to_string()))?);
            }
        };
    }
    match spec.dtype {
        DType::Bool => out.extend(staged.elements_of::<u8>().iter().map(|value| i32::from(*value != 0))),
        DType::I16 => convert!(i16),
        DType::U16 => convert!(u16),
        DType::U32 => convert!(u32),
        DType::I64 => convert!(i64),
        DType::U64 => convert!(u64),
        other => return Err(EngineError::Unsupported(format!("{other} is not carried as i32"))),
    }
    Ok(())
}

/// An input for rten, over the staging buffer or the widened values.
pub(super) fn view<'a>(
    spec: &TensorSpec,
    staged: &'a StagedInput,
    widened: &'a [i32],
) -> Result<ValueOrView<'a>, EngineError> {
    let dims = staged.dims();
    let fault = |error: &dyn std::fmt::Display| EngineError::Input(format!("'{}': {error}", spec.name));
    let view = match spec.dtype {
        DType::F32 => ValueView::from_shape(dims, staged.elements_of::<f32>()).map_err(|e| fault(&e))?,
        DType::I32 => ValueView::from_shape(dims, staged.elements_of::<i32>()).map_err(|e| fault(&e))?,
        DType::I8 => ValueView::from_shape(dims, staged.elements_of::<i8>()).map_err(|e| fault(&e))?,
        DType::U8 => ValueView::from_shape(dims, staged.elements_of::<u8>()).map_err(|e| fault(&e))?,
        _ => ValueView::from_shape(dims, widened).map_err(|e| fault(&e))?,
    };
    Ok(view.into())
}

/// Elements whose memory can be handed on as bytes.
struct Elements<T>(Vec<T>);

impl AsRef<[u8]> for Elements<f32> {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: floats are initialised plain bytes; the length is theirs.
        unsafe { std::slice::from_raw_parts(self.0.as_ptr().cast(), size_of_val(self.0.as_slice())) }
    }
}

impl AsRef<[u8]> for Elements<i32> {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: as for floats.
        unsafe { std::slice::from_raw_parts(self.0.as_ptr().cast(), size_of_val(self.0.as_slice())) }
    }
}

/// An output in the file's data type.
///
/// # Errors
/// [`EngineError::Run`]: rten gave another type than the file says, or a value that
/// the file's type cannot hold.
pub(super) fn output(spec: &TensorSpec, value: Value) -> Result<RawOutput, EngineError> {
    let fault = |reason: String| EngineError::Run(format!("output '{}' {reason}", spec.name));
    let dims = |dims: &[usize]| Shape::new(dims).map_err(|error| fault(error.to_string()));
    let (shape, data) = match (value, spec.dtype) {
        (Value::FloatTensor(tensor), DType::F32) => {
            (dims(tensor.shape())?, Bytes::from_owner(Elements(tensor.into_data())))
        }
        (Value::Int32Tensor(tensor), DType::I32) => {
            (dims(tensor.shape())?, Bytes::from_owner(Elements(tensor.into_data())))
        }
        (Value::UInt8Tensor(tensor), DType::U8) => (dims(tensor.shape())?, Bytes::from(tensor.into_data())),
        (Value::Int8Tensor(tensor), DType::I8) => {
            let bytes: Vec<u8> = tensor.to_vec().into_iter().map(i8::cast_unsigned).collect();
            (dims(tensor.shape())?, Bytes::from(bytes))
        }
        (Value::Int32Tensor(tensor), dtype) => {
            let data =
                narrow(dtype, &tensor.to_vec()).ok_or_else(|| fault(format!("does not fit {dtype}")))?;
            (dims(tensor.shape())?, data)
        }
        (other, dtype) => return Err(fault(format!("is {}, not {dtype}", other.dtype()))),
    };
    Ok(RawOutput { shape, data })
}

fn narrow(dtype: DType, values: &[i32]) -> Option<Bytes> {
    fn each<T: TryFrom<i32>, const N: usize>(values: &[i32], bytes: fn(T) -> [u8; N]) -> Option<Bytes> {
        let mut out = Vec::with_capacity(values.len() * N);
        for value in values {
            out.extend_from_slice(&bytes(T::try_from(*value).ok()?));
        }
        Some(out.into())
    }
    match dtype {
        DType::Bool => Some(values.iter().map(|value| u8::from(*value != 0)).collect::<Vec<_>>().into()),
        DType::I16 => each(values, i16::to_le_bytes),
        DType::U16 => each(values, u16::to_le_bytes),
        DType::U32 => each(values, u32::to_le_bytes),
        DType::I64 => each(values, i64::to_le_bytes),
        DType::U64 => each(values, u64::to_le_bytes),
        _ => None,
    }
}
