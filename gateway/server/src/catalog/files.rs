//! Files that a snapshot is built from: read whole, within a limit, with a digest.

use std::collections::BTreeMap;
use std::io::{self, BufRead, Read};
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use sha2::{Digest, Sha256};
use sluice_sandbox::MemoryStore;

use super::build::Problem;
use crate::config;

/// Reads a file that has at most `bytes_max` bytes.
pub(super) fn read(path: &Path, bytes_max: u64) -> Result<Vec<u8>, String> {
    let fault = |error: io::Error| format!("cannot read {}: {error}", path.display());
    let file = std::fs::File::open(path).map_err(fault)?;
    let mut content = Vec::new();
    file.take(bytes_max + 1).read_to_end(&mut content).map_err(fault)?;
    if content.len() as u64 > bytes_max {
        return Err(format!("{} is larger than {bytes_max} bytes", path.display()));
    }
    Ok(content)
}

/// The SHA-256 of some bytes, in hex.
pub(super) fn digest(content: &[u8]) -> String {
    hex(&Sha256::digest(content))
}

/// The SHA-256 of a file of any size, in hex.
pub(super) fn digest_file(path: &Path) -> Result<String, String> {
    let fault = |error: io::Error| format!("cannot read {}: {error}", path.display());
    let mut file = std::fs::File::open(path).map_err(fault)?;
    let mut hasher = Sha256::new();
    io::copy(&mut file, &mut hasher).map_err(fault)?;
    Ok(hex(&hasher.finalize()))
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// A look-up table, loaded from a file of JSON lines `{"key": …, "value": …}`.
pub(super) struct StoreFile {
    pub(super) digest: String,
    pub(super) config: config::Store,
    pub(super) store: Arc<MemoryStore>,
}

#[derive(serde::Deserialize)]
struct Line<'a> {
    #[serde(borrow)]
    key: std::borrow::Cow<'a, str>,
    #[serde(borrow)]
    value: &'a serde_json::value::RawValue,
}

/// Loads a store; a value that is a JSON string is stored as its text, anything
/// else as its JSON.
pub(super) fn load_store(name: &str, config: &config::Store) -> Result<StoreFile, Problem> {
    let fault = |what: String| Problem::new(format!("stores.{name}"), what);
    let config::Store::File { file, bytes_max } = config else {
        return Err(fault("this kind of store is not served yet".to_owned()));
    };
    let content = read(file, *bytes_max).map_err(fault)?;
    let mut entries = BTreeMap::new();
    for (number, line) in content.as_slice().lines().enumerate() {
        let place = || format!("{} line {}", file.display(), number + 1);
        let line = line.map_err(|error| fault(format!("{}: {error}", place())))?;
        if line.trim().is_empty() {
            continue;
        }
        let Line { key, value } =
            serde_json::from_str(&line).map_err(|error| fault(format!("{}: {error}", place())))?;
        let value = match serde_json::from_str::<String>(value.get()) {
            Ok(text) => Bytes::from(text),
            Err(_) => Bytes::copy_from_slice(value.get().as_bytes()),
        };
        if entries.insert(key.clone().into_owned(), value).is_some() {
            return Err(fault(format!("{}: the key {key:?} stands there twice", place())));
        }
    }
    Ok(StoreFile {
        digest: digest(&content),
        config: config.clone(),
        store: Arc::new(MemoryStore::new(entries, true)),
    })
}
