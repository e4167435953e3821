//! `wasi:nn`: models, for plugins that know nothing of this gateway. A graph is a model
//! that the plugin is granted, and an execution waits in the same queue and batch as
//! every other request.

use std::sync::Arc;

use bytes::Bytes;
use sha2::{Digest as _, Sha256};
use sluice_tensor::{DType, NamedTensor, Signature, keep_with};
use wasmtime::StoreContextMut;
use wasmtime::component::{HasSelf, Linker, Resource, WasmList};

use super::convert::shape_from_guest;
use super::logging::LogLevel;
use super::pieces::PIECE;
use crate::bindings::nn::wasi::nn::errors::{self, ErrorCode, HostError};
use crate::bindings::nn::wasi::nn::graph::{self, ExecutionTarget, GraphEncoding, HostGraph};
use crate::bindings::nn::wasi::nn::inference::{self, HostGraphExecutionContext};
use crate::bindings::nn::wasi::nn::tensor::{self, HostTensor, TensorType};
use crate::cache;
use crate::error::InferenceError;
use crate::held::Charge;
use crate::state::State;

/// Most inputs of one execution. No model has as many.
const INPUTS_MAX: usize = 256;

/// A tensor as the guest made it: whether its data fits its shape shows when it is used,
/// as the interface has no other place to say so.
#[expect(unreachable_pub, reason = "the generated bindings re-export it")]
pub struct Tensor {
    dimensions: Vec<u32>,
    ty: TensorType,
    data: Bytes,
}

/// A model that exists and is granted.
#[derive(Clone)]
#[expect(unreachable_pub, reason = "the generated bindings re-export it")]
pub struct Graph {
    name: Arc<str>,
    signature: Arc<Signature>,
}

/// An execution of a model. It holds nothing: inputs come with `compute`.
#[expect(unreachable_pub, reason = "the generated bindings re-export it")]
pub struct Execution(Graph);

/// Why something failed, in words for the plugin's author.
#[derive(Debug)]
#[expect(unreachable_pub, reason = "the generated bindings re-export it")]
pub struct Error {
    code: ErrorCode,
    message: String,
    /// For the message, once the guest has the error.
    charge: Option<Charge>,
}

impl Error {
    fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), charge: None }
    }

    fn invalid(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::InvalidArgument, message)
    }
}

impl From<InferenceError> for Error {
    fn from(error: InferenceError) -> Self {
        let code = match error {
            InferenceError::NotFound(_) => ErrorCode::NotFound,
            InferenceError::InvalidInput(_) => ErrorCode::InvalidArgument,
            InferenceError::Deadline => ErrorCode::Timeout,
            InferenceError::Overloaded | InferenceError::Failed(_) => ErrorCode::RuntimeError,
        };
        Self::new(code, error.to_string())
    }
}

fn dtype_from_guest(ty: TensorType) -> DType {
    match ty {
        TensorType::Fp16 => DType::F16,
        TensorType::Fp32 => DType::F32,
        TensorType::Fp64 => DType::F64,
        TensorType::Bf16 => DType::Bf16,
        TensorType::U8 => DType::U8,
        TensorType::I32 => DType::I32,
        TensorType::I64 => DType::I64,
    }
}

/// The type that the interface has for it, which lacks some of ours.
fn dtype_to_guest(dtype: DType) -> Option<TensorType> {
    Some(match dtype {
        DType::F16 => TensorType::Fp16,
        DType::F32 => TensorType::Fp32,
        DType::F64 => TensorType::Fp64,
        DType::Bf16 => TensorType::Bf16,
        DType::U8 => TensorType::U8,
        DType::I32 => TensorType::I32,
        DType::I64 => TensorType::I64,
        _ => return None,
    })
}

/// Links the interfaces. The constructor of tensors is registered by hand over the
/// generated one: it copies once, from the guest's memory.
pub(crate) fn link(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    tensor::add_to_linker::<State, HasSelf<State>>(linker, |state| state)?;
    graph::add_to_linker::<State, HasSelf<State>>(linker, |state| state)?;
    inference::add_to_linker::<State, HasSelf<State>>(linker, |state| state)?;
    errors::add_to_linker::<State, HasSelf<State>>(linker, |state| state)?;
    linker.allow_shadowing(true);
    linker.instance("wasi:nn/tensor@0.2.0-rc-2024-10-28")?.func_wrap("[constructor]tensor", new_tensor)?;
    linker.allow_shadowing(false);
    Ok(())
}

