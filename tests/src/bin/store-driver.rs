//! Works on a store until it is killed: the process of the kill loop.
//!
//! `store-driver DIRECTORY SEED OPERATIONS` says on stdout what it is about to commit
//! (`intend`) and what was acknowledged (`done`), each with the whole registry. With
//! `fill` for a seed it fills its disk (a limit on the size of files) and goes on when
//! there is room again.
#![allow(clippy::expect_used, reason = "a process that cannot go on panics, and the test sees it")]

use std::ffi::OsString;
use std::io::Write as _;
use std::path::Path;

use sluice::catalog::store::{
    AuditEntry, Change, RouteRecord, Store, StoreError, StoredBlob, VersionRecord, VersionSource,
    VersionState, faults, timestamp,
};
use sluice_tests::plugin_store::{Random, shown};

/// From uploaded on.
const LIFE: [VersionState; 4] =
    [VersionState::Verified, VersionState::Compiled, VersionState::Canary, VersionState::Ready];

fn main() {
    faults::arm_from_environment();
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    let [directory, seed, operations] = arguments.as_slice() else { panic!("three arguments") };
    let (seed, operations) = (seed.to_string_lossy(), operations.to_string_lossy());
    let store = Store::open(Path::new(directory)).expect("opens");
    let state = store.snapshot();
    say(&format!("open {}", shown(state.generation(), &state)));
    if seed == "fill" {
        return fill(&store, Path::new(directory));
    }
    if state.generation() == 0 {
        tour(&store);
    }
    let mut random = Random::new(seed.parse().expect("a number"));
    for _ in 0..operations.parse().expect("a number") {
        operate(&store, &mut random);
    }
    drop(store);
    #[cfg(debug_assertions)]
    for (point, passes) in faults::passes() {
        say(&format!("passes {point} {passes}"));
    }
}

/// A line that is out before anything else happens.
fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}").and_then(|()| out.flush()).expect("the test listens");
}

fn entry(action: &str, generation: u64) -> AuditEntry {
    AuditEntry {
        actor: "driver".to_owned(),
        action: action.to_owned(),
        outcome: "ok".to_owned(),
        request_id: format!("g{generation}"),
        ..AuditEntry::default()
    }
}

fn commit(store: &Store, change: Change, action: &str) {
    let generation = store.snapshot().generation() + 1;
    say(&format!("intend {}", shown(generation, change.state())));
    let state = store.commit(change, entry(action, generation)).expect("commits");
    say(&format!("done {}", shown(state.generation(), &state)));
}

fn record(plugin: &str, version: &str, blob: &StoredBlob) -> VersionRecord {
    VersionRecord {
        plugin: plugin.to_owned(),
        version: version.to_owned(),
        digest: blob.digest().clone(),
        size_bytes: blob.size_bytes(),
        owner: Some("team".to_owned()),
        state: VersionState::Uploaded,
        reason: None,
        facts: serde_json::json!({"imports": ["wasi:keyvalue/store"], "metadata": "x".repeat(500)}),
        signed_by: None,
        samples: 0,
        uploaded_by: "driver".to_owned(),
        uploaded_at: timestamp::now(),
        source: VersionSource::Upload,
    }
}

/// Everything once, so that every fault point is passed whatever the seed.
fn tour(store: &Store) {
    let put = |version: &str, byte: u8| {
        let mut writer = store.begin_blob(1 << 20).expect("begins");
        writer.write(&[byte; 5_000]).expect("fits");
        let blob = writer.finish().expect("is stored");
        let mut change = Change::on(&store.snapshot());
        if change.add_version(record("plugin-0", version, &blob)).is_ok() {
            commit(store, change, "upload");
        }
    };
    let make = |action: &str, edit: &dyn Fn(&mut Change)| {
        let mut change = Change::on(&store.snapshot());
        edit(&mut change);
        commit(store, change, action);
    };
    for (version, byte) in [("1", 1), ("2", 2), ("1", 3)] {
        put(version, byte);
        for next in LIFE {
            if byte < 3 {
                make("advance", &|change| change.advance("plugin-0", version, next, None).expect("may"));
            }
        }
    }
    make("activate", &|change| assert!(change.activate("plugin-0", "1").expect("may")));
    make("activate", &|change| assert!(change.activate("plugin-0", "2").expect("may")));
    make("rollback", &|change| drop(change.roll_back("plugin-0", false).expect("may")));
    make("delete", &|change| change.remove_version("plugin-0", "2").expect("may"));
}

