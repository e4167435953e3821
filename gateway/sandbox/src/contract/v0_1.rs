//! `sluice:plugin@0.1`: its imports, linked to the latest's functions, and its types,
//! converted into the latest's. A component of 0.1 cannot tell the difference.

use wasmtime::component::Linker;

use super::links;
use crate::bindings::v0_1::types as old;

super::hooks::exports!(v0_1);

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
            preprocess::Prepared::Answer(answer) => Self::Answer(answer.into()),
        }
    }
}

/// Links what only this version names; `wasi` interfaces have versions of their own.
pub(super) fn link(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    const VERSION: &str = "0.1.0";
    links::interface(linker, "types", VERSION)?;
    links::tensors(&mut links::interface(linker, "tensors", VERSION)?)?;
    links::inference(&mut links::interface(linker, "inference", VERSION)?)
}
