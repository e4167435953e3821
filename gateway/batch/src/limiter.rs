//! What may run at once, of all models together.
//!
//! A machine with few cores, or one GPU, runs two large batches of two models faster one after
//! the other. So an instance that has something to run waits for a permit first, and forms its
//! batch when it has it: what arrives meanwhile joins. Who is next is decided as among
//! tenants, by virtual time: the model that has run for the least of its share. But a model
//! whose next entry would miss its deadline goes first, the most urgent of them foremost.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::time::{Clock, Time};

/// The largest share of a model; more mean this much, 0 means 1.
pub const RUN_SHARE_MAX: u32 = 1000;

/// A model's share of the time, against others': a weight, or a part of what one has that
/// says nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RunShare {
    weight: u32,
    parts: u32,
}

impl RunShare {
    /// So many times the time of one that says nothing.
    #[must_use]
    pub fn of(weight: u32) -> Self {
        Self { weight: weight.clamp(1, RUN_SHARE_MAX), parts: 1 }
    }

    /// A priority of Triton's rate limiter: 1 is the highest, 2 has half of its chances, and
    /// so on; 0 is 1. Triton counts runs, here it is their time.
    #[must_use]
    pub fn of_priority(priority: u32) -> Self {
        Self { weight: 1, parts: priority.max(1) }
    }

    /// What a run costs that took so long.
    fn cost(self, took: Duration) -> f64 {
        took.as_secs_f64() * f64::from(self.parts) / f64::from(self.weight)
    }
}

impl Default for RunShare {
    fn default() -> Self {
        Self::of(1)
    }
}

/// What a model's runs take, by the names of resources.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Demand {
    /// Units of each resource for one run. More than there are mean all of them.
    pub units: BTreeMap<Arc<str>, usize>,
    /// The model's share of the time.
    pub share: RunShare,
}

/// Resources that runs of all models share.
pub struct Limiter {
    state: Mutex<State>,
    changed: Condvar,
    clock: Arc<dyn Clock>,
}

#[derive(Default)]
struct State {
    /// Units that there are.
    total: BTreeMap<Arc<str>, usize>,
    /// Units that runs hold.
    held: BTreeMap<Arc<str>, usize>,
    waiting: Vec<Waiter>,
    waiters: u64,
    /// Seconds of runs, by share, of the model that was last let run.
    now: f64,
}

struct Waiter {
    number: u64,
    user: Arc<User>,
    demand: Demand,
}

/// A model, as the limiter knows it.
#[derive(Debug, Default)]
pub struct User {
    demand: Mutex<Demand>,
    /// Seconds of runs by share.
    used: Mutex<f64>,
    /// When a run has to start for the sake of a deadline.
    urgent_at: Mutex<Option<Time>>,
}

impl User {
    /// Its runs take this from now on.
    pub fn set(&self, demand: Demand) {
        *self.lock() = demand;
    }

    fn lock(&self) -> MutexGuard<'_, Demand> {
        self.demand.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn demand(&self) -> Demand {
        self.lock().clone()
    }

