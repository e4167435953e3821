//! `wasi:logging`: a plugin's lines, under its name, cut, escaped and counted.

use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError};

use wasmtime::StoreContextMut;
use wasmtime::component::{HasSelf, Linker, WasmStr};

use crate::bindings::wasi::logging::logging::{self, Host, Level};
use crate::state::State;

/// Most bytes of one line; more is cut at a character. Longer lines are dumps
/// of data, which belong in no log.
const LINE_BYTES_MAX: usize = 1024;

/// Most bytes of the `context` that goes with a line.
const CONTEXT_BYTES_MAX: usize = 128;

/// What a line costs beside its text: even empty lines must end.
const LINE_OVERHEAD_BYTES: usize = 16;

/// How important a line is, as `wasi:logging` has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogLevel {
    /// Step by step.
    Trace,
    /// For the plugin's author.
    Debug,
    /// Worth knowing.
    Info,
    /// Odd, but handled.
    Warn,
    /// A request failed.
    Error,
    /// The plugin cannot work.
    Critical,
}

/// Where the lines of plugins go.
///
/// What arrives was cut and escaped: it holds no control characters and no
/// line breaks. Called on a guest thread, so it must not block.
pub trait LogSink: Send + Sync {
    /// Takes one line.
    fn log(&self, plugin: &str, request_id: &str, level: LogLevel, context: &str, message: &str);

    /// Counts a line that was dropped, because the call had logged all that it may.
    fn dropped(&self) {}
}

/// The log of one instance: whose it is, and what it may still write.
pub(crate) struct CallLog {
    plugin: Arc<str>,
    sink: Arc<dyn LogSink>,
    bytes_per_call: usize,
    /// Shared with the standard output of WASI, which outlives a host call.
    current: Mutex<Current>,
    /// Lines of outputs that have begun and not ended.
    begun: Mutex<Vec<Begun>>,
}

/// A line that has begun, of one output.
struct Begun {
    level: LogLevel,
    output: &'static str,
    line: Arc<Mutex<Vec<u8>>>,
}

struct Current {
    request_id: Arc<str>,
    bytes_left: usize,
    is_full: bool,
}

impl CallLog {
    pub(crate) fn new(
        plugin: Arc<str>,
        sink: Arc<dyn LogSink>,
        request_id: Arc<str>,
        bytes_per_call: usize,
    ) -> Self {
        let current = Mutex::new(Current { request_id, bytes_left: bytes_per_call, is_full: false });
        Self { plugin, sink, bytes_per_call, current, begun: Mutex::default() }
    }

    /// The plugin's name.
    pub(crate) fn plugin(&self) -> &str {
        &self.plugin
    }

    /// Attributes what follows to another request, with a fresh allowance.
    pub(crate) fn next_call(&self, request_id: Arc<str>) {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        *current = Current { request_id, bytes_left: self.bytes_per_call, is_full: false };
    }

    /// A place for a line of an output, until it ends.
    pub(crate) fn begin(&self, level: LogLevel, output: &'static str) -> Arc<Mutex<Vec<u8>>> {
        let line = Arc::default();
        let begun = Begun { level, output, line: Arc::clone(&line) };
        let mut all = self.begun.lock().unwrap_or_else(PoisonError::into_inner);
        // An output that nobody has any more has no line to end.
        all.retain(|begun| Arc::strong_count(&begun.line) > 1);
        all.push(begun);
        line
    }

    /// Ends the lines that have begun: they are this call's, and no part of the next one's.
    pub(crate) fn end_lines(&self) {
        for begun in &*self.begun.lock().unwrap_or_else(PoisonError::into_inner) {
            let line = std::mem::take(&mut *begun.line.lock().unwrap_or_else(PoisonError::into_inner));
            if !line.is_empty() {
                self.line(begun.level, begun.output, &String::from_utf8_lossy(&line));
            }
        }
    }

    /// Counts a line that is dropped because the call has logged all that it may; whether it
    /// is.
    fn is_full(&self) -> bool {
        let is_full = self.current.lock().unwrap_or_else(PoisonError::into_inner).is_full;
        if is_full {
            self.sink.dropped();
        }
        is_full
    }

    /// Writes one line, or the note that there will be no more.
    pub(crate) fn line(&self, level: LogLevel, context: &str, message: &str) {
        let request_id = {
            let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
            if current.is_full {
                drop(current);
                self.sink.dropped();
                return;
            }
            let cost = message.len().min(LINE_BYTES_MAX)
                + context.len().min(CONTEXT_BYTES_MAX)
                + LINE_OVERHEAD_BYTES;
            if let Some(left) = current.bytes_left.checked_sub(cost) {
                current.bytes_left = left;
            } else {
                current.is_full = true;
            }
            let request_id = Arc::clone(&current.request_id);
            if current.is_full {
                drop(current);
                let note = "log limit of the call reached, further lines are dropped";
                self.sink.log(&self.plugin, &request_id, LogLevel::Warn, "", note);
                self.sink.dropped();
                return;
            }
            request_id
        };
        let context = clean(context, CONTEXT_BYTES_MAX);
        let message = clean(message, LINE_BYTES_MAX);
        self.sink.log(&self.plugin, &request_id, level, &context, &message);
    }
}

