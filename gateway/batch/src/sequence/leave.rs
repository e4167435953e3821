//! Requests that leave without having run, and sequences that end.

use super::recent::EndedBy;
use super::sequencer::{Seat, SequenceTicket, Sequencer, Unrun, Waiting};
use crate::time::Time;

impl<K: Ord + Clone, T, S: Clone> Sequencer<K, T, S> {
    /// Takes out a request that still waits; `None` if it has left already.
    pub fn cancel(&mut self, now: Time, ticket: SequenceTicket) -> Option<T> {
        self.tick(now);
        let left = self.withdraw(ticket.id, ticket.number)?;
        self.seat_all();
        Some(left.payload)
    }

    /// Answers the requests whose deadline has passed, and ends the sequences that were
    /// idle for too long. Everything else does this first.
    pub fn tick(&mut self, now: Time) {
        self.now = self.now.max(now);
        while let Some((deadline, id, number)) = self.deadlines.first().copied()
            && deadline <= self.now
        {
            self.deadlines.pop_first();
            let left = self.withdraw(id, number);
            self.unrun.extend(left.map(|left| (left.payload, Unrun::Deadline)));
        }
        while let Some((until, id)) = self.idle.first().copied()
            && until <= self.now
        {
            self.idle.pop_first();
            self.conclude(id, EndedBy::Idle);
        }
        self.seat_all();
    }

    /// Admits nothing more, runs what waits without delay, and ends every sequence that
    /// has nothing left to run. For good.
    pub fn drain(&mut self) {
        self.draining = true;
        let silent: Vec<_> = self.idle.iter().map(|(_, id)| *id).collect();
        for id in silent {
            self.conclude(id, EndedBy::Reload);
        }
        self.seat_all();
        self.lanes.iter_mut().for_each(|lane| lane.is_touched = true);
    }

    /// The instance of a lane, which is free, will never ask again: its sequences end.
    pub fn abandon(&mut self, lane: usize) {
        let Some(state) = self.lanes.get_mut(lane) else { return };
        state.is_gone = true;
        let here = |seat: &Seat| matches!(seat, Seat::Slot { lane: of, .. } if *of == lane);
        let is_last = self.lanes.iter().all(|lane| lane.is_gone);
        let all = self.sequences.iter();
        let ids: Vec<_> =
            all.filter(|(_, sequence)| is_last || here(&sequence.seat)).map(|(id, _)| id).collect();
        for id in ids {
            self.refuse_all(id, Unrun::Gone);
            self.conclude(id, EndedBy::Instance);
        }
        self.free.retain(|(_, of)| *of != lane);
        self.seat_all();
    }

    /// Takes one request out of its sequence, which goes on as if it had never come: also if
    /// it was to be the last one. But whoever began another sequence of the name has ended
    /// this one, whether the other one begins or not: what comes next must not go on with it
    /// by mistake.
    fn withdraw(&mut self, id: usize, number: u64) -> Option<Waiting<T>> {
        let sequence = self.sequences.get_mut(id)?;
        let place = sequence.requests.binary_search_by_key(&number, |request| request.number).ok()?;
        let left = sequence.requests.remove(place)?;
        if let Some(deadline) = left.deadline {
            self.deadlines.remove(&(deadline, id, number));
        }
        self.waiting -= 1;
        if place == 0 {
            self.make_unready(id);
        }
        let mut is_over = false;
        if left.start {
            self.refuse_unstarted(id, place);
        }
        let is_followed = self.sequences.get(id).is_some_and(|sequence| sequence.requests.len() > place);
        // What follows begins another sequence itself.
        if (left.start || left.superseded) && !is_followed {
            is_over = !self.supersede_before(id, place);
        }
        let sequence = self.sequences.get(id)?;
        if sequence.running.is_some() {
            return Some(left);
        }
        let never_began = sequence.requests.is_empty() && !sequence.started;
        if is_over || never_began {
            self.conclude(id, EndedBy::Start);
        } else {
            self.settle(id);
        }
        Some(left)
    }

    /// Has the sequence end after the request before this place. False if there is none
    /// that is still to run.
    fn supersede_before(&mut self, id: usize, place: usize) -> bool {
        let Some(sequence) = self.sequences.get_mut(id) else { return false };
        let before = place.checked_sub(1).and_then(|before| sequence.requests.get_mut(before));
        if let Some(before) = before {
            before.superseded = true;
            return true;
        }
        sequence.running.as_mut().map(|running| running.superseded = true).is_some()
    }

    /// The request at this place was to start the sequence, and has left: those after it
    /// belong to nothing, up to the next one that starts it.
    pub(super) fn refuse_unstarted(&mut self, id: usize, place: usize) {
        if place == 0 {
            self.make_unready(id);
        }
        let Some(sequence) = self.sequences.get_mut(id) else { return };
        while sequence.requests.get(place).is_some_and(|request| !request.start) {
            let Some(orphan) = sequence.requests.remove(place) else { break };
            if let Some(deadline) = orphan.deadline {
                self.deadlines.remove(&(deadline, id, orphan.number));
            }
            self.waiting -= 1;
            self.unrun.push((orphan.payload, Unrun::NotStarted));
        }
    }

    fn refuse_all(&mut self, id: usize, why: Unrun) {
        self.make_unready(id);
        let Some(sequence) = self.sequences.get_mut(id) else { return };
        for request in sequence.requests.drain(..) {
            if let Some(deadline) = request.deadline {
                self.deadlines.remove(&(deadline, id, request.number));
            }
            self.waiting -= 1;
            self.unrun.push((request.payload, why));
        }
    }

    /// A sequence ends: what it remembers is freed, and so is its slot. If another one of
    /// its name waits behind it, that one takes its place at the end of the backlog.
    pub(super) fn conclude(&mut self, id: usize, why: EndedBy) {
        self.set_idle(id, None);
        self.make_unready(id);
        let since = self.number;
        let Some(sequence) = self.sequences.get_mut(id) else { return };
        sequence.started = false;
        sequence.state = None;
        let seat = std::mem::replace(&mut sequence.seat, Seat::Backlog(since));
        let goes_on = !sequence.requests.is_empty();
        match seat {
            Seat::Slot { lane, slot, .. } => {
                let state = &mut self.lanes[lane];
                state.active -= 1;
                state.is_touched = true;
                if !state.is_gone {
                    self.free.insert((slot, lane));
                }
            }
            Seat::Backlog(since) => {
                self.backlog.remove(&since);
            }
        }
        if goes_on {
            self.backlog.insert(since, id);
            self.number += 1;
        } else if let Some(sequence) = self.sequences.remove(id) {
            self.ids.remove(&sequence.key);
            self.recent.add(sequence.key, why);
        }
    }

    /// The instance of a sequence's lane should look at the clock again.
    pub(super) fn touch(&mut self, id: usize) {
        if let Some(Seat::Slot { lane, .. }) = self.sequences.get(id).map(|sequence| sequence.seat)
            && let Some(lane) = self.lanes.get_mut(lane)
        {
            lane.is_touched = true;
        }
    }
}
