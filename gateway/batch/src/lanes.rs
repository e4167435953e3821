//! The order of the queue: one lane per shape key, indexed by who is due first.

use std::collections::{BTreeMap, BTreeSet};

use crate::entry::ShapeKey;

/// An entry's place in its lane, and among the heads of all lanes: today the
/// number of its arrival. Unique, so it also tells an entry from a later one in
/// the same slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Rank(pub(crate) u64);

/// The waiting entries of one shape key, in the order in which they will run.
#[derive(Debug, Default)]
struct Lane {
    order: BTreeMap<Rank, Place>,
    rows: usize,
}

/// Where an entry is stored, and how much room it takes in a batch.
#[derive(Debug, Clone, Copy)]
struct Place {
    slot: usize,
    rows: usize,
}

/// All lanes. A lane exists while it holds something, so there are never more
/// of them than entries, however many shapes callers come up with.
#[derive(Debug)]
pub(crate) struct Lanes {
    /// Rows in a batch at most; 0 for one entry a batch.
    rows_max: usize,
    lanes: BTreeMap<ShapeKey, Lane>,
    /// The head of each lane.
    heads: BTreeSet<(Rank, ShapeKey)>,
    /// The heads of those lanes that hold a batch no further entry could join.
    full: BTreeSet<(Rank, ShapeKey)>,
}

impl Lanes {
    pub(crate) const fn new(rows_max: usize) -> Self {
        Self { rows_max, lanes: BTreeMap::new(), heads: BTreeSet::new(), full: BTreeSet::new() }
    }

    pub(crate) fn insert(&mut self, key: ShapeKey, rank: Rank, slot: usize, rows: usize) {
        self.change(key, |lane, _| {
            lane.order.insert(rank, Place { slot, rows });
            lane.rows += rows;
        });
    }

    pub(crate) fn remove(&mut self, key: ShapeKey, rank: Rank) {
        self.change(key, |lane, _| {
            if let Some(place) = lane.order.remove(&rank) {
                lane.rows -= place.rows;
            }
        });
    }

    /// Takes the next batch of a lane and gives the slots of its entries, in
    /// order: as many as fit, and at least one if there is one. What was
    /// admitted is served, so an entry that is larger than a batch goes alone.
    pub(crate) fn take(&mut self, key: ShapeKey) -> Vec<usize> {
        self.change(key, |lane, rows_max| {
            let mut slots = Vec::new();
            let mut rows = 0;
            while let Some(first) = lane.order.first_entry() {
                let place = *first.get();
                if !slots.is_empty() && rows + place.rows > rows_max {
                    break;
                }
                first.remove();
                slots.push(place.slot);
                rows += place.rows;
                if rows_max == 0 {
                    break;
                }
            }
            lane.rows -= rows;
            slots
        })
    }

    /// The lane whose head is the oldest entry of all, with that entry's slot.
    pub(crate) fn oldest(&self) -> Option<(ShapeKey, usize)> {
        self.with_slot(self.heads.first())
    }

    /// Of the lanes that are full, the one whose head is oldest.
    pub(crate) fn oldest_full(&self) -> Option<(ShapeKey, usize)> {
        self.with_slot(self.full.first())
    }

    /// Whether the lane holds a batch that nobody could join any more.
    pub(crate) fn is_full(&self, key: ShapeKey) -> bool {
        self.lanes.get(&key).is_some_and(|lane| lane.is_full(self.rows_max))
    }

    /// Changes the size of a batch and sorts the lanes anew.
    pub(crate) fn set_rows_max(&mut self, rows_max: usize) {
        self.rows_max = rows_max;
        self.full = self
            .heads
            .iter()
            .filter(|(_, key)| self.lanes.get(key).is_some_and(|lane| lane.is_full(rows_max)))
            .copied()
            .collect();
    }

    fn with_slot(&self, head: Option<&(Rank, ShapeKey)>) -> Option<(ShapeKey, usize)> {
        let (rank, key) = head?;
        let place = self.lanes.get(key)?.order.get(rank)?;
        Some((*key, place.slot))
    }

    /// Changes one lane and keeps the indexes true to it.
    fn change<R>(&mut self, key: ShapeKey, change: impl FnOnce(&mut Lane, usize) -> R) -> R {
        let lane = self.lanes.entry(key).or_default();
        let (head_before, full_before) = (lane.head(), lane.is_full(self.rows_max));
        let result = change(lane, self.rows_max);
        let (head, full) = (lane.head(), lane.is_full(self.rows_max));
        if head != head_before {
            replace(&mut self.heads, key, head_before, head);
        }
        if head != head_before || full != full_before {
            replace(&mut self.full, key, head_before.filter(|_| full_before), head.filter(|_| full));
        }
        if head.is_none() {
            self.lanes.remove(&key);
        }
        result
    }

    #[cfg(test)]
    pub(crate) fn count(&self) -> usize {
        self.lanes.len()
    }
}

impl Lane {
    fn head(&self) -> Option<Rank> {
        self.order.first_key_value().map(|(rank, _)| *rank)
    }

    /// Either the entries add up to exactly a batch, or the first that does not
    /// fit has closed it: in both cases they add up to at least one.
    fn is_full(&self, rows_max: usize) -> bool {
        !self.order.is_empty() && self.rows >= rows_max
    }
}

fn replace(index: &mut BTreeSet<(Rank, ShapeKey)>, key: ShapeKey, before: Option<Rank>, after: Option<Rank>) {
    if let Some(rank) = before {
        index.remove(&(rank, key));
    }
    if let Some(rank) = after {
        index.insert((rank, key));
    }
}
