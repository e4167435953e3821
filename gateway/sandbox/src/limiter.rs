//! Bounds what one instance may hold: all of it together, not each part.

use std::sync::Arc;

use wasmtime::ResourceLimiter;

use crate::account::Account;
use crate::held::HostMemory;

/// Core instances that one component may have. A Python component has some
/// twenty; wasmtime's default of 10,000 bounds nothing.
pub(crate) const CORE_INSTANCES_MAX: u32 = 200;

/// Memories that one component may have. One is the rule, and an adapter may
/// bring another; each takes a slot of the pool.
pub(crate) const MEMORIES_MAX: u32 = 8;

/// Tables that one component may have: one for each core instance with
/// function pointers.
pub(crate) const TABLES_MAX: u32 = 64;

/// What a table element costs the host: a pointer, and its initialisation.
pub(crate) const TABLE_ELEMENT_BYTES: usize = 16;

/// The memory of one store: within its own limit, and within what all stores of the
/// plugin may hold together.
pub(crate) struct Limiter {
    bytes_max: usize,
    plugin: Arc<Account>,
    /// Linear memories and tables. They never shrink while the store lives.
    guest_bytes: usize,
    /// What the host holds on the guest's behalf in this call.
    host: Arc<HostMemory>,
    refused: bool,
    /// Memories and tables that were made. One that is empty and grows counts again: too
    /// strict for the guest, never too lax.
    memories: u64,
    tables: u64,
}

impl Limiter {
    pub(crate) fn new(bytes_max: usize, plugin: Arc<Account>) -> Self {
        plugin.instance_started();
        let host = Arc::new(HostMemory::new(bytes_max, Arc::clone(&plugin)));
        Self { bytes_max, plugin, guest_bytes: 0, host, refused: false, memories: 0, tables: 0 }
    }

    /// Leaves what the host holds for the former call to those who use it. The guest's own
    /// stays.
    pub(crate) fn next_call(&mut self) {
        self.refused = false;
        if !self.host.is_unused() {
            self.plugin.instance_held(self.held());
            self.host = Arc::new(self.host.fresh());
        }
    }

    /// What the host holds for the present call.
    pub(crate) fn host(&self) -> &Arc<HostMemory> {
        &self.host
    }

    /// The memories and tables that were made, by whatever way a component makes them.
    pub(crate) fn made(&self) -> (u64, u64) {
        (self.memories, self.tables)
    }

    /// Whether the guest was refused memory in this call.
    pub(crate) fn refused(&self) -> bool {
        self.refused || self.host.refused()
    }

    /// The most that was held in this call.
    fn held(&self) -> usize {
        self.guest_bytes.saturating_add(self.host.peak())
    }

    fn grow(&mut self, bytes: usize) -> bool {
        let total = self.guest_bytes.checked_add(bytes).filter(|total| *total <= self.bytes_max);
        match total.filter(|_| self.plugin.take(bytes)) {
            Some(total) => {
                self.guest_bytes = total;
                self.plugin.instance_held(self.held());
                true
            }
            None => {
                self.refused = true;
                false
            }
        }
    }
}

impl Drop for Limiter {
    fn drop(&mut self) {
        self.plugin.instance_held(self.held());
        self.plugin.give_back(self.guest_bytes);
        self.plugin.instance_ended();
    }
}

impl ResourceLimiter for Limiter {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        self.memories = self.memories.saturating_add(u64::from(current == 0));
        Ok(self.grow(desired.saturating_sub(current)))
    }

    fn memory_grow_failed(&mut self, _error: wasmtime::Error) -> wasmtime::Result<()> {
        // Growth that was granted and then failed stays on the account: too
        // strict for the guest, never too lax.
        self.refused = true;
        Ok(())
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        self.tables = self.tables.saturating_add(u64::from(current == 0));
        Ok(self.grow(desired.saturating_sub(current).saturating_mul(TABLE_ELEMENT_BYTES)))
    }

    fn table_grow_failed(&mut self, _error: wasmtime::Error) -> wasmtime::Result<()> {
        self.refused = true;
        Ok(())
    }

    fn instances(&self) -> usize {
        CORE_INSTANCES_MAX as usize
    }

    fn tables(&self) -> usize {
        TABLES_MAX as usize
    }

    fn memories(&self) -> usize {
        MEMORIES_MAX as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_instances_of_a_plugin_share_one_limit_and_give_back_what_they_took() {
        let plugin = Arc::new(Account::new(100));
        let mut first = Limiter::new(80, Arc::clone(&plugin));
        let mut second = Limiter::new(80, Arc::clone(&plugin));
        assert!(first.memory_growing(0, 60, None).is_ok_and(|granted| granted));
        let held = second.host().hold(40).expect("the plugin has as much");
        assert!(second.memory_growing(0, 1, None).is_ok_and(|granted| !granted), "the plugin has no more");
        assert!(second.refused());
        assert_eq!((plugin.usage(0).memory_bytes, plugin.usage(0).instances), (100, 2));
        drop((first, held));
        second.next_call();
        assert!(second.memory_growing(0, 80, None).is_ok_and(|granted| granted));
        drop(second);
        let usage = plugin.usage(0);
        assert_eq!((usage.memory_bytes, usage.memory_bytes_peak, usage.instance_bytes_peak), (0, 100, 80));
        assert_eq!((usage.instances, usage.instances_started), (0, 2));
    }

    #[test]
    fn the_sum_of_all_memories_and_tables_is_what_counts() {
        let plugin = Arc::new(Account::new(usize::MAX));
        let mut limiter = Limiter::new(100 << 10, Arc::clone(&plugin));
        assert!(limiter.memory_growing(0, 40 << 10, None).is_ok_and(|granted| granted));
        assert!(limiter.memory_growing(0, 40 << 10, None).is_ok_and(|granted| granted));
        assert!(!limiter.refused());
        assert!(limiter.memory_growing(40 << 10, 80 << 10, None).is_ok_and(|granted| !granted));
        assert!(limiter.refused());
        assert!(limiter.table_growing(0, 1280, None).is_ok_and(|granted| granted), "20 KiB are left");
        assert!(limiter.table_growing(1280, 1281, None).is_ok_and(|granted| !granted));
        assert_eq!(plugin.take_peak(), 100 << 10, "the peak is what was granted");
        assert_eq!(plugin.take_peak(), 0, "since it was last asked");
    }

    #[test]
    fn host_memory_is_counted_for_each_call_and_as_long_as_it_is_held() {
        let plugin = Arc::new(Account::new(usize::MAX));
        let mut limiter = Limiter::new(100, Arc::clone(&plugin));
        let answer = limiter.host().hold(60).expect("within");
        assert!(limiter.host().hold(60).is_err());
        assert!(limiter.refused());
        limiter.next_call();
        assert!(!limiter.refused());
        let next = limiter.host().hold(100).expect("what another call left is not this call's");
        assert_eq!(plugin.usage(0).memory_bytes, 160, "and is the plugin's until it is gone");
        drop((limiter, next));
        assert_eq!(plugin.usage(0).memory_bytes, 60);
        drop(answer);
        assert_eq!((plugin.usage(0).memory_bytes, plugin.usage(0).instance_bytes_peak), (0, 100));
    }
}
