//! Finding the registry at the start: the database if it can be read, else the copy.

use std::path::Path;

use super::backup::{self, ReadError};
use super::error::{Result, StoreError};
use super::layout::{Layout, sync_directory};
use super::load::{self, Loaded, Problem};
use super::tables::{META_GENERATION, META_SCHEMA, OpenError, Row, SCHEMA, Table, Tables};

/// How many broken files are kept aside; a registry that breaks more often than this
/// needs a person.
const BROKEN_FILES_MAX: u32 = 100;

/// The open registry with all its rows.
pub(super) struct Found {
    pub(super) tables: Tables,
    pub(super) rows: Vec<Row>,
    pub(super) loaded: Loaded,
}

/// Opens the registry, whatever state it was left in: creates it in an empty
/// directory, and puts the copy in its place if it is broken or gone.
pub(super) fn find(layout: &Layout) -> Result<Found> {
    match open(layout) {
        Ok(found) => catch_up(layout, found),
        Err(OpenError::Store(error)) => Err(error),
        Err(OpenError::Missing) => match read_copy(layout, "it is gone")? {
            None => {
                create(layout, &first_rows())?;
                reopen(layout)
            }
            Some(copy) => restore(layout, copy, "registry.redb was gone".to_owned()),
        },
        Err(OpenError::Broken(why)) => match read_copy(layout, &why)? {
            None => Err(StoreError::Unrecoverable { registry: why, backup: "there is none".to_owned() }),
            Some(copy) => {
                let name = set_aside(layout)?;
                restore(layout, copy, format!("registry.redb was broken ({why}) and is kept as {name}"))
            }
        },
    }
}

/// Opens a registry that is known to be there.
pub(super) fn reopen(layout: &Layout) -> Result<Found> {
    open(layout).map_err(|error| match error {
        OpenError::Store(error) => error,
        OpenError::Broken(what) => StoreError::Corrupt { what: format!("registry.redb: {what}") },
        OpenError::Missing => StoreError::Corrupt { what: "registry.redb is gone".to_owned() },
    })
}

fn open(layout: &Layout) -> Result<Found, OpenError> {
    let (tables, rows) = Tables::open(&layout.registry())?;
    let generation = load::meta(&rows)?;
    let loaded = load::load(&rows, generation);
    Ok(Found { tables, rows, loaded })
}

/// A commit is in the copy before it is in the registry. One that is only there was
/// under way when the process died: it is whole, so it counts. More than one means
/// that the disk lost what it said it had written.
fn catch_up(layout: &Layout, found: Found) -> Result<Found> {
    let generation = found.loaded.state.generation();
    // A copy that cannot be read is written anew from what was found.
    let Ok(Some(copy)) = backup::read(&layout.backup()) else { return Ok(found) };
    match copy.generation.checked_sub(generation) {
        None | Some(0) => Ok(found),
        Some(1) => {
            drop(found);
            tracing::info!(generation, "the last commit was under way when the gateway ended");
            create(layout, &copy.rows)?;
            reopen(layout)
        }
        Some(behind) => {
            drop(found);
            let name = set_aside(layout)?;
            restore(layout, copy, format!("registry.redb was {behind} commits behind and is kept as {name}"))
        }
    }
}

fn read_copy(layout: &Layout, why: &str) -> Result<Option<backup::Restored>> {
    backup::read(&layout.backup()).map_err(|error| match error {
        ReadError::Newer(found) => StoreError::Newer { found, known: SCHEMA },
        ReadError::Broken(backup) => StoreError::Unrecoverable { registry: why.to_owned(), backup },
    })
}

fn restore(layout: &Layout, copy: backup::Restored, why: String) -> Result<Found> {
    create(layout, &copy.rows)?;
    let mut found = reopen(layout)?;
    let mut what = format!("{why}; generation {} was restored from registry.backup", copy.generation);
    if let Some(problem) = copy.problem {
        what = format!("{what}; {problem}");
    }
    found.loaded.problems.push(Problem { place: "registry.redb".to_owned(), what });
    Ok(found)
}

/// Writes a registry beside, and only then gives it its name.
fn create(layout: &Layout, rows: &[Row]) -> Result<()> {
    let temporary = layout.tmp().join("registry.redb");
    Tables::create(&temporary, rows)?;
    let fault = |error| StoreError::at("create the registry", layout.root(), &error);
    std::fs::rename(&temporary, layout.registry()).map_err(fault)?;
    sync_directory(layout.root()).map_err(fault)
}

fn first_rows() -> Vec<Row> {
    let row = |key: &str, value: u64| Row {
        table: Table::Meta,
        key: key.to_owned(),
        value: Some(value.to_string()),
    };
    vec![row(META_SCHEMA, SCHEMA), row(META_GENERATION, 0)]
}

/// Gives the registry another name, and says which.
fn set_aside(layout: &Layout) -> Result<String> {
    let fault = |path: &Path, error| StoreError::at("set the broken registry aside", path, &error);
    for number in 1..=BROKEN_FILES_MAX {
        let name = format!("registry.redb.broken-{number}");
        let path = layout.root().join(&name);
        // A hard link fails where a rename would replace an older broken file.
        match std::fs::hard_link(layout.registry(), &path) {
            Ok(()) => {
                std::fs::remove_file(layout.registry()).map_err(|error| fault(&path, error))?;
                return Ok(name);
            }
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(fault(&path, error)),
        }
    }
    Err(StoreError::Invalid(format!("there are {BROKEN_FILES_MAX} broken registries already: remove some")))
}
