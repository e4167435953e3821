//! Triton's trace extension: when what happened to sampled requests, as JSON in one file.
//!
//! A request that is not sampled costs one relaxed load. One that is notes its times, and when
//! its last holder lets go of it, it is handed to the thread that writes; if that is behind, it
//! is dropped and counted. Which file that is says the configuration alone.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use sluice_tensor::NamedTensor;
use tokio::time::Instant;

use super::trace_file::{TraceFile, TraceRecord, describe};

/// Models with settings of their own. Only names that are served may have some, and those are
/// bounded by the configuration; this bounds what comes and goes.
const OVERRIDES_MAX: usize = 1024;

/// Events of one trace. A request has about a dozen; a pipeline that calls models in a loop
/// must not grow its trace without end.
const EVENTS_MAX: usize = 256;

/// What is traced, of which requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceSettings {
    /// Whether the times of events are written.
    pub timestamps: bool,
    /// Whether inputs and outputs are written.
    pub tensors: bool,
    /// One of so many requests is traced.
    pub rate: u32,
    /// So many more are traced; any number if negative.
    pub count: i64,
    /// Traces of one file; 0 writes all to one.
    pub log_frequency: u32,
}

/// Nothing is traced until somebody asks for it: Triton's defaults.
const DEFAULT: TraceSettings =
    TraceSettings { timestamps: false, tensors: false, rate: 1000, count: -1, log_frequency: 0 };

/// One setting of a change: left as it is, cleared, or set.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Change<T> {
    /// As it is.
    #[default]
    Keep,
    /// The global one for a model, the default globally.
    Clear,
    /// This from now on.
    Set(T),
}

impl<T> Change<T> {
    /// The same for another form of the value.
    pub fn map<U>(self, form: impl FnOnce(T) -> U) -> Change<U> {
        match self {
            Self::Keep => Change::Keep,
            Self::Clear => Change::Clear,
            Self::Set(value) => Change::Set(form(value)),
        }
    }
}

/// A change of settings.
#[derive(Debug, Clone, Copy, Default)]
pub struct TraceChange {
    /// Timestamps and tensors.
    pub level: Change<(bool, bool)>,
    /// See [`TraceSettings::rate`].
    pub rate: Change<u32>,
    /// See [`TraceSettings::count`].
    pub count: Change<i64>,
    /// See [`TraceSettings::log_frequency`].
    pub log_frequency: Change<u32>,
}

/// What was set, globally or for a model.
#[derive(Debug, Clone, Copy, Default)]
struct Overrides {
    level: Option<(bool, bool)>,
    rate: Option<u32>,
    count: Option<i64>,
    log_frequency: Option<u32>,
    /// Requests that were looked at since `rate` was set.
    seen: u64,
    /// Requests that were traced since `count` was set.
    traced: u64,
}

impl Overrides {
    fn over(&self, below: TraceSettings) -> TraceSettings {
        let (timestamps, tensors) = self.level.unwrap_or((below.timestamps, below.tensors));
        TraceSettings {
            timestamps,
            tensors,
            rate: self.rate.unwrap_or(below.rate),
            count: self.count.unwrap_or(below.count),
            log_frequency: self.log_frequency.unwrap_or(below.log_frequency),
        }
    }

    fn change(&mut self, change: &TraceChange) {
        fn set<T: Copy>(slot: &mut Option<T>, change: Change<T>) -> bool {
            match change {
                Change::Keep => return false,
                Change::Clear => *slot = None,
                Change::Set(value) => *slot = Some(value),
            }
            true
        }
        set(&mut self.level, change.level);
        set(&mut self.log_frequency, change.log_frequency);
        if set(&mut self.rate, change.rate) {
            self.seen = 0;
        }
        if set(&mut self.count, change.count) {
            self.traced = 0;
        }
    }

    fn is_empty(&self) -> bool {
        self.level.is_none() && self.rate.is_none() && self.count.is_none() && self.log_frequency.is_none()
    }
}

#[derive(Debug, Default)]
struct State {
    global: Overrides,
    models: BTreeMap<String, Overrides>,
}

impl State {
    fn settings(&self, model: Option<&str>) -> TraceSettings {
        let global = self.global.over(DEFAULT);
        match model.and_then(|model| self.models.get(model)) {
            Some(own) => own.over(global),
            None => global,
        }
    }

    fn is_on(&self) -> bool {
        let is_on = |settings: TraceSettings| settings.timestamps || settings.tensors;
        is_on(self.settings(None)) || self.models.keys().any(|model| is_on(self.settings(Some(model))))
    }
}

/// The trace settings of a gateway, and where traces go.
#[derive(Debug)]
pub struct Tracer {
    file: Option<PathBuf>,
    state: Mutex<State>,
    is_on: AtomicBool,
    next_id: AtomicU64,
    /// Opened when the first request is traced.
    writer: OnceLock<TraceFile>,
    dropped: Arc<AtomicU64>,
}

impl Tracer {
    /// Traces go to `file`; nowhere without one.
    pub fn new(file: Option<PathBuf>) -> Arc<Self> {
        Arc::new(Self {
            file,
            state: Mutex::default(),
            is_on: AtomicBool::new(false),
            next_id: AtomicU64::new(1),
            writer: OnceLock::new(),
            dropped: Arc::default(),
        })
    }

    /// The file, as it is configured.
    pub fn file(&self) -> Option<&PathBuf> {
        self.file.as_ref()
    }

