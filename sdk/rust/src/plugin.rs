//! The traits: what a plugin can be. A plugin implements one of them.

use crate::{Answer, Carry, Config, Context, Error, Prepared, Request, Tensors};

/// Runs before the model: turns what the caller sent into the model's inputs.
/// Exported by [`export_preprocessor!`](crate::export_preprocessor).
///
/// State in `self` lives as long as the instance, which by default is one request
/// and with `reuse = N` at most N. Treat it as a cache that may vanish at any time.
pub trait Preprocessor: Sized {
    /// Called once for each instance, before anything else.
    ///
    /// # Errors
    /// A text for the operator: the plugin is not served.
    fn init(config: Config) -> Result<Self, String>;

    /// Prepares one request.
    ///
    /// # Errors
    /// A refusal for this caller alone.
    fn preprocess(&mut self, request: Request) -> Result<Prepared, Error>;
}

/// Runs after the model: turns its outputs into the answer. Exported by
/// [`export_postprocessor!`](crate::export_postprocessor).
pub trait Postprocessor: Sized {
    /// As [`Preprocessor::init`].
    ///
    /// # Errors
    /// A text for the operator: the plugin is not served.
    fn init(config: Config) -> Result<Self, String>;

    /// Answers one request, with what its preprocessor left and what the model gave.
    ///
    /// # Errors
    /// A refusal for this caller alone.
    fn postprocess(&mut self, context: &Context, carry: Carry, outputs: Tensors) -> Result<Answer, Error>;
}

/// Both sides of a model in one component. Exported by
/// [`export_transformer!`](crate::export_transformer). The two hooks of a request may
/// run in different instances: what the second needs goes into `carry`.
pub trait Transformer: Sized {
    /// As [`Preprocessor::init`].
    ///
    /// # Errors
    /// A text for the operator: the plugin is not served.
    fn init(config: Config) -> Result<Self, String>;

    /// As [`Preprocessor::preprocess`].
    ///
    /// # Errors
    /// A refusal for this caller alone.
    fn preprocess(&mut self, request: Request) -> Result<Prepared, Error>;

    /// As [`Postprocessor::postprocess`].
    ///
    /// # Errors
    /// A refusal for this caller alone.
    fn postprocess(&mut self, context: &Context, carry: Carry, outputs: Tensors) -> Result<Answer, Error>;
}

/// Owns the whole request and calls models itself, through
/// [`inference`](crate::inference). Exported by
/// [`export_pipeline!`](crate::export_pipeline).
pub trait Pipeline: Sized {
    /// As [`Preprocessor::init`].
    ///
    /// # Errors
    /// A text for the operator: the plugin is not served.
    fn init(config: Config) -> Result<Self, String>;

    /// Answers one request.
    ///
    /// # Errors
    /// A refusal for this caller alone.
    fn handle(&mut self, request: Request) -> Result<Answer, Error>;
}
