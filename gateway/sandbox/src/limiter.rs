//! Bounds what one instance may hold: all of it together, not each part.

use std::sync::Arc;

use wasmtime::ResourceLimiter;

use crate::account::Account;

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
    host_bytes: usize,
    refused: bool,
}

impl Limiter {
    pub(crate) fn new(bytes_max: usize, plugin: Arc<Account>) -> Self {
        plugin.instance_started();
        Self { bytes_max, plugin, guest_bytes: 0, host_bytes: 0, refused: false }
    }

    /// Forgets the former call's host memory. The guest's own stays.
    pub(crate) fn next_call(&mut self) {
        self.plugin.instance_held(self.held());
        self.plugin.give_back(self.host_bytes);
        self.host_bytes = 0;
        self.refused = false;
    }

    /// Whether the guest was refused memory in this call.
    pub(crate) fn refused(&self) -> bool {
        self.refused
    }

    fn held(&self) -> usize {
        self.guest_bytes.saturating_add(self.host_bytes)
    }

    /// Accounts for memory that the host holds for the guest until the call
    /// ends; whether that is within the limit. Counted over the whole call:
    /// what is given back early is not credited, as views may still hold it.
    pub(crate) fn charge_host(&mut self, bytes: usize) -> bool {
        let total = self.take(self.host_bytes, bytes);
        match total {
            Some(total) => self.host_bytes = total,
            None => self.refused = true,
        }
        total.is_some()
    }

    fn grow(&mut self, bytes: usize) -> bool {
        let total = self.take(self.guest_bytes, bytes);
        match total {
            Some(total) => {
                self.guest_bytes = total;
                self.plugin.instance_held(self.held());
            }
            None => self.refused = true,
        }
        total.is_some()
    }

    /// The new sum of what is held, if both limits allow it.
    fn take(&self, held: usize, bytes: usize) -> Option<usize> {
        let total = held.checked_add(bytes).filter(|total| *total <= self.bytes_max)?;
        self.plugin.take(bytes).then_some(total)
    }
}

impl Drop for Limiter {
    fn drop(&mut self) {
        self.plugin.instance_held(self.held());
        self.plugin.give_back(self.held());
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
        assert!(second.charge_host(40));
        assert!(second.memory_growing(0, 1, None).is_ok_and(|granted| !granted), "the plugin has no more");
        assert!(second.refused());
        assert_eq!((plugin.usage(0).memory_bytes, plugin.usage(0).instances), (100, 2));
        drop(first);
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
    fn host_memory_is_counted_for_each_call() {
        let mut limiter = Limiter::new(100, Arc::new(Account::new(usize::MAX)));
        assert!(limiter.charge_host(60));
        assert!(!limiter.charge_host(60));
        assert!(limiter.refused());
        limiter.next_call();
        assert!(!limiter.refused());
        assert!(limiter.charge_host(60));
    }
}
