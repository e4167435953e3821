//! What a preprocessor gives: the model's inputs, or an answer at once.

use serde::Serialize;

use crate::{Answer, Result, Tensor};

/// Tensors under the names of a model's inputs.
#[derive(Debug, Default)]
pub struct Inputs {
    tensors: Vec<(String, Tensor)>,
}

impl Inputs {
    /// None yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// One more input.
    #[must_use]
    pub fn with(mut self, name: impl Into<String>, tensor: impl Into<Tensor>) -> Self {
        self.tensors.push((name.into(), tensor.into()));
        self
    }

    /// Runs the model on these and hands `carry` to the postprocessor.
    pub fn carry(self, carry: impl Into<Vec<u8>>) -> Prepared {
        Prepared::Run { inputs: self, carry: carry.into() }
    }

    /// Runs the model on these and hands a value to the postprocessor, as JSON:
    /// [`Carry::json`](crate::Carry::json) reads it.
    ///
    /// # Errors
    /// 500 for a value that JSON cannot hold.
    pub fn carry_json<T: Serialize + ?Sized>(self, carry: &T) -> Result<Prepared> {
        Ok(self.carry(serde_json::to_vec(carry)?))
    }

    /// The tensors, in the order in which they were added.
    pub fn into_vec(self) -> Vec<(String, Tensor)> {
        self.tensors
    }

    /// The tensor of a name: what a test looks at.
    pub fn get(&self, name: &str) -> Option<&Tensor> {
        self.tensors.iter().find(|(given, _)| given == name).map(|(_, tensor)| tensor)
    }
}

/// What a preprocessor decided.
#[derive(Debug)]
pub enum Prepared {
    /// Run the model.
    Run {
        /// On these.
        inputs: Inputs,
        /// Handed to the postprocessor of the same request, seen by nobody else.
        carry: Vec<u8>,
    },
    /// Answer at once, without the model: a cache hit, or nothing to rank.
    Answer(Answer),
}

impl From<Inputs> for Prepared {
    fn from(inputs: Inputs) -> Self {
        inputs.carry(Vec::new())
    }
}

impl From<Answer> for Prepared {
    fn from(answer: Answer) -> Self {
        Self::Answer(answer)
    }
}
