//! Runs seeded histories: as many as a test wants, or the one that is to be replayed.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// What happened, and how often.
pub(crate) type Seen = BTreeMap<&'static str, usize>;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|value| value.parse().expect("a number"))
}

/// Lives `seeds` histories (`SLUICE_BATCH_SEEDS` says another number), and checks that each
/// of these things happened often. `SLUICE_BATCH_SEED` replays one alone.
///
/// # Panics
/// A history broke a promise; or something hardly ever happened, so nothing was shown of it.
pub(crate) fn live(seeds: u64, expected: &[&str], history: impl Fn(u64) -> Seen) {
    let replayed = number("SLUICE_BATCH_SEED");
    let seeds = match replayed {
        Some(seed) => seed..seed + 1,
        None => 0..number("SLUICE_BATCH_SEEDS").unwrap_or(seeds),
    };
    let mut seen = Seen::new();
    for seed in seeds {
        let outcome = catch_unwind(AssertUnwindSafe(|| history(seed)));
        let happened = outcome.unwrap_or_else(|_| {
            panic!("seed {seed} breaks a promise (see above): replay with SLUICE_BATCH_SEED={seed}")
        });
        happened.into_iter().for_each(|(what, times)| *seen.entry(what).or_default() += times);
    }
    println!("{seen:?}");
    for what in expected {
        let times = seen.get(what).copied().unwrap_or(0);
        assert!(replayed.is_some() || times > 100, "{what:?} happened {times} times only");
    }
}
