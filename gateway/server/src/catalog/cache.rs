//! Answers of models that may be given again: opt-in for each model, one memory for all.
//!
//! A key is everything that an answer depends on: each input's name, type, shape and bytes, in
//! the part of one loading of one model (one that is loaded anew finds nothing of the one
//! before), written so that two different requests never give the same text. Whole keys are
//! compared, so there is no such thing as a collision. Requested outputs are not part of it:
//! a model gives all of its outputs, and what is asked for is picked later.
//!
//! Keys and answers are copies: the originals are slices of whole bodies and whole batches,
//! and would keep those in memory.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use sluice_tensor::{NamedTensor, Tensor};
use tokio::time::Instant;

use crate::error::Result;
use crate::observe::{Metrics, ModelMetrics, Statistics};
use crate::pipeline::CheckedInputs;

/// The largest part of the memory that one answer with its key may take: a larger one would
/// push out most of the others.
const ENTRY_SHARE: usize = 4;

/// What an entry takes beside the bytes of its key and its tensors: two nodes of trees,
/// counters, and allocations. So small entries cannot add up to more than was allowed.
const ENTRY_BYTES: usize = 256;

/// The same for each output.
const OUTPUT_BYTES: usize = 128;

/// The memory of all models.
pub struct ResponseCache {
    entries: Mutex<Entries>,
    next_model: AtomicU64,
    metrics: Arc<Metrics>,
}

#[derive(Default)]
struct Entries {
    /// By model, so that what belongs to one goes without a look at the others'.
    by_model: BTreeMap<u64, BTreeMap<Arc<[u8]>, Entry>>,
    /// Models and keys by when they were last used.
    by_use: BTreeMap<u64, (u64, Arc<[u8]>)>,
    uses: u64,
    bytes: usize,
    bytes_max: usize,
}

struct Entry {
    outputs: Vec<NamedTensor>,
    bytes: usize,
    last_use: u64,
}

impl ResponseCache {
    /// An empty memory of so many bytes.
    pub(crate) fn new(bytes_max: usize, metrics: Arc<Metrics>) -> Arc<Self> {
        let entries = Mutex::new(Entries { bytes_max, ..Entries::default() });
        Arc::new(Self { entries, next_model: AtomicU64::new(1), metrics })
    }

    /// Gives it another size; what is too much is dropped at once.
    pub(super) fn resize(&self, bytes_max: usize) {
        self.change(|entries| {
            entries.bytes_max = bytes_max;
            entries.make_room(0)
        });
    }

    fn get(&self, model: u64, key: &[u8]) -> Option<Vec<NamedTensor>> {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        entries.uses += 1;
        let now = entries.uses;
        let entry = entries.by_model.get_mut(&model)?.get_mut(key)?;
        let before = std::mem::replace(&mut entry.last_use, now);
        let outputs = entry.outputs.clone();
        if let Some(used) = entries.by_use.remove(&before) {
            entries.by_use.insert(now, used);
        }
        Some(outputs)
    }

    fn put(&self, model: u64, key: Vec<u8>, outputs: &[NamedTensor]) {
        let sizes = outputs.iter().map(|output| output.tensor.byte_len().saturating_add(OUTPUT_BYTES));
        let bytes = sizes.fold(ENTRY_BYTES.saturating_add(key.len()), usize::saturating_add);
        if bytes > self.entry_bytes_max() {
            return;
        }
        let Some(outputs) = outputs.iter().map(own).collect::<Option<Vec<_>>>() else { return };
        let key: Arc<[u8]> = key.into();
        self.change(|entries| {
            let mut dropped = entries.make_room(bytes);
            entries.uses += 1;
            let last_use = entries.uses;
            entries.by_use.insert(last_use, (model, Arc::clone(&key)));
            entries.bytes += bytes;
            // The same request may have run twice at the same time.
            let own = entries.by_model.entry(model).or_default();
            if let Some(before) = own.insert(key, Entry { outputs, bytes, last_use }) {
                entries.by_use.remove(&before.last_use);
                entries.bytes -= before.bytes;
                dropped.twins.push(before);
            }
            dropped
        });
    }

    /// Drops what belongs to a model.
    fn forget(&self, model: u64) {
        self.change(|entries| {
            let own = entries.by_model.remove(&model).unwrap_or_default();
            for entry in own.values() {
                entries.by_use.remove(&entry.last_use);
                entries.bytes -= entry.bytes;
            }
            Dropped { twins: own.into_values().collect(), evicted: Vec::new() }
        });
    }

    /// Changes the entries; what is dropped is freed when the lock is released.
    fn change(&self, change: impl FnOnce(&mut Entries) -> Dropped) {
        let dropped = {
            let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
            let dropped = change(&mut entries);
            // Each has been used exactly once for the last time.
            self.metrics.cache_size(entries.by_use.len(), entries.bytes);
            dropped
        };
        self.metrics.cache_evicted(dropped.evicted.len());
    }

