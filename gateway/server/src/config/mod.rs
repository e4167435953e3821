//! The configuration: a file becomes a [`Config`] that is complete and checked, or a
//! list of everything that is wrong with it.
//!
//! Defaults < file < `SLUICE_*` environment < flags. The file's type (`file.rs`) is not
//! the running type ([`Config`]): in the former every key is optional, in the latter
//! every reference is resolved. [`diff`] says what a reload would change, and [`watch`]
//! when to try one. This room reads files and knows nothing of what is running.

use std::path::Path;

mod checker;
pub mod defaults;
pub mod diff;
#[cfg(test)]
mod example_tests;
mod expand;
mod file;
mod locate;
mod overrides;
#[cfg(test)]
mod presentation_tests;
mod problem;
mod read;
mod route;
#[cfg(test)]
mod sequence_tests;
#[cfg(test)]
mod serving_tests;
#[cfg(test)]
mod tests;
pub mod triton;
mod types;
mod validate;
pub mod watch;

pub use diff::restart_keys;
pub use overrides::Overrides;
pub use problem::{ConfigErrors, Problem};
pub use route::{PathParameters, PathTemplate};
pub use types::{
    BatchWeight, Batching, Config, Control, ControlKind, DeclaredTensor, Egress, Engine, EngineChoice,
    Ensemble, EnsembleOutput, FailurePolicy, FalseTrue, Labels, Limits, LogFormat, Model, ModelControl, Oci,
    OwnRoute, Padding, Pipeline, PipelineKind, Plugin, PluginSource, Presentation, Repository, Rollout,
    Sandbox, Scope, Sequence, SequenceState, SequenceStrategy, Server, SharedMemory, State, Step, Store,
    Telemetry, TextDigest, Tls, Token, TrustedKey, Verify, Warmup, WarmupData, WarmupInput, label_lines,
};
pub use watch::{WatchError, Watcher, watch};

/// Reads and checks a configuration: the file's form, every value's range, every
/// reference, and that the files it names are there. Relative paths are relative to
/// the folder of the file. Blocks on the disk.
///
/// # Errors
/// Everything that is wrong, at once. A file of more than [`defaults::CONFIG_BYTES_MAX`]
/// bytes, one that is not UTF-8 or not well-formed, or one that is not there is a
/// single problem.
pub fn load(path: &Path, overrides: &Overrides) -> Result<Config, ConfigErrors> {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let read = read::read(&absolute, overrides).map_err(|problem| ConfigErrors::new(vec![problem]))?;
    let (mut config, found) = validate::validate(&absolute, read.file, &read.origin, overrides.environment());
    config.digest = read.digest;
    let mut problems = read.problems;
    // A value that was taken out because of its form is not also missing.
    let is_new = |problem: &Problem| !problems.iter().any(|known| known.key == problem.key);
    let found: Vec<Problem> = found.into_iter().filter(is_new).collect();
    problems.extend(found);
    if problems.is_empty() { Ok(config) } else { Err(ConfigErrors::new(problems)) }
}
