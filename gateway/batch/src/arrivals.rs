//! The order of arrival within a lane: a list through numbered slots, without memory
//! of its own for each change.

use std::time::Duration;

use crate::time::Time;

/// One list of slots. The links are in [`Arrivals`].
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct List {
    first: Option<usize>,
    last: Option<usize>,
}

/// The links of all lists, by slot.
#[derive(Debug, Default)]
pub(crate) struct Arrivals {
    links: Vec<Link>,
}

#[derive(Debug, Default, Clone, Copy)]
struct Link {
    before: Option<usize>,
    after: Option<usize>,
    arrived: Time,
}

impl Arrivals {
    /// Puts a slot at the end of a list.
    pub(crate) fn append(&mut self, list: &mut List, slot: usize, arrived: Time) {
        if slot >= self.links.len() {
            self.links.resize(slot + 1, Link::default());
        }
        self.links[slot] = Link { before: list.last, after: None, arrived };
        match list.last {
            Some(last) => self.links[last].after = Some(slot),
            None => list.first = Some(slot),
        }
        list.last = Some(slot);
    }

    /// Takes a slot out of the list that it is in.
    pub(crate) fn remove(&mut self, list: &mut List, slot: usize) {
        let Link { before, after, .. } = self.links[slot];
        match before {
            Some(before) => self.links[before].after = after,
            None => list.first = after,
        }
        match after {
            Some(after) => self.links[after].before = before,
            None => list.last = before,
        }
    }

    /// When the oldest of a list arrived.
    pub(crate) fn oldest(&self, list: &List) -> Option<Time> {
        list.first.map(|slot| self.links[slot].arrived)
    }
}

/// How far apart entries arrive: an average that forgets.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Gap {
    last: Option<Time>,
    average: Option<Duration>,
}

impl Gap {
    /// The longest gap that counts: beyond it nobody waits for the next entry anyway.
    const MAX: Duration = Duration::from_secs(1);

    /// Each arrival moves the average by a sixteenth of the difference.
    pub(crate) fn arrive(&mut self, now: Time) {
        if let Some(last) = self.last {
            let gap = now.since(last).min(Self::MAX);
            self.average = Some(self.average.map_or(gap, |average| (average * 15 + gap) / 16));
        }
        self.last = Some(now);
    }

    /// How long it takes to the next arrival, as far as is known.
    pub(crate) const fn expected(&self) -> Option<Duration> {
        self.average
    }
}
