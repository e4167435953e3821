//! What plugins can ask of the host: one file for each capability.
//!
//! A capability has three moments: it is linked once, for all plugins; its
//! imports are checked against the grants when a plugin is loaded; its state is
//! built for each call.

pub(crate) mod command;
mod config;
pub(crate) mod convert;
pub(crate) mod deadline;
pub(crate) mod files;
mod grants;
pub(crate) mod http;
pub(crate) mod inference;
pub(crate) mod keyvalue;
pub(crate) mod logging;
pub(crate) mod nn;
mod outgoing;
pub(crate) mod parts;
pub(crate) mod pieces;
mod program_output;
pub(crate) mod spans;
pub(crate) mod tensors;
pub(crate) mod wasi;
mod written;

use wasmtime::component::{HasSelf, Linker};

pub use grants::{Grants, ImportVerdict, check_imports};
pub(crate) use grants::{require_imports, require_offered};
pub use inference::Inference;
pub use keyvalue::{KeyPage, KeyValue};
pub use outgoing::{Outgoing, OutgoingError, OutgoingLimits};

use crate::bindings::sluice::plugin::types;
use crate::contract;
use crate::state::State;

impl types::Host for State {}

/// Links every capability. What a plugin may not import is refused by
/// [`require_imports`] before this linker sees it.
pub(crate) fn link(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    types::add_to_linker::<State, HasSelf<State>>(linker, |state| state)?;
    tensors::link(linker)?;
    logging::link(linker)?;
    keyvalue::link(linker)?;
    inference::link(linker)?;
    parts::link(linker)?;
    deadline::link(linker)?;
    spans::link(linker)?;
    config::link(linker)?;
    nn::link(linker)?;
    wasi::link(linker)?;
    http::link(linker)?;
    contract::link(linker)
}
