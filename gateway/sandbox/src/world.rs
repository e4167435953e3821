//! Which of the plugin worlds a component belongs to, told from its exports.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::contract;
use crate::error::LoadError;

/// The world that a plugin implements.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum World {
    /// Makes a model's inputs.
    Preprocessor,
    /// Makes the answer from a model's outputs.
    Postprocessor,
    /// Does both.
    Transformer,
    /// Owns the whole request and calls models itself.
    Pipeline,
    /// A program: the request's body is its standard input, its standard output the
    /// answer. It may call models through `wasi:nn`.
    Command,
}

impl World {
    /// The world with these hooks; `None` when they fit none.
    fn from_hooks(preprocess: bool, postprocess: bool, handler: bool) -> Option<Self> {
        match (preprocess, postprocess, handler) {
            (true, false, false) => Some(Self::Preprocessor),
            (false, true, false) => Some(Self::Postprocessor),
            (true, true, false) => Some(Self::Transformer),
            (false, false, true) => Some(Self::Pipeline),
            _ => None,
        }
    }

    /// The world of a component with these exports of a served version of the contract.
    /// It may export `wasi:cli/run` beside its hooks, as languages do whose programs
    /// always have a `main`: the hooks count.
    ///
    /// # Errors
    /// [`LoadError::World`], with what to change.
    pub(crate) fn from_exports(exports: &[String], version: &str) -> Result<Self, LoadError> {
        let has = |interface| exports.iter().any(|name| contract::interface_of(name) == Some(interface));
        let (preprocess, postprocess, handler) = (has("preprocess"), has("postprocess"), has("handler"));
        let has_hooks = preprocess || postprocess || handler;
        if !has_hooks && contract::program_of(exports).is_some() {
            return Ok(Self::Command);
        }
        Self::from_hooks(preprocess, postprocess, handler).ok_or_else(|| {
            LoadError::World(if handler {
                format!(
                    "it exports both handler and hooks of sluice:plugin@{version}; a pipeline has no hooks"
                )
            } else {
                format!("it exports none of preprocess, postprocess and handler of sluice:plugin@{version}")
            })
        })
    }

    /// Whether [`crate::Plugin::preprocess`] can be called.
    pub fn has_preprocess(self) -> bool {
        matches!(self, Self::Preprocessor | Self::Transformer)
    }

    /// Whether [`crate::Plugin::postprocess`] can be called.
    pub fn has_postprocess(self) -> bool {
        matches!(self, Self::Postprocessor | Self::Transformer)
    }

    /// Whether [`crate::Plugin::handle`] can be called.
    pub fn is_pipeline(self) -> bool {
        matches!(self, Self::Pipeline | Self::Command)
    }
}

impl fmt::Display for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Preprocessor => "preprocessor",
            Self::Postprocessor => "postprocessor",
            Self::Transformer => "transformer",
            Self::Pipeline => "pipeline",
            Self::Command => "command",
        })
    }
}
