//! Fair shares by virtual time.
//!
//! A tenant's virtual time grows by the weight of each of its entries that is taken,
//! divided by the tenant's share; the tenant that is furthest behind goes first. One
//! that had nothing waiting starts where the others are: nobody saves up.

use std::collections::BTreeMap;

use crate::entry::TenantKey;

/// Virtual time of one unit of weight at a share of 1, so that shares of up to 1000
/// still divide it well.
const UNIT: u128 = 1 << 20;

/// Tenants without entries whose time is ahead of the others' and is remembered, so
/// that leaving and coming back gains nothing. Beyond it all of them are forgotten.
const REMEMBERED_MAX: usize = 1024;

/// How much service each tenant has had.
pub(crate) type VirtualTime = u128;

#[derive(Debug, Default)]
pub(crate) struct Tenants {
    known: BTreeMap<TenantKey, Tenant>,
    /// How many of them have nothing waiting.
    idle: usize,
    /// Of the tenant that was last taken from.
    now: VirtualTime,
}

#[derive(Debug, Default)]
struct Tenant {
    at: VirtualTime,
    waiting: usize,
}

impl Tenants {
    /// One more entry of this tenant waits.
    pub(crate) fn enter(&mut self, key: TenantKey) {
        let now = self.now;
        let tenant = self.known.entry(key).or_insert_with(|| {
            self.idle += 1;
            Tenant { at: now, waiting: 0 }
        });
        if tenant.waiting == 0 {
            self.idle -= 1;
            tenant.at = tenant.at.max(now);
        }
        tenant.waiting += 1;
    }

    /// One entry less of this tenant waits.
    pub(crate) fn leave(&mut self, key: TenantKey) {
        let Some(tenant) = self.known.get_mut(&key) else { return };
        tenant.waiting -= 1;
        if tenant.waiting > 0 {
            return;
        }
        let at = tenant.at;
        self.idle += 1;
        if self.idle == self.known.len() {
            // Nobody competes: everybody starts anew together. The tenant of those who
            // have none is so common that it stays.
            self.now = 0;
            self.known.retain(|key, tenant| {
                tenant.at = 0;
                *key == 0
            });
            self.idle = self.known.len();
        } else if at <= self.now {
            self.known.remove(&key);
            self.idle -= 1;
        } else if self.idle > REMEMBERED_MAX {
            self.known.retain(|_, tenant| tenant.waiting > 0);
            self.idle = 0;
        }
    }

    /// An entry of this tenant was taken. Says where its time is now.
    pub(crate) fn charge(&mut self, key: TenantKey, weight: usize, share: u32) -> VirtualTime {
        let Some(tenant) = self.known.get_mut(&key) else { return self.now };
        self.now = self.now.max(tenant.at);
        tenant.at += weight.max(1) as u128 * UNIT / u128::from(share.max(1));
        tenant.at
    }

    /// Tenants other than this one that have something waiting.
    pub(crate) fn others_waiting(&self, key: TenantKey) -> usize {
        let all = self.known.len() - self.idle;
        all - usize::from(self.waiting(key) > 0)
    }

    pub(crate) fn at(&self, key: TenantKey) -> VirtualTime {
        self.known.get(&key).map_or(self.now, |tenant| tenant.at)
    }

    /// Entries of this tenant that wait.
    pub(crate) fn waiting(&self, key: TenantKey) -> usize {
        self.known.get(&key).map_or(0, |tenant| tenant.waiting)
    }

    #[cfg(test)]
    pub(crate) fn count(&self) -> usize {
        self.known.len()
    }
}
