//! What plugins can ask of the host: one file for each capability.
//!
//! A capability has three moments: it is linked once, for all plugins; its
//! imports are checked against the grants when a plugin is loaded; its state is
//! built for each call.

pub(crate) mod convert;
pub(crate) mod deadline;
pub(crate) mod inference;
pub(crate) mod keyvalue;
pub(crate) mod logging;
pub(crate) mod spans;
pub(crate) mod tensors;
pub(crate) mod wasi;

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use wasmtime::component::{HasSelf, Linker};

pub use inference::Inference;
pub use keyvalue::{KeyPage, KeyValue};

use crate::bindings::sluice::plugin::types;
use crate::contract;
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
/// [`require_imports`] before this linker sees it.
pub(crate) fn link(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    types::add_to_linker::<State, HasSelf<State>>(linker, |state| state)?;
    tensors::link(linker)?;
    logging::link(linker)?;
    keyvalue::link(linker)?;
    inference::link(linker)?;
    deadline::link(linker)?;
    spans::link(linker)?;
    wasi::link(linker)?;
    contract::link(linker)
}

/// What an import needs from the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Need {
    Nothing,
    /// A granted model, and the pipeline world.
    Models,
    /// A granted store.
    Stores,
    /// WASI, which is empty.
    Wasi,
    /// Sockets that refuse every address.
    Sockets,
}

/// What the import of that name needs; `None` for one that does not exist here.
fn need(name: &str) -> Option<Need> {
    Some(match name {
        "wasi:logging/logging@0.1.0-draft" => Need::Nothing,
        "wasi:keyvalue/store@0.2.0-draft" | "wasi:keyvalue/batch@0.2.0-draft" => Need::Stores,
        _ if wasi::is_socket(name) => Need::Sockets,
        _ if wasi::is_linked(name) => Need::Wasi,
        _ => match contract::interface_of(name)? {
            "inference" => Need::Models,
            "types" | "tensors" | "deadline" | "spans" => Need::Nothing,
            _ => return None,
        },
    })
}

const NOT_OFFERED: &str = "which this gateway does not offer; remove what uses it, or build with an option \
                           of the toolchain that leaves it out or replaces it by a stub";

/// Whether the plugin may import the interface of that name; if not, why and what to
/// change.
fn is_granted(name: &str, world: World, grants: &Grants, wasi: WasiPolicy) -> Result<(), &'static str> {
    let granted = |yes: bool, why| if yes { Ok(()) } else { Err(why) };
    match need(name).ok_or(NOT_OFFERED)? {
        Need::Nothing => Ok(()),
        Need::Models if !world.is_pipeline() => {
            Err("which only a plugin that exports sluice:plugin/handler may call")
        }
        Need::Models => granted(
            grants.inference.is_some(),
            "but the configuration grants it no model; ask the operator to add the plugin's `models`",
        ),
        Need::Stores => granted(
            !grants.keyvalue.is_empty(),
            "but the configuration grants it no store; ask the operator to add the plugin's `stores`",
        ),
        Need::Wasi => granted(
            wasi != WasiPolicy::Refuse,
            "but the configuration is strict and grants it no WASI; build without it, or ask the operator \
             to set the plugin's `strict` to false",
        ),
        Need::Sockets => granted(
            wasi == WasiPolicy::EmptyWithSockets,
            "which this gateway does not offer: plugins have no network; remove what uses it, or build \
             with an option of the toolchain that replaces it by a stub",
        ),
    }
}

/// One thing that a component asks for, and the answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImportVerdict {
    /// The interface.
    pub name: String,
    /// Whether the plugin may import it.
    pub granted: bool,
    /// Why not, and what to change; empty when granted.
    pub why: String,
}

/// What the imports of a component get under these grants, in their order.
pub fn check_imports(
    imports: &[String],
    world: World,
    grants: &Grants,
    wasi: WasiPolicy,
) -> Vec<ImportVerdict> {
    let verdict = |name: &String| {
        let why = is_granted(name, world, grants, wasi).err().unwrap_or_default();
        ImportVerdict { name: name.clone(), granted: why.is_empty(), why: why.to_owned() }
    };
    imports.iter().map(verdict).collect()
}

/// The first import that is not granted, as an error.
pub(crate) fn require_imports(
    imports: &[String],
    world: World,
    grants: &Grants,
    wasi: WasiPolicy,
) -> Result<(), LoadError> {
    let refused = check_imports(imports, world, grants, wasi).into_iter().find(|verdict| !verdict.granted);
    refused.map_or(Ok(()), |ImportVerdict { name, why, .. }| Err(LoadError::ForbiddenImport { name, why }))
}

/// The first import that no configuration could grant, as an error.
pub(crate) fn require_offered(imports: &[String]) -> Result<(), LoadError> {
    match imports.iter().find(|name| need(name).is_none()) {
        Some(name) => Err(LoadError::ForbiddenImport { name: name.clone(), why: NOT_OFFERED.to_owned() }),
        None => Ok(()),
    }
}
