//! The scheduler as a pure state machine: `push`, `poll`, `cancel`, with time passed in.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::arrivals::Arrivals;
use crate::entry::{Batch, ENTRY_ROWS_MAX, Entry, Expired, Rejected};
use crate::learn::{Held, Learner, Observed};
use crate::order::{Flow, Place, Rank, Tier};
use crate::policy::{Mode, Policy, QUEUE_ENTRIES_MAX, TimeoutAction};
use crate::pool::Pool;
use crate::slab::Slab;
use crate::tenants::Tenants;
use crate::time::Time;

mod backlog;
mod leave;
mod release;

/// Until when an entry without a deadline should have run, for the order among those that
/// have one: it comes as late as one that is in no hurry, but it does come.
const PATIENCE: Duration = Duration::from_secs(10);

/// One tenant may fill the queue as long as it leaves a fifth of what is left to others: its
/// entries are at most so many times the places that are free. A queue that one caller keeps
/// full would refuse everybody else.
const TENANT_SHARE: usize = 4;

/// Instances that entries may be bound to: the bound on an entry's `instance`.
pub const INSTANCES_MAX: usize = 1024;

/// Names one admitted entry, to cancel it. Never names another one, also not
/// after the entry has left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ticket {
    slot: usize,
    arrival: u64,
    /// When it is answered for having waited for too long, if its policy says so.
    pub(crate) timeout: Option<Time>,
}

/// What a free instance should do now.
#[derive(Debug)]
pub enum Step<T> {
    /// Run this batch.
    Release(Batch<T>),
    /// Answer these: they will not run. At least one.
    Expired(Vec<Expired<T>>),
    /// Nothing is due before this time, unless something is pushed or changed.
    WaitUntil(Time),
    /// Nothing is queued for this instance.
    Idle,
    /// Nothing is queued for this instance and nothing will be: the queue has drained.
    Drained,
}

/// The scheduler of one model. See the crate's page for what it promises.
///
/// It has no clock: the times given must not go backwards, and one that does is
/// read as the latest given before.
#[derive(Debug)]
pub struct Batcher<T> {
    policy: Policy,
    waiting: Slab<Waiting<T>>,
    arrivals: Arrivals,
    /// What any instance may run.
    shared: Pool,
    /// What one instance alone may run.
    bound: BTreeMap<usize, Pool>,
    /// Instances that are gone for good.
    gone: BTreeSet<usize>,
    tenants: Tenants,
    learner: Learner,
    /// When an entry's wait reaches its timeout, and its slot.
    timeouts: BTreeSet<(Time, usize)>,
    /// Entries that wait and their rows, by level.
    levels: Vec<(usize, usize)>,
    rows: usize,
    arrived: u64,
    batches: u64,
    /// Instances that wait for work, as last told.
    idle: usize,
    /// Instances that there are.
    instances: usize,
    /// Rows at which batches are cut, trials aside.
    run_rows: usize,
    /// Rows of an entry.
    rows_on_average: f64,
    now: Time,
    draining: bool,
}

#[derive(Debug)]
struct Waiting<T> {
    entry: Entry<T>,
    lane: usize,
    tier: Tier,
    rank: Rank,
    arrived: Time,
    timeout: Option<Time>,
}

impl<T> Waiting<T> {
    fn flow(&self) -> Flow {
        Flow { tier: self.tier, tenant: self.entry.tenant }
    }
}

impl<T> Batcher<T> {
    /// An empty scheduler.
    #[must_use]
    pub fn new(policy: Policy) -> Self {
        let learner = Learner::new();
        let run_rows = learner.cut(&policy);
        Self {
            policy,
            waiting: Slab::new(),
            arrivals: Arrivals::default(),
            shared: Pool::with_runs_of(run_rows),
            bound: BTreeMap::new(),
            gone: BTreeSet::new(),
            tenants: Tenants::default(),
            learner,
            timeouts: BTreeSet::new(),
            levels: Vec::new(),
            rows: 0,
            arrived: 0,
            batches: 0,
            idle: 0,
            instances: 1,
            run_rows,
            rows_on_average: 1.0,
            now: Time::START,
            draining: false,
        }
    }

