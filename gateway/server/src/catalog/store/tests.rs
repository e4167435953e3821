//! Tests of the store: what is promised about uploads (P21 to P23) and about the disk
//! (L4 to L6). The kill loop (L3) is in the suite: it needs a process to kill.

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
        plugin: plugin.to_owned(),
        version: version.to_owned(),
        digest: blob.digest().clone(),
        size_bytes: blob.size_bytes(),
        owner: Some("team".to_owned()),
        state: VersionState::Ready,
        reason: None,
        facts: serde_json::json!({"world": "transformer"}),
        signed_by: None,
        samples: 0,
        uploaded_by: "test".to_owned(),
        uploaded_at: timestamp::now(),
        source: VersionSource::Upload,
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

// ---- the directory ------------------------------------------------------------------

#[test]
fn only_its_user_may_enter_the_state_directory() {
    let (dir, store) = fresh();
    upload(&store, "rank", "1", b"one").expect("uploads");
    drop(store);
    let mut folders = vec![root(&dir)];
    while let Some(folder) = folders.pop() {
        assert_eq!(folder.metadata().unwrap().permissions().mode() & 0o777, 0o700, "{}", folder.display());
        for name in files(&folder) {
            let path = folder.join(name);
            if path.is_dir() {
                folders.push(path);
            } else {
                let mode = path.metadata().unwrap().permissions().mode() & 0o777;
                assert_eq!(mode, 0o600, "{}", path.display());
            }
        }
    }
}

#[test]
fn a_directory_that_others_may_change_is_reported() {
    let dir = tempfile::tempdir().expect("a directory");
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let store = Store::open(dir.path()).expect("opens");
    assert!(store.problems().iter().any(|problem| problem.what.contains("777")), "{:?}", store.problems());
}

/// L6.
#[test]
fn a_second_gateway_on_one_state_directory_is_refused_and_told_who_holds_it() {
    let (dir, store) = fresh();
    let error = Store::open(&root(&dir)).expect_err("is refused");
    let StoreError::Locked { pid, .. } = &error else { panic!("{error}") };
    assert_eq!(*pid, Some(std::process::id()));
    assert!(error.to_string().contains(&std::process::id().to_string()), "{error}");
    // An upload under way still writes into the directory.
    let writer = store.begin_blob(10).expect("begins");
    drop(store);
    assert!(matches!(Store::open(&root(&dir)), Err(StoreError::Locked { .. })));
    drop(writer);
    Store::open(&root(&dir)).expect("opens once nobody holds it");
}

#[test]
fn a_restart_finds_everything_as_it_was_acknowledged() {
    let (dir, store) = fresh();
    upload(&store, "rank", "1", b"one").expect("uploads");
    upload(&store, "rank", "2", b"two").expect("uploads");
    activate(&store, "rank", "1").expect("activates");
    let split = [("1".to_owned(), 90), ("2".to_owned(), 10)].into();
    let shadow = Some(ShadowRecord { version: "2".to_owned(), sample: 0.25 });
    let route = RouteRecord { pipeline: "movies".to_owned(), plugin: "rank".to_owned(), split, shadow };
    change(&store, |change| change.set_route(route)).expect("splits");
    let (before, lines) = (shown(&store), store.audit(0, 100).expect("reads"));
    let generation = store.snapshot().generation();
    drop(store);
    let store = Store::open(&root(&dir)).expect("opens");
    assert_eq!(shown(&store), before);
    assert_eq!(store.audit(0, 100).expect("reads"), lines);
    assert_eq!(store.snapshot().generation(), generation);
    assert_eq!(store.problems(), []);
    let digest = store.snapshot().active("rank").expect("is active").digest.clone();
    assert_eq!(store.read_blob(&digest).expect("reads"), b"one");
}

// ---- uploads ------------------------------------------------------------------------

/// P21.
#[test]
fn the_same_version_again_is_fine_and_with_other_content_a_conflict() {
    let (dir, store) = fresh();
    assert!(upload(&store, "rank", "1", b"one").expect("is new"));
    let generation = store.snapshot().generation();
    assert!(!upload(&store, "rank", "1", b"one").expect("is the same"));
    let error = upload(&store, "rank", "1", b"two").expect_err("is other content");
    assert_eq!(Error::from(error).kind(), Kind::DigestConflict);
    assert_eq!(store.snapshot().generation(), generation, "neither changed anything");
    assert_eq!(files(&root(&dir).join("blobs/sha256")).len(), 1, "and the refused bytes are gone");
}

