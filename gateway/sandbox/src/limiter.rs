//! Bounds what one instance may hold: all of it together, not each part.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use wasmtime::ResourceLimiter;

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
const TABLE_ELEMENT_BYTES: usize = 16;

/// The memory account of one store.
pub(crate) struct Limiter {
    bytes_max: usize,
    /// Linear memories and tables. They never shrink while the store lives.
    guest_bytes: usize,
    /// What the host holds on the guest's behalf in this call.
    host_bytes: usize,
    refused: bool,
    /// The largest `guest_bytes` of all instances of the plugin.
    peak: Arc<AtomicUsize>,
}

impl Limiter {
    pub(crate) fn new(bytes_max: usize, peak: Arc<AtomicUsize>) -> Self {
        Self { bytes_max, guest_bytes: 0, host_bytes: 0, refused: false, peak }
    }

    /// Forgets the former call's host memory. The guest's own stays.
    pub(crate) fn next_call(&mut self) {
        self.host_bytes = 0;
        self.refused = false;
    }

    /// Whether the guest was refused memory in this call.
    pub(crate) fn refused(&self) -> bool {
        self.refused
    }

    /// Accounts for memory that the host holds for the guest until the call
    /// ends; whether that is within the limit. Counted over the whole call:
    /// what is given back early is not credited, as views may still hold it.
    pub(crate) fn charge_host(&mut self, bytes: usize) -> bool {
        let total = self.host_bytes.saturating_add(bytes);
        if total > self.bytes_max {
            self.refused = true;
            return false;
        }
        self.host_bytes = total;
        true
    }

    fn grow(&mut self, bytes: usize) -> bool {
        let total = self.guest_bytes.saturating_add(bytes);
        if total > self.bytes_max {
            self.refused = true;
            return false;
        }
        self.guest_bytes = total;
        self.peak.fetch_max(total, Ordering::Relaxed);
        true
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
    fn the_sum_of_all_memories_and_tables_is_what_counts() {
        let peak = Arc::new(AtomicUsize::new(0));
        let mut limiter = Limiter::new(100 << 10, Arc::clone(&peak));
        assert!(limiter.memory_growing(0, 40 << 10, None).is_ok_and(|granted| granted));
        assert!(limiter.memory_growing(0, 40 << 10, None).is_ok_and(|granted| granted));
        assert!(!limiter.refused());
        assert!(limiter.memory_growing(40 << 10, 80 << 10, None).is_ok_and(|granted| !granted));
        assert!(limiter.refused());
        assert!(limiter.table_growing(0, 1280, None).is_ok_and(|granted| granted), "20 KiB are left");
        assert!(limiter.table_growing(1280, 1281, None).is_ok_and(|granted| !granted));
        assert_eq!(peak.load(Ordering::Relaxed), 100 << 10, "the peak is what was granted");
    }

    #[test]
    fn host_memory_is_counted_for_each_call() {
        let mut limiter = Limiter::new(100, Arc::default());
        assert!(limiter.charge_host(60));
        assert!(!limiter.charge_host(60));
        assert!(limiter.refused());
        limiter.next_call();
        assert!(!limiter.refused());
        assert!(limiter.charge_host(60));
    }
}
