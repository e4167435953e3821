//! What the scheduler makes of traffic that grows at once, in virtual time: a model that does
//! nothing but take as long as it is said to.

use std::time::Duration;

use crate::batcher_tests::MS;
use crate::{Batcher, Entry, Observed, Policy, Rejected, Step, Time};

const DEADLINE: Duration = Duration::from_secs(1);

/// What became of what arrived in one second.
#[derive(Debug, Default, Clone, Copy)]
struct Second {
    arrived: u32,
    good: u32,
    refused: u32,
    late: u32,
}

/// One instance, and arrivals at random.
struct Load<C, S> {
    batcher: Batcher<Time>,
    cost: C,
    shape: S,
    noise: u64,
    now: Time,
    busy_until: Option<(Time, Vec<Time>, Observed)>,
    seconds: Vec<Second>,
}

impl<C: Fn(usize) -> Duration, S: Fn(u64) -> u64> Load<C, S> {
    fn new(cost: C, shape: S) -> Self {
        let batcher = Batcher::new(Policy { max_batch_size: 64, max_queue_size: 4096, ..Policy::default() });
        Self {
            batcher,
            cost,
            shape,
            noise: 88_172_645,
            now: Time::START,
            busy_until: None,
            seconds: Vec::new(),
        }
    }

    fn random(&mut self) -> u64 {
        self.noise ^= self.noise << 13;
        self.noise ^= self.noise >> 7;
        self.noise ^= self.noise << 17;
        self.noise >> 11
    }

    fn second(&mut self, of: Time) -> &mut Second {
        let at = usize::try_from(of.0.as_secs()).expect("a small number");
        self.seconds.resize(self.seconds.len().max(at + 1), Second::default());
        &mut self.seconds[at]
    }

    /// Lives through some seconds of so many arrivals in each, and says what became of them.
    fn live(&mut self, per_second: u32, seconds: u64) -> Vec<Second> {
        let (from, end) = (self.now, self.now.after(Duration::from_secs(seconds)));
        loop {
            let unit = (self.random() as f64 + 1.0) / (1_u64 << 53) as f64;
            let next = self.now.after(Duration::from_secs_f64(-unit.ln() / f64::from(per_second)));
            self.run_until(next.min(end));
            self.now = next.min(end);
            if next >= end {
                break;
            }
            self.arrive();
            self.serve();
        }
        let first = usize::try_from(from.0.as_secs()).expect("a small number");
        self.seconds[first..].to_vec()
    }

    fn arrive(&mut self) {
        let (now, number) = (self.now, self.random());
        self.second(now).arrived += 1;
        let entry = Entry { deadline: Some(now.after(DEADLINE)), ..Entry::new(1, (self.shape)(number), now) };
        match self.batcher.push(now, entry) {
            Ok(_) => {}
            Err((Rejected::Unreachable, _)) => self.second(now).late += 1,
            Err(_) => self.second(now).refused += 1,
        }
    }

    fn run_until(&mut self, time: Time) {
        while let Some((end, arrived, observed)) = self.busy_until.take_if(|(end, ..)| *end <= time) {
            self.now = end;
            self.batcher.observe(end, &observed);
            for at in arrived {
                let is_good = end <= at.after(DEADLINE);
                let second = self.second(at);
                if is_good { second.good += 1 } else { second.late += 1 }
            }
            self.serve();
        }
    }

    fn serve(&mut self) {
        while self.busy_until.is_none() {
            self.batcher.set_idle(1);
            match self.batcher.poll(self.now, 0) {
                Step::Release(batch) => {
                    let took = (self.cost)(batch.rows);
                    let observed = Observed {
                        shape: batch.shape,
                        rows: batch.rows,
                        took,
                        oldest_wait: batch.oldest_wait,
                    };
                    let arrived = batch.entries.into_iter().map(|entry| entry.payload).collect();
                    self.busy_until = Some((self.now.after(took), arrived, observed));
                }
                Step::Expired(expired) => {
                    for one in expired {
                        self.second(one.entry.payload).late += 1;
                    }
                }
                _ => break,
            }
        }
        self.batcher.set_idle(0);
    }
}

/// Twenty milliseconds a run, whatever its rows: 3,200 rows a second.
fn flat(_: usize) -> Duration {
    MS * 20
}

#[track_caller]
fn assert_good(seconds: &[Second], share: f64) {
    for second in seconds {
        let (good, arrived) = (f64::from(second.good), f64::from(second.arrived));
        assert!(good >= arrived * share, "{second:?} of {seconds:?}");
    }
}

#[test]
fn a_model_keeps_up_from_the_first_second_in_which_traffic_grows() {
    let mut load = Load::new(flat, |_| 0);
    // What arrived last has not run yet.
    assert_good(&load.live(40, 5)[..4], 0.99);
    for step in [500, 1500, 2900] {
        assert_good(&load.live(step, 4)[..3], 0.99);
    }
}

#[test]
fn what_was_learned_outlasts_a_quiet_spell() {
    let mut load = Load::new(flat, |_| 0);
    load.live(2000, 5);
    load.live(49, 180);
    assert_good(&load.live(2000, 4)[..3], 0.99);
}

#[test]
fn a_model_that_gains_nothing_from_batches_loses_little_while_that_is_found_out() {
    // Eight milliseconds a row: 125 a second.
    let mut load = Load::new(|rows| MS * 8 * u32::try_from(rows).expect("few"), |_| 0);
    load.live(40, 5);
    let seconds = load.live(500, 10);
    let good: u32 = seconds[..9].iter().map(|second| second.good).sum();
    assert!(good >= 9 * 125 * 85 / 100, "{good} of {}: {seconds:?}", 9 * 125);
    assert!(seconds[5..9].iter().all(|second| second.late <= 10), "{seconds:?}");
}

#[test]
fn entries_of_many_shapes_that_would_be_late_are_refused_at_once() {
    // A run has one shape: 50 a second, as batches do not form.
    let mut load = Load::new(flat, |number| number % 2000);
    load.live(40, 5);
    let seconds = load.live(500, 8);
    let good: u32 = seconds[..7].iter().map(|second| second.good).sum();
    let late: u32 = seconds[..7].iter().map(|second| second.late).sum();
    assert!(good >= 7 * 50 * 95 / 100, "{good} of {}: {seconds:?}", 7 * 50);
    assert!(late * 10 <= good, "{late} late: {seconds:?}");
}
