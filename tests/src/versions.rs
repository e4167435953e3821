//! Versions of one plugin, told apart by what they answer; and what else the tests of the
//! plugin lifecycle share.

use std::time::Duration;

use http::Method;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;

use crate::client::{Client, Reply};
use crate::guest;

/// A pipeline whose plugin is both ends of it, in a gateway with a state directory.
pub const TRANSFORM: &str = r#"
    [state]
    dir = "state"
    [models.wide]
    engine = "sim"
    file = "{repo}/tests/models/wide.sim.json"
    max_batch_size = 16
    [plugins.both]
    call_timeout_ms = 5000
    [pipelines.both]
    pre = "both"
    model = "wide"
    post = "both"
"#;

/// A pipeline whose plugin has no version yet, in a gateway with a state directory.
pub const UPLOADS: &str = r#"
    [state]
    dir = "state"
    [models.wide]
    engine = "sim"
    file = "{repo}/tests/models/wide.sim.json"
    max_batch_size = 16
    [plugins.echo]
    owner = "team-a"
    call_timeout_ms = 5000
    bake_ms = 60000
    bake_calls_min = 10
    [pipelines.echo]
    pre = "echo"
    model = "wide"
"#;

/// A preprocessor that answers with this name.
pub fn named(name: &str) -> Vec<u8> {
    answering(name, "", "")
}

/// The same, which calls itself this often before.
pub fn recursive(name: &str, depth: u32) -> Vec<u8> {
    let deep = "(func $deep (param i64) (result i64)
        (if (result i64) (i64.eqz (local.get 0))
            (then (i64.const 0))
            (else (i64.add (call $deep (i64.sub (local.get 0) (i64.const 1))) (local.get 0)))))";
    answering(name, deep, &format!("(drop (call $deep (i64.const {depth})))"))
}

