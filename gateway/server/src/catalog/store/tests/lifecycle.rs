//! The states of versions, and who gets which.

use super::*;

#[test]
fn a_version_lives_through_the_states_in_their_order_only() {
    use VersionState::*;
    let life = [Uploaded, Verified, Compiled, Canary, Ready, Active, Draining, Retired];
    assert!(life.windows(2).all(|step| step[0].may_become(step[1])));
    for (from, to) in
        [(Uploaded, Ready), (Uploaded, Active), (Canary, Active), (Failed, Ready), (Retired, Active)]
    {
        assert!(!from.may_become(to), "{from} {to}");
    }
    assert!(VersionState::ALL.iter().all(|state| !state.may_become(*state)));
    let (_dir, store) = fresh();
    let stored = blob(&store, b"one");
    let early = VersionRecord { state: Uploaded, ..record("rank", "1", &stored) };
    change(&store, |change| change.add_version(early)).expect("adds");
    let error = activate(&store, "rank", "1").expect_err("is not ready");
    assert!(matches!(error, StoreError::Illegal { from: Uploaded, to: Active, .. }), "{error}");
    for state in [Verified, Compiled, Canary, Ready] {
        change(&store, |change| change.advance("rank", "1", state, None)).expect("moves on");
    }
    assert!(activate(&store, "rank", "1").expect("activates"));
    assert!(!activate(&store, "rank", "1").expect("is active already"));
    let active = VersionRecord { state: Active, ..record("rank", "2", &stored) };
    assert!(change(&store, |change| change.add_version(active)).is_err(), "nothing is born active");
}

/// P22.
#[test]
fn a_version_in_use_is_not_removed_retired_or_failed() {
    let (_dir, store) = fresh();
    for version in ["1", "2", "3"] {
        upload(&store, "rank", version, version.as_bytes()).expect("uploads");
    }
    activate(&store, "rank", "1").expect("activates");
    let route = RouteRecord {
        pipeline: "movies".to_owned(),
        plugin: "rank".to_owned(),
        split: [("1".to_owned(), 1), ("2".to_owned(), 1)].into(),
        shadow: Some(ShadowRecord { version: "3".to_owned(), sample: 1.0 }),
    };
    change(&store, |change| change.set_route(route)).expect("splits");
    for version in ["1", "2", "3"] {
        let removed = change(&store, |change| change.remove_version("rank", version));
        let retired = change(&store, |change| change.advance("rank", version, VersionState::Retired, None));
        let failed = change(&store, |change| change.advance("rank", version, VersionState::Failed, None));
        for outcome in [removed, retired, failed] {
            let error = outcome.expect_err("is in use");
            assert!(matches!(error, StoreError::InUse { .. }), "{version}: {error}");
            assert_eq!(Error::from(error).kind(), Kind::InUse);
        }
    }
    assert!(change(&store, |change| change.remove_route("movies", "rank")).expect("removes"));
    change(&store, |change| change.remove_version("rank", "3")).expect("is not in use any more");
}

#[test]
fn rolling_back_twice_goes_back_two_versions_and_then_to_the_configuration() {
    let (_dir, store) = fresh();
    for version in ["1", "2", "3"] {
        upload(&store, "rank", version, version.as_bytes()).expect("uploads");
        activate(&store, "rank", version).expect("activates");
    }
    let roll_back = |configured| change(&store, |change| change.roll_back("rank", configured));
    assert_eq!(roll_back(false).expect("rolls back"), Some("2".to_owned()));
    assert_eq!(store.snapshot().version("rank", "3").unwrap().state, VersionState::Draining);
    assert_eq!(roll_back(false).expect("rolls back"), Some("1".to_owned()));
    assert!(matches!(roll_back(false), Err(StoreError::NotFound { .. })));
    assert_eq!(roll_back(true).expect("to the configuration"), None);
    assert!(store.snapshot().active("rank").is_none());
    assert!(matches!(roll_back(true), Err(StoreError::NotFound { .. })));
}

#[test]
fn a_version_that_was_just_rolled_back_can_be_tried_on_a_part_of_the_traffic() {
    let (_dir, store) = fresh();
    for version in ["1", "2"] {
        upload(&store, "rank", version, version.as_bytes()).expect("uploads");
        activate(&store, "rank", version).expect("activates");
    }
    change(&store, |change| change.roll_back("rank", false)).expect("rolls back");
    let route = RouteRecord {
        pipeline: "movies".to_owned(),
        plugin: "rank".to_owned(),
        split: [("1".to_owned(), 9), ("2".to_owned(), 1)].into(),
        shadow: None,
    };
    change(&store, |change| change.set_route(route)).expect("splits");
    let states = ["1", "2"].map(|version| store.snapshot().version("rank", version).expect("is there").state);
    assert_eq!(states, [VersionState::Active, VersionState::Ready]);
}

#[test]
fn the_history_is_bounded_and_holds_nothing_one_cannot_return_to() {
    let (_dir, store) = fresh();
    for number in 0..limits::HISTORY_MAX + 4 {
        let version = number.to_string();
        upload(&store, "rank", &version, version.as_bytes()).expect("uploads");
        activate(&store, "rank", &version).expect("activates");
    }
    let history = store.snapshot().plugin("rank").expect("is there").history.clone();
    assert_eq!(history.len(), limits::HISTORY_MAX);
    let last = history.last().expect("is not empty").clone();
    change(&store, |change| change.advance("rank", &last, VersionState::Retired, None)).expect("retires");
    assert!(!store.snapshot().plugin("rank").expect("is there").history.contains(&last));
}

