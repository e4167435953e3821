//! What Triton's statistics extension tells about a version of a model, or about a
//! pipeline: how often, how long, in batches of which size.
//!
//! Counting is a handful of atomic additions for each request and each batch; no lock is
//! taken and nothing grows with the traffic. A reader may see a request's count and not yet
//! its time.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

use crate::error::Kind;

use super::model_statistics::{
    BatchStatistics, DurationStatistics, InferenceStatistics, ModelStatistics, PartStatistics,
    ResponseStatistics,
};

/// Batch sizes up to this are told apart one by one.
const EXACT_ROWS_MAX: usize = 1024;
/// Larger ones in steps of this, shown by the largest of a step: no table should grow with
/// what a configuration allows (65,536 rows).
const ROWS_STEP: usize = 64;
/// Batch sizes that are allocated together, once the first of them is needed.
const CHUNK_SIZES: usize = 64;
/// Chunks that hold all sizes up to 65,536 rows; what is larger counts as the last size.
const CHUNKS: usize = 32;
/// Parts of a streamed answer that are told apart; later ones count with the last. Clients
/// look at the first few: how long until something came, and how even the rest was.
const RESPONSES_MAX: usize = 64;

/// Why a request failed, in the words of Triton's metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// Refused before it ran: the queue is full, or its time is over.
    Rejected,
    /// The caller went away.
    Cancelled,
    /// The engine failed.
    Backend,
    /// Anything else.
    Other,
}

impl Failure {
    /// What a failure of this kind counts as.
    pub fn of(kind: Kind) -> Self {
        match kind {
            Kind::Engine => Self::Backend,
            Kind::QueueFull
            | Kind::QueueTimeout
            | Kind::TenantLimit
            | Kind::Deadline
            | Kind::Draining
            | Kind::ModelUnavailable => Self::Rejected,
            _ => Self::Other,
        }
    }

    pub(super) const ALL: [(Self, &'static str); 4] = [
        (Self::Rejected, "REJECTED"),
        (Self::Cancelled, "CANCELED"),
        (Self::Backend, "BACKEND"),
        (Self::Other, "OTHER"),
    ];
}

/// How often something happened, and how long it took in all.
#[derive(Debug, Default)]
struct Timer {
    count: AtomicU64,
    nanoseconds: AtomicU64,
}

impl Timer {
    fn add(&self, took: Duration) {
        self.add_many(1, took);
    }

    fn add_many(&self, count: u64, together: Duration) {
        self.count.fetch_add(count, Ordering::Relaxed);
        self.nanoseconds.fetch_add(nanoseconds(together), Ordering::Relaxed);
    }

    fn read(&self) -> DurationStatistics {
        DurationStatistics {
            count: self.count.load(Ordering::Relaxed),
            ns: self.nanoseconds.load(Ordering::Relaxed),
        }
    }
}

/// Batches of one size.
#[derive(Debug, Default)]
struct SizeCounts {
    count: AtomicU64,
    input: AtomicU64,
    infer: AtomicU64,
    output: AtomicU64,
}

type Chunk = Box<[SizeCounts; CHUNK_SIZES]>;

/// Parts with one number of a streamed answer.
#[derive(Debug, Default)]
struct PartCounts {
    infer: Timer,
    output: Timer,
    success: Timer,
    fail: Timer,
    empty: Timer,
    cancel: Timer,
}

/// How a part of a streamed answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PartOutcome {
    /// It was sent.
    Success,
    /// It was an error.
    Fail,
    /// It only said that nothing more comes.
    Empty,
    /// The caller had gone.
    Cancelled,
}

/// What one batch took, phase by phase.
#[derive(Debug, Clone, Copy, Default)]
pub struct Phases {
    /// Gathering the inputs.
    pub input: Duration,
    /// The run.
    pub infer: Duration,
    /// Cutting the outputs apart.
    pub output: Duration,
}

/// The counters of a version of a model, or of a pipeline. Shared as `Arc<Statistics>`.
#[derive(Debug)]
pub struct Statistics {
    last_inference_ms: AtomicU64,
    inferences: AtomicU64,
    executions: AtomicU64,
    waiting: AtomicI64,
    load_nanoseconds: AtomicU64,
    success: Timer,
    failures: [Timer; Failure::ALL.len()],
    queue: Timer,
    input: Timer,
    infer: Timer,
    output: Timer,
    cache_hit: Timer,
    cache_miss: Timer,
    sizes: [OnceLock<Chunk>; CHUNKS],
    parts: OnceLock<Box<[PartCounts]>>,
}

