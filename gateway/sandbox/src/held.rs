//! Memory that the host holds on a guest's behalf: charged before it is taken, given back
//! when the last who uses it lets go.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use bytes::Bytes;

use crate::account::Account;
use crate::error::HostFault;

/// What is smaller is not counted when it comes out of a guest: counting it would cost more
/// than it could gain. A call has at most a few hundred such pieces.
const SMALL_BYTES: usize = 64 << 10;

/// What the host holds for the present call of one instance: within a limit of its own, and
/// within what the plugin may hold in total.
///
/// What outlives its call (an answer on its way to a slow caller) stays on the plugin's
/// account and counts for no later call.
pub(crate) struct HostMemory {
    bytes_max: usize,
    plugin: Arc<Account>,
    bytes: AtomicUsize,
    bytes_peak: AtomicUsize,
    refused: AtomicBool,
}

impl HostMemory {
    pub(crate) fn new(bytes_max: usize, plugin: Arc<Account>) -> Self {
        Self {
            bytes_max,
            plugin,
            bytes: AtomicUsize::new(0),
            bytes_peak: AtomicUsize::new(0),
            refused: AtomicBool::new(false),
        }
    }

    /// Another one with the same limits, for the next call.
    pub(crate) fn fresh(&self) -> Self {
        Self::new(self.bytes_max, Arc::clone(&self.plugin))
    }

    /// Accounts for memory that is about to be taken.
    ///
    /// # Errors
    /// [`HostFault::Memory`] if it is above a limit.
    pub(crate) fn hold(self: &Arc<Self>, bytes: usize) -> Result<Charge, HostFault> {
        let mut charge = Charge { memory: Arc::clone(self), bytes: 0 };
        charge.grow(bytes)?;
        Ok(charge)
    }

    /// Bytes that may still be held.
    pub(crate) fn left(&self) -> usize {
        self.bytes_max.saturating_sub(self.bytes.load(Ordering::Relaxed))
    }

    /// The most that was held at once.
    pub(crate) fn peak(&self) -> usize {
        self.bytes_peak.load(Ordering::Relaxed)
    }

    /// Whether anything was refused.
    pub(crate) fn refused(&self) -> bool {
        self.refused.load(Ordering::Relaxed)
    }

    /// Whether nothing was ever charged or refused, so that the next call can have it.
    pub(crate) fn is_unused(&self) -> bool {
        self.peak() == 0 && !self.refused()
    }

    fn take(&self, bytes: usize) -> bool {
        // Only the sum matters, and it orders nothing else.
        let within = |held: usize| held.checked_add(bytes).filter(|held| *held <= self.bytes_max);
        let Ok(before) = self.bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, within) else {
            return false;
        };
        if !self.plugin.take(bytes) {
            self.bytes.fetch_sub(bytes, Ordering::Relaxed);
            return false;
        }
        self.bytes_peak.fetch_max(before.saturating_add(bytes), Ordering::Relaxed);
        true
    }

    fn give_back(&self, bytes: usize) {
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
        self.plugin.give_back(bytes);
    }
}

/// Memory that is accounted for until this is dropped.
pub(crate) struct Charge {
    memory: Arc<HostMemory>,
    bytes: usize,
}

impl Charge {
    /// Accounts for more.
    ///
    /// # Errors
    /// [`HostFault::Memory`] if it is above a limit; what was charged before stays.
    pub(crate) fn grow(&mut self, bytes: usize) -> Result<(), HostFault> {
        if !self.memory.take(bytes) {
            self.memory.refused.store(true, Ordering::Relaxed);
            return Err(HostFault::Memory);
        }
        self.bytes = self.bytes.saturating_add(bytes);
        Ok(())
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.memory.give_back(self.bytes);
    }
}

impl fmt::Debug for Charge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Charge").field("bytes", &self.bytes).finish_non_exhaustive()
    }
}

/// A buffer that is accounted for before it grows.
pub(crate) struct Buffer {
    data: Vec<u8>,
    charge: Charge,
}

impl Buffer {
    /// An empty one.
    pub(crate) fn new(memory: &Arc<HostMemory>) -> Self {
        Self { data: Vec::new(), charge: Charge { memory: Arc::clone(memory), bytes: 0 } }
    }

    pub(crate) fn len(&self) -> usize {
        self.data.len()
    }