    fn used(&self) -> f64 {
        *self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn urgent_at(&self) -> Option<Time> {
        *self.urgent_at.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set_urgent_at(&self, urgent_at: Option<Time>) {
        *self.urgent_at.lock().unwrap_or_else(PoisonError::into_inner) = urgent_at;
    }

    fn set_used(&self, used: f64) {
        *self.used.lock().unwrap_or_else(PoisonError::into_inner) = used;
    }
}

impl Limiter {
    /// Without resources: everything may run.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { state: Mutex::default(), changed: Condvar::new(), clock }
    }

    /// There are so many units of each resource from now on. What runs keeps what it has.
    pub fn set(&self, total: BTreeMap<Arc<str>, usize>) {
        self.lock().total = total;
        self.changed.notify_all();
    }

    /// A run of this model has to begin at this time, for the sake of a deadline. Says so
    /// also of runs that wait for their permits already: what is queued behind them may be
    /// in a greater hurry than what they have been waiting for.
    pub fn set_urgent_at(&self, user: &User, urgent_at: Option<Time>) {
        if user.urgent_at() == urgent_at {
            return;
        }
        // Under the lock: the order of those who wait must not change while it is made.
        let state = self.lock();
        user.set_urgent_at(urgent_at);
        let is_news = !state.waiting.is_empty();
        drop(state);
        if is_news {
            self.changed.notify_all();
        }
    }

    /// Blocks until a run of this model may begin. The permit is given back by dropping it.
    pub fn acquire(self: &Arc<Self>, user: &Arc<User>) -> Permit {
        let demand = user.demand();
        let mut state = self.lock();
        if demand.units.is_empty() || state.total.is_empty() {
            return Permit { limiter: None, user: Arc::clone(user), demand, since: Time::START };
        }
        state.waiters += 1;
        let number = state.waiters;
        // Who was away has saved nothing up.
        user.set_used(user.used().max(state.now));
        state.waiting.push(Waiter { number, user: Arc::clone(user), demand: demand.clone() });
        let since = loop {
            let now = self.clock.now();
            if state.next(now) == Some(number) {
                break now;
            }
            state = match state.becomes_urgent(now) {
                Some(after) => {
                    self.changed.wait_timeout(state, after).unwrap_or_else(PoisonError::into_inner).0
                }
                None => self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
            };
        };
        state.waiting.retain(|waiter| waiter.number != number);
        state.now = state.now.max(user.used());
        let demand = state.hold(demand);
        drop(state);
        // The next one in line may fit in as well.
        self.changed.notify_all();
        Permit { limiter: Some(Arc::clone(self)), user: Arc::clone(user), demand, since }
    }

    /// Whether runs of this model wait for permits at all, as things are now.
    pub fn limits(&self, user: &User) -> bool {
        // Most gateways limit nothing, and this is asked for each request: one short lock then.
        !user.lock().units.is_empty() && !self.lock().total.is_empty()
    }

    /// Runs that wait for their turn.
    pub fn waiting(&self) -> usize {
        self.lock().waiting.len()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Who may run now: the first in line, if there is room for it. Nobody overtakes the
    /// first in line for units that it needs, or a large demand would wait for ever.
    fn next(&self, now: Time) -> Option<u64> {
        let mut blocked: Vec<&Arc<str>> = Vec::new();
        let mut line: Vec<_> = self.waiting.iter().collect();
        let urgency = |waiter: &Waiter| waiter.user.urgent_at().filter(|at| *at <= now);
        line.sort_by(|one, other| {
            let by_urgency = match (urgency(one), urgency(other)) {
                (Some(one), Some(other)) => one.cmp(&other),
                (one, other) => other.is_some().cmp(&one.is_some()),
            };
            let by_use = one.user.used().total_cmp(&other.user.used());
            by_urgency.then(by_use).then(one.number.cmp(&other.number))
        });
        for waiter in line {
            let units = &waiter.demand.units;
            let is_free = units.keys().all(|name| !blocked.contains(&name));
            if is_free && units.iter().all(|(name, count)| self.fits(name, *count)) {
                return Some(waiter.number);
            }
            blocked.extend(units.keys());
        }
        None
    }

    fn fits(&self, name: &Arc<str>, count: usize) -> bool {
        let Some(total) = self.total.get(name) else { return true };
        let held = self.held.get(name).copied().unwrap_or(0);
        held + count.min(*total) <= *total
    }

    /// How long it takes until one more of those who wait is urgent.
    fn becomes_urgent(&self, now: Time) -> Option<Duration> {
        let later = self.waiting.iter().filter_map(|waiter| waiter.user.urgent_at()).filter(|at| *at > now);
        later.min().map(|at| at.since(now))
    }

    /// Takes what a run needs, and says what that is of what there is.
    fn hold(&mut self, mut demand: Demand) -> Demand {
        for (name, count) in &mut demand.units {
            *count = self.total.get(name).map_or(*count, |total| (*count).min(*total));
            *self.held.entry(Arc::clone(name)).or_default() += *count;
        }
        demand
    }
}

impl fmt::Debug for Limiter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.lock();
        let (total, held, waiting) = (&state.total, &state.held, state.waiting.len());
        f.debug_struct("Limiter")
            .field("total", total)
            .field("held", held)
            .field("waiting", &waiting)
            .finish()
    }
}

/// A run may go on until this is dropped; its time is charged to its model.
#[must_use = "dropping it ends the run's place"]
pub struct Permit {
    limiter: Option<Arc<Limiter>>,
    user: Arc<User>,
    /// What it holds.
    demand: Demand,
    since: Time,
}

