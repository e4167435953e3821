//! What the kill loop and the process it kills have in common.

use std::path::Path;

use sluice::catalog::store::{RegistryState, Store};

/// A registry as one line of text: its generation, then all its records.
pub fn shown(generation: u64, state: &RegistryState) -> String {
    let plugins: Vec<_> = state.plugins().collect();
    let versions: Vec<_> = state.all_versions().collect();
    let routes: Vec<_> = state.routes().collect();
    let records = serde_json::to_string(&(plugins, versions, routes)).expect("is JSON");
    format!("{generation} {records}")
}

/// Random numbers that a seed gives again (splitmix64).
#[derive(Debug)]
pub struct Random(u64);

impl Random {
    /// Begins.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A number below this one.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }
}

/// Checks that an open store is whole: every version has its bytes and every blob a
/// version, nothing is left over, and each commit has its audit line.
///
/// # Errors
/// What is wrong.
pub fn check_whole(store: &Store, directory: &Path) -> Result<(), String> {
    let state = store.snapshot();
    let mut named: Vec<String> = Vec::new();
    for version in state.all_versions() {
        let bytes = store.read_blob(&version.digest).map_err(|error| {
            format!("{}/{} ({}): {error}", version.plugin, version.version, version.state)
        })?;
        if bytes.len() as u64 != version.size_bytes {
            return Err(format!("{}/{} has another length", version.plugin, version.version));
        }
        named.push(version.digest.hex().to_owned());
    }
    named.sort();
    named.dedup();
    let blobs = names(&directory.join("blobs/sha256"))?;
    if blobs != named {
        return Err(format!("blobs {blobs:?}, but the versions name {named:?}"));
    }
    let left = names(&directory.join("tmp"))?;
    if !left.is_empty() {
        return Err(format!("left over: {left:?}"));
    }
    let (mut lines, mut after) = (0, 0);
    loop {
        let page = store.audit(after, 1_000).map_err(|error| error.to_string())?;
        for line in &page {
            lines += 1;
            if line.sequence != lines || line.request_id != format!("g{lines}") {
                return Err(format!("audit line {lines} is {line:?}"));
            }
        }
        match page.last() {
            Some(last) => after = last.sequence,
            None => break,
        }
    }
    if lines != state.generation() {
        return Err(format!("{lines} audit lines for {} commits", state.generation()));
    }
    Ok(())
}

fn names(directory: &Path) -> Result<Vec<String>, String> {
    let entries = std::fs::read_dir(directory).map_err(|error| error.to_string())?;
    let mut names = entries
        .map(|entry| entry.map(|it| it.file_name().to_string_lossy().into_owned()))
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| error.to_string())?;
    names.sort();
    Ok(names)
}
