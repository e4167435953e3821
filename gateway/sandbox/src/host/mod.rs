//! What plugins can ask of the host: one file for each capability.
//!
//! A capability has three moments: it is linked once, for all plugins; its
//! imports are checked against the grants when a plugin is loaded; its state is
//! built for each call.

pub(crate) mod convert;
pub(crate) mod inference;
pub(crate) mod keyvalue;
pub(crate) mod logging;
pub(crate) mod tensors;
pub(crate) mod wasi;

use std::collections::BTreeMap;
use std::sync::Arc;

use wasmtime::component::{HasSelf, Linker};

pub use inference::Inference;
pub use keyvalue::{KeyPage, KeyValue};

use crate::bindings::sluice::plugin::types;
use crate::error::LoadError;
use crate::state::State;
use crate::{WasiPolicy, World};

/// What the configuration grants to a plugin beyond the platform.
#[derive(Clone, Default)]
pub struct Grants {
    /// The stores it may open, by the identifier that it opens them with.
    pub keyvalue: BTreeMap<String, Arc<dyn KeyValue>>,
    /// The models it may call; the implementation decides which.
    pub inference: Option<Arc<dyn Inference>>,
}

impl std::fmt::Debug for Grants {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Grants")
            .field("keyvalue", &self.keyvalue.keys())
            .field("inference", &self.inference.is_some())
            .finish()
    }
}

impl types::Host for State {}

/// Links every capability. What a plugin may not import is refused by
/// [`check_import`] before this linker sees it.
pub(crate) fn link(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    types::add_to_linker::<State, HasSelf<State>>(linker, |state| state)?;
    tensors::link(linker)?;
    logging::link(linker)?;
    keyvalue::link(linker)?;
    inference::link(linker)?;
    wasi::link(linker)
}

/// Whether the plugin may import the interface of that name.
pub(crate) fn check_import(
    name: &str,
    world: World,
    grants: &Grants,
    wasi: WasiPolicy,
) -> Result<(), LoadError> {
    let granted = match name {
        "sluice:plugin/inference@0.1.0" => world.is_pipeline() && grants.inference.is_some(),
        "sluice:plugin/types@0.1.0" | "sluice:plugin/tensors@0.1.0" | "wasi:logging/logging@0.1.0-draft" => {
            true
        }
        "wasi:keyvalue/store@0.2.0-draft" | "wasi:keyvalue/batch@0.2.0-draft" => !grants.keyvalue.is_empty(),
        _ => wasi == WasiPolicy::Empty && wasi::is_linked(name),
    };
    if granted { Ok(()) } else { Err(LoadError::ForbiddenImport(name.to_owned())) }
}
