//! Strings in every encoding that a component may choose, and broken in every way: they
//! arrive whole, or cost the call (P17; RUSTSEC-2026-0091 to 0093).

use std::sync::Arc;

use sluice_sandbox::CallError;

use crate::guest::{self, StringEncoding};
use crate::support::{Lines, fault, options, sandbox};

const LOG: &str =
    r#"(import "wasi:logging/logging@0.1.0-draft" "log" (func $log (param i32 i32 i32 i32 i32)))"#;

/// What becomes of a message at this place with this length: the line that was logged, or
/// the trap.
async fn log(encoding: StringEncoding, data: &str, at: u32, len: u32) -> Result<String, String> {
    let fields = format!(r#"(data (i32.const 2048) "{data}")"#);
    // Traps by itself after a message that was fine.
    let body = format!(
        "(call $log (i32.const 2) (i32.const 0) (i32.const 0) (i32.const {at}) (i32.const {len})) (unreachable)"
    );
    let lines = Arc::new(Lines::default());
    let mut options = options();
    options.log = Arc::clone(&lines) as Arc<dyn sluice_sandbox::LogSink>;
    let component = guest::pipeline_with(encoding, LOG, &fields, &body);
    let plugin = sandbox().load(&component, options).unwrap();
    let error = fault(&plugin).await;
    match (lines.all().pop(), error) {
        (Some(line), CallError::Trap(_)) => Ok(line.rsplit(": ").next().unwrap().to_owned()),
        (None, CallError::Trap(text) | CallError::Output(text)) => Err(text),
        (line, error) => panic!("{line:?}, {error:?}"),
    }
}

/// UTF-16 and Latin-1 in one: the highest bit of the length says which.
const WIDE: u32 = 1 << 31;

#[tokio::test]
async fn whole_strings_arrive_in_every_encoding() {
    let utf16 = r"h\00\e9\00\ac\20\3d\d8\00\de";
    assert_eq!(log(StringEncoding::UTF16, utf16, 2048, 5).await.unwrap(), "hé€😀");
    assert_eq!(log(StringEncoding::CompactUTF16, utf16, 2048, 5 | WIDE).await.unwrap(), "hé€😀");
    assert_eq!(log(StringEncoding::CompactUTF16, r"h\e9\ff", 2048, 3).await.unwrap(), "héÿ");
    assert_eq!(log(StringEncoding::UTF8, r"h\c3\a9", 2048, 3).await.unwrap(), "hé");
    assert_eq!(log(StringEncoding::UTF8, "", 2048, 0).await.unwrap(), "");
}

#[tokio::test]
async fn broken_strings_cost_the_call_and_are_never_seen() {
    let lone = r"h\00\00\d8h\00";
    let cases = [
        ("not UTF-8", StringEncoding::UTF8, r"h\ff\fe", 2048, 3),
        ("cut UTF-8", StringEncoding::UTF8, r"h\c3", 2048, 2),
        ("a lone surrogate", StringEncoding::UTF16, lone, 2048, 3),
        ("a lone surrogate, compact", StringEncoding::CompactUTF16, lone, 2048, 3 | WIDE),
        ("an odd address", StringEncoding::UTF16, "hhhhhh", 2049, 2),
        ("an odd address, compact", StringEncoding::CompactUTF16, "hhhhhh", 2049, 2 | WIDE),
        ("past the end", StringEncoding::UTF8, "", 131_071, 2),
        ("past the end, wide", StringEncoding::UTF16, "", 131_070, 2),
        ("an overflow", StringEncoding::UTF16, "", 2048, 0x7fff_ffff),
        ("an overflow, wide", StringEncoding::UTF16, "", 2048, 0xffff_ffff),
        ("an overflow, compact", StringEncoding::CompactUTF16, "", 2048, 0xffff_ffff),
        ("an address past the end", StringEncoding::UTF8, "", 0xffff_fff0, 32),
    ];
    for (what, encoding, data, at, len) in cases {
        let error = log(encoding, data, at, len).await.expect_err(what);
        assert!(!error.contains("unreachable"), "{what}: {error}");
    }
}