/// Last words, of an instance that serves no other call.
impl Drop for CallLog {
    fn drop(&mut self) {
        self.end_lines();
    }
}

/// The text, cut, with everything escaped that could forge lines, move the
/// cursor or turn the writing direction.
pub(crate) fn clean(text: &str, bytes_max: usize) -> String {
    let cut = text.floor_char_boundary(bytes_max);
    let mut out = String::with_capacity(cut);
    for char in text[..cut].chars() {
        let is_format = matches!(char, '\u{61c}' | '\u{180e}' | '\u{e0000}'..='\u{e007f}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}');
        if char.is_control() || is_format {
            // Writing to a string cannot fail.
            let _ = write!(out, "{}", char.escape_default());
        } else {
            out.push(char);
        }
    }
    if cut < text.len() {
        out.push('…');
    }
    out
}

/// Links the interface. Its function is registered by hand over the generated one, which
/// would copy a message of any length before it is cut.
pub(crate) fn link(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    logging::add_to_linker::<State, HasSelf<State>>(linker, |state| state)?;
    linker.allow_shadowing(true);
    linker.instance("wasi:logging/logging@0.1.0-draft")?.func_wrap("log", log)?;
    linker.allow_shadowing(false);
    Ok(())
}

fn log(
    store: StoreContextMut<'_, State>,
    (level, context, message): (Level, WasmStr, WasmStr),
) -> wasmtime::Result<()> {
    // Straight code that logs passes no epoch's check.
    store.data().used_within_budget()?;
    let log = Arc::clone(&store.data().log);
    if log.is_full() {
        return Ok(());
    }
    log.line(level_from_guest(level), &context.to_str(&store)?, &message.to_str(&store)?);
    Ok(())
}

fn level_from_guest(level: Level) -> LogLevel {
    match level {
        Level::Trace => LogLevel::Trace,
        Level::Debug => LogLevel::Debug,
        Level::Info => LogLevel::Info,
        Level::Warn => LogLevel::Warn,
        Level::Error => LogLevel::Error,
        Level::Critical => LogLevel::Critical,
    }
}

impl Host for State {
    /// Never called: `link` registers [`log`] in its place.
    fn log(&mut self, level: Level, context: String, message: String) -> wasmtime::Result<()> {
        self.log.line(level_from_guest(level), &context, &message);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Lines(Mutex<Vec<String>>);

    impl LogSink for Lines {
        fn log(&self, plugin: &str, request_id: &str, level: LogLevel, context: &str, message: &str) {
            let line = format!("{plugin} {request_id} {level:?} {context} {message}");
            self.0.lock().expect("not poisoned").push(line);
        }
    }

    #[test]
    fn control_characters_cannot_forge_a_line_or_reach_a_terminal() {
        assert_eq!(clean("\u{61c}\u{180e}\u{e0041}", 100), "\\u{61c}\\u{180e}\\u{e0041}");
        assert_eq!(clean("a\nERROR fake\x1b[2J\u{202e}é", 100), "a\\nERROR fake\\u{1b}[2J\\u{202e}é");
    }

    #[test]
    fn a_long_line_is_cut_at_a_character() {
        assert_eq!(clean("éé", 3), "é…");
    }

    #[test]
    fn a_line_without_an_end_is_its_own_calls_and_last_words_are_told() {
        let sink = Arc::new(Lines::default());
        let log = CallLog::new("p".into(), Arc::clone(&sink) as Arc<dyn LogSink>, "r1".into(), 100);
        let line = log.begin(LogLevel::Info, "stdout");
        line.lock().expect("not poisoned").extend(b"bob");
        log.end_lines();
        log.next_call("r2".into());
        line.lock().expect("not poisoned").extend(b"alice");
        drop((line, log));
        assert_eq!(*sink.0.lock().expect("not poisoned"), ["p r1 Info stdout bob", "p r2 Info stdout alice"]);
    }

    #[test]
    fn a_flood_ends_with_one_note_and_the_next_call_may_log_again() {
        let sink = Arc::new(Lines::default());
        let log = CallLog::new("p".into(), Arc::clone(&sink) as Arc<dyn LogSink>, "r1".into(), 100);
        for _ in 0..1000 {
            log.line(LogLevel::Info, "c", "0123456789");
        }
        log.next_call("r2".into());
        log.line(LogLevel::Error, "c", "again");
        let lines = sink.0.lock().expect("not poisoned").clone();
        assert_eq!(lines.len(), 5, "{lines:?}");
        assert_eq!(lines[2], "p r1 Info c 0123456789");
        assert!(lines[3].starts_with("p r1 Warn  log limit"), "{}", lines[3]);
        assert_eq!(lines[4], "p r2 Error c again");
    }
}
