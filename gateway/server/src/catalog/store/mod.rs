//! The crash-safe store: which plugins and versions there are, which are active, who
//! did what, and the components' bytes.
//!
//! Readers take [`Store::snapshot`], a pointer. A writer builds a [`Change`] on a
//! snapshot and commits it: one transaction with its audit line, durable before
//! [`Store::commit`] returns. The process may die at any point: after a restart, what
//! was acknowledged is whole, and anything else is whole or absent.
//!
//! | piece | what it does |
//! |---|---|
//! | [`records`] | what is remembered, and the table of a version's states |
//! | [`change`] | the moves of the lifecycle, as changes of records |
//! | `invariants` | what is true of every state that is committed |
//! | `layout`, `blobs` | the state directory, its lock, the bytes |
//! | `tables`, `backend` | `registry.redb` |
//! | `backup`, `recover`, `load` | the second copy, and the start after anything |
//! | [`faults`] | where tests kill the process or fail the disk |
//!
//! Everything here blocks on the disk: call it from a blocking thread.

mod audit;
mod backend;
mod backup;
mod blobs;
pub mod change;
mod error;
pub mod faults;
mod invariants;
mod layout;
pub mod limits;
mod load;
pub mod records;
mod recover;
mod state;
mod tables;
pub mod timestamp;

#[cfg(test)]
mod property_tests;
#[cfg(test)]
mod tests;

pub use blobs::{BlobWriter, StoredBlob};
pub use change::Change;
pub use error::StoreError;
pub use load::Problem;
pub use records::{
    AuditEntry, AuditRecord, BlobDigest, PluginRecord, RouteRecord, ShadowRecord, VersionRecord,
    VersionSource, VersionState,
};
pub use state::RegistryState;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};

use arc_swap::ArcSwap;

use audit::AuditLines;
use backup::Backup;
use blobs::Blobs;
use error::Result;
use layout::Layout;
use limits::AUDIT_PAGE_MAX;
use state::Key;
use tables::{META_GENERATION, Row, Table, Tables};

/// The registry of one state directory. It is this process's until the store and all
/// that came from it are dropped.
pub struct Store {
    state: Arc<ArcSwap<RegistryState>>,
    writer: Mutex<Writer>,
    blobs: Arc<Blobs>,
    layout: Layout,
    /// What was wrong at the start.
    problems: Vec<Problem>,
}

/// What a commit needs. One at a time.
struct Writer {
    /// None after a failed commit, until the file was opened again.
    tables: Option<Tables>,
    backup: Backup,
    /// The number of the last audit line.
    sequence: u64,
    /// Those that are kept.
    lines: AuditLines,
}

impl Store {
    /// Opens a state directory, or creates it (only its user may enter).
    ///
    /// Takes the lock, sweeps what a killed process left, reads everything. A registry
    /// that is broken is kept aside and restored from its copy; what that means stands
    /// in [`Store::problems`].
    ///
    /// # Errors
    /// [`StoreError::Locked`], [`StoreError::Newer`], [`StoreError::Unrecoverable`], or
    /// what the disk says. Nothing is changed then.
    pub fn open(dir: &Path) -> Result<Self> {
        let layout = Layout::prepare(dir)?;
        let lock = layout.lock()?;
        faults::point("open.locked");
        layout.sweep()?;
        faults::point("open.swept");
        let found = recover::find(&layout)?;
        faults::point("open.read");
        let (rows, loaded) = (found.rows, found.loaded);
        let mut problems = loaded.problems;
        let state = Arc::new(ArcSwap::from_pointee(loaded.state));
        let blobs = Arc::new(Blobs::new(layout.clone(), lock, Arc::clone(&state)));
        problems.extend(layout.warning().map(|what| Problem { place: ".".to_owned(), what }));
        let mut backup = Backup::new(&layout);
        if let Err(error) = backup.rewrite(state.load().generation(), &rows) {
            // Predictions must go on with a full disk; the next commit tries again.
            problems.push(Problem { place: "registry.backup".to_owned(), what: error.to_string() });
        }
        let tables = Some(found.tables);
        let writer = Writer { tables, backup, sequence: loaded.sequence, lines: loaded.lines };
        let mut store = Self { state, writer: Mutex::new(writer), blobs, layout, problems };
        store.check_blobs()?;
        faults::point("open.finished");
        Ok(store)
    }

    /// The registry now: a pointer, as cheap as it gets.
    pub fn snapshot(&self) -> Arc<RegistryState> {
        self.state.load_full()
    }

