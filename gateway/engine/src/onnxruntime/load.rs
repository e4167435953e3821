//! From a model file to a session and its signature.

use std::ffi::CString;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use ort::environment::Environment;
use ort::logging::LogLevel;
use ort::session::Session;
use ort::session::builder::GraphOptimizationLevel;
use ort::value::{Outlet, TensorElementType, ValueType};
use sluice_tensor::{DType, Dim, Signature, TensorSpec};

use super::run::OnnxModel;
use super::session::SharedSession;
use crate::{EngineError, LoadOptions, Model};

/// The element types that both sides have.
const DTYPES: [(TensorElementType, DType); 14] = [
    (TensorElementType::Bool, DType::Bool),
    (TensorElementType::Uint8, DType::U8),
    (TensorElementType::Uint16, DType::U16),
    (TensorElementType::Uint32, DType::U32),
    (TensorElementType::Uint64, DType::U64),
    (TensorElementType::Int8, DType::I8),
    (TensorElementType::Int16, DType::I16),
    (TensorElementType::Int32, DType::I32),
    (TensorElementType::Int64, DType::I64),
    (TensorElementType::Float16, DType::F16),
    (TensorElementType::Bfloat16, DType::Bf16),
    (TensorElementType::Float32, DType::F32),
    (TensorElementType::Float64, DType::F64),
    (TensorElementType::String, DType::Bytes),
];

pub(super) fn load(
    environment: &Environment,
    file: &Path,
    options: &LoadOptions,
) -> Result<Arc<dyn Model>, EngineError> {
    // The library's own message for a missing file does not say what is wrong.
    let opened = File::open(file).and_then(|opened| opened.metadata());
    match opened {
        Ok(metadata) if metadata.is_file() => {}
        Ok(_) => return Err(EngineError::Io(format!("{} is not a file", file.display()))),
        Err(error) => return Err(EngineError::Io(format!("{}: {error}", file.display()))),
    }
    let session = build(environment, file, options).map_err(|error| load_error(&error))?;
    let signature = Signature {
        inputs: session.inputs().iter().map(spec).collect::<Result<_, _>>()?,
        outputs: session.outputs().iter().map(spec).collect::<Result<_, _>>()?,
    };
    let names = |outlets: &[Outlet]| -> Result<Vec<CString>, EngineError> {
        let name = |outlet: &Outlet| CString::new(outlet.name());
        let names: Result<_, _> = outlets.iter().map(name).collect();
        names.map_err(|_| EngineError::Corrupt("a tensor's name holds a zero byte".to_owned()))
    };
    let (input_names, output_names) = (names(session.inputs())?, names(session.outputs())?);
    let shared = SharedSession::new(session, input_names, output_names)?;
    Ok(Arc::new(OnnxModel::new(shared, signature, options.max_batch_size > 0)))
}

fn build(environment: &Environment, file: &Path, options: &LoadOptions) -> ort::Result<Session> {
    Session::builder(environment)?
        .with_optimization_level(GraphOptimizationLevel::All)?
        .with_intra_threads(options.threads.max(1))?
        .with_inter_threads(1)?
        .with_intra_op_spinning(options.spinning)?
        .with_inter_op_spinning(false)?
        // A pattern is planned for each shape that comes, and batches vary.
        .with_memory_pattern(false)?
        .with_log_level(LogLevel::Warning)?
        .commit_from_file(file)
}

fn spec(outlet: &Outlet) -> Result<TensorSpec, EngineError> {
    let name = outlet.name();
    let ValueType::Tensor { ty, shape, dimension_symbols } = outlet.dtype() else {
        return Err(EngineError::Unsupported(format!("'{name}' is {}, not a tensor", outlet.dtype())));
    };
    let Some((_, dtype)) = DTYPES.iter().find(|(element, _)| element == ty) else {
        return Err(EngineError::Unsupported(format!("'{name}' has elements of type {ty}")));
    };
    let dims = shape.iter().enumerate().map(|(index, size)| match usize::try_from(*size) {
        Ok(size) => Dim::Fixed(size),
        Err(_) => {
            let symbol = dimension_symbols.get(index).filter(|symbol| !symbol.is_empty());
            Dim::Any(symbol.map(|symbol| symbol.as_str().into()))
        }
    });
    Ok(TensorSpec { name: name.into(), dtype: *dtype, dims: dims.collect() })
}

fn load_error(error: &ort::Error) -> EngineError {
    let message = error.message().to_owned();
    // The library has one code for most of what can be wrong with a graph.
    if is_out_of_memory(&message) {
        return EngineError::OutOfMemory(message);
    }
    match error.code() {
        ort::ErrorCode::NoSuchFile => EngineError::Io(message),
        ort::ErrorCode::NotImplemented | ort::ErrorCode::CompilationRequired => {
            EngineError::Unsupported(message)
        }
        _ if message.contains("is not a registered function/op") => EngineError::Unsupported(message),
        _ => EngineError::Corrupt(message),
    }
}

/// Whether an error is about memory, for which the library has no code.
pub(super) fn is_out_of_memory(message: &str) -> bool {
    message.contains("bad_alloc") || message.contains("Failed to allocate memory")
}
