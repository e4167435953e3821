//! What is always true of the registry. Checked before each commit, for the plugins
//! and routes that it touches, and by the property tests for everything.

use std::collections::BTreeSet;

use sluice_tensor::check_name;

use super::error::{Result, StoreError};
use super::limits::{
    BYTES_PER_OWNER_MAX, FACTS_BYTES_MAX, HISTORY_MAX, PLUGINS_MAX, PLUGINS_PER_OWNER_MAX, ROUTES_MAX,
    SPLIT_VERSIONS_MAX, SPLIT_WEIGHT_MAX, VERSIONS_PER_OWNER_MAX, VERSIONS_PER_PLUGIN_MAX,
};
use super::records::{PluginRecord, RouteRecord, VersionRecord, VersionState};
use super::state::{Key, RegistryState};

/// Checks what a change touched.
pub(super) fn check(state: &RegistryState, touched: &BTreeSet<Key>) -> Result<()> {
    let limit = |count: usize, max: usize, what: &'static str| {
        if count > max { Err(StoreError::Limit { what, max }) } else { Ok(()) }
    };
    limit(state.plugins.len(), PLUGINS_MAX, "plugins")?;
    limit(state.routes.len(), ROUTES_MAX, "splits and shadows")?;
    let mut plugins: BTreeSet<&str> = BTreeSet::new();
    for key in touched {
        match key {
            Key::Plugin(plugin) | Key::Version(plugin, _) | Key::Route(_, plugin) => {
                plugins.insert(plugin);
            }
            Key::Quarantined(..) => {}
        }
    }
    for plugin in &plugins {
        limit(state.versions(plugin).count(), VERSIONS_PER_PLUGIN_MAX, "versions of a plugin")?;
        match state.plugin(plugin) {
            Some(record) => check_plugin(state, record)?,
            None if state.versions(plugin).next().is_some() => {
                return Err(StoreError::Invalid("a version belongs to no plugin".to_owned()));
            }
            None => {}
        }
    }
    state
        .routes()
        .filter(|route| plugins.contains(route.plugin.as_str()))
        .try_for_each(|route| check_route(state, route))
}

/// What one owner may have: a new version must leave room for those of others.
pub(super) fn check_share(state: &RegistryState, record: &VersionRecord) -> Result<()> {
    let Some(owner) = &record.owner else { return Ok(()) };
    let is_theirs = |other: &Option<String>| other.as_ref() == Some(owner);
    let is_new = state.plugin(&record.plugin).is_none();
    let plugins = state.plugins().filter(|plugin| is_theirs(&plugin.owner)).count();
    if is_new && plugins >= PLUGINS_PER_OWNER_MAX {
        return Err(StoreError::Limit { what: "plugins of one owner", max: PLUGINS_PER_OWNER_MAX });
    }
    let theirs = state.all_versions().filter(|version| is_theirs(&version.owner));
    let (count, bytes) = theirs.fold((0, record.size_bytes), |(count, bytes), version| {
        (count + 1, bytes.saturating_add(version.size_bytes))
    });
    if count >= VERSIONS_PER_OWNER_MAX {
        return Err(StoreError::Limit { what: "versions of one owner", max: VERSIONS_PER_OWNER_MAX });
    }
    if bytes > BYTES_PER_OWNER_MAX {
        let max = usize::try_from(BYTES_PER_OWNER_MAX).unwrap_or(usize::MAX);
        return Err(StoreError::Limit { what: "bytes of components of one owner", max });
    }
    Ok(())
}

/// A plugin's active version is the one version that is active; its history is short
/// and names versions that one may return to.
pub(super) fn check_plugin(state: &RegistryState, record: &PluginRecord) -> Result<()> {
    name(&record.name, "plugin")?;
    if let Some(owner) = &record.owner {
        name(owner, "owner")?;
    }
    for version in state.versions(&record.name) {
        let is_active = version.state == VersionState::Active;
        if is_active != (record.active.as_deref() == Some(version.version.as_str())) {
            return Err(StoreError::Invalid("the active version and the version's state differ".to_owned()));
        }
    }
    if record.active.as_deref().is_some_and(|active| state.version(&record.name, active).is_none()) {
        return Err(StoreError::Invalid("the active version does not exist".to_owned()));
    }
    if record.history.len() > HISTORY_MAX {
        return Err(StoreError::Limit { what: "previous versions of a plugin", max: HISTORY_MAX });
    }
    let mut seen: BTreeSet<&str> = record.active.as_deref().into_iter().collect();
    for previous in &record.history {
        let may_return = state
            .version(&record.name, previous)
            .is_some_and(|it| !matches!(it.state, VersionState::Retired | VersionState::Failed));
        if !may_return || !seen.insert(previous) {
            return Err(StoreError::Invalid(
                "the history names a version that one cannot return to".to_owned(),
            ));
        }
    }
    Ok(())
}

