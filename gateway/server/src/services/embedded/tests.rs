//! The embedded store against its promises, in a folder of its own.

use super::*;

struct Folder {
    _dir: tempfile::TempDir,
    path: std::path::PathBuf,
}

fn folder() -> Folder {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("stores/example.redb");
    Folder { _dir: dir, path }
}

fn open(folder: &Folder) -> Arc<Embedded> {
    Arc::new(Embedded::open(&folder.path, Handle::current()).expect("opens"))
}

fn part(store: &Arc<Embedded>, owner: &str) -> OwnedPart {
    store.of_owner(owner.into(), 1 << 20)
}

fn text(value: &str) -> Bytes {
    Bytes::copy_from_slice(value.as_bytes())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_owner_sees_only_its_own_keys() {
    let folder = folder();
    let store = open(&folder);
    let (a, b) = (part(&store, "a"), part(&store, "ab"));
    a.set("b\0k", text("1")).await.expect("set");
    a.set("k", text("1")).await.expect("set");
    b.set("k", text("2")).await.expect("set");
    assert_eq!(a.get("k").await, Ok(Some(text("1"))));
    assert_eq!(b.get("k").await, Ok(Some(text("2"))));
    assert_eq!(b.list_keys(None).await.expect("lists").keys, ["k"]);
    a.delete("k").await.expect("deleted");
    assert_eq!(b.exists("k").await, Ok(true));
    assert_eq!(a.list_keys(None).await.expect("lists").keys, ["b\0k"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_written_is_there_after_a_restart() {
    let folder = folder();
    let store = open(&folder);
    part(&store, "a").set("k", text("1")).await.expect("set");
    assert!(Embedded::open(&folder.path, Handle::current()).is_err(), "one opener at a time");
    drop(store);
    let store = open(&folder);
    assert_eq!(part(&store, "a").get("k").await, Ok(Some(text("1"))));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_callers_that_count_lose_nothing() {
    let folder = folder();
    let store = open(&folder);
    let part = Arc::new(part(&store, "a"));
    let callers: Vec<_> = (0..100)
        .map(|_| {
            let part = Arc::clone(&part);
            tokio::spawn(async move { part.increment("n", 2).await.expect("counts") })
        })
        .collect();
    let mut seen = Vec::new();
    for caller in callers {
        seen.push(caller.await.expect("ends"));
    }
    seen.sort_unstable();
    assert_eq!(seen, (1..=100).map(|n| n * 2).collect::<Vec<u64>>());
    assert_eq!(part.get("n").await, Ok(Some(text("200"))));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_owner_fills_its_own_share_and_nobody_elses() {
    let folder = folder();
    let store = open(&folder);
    let (a, b) = (store.of_owner("a".into(), 1000), store.of_owner("b".into(), 1000));
    let half = Bytes::from(vec![0; 400]);
    a.set("1", half.clone()).await.expect("fits");
    a.set("2", half.clone()).await.expect("fits");
    let full = Err(KeyValueError::Other("store is full".to_owned()));
    assert_eq!(a.set("3", half.clone()).await, full);
    let pairs = vec![("4".to_owned(), Bytes::new()), ("5".to_owned(), half.clone())];
    assert_eq!(a.set_many(pairs).await, full);
    assert_eq!(a.exists("4").await, Ok(false), "all or nothing");
    a.set("1", half.clone()).await.expect("replacing needs no more room");
    b.set("1", half.clone()).await.expect("another owner's share is untouched");
    a.delete_many(&["1".to_owned(), "2".to_owned(), "none".to_owned()]).await.expect("deleted");
    a.set("3", half).await.expect("fits again");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listing_gives_every_key_once_even_while_keys_go() {
    let folder = folder();
    let store = open(&folder);
    let part = part(&store, "a");
    let names: Vec<String> = (0..2500).map(|i| format!("{i:05}")).collect();
    part.set_many(names.iter().map(|name| (name.clone(), Bytes::new())).collect()).await.expect("set");
    let (mut seen, mut cursor) = (Vec::new(), None);
    loop {
        let page = part.list_keys(cursor).await.expect("a page");
        assert!(page.keys.len() <= 1000);
        part.delete_many(&page.keys).await.expect("deleted");
        seen.extend(page.keys);
        cursor = page.cursor;
        if cursor.is_none() {
            break;
        }
    }
    assert_eq!(seen, names);
    assert!(part.list_keys(Some(999)).await.is_err(), "a cursor that nobody gave out");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_look_up_that_is_too_large_is_refused_before_it_is_held() {
    let folder = folder();
    let store = open(&folder);
    let part = store.of_owner("a".into(), 64 << 20);
    let value = Bytes::from(vec![0; 1 << 20]);
    let keys: Vec<String> = (0..17).map(|i| i.to_string()).collect();
    for key in &keys {
        part.set(key, value.clone()).await.expect("set");
    }
    assert!(part.get_many(&keys).await.is_err());
    let same = vec!["1".to_owned(); 1000];
    assert_eq!(part.get_many(&same).await.expect("one value, shared").len(), 1000);
    assert!(part.set("big", Bytes::from(vec![0; (1 << 20) + 1])).await.is_err());
    assert!(part.get(&"k".repeat(2000)).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn counting_what_is_no_number_is_refused() {
    let folder = folder();
    let store = open(&folder);
    let part = part(&store, "a");
    part.set("n", text("41")).await.expect("set");
    assert_eq!(part.increment("n", 1).await, Ok(42));
    part.set("n", text("x")).await.expect("set");
    assert!(part.increment("n", 1).await.is_err());
    assert_eq!(part.get("n").await, Ok(Some(text("x"))));
}
