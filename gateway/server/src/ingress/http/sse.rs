//! Server-sent events: text in frames of `data:` lines.
//!
//! An event is UTF-8 and its lines end at CR, LF or both, so any bytes can be framed: what
//! is no character becomes U+FFFD, a character that two parts share waits for its end, and
//! every kind of line end arrives as LF.

use bytes::{BufMut, Bytes, BytesMut};

/// The content type.
pub(super) const CONTENT_TYPE: &str = "text/event-stream";

/// One event, of a type unless that is the default.
pub(super) fn event(kind: Option<&str>, data: &str) -> Bytes {
    let mut out = BytesMut::with_capacity(data.len() + 32);
    if let Some(kind) = kind {
        out.put_slice(b"event: ");
        out.put_slice(kind.as_bytes());
        out.put_u8(b'\n');
    }
    let mut rest = data;
    loop {
        let end = rest.find(['\r', '\n']);
        out.put_slice(b"data: ");
        out.put_slice(&rest.as_bytes()[..end.unwrap_or(rest.len())]);
        out.put_u8(b'\n');
        let Some(end) = end else { break };
        rest = &rest[end..];
        rest = rest.strip_prefix("\r\n").unwrap_or_else(|| &rest[1..]);
    }
    out.put_u8(b'\n');
    out.freeze()
}

/// Bytes of several parts as text.
#[derive(Debug, Default)]
pub(super) struct Text {
    /// The beginning of a character: 3 bytes at most.
    begun: Vec<u8>,
}

impl Text {
    /// The text that is complete with these bytes.
    pub(super) fn add(&mut self, bytes: &[u8]) -> String {
        let mut all = std::mem::take(&mut self.begun);
        all.extend_from_slice(bytes);
        let mut text = String::with_capacity(all.len());
        let mut rest = &all[..];
        loop {
            match std::str::from_utf8(rest) {
                Ok(valid) => {
                    text.push_str(valid);
                    return text;
                }
                Err(error) => {
                    let (valid, bad) = rest.split_at(error.valid_up_to());
                    text.push_str(&String::from_utf8_lossy(valid));
                    let Some(length) = error.error_len() else {
                        self.begun = bad.to_vec();
                        return text;
                    };
                    text.push(char::REPLACEMENT_CHARACTER);
                    rest = &bad[length..];
                }
            }
        }
    }

    /// What is left of a character that never ended.
    pub(super) fn finish(&mut self) -> Option<String> {
        let left = !std::mem::take(&mut self.begun).is_empty();
        left.then(|| char::REPLACEMENT_CHARACTER.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a client makes of events: the lines of each, joined.
    fn read(stream: &str) -> Vec<String> {
        let mut events = Vec::new();
        let mut lines: Vec<&str> = Vec::new();
        for line in stream.split('\n') {
            match line.strip_prefix("data: ") {
                Some(data) => lines.push(data),
                None if !lines.is_empty() => events.push(std::mem::take(&mut lines).join("\n")),
                None => {}
            }
        }
        events
    }

    #[test]
    fn every_text_is_one_event_and_every_line_end_a_newline() {
        for (text, heard) in [
            ("", ""),
            ("plain", "plain"),
            ("a\nb", "a\nb"),
            ("a\r\nb\rc\n", "a\nb\nc\n"),
            ("\n\n", "\n\n"),
            ("data: x\n\nevent: y", "data: x\n\nevent: y"),
            (": not a comment\u{0}", ": not a comment\u{0}"),
        ] {
            let framed = event(None, text);
            let framed = std::str::from_utf8(&framed).expect("UTF-8");
            assert!(!framed.contains('\r'), "{framed:?}");
            assert_eq!(read(framed), [heard], "{text:?}");
        }
        assert_eq!(event(Some("error"), "{}"), "event: error\ndata: {}\n\n");
    }

    #[test]
    fn a_character_may_be_cut_anywhere_and_nonsense_is_replaced() {
        let whole = "aé漢🦈z".as_bytes();
        for cut in 0..=whole.len() {
            let mut text = Text::default();
            let joined = text.add(&whole[..cut]) + &text.add(&whole[cut..]);
            assert_eq!((joined.as_str(), text.finish()), ("aé漢🦈z", None), "{cut}");
        }
        let mut text = Text::default();
        assert_eq!(text.add(b"a\xff\xfeb\xe6"), "a\u{fffd}\u{fffd}b");
        assert_eq!(text.add(b"\xbc"), "");
        assert_eq!(text.finish().as_deref(), Some("\u{fffd}"));
    }
}
