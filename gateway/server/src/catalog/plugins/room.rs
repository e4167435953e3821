//! Room for a new version, where a plugin has as many as it may.

use std::sync::Arc;

use super::super::store::limits::VERSIONS_PER_PLUGIN_MAX;
use super::super::store::{Change, StoreError, VersionRecord, VersionState};
use super::Actor;

/// A plugin remembers so many versions; the oldest of those that are of no use any more
/// makes room for a new one, with an audit line of its own. Gives its name.
pub(super) fn make_room(
    change: &mut Change,
    plugin: &str,
    actor: &Actor,
) -> Result<Option<String>, StoreError> {
    let state = change.state();
    if state.versions(plugin).count() < VERSIONS_PER_PLUGIN_MAX {
        return Ok(None);
    }
    let history = state.plugin(plugin).map(|record| record.history.clone()).unwrap_or_default();
    let is_useless = |record: &&Arc<VersionRecord>| {
        let may_go =
            matches!(record.state, VersionState::Retired | VersionState::Failed | VersionState::Ready);
        may_go && state.used_by(plugin, &record.version).is_none() && !history.contains(&record.version)
    };
    // What failed or was retired goes before what could still be activated.
    let rank =
        |record: &&Arc<VersionRecord>| (record.state == VersionState::Ready, record.uploaded_at.clone());
    let oldest = state.versions(plugin).filter(is_useless).min_by_key(rank).cloned();
    let Some(oldest) = oldest else { return Ok(None) };
    change.remove_version(plugin, &oldest.version)?;
    let (target, from) = (format!("{plugin}/{}", oldest.version), Some(oldest.digest.to_string()));
    change.also(actor.audit("evict", &target, from, None, "ok"));
    Ok(Some(oldest.version.clone()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::store::BlobDigest;

    fn version(number: usize, owner: &str) -> VersionRecord {
        let digest = BlobDigest::parse(&format!("sha256:{number:064x}")).expect("a digest");
        VersionRecord {
            owner: Some(owner.to_owned()),
            uploaded_at: format!("2026-01-01T00:00:00.{number:03}Z"),
            ..VersionRecord::ready("p", format!("v{number:03}"), digest)
        }
    }

    #[test]
    fn a_version_that_makes_room_is_named_and_written_down() {
        let mut change = Change::on(&Arc::default());
        for number in 0..VERSIONS_PER_PLUGIN_MAX {
            assert_eq!(make_room(&mut change, "p", &Actor::gateway()).expect("room"), None);
            change.add_version(version(number, "team-a")).expect("added");
        }
        change.activate("p", "v000").expect("activated");
        let evicted = make_room(&mut change, "p", &Actor::gateway()).expect("room");
        assert_eq!(evicted.as_deref(), Some("v001"), "the oldest that is of no use");
        let notes: Vec<_> = change.notes().iter().map(|note| (&*note.action, &*note.target)).collect();
        assert_eq!(notes, [("evict", "p/v001")]);
        change.add_version(version(999, "team-a")).expect("there is room");
        let others = change.add_version(version(1_000, "team-b"));
        assert!(matches!(others, Err(StoreError::OtherOwner)), "{others:?}");
    }
}
