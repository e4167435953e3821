//! Registries that somebody broke (L5).

use super::*;

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
