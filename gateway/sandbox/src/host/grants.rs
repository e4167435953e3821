//! What a plugin may import: the grants of its configuration, and the verdict on each
//! import.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Inference, KeyValue, Outgoing, wasi};
use crate::contract;
use crate::error::LoadError;
use crate::{WasiPolicy, World};

/// What the configuration grants to a plugin beyond the platform.
#[derive(Clone, Default)]
pub struct Grants {
    /// The stores it may open, by the identifier that it opens them with.
    pub keyvalue: BTreeMap<String, Arc<dyn KeyValue>>,
    /// The models it may call; the implementation decides which.
    pub inference: Option<Arc<dyn Inference>>,
    /// Where its HTTP requests go; `None` is no HTTP.
    pub http: Option<Arc<dyn Outgoing>>,
    /// What `wasi:config/store` tells it.
    pub config: BTreeMap<String, String>,
    /// Folders that it may read: where they are, and what it calls them. Opened once,
    /// when the plugin is loaded.
    pub files: Vec<(PathBuf, String)>,
    /// Its environment variables.
    pub environment: Vec<(String, String)>,
    /// The arguments of a `command`, its name not among them.
    pub arguments: Vec<String>,
    /// Whether it may read clocks; `None` as the policy on WASI has it.
    pub clocks: Option<bool>,
    /// Whether it may draw random numbers; `None` as the policy on WASI has it.
    pub random: Option<bool>,
}

impl std::fmt::Debug for Grants {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Values may be secrets.
        f.debug_struct("Grants")
            .field("keyvalue", &self.keyvalue.keys())
            .field("inference", &self.inference.is_some())
            .field("http", &self.http.is_some())
            .field("config", &self.config.keys())
            .field("files", &self.files)
            .field("environment", &self.environment.iter().map(|(name, _)| name).collect::<Vec<_>>())
            .field("arguments", &self.arguments.len())
            .field("clocks", &self.clocks)
            .field("random", &self.random)
            .finish()
    }
}

/// What an import needs from the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Need {
    Nothing,
    /// A granted model, and the pipeline world.
    Models,
    /// The pipeline world.
    Handler,
    /// A granted model, in any world.
    AnyModels,
    /// A granted store.
    Stores,
    /// Granted servers.
    Http,
    /// Granted values.
    Config,
    /// Part of WASI, which is empty but for what is granted.
    Wasi(Part),
    /// Sockets that refuse every address.
    Sockets,
}

/// A part of WASI 0.2 that may be granted by name where WASI as a whole is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Clocks,
    Random,
    Files,
    /// What a program is called by.
    Cli,
    /// What the other parts speak of, and of no use alone.
    Io,
}

impl Part {
    fn of(name: &str) -> Option<Self> {
        Some(match name.split_once('/')?.0 {
            "wasi:clocks" => Self::Clocks,
            "wasi:random" => Self::Random,
            "wasi:filesystem" => Self::Files,
            "wasi:cli" => Self::Cli,
            "wasi:io" => Self::Io,
            _ => return None,
        })
    }

    fn is_granted(self, world: World, grants: &Grants, wasi: WasiPolicy) -> bool {
        let all = wasi != WasiPolicy::Refuse;
        match self {
            Self::Clocks => grants.clocks.unwrap_or(all),
            Self::Random => grants.random.unwrap_or(all),
            Self::Files => all || !grants.files.is_empty(),
            // Standard input and output are how a program is called.
            Self::Cli => all || world == World::Command,
            Self::Io => {
                let users = [Self::Clocks, Self::Files, Self::Cli];
                grants.http.is_some() || users.iter().any(|part| part.is_granted(world, grants, wasi))
            }
        }
    }
}

/// What the import of that name needs; `None` for one that does not exist here.
fn need(name: &str) -> Option<Need> {
    Some(match name {
        "wasi:logging/logging@0.1.0-draft" => Need::Nothing,
        "wasi:keyvalue/store@0.2.0-draft"
        | "wasi:keyvalue/batch@0.2.0-draft"
        | "wasi:keyvalue/atomics@0.2.0-draft" => Need::Stores,
        "wasi:nn/tensor@0.2.0-rc-2024-10-28"
        | "wasi:nn/graph@0.2.0-rc-2024-10-28"
        | "wasi:nn/inference@0.2.0-rc-2024-10-28"
        | "wasi:nn/errors@0.2.0-rc-2024-10-28" => Need::AnyModels,
        "wasi:config/store@0.2.0-rc.1" => Need::Config,
        _ if super::http::is_linked(name) => Need::Http,
        _ if wasi::is_socket(name) => Need::Sockets,
        _ if wasi::is_linked(name) => Need::Wasi(Part::of(name)?),
        _ => match contract::interface_of(name)? {
            "inference" => Need::Models,
            "types" | "tensors" | "deadline" | "spans" => Need::Nothing,
            "parts" => Need::Handler,
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
        Need::Handler if world.is_pipeline() => Ok(()),
        Need::Handler => Err("which only a plugin that exports sluice:plugin/handler may call"),
        Need::Models if !world.is_pipeline() => {
            Err("which only a plugin that exports sluice:plugin/handler may call")
        }
        Need::Models | Need::AnyModels => granted(
            grants.inference.is_some(),
            "but the configuration grants it no model; ask the operator to add the plugin's `models`",
        ),
        Need::Stores => granted(
            !grants.keyvalue.is_empty(),
            "but the configuration grants it no store; ask the operator to add the plugin's `stores`",
        ),
        Need::Http => granted(
            grants.http.is_some(),
            "but the configuration grants it no server; ask the operator to add the plugin's `http_hosts`",
        ),
        Need::Config => granted(
            wasi != WasiPolicy::Refuse || !grants.config.is_empty(),
            "but the configuration is strict and holds nothing for it; ask the operator to add values to the \
             plugin's `config`",
        ),
        Need::Wasi(part) => granted(
            part.is_granted(world, grants, wasi),
            "but the configuration is strict and grants it no WASI; build without it, or ask the operator \
             to grant it by name or to set the plugin's `strict` to false",
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
