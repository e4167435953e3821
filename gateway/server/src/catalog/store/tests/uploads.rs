//! Uploads (P21 to P23): acknowledged means there, anything else means absent.

use super::*;

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
