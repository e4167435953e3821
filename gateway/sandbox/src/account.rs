//! What one plugin uses, over all of its instances: counted with atomics, read by whoever
//! wants to know.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

/// What a plugin uses and has used since it was loaded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PluginUsage {
    /// Bytes that its living instances hold, idle ones and what the host holds for them
    /// included.
    pub memory_bytes: usize,
    /// The most that was ever held at once.
    pub memory_bytes_peak: usize,
    /// The most that one instance ever held.
    pub instance_bytes_peak: usize,
    /// Instances that are alive, idle ones included.
    pub instances: usize,
    /// Instances that were started.
    pub instances_started: u64,
    /// Calls under way.
    pub calls_in_flight: usize,
    /// How long its calls took, waits for models and stores not counted.
    pub guest_time: Duration,
}

/// The account of one plugin.
pub(crate) struct Account {
    bytes_max: usize,
    bytes: AtomicUsize,
    bytes_peak: AtomicUsize,
    instance_bytes_peak: AtomicUsize,
    /// The same since it was last asked for.
    instance_bytes_peak_recent: AtomicUsize,
    instances: AtomicUsize,
    instances_started: AtomicU64,
    guest_nanos: AtomicU64,
}

impl Account {
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self {
            bytes_max,
            bytes: AtomicUsize::new(0),
            bytes_peak: AtomicUsize::new(0),
            instance_bytes_peak: AtomicUsize::new(0),
            instance_bytes_peak_recent: AtomicUsize::new(0),
            instances: AtomicUsize::new(0),
            instances_started: AtomicU64::new(0),
            guest_nanos: AtomicU64::new(0),
        }
    }

    /// Takes memory; whether that is within the plugin's total.
    pub(crate) fn take(&self, bytes: usize) -> bool {
        let within = |held: usize| held.checked_add(bytes).filter(|held| *held <= self.bytes_max);
        // Only the sum matters, and it orders nothing else.
        match self.bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, within) {
            Ok(before) => {
                self.bytes_peak.fetch_max(before.saturating_add(bytes), Ordering::Relaxed);
                true
            }
            Err(_) => false,
        }
    }

    /// Gives back what was taken.
    pub(crate) fn give_back(&self, bytes: usize) {
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    pub(crate) fn instance_started(&self) {
        self.instances_started.fetch_add(1, Ordering::Relaxed);
        self.instances.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn instance_ended(&self) {
        self.instances.fetch_sub(1, Ordering::Relaxed);
    }

    pub(crate) fn instance_held(&self, bytes: usize) {
        self.instance_bytes_peak.fetch_max(bytes, Ordering::Relaxed);
        self.instance_bytes_peak_recent.fetch_max(bytes, Ordering::Relaxed);
    }

    /// The most that one instance was seen to hold since this was last asked.
    pub(crate) fn take_peak(&self) -> usize {
        self.instance_bytes_peak_recent.swap(0, Ordering::Relaxed)
    }

    /// Counts the time of a call.
    pub(crate) fn add_time(&self, used: Duration) {
        // 584 years fit.
        let nanos = u64::try_from(used.as_nanos()).unwrap_or(u64::MAX);
        self.guest_nanos.fetch_add(nanos, Ordering::Relaxed);
    }

    pub(crate) fn usage(&self, calls_in_flight: usize) -> PluginUsage {
        PluginUsage {
            memory_bytes: self.bytes.load(Ordering::Relaxed),
            memory_bytes_peak: self.bytes_peak.load(Ordering::Relaxed),
            instance_bytes_peak: self.instance_bytes_peak.load(Ordering::Relaxed),
            instances: self.instances.load(Ordering::Relaxed),
            instances_started: self.instances_started.load(Ordering::Relaxed),
            calls_in_flight,
            guest_time: Duration::from_nanos(self.guest_nanos.load(Ordering::Relaxed)),
        }
    }
}
