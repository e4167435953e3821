//! The scheduler without any index: a list of what waits, in the order of arrival, that is
//! searched from end to end for each question.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::{
    Batch, Entry, Expired, Lateness, Mode, Observed, Policy, Reason, Rejected, Ticket, Time, TimeoutAction,
};

/// An entry that waits.
#[derive(Clone)]
struct Known {
    entry: Entry<usize>,
    ticket: Ticket,
    arrived: Time,
    level: u32,
    is_delayed: bool,
    timeout: Option<Time>,
    by: Time,
}

/// Where an entry stands: level, whether it was delayed, its tenant's time, its tenant, and its
/// own rank.
type Standing = (u32, bool, u128, u64, (Time, usize));

pub(super) struct Model {
    pub(super) policy: Policy,
    pub(super) draining: bool,
    waiting: Vec<Known>,
    /// Entries that have left, by id: each may do so once.
    left: BTreeSet<usize>,
    admitted: usize,
    gone: BTreeSet<usize>,
    /// Virtual times of tenants, and of the one that was last served.
    tenants: BTreeMap<u64, u128>,
    virtual_now: u128,
    runs: Vec<Observed>,
    last_run: Option<Time>,
    delayed: usize,
}

impl Model {
    pub(super) fn new(policy: Policy) -> Self {
        Self {
            policy,
            draining: false,
            waiting: Vec::new(),
            left: BTreeSet::new(),
            admitted: 0,
            gone: BTreeSet::new(),
            tenants: BTreeMap::new(),
            virtual_now: 0,
            runs: Vec::new(),
            last_run: None,
            delayed: 0,
        }
    }

    pub(super) const fn admitted(&self) -> usize {
        self.admitted
    }

    pub(super) fn counts(&self) -> (usize, usize) {
        (self.waiting.len(), self.waiting.iter().map(|known| known.entry.rows).sum())
    }

    pub(super) fn observe(&mut self, now: Time, run: &Observed) {
        self.runs.push(*run);
        self.last_run = Some(now);
    }

    fn level(&self, priority: u32) -> u32 {
        let levels = self.policy.priority_levels.max(1);
        let named =
            if priority == 0 || priority > levels { self.policy.default_priority_level } else { priority };
        named.clamp(1, levels)
    }

    /// Why an entry should be refused, costs aside.
    pub(super) fn refuses(&self, now: Time, entry: &Entry<usize>) -> Option<Rejected> {
        let policy = &self.policy;
        let level = self.level(entry.priority);
        let of_level = self.waiting.iter().filter(|known| known.level == level).count();
        let of_tenant = self.waiting.iter().filter(|known| known.entry.tenant == entry.tenant).count();
        let level_max = policy.level_policies.get(&level).unwrap_or(&policy.queue_policy).max_queue_size;
        let free = policy.max_queue_size.saturating_sub(self.waiting.len());
        if self.draining {
            Some(Rejected::Draining)
        } else if policy.max_batch_size > 0 && entry.rows > policy.max_batch_size {
            Some(Rejected::TooLarge)
        } else if entry.instance.is_some_and(|instance| self.gone.contains(&instance)) {
            Some(Rejected::InstanceGone)
        } else if free == 0 || (level_max > 0 && of_level >= level_max) {
            Some(Rejected::QueueFull)
        } else if entry.tenant != 0 && of_tenant >= 4 * free {
            Some(Rejected::TenantFull)
        } else {
            let is_past = entry.deadline.is_some_and(|deadline| deadline <= now);
            is_past.then_some(Rejected::Unreachable)
        }
    }

    pub(super) fn check_unreachable(&self, now: Time, entry: &Entry<usize>) {
        let last_run = self.last_run.expect("refused for its deadline though no cost is known");
        assert!(now.since(last_run) <= Duration::from_secs(1), "refused for a cost of long ago");
        let deadline = entry.deadline.expect("refused for its deadline without having one");
        let like_it = self.runs.iter().filter(|run| run.shape == entry.shape && run.rows <= entry.rows);
        let longest = like_it.map(|run| run.took).max().expect("refused for runs of others");
        assert!(deadline <= now.after(longest), "refused though every run is short enough");
    }