/// P21: two uploads at once, of the same and of other content.
#[test]
fn of_uploads_at_once_exactly_one_wins() {
    let (dir, store) = fresh();
    for round in 0..10 {
        let version = round.to_string();
        let contents: Vec<Vec<u8>> = (0..6).map(|n| format!("{round} {}", n % 2).into_bytes()).collect();
        let outcomes: Vec<_> = std::thread::scope(|scope| {
            let (store, version) = (&store, version.as_str());
            let threads: Vec<_> = contents
                .iter()
                .map(|content| scope.spawn(move || upload(store, "rank", version, content)))
                .collect();
            threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
        });
        let new = outcomes.iter().filter(|outcome| matches!(outcome, Ok(true))).count();
        let same = outcomes.iter().filter(|outcome| matches!(outcome, Ok(false))).count();
        let conflicts =
            outcomes.iter().filter(|it| matches!(it, Err(StoreError::DigestConflict { .. }))).count();
        assert_eq!((new, same, conflicts), (1, 2, 3), "{outcomes:?}");
        let digest = store.snapshot().version("rank", &version).expect("is there").digest.clone();
        store.read_blob(&digest).expect("the winner's bytes are there");
        assert_eq!(files(&root(&dir).join("blobs/sha256")).len(), round + 1);
    }
}

/// P23.
#[test]
fn an_upload_that_breaks_off_leaves_nothing() {
    let (dir, store) = fresh();
    let mut writer = store.begin_blob(1 << 20).expect("begins");
    writer.write(&[7; 5000]).expect("fits");
    assert_eq!(files(&root(&dir).join("tmp")).len(), 1);
    drop(writer);
    assert_eq!(files(&root(&dir).join("tmp")), [""; 0]);
    drop(blob(&store, b"stored and then refused"));
    assert_eq!(files(&root(&dir).join("blobs/sha256")), [""; 0]);
    assert_eq!(store.snapshot().all_versions().count(), 0);
}

/// P3.
#[test]
fn a_blob_is_refused_at_the_byte_that_crosses_its_bound() {
    let (dir, store) = fresh();
    let mut writer = store.begin_blob(10).expect("begins");
    writer.write(&[0; 10]).expect("fits");
    let error = writer.write(&[0]).expect_err("is one too many");
    assert_eq!(Error::from(error).kind(), Kind::TooLarge);
    drop(writer);
    assert_eq!(files(&root(&dir).join("tmp")), [""; 0]);
}

#[test]
fn a_blob_that_two_versions_share_goes_with_the_second() {
    let (dir, store) = fresh();
    upload(&store, "rank", "1", b"same").expect("uploads");
    upload(&store, "rank", "2", b"same").expect("uploads");
    change(&store, |change| change.remove_version("rank", "1")).expect("removes");
    assert_eq!(files(&root(&dir).join("blobs/sha256")).len(), 1);
    change(&store, |change| change.remove_version("rank", "2")).expect("removes");
    assert_eq!(files(&root(&dir).join("blobs/sha256")), [""; 0]);
    assert!(store.snapshot().plugin("rank").is_none(), "the plugin goes with its last version");
}

#[test]
fn a_blob_is_kept_for_the_upload_that_is_about_to_name_it() {
    let (_dir, store) = fresh();
    upload(&store, "rank", "1", b"same").expect("uploads");
    let again = blob(&store, b"same");
    change(&store, |change| change.remove_version("rank", "1")).expect("removes");
    change(&store, |change| change.add_version(record("rank", "2", &again))).expect("its bytes are there");
    let digest = again.digest().clone();
    drop(again);
    assert_eq!(store.read_blob(&digest).expect("reads"), b"same");
}

#[test]
fn a_version_without_its_bytes_is_not_acknowledged() {
    let (_dir, store) = fresh();
    let gone = blob(&store, b"gone");
    let record = record("rank", "1", &gone);
    drop(gone);
    let error = change(&store, |change| change.add_version(record)).expect_err("is refused");
    assert!(matches!(error, StoreError::NotFound { what: "blob" }), "{error}");
}

