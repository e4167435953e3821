//! Many uploads at once, and code on the disk that somebody has changed (P6, P24).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use sluice_tests::canary::Canary;
use sluice_tests::guests::UPLOADS;
use sluice_tests::process::{Program, files};
use sluice_tests::text::guest;
use sluice_tests::{bomb, versions};

use super::hostile_uploads::assert_back_to;

/// Components that may wait for their turn.
const WAITING: usize = 6;

/// Twenty uploads while one is being compiled: one compiles at a time, as many wait as may,
/// the others are told to come back, and predictions go on.
/// Something that is done to the bytes of a file.
type Change = fn(&mut Vec<u8>);

#[tokio::test(flavor = "multi_thread")]
async fn p6_of_twenty_uploads_at_once_one_compiles_some_wait_and_the_others_are_429() {
    let config = UPLOADS.replace("[verify]", &format!("[verify]\nwaiting_max = {WAITING}"));
    let gateway = Arc::new(Program::start(&config));
    gateway.upload("shapes", "warm", b"").await;
    let before = gateway.held().await;
    let canary = Canary::start(&gateway.client);
    let slow = start(&gateway, "hostile", "slow".to_owned(), bomb::slow_to_compile(&guest("echo")));
    versions::until(|| async { gateway.children().len() == 1 }).await;
    // One component six times, and fourteen that are all different.
    let component = |number: usize| versions::named(&number.to_string());
    let name = |number: usize| format!("v{number}");
    let mut uploads: Vec<_> = (0..6).map(|_| start(&gateway, "shapes", name(0), component(0))).collect();
    versions::until(|| async { uploads.iter().filter(|upload| upload.is_finished()).count() == 5 }).await;
    uploads.extend((1..15).map(|number| start(&gateway, "shapes", name(number), component(number))));
    let mut children = 0;
    let mut answers: BTreeMap<u16, usize> = BTreeMap::new();
    while uploads.iter().any(|upload| !upload.is_finished()) {
        children = children.max(gateway.children().len());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    for upload in uploads {
        *answers.entry(upload.await.expect("no panic")).or_default() += 1;
    }
    println!("{answers:?}, at most {children} children");
    assert_eq!(children, 1, "one compiles at a time");
    let of = |status| answers.get(&status).copied().unwrap_or(0);
    assert_eq!(of(201), WAITING, "those that may wait get their turn: {answers:?}");
    assert_eq!(of(409), 5, "the same version at the same time: {answers:?}");
    assert_eq!(of(429), 20 - WAITING - 5, "{answers:?}");
    assert_eq!(slow.await.expect("no panic"), 422);
    // Whoever comes back is taken.
    for number in 0..15 {
        let reply = gateway.upload("shapes", &name(number), &component(number)).await;
        assert!(reply.status == 201 || reply.status == 200, "{number}: {:?}", reply.body);
    }
    canary.stop().await;
    gateway.activate("shapes", "v3").await.ok();
    let answer = gateway.client.predict("shapes", &json!({})).await;
    assert_eq!((answer.status.as_u16(), &answer.body[..]), (200, &b"3"[..]));
    let loaded = gateway.held().await.descriptors - before.descriptors;
    assert!(loaded <= 2.0, "only what serves is loaded: {loaded} descriptors more");
}

fn start(
    gateway: &Arc<Program>,
    plugin: &'static str,
    version: String,
    component: Vec<u8>,
) -> tokio::task::JoinHandle<u16> {
    let gateway = Arc::clone(gateway);
    tokio::spawn(async move {
        let reply = gateway.upload(plugin, &version, &component).await;
        let may_come_back = reply.headers.contains_key("retry-after");
        assert_eq!(reply.status == 429, may_come_back, "{:?}", reply.body);
        reply.status.as_u16()
    })
}

/// Compiled code that was changed on the disk, or made for another engine, is not run: it
/// is made again from the component.
#[tokio::test(flavor = "multi_thread")]
async fn p24_changed_or_foreign_code_is_compiled_again_and_never_run() {
    let config = format!("{UPLOADS}\n[sandbox]\ncache_dir = \"compiled\"\n");
    let mut gateway = Program::start(&config);
    for (plugin, version, component) in
        [("hostile", "echo", guest("echo")), ("shapes", "named", versions::named("named"))]
    {
        assert_eq!(gateway.upload(plugin, version, &component).await.status, 201);
        gateway.activate(plugin, version).await.ok();
    }
    assert_right(&gateway).await;
    let original = contents(&gateway.folder().join("compiled"));
    assert_eq!(original.len(), 3, "one for each plugin");
    /// Magic, digest of the component, hash of the engine, digest of the code; the code.
    const ENGINE: usize = 8 + 32;
    let changes: [(&str, Change); 5] = [
        ("a bit of the code", |file| {
            let middle = file.len() / 2;
            file[middle] ^= 1;
        }),
        ("a bit of the component's digest", |file| file[8] ^= 0x80),
        ("an old engine", |file| file[ENGINE..ENGINE + 32].fill(7)),
        ("a bit of the code's digest", |file| file[ENGINE + 32] ^= 1),
        ("a file that was cut", |file| file.truncate(file.len() - 1)),
    ];
    for (what, change) in changes {
        gateway = gateway.restart_after(|folder| {
            for (path, bytes) in contents(&folder.join("compiled")) {
                let mut changed = bytes;
                change(&mut changed);
                std::fs::write(path, changed).expect("written");
            }
        });
        assert_right(&gateway).await;
        let now = contents(&gateway.folder().join("compiled"));
        assert_eq!(now.len(), original.len(), "{what}");
        for (path, bytes) in &now {
            let name = path.file_name();
            let before = original.iter().find(|(path, _)| path.file_name() == name).expect("the same name");
            assert!(*bytes == before.1, "{what}: {} was not made again", path.display());
        }
    }
    let before = gateway.held().await;
    assert_back_to(before, &gateway).await;
}

async fn assert_right(gateway: &Program) {
    let echo = gateway.client.post("/v1/models/hostile:predict", "as it was").await;
    assert_eq!((echo.status.as_u16(), &echo.body[..]), (200, &b"as it was"[..]));
    let named = gateway.client.predict("shapes", &json!({})).await;
    assert_eq!((named.status.as_u16(), &named.body[..]), (200, &b"named"[..]));
    assert_eq!(gateway.client.predict("good", &json!({})).await.ok()["calls"], 1);
}

fn contents(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let read = |path: PathBuf| {
        let bytes = std::fs::read(&path).expect("readable");
        (path, bytes)
    };
    files(folder).into_iter().map(read).collect()
}
