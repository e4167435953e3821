//! Seeded histories of sequences in virtual time, driven through the real state machine
//! and checked against a model that knows no slots, lanes or batches.
//!
//! A failure prints its seed. `SLUICE_BATCH_SEED=n` replays one history, and
//! `SLUICE_BATCH_SEEDS=n` runs that many.

mod checks;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::sequencer::Seat;
use super::{
    Arrival, EndedBy, Flight, LaneStep, Outcome, Refused, SequencePolicy, SequenceTicket, Sequencer,
    Strategy, Unrun,
};
use crate::Time;
use crate::histories::{self, Seen};

/// Histories in a run.
const SEEDS: u64 = 10_000;
/// Steps of one history before it drains.
const STEPS: usize = 40;
/// Sequences that there are names for.
const KEYS: usize = 7;

/// xorshift64*.
struct Random(u64);

impl Random {
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

    fn of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.small(all.len())]
    }
}

fn us(us: u64) -> Duration {
    Duration::from_micros(us)
}

#[derive(Clone, Copy)]
struct Request {
    id: usize,
    start: bool,
    end: bool,
    superseded: bool,
    deadline: Option<Time>,
    ticket: SequenceTicket,
}

/// What the model knows of a sequence.
#[derive(Default)]
struct Known {
    waiting: Vec<Request>,
    running: Option<Request>,
    started: bool,
    /// The requests that ran since the last start: what the real one must remember.
    state: Vec<usize>,
    idle_until: Option<Time>,
    /// Lane and row of its last run.
    place: Option<(usize, usize)>,
}

type State = Vec<usize>;

struct Simulation {
    random: Random,
    sequencer: Sequencer<usize, usize, State>,
    lanes: usize,
    slots: usize,
    now: Time,
    draining: bool,
    gone: BTreeSet<usize>,
    known: Vec<Known>,
    tickets: Vec<(usize, SequenceTicket, usize)>,
    left: BTreeSet<usize>,
    admitted: usize,
    /// When each busy lane will be free, and what it runs: key and request.
    flights: BTreeMap<usize, (Time, Vec<usize>)>,
    wakes: BTreeMap<usize, Time>,
    seen: Seen,
}

fn random_policy(random: &mut Random, direct: bool) -> SequencePolicy {
    let max_queue_delay = us(random.of(&[0, 0, 100, 900]));
    let strategy = if direct {
        let minimum_slot_utilization = random.of(&[0.0, 0.5, 0.75, 1.0]);
        Strategy::Direct { max_queue_delay, minimum_slot_utilization }
    } else {
        let preferred_batch_sizes = [vec![], vec![2], vec![2, 3]][random.small(3)].clone();
        Strategy::Oldest { max_batch_size: random.of(&[0, 1, 2, 4]), preferred_batch_sizes, max_queue_delay }
    };
    SequencePolicy { strategy, max_idle: us(4_000), max_queue_size: random.of(&[3, 8, 40]) }
}

impl Simulation {
    fn new(seed: u64) -> Self {
        let mut random = Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
        let (lanes, slots) = (1 + random.small(3), random.of(&[1, 2, 4]));
        let direct = random.chance(50);
        let policy = random_policy(&mut random, direct);
        Self {
            random,
            sequencer: Sequencer::new(lanes, slots, policy),
            lanes,
            slots,
            now: Time::START,
            draining: false,
            gone: BTreeSet::new(),
            known: (0..KEYS).map(|_| Known::default()).collect(),
            tickets: Vec::new(),
            left: BTreeSet::new(),
            admitted: 0,
            flights: BTreeMap::new(),
            wakes: BTreeMap::new(),
            seen: Seen::new(),
        }
    }

    fn run(&mut self) {
        for _ in 0..STEPS {
            let gap = us(self.random.of(&[0, 1, 20, 300, 3_000]));
            self.advance_to(self.now.after(gap));
            match self.random.below(100) {
                0..70 => (0..=self.random.below(3)).for_each(|_| self.push()),
                70..86 => self.cancel(),
                86..90 => {
                    let direct = self.is_direct();
                    let policy = random_policy(&mut self.random, direct);
                    self.sequencer.set_policy(policy);
                }
                90..91 => self.abandon(),
                _ => {}
            }
            self.serve();
        }
        self.sequencer.drain();
        self.draining = true;
        for known in &mut self.known {
            end_if(known, known.idle_until.is_some());
        }
        self.push();
        self.serve();
        while let Some(end) = self.flights.values().map(|(end, _)| *end).max() {
            self.advance_to(end);
        }
        for lane in 0..self.lanes {
            assert!(matches!(self.sequencer.poll(self.now, lane), LaneStep::Drained), "did not drain");
        }
        assert_eq!(self.left.len(), self.admitted, "every admitted request leaves once");
        assert_eq!(self.sequencer.sequences.len(), 0, "sequences are left behind, with their state");
        let free = (self.lanes - self.gone.len()) * self.slots;
        assert_eq!(self.sequencer.free.len(), free, "slots are left behind");
        assert!(self.sequencer.deadlines.is_empty() && self.sequencer.idle.is_empty());
    }

