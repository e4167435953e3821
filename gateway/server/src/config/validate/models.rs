//! Models: what runs them, how they are batched, and which versions of them there are.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use super::super::checker::{At, Checker};
use super::super::defaults as d;
use super::super::file::ModelFile;
use super::super::types::{Engine, Model};
use super::presentation::presentation;
use super::{Named, named};

/// All models, and the older versions of those that have some.
pub(super) fn models(
    check: &mut Checker<'_>,
    files: BTreeMap<String, ModelFile>,
    engine: &Engine,
) -> (Named<Model>, Named<Vec<Model>>) {
    let all = named(check, "models", files, |check, at, name, file| model(check, at, name, file, engine));
    let (mut latest, mut older) = (Named::new(), Named::new());
    for (name, (model, versions)) in all {
        if !versions.is_empty() {
            older.insert(Arc::clone(&name), versions);
        }
        latest.insert(name, model);
    }
    (latest, older)
}

/// A model, and the versions of it that are served beside it, ascending.
fn model(
    check: &mut Checker<'_>,
    at: At<'_>,
    name: Arc<str>,
    mut file: ModelFile,
    engine: &Engine,
) -> (Model, Vec<Model>) {
    let mut versions = versions(check, at, &mut file);
    let (version, path) = versions.pop().unwrap_or_default();
    let threads_default = u64::try_from(engine.threads).unwrap_or(0);
    let rows = &d::BATCH_ROWS_RANGE;
    let max_batch_size = check.number(at, "max_batch_size", file.max_batch_size, d::BATCH_ROWS, rows);
    let presentation =
        presentation(check, at, &file, max_batch_size, versions.iter().map(|(it, _)| it), &version);
    let own = (file.max_queue_delay_microseconds, file.max_queue_size);
    let instances = check.number(at, "instances", file.instances, d::INSTANCES, &d::INSTANCES_RANGE);
    let sequence =
        file.sequence.map(|file| super::sequence::sequence(check, at, file, max_batch_size, instances));
    if sequence.is_some() && own.0.is_some_and(|delay| delay != 0) {
        let message = "is [models.X.sequence] max_queue_delay_microseconds for a model with sequences";
        check.problem(at, "max_queue_delay_microseconds", message);
    }
    if sequence.is_some() && file.padding.is_some() {
        check.problem(at, "padding", "does not go with sequences");
    }
    if file.padding.is_some() && !(file.inputs.is_empty() && file.outputs.is_empty()) {
        check.problem(at, "padding", "does not go with inputs and outputs that are declared");
    }
    let latest = Model {
        version,
        file: path,
        engine: file.engine.unwrap_or(engine.default),
        instances,
        threads: check.number(at, "threads", file.threads, threads_default, &d::THREADS_RANGE),
        spinning: file.spinning.unwrap_or(engine.spinning),
        max_batch_size,
        batching: super::batching::batching(check, at, file.batching, own, max_batch_size, engine),
        padding: file.padding.map(|file| super::batching::padding(check, at, file)),
        presentation,
        response_cache: file.response_cache.unwrap_or(false),
        sequence,
        name,
    };
    let older = |(version, file)| Model { version, file, ..latest.clone() };
    let older = versions.into_iter().map(older).collect();
    (latest, older)
}

/// The versions that are served with their files, the latest at the end; at least one.
fn versions(check: &mut Checker<'_>, at: At<'_>, file: &mut ModelFile) -> Vec<(String, PathBuf)> {
    let several = std::mem::take(&mut file.versions);
    if several.is_empty() {
        let version = file.version.take().unwrap_or_else(|| d::MODEL_VERSION.to_owned());
        if sluice_tensor::check_name(&version).is_err() {
            check.problem(at, "version", "is not a version: letters, digits, `_`, `.` and `-`");
        }
        return vec![(version, check.file(at, "file", file.file.as_deref(), u64::MAX))];
    }
    for (key, is_set) in [("file", file.file.is_some()), ("version", file.version.is_some())] {
        if is_set {
            check.problem(at, key, "does not go with versions, which name their files");
        }
    }
    if several.len() > d::VERSIONS_MAX {
        check.problem(at, "versions", format!("has more than {} entries", d::VERSIONS_MAX));
    }
    let mut path: Vec<&str> = at.0.to_vec();
    path.push("versions");
    let mut numbered: BTreeMap<u64, PathBuf> = BTreeMap::new();
    for (version, file) in several.iter().take(d::VERSIONS_MAX) {
        let is_number = version.bytes().all(|byte| byte.is_ascii_digit()) && !version.starts_with('0');
        let Some(number) = version.parse().ok().filter(|_| is_number) else {
            check.problem(At(&path), version, "is not a number from 1, of which the highest is the latest");
            continue;
        };
        numbered.insert(number, check.file(At(&path), version, Some(file), u64::MAX));
    }
    numbered.into_iter().map(|(number, file)| (number.to_string(), file)).collect()
}