impl Default for Statistics {
    fn default() -> Self {
        Self {
            last_inference_ms: AtomicU64::new(0),
            inferences: AtomicU64::new(0),
            executions: AtomicU64::new(0),
            waiting: AtomicI64::new(0),
            load_nanoseconds: AtomicU64::new(0),
            success: Timer::default(),
            failures: Default::default(),
            queue: Timer::default(),
            input: Timer::default(),
            infer: Timer::default(),
            output: Timer::default(),
            cache_hit: Timer::default(),
            cache_miss: Timer::default(),
            sizes: std::array::from_fn(|_| OnceLock::new()),
            parts: OnceLock::new(),
        }
    }
}

impl Statistics {
    /// A request begins. It counts as cancelled, or as rejected if its deadline has passed,
    /// when the guard is dropped before [`Counted::finished`].
    #[must_use]
    pub fn request(&self, deadline: Instant) -> Counted<'_> {
        Counted { statistics: self, started: Instant::now(), deadline, is_done: false }
    }

    /// A request has ended that took so long.
    pub fn finished(&self, outcome: Result<(), Failure>, took: Duration) {
        match outcome {
            Ok(()) => self.success.add(took),
            Err(why) => {
                let found = Failure::ALL.iter().zip(&self.failures).find(|((known, _), _)| *known == why);
                if let Some((_, timer)) = found {
                    timer.add(took);
                }
            }
        }
    }

    /// A batch of `requests` requests, with `rows` rows in all, has run. Each of its members
    /// has waited for the whole of it, so each is charged with the whole, as in Triton.
    pub fn executed(&self, requests: usize, rows: usize, waited_together: Duration, phases: Phases) {
        let count = u64::try_from(requests).unwrap_or(u64::MAX);
        let members = u32::try_from(requests).unwrap_or(u32::MAX);
        self.queue.add_many(count, waited_together);
        self.input.add_many(count, phases.input.saturating_mul(members));
        self.infer.add_many(count, phases.infer.saturating_mul(members));
        self.output.add_many(count, phases.output.saturating_mul(members));
        self.inferences.fetch_add(u64::try_from(rows).unwrap_or(u64::MAX), Ordering::Relaxed);
        self.executions.fetch_add(1, Ordering::Relaxed);
        self.touch();
        let place = place_of(rows);
        let Some(chunk) = self.sizes.get(place / CHUNK_SIZES) else { return };
        let chunk = chunk.get_or_init(|| Box::new(std::array::from_fn(|_| SizeCounts::default())));
        if let Some(size) = chunk.get(place % CHUNK_SIZES) {
            size.count.fetch_add(1, Ordering::Relaxed);
            size.input.fetch_add(nanoseconds(phases.input), Ordering::Relaxed);
            size.infer.fetch_add(nanoseconds(phases.infer), Ordering::Relaxed);
            size.output.fetch_add(nanoseconds(phases.output), Ordering::Relaxed);
        }
    }

    /// A pipeline has answered: it is one inference and one execution, whatever its plugins
    /// and its model made of it.
    pub fn answered(&self) {
        self.inferences.fetch_add(1, Ordering::Relaxed);
        self.executions.fetch_add(1, Ordering::Relaxed);
        self.touch();
    }

    /// A pipeline's stage before the model took so long.
    pub fn before_model(&self, took: Duration) {
        self.input.add(took);
    }

    /// A pipeline's model took so long, its queue included.
    pub fn model(&self, took: Duration) {
        self.infer.add(took);
    }

    /// A pipeline's stage after the model took so long.
    pub fn after_model(&self, took: Duration) {
        self.output.add(took);
    }

    /// An answer was found in the response cache.
    pub fn cache_hit(&self, took: Duration) {
        self.cache_hit.add(took);
        self.touch();
    }

    /// No answer was found in the response cache; so long it took to look, and to put in the
    /// one that was made then.
    pub fn cache_miss(&self, took: Duration) {
        self.cache_miss.add(took);
    }

    /// A part of a streamed answer ended: its number, how, and what it took to make and to send.
    pub fn part(&self, number: usize, outcome: PartOutcome, infer: Duration, output: Duration) {
        let parts = self.parts.get_or_init(|| (0..RESPONSES_MAX).map(|_| PartCounts::default()).collect());
        let Some(part) = parts.get(number.min(RESPONSES_MAX - 1)) else { return };
        if matches!(outcome, PartOutcome::Success | PartOutcome::Fail) {
            part.infer.add(infer);
        }
        if outcome == PartOutcome::Success {
            part.output.add(output);
        }
        let timer = match outcome {
            PartOutcome::Success => &part.success,
            PartOutcome::Fail => &part.fail,
            PartOutcome::Empty => &part.empty,
            PartOutcome::Cancelled => &part.cancel,
        };
        timer.add(infer.saturating_add(output));
    }

    /// A request waits for its batch until the guard is dropped.
    #[must_use]
    pub fn wait(self: &Arc<Self>) -> Waiting {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        Waiting(Arc::clone(self))
    }

    /// Loading it took so long.
    pub fn loaded(&self, took: Duration) {
        self.load_nanoseconds.store(nanoseconds(took), Ordering::Relaxed);
    }

    /// How long loading it took.
    pub(super) fn load_time(&self) -> Duration {
        Duration::from_nanos(self.load_nanoseconds.load(Ordering::Relaxed))
    }

    /// Requests that wait for their batch.
    pub(super) fn waiting(&self) -> i64 {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Failed requests by why.
    pub(super) fn failed(&self) -> impl Iterator<Item = (&'static str, u64)> {
        Failure::ALL.iter().zip(&self.failures).map(|((_, name), timer)| (*name, timer.read().count))
    }

    /// What was counted so far.
    pub fn read(&self, name: &str, version: &str) -> ModelStatistics {
        let mut fail = DurationStatistics::default();
        for one in self.failures.iter().map(Timer::read) {
            fail.count += one.count;
            fail.ns += one.ns;
        }
        ModelStatistics {
            name: name.to_owned(),
            version: version.to_owned(),
            last_inference: self.last_inference_ms.load(Ordering::Relaxed),
            inference_count: self.inferences.load(Ordering::Relaxed),
            execution_count: self.executions.load(Ordering::Relaxed),
            inference_stats: InferenceStatistics {
                success: self.success.read(),
                fail,
                queue: self.queue.read(),
                compute_input: self.input.read(),
                compute_infer: self.infer.read(),
                compute_output: self.output.read(),
                cache_hit: self.cache_hit.read(),
                cache_miss: self.cache_miss.read(),
            },
            response_stats: self.read_parts(),
            batch_stats: self.read_sizes(),
            memory_usage: Vec::new(),
        }
    }

    fn read_sizes(&self) -> Vec<BatchStatistics> {
        let mut sizes = Vec::new();
        for (number, chunk) in self.sizes.iter().enumerate() {
            let Some(chunk) = chunk.get() else { continue };
            for (offset, one) in chunk.iter().enumerate() {
                let count = one.count.load(Ordering::Relaxed);
                let phase = |ns: &AtomicU64| DurationStatistics { count, ns: ns.load(Ordering::Relaxed) };
                if count > 0 {
                    sizes.push(BatchStatistics {
                        batch_size: rows_at(number * CHUNK_SIZES + offset),
                        compute_input: phase(&one.input),
                        compute_infer: phase(&one.infer),
                        compute_output: phase(&one.output),
                    });
                }
            }
        }
        sizes
    }

    fn read_parts(&self) -> ResponseStatistics {
        let parts = self.parts.get().map(|parts| &**parts).unwrap_or_default();
        let read = parts.iter().map(|part| PartStatistics {
            compute_infer: part.infer.read(),
            compute_output: part.output.read(),
            success: part.success.read(),
            fail: part.fail.read(),
            empty_response: part.empty.read(),
            cancel: part.cancel.read(),
        });
        let is_used = |part: &PartStatistics| {
            [part.success, part.fail, part.empty_response, part.cancel].iter().any(|one| one.count > 0)
        };
        ResponseStatistics(read.enumerate().filter(|(_, part)| is_used(part)).collect())
    }

    fn touch(&self) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        self.last_inference_ms.store(u64::try_from(now.as_millis()).unwrap_or(0), Ordering::Relaxed);
    }
}

