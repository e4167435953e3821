//! The waiting entries that the same instances may run: one lane for each shape, indexed by
//! who is due.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque};

use crate::arrivals::{Arrivals, Gap, List};
use crate::entry::{ShapeKey, TenantKey};
use crate::order::{Flow, Place, Rank, Tier};
use crate::tenants::{Tenants, VirtualTime};
use crate::time::Time;
use crate::turns::{First, Turns};

/// Lanes without entries that are kept, and flows without entries in a lane: the usual shapes
/// then cost no memory each time they come and go, and their arrivals stay known.
const SPARE_LANES_MAX: usize = 8;
const SPARE_FLOWS_MAX: usize = 4;

/// The waiting entries of one shape key.
#[derive(Debug, Default)]
pub(crate) struct Lane {
    pub(crate) key: ShapeKey,
    pub(crate) rows: usize,
    pub(crate) weight: usize,
    pub(crate) len: usize,
    pub(crate) gap: Gap,
    /// Released early for the sake of a deadline.
    pub(crate) is_pressed: bool,
    flows: BTreeMap<Flow, BTreeMap<Rank, Place>>,
    arrivals: List,
    state: State,
    /// Whether it is among the spare ones, or was when it last had no entries.
    is_spare: bool,
}

/// Whether a batch of a lane may run.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum State {
    #[default]
    Empty,
    /// From this time on.
    Ripens(Time),
    Ripe,
}

/// All lanes. One with entries is either ripe, and its heads have turns, or it ripens at a
/// known time.
#[derive(Debug, Default)]
pub(crate) struct Pool {
    lanes: Vec<Lane>,
    keys: BTreeMap<ShapeKey, usize>,
    /// Numbers of lanes that stand for no key.
    free: Vec<usize>,
    spare: VecDeque<usize>,
    ripening: BTreeSet<(Time, usize)>,
    turns: Turns,
    /// Deadline and slot of each waiting entry that has one.
    pub(crate) deadlines: BTreeSet<(Time, usize)>,
    len: usize,
    /// Rows of a run, as far as runs are counted.
    run_rows: usize,
    /// Runs that what waits takes.
    runs: usize,
}

impl Pool {
    /// An empty one, whose runs have so many rows at most.
    pub(crate) fn with_runs_of(rows: usize) -> Self {
        Self { run_rows: rows, ..Self::default() }
    }

    /// Runs have so many rows at most from now on.
    pub(crate) fn count_runs_of(&mut self, rows: usize) {
        if self.run_rows != rows {
            self.run_rows = rows;
            self.runs = self.lanes.iter().map(|lane| lane.runs(rows)).sum();
        }
    }

    /// Runs that what waits takes: no run has entries of two lanes.
    pub(crate) const fn runs(&self) -> usize {
        self.runs
    }

