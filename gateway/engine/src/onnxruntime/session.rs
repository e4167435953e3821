//! One session for all instances of a model, and the run.

use std::ffi::{CString, c_char};
use std::ptr;
use std::sync::Arc;

use ort::AsPointer;
use ort::memory::{AllocationDevice, AllocatorType, MemoryInfo, MemoryType};
use ort::session::{RunOptions, Session};
use ort::sys::OrtValue;

use super::value::{InputValue, Value, check};
use crate::EngineError;

/// A session that several threads run at once, on one copy of the weights.
///
/// `ort` has `run` take `&mut self`, for the sake of execution providers that are
/// not thread-safe. Only the CPU's is used here, for which the C API promises that
/// `Run` may be called from several threads: hence the raw call below.
pub(super) struct SharedSession {
    session: Session,
    pub(super) memory: MemoryInfo<'static>,
    // The pointers below point into these.
    _names: Vec<CString>,
    input_names: Vec<*const c_char>,
    output_names: Vec<*const c_char>,
}

// SAFETY: `Session` and `MemoryInfo` are both; the name pointers point to heap
// memory that `_names` owns and nothing changes.
unsafe impl Send for SharedSession {}
// SAFETY: as above.
unsafe impl Sync for SharedSession {}

impl SharedSession {
    pub(super) fn new(
        session: Session,
        input_names: Vec<CString>,
        output_names: Vec<CString>,
    ) -> Result<Arc<Self>, EngineError> {
        let memory = MemoryInfo::new(AllocationDevice::CPU, 0, AllocatorType::Device, MemoryType::Default)
            .map_err(|error| EngineError::Run(error.message().to_owned()))?;
        let pointers = |names: &[CString]| names.iter().map(|name| name.as_ptr()).collect();
        let (inputs, outputs) = (pointers(&input_names), pointers(&output_names));
        let names = input_names.into_iter().chain(output_names).collect();
        Ok(Arc::new(Self { session, memory, _names: names, input_names: inputs, output_names: outputs }))
    }

    /// Runs once. The inputs are those of the model, in order; so are the outputs.
    pub(super) fn run(&self, inputs: &[InputValue<'_>], options: &RunOptions) -> ort::Result<Vec<Value>> {
        debug_assert_eq!(inputs.len(), self.input_names.len());
        let inputs: Vec<*const OrtValue> = inputs.iter().map(InputValue::as_ptr).collect();
        let mut outputs: Vec<*mut OrtValue> = vec![ptr::null_mut(); self.output_names.len()];
        // SAFETY: the session is alive and `Run` is thread-safe on the CPU (see above);
        // names and values are as many as the lengths say and outlive the call; null
        // outputs ask the library to make them.
        let status = unsafe {
            (ort::api().Run)(
                self.session.ptr().cast_mut(),
                options.ptr(),
                self.input_names.as_ptr(),
                inputs.as_ptr(),
                inputs.len(),
                self.output_names.as_ptr(),
                outputs.len(),
                outputs.as_mut_ptr(),
            )
        };
        // Before the status is looked at, so that none is lost.
        let outputs: Vec<Option<Value>> = outputs.into_iter().map(Value::from_raw).collect();
        check(status)?;
        outputs.into_iter().collect::<Option<_>>().ok_or_else(|| ort::Error::new("an output is missing"))
    }
}
