//! Which requests run together, when, and what becomes of their sequences.

use super::policy::Strategy;
use super::recent::EndedBy;
use super::sequencer::{Flight, LaneStep, Member, Outcome, Ready, Running, Seat, Sequencer};
use crate::entry::ShapeKey;
use crate::time::Time;

impl<K: Ord + Clone, T, S: Clone> Sequencer<K, T, S> {
    /// What the instance of this lane, which is free, should do.
    pub fn poll(&mut self, now: Time, lane: usize) -> LaneStep<K, T, S> {
        self.tick(now);
        let Some(state) = self.lanes.get_mut(lane) else { return LaneStep::Drained };
        state.is_touched = false;
        if !state.flight.is_empty() {
            return LaneStep::Idle;
        }
        let is_over = state.active == 0 && (self.draining && self.backlog.is_empty() || state.is_gone);
        if is_over {
            return LaneStep::Drained;
        }
        let due = self.lane_due(lane);
        if due.is_some_and(|due| due <= self.now)
            && let Some(flight) = self.form(lane)
        {
            return LaneStep::Run(flight);
        }
        let deadline = self.deadlines.first().map(|(deadline, ..)| *deadline);
        let idle = self.idle.first().map(|(until, _)| *until);
        let next = [due, deadline, idle].into_iter().flatten().min();
        next.map_or(LaneStep::Idle, LaneStep::WaitUntil)
    }

    /// The flight of a lane has ended; one outcome for each of its members, in order.
    pub fn finish(&mut self, now: Time, lane: usize, outcomes: impl IntoIterator<Item = Outcome<S>>) {
        self.now = self.now.max(now);
        let Some(state) = self.lanes.get_mut(lane) else { return };
        let flight = std::mem::take(&mut state.flight);
        let mut outcomes = outcomes.into_iter();
        for id in flight {
            self.land(id, outcomes.next().unwrap_or(Outcome::Failed));
        }
        self.tick(now);
    }

    fn land(&mut self, id: usize, outcome: Outcome<S>) {
        let Some(sequence) = self.sequences.get_mut(id) else { return };
        let Some(Running { start, end, superseded }) = sequence.running.take() else { return };
        let superseded = superseded.then_some(EndedBy::Start);
        let ended = match outcome {
            Outcome::Ran(state) => {
                sequence.started = true;
                sequence.state = Some(state);
                if end { Some(EndedBy::Request) } else { superseded }
            }
            // A sequence whose first request failed has not started.
            Outcome::Failed if start => {
                self.refuse_unstarted(id, 0);
                Some(EndedBy::Start)
            }
            // A last request that failed has ended nothing: it can be sent again.
            Outcome::Failed => superseded,
            Outcome::Ended(why) => {
                self.refuse_unstarted(id, 0);
                Some(why)
            }
        };
        match ended {
            Some(why) => self.conclude(id, why),
            None => self.settle(id),
        }
    }

    /// A sequence that has a slot, and of which nothing runs: its next request can, or its
    /// time to be idle begins.
    pub(super) fn settle(&mut self, id: usize) {
        let Some(sequence) = self.sequences.get(id) else { return };
        if sequence.running.is_some() {
            return;
        }
        if !sequence.requests.is_empty() {
            self.make_ready(id);
        } else if self.draining {
            self.conclude(id, EndedBy::Reload);
        } else {
            let until = self.now.after(self.policy.max_idle);
            self.set_idle(id, Some(until));
            self.touch(id);
        }
    }

    /// When the next batch of a lane is due; in the past if it is.
    fn lane_due(&self, lane: usize) -> Option<Time> {
        let (_, oldest) = *self.lanes.get(lane)?.ready.first()?;
        if self.draining || self.early(lane).is_some() {
            return Some(Time::START);
        }
        Some(self.ready(oldest)?.since.after(self.policy.strategy.delay()))
    }

    /// The shape of which enough can run at once, and how many do. Of several the one
    /// whose first has waited for longest.
    fn early(&self, lane: usize) -> Option<(ShapeKey, usize)> {
        let shapes = self.lanes.get(lane)?.shapes.iter();
        let early = shapes.filter_map(|(shape, ready)| {
            let count = self.policy.strategy.early(ready.len(), self.slots)?;
            Some((ready.first()?.0, *shape, count))
        });
        early.min().map(|(_, shape, count)| (shape, count))
    }

    fn ready(&self, id: usize) -> Option<Ready> {
        match self.sequences.get(id)?.seat {
            Seat::Slot { ready, .. } => ready,
            Seat::Backlog(_) => None,
        }
    }

    /// Forms a batch of a lane that is due.
    fn form(&mut self, lane: usize) -> Option<Flight<K, T, S>> {
        let (_, oldest) = *self.lanes.get(lane)?.ready.first()?;
        let head = self.ready(oldest)?;
        let is_due = self.draining || head.since.after(self.policy.strategy.delay()) <= self.now;
        let rows_max = self.policy.strategy.rows_max(self.slots);
        let (shape, count) = if is_due { (head.shape, rows_max) } else { self.early(lane)? };
        let ids: Vec<_> = self.lanes.get(lane)?.shapes.get(&shape)?.iter().take(count).copied().collect();
        let mut members: Vec<(usize, Member<K, T, S>)> = Vec::with_capacity(ids.len());
        for (_, id) in ids {
            let row = members.len();
            members.extend(self.take(id, row).map(|member| (id, member)));
        }
        members.sort_by_key(|(_, member)| member.row);
        let rows = members.last().map_or(0, |(_, member)| member.row + 1);
        let (flight, members) = members.into_iter().unzip();
        self.lanes.get_mut(lane)?.flight = flight;
        Some(Flight { rows, members })
    }

    /// Takes the first request of a sequence that is ready into a batch.
    fn take(&mut self, id: usize, place: usize) -> Option<Member<K, T, S>> {
        self.make_unready(id);
        let is_direct = matches!(self.policy.strategy, Strategy::Direct { .. });
        let sequence = self.sequences.get_mut(id)?;
        let Seat::Slot { slot, .. } = sequence.seat else { return None };
        let request = sequence.requests.pop_front()?;
        if let Some(deadline) = request.deadline {
            self.deadlines.remove(&(deadline, id, request.number));
        }
        self.waiting -= 1;
        sequence.running =
            Some(Running { start: request.start, end: request.end, superseded: request.superseded });
        Some(Member {
            row: if is_direct { slot } else { place },
            key: sequence.key.clone(),
            start: request.start,
            end: request.end,
            state: sequence.state.clone().filter(|_| !request.start),
            payload: request.payload,
        })
    }
}
