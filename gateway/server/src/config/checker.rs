//! The checks that [`super::validate`] is made of: each gives a value that can be
//! worked with, and notes a problem if it had to invent one.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::defaults::TIMEOUT_RANGE;
use super::expand::expand;
use super::problem::Problem;
use super::read::Origin;

/// Collects problems while values are checked.
pub(super) struct Checker<'a> {
    pub(super) folder: &'a Path,
    pub(super) origin: &'a Origin,
    pub(super) environment: &'a BTreeMap<String, String>,
    /// Whether models may come from folders, whose names are known only when they are read.
    pub(super) has_repositories: bool,
    pub(super) problems: Vec<Problem>,
}

/// The table that is being checked.
#[derive(Clone, Copy)]
pub(super) struct At<'a>(pub(super) &'a [&'a str]);

impl At<'_> {
    fn key(self, key: &str) -> Vec<String> {
        self.0.iter().copied().chain([key]).filter(|part| !part.is_empty()).map(str::to_owned).collect()
    }
}

impl Checker<'_> {
    /// Notes a problem with a key; `""` is the table itself.
    pub(super) fn problem(&mut self, at: At<'_>, key: &str, message: impl Into<String>) {
        self.problems.push(self.origin.problem(&at.key(key), message));
    }

    /// A number in a range, as the type that the running configuration has.
    pub(super) fn number<T: TryFrom<u64> + Default>(
        &mut self,
        at: At<'_>,
        key: &str,
        value: Option<u64>,
        default: u64,
        range: &RangeInclusive<u64>,
    ) -> T {
        let value = self.in_range(at, key, value.unwrap_or(default), range, default, "");
        T::try_from(value).unwrap_or_else(|_| {
            self.problem(at, key, "is more than this machine can count");
            T::default()
        })
    }

    /// A duration above zero, in milliseconds.
    pub(super) fn timeout(
        &mut self,
        at: At<'_>,
        key: &str,
        value: Option<u64>,
        default: Duration,
    ) -> Duration {
        self.millis(at, key, value, default, &TIMEOUT_RANGE)
    }

    /// A duration in milliseconds.
    pub(super) fn millis(
        &mut self,
        at: At<'_>,
        key: &str,
        value: Option<u64>,
        default: Duration,
        range: &RangeInclusive<Duration>,
    ) -> Duration {
        let Some(value) = value else { return default };
        let range = millis(*range.start())..=millis(*range.end());
        Duration::from_millis(self.in_range(at, key, value, &range, millis(default), " ms"))
    }

    fn in_range<T: PartialOrd + Display + Copy>(
        &mut self,
        at: At<'_>,
        key: &str,
        value: T,
        range: &RangeInclusive<T>,
        default: T,
        unit: &str,
    ) -> T {
        if range.contains(&value) {
            return value;
        }
        let (start, end) = (range.start(), range.end());
        self.problem(at, key, format!("is {value}{unit}, allowed are {start} to {end}{unit}"));
        default
    }

    /// A file that must be there, at most `bytes_max` long.
    pub(super) fn file(&mut self, at: At<'_>, key: &str, value: Option<&str>, bytes_max: u64) -> PathBuf {
        let Some(value) = value else {
            self.problem(at, key, "is missing");
            return PathBuf::new();
        };
        let Some(path) = self.path(at, key, value) else { return PathBuf::new() };
        match std::fs::metadata(&path) {
            Err(error) => self.problem(at, key, format!("cannot read {}: {error}", path.display())),
            Ok(metadata) if !metadata.is_file() => {
                self.problem(at, key, format!("{} is not a file", path.display()));
            }
            Ok(metadata) if metadata.len() > bytes_max => {
                let length = metadata.len();
                let message = format!("{} has {length} bytes, allowed are {bytes_max}", path.display());
                self.problem(at, key, message);
            }
            Ok(_) => {}
        }
        path
    }

    /// A folder that must be there.
    pub(super) fn directory(&mut self, at: At<'_>, key: &str, value: Option<&str>) -> PathBuf {
        let Some(value) = value else {
            self.problem(at, key, "is missing");
            return PathBuf::new();
        };
        let Some(path) = self.path(at, key, value) else { return PathBuf::new() };
        match std::fs::metadata(&path) {
            Err(error) => self.problem(at, key, format!("cannot read {}: {error}", path.display())),
            Ok(metadata) if !metadata.is_dir() => {
                self.problem(at, key, format!("{} is not a folder", path.display()));
            }
            Ok(_) => {}
        }
        path
    }

    /// The name of a model. One that may come from a repository is looked for when that
    /// is read.
    pub(super) fn model<V>(
        &mut self,
        at: At<'_>,
        key: &str,
        name: &str,
        known: &BTreeMap<Arc<str>, V>,
    ) -> Option<Arc<str>> {
        if self.has_repositories && !known.contains_key(name) && sluice_tensor::check_name(name).is_ok() {
            return Some(name.into());
        }
        self.reference(at, key, name, "model", known)
    }

    /// The names of models.
    pub(super) fn models<V>(
        &mut self,
        at: At<'_>,
        key: &str,
        names: &[String],
        known: &BTreeMap<Arc<str>, V>,
    ) -> Vec<Arc<str>> {
        let mut found = Vec::new();
        for name in names {
            match self.model(at, key, name, known) {
                Some(name) if found.contains(&name) => {
                    self.problem(at, key, format!("`{name}` is there twice"));
                }
                name => found.extend(name),
            }
        }
        found
    }

    /// A path: variables replaced, and relative to the folder of the configuration.
    pub(super) fn path(&mut self, at: At<'_>, key: &str, value: &str) -> Option<PathBuf> {
        match expand(value, self.environment) {
            Ok(expanded) if expanded.is_empty() || expanded.contains('\0') => {
                self.problem(at, key, "is not a path");
                None
            }
            Ok(expanded) => Some(self.folder.join(expanded)),
            Err(message) => {
                self.problem(at, key, message);
                None
            }
        }
    }

    /// The name of an owner, if one is given.
    pub(super) fn owner(&mut self, at: At<'_>, key: &str, name: Option<&str>) -> Option<Arc<str>> {
        let name = name?;
        if let Err(error) = sluice_tensor::check_name(name) {
            self.problem(at, key, error.to_string());
        }
        Some(name.into())
    }

    /// The name of something that must be among `known`.
    pub(super) fn reference<V>(
        &mut self,
        at: At<'_>,
        key: &str,
        name: &str,
        kind: &str,
        known: &BTreeMap<Arc<str>, V>,
    ) -> Option<Arc<str>> {
        let found = known.get_key_value(name).map(|(name, _)| name.clone());
        if found.is_none() {
            let there = known.keys().take(10).map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
            let hint = if there.is_empty() { String::new() } else { format!("; there is {there}") };
            self.problem(at, key, format!("no {kind} is named `{name}`{hint}"));
        }
        found
    }

    /// A list of names that must be among `known`.
    pub(super) fn references<V>(
        &mut self,
        at: At<'_>,
        key: &str,
        names: &[String],
        kind: &str,
        known: &BTreeMap<Arc<str>, V>,
    ) -> Vec<Arc<str>> {
        let mut found = Vec::new();
        for name in names {
            match self.reference(at, key, name, kind, known) {
                Some(name) if found.contains(&name) => {
                    self.problem(at, key, format!("`{name}` is there twice"));
                }
                name => found.extend(name),
            }
        }
        found
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