fn new_tensor(
    mut store: StoreContextMut<'_, State>,
    (dimensions, ty, data): (Vec<u32>, TensorType, WasmList<u8>),
) -> wasmtime::Result<(Resource<Tensor>,)> {
    let charge = store.data_mut().hold_tensor(dimensions.len(), data.len())?;
    let data = keep_with(data.as_le_slice(&store).to_vec(), charge);
    Ok((store.data_mut().table.push(Tensor { dimensions, ty, data })?,))
}

/// What the guest gets: an error is a value, not a trap.
type Answer<T> = wasmtime::Result<Result<T, Resource<Error>>>;

impl State {
    fn hold_tensor(&mut self, dimensions: usize, bytes: usize) -> wasmtime::Result<Charge> {
        self.hold(dimensions.saturating_mul(size_of::<u32>()).saturating_add(bytes))
    }

    /// Programs seldom say why they failed: their author finds it in the plugin's log.
    fn fail<T>(&mut self, mut error: Error) -> Answer<T> {
        self.log.line(LogLevel::Warn, "wasi:nn", &error.message);
        error.charge = Some(self.hold(error.message.len())?);
        Ok(Err(self.table.push(error)?))
    }

    /// The granted model that is in this file.
    async fn graph_of_file(&mut self, file: &[u8]) -> wasmtime::Result<Option<Graph>> {
        let Some(models) = self.grants.inference.clone() else { return Ok(None) };
        // The guest's bytes were copied for this; they go with it.
        let _charge = self.hold(file.len())?;
        let mut hasher = Sha256::new();
        for piece in file.chunks(PIECE) {
            hasher.update(piece);
            self.piece_is_done().await?;
        }
        let name = models.model_of_file(&cache::hex(&hasher.finalize().into()));
        let found = name.and_then(|name| Some((models.signature(&name)?, name)));
        Ok(found.map(|(signature, name)| Graph { name, signature: Arc::new(signature) }))
    }

    /// The inputs under the names that the model has for them. Handles are taken out of
    /// the table: they were passed by ownership.
    fn inputs(
        &mut self,
        signature: &Signature,
        inputs: Vec<(String, Resource<Tensor>)>,
    ) -> wasmtime::Result<Result<Vec<NamedTensor>, Error>> {
        let mut given = Vec::with_capacity(inputs.len().min(INPUTS_MAX));
        for (name, tensor) in inputs {
            given.push((name, self.table.delete(tensor)?));
        }
        if given.len() > INPUTS_MAX {
            return Ok(Err(Error::invalid(format!(
                "{} inputs, at most {INPUTS_MAX} are allowed",
                given.len()
            ))));
        }
        let names = given.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>();
        let names = match input_names(signature, &names) {
            Ok(names) => names,
            Err(error) => return Ok(Err(error)),
        };
        let tensors = given.into_iter().zip(names);
        Ok(tensors.map(|((_, tensor), name)| tensor_from_guest(name, tensor)).collect())
    }

    /// The outputs as handles.
    fn named_outputs(&mut self, outputs: Vec<NamedTensor>) -> Answer<Vec<(String, Resource<Tensor>)>> {
        let mut named = Vec::with_capacity(outputs.len());
        for NamedTensor { name, tensor } in outputs {
            let Some(ty) = dtype_to_guest(tensor.dtype()) else {
                let message = format!("output {name} has datatype {}, which wasi:nn lacks", tensor.dtype());
                return self.fail(Error::new(ErrorCode::UnsupportedOperation, message));
            };
            let dimensions = tensor.shape().dims().iter().map(|&dim| u32::try_from(dim));
            let dimensions = dimensions.collect::<Result<Vec<_>, _>>()?;
            let charge = self.hold_tensor(dimensions.len(), tensor.byte_len())?;
            let tensor = Tensor { dimensions, ty, data: keep_with(tensor.to_dense(), charge) };
            named.push((name.to_string(), self.table.push(tensor)?));
        }
        Ok(Ok(named))
    }
}