    /// Admits an entry.
    ///
    /// # Errors
    /// The entry itself, with the reason, when it is not admitted: nothing has
    /// changed then.
    pub fn push(&mut self, now: Time, entry: Entry<T>) -> Result<Ticket, (Rejected, Entry<T>)> {
        self.now = self.now.max(now);
        let level = self.policy.level(entry.priority);
        if let Some(rejected) = self.refuses(&entry, level) {
            return Err((rejected, entry));
        }
        let arrival = self.arrived;
        self.arrived += 1;
        let (entries, rows) = self.level_mut(level);
        (*entries, *rows) = (*entries + 1, *rows + entry.rows);
        self.rows += entry.rows;
        self.note_rows(entry.rows);
        self.tenants.enter(entry.tenant);
        let patience = entry.deadline.unwrap_or_else(|| self.now.after(PATIENCE));
        let by = if self.policy.preserve_ordering { Time::START } else { patience };
        let timeout = self.policy.queue_policy(level).timeout(entry.timeout);
        let timeout = timeout.map(|timeout| self.now.after(timeout));
        let (rank, tier) = (Rank { by, arrival }, Tier::of_level(level));
        let (rows, weight, deadline) = (entry.rows, entry.weight, entry.deadline);
        let (instance, flow) = (entry.instance, Flow { tier, tenant: entry.tenant });
        let lane = self.pool_mut(instance).lane_of(entry.shape);
        let waiting = Waiting { entry, lane, tier, rank, arrived: self.now, timeout };
        let slot = self.waiting.insert(waiting);
        if let Some(timeout) = timeout {
            self.timeouts.insert((timeout, slot));
        }
        let arrived = self.now;
        let (pool, arrivals, tenants) = self.split(instance);
        pool.insert(lane, flow, rank, Place { slot, rows, weight }, tenants);
        pool.deadlines.extend(deadline.map(|deadline| (deadline, slot)));
        pool.arrive(arrivals, lane, slot, arrived);
        self.settle(instance, lane);
        let rejects = self.policy.queue_policy(level).timeout_action == TimeoutAction::Reject;
        Ok(Ticket { slot, arrival, timeout: timeout.filter(|_| rejects) })
    }

    /// What the instance of this number, which is free now, should do.
    ///
    /// Call it only when one is free: an entry that waits because all instances
    /// are busy is what makes batches grow. Call again after each answer until
    /// it is not `Release` or `Expired`.
    pub fn poll(&mut self, now: Time, instance: usize) -> Step<T> {
        let expired = self.expire(now);
        if !expired.is_empty() {
            return Step::Expired(expired);
        }
        for of in [None, Some(instance)] {
            self.press(of);
            let now = self.now;
            if let Some((pool, tenants)) = self.pool(of) {
                pool.ripen(now, tenants);
            }
        }
        let shared = self.shared.first(&self.tenants);
        let bound = self.bound.get_mut(&instance).and_then(|pool| pool.first(&self.tenants));
        let next = match (shared, bound) {
            (Some(shared), Some(bound)) if bound < shared => Some((Some(instance), bound)),
            (Some(shared), _) => Some((None, shared)),
            (None, bound) => bound.map(|bound| (Some(instance), bound)),
        };
        if let Some((of, first)) = next {
            return self.release(of, first.lane).map_or(Step::Idle, Step::Release);
        }
        match self.due(instance) {
            None if self.draining => Step::Drained,
            None => Step::Idle,
            Some(due) => Step::WaitUntil(due),
        }
    }

    /// When `poll` will next have something to hand out to this instance: a time that is
    /// not after the last one if it has now, `None` if nothing is queued for it.
    #[must_use]
    pub fn due(&self, instance: usize) -> Option<Time> {
        let timeout = self.timeouts.first().map(|(timeout, _)| *timeout);
        let bound = self.bound.get(&instance).and_then(|pool| self.pool_due(pool));
        // What is bound to others is still to be answered in time, by whoever is there.
        let others = self.bound.values().filter_map(|pool| self.first_too_late(pool)).min();
        [self.pool_due(&self.shared), bound, others, timeout].into_iter().flatten().min()
    }

    /// When a run has to start, as far as is known, for the earliest deadline of what waits
    /// to be met.
    #[must_use]
    pub fn urgent_at(&self) -> Option<Time> {
        let bound = self.bound.values().filter_map(|pool| pool.deadlines.first());
        let first = bound.chain(self.shared.deadlines.first()).min()?;
        let cost = self.learner.cost(self.best_rows().unwrap_or(self.policy.max_batch_size));
        Some(first.0.before(cost.unwrap_or_default()))
    }