#[test]
fn a_blob_with_one_flipped_bit_is_never_given_out() {
    let (dir, store) = fresh();
    upload(&store, "rank", "1", b"one").expect("uploads");
    let digest = store.snapshot().version("rank", "1").expect("is there").digest.clone();
    fs::write(root(&dir).join("blobs/sha256").join(digest.hex()), b"onf").expect("writes");
    let error = store.read_blob(&digest).expect_err("is refused");
    assert!(matches!(error, StoreError::Corrupt { .. }), "{error}");
    let error = Error::from(error);
    assert_eq!(error.kind(), Kind::Internal);
    assert!(!error.message().contains("sha256"), "{error}");
    // Uploading the same again heals it.
    drop(blob(&store, b"one"));
    assert_eq!(store.read_blob(&digest).expect("reads"), b"one");
}

#[test]
fn a_blob_that_is_gone_is_reported_at_the_start() {
    let (dir, store) = fresh();
    upload(&store, "rank", "1", b"one").expect("uploads");
    let digest = store.snapshot().version("rank", "1").expect("is there").digest.clone();
    drop(store);
    fs::remove_file(root(&dir).join("blobs/sha256").join(digest.hex())).expect("removes");
    let store = Store::open(&root(&dir)).expect("opens");
    assert_eq!(store.problems()[0].place, "versions/rank/1");
    assert!(matches!(store.read_blob(&digest), Err(StoreError::NotFound { .. })));
}

// ---- the lifecycle ------------------------------------------------------------------

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

// ---- the audit log ------------------------------------------------------------------

#[test]
fn every_change_and_every_refusal_has_one_line_in_order() {
    let (_dir, store) = fresh();
    upload(&store, "rank", "1", b"x").expect("uploads");
    let refusal = AuditEntry { outcome: "not_wasm".to_owned(), target: "é".repeat(5000), ..audit("upload") };
    store.note(refusal).expect("notes");
    activate(&store, "rank", "1").expect("activates");
    let lines = store.audit(0, 100).expect("reads");
    assert_eq!(lines.iter().map(|line| line.sequence).collect::<Vec<_>>(), [1, 2, 3]);
    assert_eq!(lines[1].outcome, "not_wasm");
    assert_eq!(lines[1].target.len(), limits::TEXT_BYTES_MAX, "a long text is cut at a character");
    assert_eq!(store.audit(1, 1).expect("reads"), lines[1..2]);
    assert_eq!(store.audit(u64::MAX, 10).expect("reads"), []);
}

#[test]
fn the_audit_log_keeps_its_last_lines_only() {
    let (dir, store) = fresh();
    drop(store);
    // As if that many lines had been dropped already.
    let kept = limits::AUDIT_ENTRIES_MAX;
    let line =
        |sequence| serde_json::to_vec(&AuditRecord::new(sequence, timestamp::now(), audit("x"))).unwrap();
    for sequence in [1, kept] {
        tamper(&root(&dir), "audit", &tables::audit_key(sequence), &line(sequence));
    }
    let store = Store::open(&root(&dir)).expect("opens");
    store.note(audit("one more")).expect("notes");
    let lines = store.audit(0, 10).expect("reads");
    assert_eq!(lines.iter().map(|line| line.sequence).collect::<Vec<_>>(), [kept, kept + 1]);
}

// ---- L5: broken registries ----------------------------------------------------------

#[test]
fn one_corrupt_entry_is_kept_aside_and_reported_and_the_rest_served() {
    let (dir, store) = fresh();
    for (plugin, version) in [("rank", "1"), ("rank", "2"), ("other", "1")] {
        upload(&store, plugin, version, format!("{plugin}{version}").as_bytes()).expect("uploads");
    }
    activate(&store, "rank", "1").expect("activates");
    activate(&store, "rank", "2").expect("activates");
    activate(&store, "other", "1").expect("activates");
    drop(store);
    tamper(&root(&dir), "versions", "rank/2", b"{\"plugin\": \"rank\xff");
    for _ in 0..2 {
        let store = Store::open(&root(&dir)).expect("opens");
        let state = store.snapshot();
        assert!(state.version("rank", "2").is_none(), "it is not served");
        assert!(state.active("rank").is_none());
        assert!(state.version("rank", "1").is_some() && state.active("other").is_some(), "the others are");
        assert!(store.problems().iter().any(|it| it.place == "versions/rank/2"), "{:?}", store.problems());
        // Its bytes may be one of those that nothing seems to name.
        assert_eq!(files(&root(&dir).join("blobs/sha256")).len(), 3);
        let error = upload(&store, "rank", "2", b"other").expect_err("it is not overwritten");
        assert!(matches!(error, StoreError::Quarantined { .. }), "{error}");
    }
    let store = Store::open(&root(&dir)).expect("opens");
    change(&store, |change| change.roll_back("rank", false)).expect_err("nothing is active");
    activate(&store, "rank", "1").expect("another version can be activated");
    change(&store, |change| change.discard("versions/rank/2")).expect("discards");
    upload(&store, "rank", "2", b"other").expect("the name is free");
    drop(store);
    let store = Store::open(&root(&dir)).expect("opens");
    assert_eq!(store.problems(), []);
    assert_eq!(files(&root(&dir).join("blobs/sha256")).len(), 3, "and what nothing names is swept");
}