fn tensor_from_guest(name: Arc<str>, tensor: Tensor) -> Result<NamedTensor, Error> {
    let made = shape_from_guest(&tensor.dimensions)
        .and_then(|shape| sluice_tensor::Tensor::dense(dtype_from_guest(tensor.ty), shape, tensor.data));
    match made {
        Ok(tensor) => Ok(NamedTensor { name, tensor }),
        Err(error) => Err(Error::invalid(format!("input {name}: {error}"))),
    }
}

/// The model's names for inputs that were given under these.
///
/// Backends of wasi-nn differ in what they take for a name, so guests do too: the name
/// itself, anything where there is but one, or the position. Names for a model whose
/// inputs are not known are taken as they are.
fn input_names(signature: &Signature, given: &[&str]) -> Result<Vec<Arc<str>>, Error> {
    let known: Vec<Arc<str>> = signature.inputs.iter().map(|input| Arc::from(&*input.name)).collect();
    let exact = |name: &&str| known.iter().find(|known| ***known == **name).map(Arc::clone);
    let position = |name: &&str| {
        let is_decimal = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_digit());
        is_decimal.then(|| name.parse::<usize>().ok().and_then(|at| known.get(at)).map(Arc::clone))?
    };
    let names: Option<Vec<_>> = match (&*known, given) {
        ([], _) => Some(given.iter().map(|&name| Arc::from(name)).collect()),
        ([only], [_]) => Some(vec![Arc::clone(only)]),
        _ => given.iter().map(exact).collect::<Option<_>>().or_else(|| given.iter().map(position).collect()),
    };
    let Some(names) = names else {
        return Err(Error::invalid(format!("no such input: the model has {}", known.join(", "))));
    };
    let mut sorted = names.clone();
    sorted.sort_unstable();
    sorted.dedup();
    if sorted.len() < names.len() {
        return Err(Error::invalid("an input is given twice"));
    }
    Ok(names)
}

impl tensor::Host for State {}
impl inference::Host for State {}
impl errors::Host for State {}

impl HostTensor for State {
    /// Never called: `link` registers [`new_tensor`] in its place.
    fn new(
        &mut self,
        dimensions: Vec<u32>,
        ty: TensorType,
        data: Vec<u8>,
    ) -> wasmtime::Result<Resource<Tensor>> {
        let charge = self.hold_tensor(dimensions.len(), data.len())?;
        Ok(self.table.push(Tensor { dimensions, ty, data: keep_with(data, charge) })?)
    }

    fn dimensions(&mut self, tensor: Resource<Tensor>) -> wasmtime::Result<Vec<u32>> {
        Ok(self.table.get(&tensor)?.dimensions.clone())
    }

    fn ty(&mut self, tensor: Resource<Tensor>) -> wasmtime::Result<TensorType> {
        Ok(self.table.get(&tensor)?.ty)
    }

    fn data(&mut self, tensor: Resource<Tensor>) -> wasmtime::Result<Vec<u8>> {
        let data = &self.table.get(&tensor)?.data;
        if data.len() > self.hostcall_bytes {
            let len = data.len();
            return Err(wasmtime::format_err!("tensor of {len} bytes is above the limit of one call"));
        }
        let data = data.clone();
        self.give(data.len())?;
        Ok(data.to_vec())
    }

    fn drop(&mut self, tensor: Resource<Tensor>) -> wasmtime::Result<()> {
        self.table.delete(tensor)?;
        Ok(())
    }
}

impl graph::Host for State {
    /// Models are the operator's: they are placed, measured and batched before a plugin
    /// may use them.
    ///
    /// A guest that brings the file of a model that it is granted gets that model, wherever
    /// the operator has placed it; other bytes are nobody's model.
    async fn load(
        &mut self,
        parts: Vec<Vec<u8>>,
        encoding: GraphEncoding,
        _target: ExecutionTarget,
    ) -> Answer<Resource<Graph>> {
        let is_known = matches!(encoding, GraphEncoding::Onnx | GraphEncoding::Autodetect);
        if let (true, [file]) = (is_known, &*parts)
            && let Some(graph) = self.graph_of_file(file).await?
        {
            return Ok(Ok(self.table.push(graph)?));
        }
        let message = "models are not loaded from plugins, and this is not the file of one that is granted: use \
                       load-by-name, or let the operator serve the file and grant it";
        self.fail(Error::new(ErrorCode::UnsupportedOperation, message))
    }

