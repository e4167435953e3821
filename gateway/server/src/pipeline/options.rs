//! What a request asks for beside its data: the parameters of KServe V2 and Triton,
//! whatever protocol carried them.

use std::sync::Arc;
use std::time::Duration;

/// How a request wants to be treated.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RequestOptions {
    /// Where it stands in a queue with priorities: 1 is the first; 0 is the model's default.
    pub priority: u32,
    /// How long it may wait in a model's queue, where the queue's policy lets requests say so.
    pub timeout: Option<Duration>,
    /// The sequence that it belongs to.
    pub sequence: Option<Sequence>,
    /// Parameters that mean something to whoever serves the request, by name. Few and
    /// short: the door counts them.
    pub parameters: Vec<(Arc<str>, Parameter)>,
}

/// A request's place in a sequence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sequence {
    /// Which sequence.
    pub id: SequenceId,
    /// Whether this is its first request.
    pub start: bool,
    /// Whether this is its last one.
    pub end: bool,
}

/// What a caller calls a sequence.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum SequenceId {
    /// A number above 0.
    Number(u64),
    /// A text that is not empty.
    Text(Arc<str>),
}

/// The value of a parameter.
#[derive(Debug, Clone, PartialEq)]
pub enum Parameter {
    /// A truth value.
    Bool(bool),
    /// A whole number.
    Integer(i64),
    /// A whole number that fits only without a sign.
    Unsigned(u64),
    /// Any other number.
    Float(f64),
    /// A text.
    Text(Arc<str>),
}

impl RequestOptions {
    /// The custom parameter of that name.
    pub fn parameter(&self, name: &str) -> Option<&Parameter> {
        self.parameters.iter().find(|(given, _)| **given == *name).map(|(_, value)| value)
    }
}
