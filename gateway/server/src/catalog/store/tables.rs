//! The tables of `registry.redb`: rows of text by table and key, written in one
//! durable transaction.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use redb::{Database, Durability, ReadableDatabase, ReadableTable, TableDefinition};
use serde::{Deserialize, Serialize};

use super::backend::Backend;
use super::error::{Result, StoreError};

/// Memory that redb may use for its page cache. The whole registry is in memory
/// anyway; this is for commits.
const CACHE_BYTES: usize = 8 << 20;

/// The layout of rows and records that this program writes. A registry with a higher
/// number is refused.
pub(super) const SCHEMA: u64 = 1;

/// The keys of the table `meta`.
pub(super) const META_SCHEMA: &str = "schema";
pub(super) const META_GENERATION: &str = "generation";

/// A table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Table {
    Meta,
    Plugins,
    Versions,
    Routes,
    Audit,
}

impl Table {
    const ALL: [Self; 5] = [Self::Meta, Self::Plugins, Self::Versions, Self::Routes, Self::Audit];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Meta => "meta",
            Self::Plugins => "plugins",
            Self::Versions => "versions",
            Self::Routes => "routes",
            Self::Audit => "audit",
        }
    }

    fn definition(self) -> TableDefinition<'static, &'static str, &'static [u8]> {
        TableDefinition::new(self.name())
    }
}

/// One row to write; without a value it is removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Row {
    #[serde(rename = "t")]
    pub(super) table: Table,
    #[serde(rename = "k")]
    pub(super) key: String,
    #[serde(rename = "v")]
    pub(super) value: Option<String>,
}

/// The key of an audit line: text that sorts as the number does.
pub(super) fn audit_key(sequence: u64) -> String {
    format!("{sequence:020}")
}

/// Why there are no tables.
#[derive(Debug)]
pub(super) enum OpenError {
    /// There is no such file.
    Missing,
    /// There is one, and it is not, or not any more, a registry.
    Broken(String),
    /// Anything else: the file may be as good as ever.
    Store(StoreError),
}

/// An open `registry.redb`.
pub(super) struct Tables {
    database: Database,
}

impl Tables {
    /// Opens the file and reads everything. Checks every page: what is broken shows
    /// here, and not in the middle of a commit.
    pub(super) fn open(path: &Path) -> Result<(Self, Vec<Row>), OpenError> {
        let file = match OpenOptions::new().read(true).write(true).open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(OpenError::Missing),
            Err(error) => return Err(OpenError::Store(StoreError::at("open the registry", path, &error))),
        };
        match file.metadata() {
            // redb would take it for a new one.
            Ok(metadata) if metadata.len() == 0 => return Err(OpenError::Broken("it is empty".to_owned())),
            Ok(_) => {}
            Err(error) => return Err(OpenError::Store(StoreError::at("open the registry", path, &error))),
        }
        // redb means to answer a broken file with an error, but does not promise it.
        let opened = catch_unwind(AssertUnwindSafe(|| {
            let tables = Self::on(file)?;
            let rows = tables.rows()?;
            Ok::<_, redb::Error>((tables, rows))
        }));
        match opened {
            Ok(Ok(opened)) => Ok(opened),
            Ok(Err(error)) => Err(classify(error)),
            Err(_) => Err(OpenError::Broken("reading it panicked".to_owned())),
        }
    }

    /// Writes a new file with these rows, durably, but for its name in the directory.
    pub(super) fn create(path: &Path, rows: &[Row]) -> Result<()> {
        let fault = |error: io::Error| StoreError::at("create the registry", path, &error);
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create_new(true).mode(0o600).open(path).map_err(fault)?;
        let tables = Self::on(file).map_err(|error| StoreError::redb("create the registry", error))?;
        tables.write(rows)?;
        tables.database.close().map_err(|error| StoreError::redb("create the registry", error))
    }

    fn on(file: File) -> Result<Self, redb::Error> {
        let mut builder = Database::builder();
        builder.set_cache_size(CACHE_BYTES).set_check_integrity_on_open(true);
        Ok(Self { database: builder.create_with_backend(Backend::new(file))? })
    }

    /// Every row. Values that are not UTF-8 are no values of ours: they come with
    /// replacement characters, and will not parse.
    pub(super) fn rows(&self) -> Result<Vec<Row>, redb::Error> {
        let transaction = self.database.begin_read()?;
        let mut rows = Vec::new();
        for table in Table::ALL {
            for entry in transaction.open_table(table.definition())?.iter()? {
                let (key, value) = entry?;
                let value = String::from_utf8_lossy(value.value()).into_owned();
                rows.push(Row { table, key: key.value().to_owned(), value: Some(value) });
            }
        }
        Ok(rows)
    }

    /// Writes rows in one transaction, durable when this returns. After an error the
    /// tables cannot be used any more: whether the rows are there shows when they
    /// are opened again.
    pub(super) fn write(&self, rows: &[Row]) -> Result<()> {
        self.try_write(rows).map_err(|error| StoreError::redb("write the registry", error))
    }

    fn try_write(&self, rows: &[Row]) -> Result<(), redb::Error> {
        let mut transaction = self.database.begin_write()?;
        transaction.set_durability(Durability::Immediate)?;
        for table in Table::ALL {
            let mut open = transaction.open_table(table.definition())?;
            for row in rows.iter().filter(|row| row.table == table) {
                match &row.value {
                    Some(value) => drop(open.insert(row.key.as_str(), value.as_bytes())?),
                    None => drop(open.remove(row.key.as_str())?),
                }
            }
        }
        Ok(transaction.commit()?)
    }

    /// The newest audit lines, at most `limit`, oldest first.
    pub(super) fn newest_audit(&self, limit: usize) -> Result<Vec<String>> {
        let read = || -> Result<Vec<String>, redb::Error> {
            let table = self.database.begin_read()?.open_table(Table::Audit.definition())?;
            let mut lines = Vec::new();
            for entry in table.range::<&str>(..)?.rev().take(limit) {
                lines.push(String::from_utf8_lossy(entry?.1.value()).into_owned());
            }
            lines.reverse();
            Ok(lines)
        };
        read().map_err(|error| StoreError::redb("read the audit log", error))
    }

    /// At most `limit` audit lines after this one, in order.
    pub(super) fn audit(&self, after: u64, limit: usize) -> Result<Vec<String>> {
        let read = || -> Result<Vec<String>, redb::Error> {
            let Some(first) = after.checked_add(1) else { return Ok(Vec::new()) };
            let table = self.database.begin_read()?.open_table(Table::Audit.definition())?;
            let mut lines = Vec::new();
            for entry in table.range(audit_key(first).as_str()..)?.take(limit) {
                lines.push(String::from_utf8_lossy(entry?.1.value()).into_owned());
            }
            Ok(lines)
        };
        read().map_err(|error| StoreError::redb("read the audit log", error))
    }
}

/// Tells a broken file from a disk that cannot be read or written just now.
fn classify(error: redb::Error) -> OpenError {
    use io::ErrorKind::{InvalidData, UnexpectedEof};
    match error {
        redb::Error::Corrupted(_)
        | redb::Error::RepairAborted
        | redb::Error::TableDoesNotExist(_)
        | redb::Error::TableTypeMismatch { .. } => OpenError::Broken(error.to_string()),
        redb::Error::Io(error) if matches!(error.kind(), InvalidData | UnexpectedEof) => {
            OpenError::Broken(error.to_string())
        }
        other => OpenError::Store(StoreError::redb("open the registry", other)),
    }
}
