//! What the watch promises, with real files.

use std::path::PathBuf;
use std::time::Duration;

use super::{DEBOUNCE, POLL, Watcher, watch};

/// Longer than any change may take to be told, on a slow machine.
const PATIENCE: Duration = Duration::from_secs(20);

fn start(paths: Vec<PathBuf>) -> Watcher {
    watch(move || paths.clone()).expect("starts")
}

async fn is_told(watcher: &mut Watcher) -> bool {
    tokio::time::timeout(PATIENCE, watcher.changed()).await.is_ok()
}

/// Nothing is told for longer than the poll and the debounce take.
async fn is_quiet(watcher: &mut Watcher) -> bool {
    tokio::time::timeout(POLL + DEBOUNCE * 3, watcher.changed()).await.is_err()
}

#[tokio::test]
async fn written_replaced_and_deleted_files_are_told() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("c.toml");
    std::fs::write(&path, "a").expect("writes");
    let mut watcher = start(vec![path.clone()]);
    std::fs::write(&path, "b").expect("writes");
    assert!(is_told(&mut watcher).await, "written");
    let other = folder.path().join("new");
    std::fs::write(&other, "c").expect("writes");
    std::fs::rename(&other, &path).expect("renames");
    assert!(is_told(&mut watcher).await, "replaced");
    std::fs::remove_file(&path).expect("removes");
    assert!(is_told(&mut watcher).await, "deleted");
    std::fs::write(&path, "c").expect("writes");
    assert!(is_told(&mut watcher).await, "back again");
}

#[tokio::test]
async fn content_counts_and_not_time() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("c.toml");
    std::fs::write(&path, "a").expect("writes");
    let mut watcher = start(vec![path.clone()]);
    std::fs::write(&path, "a").expect("writes the same");
    std::fs::write(folder.path().join("beside"), "x").expect("writes another");
    assert!(is_quiet(&mut watcher).await);
}

#[tokio::test]
async fn c3_a_file_that_is_empty_for_a_moment_is_told_once_when_it_has_settled() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("c.toml");
    std::fs::write(&path, "a").expect("writes");
    let mut watcher = start(vec![path.clone()]);
    // A machine that is too busy to write this quickly does not show what is asked.
    for attempt in 0..10 {
        let started = tokio::time::Instant::now();
        for text in ["", "half", "half and half"] {
            std::fs::write(&path, format!("{text}{}", "!".repeat(attempt * text.len()))).expect("writes");
            tokio::time::sleep(DEBOUNCE / 8).await;
        }
        let was_quick = started.elapsed() < DEBOUNCE * 3 / 4;
        assert!(is_told(&mut watcher).await);
        let is_told_once = is_quiet(&mut watcher).await;
        if was_quick {
            assert!(is_told_once);
            return;
        }
    }
    panic!("the machine was too busy ten times");
}

#[tokio::test]
async fn c4_constant_writing_is_bounded_work_and_the_last_content_wins() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("c.toml");
    std::fs::write(&path, "start").expect("writes");
    let mut watcher = start(vec![path.clone()]);
    let (mut told, mut last_seen) = (0, String::new());
    let writer = path.clone();
    let writing = tokio::task::spawn_blocking(move || {
        for number in 0..500 {
            std::fs::write(&writer, format!("{number}")).expect("writes");
            std::thread::sleep(Duration::from_millis(10));
        }
    });
    while !(writing.is_finished() && last_seen == "499") {
        assert!(is_told(&mut watcher).await, "after {told} changes, at {last_seen}");
        told += 1;
        last_seen = std::fs::read_to_string(&path).expect("reads");
    }
    writing.await.expect("ends");
    // Five seconds of a hundred changes each: one every two seconds, and the last.
    assert!((1..=8).contains(&told), "{told}");
}

#[cfg(unix)]
#[tokio::test]
async fn c5_a_configmap_swap_is_picked_up() {
    use std::os::unix::fs::symlink;
    let folder = tempfile::tempdir().expect("a folder");
    let write = |version: &str, text: &str| {
        let real = folder.path().join(version);
        std::fs::create_dir(&real).expect("makes a folder");
        std::fs::write(real.join("c.toml"), text).expect("writes");
    };
    write("..1", "one");
    symlink("..1", folder.path().join("..data")).expect("links");
    symlink("..data/c.toml", folder.path().join("c.toml")).expect("links");
    let mut watcher = start(vec![folder.path().join("c.toml")]);
    for (version, text) in [("..2", "two"), ("..3", "three")] {
        write(version, text);
        symlink(version, folder.path().join("..tmp")).expect("links");
        std::fs::rename(folder.path().join("..tmp"), folder.path().join("..data")).expect("swaps");
        assert!(is_told(&mut watcher).await, "{version}");
    }
}

#[tokio::test]
async fn c5_a_replaced_directory_is_picked_up_and_followed() {
    let folder = tempfile::tempdir().expect("a folder");
    let inner = folder.path().join("inner");
    let path = inner.join("c.toml");
    for (name, text) in [("inner", "old"), ("next", "new")] {
        std::fs::create_dir(folder.path().join(name)).expect("makes a folder");
        std::fs::write(folder.path().join(name).join("c.toml"), text).expect("writes");
    }
    let mut watcher = start(vec![path.clone()]);
    std::fs::rename(&inner, folder.path().join("gone")).expect("renames");
    std::fs::rename(folder.path().join("next"), &inner).expect("renames");
    assert!(is_told(&mut watcher).await, "replaced");
    std::fs::write(&path, "newer").expect("writes");
    assert!(is_told(&mut watcher).await, "followed");
}

#[tokio::test]
async fn a_dropped_wait_loses_no_change() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("c.toml");
    std::fs::write(&path, "a").expect("writes");
    let mut watcher = start(vec![path.clone()]);
    drop(tokio::time::timeout(Duration::from_millis(10), watcher.changed()).await);
    std::fs::write(&path, "b").expect("writes");
    tokio::time::sleep(POLL + DEBOUNCE * 2).await;
    assert!(is_told(&mut watcher).await);
}

#[test]
fn large_files_are_hashed_again_when_they_change() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("m.onnx");
    let mut bytes = vec![0_u8; 2 << 20];
    std::fs::write(&path, &bytes).expect("writes");
    let mut contents = super::Contents::default();
    let paths = [path.clone()];
    assert!(!contents.look(&paths), "the first look is no change");
    assert!(!contents.look(&paths));
    bytes[1 << 20] = 1;
    std::thread::sleep(Duration::from_millis(20));
    std::fs::write(&path, &bytes).expect("writes");
    assert!(contents.look(&paths));
    assert!(!contents.look(&paths));
}
