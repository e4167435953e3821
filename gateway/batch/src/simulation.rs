//! Seeded histories in virtual time, driven through the real state machine and
//! checked against a model that is too simple to be wrong (`simulation/model.rs`).
//!
//! A failure prints its seed. `SLUICE_BATCH_SEED=n` replays one history, and
//! `SLUICE_BATCH_SEEDS=n` runs that many.

use std::time::Duration;

use crate::histories::{self, Seen};
use crate::{
    Batcher, Entry, Expired, Lateness, Mode, Observed, Policy, QueuePolicy, Reason, Rejected, Step, Ticket,
    Time, TimeoutAction,
};

mod model;

use model::Model;

/// Histories in a run: what the project asks of each change.
const SEEDS: u64 = 12_000;
/// Steps of one history before it drains.
const STEPS: usize = 48;
/// Shapes and tenants that entries have.
const SHAPES: u64 = 3;
const TENANTS: u64 = 3;

/// xorshift64*: small, seeded, and good enough to shuffle.
struct Random(u64);

impl Random {
    fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % bound
    }

    fn small(&mut self, bound: usize) -> usize {
        usize::try_from(self.below(bound as u64)).expect("a small number")
    }

    fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    fn one_of<T: Clone>(&mut self, choices: &[T]) -> T {
        choices[self.small(choices.len())].clone()
    }
}

/// A batch that is running.
struct Run {
    end: Time,
    instance: usize,
    observed: Observed,
}

struct Simulation {
    random: Random,
    batcher: Batcher<usize>,
    model: Model,
    now: Time,
    tickets: Vec<Ticket>,
    /// Numbers of the instances that are there.
    instances: Vec<usize>,
    busy: Vec<Run>,
    /// How dear a batch and a row of it are, in microseconds; changes now and then.
    cost: (u64, u64),
    /// What the scheduler said when it was last asked, the earliest of all instances.
    wake: Option<Time>,
    /// What has happened how often, to see that the histories are rich.
    seen: Seen,
}

fn us(us: u64) -> Duration {
    Duration::from_micros(us)
}

fn random_queue_policy(random: &mut Random) -> QueuePolicy {
    QueuePolicy {
        timeout_action: random.one_of(&[TimeoutAction::Reject, TimeoutAction::Delay]),
        default_timeout: us(random.one_of(&[0, 0, 300, 2_000])),
        allow_timeout_override: random.chance(50),
        max_queue_size: random.one_of(&[0, 0, 2, 10]),
    }
}

fn random_policy(random: &mut Random) -> Policy {
    let max_batch_size = random.one_of(&[0, 1, 2, 4, 7, 32]);
    let levels = random.one_of(&[0, 1, 3]);
    let sizes: &[&[usize]] = if max_batch_size >= 4 { &[&[], &[], &[2], &[2, 4]] } else { &[&[]] };
    let level_policies = (1..=levels).filter_map(|level| {
        let has_one = random.chance(40);
        has_one.then(|| (level, random_queue_policy(random)))
    });
    Policy {
        max_batch_size,
        max_batch_weight: 0,
        mode: Mode::Fixed,
        level_policies: level_policies.collect(),
        priority_levels: levels,
        default_priority_level: levels.div_ceil(2),
        preferred_batch_sizes: sizes[random.small(sizes.len())].to_vec(),
        preserve_ordering: random.chance(20),
        tenant_weights: [(1, 1 + u32::try_from(random.below(3)).expect("small"))].into(),
        max_queue_delay: us(random.one_of(&[0, 0, 1, 50, 400, 5_000])),
        latency_objective: random.chance(50).then(|| us(2_000)),
        queue_policy: if random.chance(30) { random_queue_policy(random) } else { QueuePolicy::default() },
        max_queue_size: random.one_of(&[1, 3, 16, 64]),
    }
}

fn random_mode(random: &mut Random, mut policy: Policy) -> Policy {
    policy.mode = random.one_of(&[Mode::Fixed, Mode::Fixed, Mode::Backpressure, Mode::Learned]);
    policy.max_batch_weight = random.one_of(&[0, 0, 0, 40]);
    policy
}