    /// Who is told that too much goes before it could not have been reached even if each row
    /// before it took as long as the longest run so far, beside a batch that is under way.
    pub(super) fn check_behind(&self, now: Time, entry: &Entry<usize>) {
        let deadline = entry.deadline.expect("refused for its deadline without having one");
        let level = self.level(entry.priority);
        let goes_first = |known: &&Known| {
            known.level <= level
                && known.entry.instance == entry.instance
                && known.entry.deadline.is_some_and(|before| before <= deadline)
        };
        let rows = |first: &dyn Fn(&&Known) -> bool| {
            entry.rows + self.waiting.iter().filter(first).map(|known| known.entry.rows).sum::<usize>()
        };
        let longest = self.runs.iter().map(|run| run.took).max().expect("refused though no cost is known");
        let rows = u32::try_from(rows(&goes_first) + 2 * rows(&|_| true)).expect("few");
        assert!(deadline.since(now) < longest * rows * 2, "refused though everything fits");
    }

    pub(super) fn push(&mut self, now: Time, entry: &Entry<usize>, ticket: Ticket) {
        let level = self.level(entry.priority);
        let policy = self.policy.level_policies.get(&level).unwrap_or(&self.policy.queue_policy);
        let mut timeout = (!policy.default_timeout.is_zero()).then_some(policy.default_timeout);
        if policy.allow_timeout_override {
            timeout = timeout.map(|longest| entry.timeout.map_or(longest, |asked| asked.min(longest)));
        }
        let by = entry.deadline.unwrap_or_else(|| now.after(Duration::from_secs(10)));
        let by = if self.policy.preserve_ordering { Time::START } else { by };
        if self.waiting.iter().all(|known| known.entry.tenant != entry.tenant) {
            let at = self.tenants.entry(entry.tenant).or_default();
            *at = (*at).max(self.virtual_now);
        }
        self.waiting.push(Known {
            entry: entry.clone(),
            ticket,
            arrived: now,
            level,
            is_delayed: false,
            timeout: timeout.map(|timeout| now.after(timeout)),
            by,
        });
        self.admitted += 1;
    }

    /// The entry of a ticket, if it waits.
    pub(super) fn waits(&self, ticket: Ticket) -> Option<usize> {
        let known = self.waiting.iter().find(|known| known.ticket == ticket);
        known.map(|known| known.entry.payload)
    }

    pub(super) fn leaves(&mut self, id: usize) {
        self.waiting.retain(|known| known.entry.payload != id);
        assert!(self.left.insert(id), "entry {id} answered twice");
        if self.waiting.is_empty() {
            self.tenants.clear();
            self.virtual_now = 0;
        }
    }

    pub(super) fn abandon(&mut self, instance: usize) {
        self.gone.insert(instance);
        let left = self.waiting.iter().find(|known| known.entry.instance == Some(instance));
        assert!(left.is_none(), "an orphan stayed");
    }

    /// Whether anything is to be run or answered by this instance, now or later.
    pub(super) fn has_nothing_for(&self, instance: usize) -> bool {
        self.of(instance).next().is_none() && self.waiting.iter().all(|known| known.timeout.is_none())
    }

    fn of(&self, instance: usize) -> impl Iterator<Item = &Known> {
        self.waiting.iter().filter(move |known| known.entry.instance.is_none_or(|bound| bound == instance))
    }

    /// Entries whose timeout puts them behind the others.
    pub(super) fn time_passes(&mut self, now: Time) {
        for known in &mut self.waiting {
            let policy = self.policy.level_policies.get(&known.level).unwrap_or(&self.policy.queue_policy);
            let is_over = known.timeout.is_some_and(|timeout| timeout <= now);
            let is_late = known.entry.deadline.is_some_and(|deadline| deadline <= now);
            if is_over && !is_late && policy.timeout_action == TimeoutAction::Delay {
                known.timeout = None;
                known.is_delayed = true;
                self.delayed += 1;
            }
        }
    }

    /// Entries that were delayed since this was last asked.
    pub(super) fn delayed(&mut self) -> usize {
        std::mem::take(&mut self.delayed)
    }

    pub(super) fn check_expired(&mut self, now: Time, expired: &Expired<usize>) {
        let id = expired.entry.payload;
        let known = self.waiting.iter().find(|known| known.entry.payload == id).expect("it waits");
        let deadline = known.entry.deadline;
        match expired.why {
            Lateness::Deadline => {
                assert!(deadline.is_some_and(|at| at <= now), "expired before its deadline")
            }
            Lateness::Unreachable => self.check_unreachable(now, &expired.entry),
            Lateness::Timeout => {
                assert!(known.timeout.is_some_and(|at| at <= now), "timed out before its time");
            }
        }
        self.leaves(id);
    }