/// One thing that an operator or a team does, with whatever versions there are.
fn operate(store: &Store, random: &mut Random) {
    let plugin = format!("plugin-{}", random.below(2));
    let version = random.below(10).to_string();
    let state = store.snapshot();
    let mut change = Change::on(&state);
    match random.below(10) {
        0..3 => upload(store, random, &plugin, &version),
        3..6 => {
            let next = state
                .version(&plugin, &version)
                .and_then(|record| LIFE.into_iter().find(|next| record.state.may_become(*next)));
            if next.is_some_and(|next| change.advance(&plugin, &version, next, None).is_ok()) {
                commit(store, change, "advance");
            }
        }
        6 => {
            let ready = state.versions(&plugin).find(|it| it.state == VersionState::Ready);
            let ready = ready.map_or(version, |it| it.version.clone());
            if matches!(change.activate(&plugin, &ready), Ok(true)) {
                commit(store, change, "activate");
            }
        }
        7 => {
            if change.roll_back(&plugin, true).is_ok() {
                commit(store, change, "rollback");
            }
        }
        8 => {
            if change.remove_version(&plugin, &version).is_ok() {
                commit(store, change, "delete");
            }
        }
        _ => {
            let servable = state.versions(&plugin).filter(|it| it.state.is_servable());
            let split = servable.map(|it| (it.version.clone(), 1)).take(2).collect();
            let route = RouteRecord { pipeline: "movies".to_owned(), plugin, split, shadow: None };
            if change.set_route(route).is_ok() && !change.is_empty() {
                commit(store, change, "split");
            }
        }
    }
}

/// An upload: new, again, with other content, or broken off.
fn upload(store: &Store, random: &mut Random, plugin: &str, version: &str) {
    let mut writer = store.begin_blob(1 << 20).expect("begins");
    for _ in 0..=random.below(3) {
        let byte = u8::try_from(random.below(4)).expect("is small");
        writer.write(&vec![byte; 3_000]).expect("fits");
    }
    if random.below(6) == 0 {
        return drop(writer);
    }
    let blob = writer.finish().expect("is stored");
    let mut change = Change::on(&store.snapshot());
    match change.add_version(record(plugin, version, &blob)) {
        Ok(true) => commit(store, change, "upload"),
        Ok(false) => {}
        Err(StoreError::DigestConflict { .. }) => {
            // A refusal changes nothing but leaves its line.
            commit(store, Change::on(&store.snapshot()), "refused");
        }
        Err(error) => panic!("{error}"),
    }
}

/// Uploads until nothing fits, sees that nothing is lost, and goes on.
fn fill(store: &Store, directory: &Path) {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let hard = getrlimit(Resource::Fsize).maximum;
    let limit = |current| setrlimit(Resource::Fsize, Rlimit { current, maximum: hard }).expect("may");
    let length = |name: &str| directory.join(name).metadata().expect("is there").len();
    let upload = |version: &str, bytes: usize| {
        let mut writer = store.begin_blob(1 << 30)?;
        writer.write(&vec![1; bytes])?;
        let blob = writer.finish()?;
        let mut change = Change::on(&store.snapshot());
        change.add_version(record("filler", version, &blob))?;
        store.commit(change, entry("upload", store.snapshot().generation() + 1))
    };
    limit(Some(length("registry.redb").max(length("registry.backup")) + (8 << 10)));
    let (mut number, mut refusal) = (0, None);
    while refusal.is_none() && number < 100 {
        refusal = upload(&format!("v{number}"), 100).err();
        number += 1;
    }
    let before = store.snapshot();
    let too_long = upload("long", 64 << 20).expect_err("a file of 64 MiB is above the limit");
    for error in [refusal.expect("it is full at some time"), too_long] {
        assert!(matches!(error, StoreError::Full { .. }), "{error}");
    }
    upload("again", 100).expect_err("is still full");
    assert_eq!(shown(0, &store.snapshot()), shown(0, &before), "nothing is lost, nothing is there by half");
    limit(hard);
    upload("again", 100).expect("there is room again");
    let state = store.snapshot();
    say(&format!("done {}", shown(state.generation(), &state)));
}
