//! Tensors as the C API has them: inputs over the staging buffers, outputs that
//! keep their memory.

use std::ffi::{c_char, c_void};
use std::marker::PhantomData;
use std::ptr::{self, NonNull};
use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use ort::AsPointer;
use ort::memory::{Allocator, MemoryInfo};
use ort::sys::{ONNXTensorElementDataType as Element, OrtStatusPtr, OrtValue};
use sluice_tensor::{DType, Shape};

use super::session::SharedSession;
use crate::EngineError;
use crate::scatter::RawOutput;
use crate::staging::StagedInput;

pub(super) fn check(status: OrtStatusPtr) -> ort::Result<()> {
    // SAFETY: every caller passes the status that a C API call just returned, once.
    unsafe { ort::Error::result_from_status(status) }
}

fn failed(error: &ort::Error) -> EngineError {
    EngineError::Run(error.message().to_owned())
}

/// The C API's number for an element type.
fn element(dtype: DType) -> Element {
    match dtype {
        DType::Bool => Element::ONNX_TENSOR_ELEMENT_DATA_TYPE_BOOL,
        DType::U8 => Element::ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8,
        DType::U16 => Element::ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT16,
        DType::U32 => Element::ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT32,
        DType::U64 => Element::ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT64,
        DType::I8 => Element::ONNX_TENSOR_ELEMENT_DATA_TYPE_INT8,
        DType::I16 => Element::ONNX_TENSOR_ELEMENT_DATA_TYPE_INT16,
        DType::I32 => Element::ONNX_TENSOR_ELEMENT_DATA_TYPE_INT32,
        DType::I64 => Element::ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64,
        DType::F16 => Element::ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT16,
        DType::Bf16 => Element::ONNX_TENSOR_ELEMENT_DATA_TYPE_BFLOAT16,
        DType::F32 => Element::ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT,
        DType::F64 => Element::ONNX_TENSOR_ELEMENT_DATA_TYPE_DOUBLE,
        DType::Bytes => Element::ONNX_TENSOR_ELEMENT_DATA_TYPE_STRING,
    }
}

/// An owned `OrtValue`.
pub(super) struct Value {
    raw: NonNull<OrtValue>,
}

// SAFETY: a value has no thread affinity, and `&Value` gives only reads of it.
unsafe impl Send for Value {}
// SAFETY: as above.
unsafe impl Sync for Value {}

impl Drop for Value {
    fn drop(&mut self) {
        // SAFETY: the value is owned and released once.
        unsafe { (ort::api().ReleaseValue)(self.raw.as_ptr()) }
    }
}

impl Value {
    /// Takes over a value that the C API made; `None` if it made none.
    pub(super) fn from_raw(raw: *mut OrtValue) -> Option<Self> {
        NonNull::new(raw).map(|raw| Self { raw })
    }

    pub(super) fn as_ptr(&self) -> *const OrtValue {
        self.raw.as_ptr()
    }
}

/// A tensor over an instance's staging buffer, which it borrows.
pub(super) struct InputValue<'a> {
    value: Value,
    staged: PhantomData<&'a mut [u8]>,
}

impl<'a> InputValue<'a> {
    pub(super) fn new(
        dtype: DType,
        staged: &'a mut StagedInput,
        memory: &MemoryInfo<'_>,
    ) -> Result<Self, EngineError> {
        let dims: Vec<i64> = staged
            .dims()
            .iter()
            .map(|dim| i64::try_from(*dim))
            .collect::<Result<_, _>>()
            .map_err(|_| EngineError::Input("a dimension is too large".to_owned()))?;
        let value = if dtype == DType::Bytes {
            strings(&dims, staged)?
        } else {
            let mut raw = ptr::null_mut();
            let bytes = staged.bytes_mut();
            // SAFETY: the buffer is aligned for every element type, its length was checked
            // against the dimensions by the gather, and the borrow `'a` keeps it in place
            // for as long as the value lives.
            let status = unsafe {
                (ort::api().CreateTensorWithDataAsOrtValue)(
                    memory.ptr(),
                    bytes.as_mut_ptr().cast::<c_void>(),
                    bytes.len(),
                    dims.as_ptr(),
                    dims.len(),
                    element(dtype),
                    &raw mut raw,
                )
            };
            check(status).map_err(|error| failed(&error))?;
            Value::from_raw(raw).ok_or_else(|| EngineError::Run("no input value was made".to_owned()))?
        };
        Ok(Self { value, staged: PhantomData })
    }

    pub(super) fn as_ptr(&self) -> *const OrtValue {
        self.value.as_ptr()
    }
}

/// A string tensor, whose elements the library owns: each is copied once.
fn strings(dims: &[i64], staged: &StagedInput) -> Result<Value, EngineError> {
    let allocator = Allocator::default();
    let mut raw = ptr::null_mut();
    // SAFETY: the dimensions outlive the call, and the default allocator is static.
    let status = unsafe {
        (ort::api().CreateTensorAsOrtValue)(
            allocator.ptr().cast_mut(),
            dims.as_ptr(),
            dims.len(),
            element(DType::Bytes),
            &raw mut raw,
        )
    };
    check(status).map_err(|error| failed(&error))?;
    let value = Value::from_raw(raw).ok_or_else(|| EngineError::Run("no input value was made".to_owned()))?;
    let mut rest = staged.bytes();
    for index in 0..staged.elements() {
        let text = split_string(&mut rest)
            .ok_or_else(|| EngineError::Input("a BYTES element reaches past the end".to_owned()))?;
        let mut buffer: *mut c_char = ptr::null_mut();
        // SAFETY: `index` is below the element count that the tensor was made with.
        let status = unsafe {
            (ort::api().GetResizedStringTensorElementBuffer)(
                value.as_ptr().cast_mut(),
                index,
                text.len(),
                &raw mut buffer,
            )
        };
        check(status).map_err(|error| failed(&error))?;
        // SAFETY: the buffer was just made `text.len()` bytes long and is not shared.
        unsafe { ptr::copy_nonoverlapping(text.as_ptr(), buffer.cast::<u8>(), text.len()) };
    }
    Ok(value)
}

