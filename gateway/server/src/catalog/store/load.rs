//! Rows into records. A row that cannot be read is set aside and reported; it is
//! neither served nor deleted.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::de::DeserializeOwned;

use super::audit::AuditLines;
use super::error::{Result, StoreError};
use super::invariants;
use super::records::{AuditRecord, PluginRecord, RouteRecord, VersionRecord, VersionState};
use super::state::RegistryState;
use super::tables::{META_GENERATION, META_SCHEMA, OpenError, Row, SCHEMA, Table};

/// Something about the registry that the operator should know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Where: `versions/rank/2`, or a file of the state directory.
    pub place: String,
    /// What is wrong and what was done about it.
    pub what: String,
}

/// The rows, read.
pub(super) struct Loaded {
    pub(super) state: RegistryState,
    /// The number of the last audit line.
    pub(super) sequence: u64,
    /// Those that are kept.
    pub(super) lines: AuditLines,
    /// What was put right in memory. Unreadable rows are in the state.
    pub(super) problems: Vec<Problem>,
}

/// How a row is called in reports.
pub(super) fn place(table: Table, key: &str) -> String {
    format!("{}/{key}", table.name())
}

/// The schema and generation that the rows name. A registry without them is broken.
pub(super) fn meta(rows: &[Row]) -> Result<u64, OpenError> {
    let number = |key: &str| {
        let row = rows.iter().rfind(|row| row.table == Table::Meta && row.key == key);
        let value = row.and_then(|row| row.value.as_deref()?.parse::<u64>().ok());
        value.ok_or_else(|| OpenError::Broken(format!("it names no {key}")))
    };
    match number(META_SCHEMA)? {
        found if found > SCHEMA => Err(OpenError::Store(StoreError::Newer { found, known: SCHEMA })),
        _ => number(META_GENERATION),
    }
}

/// Reads rows whose generation is known.
pub(super) fn load(rows: &[Row], generation: u64) -> Loaded {
    let mut state = RegistryState { generation, ..RegistryState::default() };
    let (mut sequence, mut lines) = (0, AuditLines::default());
    for row in rows {
        let Some(text) = row.value.as_deref() else { continue };
        let read = match row.table {
            Table::Meta => Ok(()),
            Table::Plugins => parse::<PluginRecord>(text, &row.key, |it| it.name.clone())
                .map(|record| drop(state.plugins.insert(record.name.clone(), Arc::new(record)))),
            Table::Versions => {
                parse::<VersionRecord>(text, &row.key, |it| format!("{}/{}", it.plugin, it.version)).map(
                    |record| {
                        let key = (record.plugin.clone(), record.version.clone());
                        state.versions.insert(key, Arc::new(record));
                    },
                )
            }
            Table::Routes => {
                parse::<RouteRecord>(text, &row.key, |it| format!("{}/{}", it.pipeline, it.plugin)).map(
                    |record| {
                        let key = (record.pipeline.clone(), record.plugin.clone());
                        state.routes.insert(key, Arc::new(record));
                    },
                )
            }
            Table::Audit => {
                let number = row.key.parse().unwrap_or(0);
                sequence = sequence.max(number);
                let read = parse::<AuditRecord>(text, &row.key, |it| super::tables::audit_key(it.sequence));
                // Those that cannot be read are nobody's, and go in their turn.
                lines.add(read.as_ref().map_or("", |record| &record.actor), number);
                read.map(drop)
            }
        };
        if let Err(what) = read {
            state.quarantined.insert((row.table, row.key.clone()), what.into());
        }
    }
    let problems = put_right(&mut state);
    Loaded { state, sequence, lines, problems }
}

/// A record, if it is one, and the one that its key says.
fn parse<T: DeserializeOwned>(text: &str, key: &str, own_key: impl Fn(&T) -> String) -> Result<T, String> {
    let record =
        serde_json::from_str(text).map_err(|error| format!("cannot be read, kept aside: {error}"))?;
    if own_key(&record) != key {
        return Err("its key is another record's, kept aside".to_owned());
    }
    Ok(record)
}

/// A record may be fine and still name one that is not there any more. What it names
/// is then not served; the stored record changes with the next change of it.
fn put_right(state: &mut RegistryState) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut report =
        |table, key: &str, what: String| problems.push(Problem { place: place(table, key), what });
    let mut plugins = BTreeMap::new();
    for (name, record) in &state.plugins {
        let mut right = PluginRecord::clone(record);
        let can_serve = |version: &String| {
            state.version(name, version).is_some_and(|it| it.state == VersionState::Active)
        };
        if let Some(active) = right.active.take_if(|active| !can_serve(active)) {
            report(Table::Plugins, name, format!("its active version {active} cannot be served"));
        }
        let may_return =
            |it: &Arc<VersionRecord>| !matches!(it.state, VersionState::Retired | VersionState::Failed);
        let before = right.history.len();
        right.history.retain(|version| state.version(name, version).is_some_and(may_return));
        if right.history.len() != before {
            report(Table::Plugins, name, "a previous version is gone".to_owned());
        }
        let changed = right != **record;
        plugins.insert(name.clone(), if changed { Arc::new(right) } else { Arc::clone(record) });
    }
    state.plugins = plugins;
    for ((plugin, version), record) in &mut state.versions {
        let active = state.plugins.get(plugin).and_then(|it| it.active.as_deref());
        if record.state == VersionState::Active && active != Some(version.as_str()) {
            Arc::make_mut(record).state = VersionState::Draining;
            report(
                Table::Versions,
                &format!("{plugin}/{version}"),
                "it is not its plugin's active version".to_owned(),
            );
        }
    }
    let broken = |route: &Arc<RouteRecord>| invariants::check_route(state, route).err();
    let broken: Vec<_> =
        state.routes().filter_map(|route| Some((Arc::clone(route), broken(route)?))).collect();
    for (route, error) in broken {
        state.routes.remove(&(route.pipeline.clone(), route.plugin.clone()));
        let key = format!("{}/{}", route.pipeline, route.plugin);
        state
            .quarantined
            .insert((Table::Routes, key), format!("cannot be followed, kept aside: {error}").into());
    }
    problems
}
