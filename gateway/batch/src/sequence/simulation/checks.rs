//! What the model does by itself, and what must hold between two steps.

use std::collections::BTreeSet;

use super::super::sequencer::Seat;
use super::{KEYS, Request, Simulation, end_if};

impl Simulation {
    /// The model's own view of time: what is late leaves, who is silent ends.
    pub(super) fn expire(&mut self) {
        let late = |request: &Request, now| request.deadline.is_some_and(|deadline| deadline <= now);
        let mut all: Vec<_> = Vec::new();
        for (key, known) in self.known.iter().enumerate() {
            let late = known.waiting.iter().filter(|request| late(request, self.now));
            all.extend(late.map(|request| {
                (request.deadline, request.ticket.id, request.ticket.number, key, request.id)
            }));
        }
        all.sort_unstable();
        for (.., key, id) in all {
            // It may have left with the one that was to start its sequence.
            if let Some(place) = self.known[key].waiting.iter().position(|request| request.id == id) {
                self.saw("expired");
                self.withdraw(key, place);
            }
        }
        for key in 0..KEYS {
            if self.known[key].idle_until.is_some_and(|until| until <= self.now) {
                self.saw("idle");
                end_if(&mut self.known[key], true);
            }
        }
    }

    pub(super) fn withdraw(&mut self, key: usize, place: usize) {
        let max_idle = self.sequencer.policy.max_idle;
        let request = self.known[key].waiting.remove(place);
        assert!(self.left.insert(request.id), "left twice");
        if request.start {
            self.orphan(key, place);
        }
        let mut is_over = false;
        if (request.start || request.superseded) && self.known[key].waiting.len() == place {
            self.saw("superseded");
            let known = &mut self.known[key];
            match known.waiting.last_mut().or(known.running.as_mut()) {
                Some(before) => before.superseded = true,
                None => is_over = true,
            }
        }
        let known = &mut self.known[key];
        if known.running.is_none() {
            end_if(known, is_over);
            if known.started && known.waiting.is_empty() {
                known.idle_until = Some(self.now.after(max_idle));
                end_if(known, self.draining);
            }
        }
    }

    pub(super) fn orphan(&mut self, key: usize, place: usize) {
        while self.known[key].waiting.get(place).is_some_and(|request| !request.start) {
            let orphan = self.known[key].waiting.remove(place);
            self.saw("orphaned");
            assert!(self.left.insert(orphan.id), "left twice");
        }
    }

    /// The model does what the sequencer did when it was asked something at this time.
    pub(super) fn catch_up(&mut self) {
        self.expire();
        for (id, _) in self.sequencer.take_unrun() {
            assert!(self.left.contains(&id), "{id} was not to leave yet");
        }
    }

    pub(super) fn saw(&mut self, what: &'static str) {
        *self.seen.entry(what).or_default() += 1;
    }

    /// Everything that must hold between two steps.
    pub(super) fn check_whole(&self) {
        let real = &self.sequencer;
        let waiting: usize = self.known.iter().map(|known| known.waiting.len()).sum();
        assert_eq!(real.waiting, waiting);
        // The largest bound that a policy here has.
        assert!(waiting <= 40 + self.lanes * self.slots, "more wait than may");
        assert_eq!(real.ids.len(), real.sequences.len());
        assert!(real.backlog.is_empty() || real.free.is_empty(), "waits beside a free slot");
        let mut taken = BTreeSet::new();
        for (id, sequence) in real.sequences.iter() {
            let known = &self.known[sequence.key];
            let got: Vec<_> = sequence.requests.iter().map(|request| request.payload).collect();
            assert_eq!(got, known.waiting.iter().map(|request| request.id).collect::<Vec<_>>(), "order");
            assert_eq!(
                (sequence.started, sequence.running.is_some()),
                (known.started, known.running.is_some())
            );
            assert!(sequence.state.is_none() || sequence.started, "remembers after its end");
            assert_eq!(sequence.idle_until, known.idle_until);
            match sequence.seat {
                Seat::Slot { lane, slot, ready } => {
                    assert!(taken.insert((slot, lane)), "two sequences in one slot");
                    let could = sequence.running.is_none() && !sequence.requests.is_empty();
                    assert_eq!(ready.is_some(), could, "ready");
                    let at = ready.map(|ready| (ready.order, id));
                    assert!(at.is_none_or(|at| real.lanes[lane].ready.contains(&at)));
                }
                Seat::Backlog(since) => assert_eq!(real.backlog.get(&since), Some(&id)),
            }
        }
        let live = self
            .known
            .iter()
            .filter(|known| known.started || !known.waiting.is_empty() || known.running.is_some());
        assert_eq!(live.count(), real.sequences.len(), "sequences that should be there");
        assert!(taken.iter().all(|place| !real.free.contains(place)));
        let slots = (self.lanes - self.gone.len()) * self.slots;
        assert_eq!(taken.len() + real.free.len(), slots, "slots lost");
        let counts = real.counts();
        assert_eq!((counts.active, counts.slots, counts.waiting), (taken.len(), slots, waiting));
    }
}