#[test]
fn a_corrupt_plugin_route_or_audit_entry_is_kept_aside_too() {
    let (dir, store) = fresh();
    upload(&store, "rank", "1", b"x").expect("uploads");
    drop(store);
    let route = br#"{"pipeline":"p","plugin":"rank","split":{"9":1},"shadow":null}"#;
    tamper(&root(&dir), "routes", "p/rank", route);
    tamper(&root(&dir), "plugins", "odd", b"[]");
    tamper(
        &root(&dir),
        "plugins",
        "alias",
        br#"{"name":"rank","owner":null,"active":null,"history":[],"updated_at":""}"#,
    );
    tamper(&root(&dir), "audit", &tables::audit_key(1), b"");
    let store = Store::open(&root(&dir)).expect("opens");
    let places: Vec<String> = store.problems().into_iter().map(|it| it.place).collect();
    let first = format!("audit/{}", tables::audit_key(1));
    assert_eq!(places, ["plugins/alias", "plugins/odd", "routes/p/rank", first.as_str()]);
    assert_eq!(store.snapshot().plugins().count(), 1);
    assert_eq!(store.snapshot().routes().count(), 0);
    assert_eq!(store.audit(0, 10).expect("reads"), []);
    store.note(audit("next")).expect("notes");
    assert_eq!(store.audit(0, 10).expect("reads")[0].sequence, 2);
}

#[test]
fn a_registry_cut_short_at_any_place_is_restored_from_its_copy_and_kept() {
    let (dir, store) = fresh();
    for version in ["1", "2", "3"] {
        upload(&store, "rank", version, version.as_bytes()).expect("uploads");
        activate(&store, "rank", version).expect("activates");
    }
    let (before, lines) = (shown(&store), store.audit(0, 100).expect("reads"));
    drop(store);
    let registry = root(&dir).join("registry.redb");
    let whole = fs::read(&registry).expect("reads");
    let mut damages: Vec<Vec<u8>> =
        [0, 1, 9, 100, 511, 4096, 5000, whole.len() / 2].map(|length| whole[..length].to_vec()).into();
    damages.push(vec![0; whole.len()]);
    damages.push(b"not a database at all".repeat(1000));
    let mut header = whole.clone();
    header[..4096].fill(0xff);
    damages.push(header);
    for (number, damage) in damages.iter().enumerate() {
        fs::write(&registry, damage).expect("writes");
        let store = Store::open(&root(&dir)).unwrap_or_else(|error| panic!("damage {number}: {error}"));
        assert_eq!(shown(&store), before, "damage {number}");
        assert_eq!(store.audit(0, 100).expect("reads"), lines);
        assert!(store.problems().iter().any(|it| it.place == "registry.redb"), "damage {number}");
        let kept = root(&dir).join(format!("registry.redb.broken-{}", number + 1));
        assert_eq!(&fs::read(kept).expect("is kept"), damage);
        drop(store);
        let store = Store::open(&root(&dir)).expect("opens");
        assert_eq!((shown(&store), store.problems()), (before.clone(), vec![]), "and all is well again");
    }
}

#[test]
fn a_registry_that_is_gone_is_restored_and_a_broken_one_without_copy_refused() {
    let (dir, store) = fresh();
    upload(&store, "rank", "1", b"x").expect("uploads");
    let before = shown(&store);
    drop(store);
    fs::remove_file(root(&dir).join("registry.redb")).expect("removes");
    let store = Store::open(&root(&dir)).expect("opens");
    assert_eq!(shown(&store), before);
    drop(store);
    let (registry, copy) = (root(&dir).join("registry.redb"), root(&dir).join("registry.backup"));
    fs::write(&registry, b"broken").expect("writes");
    let good = fs::read(&copy).expect("reads");
    fs::write(&copy, &good[1..]).expect("writes");
    let error = Store::open(&root(&dir)).expect_err("is refused");
    assert!(matches!(error, StoreError::Unrecoverable { .. }), "{error}");
    assert_eq!(fs::read(&registry).expect("is untouched"), b"broken");
    fs::remove_file(&copy).expect("removes");
    assert!(matches!(Store::open(&root(&dir)), Err(StoreError::Unrecoverable { .. })));
    fs::write(&copy, good).expect("writes");
    assert_eq!(shown(&Store::open(&root(&dir)).expect("opens")), before);
}

