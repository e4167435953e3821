//! Which of the plugin worlds a component belongs to, told from its exports.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::error::LoadError;

/// The versions of the contract that are served.
const CONTRACTS: [&str; 1] = ["0.1.0"];

/// The package of the contract.
const PACKAGE: &str = "sluice:plugin/";

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

    /// The world of a component with these exports, and the version of the contract
    /// that it was built for.
    ///
    /// # Errors
    /// [`LoadError::World`], with what to change.
    pub(crate) fn from_exports(exports: &[String]) -> Result<(Self, &'static str), LoadError> {
        let fail = |message: String| Err(LoadError::World(message));
        let served = CONTRACTS.join(", ");
        let ours = exports.iter().filter_map(|name| name.strip_prefix(PACKAGE)?.split_once('@'));
        let ours: Vec<(&str, &str)> = ours.collect();
        let Some((_, version)) = ours.first() else {
            return fail(format!(
                "it exports none of preprocess, postprocess and handler of {PACKAGE}*@{served}; build it for \
                 one of the worlds of sluice:plugin"
            ));
        };
        let Some(contract) = CONTRACTS.into_iter().find(|known| known == version) else {
            return fail(format!(
                "it is built for sluice:plugin@{version}, and this gateway serves {served}; build it with an \
                 SDK of that version"
            ));
        };
        if ours.iter().any(|(_, other)| other != version) {
            return fail("it exports interfaces of several versions of sluice:plugin".to_owned());
        }
        let has = |interface: &str| ours.iter().any(|(name, _)| *name == interface);
        let (preprocess, postprocess, handler) = (has("preprocess"), has("postprocess"), has("handler"));
        match Self::from_hooks(preprocess, postprocess, handler) {
            Some(world) => Ok((world, contract)),
            None if handler => fail(format!(
                "it exports both handler and hooks of sluice:plugin@{contract}; a pipeline has no hooks"
            )),
            None => fail(format!(
                "it exports none of preprocess, postprocess and handler of sluice:plugin@{contract}"
            )),
        }
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
        self == Self::Pipeline
    }
}

impl fmt::Display for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Preprocessor => "preprocessor",
            Self::Postprocessor => "postprocessor",
            Self::Transformer => "transformer",
            Self::Pipeline => "pipeline",
        })
    }
}