    pub(super) fn check_nobody_is_late(&self, now: Time) {
        let passed = |time: Option<Time>| time.is_some_and(|time| time <= now);
        assert!(!self.waiting.iter().any(|known| passed(known.entry.deadline)), "an expired entry stayed");
        assert!(!self.waiting.iter().any(|known| passed(known.timeout)), "a timed-out entry stayed");
    }

    fn at(&self, tenant: u64) -> u128 {
        self.tenants.get(&tenant).copied().unwrap_or(self.virtual_now)
    }

    fn standing(&self, known: &Known) -> Standing {
        let rank = (known.by, known.entry.payload);
        (known.level, known.is_delayed, self.at(known.entry.tenant), known.entry.tenant, rank)
    }

    /// Of entries of one lane, the one that is first: by level, then by tenant, then by rank.
    fn first<'a>(&self, lane: impl Iterator<Item = &'a Known>) -> Option<&'a Known> {
        lane.min_by_key(|known| self.standing(known))
    }

    /// What is in a lane, in the order of arrival.
    fn lane(&self, instance: Option<usize>, shape: u64) -> Vec<&Known> {
        let is_in = |known: &&Known| known.entry.instance == instance && known.entry.shape == shape;
        self.waiting.iter().filter(is_in).collect()
    }

    /// Whether a lane must be released by a free instance, deadlines aside. `None` where that
    /// depends on what was learned.
    fn is_due(&self, now: Time, lane: &[&Known]) -> Option<bool> {
        let Some(oldest) = lane.first() else { return Some(false) };
        let policy = &self.policy;
        let rows: usize = lane.iter().map(|known| known.entry.rows).sum();
        let weight: usize = lane.iter().map(|known| known.entry.weight).sum();
        let is_heavy = policy.max_batch_weight > 0 && weight >= policy.max_batch_weight;
        let is_preferred = policy.preferred_batch_sizes.iter().any(|size| *size <= rows);
        if self.draining || is_heavy || is_preferred || rows >= policy.max_batch_size {
            return Some(true);
        }
        match policy.mode {
            Mode::Fixed => Some(now.since(oldest.arrived) >= policy.max_queue_delay),
            Mode::Backpressure => Some(true),
            Mode::Learned => None,
        }
    }

    /// The lanes that an instance may run.
    fn lanes(&self, instance: usize) -> impl Iterator<Item = Vec<&Known>> {
        let of = [None, Some(instance)].into_iter();
        of.flat_map(|of| (0..super::SHAPES).map(move |shape| (of, shape)))
            .map(|(of, shape)| self.lane(of, shape))
    }

    pub(super) fn check_batch(&mut self, now: Time, instance: usize, batch: &Batch<usize>) {
        let first = batch.entries.first().expect("a batch has entries");
        let of = first.instance;
        assert!(of.is_none_or(|bound| bound == instance), "another instance's entry");
        assert!(batch.entries.iter().all(|entry| entry.instance == of), "mixed instances");
        assert!(batch.entries.iter().all(|entry| entry.shape == batch.shape), "mixed keys");
        assert_eq!(batch.rows, batch.entries.iter().map(|entry| entry.rows).sum::<usize>());
        let late = |entry: &Entry<usize>| entry.deadline.is_some_and(|deadline| deadline <= now);
        assert!(!batch.entries.iter().any(late), "ran past its deadline");
        assert_eq!(batch.is_ordered, self.policy.preserve_ordering);
        self.check_turn(now, instance, batch);
        self.check_reason(now, batch);
        let oldest = batch.entries.iter().map(|entry| {
            let known = self.waiting.iter().find(|known| known.entry.payload == entry.payload);
            known.expect("it waits").arrived
        });
        assert_eq!((batch.oldest_wait, batch.released), (now.since(oldest.min().expect("one")), now));
        for (taken, entry) in batch.entries.iter().enumerate() {
            let mut lane = self.lane(of, batch.shape);
            let is_taken = |id| batch.entries[..taken].iter().any(|entry| entry.payload == id);
            lane.retain(|known| !is_taken(known.entry.payload));
            let next = self.first(lane.into_iter()).expect("the lane holds it").entry.clone();
            assert_eq!(next.payload, entry.payload, "another entry of the lane was next");
            let share = u128::from(self.policy.tenant_weights.get(&entry.tenant).copied().unwrap_or(1));
            let at = self.at(entry.tenant);
            self.virtual_now = self.virtual_now.max(at);
            self.tenants.insert(entry.tenant, at + (entry.weight.max(1) as u128 * (1 << 20)) / share);
        }
        for entry in &batch.entries {
            self.leaves(entry.payload);
        }
    }

    /// Nobody in a lane that was due stood before the head of the batch.
    fn check_turn(&self, now: Time, instance: usize, batch: &Batch<usize>) {
        let head = &batch.entries[0];
        let head = self.waiting.iter().find(|known| known.entry.payload == head.payload).expect("it waits");
        let due = self.lanes(instance).filter(|lane| self.is_due(now, lane) == Some(true));
        for first in due.filter_map(|lane| self.first(lane.into_iter())) {
            assert!(self.standing(head) <= self.standing(first), "another lane's turn");
        }
    }

    fn check_reason(&self, now: Time, batch: &Batch<usize>) {
        let (policy, rows) = (&self.policy, batch.rows);
        let lane = self.lane(batch.entries[0].instance, batch.shape);
        let is_all = lane.len() == batch.entries.len();
        let weight: usize = batch.entries.iter().map(|entry| entry.weight).sum();
        let is_too_heavy = policy.max_batch_weight > 0 && weight > policy.max_batch_weight;
        if policy.max_batch_size == 0 || rows > policy.max_batch_size || is_too_heavy {
            assert_eq!((batch.reason, batch.entries.len()), (Reason::Alone, 1), "not bounded");
            return;
        }
        let waited = now.since(lane[0].arrived);
        let is_due = self.is_due(now, &lane);
        match batch.reason {
            Reason::Full => {
                let mut left = lane;
                left.retain(|known| batch.entries.iter().all(|entry| entry.payload != known.entry.payload));
                let fits = |known: &&Known| {
                    let weight = weight + known.entry.weight;
                    let is_light = policy.max_batch_weight == 0 || weight <= policy.max_batch_weight;
                    rows + known.entry.rows <= policy.max_batch_size && is_light
                };
                let is_full = rows == policy.max_batch_size || weight == policy.max_batch_weight;
                // Which one was next depends on the tenants' times: one at least did not fit,
                // in a batch that may have been cut at a preferred size.
                let preferred = !policy.preferred_batch_sizes.is_empty();
                let all_fit = left.iter().all(fits);
                assert!(is_full || preferred || !all_fit, "called full though all would fit");
            }
            Reason::Preferred => {
                assert!(policy.preferred_batch_sizes.contains(&rows), "{rows} is not preferred");
            }
            Reason::Delay => {
                assert!(is_all && policy.mode == Mode::Fixed && waited >= policy.max_queue_delay);
            }
            Reason::Immediate => assert!(is_all && is_due == Some(true), "released too early"),
            Reason::Drain => assert!(is_all && self.draining, "called drained"),
            Reason::Learned => assert!(policy.mode != Mode::Fixed, "learned though it is fixed"),
            // The entry that it was for may have left since.
            Reason::Deadline => {}
            Reason::Alone => panic!("called alone though it is within bounds"),
        }
    }

    /// A free instance is told to wait only if nothing is due, and no longer than until the
    /// first thing is: this is what bounds the delay.
    pub(super) fn check_wait(&self, now: Time, instance: usize, until: Time) {
        assert!(until > now, "waits for the past");
        for lane in self.lanes(instance) {
            assert_ne!(self.is_due(now, &lane), Some(true), "waits though a batch is due");
            let Some(oldest) = lane.first() else { continue };
            let delay = self.policy.max_queue_delay;
            if self.policy.mode == Mode::Fixed || !delay.is_zero() {
                assert!(until <= oldest.arrived.after(delay), "waits for longer than the delay");
            }
        }
        let deadlines = self.of(instance).filter_map(|known| known.entry.deadline);
        let timeouts = self.waiting.iter().filter_map(|known| known.timeout);
        if let Some(first) = deadlines.chain(timeouts).min() {
            assert!(until <= first, "waits past a deadline or a timeout");
        }
        assert!(!self.waiting.is_empty(), "waits for nothing");
    }

    pub(super) fn check_end(&self) {
        assert!(self.waiting.is_empty(), "{} entries lost", self.waiting.len());
        assert_eq!(self.left.len(), self.admitted, "every admitted entry leaves once");
    }
}