    /// What the operator should know: rows that cannot be read (not served, not
    /// deleted; see [`Change::discard`]), and what was found at the start.
    pub fn problems(&self) -> Vec<Problem> {
        let state = self.state.load();
        let quarantined = state
            .quarantined
            .iter()
            .map(|((table, key), what)| Problem { place: load::place(*table, key), what: what.to_string() });
        self.problems.iter().cloned().chain(quarantined).collect()
    }

    /// Begins a blob of at most `bytes_max` bytes.
    pub fn begin_blob(&self, bytes_max: u64) -> Result<BlobWriter> {
        self.blobs.begin(bytes_max)
    }

    /// Reads a blob whole and checks its digest.
    ///
    /// # Errors
    /// [`StoreError::NotFound`]; [`StoreError::Corrupt`] if the bytes have changed.
    pub fn read_blob(&self, digest: &BlobDigest) -> Result<Vec<u8>> {
        self.blobs.read(digest)
    }

    /// Commits a change with its audit line, and gives the registry after it. Both are
    /// durable when this returns.
    ///
    /// # Errors
    /// [`StoreError::Stale`] if a record that the change touches was changed since the
    /// snapshot it was built on: build it again. A refusal of the invariants. After
    /// [`StoreError::Full`] and [`StoreError::Io`] the registry is as before, and the
    /// store can be used again once the disk can.
    pub fn commit(&self, change: Change, audit: AuditEntry) -> Result<Arc<RegistryState>> {
        let mut writer = self.writer()?;
        self.write(&mut writer, change, audit)
    }

    /// Builds a change on the current registry while nobody else can commit, and
    /// commits it unless `decide` gives no audit line (nothing to do) or an error. So
    /// it is never stale. `decide` should not block.
    pub fn update<T, E: From<StoreError>>(
        &self,
        decide: impl FnOnce(&mut Change) -> Result<(T, Option<AuditEntry>), E>,
    ) -> Result<T, E> {
        let mut writer = self.writer()?;
        let mut change = Change::on(&self.snapshot());
        let (value, audit) = decide(&mut change)?;
        if let Some(audit) = audit {
            self.write(&mut writer, change, audit)?;
        }
        Ok(value)
    }

    /// Writes an audit line about something that changed nothing, such as a refusal.
    pub fn note(&self, audit: AuditEntry) -> Result<()> {
        self.update(|_| Ok(((), Some(audit))))
    }

    /// At most `limit` audit lines with numbers above `after`, oldest first. Lines that
    /// cannot be read are left out; [`Store::problems`] names them.
    pub fn audit(&self, after: u64, limit: usize) -> Result<Vec<AuditRecord>> {
        let writer = self.writer()?;
        let lines = writer.tables()?.audit(after, limit.min(AUDIT_PAGE_MAX))?;
        Ok(lines.iter().filter_map(|line| serde_json::from_str(line).ok()).collect())
    }

    /// The newest audit lines, at most `limit`, oldest first.
    pub fn newest_audit(&self, limit: usize) -> Result<Vec<AuditRecord>> {
        let limit = limit.min(AUDIT_PAGE_MAX);
        let lines = self.writer()?.tables()?.newest_audit(limit)?;
        Ok(lines.iter().filter_map(|line| serde_json::from_str(line).ok()).collect())
    }

