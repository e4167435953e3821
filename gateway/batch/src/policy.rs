//! How one model's entries are batched.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::entry::TenantKey;

/// Entries that wait at most, unless configured otherwise.
///
/// Some eight times the concurrency of a busy gateway. At 10,000 requests a
/// second it is a tenth of a second of work: more would only wait to be late.
/// The entry beyond it is refused with [`crate::Rejected::QueueFull`].
pub const QUEUE_ENTRIES_DEFAULT: usize = 1024;

/// The largest queue that can be configured; larger values mean this one.
///
/// Each waiting entry holds a request's tensors, so a queue of a million is
/// already far beyond what memory allows. The number exists so that the sum of
/// all queued rows cannot overflow (see [`crate::ENTRY_ROWS_MAX`]).
pub const QUEUE_ENTRIES_MAX: usize = 1 << 20;

/// Priority levels that a policy may have; more mean this many.
///
/// Nobody tells more than a handful of levels apart. Each costs a counter.
pub const PRIORITY_LEVELS_MAX: u32 = 64;

/// The largest weight of a tenant; more mean this much, 0 means 1.
pub const TENANT_WEIGHT_MAX: u32 = 1000;

/// What decides how long a batch that is not full waits, and how large one grows.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Mode {
    /// As configured: `max_queue_delay` and `max_batch_size`. What Triton does.
    Fixed,
    /// Takes what has queued, and never waits for more: batches form while all
    /// instances are busy. Cut at the size beyond which a row gets no cheaper.
    #[default]
    Backpressure,
    /// The same, and waits where the costs of earlier runs and the arrivals say that
    /// it pays: by mean latency, or as far as a latency objective lets it.
    Learned,
}

/// What happens to an entry that has waited for longer than its timeout.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum TimeoutAction {
    /// It is answered, and not run.
    #[default]
    Reject,
    /// It waits on, behind the others of its priority.
    Delay,
}

/// How entries of one priority may wait.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct QueuePolicy {
    /// What happens when the timeout ends.
    pub timeout_action: TimeoutAction,
    /// The longest wait in the queue; zero for none.
    pub default_timeout: Duration,
    /// Whether an entry may ask for less.
    pub allow_timeout_override: bool,
    /// Entries of this priority that may wait; 0 for no bound of its own.
    pub max_queue_size: usize,
}

impl QueuePolicy {
    /// How long an entry may wait that asks for `asked`; `None` for any time.
    pub(crate) fn timeout(&self, asked: Option<Duration>) -> Option<Duration> {
        let shorter = asked.filter(|asked| self.allow_timeout_override && *asked < self.default_timeout);
        let longest = (!self.default_timeout.is_zero()).then_some(self.default_timeout);
        shorter.or(longest)
    }
}

/// How one model's entries are batched. Can be changed while entries wait.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Policy {
    /// Rows in one batch at most.
    ///
    /// 0 means that the model has no batch dimension: each entry is a batch of
    /// its own, whatever its rows, and never waits for company. An entry with
    /// more rows than this is refused with [`crate::Rejected::TooLarge`]; one
    /// that was admitted before the number was lowered is served, alone.
    pub max_batch_size: usize,
    /// Weight of one batch at most, beside its rows; 0 for no such bound. An entry
    /// that is heavier is served alone.
    pub max_batch_weight: usize,
    /// What decides about waiting and size.
    pub mode: Mode,
    /// How long an entry may be held back, while an instance is free, for
    /// others to join it: exactly so long when fixed, at most so long when learned
    /// (zero leaves it to the objective). The delay of the oldest entry of a shape
    /// decides for its batch.
    pub max_queue_delay: Duration,
    /// When learned: how long an entry may take from its arrival to the end of its
    /// run. Without one, it waits only where that shortens the mean.
    pub latency_objective: Option<Duration>,
    /// Sizes at which a batch is released at once and cut, ascending.
    pub preferred_batch_sizes: Vec<usize>,
    /// Whether entries of one priority run in the order of their arrival, instead of
    /// the earliest deadline first.
    pub preserve_ordering: bool,
    /// Priority levels; 0 and 1 for one level.
    pub priority_levels: u32,
    /// The level of an entry that names none.
    pub default_priority_level: u32,
    /// How entries may wait, for levels without a policy of their own.
    pub queue_policy: QueuePolicy,
    /// How entries of a level may wait.
    pub level_policies: BTreeMap<u32, QueuePolicy>,
    /// Shares of tenants that do not have the share 1.
    pub tenant_weights: BTreeMap<TenantKey, u32>,
    /// Entries (not rows) that may wait at a time, of all shapes together.
    ///
    /// The next one is refused with [`crate::Rejected::QueueFull`] at once. At
    /// most [`QUEUE_ENTRIES_MAX`]; 0 admits nothing. Lowering it refuses new
    /// entries until enough have left, and drops none that wait.
    pub max_queue_size: usize,
}

impl Default for Policy {
    /// No batching: what is right for a model of which nothing is known.
    fn default() -> Self {
        Self {
            max_batch_size: 0,
            max_batch_weight: 0,
            mode: Mode::default(),
            max_queue_delay: Duration::ZERO,
            latency_objective: None,
            preferred_batch_sizes: Vec::new(),
            preserve_ordering: false,
            priority_levels: 0,
            default_priority_level: 0,
            queue_policy: QueuePolicy::default(),
            level_policies: BTreeMap::new(),
            tenant_weights: BTreeMap::new(),
            max_queue_size: QUEUE_ENTRIES_DEFAULT,
        }
    }
}

impl Policy {
    /// The level, from 1, of an entry that asks for `priority`.
    pub(crate) fn level(&self, priority: u32) -> u32 {
        let levels = self.priority_levels.clamp(1, PRIORITY_LEVELS_MAX);
        let named = (1..=levels).contains(&priority).then_some(priority);
        named.unwrap_or(self.default_priority_level).clamp(1, levels)
    }

    pub(crate) fn queue_policy(&self, level: u32) -> &QueuePolicy {
        self.level_policies.get(&level).unwrap_or(&self.queue_policy)
    }

    pub(crate) fn tenant_weight(&self, tenant: TenantKey) -> u32 {
        self.tenant_weights.get(&tenant).map_or(1, |weight| (*weight).clamp(1, TENANT_WEIGHT_MAX))
    }

    /// The largest preferred size that so many rows reach, if there is one within
    /// `rows_max`.
    pub(crate) fn preferred(&self, rows: usize, rows_max: usize) -> Option<usize> {
        let reached = self.preferred_batch_sizes.iter().filter(|size| **size > 0 && **size <= rows_max);
        reached.copied().filter(|size| *size <= rows).max()
    }
}
