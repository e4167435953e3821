//! `sluice:plugin@0.2`: its imports, linked to the latest's functions, and its types,
//! converted into the latest's. A component of 0.2 cannot tell the difference.

use wasmtime::component::Linker;

use super::links;
use crate::bindings::v0_2::types as old;

super::hooks::exports!(v0_2);

impl From<types::Context> for old::Context {
    fn from(context: types::Context) -> Self {
        Self {
            request_id: context.request_id,
            pipeline: context.pipeline,
            plugin_version: context.plugin_version,
            deadline_ms: context.deadline_ms,
            routing_key: context.routing_key,
            tenant: context.tenant,
        }
    }
}

impl From<old::Answer> for types::Answer {
    fn from(answer: old::Answer) -> Self {
        match answer {
            old::Answer::Body(body) => Self::Body(body),
            old::Answer::Tensors(tensors) => Self::Tensors(tensors),
        }
    }
}

impl From<preprocess::Prepared> for Prepared {
    fn from(prepared: preprocess::Prepared) -> Self {
        use crate::bindings::exports::sluice::plugin::preprocess::ModelInputs;
        match prepared {
            preprocess::Prepared::Run(run) => Self::Run(ModelInputs { inputs: run.inputs, carry: run.carry }),
            preprocess::Prepared::Answer(answer) => Self::Answer(answer.into()),
        }
    }
}

/// Links what only this version names; `wasi` interfaces have versions of their own.
pub(super) fn link(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    const VERSION: &str = "0.2.0";
    links::interface(linker, "types", VERSION)?;
    let mut tensors = links::interface(linker, "tensors", VERSION)?;
    links::tensors(&mut tensors)?;
    links::more_tensors(&mut tensors)?;
    links::inference(&mut links::interface(linker, "inference", VERSION)?)?;
    links::deadline(&mut links::interface(linker, "deadline", VERSION)?)?;
    links::spans(&mut links::interface(linker, "spans", VERSION)?)
}