    /// Takes bytes in.
    ///
    /// # Errors
    /// [`HostFault::Memory`] if there is no room for them; then none was taken.
    pub(crate) fn extend(&mut self, bytes: &[u8]) -> Result<(), HostFault> {
        let needed = self.data.len().saturating_add(bytes.len());
        let has = self.data.capacity();
        if needed > has {
            // Doubling, so that many small pieces are not copied again and again; or
            // what is needed, where there is no room for so much.
            let wanted = needed.max(has.saturating_mul(2));
            let grown = match self.charge.grow(wanted - has) {
                Ok(()) => wanted,
                Err(_) => self.charge.grow(needed - has).map(|()| needed)?,
            };
            self.data.reserve_exact(grown - self.data.len());
        }
        self.data.extend_from_slice(bytes);
        Ok(())
    }

    /// Its bytes, accounted for until the last view of them is dropped.
    pub(crate) fn freeze(self) -> Bytes {
        if self.data.is_empty() { Bytes::new() } else { sluice_tensor::keep_with(self.data, self.charge) }
    }
}

/// Bytes that came out of a guest and go to somebody else, accounted for until the last
/// view of them is dropped.
///
/// # Errors
/// [`HostFault::Memory`] if they are above a limit.
pub(crate) fn take_over(memory: &Arc<HostMemory>, data: Vec<u8>) -> Result<Bytes, HostFault> {
    if data.len() < SMALL_BYTES {
        return Ok(Bytes::from(data));
    }
    let charge = memory.hold(data.capacity())?;
    Ok(sluice_tensor::keep_with(data, charge))
}

/// Accounts for bytes that came out of a guest, unless they are few.
///
/// # Errors
/// [`HostFault::Memory`] if they are above a limit.
pub(crate) fn hold_large(memory: &Arc<HostMemory>, bytes: usize) -> Result<Option<Charge>, HostFault> {
    if bytes < SMALL_BYTES { Ok(None) } else { memory.hold(bytes).map(Some) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn memory(bytes_max: usize, total: usize) -> (Arc<HostMemory>, Arc<Account>) {
        let plugin = Arc::new(Account::new(total));
        (Arc::new(HostMemory::new(bytes_max, Arc::clone(&plugin))), plugin)
    }

    #[test]
    fn what_is_let_go_may_be_held_again_and_the_peak_is_remembered() {
        let (memory, plugin) = memory(100, 1000);
        for _ in 0..50 {
            let _held = memory.hold(90).expect("within");
        }
        assert_eq!((memory.left(), memory.peak(), memory.refused()), (100, 90, false));
        let held = memory.hold(60).expect("within");
        assert!(memory.hold(41).is_err() && memory.refused());
        assert_eq!(plugin.usage(0).memory_bytes, 60);
        drop(held);
        assert_eq!(plugin.usage(0).memory_bytes, 0);
    }

    #[test]
    fn the_plugins_total_holds_for_all_of_its_calls() {
        let (memory, plugin) = memory(100, 150);
        let other = Arc::new(memory.fresh());
        let _first = memory.hold(100).expect("within");
        assert!(other.hold(51).is_err());
        assert_eq!((other.left(), plugin.usage(0).memory_bytes), (100, 100), "nothing of it was taken");
        assert!(other.hold(50).is_ok());
    }

    #[test]
    fn a_buffer_is_charged_before_it_grows_and_until_its_last_view_is_gone() {
        let (memory, plugin) = memory(100, 1000);
        let mut buffer = Buffer::new(&memory);
        for _ in 0..9 {
            buffer.extend(&[b'x'; 10]).expect("within");
        }
        assert!(buffer.extend(&[b'x'; 11]).is_err());
        assert_eq!(buffer.len(), 90, "none of it");
        buffer.extend(&[b'x'; 10]).expect("to the last byte");
        let view = buffer.freeze().slice(7..8);
        assert_eq!(plugin.usage(0).memory_bytes, 100);
        drop(view);
        assert_eq!(plugin.usage(0).memory_bytes, 0);
    }

    #[test]
    fn large_results_are_charged_and_small_ones_are_not() {
        let (memory, plugin) = memory(SMALL_BYTES, usize::MAX);
        let small = take_over(&memory, vec![0; 100]).expect("not counted");
        let large = take_over(&memory, vec![0; SMALL_BYTES]).expect("within");
        assert_eq!(plugin.usage(0).memory_bytes, SMALL_BYTES);
        assert!(take_over(&memory, vec![0; SMALL_BYTES]).is_err());
        drop((small, large));
        assert_eq!(plugin.usage(0).memory_bytes, 0);
    }
}
