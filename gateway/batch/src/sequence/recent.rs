//! Why sequences ended lately, for those who go on with one that has.

use std::collections::{BTreeMap, VecDeque};

/// Ended sequences that are remembered. A client that goes on with a sequence that ended
/// under it does so within a few requests; the oldest are forgotten, and the answer is
/// then only less detailed.
const REMEMBERED_MAX: usize = 1024;

/// Why a sequence ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum EndedBy {
    /// Its last request said so.
    Request,
    /// It was idle for too long.
    Idle,
    /// Its first request did not run, or failed.
    Start,
    /// The instance that ran it is gone.
    Instance,
    /// The model was loaded anew.
    Reload,
    /// Its state grew beyond its bounds.
    State,
}

#[derive(Debug)]
pub(super) struct Recent<K> {
    why: BTreeMap<K, EndedBy>,
    order: VecDeque<K>,
}

impl<K: Ord + Clone> Recent<K> {
    pub(super) const fn new() -> Self {
        Self { why: BTreeMap::new(), order: VecDeque::new() }
    }

    pub(super) fn add(&mut self, key: K, why: EndedBy) {
        if self.why.insert(key.clone(), why).is_some() {
            self.order.retain(|other| *other != key);
        }
        self.order.push_back(key);
        if self.order.len() > REMEMBERED_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.why.remove(&oldest);
        }
    }

    /// A sequence of that key has started.
    pub(super) fn remove(&mut self, key: &K) {
        if self.why.remove(key).is_some() {
            self.order.retain(|other| other != key);
        }
    }

    pub(super) fn why(&self, key: &K) -> Option<EndedBy> {
        self.why.get(key).copied()
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = (&K, EndedBy)> {
        self.why.iter().map(|(key, why)| (key, *why))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_are_forgotten_and_nothing_is_kept_twice() {
        let mut recent = Recent::new();
        for key in 0..REMEMBERED_MAX + 10 {
            recent.add(key, EndedBy::Idle);
            recent.add(key, EndedBy::Reload);
        }
        assert_eq!(recent.keys().count(), REMEMBERED_MAX);
        assert_eq!((recent.why(&0), recent.why(&10)), (None, Some(EndedBy::Reload)));
        recent.remove(&10);
        assert_eq!((recent.why(&10), recent.order.len()), (None, REMEMBERED_MAX - 1));
    }
}
