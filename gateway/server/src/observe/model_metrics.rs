//! What a model counts.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, PoisonError, RwLock, Weak};
use std::time::Duration;

use super::codes::Codes;
use super::histogram::{Histogram, ROWS, SECONDS};

/// What is counted for a model.
#[derive(Debug)]
pub struct ModelMetrics {
    pub(super) batches: Codes,
    pub(super) cache: Codes,
    pub(super) rows: Histogram,
    /// Gather, compute, scatter.
    pub(super) phases: [Histogram; 3],
    pub(super) queue_wait: Histogram,
    waiting: RwLock<Vec<Weak<DepthOf>>>,
    pub(super) best_rows: AtomicI64,
    pub(super) hung: AtomicI64,
    /// Active, waiting.
    pub(super) sequences: [AtomicI64; 2],
    /// 0 for a model without sequences.
    pub(super) sequence_slots: AtomicI64,
}

/// Says how many requests wait for a model.
pub type DepthOf = dyn Fn() -> usize + Send + Sync;

impl ModelMetrics {
    pub(super) fn new() -> Self {
        Self {
            batches: Codes::default(),
            cache: Codes::default(),
            rows: Histogram::of_counts(ROWS),
            phases: std::array::from_fn(|_| Histogram::new(SECONDS)),
            queue_wait: Histogram::new(SECONDS),
            waiting: RwLock::default(),
            best_rows: AtomicI64::new(0),
            hung: AtomicI64::new(0),
            sequences: Default::default(),
            sequence_slots: AtomicI64::new(0),
        }
    }

    pub(super) fn is_used(&self) -> bool {
        self.batches.counts().next().is_some() || self.queue_depth() != 0
    }

    /// A batch ran: why it was closed, its rows, and where its time went.
    pub fn batch(
        &self,
        reason: &'static str,
        rows: usize,
        gather: Duration,
        compute: Duration,
        scatter: Duration,
    ) {
        self.batches.increment(reason, "");
        self.rows.observe_count(rows);
        for (histogram, took) in self.phases.iter().zip([gather, compute, scatter]) {
            histogram.observe(took);
        }
    }

    /// A request was looked for in the response cache: `hit` or `miss`.
    pub fn cache(&self, outcome: &'static str) {
        self.cache.increment(outcome, "");
    }

    /// A request waited this long until its batch was formed.
    pub fn queue_wait(&self, took: Duration) {
        self.queue_wait.observe(took);
    }

    /// The best size of a batch, if it is known.
    pub fn best_rows(&self, rows: Option<usize>) {
        self.best_rows.store(i64::try_from(rows.unwrap_or(0)).unwrap_or(i64::MAX), Ordering::Relaxed);
    }

    /// An instance was given up because its run does not return; or it did after all.
    pub fn instance_hangs(&self, does: bool) {
        self.hung.fetch_add(if does { 1 } else { -1 }, Ordering::Relaxed);
    }

    /// Asks this for how many requests wait, whenever somebody wants to know, for as long as it
    /// is there. So what is shown is how it is then, and costs a request nothing.
    pub fn watch(&self, waiting: &Arc<DepthOf>) {
        let mut all = self.waiting.write().unwrap_or_else(PoisonError::into_inner);
        all.retain(|other| other.strong_count() > 0);
        all.push(Arc::downgrade(waiting));
    }

    /// Requests that wait now, for any version of it.
    pub(super) fn queue_depth(&self) -> i64 {
        let all = self.waiting.read().unwrap_or_else(PoisonError::into_inner);
        let sum: usize = all.iter().filter_map(Weak::upgrade).map(|waiting| waiting()).sum();
        i64::try_from(sum).unwrap_or(i64::MAX)
    }

    /// So many sequences have a slot, of so many slots, and so many wait for one.
    pub fn sequences(&self, active: usize, slots: usize, waiting: usize) {
        let gauges = self.sequences.iter().chain([&self.sequence_slots]);
        for (gauge, count) in gauges.zip([active, waiting, slots]) {
            gauge.store(i64::try_from(count).unwrap_or(i64::MAX), Ordering::Relaxed);
        }
    }
}