impl Simulation {
    fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let policy = random_policy(&mut random);
        let policy = random_mode(&mut random, policy);
        let (there, bound_max) = (1 + random.small(3), 4);
        let mut batcher = Batcher::new(policy.clone());
        let mut model = Model::new(policy);
        // Entries are bound to these too.
        for instance in there..bound_max {
            assert!(batcher.abandon(instance).is_empty());
            model.abandon(instance);
        }
        let instances = (0..there).collect();
        Self {
            batcher,
            model,
            now: Time::START,
            tickets: Vec::new(),
            instances,
            busy: Vec::new(),
            cost: (10 + random.below(300), 1 + random.below(60)),
            wake: None,
            seen: Seen::new(),
            random,
        }
    }

    fn run(&mut self) {
        for _ in 0..STEPS {
            let gap = us(self.random.one_of(&[0, 1, 20, 300, 3_000]));
            self.advance_to(self.now.after(gap));
            match self.random.below(100) {
                0..68 => (0..=self.random.below(4)).for_each(|_| self.push()),
                68..86 => self.cancel(),
                86..90 => self.change_policy(),
                90..92 => self.expire(),
                92..94 => self.cost = (10 + self.random.below(300), 1 + self.random.below(60)),
                94..97 => self.abandon(),
                _ => {}
            }
            self.serve();
        }
        self.batcher.drain();
        self.model.draining = true;
        self.push();
        self.serve();
        while let Some(end) = self.busy.iter().map(|run| run.end).max() {
            self.advance_to(end);
        }
        for instance in self.instances.clone() {
            assert!(matches!(self.batcher.poll(self.now, instance), Step::Drained), "did not drain");
        }
        self.model.check_end();
        assert_eq!(self.batcher.footprint().1, 0, "lanes left behind");
        assert_eq!(self.batcher.footprint().2, 0, "deadlines or timeouts left behind");
        assert!(!self.batcher.has_bound(), "pools left behind");
    }

    /// Lives through everything that happens until `time`: instances that
    /// finish, and the wake-ups that the scheduler itself asked for.
    fn advance_to(&mut self, time: Time) {
        loop {
            let wake = self.wake.filter(|_| self.busy.len() < self.instances.len());
            let ends = self.busy.iter().map(|run| run.end);
            let Some(next) = ends.chain(wake).min().filter(|next| *next <= time) else { break };
            self.now = self.now.max(next);
            let now = self.now;
            for run in self.busy.extract_if(.., |run| run.end <= now) {
                self.batcher.observe(now, &run.observed);
                self.model.observe(now, &run.observed);
            }
            self.serve();
        }
        self.now = self.now.max(time);
        // An entry may come due at this very instant: free instances see to it.
        self.serve();
    }

    /// Lets every free instance ask until it is told to wait.
    fn serve(&mut self) {
        self.wake = None;
        for instance in self.instances.clone() {
            while self.busy.iter().all(|run| run.instance != instance) {
                self.batcher.set_idle(self.instances.len() - self.busy.len());
                let step = self.batcher.poll(self.now, instance);
                self.model.time_passes(self.now);
                match step {
                    Step::Release(batch) => {
                        self.model.check_batch(self.now, instance, &batch);
                        self.saw(batch.reason.as_str());
                        let cost = us(self.cost.0 + self.cost.1 * batch.rows as u64 + self.random.below(20));
                        let (shape, rows, oldest_wait) = (batch.shape, batch.rows, batch.oldest_wait);
                        let observed = Observed { shape, rows, took: cost, oldest_wait };
                        self.busy.push(Run { end: self.now.after(cost), instance, observed });
                    }
                    Step::Expired(expired) => self.check_expired(&expired),
                    Step::WaitUntil(time) => {
                        self.model.check_wait(self.now, instance, time);
                        self.wake = Some(self.wake.map_or(time, |wake| wake.min(time)));
                        break;
                    }
                    Step::Idle => {
                        assert!(self.model.has_nothing_for(instance), "idle with entries waiting");
                        assert!(!self.model.draining, "idle and not drained");
                        break;
                    }
                    Step::Drained => {
                        assert!(self.model.has_nothing_for(instance), "drained too early");
                        assert!(self.model.draining, "drained though it goes on");
                        break;
                    }
                }
                self.check_counts();
            }
        }
    }

    fn push(&mut self) {
        let (random, policy) = (&mut self.random, &self.model.policy);
        let rows = random.small(policy.max_batch_size.max(3) + 2);
        let entry = Entry {
            rows,
            weight: if random.chance(80) { rows } else { random.small(60) },
            deadline: random.chance(40).then(|| self.now.after(us(random.below(2_000)))),
            timeout: random.chance(20).then(|| us(random.below(500))),
            priority: u32::try_from(random.below(5)).expect("small"),
            tenant: random.below(TENANTS),
            instance: random.chance(8).then(|| random.small(4)),
            shape: random.below(SHAPES),
            payload: self.model.admitted(),
        };
        let expected = self.model.refuses(self.now, &entry);
        match self.batcher.push(self.now, entry.clone()) {
            Ok(ticket) => {
                assert_eq!(expected, None, "admitted what should be refused");
                self.model.push(self.now, &entry, ticket);
                self.tickets.push(ticket);
            }
            Err((Rejected::Unreachable, _)) if expected.is_none() => {
                self.model.check_unreachable(self.now, &entry);
                self.saw("refused as unreachable");
            }
            Err((Rejected::Behind, _)) if expected.is_none() => {
                self.model.check_behind(self.now, &entry);
                self.saw("refused as behind");
            }
            Err((rejected, back)) => {
                assert_eq!(Some(rejected), expected);
                self.saw(match rejected {
                    Rejected::QueueFull => "queue full",
                    Rejected::TenantFull => "tenant full",
                    Rejected::InstanceGone => "instance gone",
                    Rejected::Draining => "draining",
                    Rejected::TooLarge => "too large",
                    Rejected::Unreachable => "refused as past",
                    Rejected::Behind => "refused as past and behind",
                });
                assert_eq!(back, entry, "another entry came back");
            }
        }
        self.check_counts();
    }

    /// Cancels any entry there ever was: one that waits, or one that has left.
    fn cancel(&mut self) {
        if self.tickets.is_empty() {
            return;
        }
        let ticket = self.tickets[self.random.small(self.tickets.len())];
        let cancelled = self.batcher.cancel(ticket).map(|entry| entry.payload);
        assert_eq!(cancelled, self.model.waits(ticket), "cancelled the wrong entry");
        if let Some(id) = cancelled {
            self.saw("cancelled");
            self.model.leaves(id);
        }
        self.check_counts();
    }

    fn change_policy(&mut self) {
        let policy = random_policy(&mut self.random);
        let policy = random_mode(&mut self.random, policy);
        self.model.policy = policy.clone();
        self.batcher.set_policy(policy);
    }

    fn expire(&mut self) {
        let expired = self.batcher.expire(self.now);
        self.model.time_passes(self.now);
        self.check_expired(&expired);
        self.check_counts();
    }

    /// An instance is gone for good, and its run with it, unless it is the last one.
    fn abandon(&mut self) {
        let instance = self.instances[self.random.small(self.instances.len())];
        if self.instances.len() == 1 {
            return;
        }
        self.busy.retain(|run| run.instance != instance);
        self.instances.retain(|other| *other != instance);
        let orphans = self.batcher.abandon(instance);
        for orphan in orphans {
            assert_eq!(orphan.instance, Some(instance), "an orphan of another instance");
            self.saw("orphaned");
            self.model.leaves(orphan.payload);
        }
        self.model.abandon(instance);
    }

    fn saw(&mut self, what: &'static str) {
        *self.seen.entry(what).or_default() += 1;
    }

    fn check_expired(&mut self, expired: &[Expired<usize>]) {
        for one in expired {
            self.model.check_expired(self.now, one);
            self.saw(match one.why {
                Lateness::Deadline => "deadline passed",
                Lateness::Unreachable => "unreachable",
                Lateness::Timeout => "timed out",
            });
        }
        self.model.check_nobody_is_late(self.now);
        let delayed = self.model.delayed();
        (0..delayed).for_each(|_| self.saw("delayed"));
    }

    fn check_counts(&self) {
        assert_eq!((self.batcher.len(), self.batcher.rows()), self.model.counts());
    }
}

#[test]
fn no_history_breaks_a_promise() {
    let expected = [
        "deadline passed",
        "unreachable",
        "refused as unreachable",
        "refused as behind",
        "timed out",
        "delayed",
        "cancelled",
        "orphaned",
        "queue full",
        "tenant full",
        "instance gone",
        "draining",
        "too large",
    ];
    let expected: Vec<_> = Reason::ALL.map(Reason::as_str).into_iter().chain(expected).collect();
    histories::live(SEEDS, &expected, |seed| {
        let mut simulation = Simulation::new(seed);
        simulation.run();
        simulation.seen
    });
}

#[test]
fn the_same_seed_lives_the_same_history() {
    let history = |seed| {
        let mut simulation = Simulation::new(seed);
        simulation.run();
        (simulation.now, simulation.model.admitted(), simulation.random.0)
    };
    assert_eq!(history(7), history(7));
    assert_ne!(history(7), history(8));
}