    fn is_direct(&self) -> bool {
        matches!(self.sequencer.policy.strategy, Strategy::Direct { .. })
    }

    /// Lives through everything that happens until `time`.
    fn advance_to(&mut self, time: Time) {
        loop {
            let wakes = self.wakes.iter().filter(|(lane, _)| !self.flights.contains_key(lane));
            let ends = self.flights.values().map(|(end, _)| *end);
            let next = ends.chain(wakes.map(|(_, wake)| *wake)).min();
            let Some(next) = next.filter(|next| *next <= time) else { break };
            self.now = self.now.max(next);
            let ended = self.flights.iter().filter(|(_, (end, _))| *end <= self.now).map(|(lane, _)| *lane);
            for lane in ended.collect::<Vec<_>>() {
                self.finish(lane);
            }
            self.serve();
        }
        self.now = self.now.max(time);
        self.serve();
    }

    /// Lets every free lane ask until it is told to wait.
    fn serve(&mut self) {
        for lane in 0..self.lanes {
            self.wakes.remove(&lane);
            if self.flights.contains_key(&lane) {
                continue;
            }
            let longest = self.longest(lane);
            let step = self.sequencer.poll(self.now, lane);
            self.catch_up();
            match step {
                LaneStep::Run(flight) => self.start(lane, longest, flight),
                LaneStep::WaitUntil(time) => {
                    assert!(time > self.now, "waits for the past");
                    self.wakes.insert(lane, time);
                }
                LaneStep::Idle => {}
                LaneStep::Drained => assert!(self.draining || self.gone.contains(&lane), "drained early"),
            }
            self.check_whole();
        }
    }

    /// Of a lane the sequence that could run for longest, if its delay has ended.
    fn longest(&self, lane: usize) -> Option<usize> {
        let sequences = self.sequencer.sequences.iter();
        let ready = sequences.filter_map(|(_, sequence)| match sequence.seat {
            Seat::Slot { lane: of, ready: Some(ready), .. } if of == lane => {
                let late = sequence.requests.front()?.deadline.is_some_and(|deadline| deadline <= self.now);
                let delay = self.sequencer.policy.strategy.delay();
                let is_due = ready.since.after(delay) <= self.now;
                Some((ready.order, (is_due && !late).then_some(sequence.key)))
            }
            _ => None,
        });
        ready.min()?.1
    }

    fn start(&mut self, lane: usize, longest: Option<usize>, flight: Flight<usize, usize, State>) {
        let direct = self.is_direct();
        assert!(!flight.members.is_empty() && flight.rows <= self.slots.max(4), "the size of a batch");
        let rows: BTreeSet<_> = flight.members.iter().map(|member| member.row).collect();
        assert_eq!(rows.len(), flight.members.len(), "two in one row");
        assert!(rows.iter().all(|row| *row < flight.rows), "beyond the batch");
        assert!(direct || rows.len() == flight.rows, "empty rows in a batch of the oldest");
        let keys: BTreeSet<_> = flight.members.iter().map(|member| member.key).collect();
        assert_eq!(keys.len(), flight.members.len(), "two of one sequence");
        assert!(
            longest.is_none_or(|key| keys.contains(&key)),
            "the one that waited for longest does not run"
        );
        let shared = if flight.members.len() > 1 { "shared" } else { "alone" };
        self.saw(shared);
        for member in &flight.members {
            let known = &mut self.known[member.key];
            assert!(known.running.is_none(), "two of one sequence at once");
            let head = known.waiting.remove(0);
            assert_eq!((member.payload, member.start, member.end), (head.id, head.start, head.end));
            assert!(head.deadline.is_none_or(|deadline| deadline > self.now), "ran too late");
            let place = (lane, if direct { member.row } else { 0 });
            if head.start {
                assert_eq!(member.state, None, "a start that remembers");
            } else {
                assert_eq!(known.place, Some(place), "moved to another place");
                assert_eq!(member.state.as_ref(), Some(&known.state), "remembers another's, or not all");
            }
            known.place = Some(place);
            known.running = Some(head);
            assert!(self.left.insert(head.id), "answered twice");
        }
        let cost = 10 + self.random.below(600);
        let keys = flight.members.iter().map(|member| member.key).collect();
        self.flights.insert(lane, (self.now.after(us(cost)), keys));
    }

    fn finish(&mut self, lane: usize) {
        let (_, keys) = self.flights.remove(&lane).expect("busy");
        let max_idle = self.sequencer.policy.max_idle;
        let mut outcomes = Vec::new();
        for key in keys {
            let fate = self.random.below(20);
            let known = &mut self.known[key];
            let request = known.running.take().expect("running");
            if fate >= 2 {
                if request.start {
                    known.state.clear();
                }
                known.started = true;
                known.state.push(request.id);
                outcomes.push(Outcome::Ran(known.state.clone()));
            } else if fate == 1 {
                outcomes.push(Outcome::Failed);
            } else {
                outcomes.push(Outcome::Ended(EndedBy::State));
            }
            let is_lost = fate == 0 || fate == 1 && request.start;
            if is_lost {
                self.orphan(key, 0);
            }
            let known = &mut self.known[key];
            let is_over = request.superseded || request.end && fate >= 2;
            end_if(known, is_lost || is_over);
            if known.started && known.waiting.is_empty() {
                known.idle_until = Some(self.now.after(max_idle));
                end_if(known, self.draining);
            }
        }
        self.sequencer.finish(self.now, lane, outcomes);
        self.catch_up();
        self.check_whole();
    }

