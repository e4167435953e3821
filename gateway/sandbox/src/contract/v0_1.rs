//! `sluice:plugin@0.1`: its imports, linked to the latest's functions, and its types,
//! converted into the latest's. A component of 0.1 cannot tell the difference.

use wasmtime::StoreContextMut;
use wasmtime::component::{Linker, Resource, ResourceType};

use crate::bindings::sluice::plugin::inference::{Host as _, HostPending};
use crate::bindings::sluice::plugin::tensors::{Dtype, HostTensor, HostWriter};
use crate::bindings::sluice::plugin::types::NamedSource;
use crate::bindings::v0_1::types as old;
use crate::host::inference::Pending;
use crate::host::tensors::{self, Writer};

super::hooks::exports!(v0_1);

type Tensor = sluice_tensor::Tensor;
type Caller<'a> = StoreContextMut<'a, State>;

impl From<types::Context> for old::Context {
    fn from(context: types::Context) -> Self {
        Self { request_id: context.request_id, pipeline: context.pipeline }
    }
}

impl From<old::Failure> for types::Failure {
    fn from(failure: old::Failure) -> Self {
        Self { status: failure.status, message: failure.message, retry_after: None }
    }
}

impl From<preprocess::Prepared> for Prepared {
    fn from(prepared: preprocess::Prepared) -> Self {
        use crate::bindings::exports::sluice::plugin::preprocess::ModelInputs;
        match prepared {
            preprocess::Prepared::Run(run) => Self::Run(ModelInputs { inputs: run.inputs, carry: run.carry }),
            preprocess::Prepared::Answer(answer) => Self::Answer(answer),
        }
    }
}

/// Links what only this version names; `wasi` interfaces have versions of their own.
pub(super) fn link(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    // An interface of types alone is an instance nevertheless.
    linker.instance("sluice:plugin/types@0.1.0")?;
    link_tensors(linker)?;
    link_inference(linker)
}

fn link_tensors(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    let mut link = linker.instance("sluice:plugin/tensors@0.1.0")?;
    link.resource("tensor", ResourceType::host::<Tensor>(), |mut caller, rep| {
        HostTensor::drop(caller.data_mut(), Resource::new_own(rep))
    })?;
    link.resource("writer", ResourceType::host::<Writer>(), |mut caller, rep| {
        HostWriter::drop(caller.data_mut(), Resource::new_own(rep))
    })?;
    link.func_wrap("[method]tensor.dtype", |mut caller: Caller<'_>, (tensor,)| {
        Ok((caller.data_mut().dtype(tensor)?,))
    })?;
    link.func_wrap("[method]tensor.shape", |mut caller: Caller<'_>, (tensor,)| {
        Ok((caller.data_mut().shape(tensor)?,))
    })?;
    link.func_wrap("[method]tensor.byte-length", |mut caller: Caller<'_>, (tensor,)| {
        Ok((caller.data_mut().byte_length(tensor)?,))
    })?;
    link.func_wrap("[method]tensor.read", |mut caller: Caller<'_>, (tensor, offset, len)| {
        Ok((caller.data_mut().read(tensor, offset, len)?,))
    })?;
    link.func_wrap("[method]tensor.rows", |mut caller: Caller<'_>, (tensor, start, count)| {
        Ok((caller.data_mut().rows(tensor, start, count)?,))
    })?;
    link.func_wrap("[method]tensor.top-k", |mut caller: Caller<'_>, (tensor, k)| {
        Ok((caller.data_mut().top_k(tensor, k)?,))
    })?;
    link.func_wrap("[constructor]writer", |mut caller: Caller<'_>, (dtype, shape): (Dtype, Vec<u32>)| {
        Ok((HostWriter::new(caller.data_mut(), dtype, shape)?,))
    })?;
    link.func_wrap("[method]writer.write", tensors::write)?;
    link.func_wrap("[method]writer.finish", |mut caller: Caller<'_>, (writer,)| {
        Ok((caller.data_mut().finish(writer)?,))
    })
}

/// What a model call is given.
type Call = (String, Vec<NamedSource>);

fn link_inference(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    let mut link = linker.instance("sluice:plugin/inference@0.1.0")?;
    link.resource("pending", ResourceType::host::<Pending>(), |mut caller, rep| {
        HostPending::drop(caller.data_mut(), Resource::new_own(rep))
    })?;
    link.func_wrap_async("infer", |mut caller: Caller<'_>, (model, inputs): Call| {
        Box::new(async move { Ok((caller.data_mut().infer(model, inputs).await?,)) })
    })?;
    link.func_wrap("submit", |mut caller: Caller<'_>, (model, inputs): Call| {
        Ok((caller.data_mut().submit(model, inputs)?,))
    })?;
    link.func_wrap_async("[method]pending.wait", |mut caller: Caller<'_>, (pending,)| {
        Box::new(async move { Ok((caller.data_mut().wait(pending).await?,)) })
    })
}
