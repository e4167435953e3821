//! Tests of the store: what is promised about uploads (P21 to P23) and about the disk
//! (L4 to L6). The kill loop (L3) is in the suite: it needs a process to kill.

mod audit_log;
mod broken;
mod directory;
mod disk;
mod lifecycle;
mod uploads;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::*;
use crate::error::{Error, Kind};

const ENOSPC: i32 = 28;
const EROFS: i32 = 30;
const EIO: i32 = 5;
const EDQUOT: i32 = 122;

fn audit(action: &str) -> AuditEntry {
    AuditEntry {
        actor: "test".to_owned(),
        action: action.to_owned(),
        outcome: "ok".to_owned(),
        ..AuditEntry::default()
    }
}

fn blob(store: &Store, content: &[u8]) -> StoredBlob {
    let mut writer = store.begin_blob(1 << 20).expect("begins");
    writer.write(content).expect("fits");
    writer.finish().expect("is stored")
}

fn record(plugin: &str, version: &str, blob: &StoredBlob) -> VersionRecord {
    VersionRecord {
        size_bytes: blob.size_bytes(),
        owner: Some("team".to_owned()),
        facts: serde_json::json!({"world": "transformer"}),
        ..VersionRecord::ready(plugin, version, blob.digest().clone())
    }
}

/// Uploads a version that is ready at once. Gives whether it is new.
fn upload(store: &Store, plugin: &str, version: &str, content: &[u8]) -> Result<bool, StoreError> {
    let mut writer = store.begin_blob(1 << 20)?;
    writer.write(content)?;
    let blob = writer.finish()?;
    store.update(|change| {
        let is_new = change.add_version(record(plugin, version, &blob))?;
        Ok((is_new, is_new.then(|| audit("upload"))))
    })
}

fn change<T>(
    store: &Store,
    decide: impl FnOnce(&mut Change) -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    store.update(|change| Ok((decide(change)?, Some(audit("change")))))
}

fn activate(store: &Store, plugin: &str, version: &str) -> Result<bool, StoreError> {
    change(store, |change| change.activate(plugin, version))
}

fn files(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).expect("readable");
    let mut names: Vec<String> =
        entries.map(|entry| entry.expect("readable").file_name().into_string().expect("text")).collect();
    names.sort();
    names
}

/// The whole state as text, without the generation.
fn shown(store: &Store) -> String {
    let state = store.snapshot();
    format!("{:?} {:?} {:?}", state.plugins, state.versions, state.routes)
}

fn fresh() -> (tempfile::TempDir, Store) {
    let dir = tempfile::tempdir().expect("a directory");
    let store = Store::open(&dir.path().join("state")).expect("opens");
    (dir, store)
}

fn root(dir: &tempfile::TempDir) -> std::path::PathBuf {
    dir.path().join("state")
}

/// Opens the registry as a program would that is not ours.
fn tamper(dir: &Path, table: &str, key: &str, value: &[u8]) {
    let database = redb::Database::open(dir.join("registry.redb")).expect("opens");
    let transaction = database.begin_write().expect("begins");
    let definition: redb::TableDefinition<'_, &str, &[u8]> = redb::TableDefinition::new(table);
    drop(transaction.open_table(definition).expect("opens").insert(key, value).expect("inserts"));
    transaction.commit().expect("commits");
}