    /// Whether something waits for one instance alone.
    #[must_use]
    pub fn has_bound(&self) -> bool {
        !self.bound.is_empty()
    }

    /// A batch has run: the costs of runs are learned from it.
    pub fn observe(&mut self, now: Time, run: &Observed) {
        self.now = self.now.max(now);
        self.learner.observe(self.now, run, &self.policy);
        self.count_runs();
    }

    /// The size of a batch beyond which a row gets no cheaper, if that is known.
    #[must_use]
    pub fn best_rows(&self) -> Option<usize> {
        self.learner.best_rows()
    }

    /// How many instances wait for work: where one is free anyway, nothing is held back
    /// for the sake of the mean.
    pub const fn set_idle(&mut self, idle: usize) {
        self.idle = idle;
    }

    /// How many instances run batches: one, unless it is told. Says how fast what waits is
    /// worked off.
    pub fn set_instances(&mut self, instances: usize) {
        self.instances = instances.max(1);
    }

    /// Batches by another policy from now on; entries that wait stay admitted
    /// and keep the level, the place and the time they have.
    pub fn set_policy(&mut self, policy: Policy) {
        self.policy = policy;
        self.count_runs();
        self.settle_all();
    }

    /// The policy in force.
    #[must_use]
    pub const fn policy(&self) -> &Policy {
        &self.policy
    }

    /// Admits nothing more and releases what waits without delay. For good.
    pub fn drain(&mut self) {
        self.draining = true;
        self.settle_all();
    }

    /// Whether this instance is gone for good.
    #[must_use]
    pub fn is_gone(&self, instance: usize) -> bool {
        !self.draining && self.gone.contains(&instance)
    }

    /// Entries that wait.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Whether nothing waits.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Rows of all entries that wait.
    #[must_use]
    pub const fn rows(&self) -> usize {
        self.rows
    }

    fn refuses(&self, entry: &Entry<T>, level: u32) -> Option<Rejected> {
        let rows_max = match self.policy.max_batch_size {
            0 => ENTRY_ROWS_MAX,
            configured => configured.min(ENTRY_ROWS_MAX),
        };
        let size_max = self.policy.max_queue_size.min(QUEUE_ENTRIES_MAX);
        let level_max = self.policy.queue_policy(level).max_queue_size;
        let free = size_max.saturating_sub(self.len());
        let is_gone = |instance: usize| instance >= INSTANCES_MAX || self.gone.contains(&instance);
        if self.draining {
            Some(Rejected::Draining)
        } else if entry.rows > rows_max || entry.weight > ENTRY_ROWS_MAX {
            Some(Rejected::TooLarge)
        } else if entry.instance.is_some_and(is_gone) {
            Some(Rejected::InstanceGone)
        } else if free == 0 || (level_max > 0 && self.level(level) >= level_max) {
            Some(Rejected::QueueFull)
        } else if entry.tenant != 0 && self.tenants.waiting(entry.tenant) >= free * TENANT_SHARE {
            Some(Rejected::TenantFull)
        } else if self.too_late(entry).is_some_and(|too_late| too_late <= self.now) {
            Some(Rejected::Unreachable)
        } else if self.is_behind(entry, level) {
            Some(Rejected::Behind)
        } else {
            None
        }
    }

    /// From when on an entry can no longer meet its deadline, if it has one.
    fn too_late(&self, entry: &Entry<T>) -> Option<Time> {
        let deadline = entry.deadline?;
        Some(deadline.before(self.learner.floor(self.now, entry.shape, entry.rows)))
    }

    /// The same for the entry of a pool with the earliest deadline.
    fn first_too_late(&self, pool: &Pool) -> Option<Time> {
        let (_, slot) = *pool.deadlines.first()?;
        self.too_late(&self.waiting.get(slot)?.entry)
    }

    fn level(&self, level: u32) -> usize {
        self.levels.get(level as usize).map_or(0, |(entries, _)| *entries)
    }

    fn level_mut(&mut self, level: u32) -> &mut (usize, usize) {
        let level = level as usize;
        if level >= self.levels.len() {
            self.levels.resize(level + 1, (0, 0));
        }
        &mut self.levels[level]
    }

