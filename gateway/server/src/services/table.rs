//! `kind = "file"`: a table that is loaded whole, the same for every owner, and that
//! nobody can write.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io::{self, BufRead, Read};
use std::path::Path;

use bytes::Bytes;
use sha2::{Digest, Sha256};
use sluice_sandbox::MemoryStore;

/// The SHA-256 of a file's content.
pub(super) type Fingerprint = [u8; 32];

/// What a file holds now.
///
/// # Errors
/// It cannot be read; with the path.
pub(super) fn fingerprint(path: &Path) -> Result<Fingerprint, String> {
    let fault = |error: io::Error| format!("cannot read {}: {error}", path.display());
    let mut file = std::fs::File::open(path).map_err(fault)?;
    let mut hasher = Sha256::new();
    io::copy(&mut file, &mut hasher).map_err(fault)?;
    Ok(hasher.finalize().into())
}

/// Loads a file of JSON lines `{"key": …, "value": …}`. A value that is a JSON string is
/// stored as its text, anything else as its JSON.
///
/// # Errors
/// What is wrong, with path and line.
pub(super) fn load(path: &Path, bytes_max: u64) -> Result<(Fingerprint, MemoryStore), String> {
    let fault = |error: io::Error| format!("cannot read {}: {error}", path.display());
    let file = std::fs::File::open(path).map_err(fault)?;
    let mut content = Vec::new();
    file.take(bytes_max.saturating_add(1)).read_to_end(&mut content).map_err(fault)?;
    if content.len() as u64 > bytes_max {
        return Err(format!("{} is larger than {bytes_max} bytes", path.display()));
    }
    let entries = parse(&content).map_err(|error| format!("{} {error}", path.display()))?;
    Ok((Sha256::digest(&content).into(), MemoryStore::new(entries, true)))
}

#[derive(serde::Deserialize)]
struct Line<'a> {
    #[serde(borrow)]
    key: Cow<'a, str>,
    #[serde(borrow)]
    value: &'a serde_json::value::RawValue,
}

fn parse(content: &[u8]) -> Result<BTreeMap<String, Bytes>, String> {
    let mut entries = BTreeMap::new();
    for (number, line) in content.lines().enumerate() {
        let place = || format!("line {}", number + 1);
        let line = line.map_err(|error| format!("{}: {error}", place()))?;
        if line.trim().is_empty() {
            continue;
        }
        let Line { key, value } =
            serde_json::from_str(&line).map_err(|error| format!("{}: {error}", place()))?;
        let value = match serde_json::from_str::<String>(value.get()) {
            Ok(text) => Bytes::from(text),
            Err(_) => Bytes::copy_from_slice(value.get().as_bytes()),
        };
        if entries.insert(key.clone().into_owned(), value).is_some() {
            return Err(format!("{}: the key {key:?} stands there twice", place()));
        }
    }
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_are_their_text_and_the_rest_is_json() {
        let entries = parse(b"{\"key\": \"a\", \"value\": \"x\\n\"}\n\n{\"key\":\"b\",\"value\":[1, 2]}")
            .expect("a table");
        assert_eq!((&entries["a"][..], &entries["b"][..]), (&b"x\n"[..], &b"[1, 2]"[..]));
    }

    #[test]
    fn what_is_wrong_is_said_by_line() {
        for (content, expected) in [
            (&b"{\"key\":\"a\",\"value\":1}\n{"[..], "line 2: "),
            (
                b"{\"key\":\"a\",\"value\":1}\n{\"key\":\"a\",\"value\":2}",
                "line 2: the key \"a\" stands there twice",
            ),
            (b"\xff", "line 1: "),
        ] {
            let error = parse(content).expect_err("it is wrong");
            assert!(error.starts_with(expected), "{error}");
        }
    }
}
