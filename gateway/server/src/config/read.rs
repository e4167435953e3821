//! Bytes on disk to [`ConfigFile`], with every problem of form collected.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use figment::error::{Error, Kind};
use figment::providers::{Format as _, Json, Toml, Yaml};
use figment::value::{Dict, Value};
use figment::{Figment, Profile};
use serde::Deserialize as _;

use super::defaults::{CONFIG_BYTES_MAX, PROBLEMS_MAX};
use super::file::ConfigFile;
use super::locate::{self, Format, Located};
use super::overrides::{Override, Overrides, put};
use super::problem::Problem;
use super::types::TextDigest;
use crate::oci::Digest;

/// Where each key came from, to say so in problems.
#[derive(Debug)]
pub(super) struct Origin {
    file: PathBuf,
    keys: Vec<Located>,
    overrides: BTreeMap<Vec<String>, Override>,
}

impl Origin {
    /// A problem with a key.
    pub(super) fn problem(&self, path: &[String], message: impl Into<String>) -> Problem {
        let set_by = self.overrides.get(path).map(|found| found.set_by.clone());
        Problem {
            file: self.file.clone(),
            line: locate::line_of(&self.keys, path).filter(|_| set_by.is_none()),
            key: display(path),
            set_by,
            message: message.into(),
        }
    }
}

fn display(path: &[String]) -> String {
    let quoted = path.iter().map(|part| {
        let is_plain = part.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'));
        if is_plain && !part.is_empty() { part.clone() } else { format!("{part:?}") }
    });
    quoted.collect::<Vec<_>>().join(".")
}

/// What reading gave: as much of the file as makes sense, and what does not.
pub(super) struct ReadFile {
    pub(super) file: ConfigFile,
    pub(super) digest: TextDigest,
    pub(super) origin: Origin,
    pub(super) problems: Vec<Problem>,
}

/// Reads the file, puts the overrides over it and gives it its types.
///
/// # Errors
/// The problem that left nothing to look at: not readable, too large, not UTF-8, of
/// unknown format, or not well-formed.
pub(super) fn read(path: &Path, overrides: &Overrides) -> Result<ReadFile, Problem> {
    let whole = |line: Option<usize>, message: String| Problem {
        file: path.to_owned(),
        line,
        key: String::new(),
        set_by: None,
        message,
    };
    let (format, text) = if overrides.is_without_file() {
        (Format::Toml, String::new())
    } else {
        let format = format_of(path).map_err(|message| whole(None, message))?;
        (format, text_of(path).map_err(|message| whole(None, message))?)
    };
    let digest = TextDigest(Digest::of(text.as_bytes()).hex().into());
    let mut root = parse(&text, format).map_err(|(line, message)| whole(line, message))?;
    let keys = locate::keys(&text, format);
    let duplicates = if format == Format::Toml { Vec::new() } else { locate::duplicates(&keys) };
    let duplicates: Vec<Problem> = duplicates
        .into_iter()
        .map(|(key, line)| Problem { key: display(key), ..whole(Some(*line), "is set twice".to_owned()) })
        .collect();
    drop_nulls(&mut root, 0);
    let applied = overrides.apply(&mut root);
    let origin = Origin { file: path.to_owned(), keys, overrides: applied };
    let (file, mut problems) = typed(root, &origin);
    problems.extend(duplicates);
    Ok(ReadFile { file, digest, origin, problems })
}

fn format_of(path: &Path) -> Result<Format, String> {
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("toml") => Ok(Format::Toml),
        Some("yaml" | "yml") => Ok(Format::Yaml),
        Some("json") => Ok(Format::Json),
        _ => Err("the name of a configuration file ends in .toml, .yaml, .yml or .json".to_owned()),
    }
}