impl fmt::Debug for Permit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Permit")
            .field("demand", &self.demand)
            .field("since", &self.since)
            .finish_non_exhaustive()
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let Some(limiter) = &self.limiter else { return };
        let cost = self.demand.share.cost(limiter.clock.now().since(self.since));
        let mut state = limiter.lock();
        self.user.set_used(self.user.used() + cost);
        for (name, count) in &self.demand.units {
            if let Some(held) = state.held.get_mut(name) {
                *held = held.saturating_sub(*count);
            }
        }
        drop(state);
        limiter.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::thread;

    use super::*;
    use crate::{ManualClock, MonotonicClock};

    fn limiter(units: usize, clock: Arc<dyn Clock>) -> Arc<Limiter> {
        let limiter = Limiter::new(clock);
        limiter.set([("runs".into(), units)].into());
        Arc::new(limiter)
    }

    fn user(units: usize, share: u32) -> Arc<User> {
        with(units, RunShare::of(share))
    }

    fn with(units: usize, share: RunShare) -> Arc<User> {
        let user = User::default();
        user.set(Demand { units: [("runs".into(), units)].into(), share });
        Arc::new(user)
    }

    #[test]
    fn no_more_run_at_once_than_there_are_units() {
        let limiter = limiter(2, Arc::new(MonotonicClock::new()));
        let (running, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let threads: Vec<_> = (0..6)
            .map(|number| {
                let (limiter, running, most) = (limiter.clone(), running.clone(), most.clone());
                // One of them needs both units, and gets them although the others need one.
                let units = if number == 0 { 2 } else { 1 };
                let user = user(units, 1);
                thread::spawn(move || {
                    for _ in 0..50 {
                        let permit = limiter.acquire(&user);
                        let now = running.fetch_add(units, Ordering::SeqCst) + units;
                        most.fetch_max(now, Ordering::SeqCst);
                        thread::yield_now();
                        running.fetch_sub(units, Ordering::SeqCst);
                        drop(permit);
                    }
                })
            })
            .collect();
        threads.into_iter().for_each(|thread| thread.join().expect("no panic"));
        assert_eq!(most.load(Ordering::SeqCst), 2);
        assert_eq!(limiter.waiting(), 0);
    }

    /// Lets three models wait behind a run, and says in which order they are let run.
    fn order(users: [(&Arc<User>, Option<Time>); 3], clock: &Arc<ManualClock>) -> Vec<usize> {
        let limiter = limiter(1, Arc::clone(clock) as Arc<dyn Clock>);
        let first = limiter.acquire(&user(1, 1));
        let order = Arc::new(Mutex::new(Vec::new()));
        let threads = users.into_iter().enumerate().map(|(number, (user, _))| {
            let (limiter, user, order) = (limiter.clone(), user.clone(), order.clone());
            let before = limiter.waiting();
            let waits = limiter.clone();
            let thread = thread::spawn(move || {
                let _permit = limiter.acquire(&user);
                order.lock().expect("no panic").push(number);
            });
            while waits.waiting() == before {
                thread::yield_now();
            }
            thread
        });
        let threads: Vec<_> = threads.collect();
        // What makes them urgent comes while they wait.
        users.iter().for_each(|(user, urgent_at)| limiter.set_urgent_at(user, *urgent_at));
        drop(first);
        threads.into_iter().for_each(|thread| thread.join().expect("no panic"));
        Arc::into_inner(order).expect("alone").into_inner().expect("no panic")
    }

    #[test]
    fn the_model_that_ran_least_of_its_share_is_next_unless_another_one_is_urgent() {
        let clock = Arc::new(ManualClock::new());
        clock.advance(Duration::from_secs(1));
        let users = [user(1, 1), user(1, 1), user(1, 1)];
        users[0].set_used(3.0);
        users[1].set_used(1.0);
        users[2].set_used(2.0);
        let [a, b, c] = &users;
        assert_eq!(order([(a, None), (b, None), (c, None)], &clock), [1, 2, 0]);
        let (past, later) = (Some(Time::START), Some(Time(Duration::from_secs(90))));
        assert_eq!(order([(a, past), (b, later), (c, None)], &clock), [0, 1, 2]);
    }

    /// A thousand times, whoever has been charged the least runs for a millisecond.
    fn runs(users: &[Arc<User>]) -> Vec<usize> {
        let clock = Arc::new(ManualClock::new());
        let limiter = limiter(1, Arc::clone(&clock) as Arc<dyn Clock>);
        let mut runs = vec![0; users.len()];
        for _ in 0..1000 {
            let least = (0..users.len()).min_by(|a, b| users[*a].used().total_cmp(&users[*b].used()));
            let next = least.expect("there are users");
            let permit = limiter.acquire(&users[next]);
            clock.advance(Duration::from_millis(1));
            drop(permit);
            runs[next] += 1;
        }
        runs
    }

    #[test]
    fn priority_two_has_half_the_time_of_priority_one_and_a_share_of_two_twice_as_much() {
        let of_priority = |priority| with(1, RunShare::of_priority(priority));
        let close = |runs: &[usize], wanted: &[usize]| {
            runs.iter().zip(wanted).all(|(runs, wanted)| runs.abs_diff(*wanted) <= 3)
        };
        let by_priority = runs(&[of_priority(1), of_priority(2), of_priority(0), of_priority(4)]);
        assert!(close(&by_priority, &[364, 182, 364, 91]), "{by_priority:?}");
        let by_share = runs(&[user(1, 2), of_priority(1), user(1, 0)]);
        assert!(close(&by_share, &[500, 250, 250]), "{by_share:?}");
        // However low, everybody's turn comes.
        assert!(runs(&[of_priority(1), of_priority(u32::MAX)])[1] > 0);
    }

    #[test]
    fn a_demand_for_more_than_there_is_takes_all() {
        let limiter = limiter(2, Arc::new(MonotonicClock::new()));
        drop(limiter.acquire(&user(9, 1)));
        drop(limiter.acquire(&user(1, 1)));
        limiter.set(BTreeMap::new());
        let _unbounded = [limiter.acquire(&user(1, 1)), limiter.acquire(&user(2, 1))];
    }
}
