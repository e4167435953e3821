//! Disks that fail or are full (L4).

use super::*;

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