fn split_string<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (prefix, behind) = rest.split_first_chunk::<4>()?;
    let (text, behind) = behind.split_at_checked(usize::try_from(u32::from_le_bytes(*prefix)).ok()?)?;
    *rest = behind;
    Some(text)
}

/// An output's memory, kept for as long as anybody reads it.
struct OutputMemory {
    start: *const u8,
    len: usize,
    _value: Value,
    // The memory belongs to the session's arena.
    _session: Arc<SharedSession>,
}

// SAFETY: the memory is owned through the value and is only read from now on.
unsafe impl Send for OutputMemory {}

impl AsRef<[u8]> for OutputMemory {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: `start` and `len` are the value's data, which lives as long as `self`
        // and which nobody writes once the run is over.
        unsafe { std::slice::from_raw_parts(self.start, self.len) }
    }
}

/// Takes an output over. `is_staging` says whether memory is the instance's own,
/// which a model that hands an input through gives back: that alone is copied.
pub(super) fn output(
    dtype: DType,
    value: Value,
    session: &Arc<SharedSession>,
    is_staging: impl Fn(*const u8) -> bool,
) -> Result<RawOutput, EngineError> {
    let shape = shape_of(dtype, &value)?;
    let Some(len) = shape.bytes(dtype).map_err(|error| EngineError::Run(error.to_string()))? else {
        return Ok(RawOutput { shape, data: framed(&value, shape.elements())? });
    };
    if len == 0 {
        return Ok(RawOutput { shape, data: Bytes::new() });
    }
    let mut start: *mut c_void = ptr::null_mut();
    // SAFETY: the value is a tensor on the CPU, as its shape was just read.
    let status = unsafe { (ort::api().GetTensorMutableData)(value.as_ptr().cast_mut(), &raw mut start) };
    check(status).map_err(|error| failed(&error))?;
    let start = start.cast::<u8>().cast_const();
    if start.is_null() {
        return Err(EngineError::Run("an output has no memory".to_owned()));
    }
    let memory = OutputMemory { start, len, _value: value, _session: Arc::clone(session) };
    let data =
        if is_staging(start) { Bytes::copy_from_slice(memory.as_ref()) } else { Bytes::from_owner(memory) };
    Ok(RawOutput { shape, data })
}

fn shape_of(dtype: DType, value: &Value) -> Result<Shape, EngineError> {
    let mut got = Element::ONNX_TENSOR_ELEMENT_DATA_TYPE_UNDEFINED;
    let (mut dims, mut rank) = (ptr::null(), 0);
    // SAFETY: the value is alive, and the places written to are ours.
    let status = unsafe {
        (ort::api().GetTensorElementTypeAndShapeDataReference)(
            value.as_ptr(),
            &raw mut got,
            &raw mut dims,
            &raw mut rank,
        )
    };
    check(status).map_err(|error| failed(&error))?;
    if got != element(dtype) {
        return Err(EngineError::Run(format!("an output is not {dtype}, as the model says")));
    }
    let dims: &[i64] = if rank == 0 || dims.is_null() {
        &[]
    } else {
        // SAFETY: the library gave `rank` dimensions inside of the value, which lives on.
        unsafe { std::slice::from_raw_parts(dims, rank) }
    };
    let dims: Result<Vec<usize>, _> = dims.iter().map(|dim| usize::try_from(*dim)).collect();
    let dims = dims.map_err(|_| EngineError::Run("an output has a negative dimension".to_owned()))?;
    Shape::new(&dims).map_err(|error| EngineError::Run(error.to_string()))
}

/// A string output's elements, each behind its length.
fn framed(value: &Value, elements: usize) -> Result<Bytes, EngineError> {
    let mut total = 0;
    // SAFETY: the value is a string tensor, and the place written to is ours.
    let status = unsafe { (ort::api().GetStringTensorDataLength)(value.as_ptr(), &raw mut total) };
    check(status).map_err(|error| failed(&error))?;
    let mut text = vec![0u8; total];
    let mut starts = vec![0usize; elements];
    // SAFETY: both buffers have the lengths that are passed with them.
    let status = unsafe {
        (ort::api().GetStringTensorContent)(
            value.as_ptr(),
            text.as_mut_ptr().cast::<c_void>(),
            text.len(),
            starts.as_mut_ptr(),
            starts.len(),
        )
    };
    check(status).map_err(|error| failed(&error))?;
    let mut out = BytesMut::with_capacity(total + 4 * elements);
    for (index, start) in starts.iter().enumerate() {
        let end = starts.get(index + 1).copied().unwrap_or(total);
        let element = text.get(*start..end);
        let element = element.ok_or_else(|| EngineError::Run("a string output is malformed".to_owned()))?;
        let length = u32::try_from(element.len());
        out.put_u32_le(length.map_err(|_| EngineError::Run("a string output is too long".to_owned()))?);
        out.put_slice(element);
    }
    Ok(out.freeze())
}