#[test]
fn a_torn_last_line_of_the_copy_costs_only_what_was_never_acknowledged() {
    let (dir, store) = fresh();
    upload(&store, "rank", "1", b"x").expect("uploads");
    let before = shown(&store);
    upload(&store, "rank", "2", b"y").expect("uploads");
    let after = shown(&store);
    drop(store);
    let copy = root(&dir).join("registry.backup");
    let whole = fs::read(&copy).expect("reads");
    for cut in [0, 1, 5, 100] {
        fs::write(&copy, &whole[..whole.len() - cut]).expect("writes");
        fs::write(root(&dir).join("registry.redb"), b"broken").expect("writes");
        // Without its line end the last line is still whole.
        let expected = if cut <= 1 { &after } else { &before };
        assert_eq!(&shown(&Store::open(&root(&dir)).expect("opens")), expected, "{cut}");
    }
}

#[test]
fn a_registry_that_fell_behind_its_copy_is_brought_up_to_it() {
    let (dir, store) = fresh();
    upload(&store, "rank", "1", b"x").expect("uploads");
    drop(store);
    let registry = root(&dir).join("registry.redb");
    let old = fs::read(&registry).expect("reads");
    let store = Store::open(&root(&dir)).expect("opens");
    upload(&store, "rank", "2", b"y").expect("uploads");
    activate(&store, "rank", "2").expect("activates");
    let after = shown(&store);
    drop(store);
    // As a disk does that loses what it said it had.
    fs::write(&registry, old).expect("writes");
    let store = Store::open(&root(&dir)).expect("opens");
    assert_eq!(shown(&store), after);
    assert_eq!(store.audit(0, 10).expect("reads").len(), 3);
    let digest = store.snapshot().active("rank").expect("is active").digest.clone();
    assert_eq!(store.read_blob(&digest).expect("reads"), b"y");
    assert!(store.problems().iter().any(|it| it.place == "registry.redb"), "{:?}", store.problems());
}

#[test]
fn a_registry_from_a_newer_program_is_refused_in_clear_words_and_left_alone() {
    let (dir, store) = fresh();
    upload(&store, "rank", "1", b"x").expect("uploads");
    drop(store);
    tamper(&root(&dir), "meta", "schema", b"7");
    let before = files(&root(&dir).join("blobs/sha256"));
    let error = Store::open(&root(&dir)).expect_err("is refused");
    assert!(matches!(error, StoreError::Newer { found: 7, known: 1 }), "{error}");
    assert!(error.to_string().contains("newer sluice"), "{error}");
    assert_eq!(files(&root(&dir).join("blobs/sha256")), before);
}

#[test]
fn the_copy_is_written_anew_when_its_commits_outgrow_it() {
    let (dir, store) = fresh();
    let stored = blob(&store, b"x");
    let facts = serde_json::Value::String("x".repeat(200 << 10));
    let large = VersionRecord { facts, ..record("rank", "1", &stored) };
    change(&store, |change| change.add_version(large)).expect("adds");
    let copy = root(&dir).join("registry.backup");
    let mut longest = 0;
    for samples in 0..40 {
        change(&store, |change| change.edit_version("rank", "1", |it| it.samples = samples)).expect("edits");
        longest = longest.max(copy.metadata().expect("is there").len());
    }
    assert!((1 << 20..2 << 20).contains(&longest), "{longest}");
    let before = shown(&store);
    drop((stored, store));
    fs::write(root(&dir).join("registry.redb"), b"broken").expect("writes");
    assert_eq!(shown(&Store::open(&root(&dir)).expect("opens")), before);
}

// ---- L4: the disk fails -------------------------------------------------------------

/// The points at which the system may answer with an error.
const DISK_POINTS: [&str; 10] = [
    "blob.begun",
    "blob.write",
    "blob.sync",
    "blob.rename",
    "blob.renamed",
    "backup.append",
    "backup.write",
    "backup.rename",
    "redb.write",
    "redb.sync",
];

