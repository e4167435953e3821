//! What log lines promise.

use std::io;
use std::sync::{Arc, Mutex};

use tracing_subscriber::layer::SubscriberExt as _;

use super::*;

#[derive(Debug, Clone, Default)]
struct Buffer(Arc<Mutex<Vec<u8>>>);

impl io::Write for Buffer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("not poisoned").write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Buffer {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().expect("not poisoned").clone()).expect("UTF-8")
    }
}

type Boxed = Box<dyn Layer<tracing_subscriber::Registry> + Send + Sync>;

fn logged(layer: impl Fn(Buffer) -> Boxed, log: impl Fn()) -> String {
    let buffer = Buffer::default();
    tracing::subscriber::with_default(tracing_subscriber::registry().with(layer(buffer.clone())), log);
    buffer.text()
}

const HOSTILE: &str = "a\u{1b}[2Jb\r\n2026-01-01 INFO forged\u{9b}31m\u{7f}\u{202e}\u{2028}ü";

fn log_hostile() {
    let span = tracing::info_span!("request", id = HOSTILE, shown = %HOSTILE);
    let _entered = span.enter();
    tracing::info!(value = HOSTILE, shown = %HOSTILE, "plugin says {HOSTILE}");
}

fn has_no_control(line: &str) -> bool {
    !line.chars().any(is_unsafe)
}

#[test]
fn p16_values_can_neither_forge_lines_nor_steer_a_terminal() {
    let make = |buffer: Buffer| -> Boxed { human(move || buffer.clone(), false) };
    let text = logged(make, log_hostile);
    assert_eq!(text.lines().count(), 1, "{text:?}");
    assert!(has_no_control(text.trim_end_matches('\n')), "{text:?}");
    assert!(text.contains("plugin says a\\u{1b}[2Jb\\r\\n2026-01-01 INFO forged"), "{text:?}");
    assert!(text.contains('ü'), "{text:?}");
    assert!(text.contains("request{id="), "{text:?}");
}

#[test]
fn p16_json_lines_are_escaped_and_say_the_same() {
    let make = |buffer: Buffer| -> Boxed { json(move || buffer.clone()) };
    let text = logged(make, log_hostile);
    assert_eq!(text.lines().count(), 1, "{text:?}");
    assert!(has_no_control(text.trim_end_matches('\n')), "{text:?}");
    let parsed: serde_json::Value = serde_json::from_str(&text).expect("is JSON");
    assert_eq!(parsed["message"], format!("plugin says {HOSTILE}"));
    assert_eq!(parsed["shown"], HOSTILE);
    assert_eq!(parsed["level"], "INFO");
    assert_eq!(parsed["span"]["name"], "request");
}

#[test]
fn colours_are_only_for_terminals() {
    let log = || tracing::info!(value = 1, "plain");
    let coloured = logged(|buffer| human(move || buffer.clone(), true), log);
    let plain = logged(|buffer| human(move || buffer.clone(), false), log);
    assert!(coloured.contains('\u{1b}'));
    assert!(!plain.contains('\u{1b}') && plain.ends_with("plain value=1\n"), "{plain:?}");
}

#[test]
fn malformed_filters_are_refused() {
    for good in ["info", "sluice=debug,hyper=warn", "off", ""] {
        assert_eq!(check_filter(good), Ok(()), "{good}");
    }
    for bad in ["sluice=loud", "a=b=c", "[span"] {
        assert!(check_filter(bad).is_err(), "{bad}");
    }
}
