//! What is known of a component without running it.

use serde::{Deserialize, Serialize};

use crate::error::LoadError;
use crate::limiter::TABLE_ELEMENT_BYTES;
use crate::world::World;

/// What is known of a component. Every text in it was cut and escaped, every list is
/// bounded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ComponentFacts {
    /// SHA-256 of its bytes, in hexadecimal.
    pub digest: String,
    /// How many those are.
    pub size_bytes: usize,
    /// What it implements.
    pub world: World,
    /// The version of the contract that it was built for.
    pub contract: String,
    /// The interfaces it imports: its permission request.
    pub imports: Vec<String>,
    /// The interfaces it exports.
    pub exports: Vec<String>,
    /// What its author and its toolchain say.
    pub metadata: Metadata,
    /// Memories of one instance.
    pub memories: u64,
    /// Bytes of all memories that an instance starts with.
    pub memory_bytes: u64,
    /// Tables of one instance.
    pub tables: u64,
    /// Elements of all tables that an instance starts with.
    pub table_elements: u64,
    /// Whether it carries sample cases.
    pub has_samples: bool,
}

impl ComponentFacts {
    /// Bytes of memories and tables that the limiter will count before anything runs.
    pub fn initial_bytes(&self) -> u64 {
        let tables = self.table_elements.saturating_mul(TABLE_ELEMENT_BYTES as u64);
        self.memory_bytes.saturating_add(tables)
    }

    pub(crate) fn require_memory(&self, bytes_max: usize) -> Result<(), LoadError> {
        let bytes = self.initial_bytes();
        if usize::try_from(bytes).is_ok_and(|bytes| bytes <= bytes_max) {
            return Ok(());
        }
        Err(LoadError::Limits(format!(
            "it starts with {bytes} bytes in {} memories and {} tables, at most {bytes_max} together; build it \
             with a smaller initial memory, or ask the operator for more `memory_bytes`",
            self.memories, self.tables
        )))
    }
}

/// What a component says about itself. Nothing of it is checked.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Metadata {
    /// Its name.
    pub name: Option<String>,
    /// Its version.
    pub version: Option<String>,
    /// What it does.
    pub description: Option<String>,
    /// Who wrote it.
    pub authors: Option<String>,
    /// Under which licences.
    pub licenses: Option<String>,
    /// Where its source is.
    pub source: Option<String>,
    /// Where to read more.
    pub homepage: Option<String>,
    /// The revision of the source.
    pub revision: Option<String>,
    /// The languages it was written in.
    pub language: Vec<Producer>,
    /// The SDKs it was built with.
    pub sdk: Vec<Producer>,
    /// The tools that made it.
    pub processed_by: Vec<Producer>,
}

/// A tool or a language, and its version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Producer {
    /// Its name.
    pub name: String,
    /// Its version; may be empty.
    pub version: String,
}