#[test]
fn when_the_disk_fails_at_any_write_nothing_changed_and_the_store_goes_on() {
    let (dir, store) = fresh();
    upload(&store, "rank", "1", b"one").expect("uploads");
    activate(&store, "rank", "1").expect("activates");
    let mut failures = 0;
    for point in DISK_POINTS {
        for (pass, errno) in (1..).zip([ENOSPC, EIO, EDQUOT, EROFS].into_iter().cycle()) {
            let (before, lines) = (shown(&store), store.audit(0, 1000).expect("reads").len());
            let version = format!("{point}-{pass}");
            faults::fail(Some((point, pass, errno)));
            let outcome = upload(&store, "rank", &version, version.as_bytes());
            let is_still_to_come = faults::fail(None);
            let Err(error) = outcome else {
                // Either the upload comes by less often than that, or the commit was safe
                // in the copy and the registry could be opened again.
                assert!(store.snapshot().version("rank", &version).is_some());
                if is_still_to_come { break } else { continue }
            };
            failures += 1;
            let kind = Error::from(error).kind();
            assert_eq!(kind, if errno == EIO { Kind::Internal } else { Kind::StorageFull }, "{point} {pass}");
            assert_eq!(shown(&store), before, "{point} {pass}");
            assert_eq!(store.audit(0, 1000).expect("reads").len(), lines, "{point} {pass}");
            assert_eq!(files(&root(&dir).join("tmp")), [""; 0], "{point} {pass}");
            assert!(upload(&store, "rank", &version, version.as_bytes()).expect("there is room again"));
            change(&store, |change| change.remove_version("rank", &version)).expect("removes");
        }
    }
    assert!(failures >= DISK_POINTS.len(), "{failures}");
    let before = shown(&store);
    drop(store);
    let copy = fs::read(root(&dir).join("registry.backup")).expect("reads");
    let store = Store::open(&root(&dir)).expect("opens");
    assert_eq!((shown(&store), store.problems()), (before.clone(), vec![]));
    drop(store);
    // What failed left no trace in the copy either.
    fs::write(root(&dir).join("registry.backup"), copy).expect("writes");
    fs::write(root(&dir).join("registry.redb"), b"broken").expect("writes");
    assert_eq!(shown(&Store::open(&root(&dir)).expect("opens")), before);
}

#[test]
fn a_full_disk_at_the_start_keeps_nothing_from_being_served() {
    let (dir, store) = fresh();
    upload(&store, "rank", "1", b"one").expect("uploads");
    let before = shown(&store);
    drop(store);
    for point in ["backup.write", "backup.rename"] {
        faults::fail(Some((point, 1, ENOSPC)));
        let store = Store::open(&root(&dir)).expect("opens");
        assert!(!faults::fail(None), "{point} was passed");
        assert_eq!(shown(&store), before);
        assert_eq!(store.problems()[0].place, "registry.backup");
        upload(&store, "rank", point, b"two").expect("there is room again");
        change(&store, |change| change.remove_version("rank", point)).expect("removes");
        let copy = fs::read_to_string(root(&dir).join("registry.backup")).expect("reads");
        assert!(copy.contains(point), "the copy is complete again");
    }
}

#[test]
fn a_commit_that_fails_while_the_registry_cannot_even_be_opened_again_changes_nothing() {
    let (dir, store) = fresh();
    upload(&store, "rank", "1", b"one").expect("uploads");
    let before = shown(&store);
    let registry = root(&dir).join("registry.redb");
    faults::fail(Some(("redb.write", 1, EIO)));
    // In its place lies a directory, as long as it lasts.
    let aside = dir.path().join("aside");
    fs::rename(&registry, &aside).expect("moves");
    fs::create_dir(&registry).expect("creates");
    let error = activate(&store, "rank", "1").expect_err("fails");
    assert_eq!(Error::from(error).kind(), Kind::Internal);
    assert_eq!(shown(&store), before, "what is served stays");
    activate(&store, "rank", "1").expect_err("still fails");
    store.audit(0, 10).expect_err("cannot be read either");
    fs::remove_dir(&registry).expect("removes");
    fs::rename(&aside, &registry).expect("moves");
    activate(&store, "rank", "1").expect("works again");
    let after = shown(&store);
    drop(store);
    fs::write(&registry, b"broken").expect("writes");
    assert_eq!(shown(&Store::open(&root(&dir)).expect("opens")), after, "and the copy has it");
}