/// A split and a shadow name versions that can serve, with weights that add up.
pub(super) fn check_route(state: &RegistryState, record: &RouteRecord) -> Result<()> {
    name(&record.pipeline, "pipeline")?;
    name(&record.plugin, "plugin")?;
    let servable = |version: &str| match state.version(&record.plugin, version) {
        None => Err(StoreError::NotFound { what: "version" }),
        Some(it) if it.state.is_servable() => Ok(()),
        Some(it) => Err(StoreError::NotReady { version: version.to_owned(), state: it.state }),
    };
    if record.split.len() > SPLIT_VERSIONS_MAX {
        return Err(StoreError::Limit { what: "versions in a split", max: SPLIT_VERSIONS_MAX });
    }
    for (version, weight) in &record.split {
        servable(version)?;
        if *weight > SPLIT_WEIGHT_MAX {
            return Err(StoreError::Invalid(format!("a weight is at most {SPLIT_WEIGHT_MAX}")));
        }
    }
    if !record.split.is_empty() && record.split.values().all(|weight| *weight == 0) {
        return Err(StoreError::Invalid("the weights of a split are all zero".to_owned()));
    }
    if let Some(shadow) = &record.shadow {
        servable(&shadow.version)?;
        if !(0.0..=1.0).contains(&shadow.sample) {
            return Err(StoreError::Invalid("the sample of a shadow is between 0 and 1".to_owned()));
        }
    }
    Ok(())
}

/// One step in the life of a version: its bytes never change, its state changes by
/// the table.
pub(super) fn check_step(before: Option<&VersionRecord>, after: &VersionRecord) -> Result<()> {
    name(&after.plugin, "plugin")?;
    name(&after.version, "version")?;
    if let Some(owner) = &after.owner {
        name(owner, "owner")?;
    }
    let facts_bytes = serde_json::to_vec(&after.facts).map_or(usize::MAX, |facts| facts.len());
    if facts_bytes > FACTS_BYTES_MAX {
        return Err(StoreError::Limit { what: "bytes of facts about a version", max: FACTS_BYTES_MAX });
    }
    let illegal = |from| StoreError::Illegal { version: after.version.clone(), from, to: after.state };
    match before {
        None if after.state.may_start() => Ok(()),
        None => Err(illegal(VersionState::Uploaded)),
        Some(before) => {
            let same = (&before.digest, before.size_bytes, before.source);
            if same != (&after.digest, after.size_bytes, after.source) {
                return Err(StoreError::Invalid("the content of a version never changes".to_owned()));
            }
            if before.state == after.state || before.state.may_become(after.state) {
                Ok(())
            } else {
                Err(illegal(before.state))
            }
        }
    }
}

pub(super) fn name(text: &str, what: &'static str) -> Result<()> {
    check_name(text).map_err(|_| StoreError::Name { what })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::records::BlobDigest;
    use super::*;

    #[test]
    fn no_owner_fills_the_memory_with_records() {
        let version = |number: usize, owner: &str| {
            let digest = BlobDigest::parse(&format!("sha256:{number:064x}")).expect("a digest");
            let (plugin, version) = (format!("p{}", number % 200), format!("v{number}"));
            VersionRecord { owner: Some(owner.to_owned()), ..VersionRecord::ready(plugin, version, digest) }
        };
        let mut state = RegistryState::default();
        for number in 0..VERSIONS_PER_OWNER_MAX {
            let record = version(number, "crowd");
            state.versions.insert((record.plugin.clone(), record.version.clone()), Arc::new(record));
        }
        assert!(check_share(&state, &version(9_999, "crowd")).is_err());
        assert!(check_share(&state, &version(9_999, "other")).is_ok());
    }
}