    /// The writer, with open tables: they are opened again after a failed commit.
    fn writer(&self) -> Result<MutexGuard<'_, Writer>> {
        let mut writer = self.writer.lock().unwrap_or_else(|poisoned| {
            // A commit panicked: what it left shows when the file is opened again.
            self.writer.clear_poison();
            let mut writer = poisoned.into_inner();
            writer.tables = None;
            writer
        });
        if writer.tables.is_none() {
            self.reopen(&mut writer)?;
            writer.backup.distrust();
        }
        Ok(writer)
    }

    fn reopen(&self, writer: &mut Writer) -> Result<()> {
        let found = recover::reopen(&self.layout)?;
        writer.sequence = found.loaded.sequence;
        writer.lines = found.loaded.lines;
        writer.tables = Some(found.tables);
        self.state.store(Arc::new(found.loaded.state));
        Ok(())
    }

    fn write(&self, writer: &mut Writer, change: Change, audit: AuditEntry) -> Result<Arc<RegistryState>> {
        let before = self.snapshot();
        let mut change = change;
        let audit: Vec<AuditEntry> = change.notes.drain(..).chain([audit]).collect();
        let (mut next, touched) = change.onto(&before)?;
        self.check_new_blobs(&before, &next, &touched)?;
        next.generation = before.generation() + 1;
        let first = writer.sequence + 1;
        let last = first + u64::try_from(audit.len()).unwrap_or(0) - 1;
        let mut lines = writer.lines.clone();
        let rows = rows(&next, &touched, (first, &mut lines), audit)?;
        faults::point("commit.checked");
        if writer.backup.is_due() {
            let all =
                writer.tables()?.rows().map_err(|error| StoreError::redb("read the registry", error))?;
            writer.backup.rewrite(before.generation(), &all)?;
        }
        let bytes_before = writer.backup.bytes();
        writer.backup.append(next.generation(), &rows)?;
        faults::point("backup.appended");
        if let Err(error) = writer.tables()?.write(&rows) {
            // Whether the rows are there shows when the file is opened again. If they
            // are, the commit is done: the copy has it, whatever this disk does next.
            writer.tables = None;
            if let Err(again) = self.reopen(writer) {
                tracing::warn!(error = %again, "the registry cannot be opened again yet");
            }
            if self.state.load().generation() != next.generation() {
                let bytes = writer.backup.bytes() - bytes_before;
                writer.backup.take_back(bytes);
                return Err(error);
            }
        }
        faults::point("commit.durable");
        (writer.sequence, writer.lines) = (last, lines);
        let next = Arc::new(next);
        self.state.store(Arc::clone(&next));
        for key in &touched {
            if let Key::Version(plugin, version) = key
                && let Some(removed) = before.version(plugin, version)
                && next.version(plugin, version).is_none()
            {
                self.blobs.remove_unused(&removed.digest);
            }
        }
        Ok(next)
    }

    /// A version must not be acknowledged without its bytes.
    fn check_new_blobs(
        &self,
        before: &RegistryState,
        next: &RegistryState,
        touched: &BTreeSet<Key>,
    ) -> Result<()> {
        for key in touched {
            let Key::Version(plugin, version) = key else { continue };
            let Some(record) = next.version(plugin, version).filter(|it| it.source.has_blob()) else {
                continue;
            };
            let is_new = before.version(plugin, version).is_none();
            if is_new && self.blobs.length(&record.digest) != Some(record.size_bytes) {
                return Err(StoreError::NotFound { what: "blob" });
            }
        }
        Ok(())
    }

    /// At the start: reports versions whose blob is gone or cut short, and removes
    /// blobs that no version names, unless a version cannot be read that might.
    fn check_blobs(&mut self) -> Result<()> {
        let state = self.snapshot();
        for version in state.all_versions().filter(|version| version.source.has_blob()) {
            if self.blobs.length(&version.digest) != Some(version.size_bytes) {
                let place = load::place(Table::Versions, &format!("{}/{}", version.plugin, version.version));
                self.problems.push(Problem { place, what: "its blob is gone or cut short".to_owned() });
            }
        }
        if state.quarantined.keys().any(|(table, _)| *table == Table::Versions) {
            return Ok(());
        }
        let removed = self.blobs.sweep()?;
        if removed > 0 {
            tracing::info!(removed, "removed blobs that no version names");
        }
        Ok(())
    }
}

impl Writer {
    fn tables(&self) -> Result<&Tables> {
        self.tables
            .as_ref()
            .ok_or_else(|| StoreError::Corrupt { what: "the registry is not open".to_owned() })
    }
}

/// What a commit writes: the records it touched, its audit lines, its number; and old audit
/// lines go.
fn rows(
    next: &RegistryState,
    touched: &BTreeSet<Key>,
    (first, lines): (u64, &mut AuditLines),
    audit: Vec<AuditEntry>,
) -> Result<Vec<Row>> {
    let unwritable =
        |error: serde_json::Error| StoreError::Invalid(format!("a record cannot be written: {error}"));
    let mut rows =
        touched.iter().map(|key| next.row(key)).collect::<Result<Vec<_>, _>>().map_err(unwritable)?;
    for (sequence, entry) in (first..).zip(audit) {
        lines.add(&entry.actor, sequence);
        let record = AuditRecord::new(sequence, timestamp::now(), entry);
        let value = Some(serde_json::to_string(&record).map_err(unwritable)?);
        rows.push(Row { table: Table::Audit, key: tables::audit_key(sequence), value });
        while let Some(oldest) = lines.drop_one() {
            rows.push(Row { table: Table::Audit, key: tables::audit_key(oldest), value: None });
        }
    }
    let generation = Some(next.generation().to_string());
    rows.push(Row { table: Table::Meta, key: META_GENERATION.to_owned(), value: generation });
    Ok(rows)
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("layout", &self.layout).finish_non_exhaustive()
    }
}