fn answering(name: &str, functions: &str, before: &str) -> Vec<u8> {
    let fields = format!(r#"(data (i32.const 1024) "{name}") {functions}"#);
    let body = format!(
        "{before} (i32.store8 (i32.const 256) (i32.const 0)) (i32.store8 (i32.const 260) (i32.const 1))
         (i32.store8 (i32.const 264) (i32.const 0)) (i32.store16 (i32.const 268) (i32.const 200))
         (i32.store (i32.const 272) (i32.const 16)) (i32.store (i32.const 276) (i32.const 10))
         (i32.store (i32.const 280) (i32.const 1024)) (i32.store (i32.const 284) (i32.const {}))
         (i32.store (i32.const 320) (i32.const 256)) (i32.store (i32.const 324) (i32.const 1))
         (i32.const 320)",
        name.len()
    );
    guest::preprocessor(&fields, &body)
}

/// The same behaviour in other bytes.
pub fn padded(name: &str) -> Vec<u8> {
    with_section(named(name), "padding", b"nothing")
}

/// A preprocessor that traps.
pub fn trapping() -> Vec<u8> {
    guest::preprocessor("", "unreachable")
}

/// A transformer with a name of one letter: what its preprocessor leaves for its
/// postprocessor is the name, and the answer is both of their names.
pub fn pair(name: &str) -> Vec<u8> {
    assert_eq!(name.len(), 1, "one letter");
    let text = format!(
        r#"{prelude}
        (data (i32.const 1024) "{name}") (data (i32.const 1032) "x")
        (func (export "sluice:plugin/preprocess@0.1.0#process") (param i32 i32) (result i32)
            (i32.store (i32.const 400) (i32.const 1)) (i32.store (i32.const 404) (i32.const 4))
            (i32.store (i32.const 512) (i32.const 1032)) (i32.store (i32.const 516) (i32.const 1))
            (i32.store8 (i32.const 520) (i32.const 0)) (i32.store8 (i32.const 524) (i32.const 11))
            (i32.store (i32.const 528) (i32.const 400)) (i32.store (i32.const 532) (i32.const 2))
            (i32.store (i32.const 536) (i32.const 2048)) (i32.store (i32.const 540) (i32.const 16))
            (i32.store8 (i32.const 256) (i32.const 0)) (i32.store8 (i32.const 260) (i32.const 0))
            (i32.store (i32.const 264) (i32.const 512)) (i32.store (i32.const 268) (i32.const 1))
            (i32.store (i32.const 272) (i32.const 1024)) (i32.store (i32.const 276) (i32.const 1))
            (i32.store (i32.const 320) (i32.const 256)) (i32.store (i32.const 324) (i32.const 1))
            (i32.const 320))
        (func (export "sluice:plugin/postprocess@0.1.0#process") (param $items i32) (param i32) (result i32)
            (i32.store8 (i32.const 1536) (i32.load8_u (i32.load offset=16 (local.get $items))))
            (i32.store8 (i32.const 1537) (i32.const 32))
            (i32.store8 (i32.const 1538) (i32.load8_u (i32.const 1024)))
            (i32.store8 (i32.const 256) (i32.const 0)) (i32.store8 (i32.const 260) (i32.const 0))
            (i32.store16 (i32.const 264) (i32.const 200))
            (i32.store (i32.const 268) (i32.const 16)) (i32.store (i32.const 272) (i32.const 10))
            (i32.store (i32.const 276) (i32.const 1536)) (i32.store (i32.const 280) (i32.const 3))
            (i32.store (i32.const 320) (i32.const 256)) (i32.store (i32.const 324) (i32.const 1))
            (i32.const 320))"#,
        prelude = guest::PRELUDE
    );
    guest::component("export sluice:plugin/preprocess@0.1.0; export sluice:plugin/postprocess@0.1.0;", &text)
}

/// A component with sample cases.
pub fn with_samples(component: &[u8], samples: &Value) -> Vec<u8> {
    with_section(component.to_vec(), "sluice:samples", samples.to_string().as_bytes())
}

/// Appends a custom section, as every tool may.
fn with_section(mut component: Vec<u8>, name: &str, data: &[u8]) -> Vec<u8> {
    let mut section = Vec::new();
    leb(&mut section, name.len());
    section.extend_from_slice(name.as_bytes());
    section.extend_from_slice(data);
    component.push(0);
    leb(&mut component, section.len());
    component.extend(section);
    component
}

fn leb(out: &mut Vec<u8>, mut value: usize) {
    loop {
        let low = u8::try_from(value & 0x7f).expect("seven bits");
        value >>= 7;
        out.push(if value == 0 { low } else { low | 0x80 });
        if value == 0 {
            return;
        }
    }
}

/// Waits until something is so: at most 20 seconds.
pub async fn until<F: Future<Output = bool>>(is_so: impl Fn() -> F) {
    for _ in 0..400 {
        if is_so().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("it did not come to be so");
}

/// Uploads a version.
pub async fn upload(admin: &Client, plugin: &str, version: &str, component: &[u8]) -> Reply {
    let path = format!("/admin/v1/plugins/{plugin}/versions/{version}");
    admin.try_send(Method::PUT, &path, &[], component.to_vec()).await.expect("an answer")
}

/// Activates a version.
pub async fn activate(admin: &Client, plugin: &str, version: &str) -> Reply {
    let path = format!("/admin/v1/plugins/{plugin}/activate");
    admin.post(&path, json!({ "version": version }).to_string()).await
}

/// Shows a plugin with its versions.
pub async fn show(admin: &Client, plugin: &str) -> Value {
    admin.get(&format!("/admin/v1/plugins/{plugin}")).await.ok()
}

/// Sends all of an upload but its last byte, and closes the connection.
pub async fn break_off(admin: &Client, path: &str, body: &[u8]) {
    let mut stream = tokio::net::TcpStream::connect(admin.address()).await.expect("connected");
    let head = format!("PUT {path} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {}\r\n\r\n", body.len());
    stream.write_all(head.as_bytes()).await.expect("written");
    stream.write_all(&body[..body.len() - 1]).await.expect("written");
    stream.shutdown().await.expect("closed");
}

/// A component with so many more instances, each with a memory of so many pages.
pub fn with_instances(component: &[u8], count: usize, pages: usize) -> Vec<u8> {
    guest::add_memories(component.to_vec(), count, pages)
}