    fn load_by_name(&mut self, name: String) -> Answer<Resource<Graph>> {
        let signature = self.grants.inference.as_ref().and_then(|models| models.signature(&name));
        match signature {
            Some(signature) => {
                let graph = Graph { name: name.into(), signature: Arc::new(signature) };
                Ok(Ok(self.table.push(graph)?))
            }
            None => self.fail(Error::new(ErrorCode::NotFound, "no such model, or it is not granted")),
        }
    }
}

impl HostGraph for State {
    fn init_execution_context(&mut self, graph: Resource<Graph>) -> Answer<Resource<Execution>> {
        let graph = self.table.get(&graph)?.clone();
        Ok(Ok(self.table.push(Execution(graph))?))
    }

    fn drop(&mut self, graph: Resource<Graph>) -> wasmtime::Result<()> {
        self.table.delete(graph)?;
        Ok(())
    }
}

impl HostGraphExecutionContext for State {
    async fn compute(
        &mut self,
        execution: Resource<Execution>,
        inputs: Vec<(String, Resource<Tensor>)>,
    ) -> Answer<Vec<(String, Resource<Tensor>)>> {
        let graph = self.table.get(&execution)?.0.clone();
        let inputs = match self.inputs(&graph.signature, inputs)? {
            Ok(inputs) => inputs,
            Err(error) => return self.fail(error),
        };
        let Some(models) = self.grants.inference.clone() else {
            return self.fail(Error::new(ErrorCode::NotFound, "no model is granted"));
        };
        match self.run_model(models, &graph.name, inputs).await {
            Ok(outputs) => self.named_outputs(outputs),
            Err(error) => self.fail(error.into()),
        }
    }

    fn drop(&mut self, execution: Resource<Execution>) -> wasmtime::Result<()> {
        self.table.delete(execution)?;
        Ok(())
    }
}

impl HostError for State {
    fn code(&mut self, error: Resource<Error>) -> wasmtime::Result<ErrorCode> {
        Ok(self.table.get(&error)?.code)
    }

    fn data(&mut self, error: Resource<Error>) -> wasmtime::Result<String> {
        Ok(self.table.get(&error)?.message.clone())
    }

    fn drop(&mut self, error: Resource<Error>) -> wasmtime::Result<()> {
        self.table.delete(error)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use sluice_tensor::{Dim, TensorSpec};

    use super::*;

    fn signature(names: &[&str]) -> Signature {
        let input = |name: &&str| TensorSpec {
            name: Arc::from(*name),
            dtype: DType::F32,
            dims: vec![Dim::Any(None)],
        };
        Signature { inputs: names.iter().map(input).collect(), outputs: Vec::new() }
    }

    fn named(model: &[&str], given: &[&str]) -> Option<Vec<String>> {
        let names = input_names(&signature(model), given).ok()?;
        Some(names.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn inputs_are_known_by_name_by_position_or_because_there_is_but_one() {
        let both = || Some(vec!["ids".to_owned(), "mask".to_owned()]);
        assert_eq!(named(&["ids", "mask"], &["ids", "mask"]), both());
        assert_eq!(named(&["ids", "mask"], &["0", "1"]), both());
        assert_eq!(named(&["data"], &["input"]), Some(vec!["data".to_owned()]));
        assert_eq!(named(&["data"], &["7"]), Some(vec!["data".to_owned()]));
        // Names that look like positions are names first.
        assert_eq!(named(&["1", "0"], &["0", "1"]), Some(vec!["0".to_owned(), "1".to_owned()]));
    }

    #[test]
    fn inputs_that_fit_no_name_or_the_same_one_are_refused() {
        for given in
            [&["ids", "other"][..], &["ids", "1"], &["0", "2"], &["ids", "ids"], &["0", "00"], &["", "1"]]
        {
            assert_eq!(named(&["ids", "mask"], given), None, "{given:?}");
        }
        assert_eq!(named(&["data"], &["a", "b"]), None);
    }

    #[test]
    fn every_type_of_the_interface_comes_back_as_it_was() {
        let all = [
            TensorType::Fp16,
            TensorType::Fp32,
            TensorType::Fp64,
            TensorType::Bf16,
            TensorType::U8,
            TensorType::I32,
            TensorType::I64,
        ];
        for ty in all {
            assert_eq!(dtype_to_guest(dtype_from_guest(ty)), Some(ty));
        }
        assert_eq!(dtype_to_guest(DType::Bytes), None);
    }
}
