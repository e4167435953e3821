//! A histogram without a lock: the ready-made one takes a mutex for each observation.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use prometheus_client::encoding::{MetricEncoder, NoLabelSet};

/// Bounds for durations of requests and their stages, in seconds: a microsecond (a call of a
/// small plugin takes a few, a request of a small model some tens) to the longest deadline,
/// factors of 2 to 2.5.
pub(super) const SECONDS: &[f64] = &[
    0.000_001,
    0.000_002_5,
    0.000_005,
    0.000_01,
    0.000_025,
    0.000_05,
    0.000_1,
    0.000_25,
    0.000_5,
    0.001,
    0.002_5,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    2.5,
    5.0,
    10.0,
    30.0,
    60.0,
];

/// Bounds for rows of a batch.
pub(super) const ROWS: &[f64] =
    &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0, 4096.0, 16_384.0];

/// Counts observations by bucket. A scrape during an observation may see its bucket
/// and not yet its sum.
#[derive(Debug)]
pub(super) struct Histogram {
    bounds: &'static [f64],
    /// One for each bound, and one for what is above all.
    pub(super) buckets: Box<[AtomicU64]>,
    /// In nanoseconds, or whole numbers, so that an addition is one instruction. Holds five
    /// hundred years.
    sum: AtomicU64,
    is_of_durations: bool,
}

impl Histogram {
    /// Of durations, in seconds.
    pub(super) fn new(bounds: &'static [f64]) -> Self {
        let buckets = (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect();
        Self { bounds, buckets, sum: AtomicU64::new(0), is_of_durations: true }
    }

    /// Of whole numbers.
    pub(super) fn of_counts(bounds: &'static [f64]) -> Self {
        Self { is_of_durations: false, ..Self::new(bounds) }
    }

    /// Counts a duration, to the nanosecond: many a phase of a batch takes less than a
    /// microsecond, and a sum of what was cut off is a lie.
    pub(super) fn observe(&self, duration: Duration) {
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        self.count(duration.as_secs_f64(), nanos);
    }

    /// Counts a whole number.
    pub(super) fn observe_count(&self, value: usize) {
        let value = u32::try_from(value).unwrap_or(u32::MAX);
        self.count(f64::from(value), u64::from(value));
    }

    fn count(&self, value: f64, amount: u64) {
        let index = self.bounds.partition_point(|bound| *bound < value);
        if let Some(bucket) = self.buckets.get(index) {
            bucket.fetch_add(1, Ordering::Relaxed);
        }
        self.sum.fetch_add(amount, Ordering::Relaxed);
    }

    pub(super) fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        let bounds = self.bounds.iter().copied().chain([f64::INFINITY]);
        let counts = self.buckets.iter().map(|bucket| bucket.load(Ordering::Relaxed));
        let buckets: Vec<(f64, u64)> = bounds.zip(counts).collect();
        let count = buckets.iter().map(|(_, count)| count).sum();
        let sum = self.sum.load(Ordering::Relaxed);
        let sum = if self.is_of_durations { Duration::from_nanos(sum).as_secs_f64() } else { sum as f64 };
        encoder.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)
    }
}
