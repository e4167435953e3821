//! Models, for [`Pipeline`](crate::Pipeline) plugins.
//!
//! Rows go through the same queue and batch as everybody else's; waiting holds no
//! thread of the gateway. Which models a plugin may call, the configuration says.

use std::fmt;

use crate::{Error as Refusal, Inputs, Tensors, imp};

/// Why a model gave no outputs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Error {
    /// No such model, or the configuration does not grant it to this plugin.
    NotFound(String),
    /// The inputs do not fit the model.
    InvalidInput(String),
    /// The model's queue is full: answer 429, or do without.
    Overloaded,
    /// The request's deadline has passed.
    Deadline,
    /// The engine failed.
    Failed(String),
}

impl fmt::Display for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotFound(what) => write!(formatter, "no such model: {what}"),
            Self::InvalidInput(what) => write!(formatter, "the inputs do not fit the model: {what}"),
            Self::Overloaded => formatter.write_str("the model's queue is full"),
            Self::Deadline => formatter.write_str("the deadline has passed"),
            Self::Failed(what) => write!(formatter, "the engine failed: {what}"),
        }
    }
}

impl std::error::Error for Error {}

/// 429 for a full queue and 504 for a deadline, as a plain model call answers them; 502
/// for a failed engine, 500 for what the plugin or its configuration got wrong.
impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        let status = match error {
            Error::Overloaded => 429,
            Error::Deadline => 504,
            Error::Failed(_) => 502,
            Error::NotFound(_) | Error::InvalidInput(_) => 500,
        };
        Self::status(status, error.to_string())
    }
}

/// A model call under way. Dropping it abandons the result.
#[derive(Debug)]
#[must_use = "a call that nobody waits for is abandoned"]
pub struct Pending(imp::Pending);

impl Pending {
    /// Waits for the outputs.
    ///
    /// # Errors
    /// If the model gave none.
    pub fn wait(self) -> Result<Tensors, Error> {
        self.0.wait()
    }
}

/// Runs a model and waits.
///
/// # Errors
/// If the model gave no outputs.
pub fn infer(model: &str, inputs: Inputs) -> Result<Tensors, Error> {
    imp::infer(model, inputs)
}

/// Starts a model and returns at once, so that several run side by side.
///
/// # Errors
/// If the call was refused straight away.
pub fn submit(model: &str, inputs: Inputs) -> Result<Pending, Error> {
    imp::submit(model, inputs).map(Pending)
}
