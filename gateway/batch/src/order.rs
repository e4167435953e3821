//! What decides who runs first.

use crate::entry::TenantKey;
use crate::time::Time;

/// A priority level, and behind it those of its entries that have waited for longer
/// than their timeout. The least goes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Tier(u32);

impl Tier {
    pub(crate) const fn of_level(level: u32) -> Self {
        Self(level * 2)
    }

    pub(crate) const fn delayed(self) -> Self {
        Self(self.0 | 1)
    }

    pub(crate) const fn level(self) -> u32 {
        self.0 / 2
    }
}

/// An entry's place among those of the same tier and tenant: the earliest deadline
/// first, then the earliest arrival. Unique, because the arrival's number is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Rank {
    pub(crate) by: Time,
    pub(crate) arrival: u64,
}

/// Entries that are only told apart by their ranks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Flow {
    pub(crate) tier: Tier,
    pub(crate) tenant: TenantKey,
}

/// Where an entry is stored, and how much room it takes in a batch.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place {
    pub(crate) slot: usize,
    pub(crate) rows: usize,
    pub(crate) weight: usize,
}
