//! `registry.backup`: a second copy of the registry, in another format and another
//! file, for the day `registry.redb` cannot be read.
//!
//! It is a text file: a head line, every row, and then one line for each commit.
//! Each line carries a part of its own SHA-256, so that a torn or altered line shows.
//! A commit is on disk here before it goes into `registry.redb`, so the copy is never
//! behind what was acknowledged. When the lines of commits outgrow the rows, the file
//! is written anew beside itself and renamed.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::error::{Result, StoreError};
use super::faults;
use super::layout::{self, Layout};
use super::tables::{Row, SCHEMA};

/// Bytes of commits after which the file is written anew, if that is also more than
/// the rows take: a restore stays quick, and rewriting costs less than appending did.
const APPENDED_BYTES_MIN: u64 = 1 << 20;

const CHECK_DIGITS: usize = 16;

#[derive(Serialize, Deserialize)]
struct Head {
    schema: u64,
    generation: u64,
    rows: usize,
}

#[derive(Serialize, Deserialize)]
struct Commit {
    generation: u64,
    rows: Vec<Row>,
}

/// What a copy holds.
pub(super) struct Restored {
    /// The generation of its last whole commit.
    pub(super) generation: u64,
    /// Every row, then those of each commit, in order.
    pub(super) rows: Vec<Row>,
    /// If lines follow a broken one: what is lost.
    pub(super) problem: Option<String>,
}

/// The copy, open for appending.
pub(super) struct Backup {
    path: PathBuf,
    layout: Layout,
    /// None until it could be written anew: after a failure nothing may follow the
    /// lines that are there.
    file: Option<File>,
    rows_bytes: u64,
    bytes: u64,
}

impl Backup {
    /// Not written yet.
    pub(super) fn new(layout: &Layout) -> Self {
        Self { path: layout.backup(), layout: layout.clone(), file: None, rows_bytes: 0, bytes: 0 }
    }

    /// Whether it is due to be written anew.
    pub(super) fn is_due(&self) -> bool {
        let appended = self.bytes - self.rows_bytes;
        self.file.is_none() || appended > APPENDED_BYTES_MIN.max(self.rows_bytes)
    }

    /// Writes the whole copy anew, durably, in place of the old one.
    pub(super) fn rewrite(&mut self, generation: u64, rows: &[Row]) -> Result<()> {
        let fault = |error: io::Error| StoreError::at("write the copy of the registry", &self.path, &error);
        let temporary =
            tempfile::Builder::new().prefix("backup-").tempfile_in(self.layout.tmp()).map_err(fault)?;
        let mut out = BufWriter::new(temporary.as_file());
        let head = Head { schema: SCHEMA, generation, rows: rows.len() };
        let mut bytes = write_line(&mut out, &head).map_err(fault)?;
        for row in rows {
            faults::pass("backup.write").map_err(fault)?;
            bytes += write_line(&mut out, row).map_err(fault)?;
        }
        out.flush().map_err(fault)?;
        drop(out);
        temporary.as_file().sync_all().map_err(fault)?;
        faults::pass("backup.rename").map_err(fault)?;
        temporary.persist(&self.path).map_err(|error| fault(error.error))?;
        layout::sync_directory(self.layout.root()).map_err(fault)?;
        let file = OpenOptions::new().append(true).mode(0o600).open(&self.path).map_err(fault)?;
        (self.file, self.rows_bytes, self.bytes) = (Some(file), bytes, bytes);
        Ok(())
    }

    /// Appends a commit, durable when this returns. After an error it is not there.
    pub(super) fn append(&mut self, generation: u64, rows: &[Row]) -> Result<()> {
        let commit = Commit { generation, rows: rows.to_vec() };
        let mut line = Vec::new();
        let Some(file) = &mut self.file else {
            let source = io::Error::other("it has to be written anew first");
            return Err(StoreError::Io { operation: "write the copy of the registry", source });
        };
        let written = write_line(&mut line, &commit).and_then(|bytes| {
            faults::pass("backup.append")?;
            file.write_all(&line)?;
            file.sync_data()?;
            Ok(bytes)
        });
        match written {
            Ok(bytes) => {
                self.bytes += bytes;
                Ok(())
            }
            Err(error) => {
                self.take_back(0);
                Err(StoreError::io("write the copy of the registry", error))
            }
        }
    }

    /// Takes the last so many bytes back: the commit that they are did not happen.
    /// If even that fails, the file is written anew before anything is appended.
    pub(super) fn take_back(&mut self, bytes: u64) {
        self.bytes -= bytes;
        let shortened =
            self.file.as_ref().map(|file| file.set_len(self.bytes).and_then(|()| file.sync_data()));
        if !matches!(shortened, Some(Ok(()))) {
            self.file = None;
        }
    }

    /// Has it written anew before anything is appended: what it holds is not sure.
    pub(super) fn distrust(&mut self) {
        self.file = None;
    }

    /// How long the file is: the difference is what [`Backup::take_back`] takes.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }
}

/// Reads a copy. None if there is none; an error says what is wrong with it.
pub(super) fn read(path: &Path) -> Result<Option<Restored>, ReadError> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(ReadError::Broken(error.to_string())),
    };
    let mut lines = BufReader::new(file).split(b'\n');
    let mut next = || lines.next().map(|line| line.unwrap_or_default());
    let broken = |what: &str| ReadError::Broken(what.to_owned());
    let head: Head =
        next().as_deref().and_then(parse_line).ok_or_else(|| broken("its first line is broken"))?;
    if head.schema > SCHEMA {
        return Err(ReadError::Newer(head.schema));
    }
    let mut restored = Restored { generation: head.generation, rows: Vec::new(), problem: None };
    for number in 0..head.rows {
        let row = next().as_deref().and_then(parse_line::<Row>);
        restored.rows.push(row.ok_or_else(|| broken(&format!("line {} is broken", number + 2)))?);
    }
    while let Some(line) = next() {
        match parse_line::<Commit>(&line) {
            Some(commit) if commit.generation == restored.generation + 1 => {
                restored.generation = commit.generation;
                restored.rows.extend(commit.rows);
            }
            _ => {
                // A torn last line is a commit that was never acknowledged.
                let lost = std::iter::from_fn(&mut next).count();
                if lost > 0 {
                    let after = restored.generation;
                    restored.problem = Some(format!("{lost} commits after generation {after} are lost"));
                }
                break;
            }
        }
    }
    Ok(Some(restored))
}

/// Why a copy is of no use.
pub(super) enum ReadError {
    Broken(String),
    Newer(u64),
}

fn check(json: &[u8]) -> String {
    use std::fmt::Write as _;
    let hash = Sha256::digest(json);
    hash.iter().take(CHECK_DIGITS / 2).fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn write_line(out: &mut impl Write, value: &impl Serialize) -> io::Result<u64> {
    let json = serde_json::to_vec(value)?;
    out.write_all(check(&json).as_bytes())?;
    out.write_all(b" ")?;
    out.write_all(&json)?;
    out.write_all(b"\n")?;
    Ok((CHECK_DIGITS + json.len() + 2) as u64)
}

fn parse_line<T: for<'a> Deserialize<'a>>(line: &[u8]) -> Option<T> {
    let (sum, json) = line.split_at_checked(CHECK_DIGITS)?;
    let json = json.strip_prefix(b" ")?;
    if sum != check(json).as_bytes() {
        return None;
    }
    serde_json::from_slice(json).ok()
}
