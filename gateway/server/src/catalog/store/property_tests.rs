//! Random moves, alone and against each other, leave a registry that makes sense. What
//! that means is written down here once more, apart from the code that keeps it.

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone)]
enum Move {
    Add(u8, u8, u8),
    Advance(u8, u8, usize),
    Activate(u8, u8),
    RollBack(u8, bool),
    Remove(u8, u8),
    Split(u8, Vec<(u8, u32)>, Option<u8>),
    Unsplit(u8),
}

fn moves() -> impl Strategy<Value = Move> {
    let (plugin, version) = (0_u8..2, 0_u8..12);
    let arms = prop::collection::vec((0_u8..12, 0_u32..3), 0..4);
    prop_oneof![
        3 => (plugin.clone(), version.clone(), 0_u8..2).prop_map(|(p, v, content)| Move::Add(p, v, content)),
        4 => (plugin.clone(), version.clone(), 0_usize..9).prop_map(|(p, v, to)| Move::Advance(p, v, to)),
        6 => (plugin.clone(), version.clone()).prop_map(|(p, v)| Move::Activate(p, v)),
        3 => (plugin.clone(), any::<bool>()).prop_map(|(p, configured)| Move::RollBack(p, configured)),
        2 => (plugin.clone(), version).prop_map(|(p, v)| Move::Remove(p, v)),
        2 => (plugin.clone(), arms, prop::option::of(0_u8..12)).prop_map(|(p, arms, s)| Move::Split(p, arms, s)),
        1 => plugin.prop_map(Move::Unsplit),
    ]
}

fn plugin(number: u8) -> String {
    format!("p{number}")
}

fn record(number: u8, version: u8, content: u8) -> VersionRecord {
    let digest = BlobDigest::from_hash(&[content; 32]);
    VersionRecord {
        source: VersionSource::File,
        ..VersionRecord::ready(plugin(number), version.to_string(), digest)
    }
}

fn make(change: &mut Change, step: &Move) -> Result<(), StoreError> {
    match step {
        Move::Add(p, v, content) => change.add_version(record(*p, *v, *content)).map(drop),
        Move::Advance(p, v, to) => {
            change.advance(&plugin(*p), &v.to_string(), VersionState::ALL[*to], Some("reason".to_owned()))
        }
        Move::Activate(p, v) => change.activate(&plugin(*p), &v.to_string()).map(drop),
        Move::RollBack(p, configured) => change.roll_back(&plugin(*p), *configured).map(drop),
        Move::Remove(p, v) => change.remove_version(&plugin(*p), &v.to_string()),
        Move::Split(p, arms, shadow) => change.set_route(RouteRecord {
            pipeline: "pipeline".to_owned(),
            plugin: plugin(*p),
            split: arms.iter().map(|(version, weight)| (version.to_string(), *weight)).collect(),
            shadow: shadow.map(|version| ShadowRecord { version: version.to_string(), sample: 0.5 }),
        }),
        Move::Unsplit(p) => change.remove_route("pipeline", &plugin(*p)).map(drop),
    }
}

fn assert_makes_sense(state: &RegistryState) {
    let mut active: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for version in state.all_versions() {
        assert!(state.plugin(&version.plugin).is_some(), "a version without a plugin");
        if version.state == VersionState::Active {
            active.entry(&version.plugin).or_default().push(&version.version);
        }
    }
    for record in state.plugins() {
        let expected: Vec<&str> = record.active.as_deref().into_iter().collect();
        assert_eq!(active.remove(record.name.as_str()).unwrap_or_default(), expected, "{record:?}");
        assert!(record.history.len() <= limits::HISTORY_MAX);
        for previous in &record.history {
            let version = state.version(&record.name, previous).expect("one can go back to what exists");
            assert!(!matches!(
                version.state,
                VersionState::Retired | VersionState::Failed | VersionState::Active
            ));
        }
        assert!(state.versions(&record.name).next().is_some(), "a plugin without versions");
    }
    for route in state.routes() {
        assert!(!route.split.is_empty() || route.shadow.is_some(), "a route that says nothing");
        let shadow = route.shadow.iter().map(|shadow| &shadow.version);
        for version in route.split.keys().chain(shadow) {
            let version = state.version(&route.plugin, version).expect("a route names what exists");
            assert!(
                matches!(version.state, VersionState::Ready | VersionState::Active),
                "{route:?} {version:?}"
            );
        }
        assert!(route.split.is_empty() || route.split.values().sum::<u32>() > 0);
    }
}

/// Rows written and read back are the same registry.
fn assert_survives_a_restart(state: &RegistryState) {
    let plugins = state.plugins().map(|it| Key::Plugin(it.name.clone()));
    let versions = state.all_versions().map(|it| Key::Version(it.plugin.clone(), it.version.clone()));
    let routes = state.routes().map(|it| Key::Route(it.pipeline.clone(), it.plugin.clone()));
    let rows: Vec<Row> =
        plugins.chain(versions).chain(routes).map(|key| state.row(&key).expect("is text")).collect();
    let loaded = load::load(&rows, state.generation());
    assert_eq!(loaded.problems, []);
    let shown = |state: &RegistryState| format!("{state:?}");
    assert_eq!(shown(&loaded.state), shown(state));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(200) })]

    #[test]
    fn random_moves_one_after_the_other_keep_the_invariants(steps in prop::collection::vec(moves(), 1..80)) {
        let mut state = Arc::new(RegistryState::default());
        for step in &steps {
            let mut change = Change::on(&state);
            if make(&mut change, step).is_ok() {
                // What a move allows, the commit does not refuse.
                let (next, _) = change.onto(&state).expect("one after the other nothing is stale");
                assert_makes_sense(&next);
                state = Arc::new(next);
            }
        }
        assert_survives_a_restart(&state);
    }

    /// Changes of several moves, each built on a snapshot that may be some commits old.
    #[test]
    fn random_changes_against_each_other_keep_the_invariants(
        changes in prop::collection::vec((0_usize..4, prop::collection::vec(moves(), 1..4)), 1..60),
    ) {
        let mut states = vec![Arc::new(RegistryState::default())];
        for (age, steps) in &changes {
            let base = &states[states.len() - 1 - age.min(&(states.len() - 1))];
            let mut change = Change::on(base);
            if steps.iter().any(|step| make(&mut change, step).is_err()) {
                continue;
            }
            let current = states.last().expect("there is one");
            if let Ok((next, touched)) = change.onto(current) {
                assert_makes_sense(&next);
                let untouched = current.plugins().map(|it| Key::Plugin(it.name.clone()));
                for key in untouched.filter(|key| !touched.contains(key)) {
                    assert!(next.agrees(current, &key), "{key:?} was not to be changed");
                }
                states.push(Arc::new(next));
            }
        }
        assert_survives_a_restart(states.last().expect("there is one"));
    }
}
