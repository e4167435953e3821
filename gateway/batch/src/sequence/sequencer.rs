//! The scheduler of sequences as a pure state machine: what it knows, and who comes in.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::policy::SequencePolicy;
use super::recent::{EndedBy, Recent};
use crate::entry::ShapeKey;
use crate::slab::Slab;
use crate::time::Time;

/// One request of a sequence on its way in.
#[derive(Debug, Clone)]
pub struct Arrival<K, T> {
    /// Which sequence it belongs to.
    pub key: K,
    /// It is the first one: what the sequence remembers is reset before it runs.
    pub start: bool,
    /// It is the last one.
    pub end: bool,
    /// From when on the answer is of no use.
    pub deadline: Option<Time>,
    /// Which requests it may share a batch with.
    pub shape: ShapeKey,
    /// What the caller wants back with the batch.
    pub payload: T,
}

/// Names one admitted request, to cancel it. Never names another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SequenceTicket {
    pub(super) id: usize,
    pub(super) number: u64,
}

/// Why a request was not admitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Refused {
    /// As many requests wait as the policy allows. Worth another try later.
    QueueFull,
    /// There is no such sequence, and the request starts none. If there was one lately, why
    /// it ended.
    NotStarted(Option<EndedBy>),
    /// The queue is being emptied for good.
    Draining,
    /// No lane is left to run it.
    Gone,
}

/// Why an admitted request leaves without having run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Unrun {
    /// Its deadline has passed.
    Deadline,
    /// The request that was to start its sequence did not run, or failed.
    NotStarted,
    /// The lane that its sequence is bound to is gone.
    Gone,
}

/// What the instance of a lane should do now.
#[derive(Debug)]
pub enum LaneStep<K, T, S> {
    /// Run this, then call [`Sequencer::finish`].
    Run(Flight<K, T, S>),
    /// Nothing is due before this time, unless something comes in.
    WaitUntil(Time),
    /// Nothing waits.
    Idle,
    /// Nothing waits for this lane and nothing will.
    Drained,
}

/// Requests that run together.
#[derive(Debug)]
pub struct Flight<K, T, S> {
    /// Rows of the batch. Those that no member has are empty.
    pub rows: usize,
    /// At least one, by row.
    pub members: Vec<Member<K, T, S>>,
}

/// A request that runs.
#[derive(Debug)]
pub struct Member<K, T, S> {
    /// Its row in the batch.
    pub row: usize,
    /// Its sequence.
    pub key: K,
    /// It is the sequence's first.
    pub start: bool,
    /// It is the sequence's last.
    pub end: bool,
    /// What the sequence remembers; nothing at the start.
    pub state: Option<S>,
    /// The caller's.
    pub payload: T,
}

/// How a member's run ended.
#[derive(Debug)]
pub enum Outcome<S> {
    /// It ran; the sequence remembers this.
    Ran(S),
    /// It failed; the sequence remembers what it did before.
    Failed,
    /// It failed, and the sequence ends.
    Ended(EndedBy),
}

/// How much there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Sequences that have a slot.
    pub active: usize,
    /// Slots, taken or free, of the lanes that are left.
    pub slots: usize,
    /// Sequences that wait for a slot.
    pub backlog: usize,
    /// Requests that wait.
    pub waiting: usize,
}

/// The scheduler of one model's sequences. See the module's page for what it promises.
///
/// `K` names a sequence, `T` is what the caller wants back with a request, `S` is what a
/// sequence remembers. It has no clock: times that go backwards are read as the latest one.
#[derive(Debug)]
pub struct Sequencer<K, T, S> {
    pub(super) policy: SequencePolicy,
    pub(super) slots: usize,
    pub(super) sequences: Slab<Sequence<K, T, S>>,
    pub(super) ids: BTreeMap<K, usize>,
    pub(super) lanes: Vec<Lane>,
    /// Slots that no sequence has: the lowest first, so that batches stay small.
    pub(super) free: BTreeSet<(usize, usize)>,
    /// Sequences that wait for a slot, by when they came.
    pub(super) backlog: BTreeMap<u64, usize>,
    /// Deadline, sequence and number of each request that waits and has one.
    pub(super) deadlines: BTreeSet<(Time, usize, u64)>,
    /// When each silent sequence ends.
    pub(super) idle: BTreeSet<(Time, usize)>,
    pub(super) recent: Recent<K>,
    /// Requests that left without having run, to be answered.
    pub(super) unrun: Vec<(T, Unrun)>,
    pub(super) waiting: usize,
    pub(super) number: u64,
    pub(super) now: Time,
    pub(super) draining: bool,
}

#[derive(Debug)]
pub(super) struct Sequence<K, T, S> {
    pub(super) key: K,
    /// By number. The first one starts the sequence, unless it has started.
    pub(super) requests: VecDeque<Waiting<T>>,
    pub(super) running: Option<Running>,
    /// A first request ran, and no last one has since.
    pub(super) started: bool,
    pub(super) state: Option<S>,
    pub(super) seat: Seat,
    /// When it ends, if nothing comes.
    pub(super) idle_until: Option<Time>,
}

