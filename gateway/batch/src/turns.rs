//! Whose turn it is: among all that may run now, the least tier, then the tenant that is
//! furthest behind, then the least rank.

use std::collections::{BTreeMap, BTreeSet};

use crate::entry::TenantKey;
use crate::order::{Flow, Rank, Tier};
use crate::tenants::{Tenants, VirtualTime};

/// Turns of flows with nothing ripe that are kept, so that the usual ones cost no memory
/// each time they come and go.
const SPARE_MAX: usize = 8;

#[derive(Debug, Default)]
pub(crate) struct Turns {
    /// Tenants' times may have moved on since they were put here; they only grow, so the
    /// first is made true when it is looked at.
    order: BTreeSet<(Tier, VirtualTime, TenantKey)>,
    flows: BTreeMap<Flow, Turn>,
}

#[derive(Debug, Default)]
struct Turn {
    /// The time under which it is in `order`.
    at: VirtualTime,
    /// The head of each ripe lane.
    heads: BTreeSet<(Rank, usize)>,
}

/// What should run first of all that is ripe.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct First {
    pub(crate) tier: Tier,
    pub(crate) at: VirtualTime,
    pub(crate) tenant: TenantKey,
    pub(crate) rank: Rank,
    pub(crate) lane: usize,
}

impl Turns {
    pub(crate) fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    /// The head of a flow in a lane that is ripe.
    pub(crate) fn add(&mut self, flow: Flow, rank: Rank, lane: usize, tenants: &Tenants) {
        let turn = self.flows.entry(flow).or_default();
        if turn.heads.is_empty() {
            turn.at = tenants.at(flow.tenant);
            self.order.insert((flow.tier, turn.at, flow.tenant));
        }
        turn.heads.insert((rank, lane));
    }

    pub(crate) fn remove(&mut self, flow: Flow, rank: Rank, lane: usize) {
        let Some(turn) = self.flows.get_mut(&flow) else { return };
        if turn.heads.remove(&(rank, lane)) && turn.heads.is_empty() {
            self.order.remove(&(flow.tier, turn.at, flow.tenant));
            if self.flows.len() > SPARE_MAX {
                self.flows.remove(&flow);
            }
        }
    }

    pub(crate) fn first(&mut self, tenants: &Tenants) -> Option<First> {
        loop {
            let (tier, at, tenant) = *self.order.first()?;
            let turn = self.flows.get_mut(&Flow { tier, tenant })?;
            let now = tenants.at(tenant);
            if now == at {
                let (rank, lane) = *turn.heads.first()?;
                return Some(First { tier, at, tenant, rank, lane });
            }
            self.order.remove(&(tier, at, tenant));
            turn.at = now;
            self.order.insert((tier, now, tenant));
        }
    }
}