    /// What is in force, globally or for a model.
    pub fn settings(&self, model: Option<&str>) -> TraceSettings {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).settings(model)
    }

    /// Changes what is in force, globally or for a model. `None` if too many models have
    /// settings of their own.
    pub fn change(&self, model: Option<&str>, change: &TraceChange) -> Option<TraceSettings> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match model {
            None => state.global.change(change),
            Some(model) => {
                if !state.models.contains_key(model) && state.models.len() >= OVERRIDES_MAX {
                    return None;
                }
                let own = state.models.entry(model.to_owned()).or_default();
                own.change(change);
                if own.is_empty() {
                    state.models.remove(model);
                }
            }
        }
        self.is_on.store(self.file.is_some() && state.is_on(), Ordering::Relaxed);
        Some(state.settings(model))
    }

    /// Traces that were dropped because they could not be written in time, or at all.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// A trace for a request that arrives now, if it is one of those that are traced.
    /// `version` is asked only then, and is `None` for a model that is not served.
    pub fn sample(
        self: &Arc<Self>,
        model: &str,
        request_id: &str,
        version: impl FnOnce() -> Option<String>,
    ) -> Option<Arc<Trace>> {
        if !self.is_on.load(Ordering::Relaxed) {
            return None;
        }
        let version = version()?;
        let settings = self.take_turn(model)?;
        Some(Arc::new(Trace {
            tracer: Arc::clone(self),
            settings,
            id: self.next_id.fetch_add(1, Ordering::Relaxed),
            model: model.to_owned(),
            version,
            request_id: request_id.to_owned(),
            notes: Mutex::default(),
        }))
    }

    fn take_turn(&self, model: &str) -> Option<TraceSettings> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let settings = state.settings(Some(model));
        if !settings.timestamps && !settings.tensors {
            return None;
        }
        let State { global, models } = &mut *state;
        // Where a model has a rate or count of its own it also has its own turn.
        let own = models.get_mut(model);
        let (has_rate, has_count) =
            own.as_ref().map_or((false, false), |own| (own.rate.is_some(), own.count.is_some()));
        let (mut own, global) = (own, global);
        let mut turn = |is_own: bool, turn: fn(&mut Overrides) -> u64| match (&mut own, is_own) {
            (Some(own), true) => turn(own),
            _ => turn(global),
        };
        let seen = turn(has_rate, |of| {
            of.seen += 1;
            of.seen
        });
        if seen % u64::from(settings.rate.max(1)) != 0 {
            return None;
        }
        let traced = turn(has_count, |of| {
            of.traced += 1;
            of.traced
        });
        let is_wanted = u64::try_from(settings.count).map_or(true, |count| traced <= count);
        is_wanted.then_some(settings)
    }

    fn write(&self, record: TraceRecord) {
        let Some(file) = &self.file else { return };
        let writer = self.writer.get_or_init(|| TraceFile::open(file.clone(), Arc::clone(&self.dropped)));
        writer.write(record);
    }
}

/// What is noted of a request.
#[derive(Debug, Default)]
struct Notes {
    events: Vec<(&'static str, u64)>,
    tensors: Vec<serde_json::Value>,
}

/// A request that is traced. It is written when the last clone of its `Arc` is dropped.
#[derive(Debug)]
pub struct Trace {
    tracer: Arc<Tracer>,
    settings: TraceSettings,
    id: u64,
    model: String,
    version: String,
    request_id: String,
    notes: Mutex<Notes>,
}

impl Trace {
    /// Something happens now.
    pub fn event(&self, name: &'static str) {
        self.event_at(name, Instant::now());
    }

    /// Something happened then.
    pub fn event_at(&self, name: &'static str, at: Instant) {
        if !self.settings.timestamps {
            return;
        }
        let nanoseconds = nanoseconds_of(at);
        let mut notes = self.notes.lock().unwrap_or_else(PoisonError::into_inner);
        if notes.events.len() < EVENTS_MAX {
            notes.events.push((name, nanoseconds));
        }
    }

    /// Tensors went into the queue (`TENSOR_QUEUE_INPUT`) or came out of the engine
    /// (`TENSOR_BACKEND_OUTPUT`).
    pub fn tensors(&self, activity: &'static str, tensors: &[NamedTensor]) {
        if !self.settings.tensors {
            return;
        }
        let described: Vec<_> = tensors.iter().map(|one| describe(self.id, activity, one)).collect();
        let mut notes = self.notes.lock().unwrap_or_else(PoisonError::into_inner);
        if notes.tensors.len() < EVENTS_MAX {
            notes.tensors.extend(described);
        }
    }
}

impl Drop for Trace {
    fn drop(&mut self) {
        let notes = std::mem::take(self.notes.get_mut().unwrap_or_else(PoisonError::into_inner));
        self.tracer.write(TraceRecord {
            id: self.id,
            model: std::mem::take(&mut self.model),
            version: std::mem::take(&mut self.version),
            request_id: std::mem::take(&mut self.request_id),
            events: notes.events,
            tensors: notes.tensors,
            per_file: self.settings.log_frequency,
        });
    }
}

/// Nanoseconds since 1970 of a time of the monotonic clock: both are read together once, so
/// that the times of all traces can be compared.
fn nanoseconds_of(at: Instant) -> u64 {
    static START: OnceLock<(Instant, Duration)> = OnceLock::new();
    let (start, since_1970) = START.get_or_init(|| {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        (Instant::now(), now)
    });
    let before = start.saturating_duration_since(at);
    let since_1970 = (*since_1970 + at.saturating_duration_since(*start)).saturating_sub(before);
    u64::try_from(since_1970.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
#[path = "request_trace_tests.rs"]
mod tests;