    fn pool(&mut self, of: Option<usize>) -> Option<(&mut Pool, &Tenants)> {
        let pool = match of {
            None => Some(&mut self.shared),
            Some(instance) => self.bound.get_mut(&instance),
        };
        pool.map(|pool| (pool, &self.tenants))
    }

    fn pool_of(&self, of: Option<usize>) -> Option<&Pool> {
        match of {
            None => Some(&self.shared),
            Some(instance) => self.bound.get(&instance),
        }
    }

    fn pool_mut(&mut self, of: Option<usize>) -> &mut Pool {
        match of {
            None => &mut self.shared,
            Some(instance) => self.bound.entry(instance).or_insert_with(|| Pool::with_runs_of(self.run_rows)),
        }
    }

    fn split(&mut self, of: Option<usize>) -> (&mut Pool, &mut Arrivals, &mut Tenants) {
        let pool = match of {
            None => &mut self.shared,
            Some(instance) => self.bound.entry(instance).or_insert_with(|| Pool::with_runs_of(self.run_rows)),
        };
        (pool, &mut self.arrivals, &mut self.tenants)
    }

    fn pool_due(&self, pool: &Pool) -> Option<Time> {
        let first = pool.deadlines.first();
        let pressed = first.and_then(|(_, slot)| self.presses(pool, *slot));
        [pool.ripens(), self.first_too_late(pool), pressed].into_iter().flatten().min()
    }

    /// Says when a lane that has changed may run.
    fn settle(&mut self, of: Option<usize>, lane: usize) {
        let pool = match of {
            None => &self.shared,
            Some(instance) => match self.bound.get(&instance) {
                Some(pool) => pool,
                None => return,
            },
        };
        let ripens = self.ripens(pool, lane);
        let now = self.now;
        if let Some((pool, tenants)) = self.pool(of) {
            pool.settle(lane, ripens, now, tenants);
            let is_empty = pool.is_empty();
            if let Some(instance) = of.filter(|_| is_empty) {
                self.bound.remove(&instance);
            }
        }
    }

    fn settle_all(&mut self) {
        let bound: Vec<_> = self.bound.keys().copied().map(Some).collect();
        for of in std::iter::once(None).chain(bound) {
            for lane in self.pool(of).map_or_else(Vec::new, |(pool, _)| pool.used()) {
                self.settle(of, lane);
            }
        }
    }

    /// From when on a batch of a lane may run, its deadlines aside.
    fn ripens(&self, pool: &Pool, number: usize) -> Time {
        let (lane, policy) = (pool.lane(number), &self.policy);
        let delay = match policy.mode {
            Mode::Fixed => policy.max_queue_delay,
            Mode::Backpressure => Duration::ZERO,
            Mode::Learned => Duration::MAX,
        };
        let is_heavy = policy.max_batch_weight > 0 && lane.weight >= policy.max_batch_weight;
        let is_full = lane.rows >= policy.max_batch_size || is_heavy;
        if self.draining || delay.is_zero() || is_full || lane.len == 0 {
            return Time::START;
        }
        if policy.preferred(lane.rows, policy.max_batch_size).is_some() {
            return Time::START;
        }
        let oldest = pool.oldest(&self.arrivals, number);
        if policy.mode == Mode::Fixed {
            return oldest.after(delay);
        }
        if self.learner.best_rows().is_some_and(|best| lane.rows >= best) {
            return Time::START;
        }
        let (rows, entries, gap) = (lane.rows, lane.len, lane.gap.expected());
        let held = Held { rows, entries, oldest, gap, idle: self.idle };
        self.learner.holds(self.now, policy, &held)
    }

    /// Lanes there is memory for.
    #[cfg(test)]
    pub(crate) fn lanes_kept(&self) -> usize {
        assert!(self.tenants.count() <= self.len() + 1, "tenants are kept");
        self.shared.footprint().1
    }

    /// Slots, lanes and deadlines held, for the tests of memory.
    #[cfg(test)]
    pub(crate) fn footprint(&self) -> (usize, usize, usize) {
        let (lanes, _, deadlines) = self.shared.footprint();
        assert!(self.bound.values().all(|pool| !pool.is_empty()), "an empty pool is kept");
        (self.waiting.slots(), lanes, deadlines + self.timeouts.len())
    }
}
