//! Counters by two labels whose values are words of our own code.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// Pairs that one table tells apart: more than the error table has rows times the
/// parties at fault. Further pairs are counted together as `other`.
const PAIRS_MAX: usize = 64;

/// Counters by two labels. A pair takes a free place when it first appears, so a
/// scrape shows only what happened; after that, counting is a short search and one
/// atomic addition.
#[derive(Debug)]
pub(super) struct Codes {
    places: Box<[OnceLock<Place>]>,
    other: AtomicU64,
}

#[derive(Debug)]
struct Place {
    labels: (&'static str, &'static str),
    count: AtomicU64,
}

impl Default for Codes {
    fn default() -> Self {
        Self { places: (0..PAIRS_MAX).map(|_| OnceLock::new()).collect(), other: AtomicU64::new(0) }
    }
}

impl Codes {
    pub(super) fn increment(&self, first: &'static str, second: &'static str) {
        let labels = (first, second);
        for place in &self.places {
            let place = place.get_or_init(|| Place { labels, count: AtomicU64::new(0) });
            if place.labels == labels {
                place.count.fetch_add(1, Ordering::Relaxed);
                return;
            }
        }
        self.other.fetch_add(1, Ordering::Relaxed);
    }

    /// What was counted so far.
    pub(super) fn counts(&self) -> impl Iterator<Item = (&'static str, &'static str, u64)> {
        let known = self.places.iter().map_while(OnceLock::get);
        let known = known.map(|place| (place.labels.0, place.labels.1, place.count.load(Ordering::Relaxed)));
        let other = self.other.load(Ordering::Relaxed);
        known.chain((other > 0).then_some((super::OTHER, super::OTHER, other)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn concurrent_first_uses_share_one_place_and_overflow_is_other() {
        let codes = Codes::default();
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| (0..1000).for_each(|_| codes.increment("ok", "none")));
            }
        });
        assert_eq!(codes.counts().collect::<Vec<_>>(), [("ok", "none", 8000)]);
        for number in 0..100 {
            // Leaked on purpose: only static words are accepted.
            codes.increment(String::leak(format!("code{number}")), "x");
        }
        assert_eq!(codes.counts().count(), PAIRS_MAX + 1);
        assert_eq!(codes.counts().last(), Some(("other", "other", 37)));
    }
}
