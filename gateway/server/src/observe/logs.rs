//! Log lines: readable on a terminal, JSON otherwise, and never able to speak for
//! anybody else: control characters in values are escaped in both.

use std::fmt::{self, Write as _};
use std::io::{self, IsTerminal as _};

use tracing::Subscriber;
use tracing::field::Field;
use tracing_subscriber::field::MakeExt as _;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::{self, Writer};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::{EnvFilter, Layer, reload};

use super::log_queue::LogQueue;
use super::log_settings::{LogFilter, LogTime};
use crate::config::{LogFormat, Telemetry};

/// Checks a filter: `info`, or directives such as `sluice=debug,hyper=warn`.
///
/// # Errors
/// Words for the user.
pub fn check_filter(filter: &str) -> Result<(), String> {
    EnvFilter::builder().parse(filter).map(drop).map_err(|error| error.to_string())
}

/// The layer that writes log lines into a queue.
pub(super) fn layer<S>(
    telemetry: &Telemetry,
    filter: reload::Layer<LogFilter, S>,
    queue: LogQueue,
) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'span> LookupSpan<'span>,
{
    let is_terminal = io::stderr().is_terminal();
    let is_human = match telemetry.log_format {
        LogFormat::Auto => is_terminal,
        LogFormat::Human => true,
        LogFormat::Json => false,
    };
    let has_colour = is_terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let layer = if is_human { human(queue, has_colour) } else { json(queue) };
    layer.with_filter(filter).boxed()
}

fn human<S, W>(writer: W, has_colour: bool) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'span> LookupSpan<'span>,
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let fields = format::debug_fn(write_field).delimited(" ");
    tracing_subscriber::fmt::layer()
        .with_ansi(has_colour)
        .with_timer(LogTime)
        .fmt_fields(fields)
        .with_writer(writer)
        .boxed()
}

fn json<S, W>(writer: W) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'span> LookupSpan<'span>,
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    tracing_subscriber::fmt::layer()
        .json()
        .with_timer(LogTime)
        .flatten_event(true)
        .with_span_list(false)
        .with_writer(EscapedMake(writer))
        .boxed()
}

fn write_field(writer: &mut Writer<'_>, field: &Field, value: &dyn fmt::Debug) -> fmt::Result {
    match field.name() {
        "message" => write!(Escaped(writer), "{value:?}"),
        name => write!(Escaped(writer), "{name}={value:?}"),
    }
}

/// Writes text so that it stays one line and cannot steer a terminal.
struct Escaped<'a, 'w>(&'a mut Writer<'w>);

impl fmt::Write for Escaped<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut rest = text;
        while let Some(position) = rest.find(is_unsafe) {
            let (plain, from) = rest.split_at(position);
            self.0.write_str(plain)?;
            let mut characters = from.chars();
            for escaped in characters.next().into_iter().flat_map(char::escape_default) {
                self.0.write_char(escaped)?;
            }
            rest = characters.as_str();
        }
        self.0.write_str(rest)
    }
}

/// Control characters, and the marks that reorder or break lines of text.
fn is_unsafe(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// JSON escapes what is below space. DEL and the control characters above 127 steer
/// terminals too, and stand only inside strings, so they can be escaped afterwards.
struct EscapedMake<W>(W);

impl<'w, W: MakeWriter<'w>> MakeWriter<'w> for EscapedMake<W> {
    type Writer = EscapedLine<W::Writer>;

    fn make_writer(&'w self) -> Self::Writer {
        EscapedLine(self.0.make_writer())
    }

    fn make_writer_for(&'w self, metadata: &tracing::Metadata<'_>) -> Self::Writer {
        EscapedLine(self.0.make_writer_for(metadata))
    }
}

struct EscapedLine<W>(W);

impl<W: io::Write> io::Write for EscapedLine<W> {
    /// The formatter hands over whole lines, so no character is cut in two.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let unsafe_in_json = |character: char| is_unsafe(character) && character >= '\u{7f}';
        match std::str::from_utf8(line) {
            Ok(text) if text.contains(unsafe_in_json) => {
                let mut escaped = String::with_capacity(text.len() + 16);
                for character in text.chars() {
                    if unsafe_in_json(character) {
                        let _ = write!(escaped, "\\u{:04x}", u32::from(character));
                    } else {
                        escaped.push(character);
                    }
                }
                self.0.write_all(escaped.as_bytes())?;
            }
            _ => self.0.write_all(line)?,
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

#[cfg(test)]
#[path = "logs_tests.rs"]
mod tests;