    fn push(&mut self) {
        let key = self.random.small(KEYS);
        let (start, end) = (self.random.chance(35), self.random.chance(20));
        let deadline = self.random.chance(25).then(|| self.now.after(us(1 + self.random.below(2_000))));
        let id = self.admitted;
        let shape = self.random.below(2);
        self.expire();
        let goes_on = {
            let known = &self.known[key];
            let last = known.waiting.last().or(known.running.as_ref());
            last.map_or(known.started, |last| !last.end && !last.superseded)
        };
        let waiting: usize = self.known.iter().map(|known| known.waiting.len()).sum();
        let expected = if self.draining {
            "draining"
        } else if self.gone.len() == self.lanes {
            "gone"
        } else if !start && !goes_on {
            "not started"
        } else if waiting >= self.sequencer.policy.max_queue_size && !self.is_next(key) {
            "queue full"
        } else {
            "admitted"
        };
        let arrival = Arrival { key, start, end, deadline, shape, payload: id };
        let outcome = self.sequencer.push(self.now, arrival);
        self.catch_up();
        let got = match &outcome {
            Ok(_) => "admitted",
            Err((Refused::Draining, _)) => "draining",
            Err((Refused::Gone, _)) => "gone",
            Err((Refused::NotStarted(_), _)) => "not started",
            Err((Refused::QueueFull, _)) => "queue full",
        };
        assert_eq!(got, expected);
        self.saw(got);
        if let Ok(ticket) = outcome {
            let known = &mut self.known[key];
            known.waiting.push(Request { id, start, end, superseded: false, deadline, ticket });
            known.idle_until = None;
            self.tickets.push((key, ticket, id));
            self.admitted += 1;
        }
        self.check_whole();
    }

    /// Whether a request would be the only one of a sequence that has a slot.
    fn is_next(&self, key: usize) -> bool {
        let mut seated = self.sequencer.sequences.iter().map(|(_, sequence)| (sequence.key, sequence.seat));
        let has_slot = seated.any(|(of, seat)| of == key && matches!(seat, Seat::Slot { .. }));
        has_slot && self.known[key].waiting.is_empty()
    }

    /// Cancels any request there ever was.
    fn cancel(&mut self) {
        if self.tickets.is_empty() {
            return;
        }
        let (key, ticket, id) = self.tickets[self.random.small(self.tickets.len())];
        self.expire();
        let place = self.known[key].waiting.iter().position(|request| request.ticket == ticket);
        let cancelled = self.sequencer.cancel(self.now, ticket);
        assert_eq!(cancelled, place.map(|_| id), "cancelled the wrong request");
        if let Some(place) = place {
            self.saw("cancelled");
            self.withdraw(key, place);
        }
        self.catch_up();
        self.check_whole();
    }

    fn abandon(&mut self) {
        let lane = self.random.small(self.lanes);
        if self.flights.contains_key(&lane) || !self.gone.insert(lane) {
            return;
        }
        let is_last = self.gone.len() == self.lanes;
        let sequences = self.sequencer.sequences.iter();
        let hit = sequences.filter(|(_, sequence)| match sequence.seat {
            Seat::Slot { lane: of, .. } => of == lane,
            Seat::Backlog(_) => is_last,
        });
        let keys: Vec<_> = hit.map(|(_, sequence)| sequence.key).collect();
        self.sequencer.abandon(lane);
        for key in keys {
            self.saw("abandoned");
            let orphans: Vec<_> = self.known[key].waiting.drain(..).collect();
            orphans.iter().for_each(|orphan| assert!(self.left.insert(orphan.id)));
            end_if(&mut self.known[key], true);
        }
        let unrun = self.sequencer.take_unrun();
        assert!(unrun.iter().all(|(id, why)| *why == Unrun::Gone && self.left.contains(id)));
        self.check_whole();
    }
}

fn end_if(known: &mut Known, is_over: bool) {
    if is_over {
        known.started = false;
        known.idle_until = None;
        known.place = None;
    }
}

#[test]
fn no_history_of_sequences_breaks_a_promise() {
    let expected = [
        "shared",
        "alone",
        "cancelled",
        "expired",
        "orphaned",
        "superseded",
        "idle",
        "abandoned",
        "admitted",
        "draining",
        "gone",
        "not started",
        "queue full",
    ];
    histories::live(SEEDS, &expected, |seed| {
        let mut simulation = Simulation::new(seed);
        simulation.run();
        simulation.seen
    });
}
