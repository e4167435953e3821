//! Who may enter the state directory, and how many.

use super::*;

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