    fn entry_bytes_max(&self) -> usize {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner).bytes_max / ENTRY_SHARE
    }
}

/// What is out of the table, and not yet freed.
#[derive(Default)]
struct Dropped {
    evicted: Vec<Entry>,
    twins: Vec<Entry>,
}

impl Entries {
    /// Drops what was not used for longest until so many bytes fit.
    fn make_room(&mut self, bytes: usize) -> Dropped {
        let mut dropped = Dropped::default();
        while self.bytes.saturating_add(bytes) > self.bytes_max {
            let Some((_, (model, key))) = self.by_use.pop_first() else { break };
            let Some(own) = self.by_model.get_mut(&model) else { continue };
            let entry = own.remove(&key);
            if own.is_empty() {
                self.by_model.remove(&model);
            }
            if let Some(entry) = entry {
                self.bytes -= entry.bytes;
                dropped.evicted.push(entry);
            }
        }
        dropped
    }
}

/// One loaded model's part of the cache. Dropping it drops its answers.
pub(super) struct ModelCache {
    cache: Arc<ResponseCache>,
    model: u64,
    statistics: Arc<Statistics>,
    metrics: Arc<ModelMetrics>,
}

impl ModelCache {
    pub(super) fn new(
        cache: &Arc<ResponseCache>,
        statistics: &Arc<Statistics>,
        metrics: &Arc<ModelMetrics>,
    ) -> Self {
        let model = cache.next_model.fetch_add(1, Ordering::Relaxed);
        let (statistics, metrics) = (Arc::clone(statistics), Arc::clone(metrics));
        Self { cache: Arc::clone(cache), model, statistics, metrics }
    }

    /// The answer from the cache, or the one that `run` gives. Errors are never kept.
    pub(super) async fn through<F>(
        &self,
        inputs: CheckedInputs,
        run: impl FnOnce(CheckedInputs) -> F,
    ) -> Result<Vec<NamedTensor>>
    where
        F: Future<Output = Result<Vec<NamedTensor>>>,
    {
        let started = Instant::now();
        let span = tracing::debug_span!("cache", outcome = tracing::field::Empty);
        let Some(key) = key(&inputs.inputs, self.cache.entry_bytes_max()) else {
            span.record("outcome", "too_large");
            return run(inputs).await;
        };
        if let Some(outputs) = self.cache.get(self.model, &key) {
            span.record("outcome", "hit");
            self.metrics.cache("hit");
            self.statistics.cache_hit(started.elapsed());
            return Ok(outputs);
        }
        span.record("outcome", "miss");
        drop(span);
        let looked = started.elapsed();
        let outcome = run(inputs).await;
        let ran = Instant::now();
        if let Ok(outputs) = &outcome {
            self.cache.put(self.model, key, outputs);
        }
        self.metrics.cache("miss");
        self.statistics.cache_miss(looked + ran.elapsed());
        outcome
    }
}

impl Drop for ModelCache {
    fn drop(&mut self) {
        self.cache.forget(self.model);
    }
}

/// A request in one text: every part has its length in front of it, or one that cannot vary.
/// `None` if it is longer than `bytes_max`.
fn key(inputs: &[NamedTensor], bytes_max: usize) -> Option<Vec<u8>> {
    let length = |input: &NamedTensor| {
        // Its type, and the numbers: rank, dimensions, and the lengths of name and data.
        let numbers = (3 + input.tensor.shape().rank()) * size_of::<u64>();
        1 + numbers + input.name.len() + input.tensor.byte_len()
    };
    let bytes = inputs.iter().map(length).fold(0, usize::saturating_add);
    if bytes > bytes_max {
        return None;
    }
    let mut key = Vec::with_capacity(bytes);
    let put = |key: &mut Vec<u8>, number: usize| key.extend_from_slice(&(number as u64).to_le_bytes());
    for NamedTensor { name, tensor } in inputs {
        let dims = tensor.shape().dims();
        put(&mut key, name.len());
        key.extend_from_slice(name.as_bytes());
        key.push(tensor.dtype() as u8);
        put(&mut key, dims.len());
        dims.iter().for_each(|dim| put(&mut key, *dim));
        put(&mut key, tensor.byte_len());
        key.extend_from_slice(&tensor.bytes());
    }
    Some(key)
}

/// The tensor in memory of its own.
fn own(output: &NamedTensor) -> Option<NamedTensor> {
    let NamedTensor { name, tensor } = output;
    let data = Bytes::copy_from_slice(&tensor.bytes());
    let tensor = Tensor::dense(tensor.dtype(), *tensor.shape(), data).ok()?;
    Some(NamedTensor { name: Arc::clone(name), tensor })
}

#[cfg(test)]
#[path = "cache_tests.rs"]
mod tests;