/// See [`Statistics::wait`].
#[derive(Debug)]
pub struct Waiting(Arc<Statistics>);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A request that is counted; see [`Statistics::request`].
#[derive(Debug)]
pub struct Counted<'a> {
    statistics: &'a Statistics,
    started: Instant,
    deadline: Instant,
    is_done: bool,
}

impl Counted<'_> {
    /// The request has ended.
    pub fn finished(mut self, outcome: Result<(), Failure>) {
        self.is_done = true;
        self.statistics.finished(outcome, self.started.elapsed());
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        if !self.is_done {
            let is_late = Instant::now() >= self.deadline;
            let why = if is_late { Failure::Rejected } else { Failure::Cancelled };
            self.statistics.finished(Err(why), self.started.elapsed());
        }
    }
}

/// The place of a batch size in the table.
fn place_of(rows: usize) -> usize {
    let place = match rows.checked_sub(EXACT_ROWS_MAX + 1) {
        None => rows.saturating_sub(1),
        Some(above) => EXACT_ROWS_MAX + above / ROWS_STEP,
    };
    place.min(CHUNKS * CHUNK_SIZES - 1)
}

/// The largest batch size of a place.
fn rows_at(place: usize) -> usize {
    match place.checked_sub(EXACT_ROWS_MAX) {
        None => place + 1,
        Some(above) => EXACT_ROWS_MAX + (above + 1) * ROWS_STEP,
    }
}

fn nanoseconds(took: Duration) -> u64 {
    u64::try_from(took.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
#[path = "statistics_tests.rs"]
mod tests;