fn text_of(path: &Path) -> Result<String, String> {
    let cannot_read = |error: std::io::Error| format!("cannot read the file: {error}");
    let metadata = std::fs::metadata(path).map_err(cannot_read)?;
    if !metadata.is_file() {
        return Err("is not a file".to_owned());
    }
    let file = std::fs::File::open(path).map_err(cannot_read)?;
    let mut bytes = Vec::new();
    // One more than allowed: a file may grow after its length was read.
    file.take(CONFIG_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(cannot_read)?;
    if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > CONFIG_BYTES_MAX {
        return Err(format!("is larger than {CONFIG_BYTES_MAX} bytes"));
    }
    String::from_utf8(bytes).map_err(|error| {
        let position = error.utf8_error().valid_up_to();
        format!("is not UTF-8 at byte {position}")
    })
}

fn parse(text: &str, format: Format) -> Result<Dict, (Option<usize>, String)> {
    let figment = match format {
        Format::Toml => Figment::from(Toml::string(text)),
        // An empty YAML document is null, and an empty JSON one nothing; both mean
        // what an empty TOML one means.
        Format::Yaml | Format::Json if text.trim().is_empty() => Figment::new(),
        Format::Yaml => Figment::from(Yaml::string(text)),
        Format::Json => Figment::from(Json::string(text)),
    };
    let data = figment::Provider::data(&figment).map_err(|error| syntax(&error))?;
    Ok(data.get(&Profile::Default).cloned().unwrap_or_default())
}

/// Takes the line out of a parser's message, and the message out of its drawing.
fn syntax(error: &Error) -> (Option<usize>, String) {
    let text = error.kind.to_string();
    let number =
        |after: &str| after.chars().take_while(char::is_ascii_digit).collect::<String>().parse().ok();
    let line = text.find("line ").and_then(|start| number(text.get(start + 5..)?));
    // toml draws the line with a caret below it, and says what is wrong after that.
    let message = match text.rfind('^').and_then(|caret| text.get(caret + 1..)) {
        Some(after) if !after.trim().is_empty() => after.trim().replace('\n', ", "),
        _ => text,
    };
    (line, message)
}

/// A key without a value, as YAML writes it, is an absent key; except in the free
/// tables of plugins, which are not ours.
fn drop_nulls(dict: &mut Dict, depth: usize) {
    dict.retain(|_, value| !matches!(value, Value::Empty(..)));
    for (key, value) in dict {
        if let Value::Dict(_, inner) = value
            && !(depth == 2 && key == "config")
        {
            drop_nulls(inner, depth + 1);
        }
    }
}

/// Gives the values their types. Serde stops at the first problem, so each one is
/// noted, its value taken out, and the rest tried again: keys are all optional.
fn typed(root: Dict, origin: &Origin) -> (ConfigFile, Vec<Problem>) {
    let mut root = root;
    let mut raw = origin.overrides.clone();
    let mut problems = Vec::new();
    loop {
        let error = match ConfigFile::deserialize(&Value::from(root.clone())) {
            Ok(file) => return (file, problems),
            Err(error) => error,
        };
        // An override is guessed to be a number or a boolean before it is a text.
        if matches!(error.kind, Kind::InvalidType(..))
            && let Some(found) = raw.remove(&error.path)
        {
            put(&mut root, &error.path, Value::from(found.text));
            continue;
        }
        problems.push(origin.problem(&error.path, words(&error.kind)));
        if problems.len() > PROBLEMS_MAX || !take_out(&mut root, &error.path) {
            return (ConfigFile::default(), problems);
        }
    }
}

fn words(kind: &Kind) -> String {
    let one_of = |names: &[&str]| names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    match kind {
        Kind::InvalidType(found, wanted) | Kind::InvalidValue(found, wanted) => {
            format!("expected {wanted}, found {found}")
        }
        Kind::UnknownField(_, known) => format!("unknown key, expected one of {}", one_of(known)),
        Kind::UnknownVariant(found, known) => {
            format!("unknown value `{found}`, expected one of {}", one_of(known))
        }
        other => other.to_string(),
    }
}

/// Takes out the value at a path, or the innermost one on the way that has a key.
fn take_out(dict: &mut Dict, path: &[String]) -> bool {
    let Some((first, rest)) = path.split_first() else { return false };
    if !rest.is_empty()
        && let Some(Value::Dict(_, inner)) = dict.get_mut(first)
        && take_out(inner, rest)
    {
        return true;
    }
    dict.remove(first).is_some()
}