    /// Runs that one more entry of a lane takes besides.
    pub(crate) fn more_runs(&self, key: ShapeKey, rows: usize) -> usize {
        let waiting = self.keys.get(&key).and_then(|lane| self.lanes.get(*lane)).map_or(0, |lane| lane.rows);
        runs(waiting + rows, self.run_rows) - runs(waiting, self.run_rows)
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(crate) fn lane(&self, lane: usize) -> &Lane {
        &self.lanes[lane]
    }

    /// The lanes that hold something.
    pub(crate) fn used(&self) -> Vec<usize> {
        self.keys.values().copied().filter(|lane| self.lanes[*lane].len > 0).collect()
    }

    /// When the oldest entry of a lane arrived.
    pub(crate) fn oldest(&self, arrivals: &Arrivals, lane: usize) -> Time {
        arrivals.oldest(&self.lanes[lane].arrivals).unwrap_or_default()
    }

    /// The lane of a key, made if there is none.
    pub(crate) fn lane_of(&mut self, key: ShapeKey) -> usize {
        if let Some(lane) = self.keys.get(&key) {
            return *lane;
        }
        let lane = self.free.pop().unwrap_or_else(|| {
            self.lanes.push(Lane::default());
            self.lanes.len() - 1
        });
        self.lanes[lane].key = key;
        self.keys.insert(key, lane);
        lane
    }

    /// Puts an entry in. [`Self::settle`] must follow.
    pub(crate) fn insert(&mut self, number: usize, flow: Flow, rank: Rank, place: Place, tenants: &Tenants) {
        let lane = &mut self.lanes[number];
        let order = lane.flows.entry(flow).or_default();
        let head = order.first_key_value().map(|(head, _)| *head);
        order.insert(rank, place);
        self.runs -= lane.runs(self.run_rows);
        lane.rows += place.rows;
        self.runs += lane.runs(self.run_rows);
        lane.weight += place.weight;
        lane.len += 1;
        self.len += 1;
        if lane.state == State::Ripe && head.is_none_or(|head| rank < head) {
            if let Some(head) = head {
                self.turns.remove(flow, head, number);
            }
            self.turns.add(flow, rank, number, tenants);
        }
    }

    /// An entry arrived in a lane: it is youngest.
    pub(crate) fn arrive(&mut self, arrivals: &mut Arrivals, number: usize, slot: usize, now: Time) {
        let lane = &mut self.lanes[number];
        arrivals.append(&mut lane.arrivals, slot, now);
        lane.gap.arrive(now);
    }

    /// An entry leaves a lane for good.
    pub(crate) fn depart(&mut self, arrivals: &mut Arrivals, number: usize, slot: usize) {
        arrivals.remove(&mut self.lanes[number].arrivals, slot);
    }

    /// Takes an entry out. [`Self::settle`] must follow.
    pub(crate) fn remove(
        &mut self,
        number: usize,
        flow: Flow,
        rank: Rank,
        tenants: &Tenants,
    ) -> Option<Place> {
        let lane = &mut self.lanes[number];
        let order = lane.flows.get_mut(&flow)?;
        let was_head = order.first_key_value().is_some_and(|(head, _)| *head == rank);
        let place = order.remove(&rank)?;
        let next = order.first_key_value().map(|(next, _)| *next);
        self.len -= 1;
        if lane.state == State::Ripe && was_head {
            self.turns.remove(flow, rank, number);
            if let Some(next) = next {
                self.turns.add(flow, next, number, tenants);
            }
        }
        self.runs -= lane.runs(self.run_rows);
        lane.lose(place, flow, next.is_none());
        self.runs += lane.runs(self.run_rows);
        Some(place)
    }

    /// Takes the next batch of a lane, tenants sharing fairly, until `accepts` refuses an
    /// entry. Says the slots in order. [`Self::settle`] must follow.
    pub(crate) fn take(
        &mut self,
        number: usize,
        tenants: &mut Tenants,
        share: impl Fn(TenantKey) -> u32,
        mut accepts: impl FnMut(&Place) -> bool,
    ) -> Vec<usize> {
        self.unripe(number);
        let lane = &mut self.lanes[number];
        self.runs -= lane.runs(self.run_rows);
        let mut slots = Vec::with_capacity(lane.len.min(64));
        let filled = lane.flows.iter().filter(|(_, order)| !order.is_empty());
        let turn = |flow: &Flow, tenants: &Tenants| (flow.tier, tenants.at(flow.tenant), flow.tenant);
        let mut turns: BinaryHeap<Reverse<(Tier, VirtualTime, TenantKey)>> =
            filled.map(|(flow, _)| Reverse(turn(flow, tenants))).collect();
        while let Some(Reverse((tier, at, tenant))) = turns.pop() {
            let flow = Flow { tier, tenant };
            let now = tenants.at(tenant);
            if at != now {
                turns.push(Reverse((tier, now, tenant)));
                continue;
            }
            let Some(order) = lane.flows.get_mut(&flow) else { continue };
            let Some(first) = order.first_entry() else { continue };
            if !accepts(first.get()) {
                break;
            }
            let place = first.remove();
            let is_empty = order.is_empty();
            self.len -= 1;
            lane.lose(place, flow, is_empty);
            slots.push(place.slot);
            let at = tenants.charge(tenant, place.weight, share(tenant));
            if !is_empty {
                turns.push(Reverse((tier, at, tenant)));
            }
        }
        self.runs += lane.runs(self.run_rows);
        slots
    }

    /// Says from when on a lane that was changed may run.
    pub(crate) fn settle(&mut self, number: usize, ripens: Time, now: Time, tenants: &Tenants) {
        let lane = &self.lanes[number];
        let state = match lane.len {
            0 => State::Empty,
            _ if ripens <= now || lane.is_pressed => State::Ripe,
            _ => State::Ripens(ripens),
        };
        if state != lane.state {
            self.unripe(number);
            match state {
                State::Empty => {}
                State::Ripe => self.ripe(number, tenants),
                State::Ripens(_) => {
                    self.lanes[number].state = state;
                    self.ripening.insert((ripens, number));
                }
            }
        }
        if state == State::Empty {
            self.lanes[number].is_pressed = false;
            self.retire(number);
        }
    }

    /// Lets those lanes run whose time has come.
    pub(crate) fn ripen(&mut self, now: Time, tenants: &Tenants) {
        while let Some((ripens, number)) = self.ripening.first().copied()
            && ripens <= now
        {
            self.unripe(number);
            self.ripe(number, tenants);
        }
    }

    /// Lets a lane run before its time, for the sake of a deadline.
    pub(crate) fn press(&mut self, number: usize, tenants: &Tenants) {
        if let State::Ripens(_) = self.lanes[number].state {
            self.unripe(number);
            self.lanes[number].is_pressed = true;
            self.ripe(number, tenants);
        }
    }

    /// A batch of the lane was released.
    pub(crate) fn unpress(&mut self, number: usize) {
        self.lanes[number].is_pressed = false;
    }

    pub(crate) fn is_ripe(&self, number: usize) -> bool {
        self.lanes[number].state == State::Ripe
    }

    /// What should run first, of what may run.
    pub(crate) fn first(&mut self, tenants: &Tenants) -> Option<First> {
        self.turns.first(tenants)
    }

    /// When the next batch may run: at the start of time if one may now.
    pub(crate) fn ripens(&self) -> Option<Time> {
        if !self.turns.is_empty() {
            return Some(Time::START);
        }
        self.ripening.first().map(|(ripens, _)| *ripens)
    }

    fn ripe(&mut self, number: usize, tenants: &Tenants) {
        let lane = &mut self.lanes[number];
        lane.state = State::Ripe;
        for (flow, order) in &lane.flows {
            if let Some((rank, _)) = order.first_key_value() {
                self.turns.add(*flow, *rank, number, tenants);
            }
        }
    }

    /// Takes a lane out of the indexes, to be changed.
    fn unripe(&mut self, number: usize) {
        let lane = &mut self.lanes[number];
        match std::mem::take(&mut lane.state) {
            State::Empty => {}
            State::Ripens(ripens) => {
                self.ripening.remove(&(ripens, number));
            }
            State::Ripe => {
                for (flow, order) in &lane.flows {
                    if let Some((rank, _)) = order.first_key_value() {
                        self.turns.remove(*flow, *rank, number);
                    }
                }
            }
        }
    }

    /// A lane has no entries left: it becomes spare, and the oldest spare one may go.
    fn retire(&mut self, number: usize) {
        if !self.lanes[number].is_spare {
            self.lanes[number].is_spare = true;
            self.spare.push_back(number);
        }
        while self.spare.len() > SPARE_LANES_MAX
            && let Some(oldest) = self.spare.pop_front()
        {
            let lane = &mut self.lanes[oldest];
            lane.is_spare = false;
            if lane.len == 0 {
                self.keys.remove(&lane.key);
                *lane = Lane::default();
                self.free.push(oldest);
            }
        }
    }

    #[cfg(test)]
    pub(crate) fn footprint(&self) -> (usize, usize, usize) {
        (self.used().len(), self.lanes.len(), self.deadlines.len())
    }
}

/// Runs of so many rows at most that rows take; all at once if there is no such bound.
const fn runs(rows: usize, run_rows: usize) -> usize {
    if run_rows == 0 { if rows == 0 { 0 } else { 1 } } else { rows.div_ceil(run_rows) }
}

impl Lane {
    const fn runs(&self, run_rows: usize) -> usize {
        runs(self.rows, run_rows)
    }

    fn lose(&mut self, place: Place, flow: Flow, flow_is_empty: bool) {
        self.rows -= place.rows;
        self.weight -= place.weight;
        self.len -= 1;
        if flow_is_empty && self.flows.len() > SPARE_FLOWS_MAX {
            self.flows.remove(&flow);
        }
    }
}
