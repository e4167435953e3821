//! Which of the plugin worlds a component belongs to, told from its exports.

use std::fmt;

/// The world that a plugin implements.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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
    /// The world with these exports; `None` when they fit none.
    pub(crate) fn from_exports(preprocess: bool, postprocess: bool, handler: bool) -> Option<Self> {
        match (preprocess, postprocess, handler) {
            (true, false, false) => Some(Self::Preprocessor),
            (false, true, false) => Some(Self::Postprocessor),
            (true, true, false) => Some(Self::Transformer),
            (false, false, true) => Some(Self::Pipeline),
            _ => None,
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
