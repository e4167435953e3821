//! Components that must never be served, sent to the admin API of the real program: each
//! gets the answer that is documented, and nothing of it stays (P1–P8, P18).

use std::time::Duration;

use sluice::catalog::verify::{Verifier, VerifierOptions};
use sluice_tests::canary::Canary;
use sluice_tests::guests::UPLOADS;
use sluice_tests::process::{Held, Program, files};
use sluice_tests::text::{self, deep_types, guest};
use sluice_tests::{bomb, program, versions};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::Instant;

/// An upload that is refused: what it is called, its bytes, the status and the reason code
/// of the answer, and a word that its text must hold.
struct Case(&'static str, Vec<u8>, u16, &'static str, &'static str);

/// Memory that the process may keep after a group: what its allocator holds back, and the
/// code of the versions that stay loaded.
const RESIDENT_SLACK_BYTES: f64 = 96.0 * 1024.0 * 1024.0;

/// Descriptors that may be open beside those before a group: connections that clients keep
/// in their pools. A group has dozens of cases, so one that each leaks shows.
const DESCRIPTORS_SLACK: f64 = 8.0;

/// Waits until the program holds no more than before (I5).
pub(crate) async fn assert_back_to(before: Held, program: &Program) {
    let is_back = |now: &Held| {
        now.in_flight == 0.0
            && now.descriptors <= before.descriptors + DESCRIPTORS_SLACK
            && now.resident_bytes <= before.resident_bytes + RESIDENT_SLACK_BYTES
            && now.temporary_files == 0
            && now.children == 0
    };
    let mut now = program.held().await;
    for _ in 0..200 {
        if is_back(&now) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
        now = program.held().await;
    }
    panic!("before: {before:?}, after: {now:?}");
}

/// What an answer for strangers must not hold (I3).
pub(crate) fn assert_tells_nothing(what: &str, text: &str, program: &Program) {
    let folder = program.folder().display().to_string();
    let places = ["/work", "/home", "/proc", "/tmp", "127.0.0.1", ".rs:", "wasm backtrace", "<unknown>"];
    for secret in [folder.as_str()].into_iter().chain(places) {
        assert!(!text.contains(secret), "{what} tells {secret}: {text}");
    }
    assert!(text.len() < 4096 && !text.contains('\u{1b}'), "{what}: {text}");
}

/// Uploads each to a plugin, beside a canary: the answers are those of the table, each is
/// counted once, and nothing is left.
async fn refuse_all(plugin: &str, cases: Vec<Case>) {
    let mut gateway = Program::start(UPLOADS);
    gateway.upload(plugin, "warm", b"").await;
    let before = gateway.held().await;
    let canary = Canary::start(&gateway.client);
    for Case(what, component, status, code, word) in cases {
        let counted = async |gateway: &Program| {
            gateway.metric("sluice_plugin_changes_total", &[("action", "upload"), ("outcome", code)]).await
        };
        let count = counted(&gateway).await;
        let begun = Instant::now();
        let reply = gateway.upload(plugin, what, &component).await;
        println!("{what}: {} {} after {:?}", reply.status, reply.code(), begun.elapsed());
        let text = String::from_utf8(reply.body.to_vec()).expect("text");
        let (answer, log) = ((reply.status.as_u16(), reply.code()), gateway.log());
        assert_eq!((answer.0, answer.1.as_str()), (status, code), "{what}: {text}\n{log}");
        assert!(text.contains(word), "{what} does not say {word:?}: {text}");
        assert_tells_nothing(what, &text, &gateway);
        assert_eq!(counted(&gateway).await, count + 1.0, "{what} is counted once");
        gateway.assert_alive().await;
    }
    canary.stop().await;
    assert_eq!(gateway.show(plugin).await["versions"].as_array().map(Vec::len), Some(0));
    assert!(files(&gateway.folder().join("state/blobs")).is_empty(), "nothing stays");
    assert_back_to(before, &gateway).await;
}

/// A text guest that is refused.
fn case(name: &'static str, code: &'static str, word: &'static str) -> Case {
    Case(name, guest(name), 422, code, word)
}

/// A file that no test names would look like a promise.
#[test]
fn every_text_guest_is_sent_by_a_test() {
    let suite = sluice_tests::repository().join("tests/tests/suite");
    let tests: String = files(&suite)
        .into_iter()
        .filter(|file| file.file_stem().is_some_and(|name| name.to_string_lossy().starts_with("hostile_")))
        .map(|file| std::fs::read_to_string(file).expect("readable"))
        .collect();
    let names = text::names();
    assert!(names.len() > 80, "{} guests", names.len());
    for name in names {
        assert!(tests.contains(&format!("\"{name}\"")), "no test sends {name}.wat");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn p1_other_files_are_not_wasm() {
    let elf = std::fs::read("/proc/self/exe").expect("this program")[..100_000].to_vec();
    let echo = guest("echo");
    let half = echo[..echo.len() / 2].to_vec();
    refuse_all(
        "hostile",
        vec![
            Case("empty", Vec::new(), 422, "not_wasm", "empty"),
            Case("elf", elf, 422, "not_wasm", ""),
            Case("text", b"#!/bin/sh\nexit 0\n".to_vec(), 422, "not_wasm", ""),
            Case("zip", b"PK\x03\x04\x14\0\0\0\x08\0".repeat(50), 422, "not_wasm", ""),
            Case("zeros", vec![0; 100_000], 422, "not_wasm", ""),
            Case("half", half, 422, "not_wasm", "cut"),
        ],
    )
    .await;
}

/// A component cut at any byte is no WebAssembly; cut between two sections it is a whole
/// component, and no plugin.
#[tokio::test(flavor = "multi_thread")]
async fn p1_a_component_cut_at_any_byte_is_refused() {
    let mut gateway = Program::start(UPLOADS);
    let component = guest("missing-export");
    let before = gateway.held().await;
    let mut at_sections = 0;
    for end in 0..component.len() {
        let reply = gateway.upload("hostile", &format!("cut-{end}"), &component[..end]).await;
        assert_eq!(reply.status, 422, "{end}: {:?}", reply.body);
        match reply.code().as_str() {
            "not_wasm" => {}
            "wrong_world" => at_sections += 1,
            other => panic!("{end}: {other}: {:?}", reply.body),
        }
    }
    assert!((3..20).contains(&at_sections), "{at_sections} of {} cuts", component.len());
    gateway.assert_alive().await;
    assert_back_to(before, &gateway).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn p2_p18_what_is_no_plugin_or_asks_for_too_much_is_refused_by_name() {
    refuse_all(
        "hostile",
        vec![
            case("core-module", "not_component", "wasm-tools component new"),
            case("no-plugin", "wrong_world", "sluice:plugin"),
            case("other-world", "wrong_world", "sluice:plugin"),
            case("missing-export", "wrong_world", ""),
            case("program-without-run", "wrong_world", "wasi:cli/run"),
            case("wrong-export-type", "wrong_world", ""),
            case("ask-sockets", "forbidden_import", "wasi:sockets/tcp@0.2.0"),
            case("ask-threads", "forbidden_import", "wasi:thread/spawn@0.1.0"),
            case("ask-unknown", "forbidden_import", "evil:net/sockets@1.0.0"),
            case("ask-http", "forbidden_import", "wasi:http/outgoing-handler@0.2.0"),
            case("ask-stores", "forbidden_import", "wasi:keyvalue/store@0.2.0-draft"),
            case("ask-models", "forbidden_import", "sluice:plugin/inference@0.1.0"),
            case("shared-memory", "invalid_component", "threads"),
        ],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn p18_a_strict_plugin_gets_no_clock_no_chance_no_files_and_no_environment() {
    refuse_all(
        "strict",
        vec![
            case("ask-files", "forbidden_import", "wasi:filesystem/types@0.2.0"),
            case("ask-clock", "forbidden_import", "wasi:clocks/wall-clock@0.2.0"),
            case("ask-random", "forbidden_import", "wasi:random/random@0.2.0"),
            case("ask-environment", "forbidden_import", "wasi:cli/environment@0.2.0"),
        ],
    )
    .await;
}

/// What is one byte too large, whether it says so or not.
#[tokio::test(flavor = "multi_thread")]
async fn p3_one_byte_over_the_limit_is_413_declared_or_chunked_and_a_lie_about_the_length_no_plugin() {
    let component = guest("echo");
    let limit = component.len();
    let config = format!("{UPLOADS}\n[sandbox]\nplugin_bytes_max = {limit}\n");
    // The file of `echo` is larger than that.
    let config = config.replace("file = \"{repo}/tests/guests/dist/echo.wasm\"", "");
    let gateway = Program::start(&config);
    assert_eq!(gateway.upload("hostile", "fits", &component).await.status, 201);
    let before = gateway.held().await;
    let over = [component.clone(), vec![0]].concat();
    let reply = gateway.upload("hostile", "over", &over).await;
    assert_eq!((reply.status.as_u16(), reply.code().as_str()), (413, "too_large"));
    let head = "PUT /admin/v1/plugins/hostile/versions/over HTTP/1.1\r\nhost: localhost\r\n";
    let chunked = |body: &[u8]| {
        let mut text = format!("{head}transfer-encoding: chunked\r\n\r\n").into_bytes();
        for piece in body.chunks(777) {
            text.extend(format!("{:x}\r\n", piece.len()).into_bytes());
            text.extend([piece, b"\r\n"].concat());
        }
        text.extend(b"0\r\n\r\n");
        text
    };
    let answer = raw(&gateway, &chunked(&over)).await;
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
    // Far too large, by someone who listens when all is sent.
    let far = vec![0_u8; limit + (24 << 20)];
    let far = [format!("{head}content-length: {}\r\n\r\n", far.len()).as_bytes(), &far].concat();
    let answer = raw(&gateway, &far).await;
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
    // Declared short: what comes after is another request, and no good one.
    let short = [format!("{head}content-length: {}\r\n\r\n", limit - 9).as_bytes(), &component].concat();
    let answer = raw(&gateway, &short).await;
    assert!(answer.starts_with("HTTP/1.1 422"), "{answer}");
    assert!(!answer.contains("HTTP/1.1 2"), "{answer}");
    // Declared long: it never comes.
    versions::break_off(&gateway.admin, "/admin/v1/plugins/hostile/versions/over", &component).await;
    let fits = chunked(&component);
    let fits = String::from_utf8_lossy(&raw(&gateway, &fits).await.into_bytes()).into_owned();
    assert!(fits.starts_with("HTTP/1.1 201") || fits.starts_with("HTTP/1.1 409"), "{fits}");
    assert_back_to(before, &gateway).await;
}

/// Sends bytes and reads until the other side closes, or says no more for two seconds.
async fn raw(gateway: &Program, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(gateway.admin.address()).await.expect("connected");
    stream.write_all(bytes).await.expect("written");
    let mut answer = Vec::new();
    let mut piece = [0; 4096];
    while let Ok(Ok(read)) = tokio::time::timeout(Duration::from_secs(2), stream.read(&mut piece)).await {
        if read == 0 {
            break;
        }
        answer.extend_from_slice(&piece[..read]);
    }
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn p4_native_code_is_refused_and_a_compressed_upload_is_415() {
    let verifier = Verifier::new(VerifierOptions { program: program(), ..VerifierOptions::default() });
    let code = verifier.verify(guest("echo").into()).await.expect("it is good").code;
    let gateway = Program::start(UPLOADS);
    for encoding in ["gzip", "br", "zstd", "deflate, gzip"] {
        let headers = [("content-encoding", encoding)];
        let reply = gateway.upload_with("hostile", "packed", &headers, &guest("echo")).await;
        assert_eq!((reply.status.as_u16(), reply.code().as_str()), (415, "unsupported_media"));
    }
    drop(gateway);
    refuse_all("hostile", vec![Case("precompiled", code, 422, "not_component", "precompiled")]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn p5_compile_bombs_are_compile_limit_while_predictions_go_on() {
    let echo = guest("echo");
    refuse_all(
        "hostile",
        vec![
            Case("a-million-functions", bomb::million_functions(), 422, "compile_limit", "functions"),
            Case("an-enormous-function", bomb::enormous_function(), 422, "compile_limit", "a function has"),
            Case("a-huge-jump-table", bomb::huge_jump_table(), 422, "compile_limit", "a function has"),
            Case("deep-components", bomb::deep_components(), 422, "compile_limit", "nests"),
            Case("many-components", bomb::many_components(), 422, "compile_limit", "modules and components"),
            Case("deep-types", deep_types(), 422, "invalid_component", ""),
            Case("slow-to-compile", bomb::slow_to_compile(&echo), 422, "compile_limit", "processor time"),
            Case("hungry-to-compile", bomb::hungry_to_compile(&echo), 422, "compile_limit", "memory"),
        ],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn p7_what_cannot_start_is_canary_failed_and_never_activated() {
    refuse_all(
        "hostile",
        vec![
            case("start-loops", "canary_failed", "time"),
            case("start-traps", "canary_failed", ""),
            case("init-loops", "canary_failed", "time"),
            case("init-traps", "canary_failed", ""),
            case("init-refuses", "canary_failed", "no\\\\nfake line"),
            case("init-eats-memory", "plugin_limits", "memory"),
        ],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn p8_memories_and_tables_are_refused_by_their_sum() {
    let instances = versions::with_instances(&guest("echo"), 150, 100);
    refuse_all(
        "hostile",
        vec![
            case("memory-4-gib", "plugin_limits", "bytes"),
            case("many-memories", "plugin_limits", "91 memories"),
            case("large-memories", "plugin_limits", "together"),
            Case("many-instances", instances, 422, "plugin_limits", ""),
            case("giant-table", "plugin_limits", "elements"),
            case("table-beyond-addresses", "plugin_limits", "elements"),
            case("many-tables", "plugin_limits", "tables"),
        ],
    )
    .await;
}
