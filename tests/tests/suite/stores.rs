//! Stores that plugins write: on a real Redis server, and how stores are kept open.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde_json::{Value, json};
use sluice::config::Store;
use sluice::services::{KeyValue, KeyValueError, Stores};
use sluice_tests::{gateway, services};
use tokio::runtime::Handle;

fn text(value: &str) -> Bytes {
    Bytes::copy_from_slice(value.as_bytes())
}

fn settings(server: &services::Server) -> Store {
    Store::Redis { url: format!("redis://{}", server.address), timeout: Duration::from_secs(1) }
}

fn open(stores: &Stores, owner: &str, settings: &Store) -> Arc<dyn KeyValue> {
    stores.open(&"example".into(), Some(&owner.into()), settings).expect("opens")
}

/// Guests run on threads that have timers and nothing else.
async fn as_a_guest<T: Send + 'static>(work: impl Future<Output = T> + Send + 'static) -> T {
    let (send, answer) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
        let _ = send.send(runtime.block_on(work));
    });
    answer.await.expect("an answer")
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_keeps_what_plugins_store_and_owners_apart() {
    let Some(server) = services::redis() else { return };
    let stores = Stores::new(None, None, Handle::current()).expect("certificates");
    let (a, b) = (open(&stores, "a", &settings(&server)), open(&stores, "b", &settings(&server)));
    as_a_guest(async move {
        a.set("k", text("1")).await.expect("set");
        a.set_many(vec![("l".to_owned(), text("2")), ("empty".to_owned(), Bytes::new())]).await.expect("set");
        let keys = ["l", "none", "k", "l", "empty"].map(str::to_owned);
        let values = a.get_many(&keys).await.expect("looked up");
        let (one, two) = (Some(text("1")), Some(text("2")));
        assert_eq!(values, [two.clone(), None, one.clone(), two, Some(Bytes::new())]);
        assert_eq!(a.get("k").await, Ok(one));
        assert_eq!(b.get("k").await, Ok(None));
        assert_eq!(b.exists("k").await, Ok(false));
        b.delete("k").await.expect("there is none");
        assert_eq!(a.exists("k").await, Ok(true));
        a.delete_many(&["k".to_owned(), "none".to_owned()]).await.expect("deleted");
        assert_eq!(a.exists("k").await, Ok(false));
        assert_eq!(a.get_many(&[]).await, Ok(vec![]));
        a.set_many(vec![]).await.expect("nothing to do");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_counts_atomically_and_only_numbers() {
    let Some(server) = services::redis() else { return };
    let stores = Stores::new(None, None, Handle::current()).expect("certificates");
    let store = open(&stores, "a", &settings(&server));
    let callers: Vec<_> = (0..100)
        .map(|_| {
            let store = Arc::clone(&store);
            tokio::spawn(async move { store.increment("n", 2).await.expect("counts") })
        })
        .collect();
    let mut sums = Vec::new();
    for caller in callers {
        sums.push(caller.await.expect("ends"));
    }
    sums.sort_unstable();
    assert_eq!(sums, (1..=100).map(|n| n * 2).collect::<Vec<u64>>());
    store.set("n", text("x")).await.expect("set");
    assert!(store.increment("n", 1).await.is_err());
    assert!(store.increment("m", u64::MAX).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_lists_the_owners_keys_page_by_page() {
    let Some(server) = services::redis() else { return };
    let stores = Stores::new(None, None, Handle::current()).expect("certificates");
    let (a, b) = (open(&stores, "a", &settings(&server)), open(&stores, "other", &settings(&server)));
    let names: Vec<String> = (0..5000).map(|i| format!("{i:05}")).collect();
    for some in names.chunks(1000) {
        a.set_many(some.iter().map(|name| (name.clone(), text("v"))).collect()).await.expect("set");
    }
    b.set("k", text("v")).await.expect("set");
    let (mut seen, mut cursor, mut pages) = (Vec::new(), None, 0);
    loop {
        let page = a.list_keys(cursor).await.expect("a page");
        assert!(page.keys.len() < 3000, "a page has a bound");
        seen.extend(page.keys);
        (cursor, pages) = (page.cursor, pages + 1);
        if cursor.is_none() {
            break;
        }
    }
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen, names);
    assert!(pages > 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_goes_away_is_said_at_once_and_used_again_when_it_is_back() {
    let Some(mut server) = services::redis() else { return };
    let stores = Stores::new(None, None, Handle::current()).expect("certificates");
    let store = open(&stores, "a", &settings(&server));
    store.set("k", text("1")).await.expect("set");
    server.stop();
    let away = KeyValueError::Other("store is not reachable".to_owned());
    let started = tokio::time::Instant::now();
    for _ in 0..100 {
        assert_eq!(store.get("k").await, Err(away.clone()));
    }
    assert!(started.elapsed() < Duration::from_secs(3), "a server that is away costs no waiting");
    server.start();
    tokio::time::sleep(Duration::from_millis(400)).await;
    for _ in 0..20 {
        assert_eq!(store.get("k").await, Ok(None), "every connection is made anew");
    }
    // The server restarts while nobody asks: the first question after it is answered.
    server.stop();
    server.start();
    for _ in 0..8 {
        assert_eq!(store.get("k").await, Ok(None));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_hangs_costs_one_timeout_and_a_start_needs_none() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("redis://user:secret-word@{}", listener.local_addr().expect("an address"));
    let settings = Store::Redis { url, timeout: Duration::from_millis(200) };
    assert!(!format!("{settings:?}").contains("secret-word"));
    let stores = Stores::new(None, None, Handle::current()).expect("certificates");
    let store = open(&stores, "a", &settings);
    let started = tokio::time::Instant::now();
    let error = store.get("k").await.expect_err("nobody answers").to_string();
    assert!(started.elapsed() < Duration::from_secs(4));
    assert!(!error.contains("secret-word") && !error.contains("127.0.0.1"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_over_tls_is_used_if_its_certificate_is_vouched_for() {
    let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).expect("a certificate");
    let (certificate, key) = (made.cert.pem(), made.signing_key.serialize_pem());
    let Some(server) = services::redis_over_tls(&certificate, &key) else { return };
    let url = |password: &str| format!("rediss://:{password}@{}", server.address);
    let settings = |password: &str| Store::Redis { url: url(password), timeout: Duration::from_secs(2) };
    let ca = server.folder.path().join("cert.pem");
    let trusting = Stores::new(None, Some(&ca), Handle::current()).expect("certificates");
    let store = open(&trusting, "a", &settings("secret-word"));
    store.set("k", text("1")).await.expect("set");
    assert_eq!(store.get("k").await, Ok(Some(text("1"))));
    let careful = Stores::new(None, None, Handle::current()).expect("certificates");
    for refused in [open(&careful, "a", &settings("secret-word")), open(&trusting, "b", &settings("wrong"))] {
        let away = KeyValueError::Other("store is not reachable".to_owned());
        assert_eq!(refused.get("k").await, Err(away));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_url_that_cannot_be_used_is_refused_without_quoting_it() {
    let stores = Stores::new(None, None, Handle::current()).expect("certificates");
    for url in ["http://secret-word@h", "redis://:secret-word@h:notaport", ""] {
        let settings = Store::Redis { url: url.to_owned(), timeout: Duration::from_secs(1) };
        let Err(error) = stores.open(&"example".into(), Some(&"a".into()), &settings) else {
            panic!("{url}")
        };
        assert!(!error.contains("secret-word"), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn plugins_of_one_owner_share_a_store_and_those_of_another_do_not() {
    let folder = tempfile::tempdir().expect("a folder");
    let stores = Stores::new(Some(folder.path()), None, Handle::current()).expect("certificates");
    for settings in [Store::Memory { bytes_max: 1000 }, Store::Embedded { bytes_max: 1000 }] {
        let name: Arc<str> =
            format!("{settings:?}").chars().filter(char::is_ascii_alphabetic).collect::<String>().into();
        let open = |owner: &str| stores.open(&name, Some(&owner.into()), &settings).expect("opens");
        let (first, second, other) = (open("a"), open("a"), open("b"));
        first.set("k", text("1")).await.expect("set");
        assert_eq!(second.get("k").await, Ok(Some(text("1"))));
        assert_eq!(other.get("k").await, Ok(None));
        assert_eq!(first.increment("n", 5).await, Ok(5));
        assert_eq!(second.increment("n", 5).await, Ok(10));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_embedded_store_needs_a_state_directory() {
    let stores = Stores::new(None, None, Handle::current()).expect("certificates");
    let settings = Store::Embedded { bytes_max: 1000 };
    let Err(error) = stores.open(&"example".into(), Some(&"a".into()), &settings) else {
        panic!("no directory")
    };
    assert!(error.contains("[state] dir"), "{error}");
}

/// A gateway whose plugin, which belongs to `owner`, answers what it finds in a store.
async fn looking_up(store: &str, state: &std::path::Path, owner: &str) -> gateway::Running {
    let config = format!(
        r#"
        [state]
        dir = "{}"
        [stores.example]
        {store}
        [models.wide]
        engine = "sim"
        file = "{{repo}}/tests/models/wide.sim.json"
        [plugins.probe]
        file = "{{repo}}/tests/guests/dist/kv_probe.wasm"
        owner = "{owner}"
        stores = ["example"]
        call_timeout_ms = 5000
        [pipelines.probe]
        pre = "probe"
        model = "wide"
    "#,
        state.display()
    );
    gateway::start(&config).await
}

fn order() -> Value {
    json!({"store": "example", "keys": ["Jaws", "none", "Jaws"]})
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_reads_its_owners_keys_in_redis_and_no_others() {
    let Some(mut server) = services::redis() else { return };
    let stores = Stores::new(None, None, Handle::current()).expect("certificates");
    open(&stores, "team", &settings(&server)).set("Jaws", text("shark")).await.expect("set");
    let store = format!("kind = \"redis\"\nurl = \"redis://{}\"", server.address);
    let folder = tempfile::tempdir().expect("a folder");
    let strangers = looking_up(&store, &folder.path().join("strangers"), "strangers").await;
    assert_eq!(strangers.client.predict("probe", &order()).await.ok(), json!([null, null, null]));
    let team = looking_up(&store, &folder.path().join("team"), "team").await;
    assert_eq!(team.client.predict("probe", &order()).await.ok(), json!(["shark", null, "shark"]));
    server.stop();
    let failed = team.client.predict("probe", &order()).await;
    let said = String::from_utf8_lossy(&failed.body).into_owned();
    assert!(failed.status.is_server_error(), "{said}");
    assert!(!said.contains("127.0.0.1"), "{said}");
    assert!(team.client.get("/v2/health/live").await.status.is_success());
    server.start();
    tokio::time::sleep(Duration::from_millis(400)).await;
    assert_eq!(team.client.predict("probe", &order()).await.ok(), json!([null, null, null]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_finds_in_an_embedded_store_what_was_there_before_a_restart() {
    let folder = tempfile::tempdir().expect("a folder");
    {
        let stores = Stores::new(Some(folder.path()), None, Handle::current()).expect("certificates");
        let settings = Store::Embedded { bytes_max: 1000 };
        open(&stores, "team", &settings).set("Jaws", text("shark")).await.expect("set");
    }
    for _ in 0..2 {
        let mut gateway = looking_up("kind = \"embedded\"", folder.path(), "team").await;
        assert_eq!(gateway.client.predict("probe", &order()).await.ok(), json!(["shark", null, "shark"]));
        gateway.stop().await.expect("stopped");
    }
    let strangers = looking_up("kind = \"embedded\"", folder.path(), "strangers").await;
    assert_eq!(strangers.client.predict("probe", &order()).await.ok(), json!([null, null, null]));
}
