//! Models that remember something from one request of a sequence to the next.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde::Deserialize;
use sluice_tensor::DType;

/// How the requests of sequences are run.
#[derive(Debug, Clone, PartialEq)]
pub struct Sequence {
    /// How batches are formed.
    pub strategy: SequenceStrategy,
    /// A sequence that is silent for so long ends.
    pub max_idle: Duration,
    /// How long a batch that is not as large as wanted waits.
    pub max_queue_delay: Duration,
    /// Inputs that the gateway fills in. Clients do not see them.
    pub controls: Vec<Control>,
    /// What the gateway keeps of a sequence. Clients see neither its input nor its output.
    pub states: Vec<State>,
    /// Bytes that are kept of one sequence at most.
    pub state_bytes_max: usize,
}

/// How batches of sequences are formed.
#[derive(Debug, Clone, PartialEq)]
pub enum SequenceStrategy {
    /// Each sequence has a row of the batch.
    Direct {
        /// The share of the rows from which on a batch runs before its delay ends.
        minimum_slot_utilization: f64,
    },
    /// Whatever sequences have something to run.
    Oldest {
        /// Sequences of an instance at a time.
        max_candidate_sequences: usize,
        /// Sizes at which a batch runs before its delay ends.
        preferred_batch_sizes: Vec<usize>,
    },
}

/// An input that the gateway fills in.
#[derive(Debug, Clone, PartialEq)]
pub struct Control {
    /// The model's input.
    pub input: Arc<str>,
    /// What it tells the model.
    pub kind: ControlKind,
    /// How false and true look; none is for 0 and 1 in the input's own type.
    pub false_true: Option<FalseTrue>,
    /// The element type, where it is declared: it must be the model's.
    pub dtype: Option<DType>,
}

/// What a control input tells the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ControlKind {
    /// This is the first request of a sequence.
    Start,
    /// There is a request in this row.
    Ready,
    /// This is the last request of a sequence.
    End,
    /// The sequence's id.
    Corrid,
}

/// How false and true look.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum FalseTrue {
    /// As INT32.
    Int32([i32; 2]),
    /// As FP32.
    Fp32([f32; 2]),
    /// As BOOL.
    Bool([bool; 2]),
}

/// What the gateway keeps of a sequence.
#[derive(Debug, Clone, PartialEq)]
pub struct State {
    /// The input that it goes into.
    pub input: Arc<str>,
    /// The output that it comes out of.
    pub output: Arc<str>,
    /// The element type, where it is declared: it must be the model's.
    pub dtype: Option<DType>,
    /// The dimensions at the start of a sequence, without that of the batch; none are the
    /// model's, with 1 for any size.
    pub dims: Option<Vec<usize>>,
    /// The content at the start of a sequence; none is zeros.
    pub initial: Option<Bytes>,
}

impl Sequence {
    /// Sequences of one instance at a time.
    pub fn slots(&self, max_batch_size: usize) -> usize {
        match self.strategy {
            SequenceStrategy::Direct { .. } => max_batch_size.max(1),
            SequenceStrategy::Oldest { max_candidate_sequences, .. } => max_candidate_sequences,
        }
    }
}
