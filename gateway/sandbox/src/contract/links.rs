//! What older versions import, linked to the host's functions under their names: their
//! types are the latest's.

use wasmtime::StoreContextMut;
use wasmtime::component::{Linker, LinkerInstance, Resource, ResourceType};

use crate::bindings::sluice::plugin::deadline::Host as _;
use crate::bindings::sluice::plugin::inference::{Host as _, HostPending};
use crate::bindings::sluice::plugin::spans::{Attribute, HostSpan, Value};
use crate::bindings::sluice::plugin::tensors::{Dtype, HostTensor, HostWriter};
use crate::bindings::sluice::plugin::types::NamedSource;
use crate::host::inference::Pending;
use crate::host::spans::GuestSpan;
use crate::host::tensors::{self, Writer};
use crate::state::State;

type Tensor = sluice_tensor::Tensor;
type Caller<'a> = StoreContextMut<'a, State>;

/// What a model call is given.
type Call = (String, Vec<NamedSource>);

/// An interface of one version; one of types alone is an instance nevertheless.
pub(super) fn interface<'a>(
    linker: &'a mut Linker<State>,
    interface: &str,
    version: &str,
) -> wasmtime::Result<LinkerInstance<'a, State>> {
    linker.instance(&format!("sluice:plugin/{interface}@{version}"))
}

/// `tensors` as it was in 0.1.
pub(super) fn tensors(link: &mut LinkerInstance<'_, State>) -> wasmtime::Result<()> {
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
    link.func_wrap_async("[method]tensor.top-k", |mut caller: Caller<'_>, (tensor, k)| {
        Box::new(async move { Ok((caller.data_mut().top_k(tensor, k).await?,)) })
    })?;
    link.func_wrap("[constructor]writer", |mut caller: Caller<'_>, (dtype, shape): (Dtype, Vec<u32>)| {
        Ok((HostWriter::new(caller.data_mut(), dtype, shape)?,))
    })?;
    link.func_wrap("[method]writer.write", tensors::write)?;
    link.func_wrap("[method]writer.finish", |mut caller: Caller<'_>, (writer,)| {
        Ok((caller.data_mut().finish(writer)?,))
    })
}

/// What 0.2 added to `tensors`.
pub(super) fn more_tensors(link: &mut LinkerInstance<'_, State>) -> wasmtime::Result<()> {
    link.func_wrap("[method]tensor.read-fp32", |mut caller: Caller<'_>, (tensor, start, count)| {
        Ok((caller.data_mut().read_fp32(tensor, start, count)?,))
    })?;
    link.func_wrap_async("[method]tensor.gather", |mut caller: Caller<'_>, (tensor, rows)| {
        Box::new(async move { Ok((caller.data_mut().gather(tensor, rows).await?,)) })
    })
}

/// `inference`, which has not changed since 0.1.
pub(super) fn inference(link: &mut LinkerInstance<'_, State>) -> wasmtime::Result<()> {
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

/// `deadline`, which has not changed since 0.2.
pub(super) fn deadline(link: &mut LinkerInstance<'_, State>) -> wasmtime::Result<()> {
    link.func_wrap("left-ms", |mut caller: Caller<'_>, ()| Ok((caller.data_mut().left_ms()?,)))
}

/// `spans`, which has not changed since 0.2.
pub(super) fn spans(link: &mut LinkerInstance<'_, State>) -> wasmtime::Result<()> {
    link.resource("span", ResourceType::host::<GuestSpan>(), |mut caller, rep| {
        HostSpan::drop(caller.data_mut(), Resource::new_own(rep))
    })?;
    link.func_wrap("[constructor]span", |mut caller: Caller<'_>, (name,): (String,)| {
        Ok((HostSpan::new(caller.data_mut(), name)?,))
    })?;
    link.func_wrap("[method]span.set", |mut caller: Caller<'_>, (span, key, value): (_, String, Value)| {
        HostSpan::set(caller.data_mut(), span, key, value)
    })?;
    link.func_wrap(
        "[method]span.event",
        |mut caller: Caller<'_>, (span, name, attributes): (_, String, Vec<Attribute>)| {
            HostSpan::event(caller.data_mut(), span, name, attributes)
        },
    )
}