#[test]
fn a_change_built_on_what_somebody_else_changed_meanwhile_is_stale() {
    let (_dir, store) = fresh();
    for (plugin, version) in [("rank", "1"), ("rank", "2"), ("other", "1")] {
        upload(&store, plugin, version, b"x").expect("uploads");
    }
    let base = store.snapshot();
    let mut first = Change::on(&base);
    first.activate("rank", "1").expect("may");
    let mut second = Change::on(&base);
    second.activate("rank", "2").expect("may");
    let mut elsewhere = Change::on(&base);
    elsewhere.activate("other", "1").expect("may");
    store.commit(first, audit("activate")).expect("wins");
    let error = store.commit(second, audit("activate")).expect_err("comes too late");
    assert!(matches!(error, StoreError::Stale), "{error}");
    store.commit(elsewhere, audit("activate")).expect("another plugin is another matter");
    let state = store.snapshot();
    assert_eq!(state.active("rank").map(|it| it.version.as_str()), Some("1"));
    assert_eq!(state.active("other").map(|it| it.version.as_str()), Some("1"));
}

#[test]
fn a_split_cannot_name_a_version_that_is_removed_at_the_same_time() {
    let (_dir, store) = fresh();
    upload(&store, "rank", "1", b"x").expect("uploads");
    upload(&store, "rank", "2", b"y").expect("uploads");
    let base = store.snapshot();
    let mut removal = Change::on(&base);
    removal.remove_version("rank", "2").expect("may");
    let mut split = Change::on(&base);
    let weights = [("2".to_owned(), 1)].into();
    let route =
        RouteRecord { pipeline: "p".to_owned(), plugin: "rank".to_owned(), split: weights, shadow: None };
    split.set_route(route).expect("may");
    store.commit(removal, audit("delete")).expect("wins");
    store.commit(split, audit("split")).expect_err("what it names is gone");
    assert_eq!(store.snapshot().routes().count(), 0);
}

#[test]
fn names_that_could_be_paths_and_numbers_beyond_the_bounds_are_refused() {
    let (_dir, store) = fresh();
    let stored = blob(&store, b"x");
    for bad in ["", "..", "a/b", "a\0", &"x".repeat(129)] {
        for record in [record(bad, "1", &stored), record("rank", bad, &stored)] {
            let error = change(&store, |change| change.add_version(record)).expect_err("is no name");
            assert!(matches!(error, StoreError::Name { .. }), "{bad:?}: {error}");
        }
    }
    let facts = serde_json::Value::String("x".repeat(limits::FACTS_BYTES_MAX));
    let large = VersionRecord { facts, ..record("rank", "1", &stored) };
    assert!(matches!(change(&store, |change| change.add_version(large)), Err(StoreError::Limit { .. })));
    let add_all = |plugin: &str, count: usize| {
        change(&store, |change| {
            (0..count).try_for_each(|n| change.add_version(record(plugin, &n.to_string(), &stored)).map(drop))
        })
    };
    add_all("rank", limits::VERSIONS_PER_PLUGIN_MAX).expect("fits");
    let error = add_all("more", limits::VERSIONS_PER_PLUGIN_MAX + 1).expect_err("is one too many");
    assert_eq!(Error::from(error).kind(), Kind::StorageFull);
    for (weight, sample) in [(0, 0.5), (limits::SPLIT_WEIGHT_MAX + 1, 0.5), (1, 1.5), (1, f64::NAN)] {
        let route = RouteRecord {
            pipeline: "p".to_owned(),
            plugin: "rank".to_owned(),
            split: [("1".to_owned(), weight)].into(),
            shadow: Some(ShadowRecord { version: "1".to_owned(), sample }),
        };
        let outcome = change(&store, |change| change.set_route(route));
        assert!(matches!(outcome, Err(StoreError::Invalid(_))), "{weight} {sample}: {outcome:?}");
    }
}

#[test]
fn no_owner_takes_all_names_or_the_whole_disk() {
    let (_dir, store) = fresh();
    let stored = blob(&store, b"x");
    let mut change = Change::on(&store.snapshot());
    for number in 0..limits::PLUGINS_PER_OWNER_MAX {
        change.add_version(record(&format!("p{number}"), "1", &stored)).expect("within the share");
    }
    let more = change.add_version(record("one-more", "1", &stored));
    assert!(matches!(more, Err(StoreError::Limit { .. })), "{more:?}");
    change.add_version(record("p0", "2", &stored)).expect("a version of a plugin that is there");
    let others = VersionRecord { owner: Some("other".to_owned()), ..record("theirs", "1", &stored) };
    change.add_version(others).expect("another owner has a share of their own");
    let huge = VersionRecord { size_bytes: limits::BYTES_PER_OWNER_MAX, ..record("p0", "3", &stored) };
    let huge = change.add_version(huge);
    assert!(matches!(huge, Err(StoreError::Limit { .. })), "{huge:?}");
}
