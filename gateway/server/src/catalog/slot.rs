//! A plugin by its name, with the versions of it that are loaded; and how a pipeline's
//! stage picks one of them for a request.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::LoadedPlugin;
use super::grants::Granted;
use crate::config::{self, FailurePolicy};

/// A plugin: what pipelines name. Which version serves is decided here.
pub struct PluginSlot {
    /// Its name.
    pub name: Arc<str>,
    /// Whether the configuration has it. One that was only uploaded is served by nothing.
    pub is_declared: bool,
    /// How its versions are run.
    pub config: config::Plugin,
    /// What they are granted, opened when the configuration was taken up. Whatever follows
    /// uses this: a table that was broken since keeps nobody from rolling back.
    pub(super) granted: Granted,
    /// The version that serves; none before the first activation, or if it cannot be
    /// loaded.
    pub active: Option<Arc<LoadedPlugin>>,
    /// The version that served before.
    pub previous: Option<Arc<LoadedPlugin>>,
    /// Every version that is compiled and ready to serve the next request.
    pub versions: BTreeMap<Arc<str>, Arc<LoadedPlugin>>,
    /// Why the version that should serve does not.
    pub problem: Option<String>,
}

/// A plugin's place in a pipeline.
pub struct StagePlugin {
    /// The plugin.
    pub slot: Arc<PluginSlot>,
    /// What its failure means.
    pub on_failure: FailurePolicy,
    /// Versions that share the requests; none where the active one has them all.
    pub split: Option<Split>,
    /// A candidate that gets copies of requests.
    pub shadow: Option<Arc<ShadowStage>>,
}

impl StagePlugin {
    /// The version for requests with this key: the same key gets the same version for as
    /// long as the weights stay. None if nothing is active.
    pub fn choose(&self, key: &str) -> Option<&Arc<LoadedPlugin>> {
        match &self.split {
            Some(split) => Some(split.choose(key)),
            None => self.slot.active.as_ref(),
        }
    }
}

/// Versions by weight.
pub struct Split {
    /// Each version, and the sum of the weights up to and with its own. Never empty.
    shares: Vec<(u32, Arc<LoadedPlugin>)>,
}

impl Split {
    /// Shares in the order of the versions' names. None if there is no weight at all.
    pub fn new(weights: impl IntoIterator<Item = (u32, Arc<LoadedPlugin>)>) -> Option<Self> {
        let mut sum = 0_u32;
        let mut shares = Vec::new();
        for (weight, plugin) in weights {
            sum = sum.checked_add(weight)?;
            if weight > 0 {
                shares.push((sum, plugin));
            }
        }
        (!shares.is_empty()).then_some(Self { shares })
    }

    fn choose(&self, key: &str) -> &Arc<LoadedPlugin> {
        let total = self.shares.last().map_or(1, |(sum, _)| *sum);
        let point = point(key, total);
        let index = self.shares.partition_point(|(sum, _)| *sum <= point);
        &self.shares[index.min(self.shares.len() - 1)].1
    }

    /// The versions and their weights.
    pub fn weights(&self) -> impl Iterator<Item = (&Arc<LoadedPlugin>, u32)> {
        let before = std::iter::once(0).chain(self.shares.iter().map(|(sum, _)| *sum));
        self.shares.iter().zip(before).map(|((sum, plugin), before)| (plugin, sum - before))
    }
}

/// Where a key falls among `total` equal parts.
fn point(key: &str, total: u32) -> u32 {
    // Up to 2^32 parts of 2^64 values: no part is larger than another by a visible share.
    let part = (u128::from(hash(key)) * u128::from(total)) >> 64;
    u32::try_from(part).unwrap_or(0)
}

/// The same on every machine and in every version, so that a fleet agrees: FNV-1a, then
/// the finaliser of `MurmurHash3`, because FNV's high bits hardly move for short keys.
fn hash(key: &str) -> u64 {
    let fnv = key.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let mixed = (fnv ^ fnv >> 33).wrapping_mul(0xff51_afd7_ed55_8ccd);
    let mixed = (mixed ^ mixed >> 33).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    mixed ^ mixed >> 33
}

/// A candidate, and how it does.
pub struct ShadowStage {
    /// The version that is tried.
    pub candidate: Arc<LoadedPlugin>,
    /// The share of requests that it gets, 0 to 1.
    pub sample: f64,
    /// What became of them.
    pub stats: Arc<super::ShadowStats>,
}

impl ShadowStage {
    /// Whether it gets this request. Independent of the split: the key is salted.
    pub fn wants(&self, key: &str) -> bool {
        const PARTS: u32 = 1 << 20;
        f64::from(point(&format!("shadow {key}"), PARTS)) < self.sample * f64::from(PARTS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_falls_where_it_fell_and_parts_are_equal() {
        let mut counts = [0_u32; 10];
        for number in 0..20_000 {
            let key = format!("user-{number}");
            let part = point(&key, 10);
            assert_eq!(part, point(&key, 10));
            counts[part as usize] += 1;
        }
        assert!(counts.iter().all(|count| (1_850..2_150).contains(count)), "{counts:?}");
    }

    #[test]
    fn a_larger_weight_keeps_the_keys_it_had() {
        // Weights 10:90 and 20:80: whoever was on the first version stays there.
        let first = |number: u32, weight: u32| point(&format!("user-{number}"), 100) < weight;
        for number in 0..1000 {
            assert!(!first(number, 10) || first(number, 20));
        }
    }
}
