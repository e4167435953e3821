//! How a model's requests are batched: everything that changes without loading it again.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use sluice_batch::{Mode, QueuePolicy, RunShare};

/// How a model's requests are batched, beside its largest batch.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Batching {
    /// What decides about waiting and size.
    pub mode: Mode,
    /// How long a batch that is not full waits for more rows: exactly when fixed, at most
    /// when learned.
    pub max_queue_delay: Duration,
    /// Requests that may wait.
    pub max_queue_size: usize,
    /// When learned: the time from arrival to the end of the run that is aimed at.
    pub latency_objective: Option<Duration>,
    /// Sizes at which a batch is cut and runs at once, ascending.
    pub preferred_batch_sizes: Vec<usize>,
    /// Whether answers leave in the order in which the requests came.
    pub preserve_ordering: bool,
    /// Priority levels; 0 for one.
    pub priority_levels: u32,
    /// The level of a request that names none.
    pub default_priority_level: u32,
    /// How requests may wait, for levels without a policy of their own.
    pub default_queue_policy: QueuePolicy,
    /// How requests of a level may wait.
    pub priority_queue_policy: BTreeMap<u32, QueuePolicy>,
    /// What a request weighs.
    pub weight: BatchWeight,
    /// Weight of one batch at most; 0 for no bound beside its rows.
    pub max_batch_weight: usize,
    /// Units of resources, by name, that a run takes.
    pub resources: BTreeMap<Arc<str>, usize>,
    /// The model's share of the time, where runs of models wait for each other.
    pub run_share: RunShare,
    /// Shares of tenants that do not have the share 1.
    pub tenants: BTreeMap<Arc<str>, u32>,
}

/// What a request weighs: what its tenant is charged, and what bounds a batch beside rows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BatchWeight {
    /// Its rows.
    #[default]
    Rows,
    /// The elements of all its inputs: for models whose cost goes with the length of texts.
    Elements,
    /// The request's parameter `cost`, and its rows at least: whoever knows better says so.
    Cost,
}

/// How requests of different lengths share a batch.
#[derive(Debug, Clone, PartialEq)]
pub struct Padding {
    /// Inputs that are as long as the request.
    pub inputs: Vec<Arc<str>>,
    /// The dimension that is padded.
    pub axis: usize,
    /// Allowed sizes.
    pub sizes: Vec<usize>,
    /// What fills up.
    pub value: f64,
    /// The input that tells padding from values.
    pub mask: Option<Arc<str>>,
    /// Outputs that are cut back to the request's length.
    pub trim: Vec<Arc<str>>,
}
