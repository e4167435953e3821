//! Sample cases: what a plugin's author says it does, as requests and expected answers.
//!
//! They travel in the component's custom section
//! [`SAMPLES_SECTION`](sluice_sandbox::verify::SAMPLES_SECTION), or in a file beside it.
//! The gateway runs them before a version may serve (the canary), and `sluice plugin
//! test` runs them at the author's desk: the same code, the same limits. The format is
//! described in the SDK's guide, "Sample cases".

mod compare;
mod models;
mod parse;
mod run;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use sluice_sandbox::Request;
use sluice_tensor::NamedTensor;

pub use models::CaseModels;
pub use parse::{SamplesError, parse};
pub use run::run;

/// Most bytes of all sample cases together. They are for a handful of requests that
/// show what a plugin does, not for a data set; 1 MiB holds 64 bodies of 16 KiB. More
/// is refused before it is parsed.
pub const SAMPLES_BYTES_MAX: usize = 1 << 20;

/// Most sample cases of one component. Each may take a call's whole time budget before
/// a version is ready: 64 calls of 100 ms are seven seconds at the worst.
pub const CASES_MAX: usize = 64;

/// Deepest nesting of the JSON. The deepest place of the format itself is 5; the rest is
/// for bodies.
pub const DEPTH_MAX: usize = 64;

/// Most bytes of a case's name: it is a label in logs and tables.
pub const NAME_BYTES_MAX: usize = 128;

/// How far numbers may be apart, unless a case says otherwise: f32 arithmetic in another
/// order differs by less, any change of meaning by more.
pub const TOLERANCE_DEFAULT: f64 = 1e-5;

/// Most lines of one case's diff. Ten show the pattern; a model's whole output is noise.
pub const DIFF_LINES_MAX: usize = 10;

/// One sample case.
#[derive(Debug, Clone)]
pub struct Case {
    /// What the author calls it.
    pub name: String,
    /// What a caller sends; none for a postprocessor alone.
    pub request: Option<Request>,
    /// What the model gave: for postprocessors.
    pub outputs: Option<Vec<NamedTensor>>,
    /// What the preprocessor left, if the case does not run it.
    pub carry: Option<Bytes>,
    /// What the models that the plugin calls answer, by name.
    pub models: BTreeMap<String, Vec<NamedTensor>>,
    /// What must come out; without it, it just must not fail.
    pub expect: Option<Expect>,
    /// How far numbers may be apart, relative to their size and at least to 1.
    pub tolerance: f64,
}

/// What must come out.
#[derive(Debug, Clone)]
pub enum Expect {
    /// An answer whose body is this JSON.
    Json(serde_json::Value),
    /// An answer whose body is exactly this text.
    Text(String),
    /// These inputs for the model.
    Inputs(Vec<NamedTensor>),
    /// An answer of these tensors.
    Tensors(Vec<NamedTensor>),
    /// A refusal, or an answer, of this status.
    Status(u16),
}

/// What became of one case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// The case.
    pub name: String,
    /// What differs from what was expected, or why there was nothing to compare; empty
    /// if the case passed. At most [`DIFF_LINES_MAX`] short lines.
    pub diff: Vec<String>,
    /// How long the plugin's calls took.
    pub took: Duration,
    /// The most memory that the plugin held during the case, where that is known.
    pub memory_peak_bytes: Option<usize>,
}

impl Verdict {
    /// Whether the case came out as expected.
    pub fn passed(&self) -> bool {
        self.diff.is_empty()
    }

    /// One line for an error: the case and the first difference.
    pub fn summary(&self) -> String {
        let Some(first) = self.diff.first() else { return format!("case '{}' passed", self.name) };
        let more = self.diff.len() - 1;
        let more = if more == 0 { String::new() } else { format!(" (and {more} more)") };
        format!("case '{}': {first}{more}", self.name)
    }
}