/// Where a sequence is.
#[derive(Debug, Clone, Copy)]
pub(super) enum Seat {
    /// It waits for a slot, since this number.
    Backlog(u64),
    /// It has this one.
    Slot { lane: usize, slot: usize, ready: Option<Ready> },
}

/// Since when, and among which, a sequence's first request could run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ready {
    pub(super) order: u64,
    pub(super) since: Time,
    pub(super) shape: ShapeKey,
}

#[derive(Debug)]
pub(super) struct Waiting<T> {
    pub(super) number: u64,
    pub(super) start: bool,
    pub(super) end: bool,
    /// The sequence ends after it, though the request does not say so: one that was to begin
    /// another sequence of the name was admitted behind it, and has left.
    pub(super) superseded: bool,
    pub(super) deadline: Option<Time>,
    pub(super) shape: ShapeKey,
    pub(super) payload: T,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Running {
    pub(super) start: bool,
    pub(super) end: bool,
    pub(super) superseded: bool,
}

#[derive(Debug, Default)]
pub(super) struct Lane {
    /// Sequences that have a slot here.
    pub(super) active: usize,
    /// Those that could run, by when they could first.
    pub(super) ready: BTreeSet<(u64, usize)>,
    /// The same, by shape.
    pub(super) shapes: BTreeMap<ShapeKey, BTreeSet<(u64, usize)>>,
    /// Those in its batch.
    pub(super) flight: Vec<usize>,
    pub(super) is_gone: bool,
    /// Something has changed since its instance last asked.
    pub(super) is_touched: bool,
}

impl<K: Ord + Clone, T, S: Clone> Sequencer<K, T, S> {
    /// A scheduler for so many lanes with so many slots each; both are at least 1.
    #[must_use]
    pub fn new(lanes: usize, slots: usize, policy: SequencePolicy) -> Self {
        let (lanes, slots) = (lanes.max(1), slots.max(1));
        Self {
            policy,
            slots,
            sequences: Slab::new(),
            ids: BTreeMap::new(),
            lanes: (0..lanes).map(|_| Lane::default()).collect(),
            free: (0..slots).flat_map(|slot| (0..lanes).map(move |lane| (slot, lane))).collect(),
            backlog: BTreeMap::new(),
            deadlines: BTreeSet::new(),
            idle: BTreeSet::new(),
            recent: Recent::new(),
            unrun: Vec::new(),
            waiting: 0,
            number: 0,
            now: Time::START,
            draining: false,
        }
    }

    /// Admits a request at the end of its sequence.
    ///
    /// # Errors
    /// The payload, with the reason, when it is not admitted: nothing has changed then.
    pub fn push(&mut self, now: Time, arrival: Arrival<K, T>) -> Result<SequenceTicket, (Refused, T)> {
        self.tick(now);
        if let Some(why) = self.refuses(&arrival) {
            return Err((why, arrival.payload));
        }
        let Arrival { key, start, end, deadline, shape, payload } = arrival;
        let number = self.next_number();
        let id = self.ids.get(&key).copied().unwrap_or_else(|| self.open(key));
        if let Some(deadline) = deadline {
            self.deadlines.insert((deadline, id, number));
        }
        self.waiting += 1;
        self.set_idle(id, None);
        if let Some(sequence) = self.sequences.get_mut(id) {
            sequence.requests.push_back(Waiting {
                number,
                start,
                end,
                superseded: false,
                deadline,
                shape,
                payload,
            });
        }
        self.seat_all();
        self.make_ready(id);
        Ok(SequenceTicket { id, number })
    }

    /// Batches by another policy from now on; lanes and slots stay as they are.
    pub fn set_policy(&mut self, policy: SequencePolicy) {
        self.policy = policy;
        self.lanes.iter_mut().for_each(|lane| lane.is_touched = true);
    }

    /// How much there is.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let lanes = self.lanes.iter().filter(|lane| !lane.is_gone);
        Counts {
            active: self.lanes.iter().map(|lane| lane.active).sum(),
            slots: lanes.count() * self.slots,
            backlog: self.backlog.len(),
            waiting: self.waiting,
        }
    }

    /// Every sequence that is under way, and those that ended lately with the reason.
    pub fn known(&self) -> impl Iterator<Item = (&K, Option<EndedBy>)> {
        let live = self.ids.keys().map(|key| (key, None));
        live.chain(self.recent.keys().map(|(key, why)| (key, Some(why))))
    }

    /// A sequence of this name ended before this scheduler was there.
    pub fn remember(&mut self, key: K, why: EndedBy) {
        if !self.ids.contains_key(&key) {
            self.recent.add(key, why);
        }
    }

