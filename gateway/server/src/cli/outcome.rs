//! How commands for people end: text on stdout, a sentence on stderr, an exit code.

use std::fmt::Write as _;
use std::io::{self, Read, Write};
use std::path::Path;
use std::process::ExitCode;

use super::complain;

/// Exit code for what was understood and refused: a failed test, a bad signature, an
/// answer of the gateway.
const EXIT_REFUSED: u8 = 1;

/// Exit code for arguments that make no sense, as the parser of arguments has it.
const EXIT_USAGE: u8 = 2;

/// Exit code for a gateway that cannot be reached or has no time now (EX_UNAVAILABLE).
const EXIT_UNAVAILABLE: u8 = 69;

/// Why a command did not do what it was asked.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Failure {
    code: u8,
    message: String,
}

/// How a command ends.
pub(super) type Outcome<T = ()> = Result<T, Failure>;

impl Failure {
    pub(super) fn refused(message: impl Into<String>) -> Self {
        Self { code: EXIT_REFUSED, message: message.into() }
    }

    pub(super) fn usage(message: impl Into<String>) -> Self {
        Self { code: EXIT_USAGE, message: message.into() }
    }

    pub(super) fn unavailable(message: impl Into<String>) -> Self {
        Self { code: EXIT_UNAVAILABLE, message: message.into() }
    }

    /// Says what was being done when it failed.
    pub(super) fn while_(mut self, doing: &str) -> Self {
        self.message = format!("{doing}: {}", self.message);
        self
    }

    #[cfg(test)]
    pub(super) fn message(&self) -> &str {
        &self.message
    }

    #[cfg(test)]
    pub(super) fn code(&self) -> u8 {
        self.code
    }
}

/// The exit code, with the reason on stderr.
pub(super) fn exit(outcome: Outcome) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if !failure.message.is_empty() {
                complain(&failure.message);
            }
            ExitCode::from(failure.code)
        }
    }
}

/// Writes to stdout. A reader that has seen enough, as `head` has, is no failure.
pub(super) fn print(text: &str) -> Outcome {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::refused(format!("cannot write the answer: {error}")))
        }
        _ => Ok(()),
    }
}

/// Reads a file of at most `bytes_max` bytes.
pub(super) fn read(path: &Path, bytes_max: usize) -> Outcome<Vec<u8>> {
    let fault = |error: io::Error| Failure::usage(format!("cannot read {}: {error}", path.display()));
    let file = std::fs::File::open(path).map_err(fault)?;
    let mut content = Vec::new();
    let limit = u64::try_from(bytes_max).unwrap_or(u64::MAX).saturating_add(1);
    file.take(limit).read_to_end(&mut content).map_err(fault)?;
    if content.len() > bytes_max {
        return Err(Failure::usage(format!("{} is larger than {bytes_max} bytes", path.display())));
    }
    Ok(content)
}

/// Reads a text file of at most `bytes_max` bytes.
pub(super) fn read_text(path: &Path, bytes_max: usize) -> Outcome<String> {
    String::from_utf8(read(path, bytes_max)?)
        .map_err(|_| Failure::usage(format!("{} is not UTF-8 text", path.display())))
}

/// A new file that nobody else can have placed there.
pub(super) fn write_new(path: &Path, content: &[u8], mode: u32) -> Outcome {
    use std::os::unix::fs::OpenOptionsExt as _;
    let opened = std::fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(path);
    let written = opened.and_then(|mut file| file.write_all(content).and_then(|()| file.sync_all()));
    written.map_err(|error| Failure::usage(format!("cannot write {}: {error}", path.display())))
}

/// A text of somebody else's, on a terminal: nothing in it moves the cursor.
pub(super) fn clean(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for char in text.chars() {
        if char.is_control() {
            // Writing to a string cannot fail.
            let _ = write!(out, "{}", char.escape_default());
        } else {
            out.push(char);
        }
    }
    out
}

/// Rows in columns, as wide as they need to be; the first row is the heading.
pub(super) fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let rows: Vec<Vec<String>> =
        rows.iter().map(|row| row.iter().map(|cell| clean(cell)).collect()).collect();
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut out = String::new();
    for row in &rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            let _ = write!(line, "{cell:width$}  ");
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

/// Bytes for people.
pub(super) fn size(bytes: u64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "shown with one digit")]
    let float = bytes as f64;
    match bytes {
        0..1024 => format!("{bytes} B"),
        1024..0x10_0000 => format!("{:.1} KiB", float / 1024.0),
        _ => format!("{:.1} MiB", float / 1024.0 / 1024.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_as_wide_as_its_cells_and_nothing_in_it_moves_the_cursor() {
        let row = |cells: [&str; 2]| cells.map(str::to_owned).to_vec();
        let text = table(&[row(["NAME", "STATE"]), row(["a", "b"]), row(["long-name", "\u{1b}[2Jx"])]);
        assert_eq!(text, "NAME       STATE\na          b\nlong-name  \\u{1b}[2Jx\n");
        assert_eq!(table(&[]), "");
    }

    #[test]
    fn a_new_file_replaces_nothing_and_a_large_one_is_not_read() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("key");
        assert_eq!(write_new(&path, b"12345", 0o600), Ok(()));
        assert!(write_new(&path, b"other", 0o600).is_err());
        assert_eq!(read(&path, 5), Ok(b"12345".to_vec()));
        assert!(read(&path, 4).is_err());
    }

    #[test]
    fn sizes_are_for_people() {
        assert_eq!([size(7), size(1536), size(16 << 20)], ["7 B", "1.5 KiB", "16.0 MiB"]);
    }
}