    /// Requests that have left without having run since this was last called.
    #[must_use]
    pub fn take_unrun(&mut self) -> Vec<(T, Unrun)> {
        std::mem::take(&mut self.unrun)
    }

    /// Whether the instance of a lane should ask again, because something has changed since
    /// it last did.
    #[must_use]
    pub fn is_touched(&self, lane: usize) -> bool {
        self.lanes.get(lane).is_some_and(|lane| lane.is_touched)
    }

    fn refuses(&self, arrival: &Arrival<K, T>) -> Option<Refused> {
        if self.draining {
            return Some(Refused::Draining);
        }
        if self.lanes.iter().all(|lane| lane.is_gone) {
            return Some(Refused::Gone);
        }
        let sequence = self.ids.get(&arrival.key).and_then(|id| self.sequences.get(*id));
        if !arrival.start && !sequence.is_some_and(Sequence::goes_on) {
            return Some(Refused::NotStarted(match sequence {
                Some(sequence) => Some(sequence.ends_by()),
                None => self.recent.why(&arrival.key),
            }));
        }
        // Those who wait for a slot could otherwise keep a sequence that has one from ever
        // reaching its end, and so from making room for them.
        let is_next = sequence.is_some_and(|sequence| {
            matches!(sequence.seat, Seat::Slot { .. }) && sequence.requests.is_empty()
        });
        (self.waiting >= self.policy.max_queue_size && !is_next).then_some(Refused::QueueFull)
    }

    /// A sequence that is new, at the end of those that wait for a slot.
    fn open(&mut self, key: K) -> usize {
        self.recent.remove(&key);
        let since = self.next_number();
        let id = self.sequences.insert(Sequence {
            key: key.clone(),
            requests: VecDeque::new(),
            running: None,
            started: false,
            state: None,
            seat: Seat::Backlog(since),
            idle_until: None,
        });
        self.ids.insert(key, id);
        self.backlog.insert(since, id);
        id
    }

    /// Gives free slots to those that wait for one.
    pub(super) fn seat_all(&mut self) {
        while !self.free.is_empty()
            && let Some((_, id)) = self.backlog.pop_first()
            && let Some((slot, lane)) = self.free.pop_first()
        {
            self.lanes[lane].active += 1;
            if let Some(sequence) = self.sequences.get_mut(id) {
                sequence.seat = Seat::Slot { lane, slot, ready: None };
            }
            self.make_ready(id);
        }
    }

    /// A sequence's first request can run from now on, if it has one, has a slot, and
    /// nothing of it runs.
    pub(super) fn make_ready(&mut self, id: usize) {
        let order = self.number;
        let Some(sequence) = self.sequences.get_mut(id) else { return };
        let Some(shape) = sequence.requests.front().map(|head| head.shape) else { return };
        let Seat::Slot { lane, ready, .. } = &mut sequence.seat else { return };
        if ready.is_some() || sequence.running.is_some() {
            return;
        }
        *ready = Some(Ready { order, since: self.now, shape });
        let lane = &mut self.lanes[*lane];
        lane.is_touched = true;
        lane.ready.insert((order, id));
        lane.shapes.entry(shape).or_default().insert((order, id));
        self.number += 1;
    }

    /// The opposite.
    pub(super) fn make_unready(&mut self, id: usize) {
        let Some(sequence) = self.sequences.get_mut(id) else { return };
        let Seat::Slot { lane, ready, .. } = &mut sequence.seat else { return };
        let Some(Ready { order, shape, .. }) = ready.take() else { return };
        let lane = &mut self.lanes[*lane];
        lane.ready.remove(&(order, id));
        if let Some(of_shape) = lane.shapes.get_mut(&shape) {
            of_shape.remove(&(order, id));
            if of_shape.is_empty() {
                lane.shapes.remove(&shape);
            }
        }
    }

    pub(super) fn set_idle(&mut self, id: usize, until: Option<Time>) {
        let Some(sequence) = self.sequences.get_mut(id) else { return };
        if let Some(before) = std::mem::replace(&mut sequence.idle_until, until) {
            self.idle.remove(&(before, id));
        }
        if let Some(until) = until {
            self.idle.insert((until, id));
        }
    }

    fn next_number(&mut self) -> u64 {
        self.number += 1;
        self.number - 1
    }
}

impl<K, T, S> Sequence<K, T, S> {
    /// Whether a request that is not a first one may follow.
    fn goes_on(&self) -> bool {
        let last = self.requests.back().map(|last| last.end || last.superseded);
        let closes = last.or_else(|| self.running.map(|running| running.end || running.superseded));
        closes.map_or(self.started, |closes| !closes)
    }

    /// Why nothing but a first request may follow.
    fn ends_by(&self) -> EndedBy {
        let last = self.requests.back().map(|last| last.superseded);
        let is_superseded = last.or_else(|| self.running.map(|running| running.superseded));
        if is_superseded == Some(true) { EndedBy::Start } else { EndedBy::Request }
    }
}
