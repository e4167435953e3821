//! A loaded plugin, and what is known of it.

use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use sluice_tensor::NamedTensor;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use wasmtime::component::InstancePre;
use wasmtime_wasi::p2::bindings::exports::wasi::cli::run;

use crate::account::{Account, PluginUsage};
use crate::call::{self, Done, Instance, Job};
use crate::config::{PluginLimits, WasiPolicy};
use crate::contract::{self, Exports};
use crate::engine::{self, Shared};
use crate::error::{CallError, ProfileError};
use crate::host::Grants;
use crate::host::files::Files;
use crate::host::logging::LogSink;
use crate::parts::PartSender;
use crate::profile::{self, Profiling};
use crate::spawn::Pace;
use crate::stacks::Stack;
use crate::state::State;
use crate::types::{Answer, CallContext, Prepared, Request};
use crate::verify::ComponentFacts;
use crate::world::World;

/// How a plugin is to be run.
#[derive(Clone)]
pub struct PluginOptions {
    /// Its name in the configuration and in the log.
    pub name: Arc<str>,
    /// Its table in the configuration, as JSON: what `init` gets.
    pub config_json: String,
    /// Calls that one instance serves. 1 is a fresh instance for every call, so
    /// that no call can leave anything behind for another; more is faster for
    /// languages with a slow start.
    pub reuse: u32,
    /// What it may use of WASI.
    pub wasi: WasiPolicy,
    /// Its limits.
    pub limits: PluginLimits,
    /// Its capabilities.
    pub grants: Grants,
    /// Where its lines go.
    pub log: Arc<dyn LogSink>,
}

impl fmt::Debug for PluginOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PluginOptions")
            .field("name", &self.name)
            .field("reuse", &self.reuse)
            .field("wasi", &self.wasi)
            .field("limits", &self.limits)
            .field("grants", &self.grants)
            .finish_non_exhaustive()
    }
}

/// What is known of a loaded plugin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PluginInfo {
    /// Its name in the configuration.
    pub name: Arc<str>,
    /// SHA-256 of the component, in hexadecimal.
    pub digest: String,
    /// What it implements.
    pub world: World,
    /// The interfaces it imports: its permission request.
    pub imports: Vec<String>,
    /// Bytes of the component.
    pub size_bytes: usize,
    /// Whether its compiled code came from the cache.
    pub compiled_from_cache: bool,
    /// Everything that is known without running it.
    pub facts: Arc<ComponentFacts>,
}

/// A loaded plugin. Clones share it.
///
/// Every call is cancel-safe: dropping the future ends the guest at its next
/// epoch tick, throws its instance away and then frees its place.
#[derive(Clone)]
pub struct Plugin(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) shared: Arc<Shared>,
    pub(crate) stack: Arc<Stack>,
    pub(crate) options: PluginOptions,
    pub(crate) info: PluginInfo,
    pub(crate) pre: InstancePre<State>,
    pub(crate) exports: Exports,
    /// What is run of a program.
    pub(crate) program: Option<run::GuestIndices>,
    /// The folders that it may read, open.
    pub(crate) files: Files,
    /// Calls of its own that may be under way, and how many those are.
    pub(crate) calls: Arc<Semaphore>,
    concurrency: AtomicUsize,
    /// Places among everybody's that one of its instances takes.
    places: AtomicU32,
    pub(crate) account: Arc<Account>,
    pub(crate) profiling: Arc<Profiling>,
    pub(crate) pace: Pace,
    idle: Mutex<Vec<Idle>>,
}

/// An instance that waits to be used again, and its place among those of all
/// plugins.
struct Idle {
    instance: Instance,
    _place: OwnedSemaphorePermit,
}

impl fmt::Debug for Plugin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Plugin").field(&self.0.info).finish()
    }
}

impl Plugin {
    /// What is known of it.
    pub fn info(&self) -> &PluginInfo {
        &self.0.info
    }

    /// Calls under way.
    pub fn calls_in_flight(&self) -> usize {
        self.0.concurrency.load(Ordering::Relaxed).saturating_sub(self.0.calls.available_permits())
    }

    /// What it uses and has used.
    pub fn usage(&self) -> PluginUsage {
        self.0.account.usage(self.calls_in_flight())
    }

    /// The most bytes that one instance held since this was last asked, whatever became of
    /// its call. A reused instance counts when it grows.
    pub fn take_memory_peak(&self) -> usize {
        self.0.account.take_peak()
    }

    /// Samples its calls for that long, and gives what the Firefox profiler shows (JSON).
    /// Only this plugin's own functions are in it. While it is taken, all guests are
    /// interrupted more often. Cancel-safe.
    ///
    /// # Errors
    /// See [`ProfileError`].
    pub async fn profile(&self, duration: Duration) -> Result<Vec<u8>, ProfileError> {
        profile::record(&self.0, duration).await
    }

    /// Turns a request into the model's inputs, or into an answer.
    ///
    /// # Errors
    /// See [`CallError`]; [`CallError::Internal`] if the world has no such hook.
    pub async fn preprocess(&self, call: CallContext, request: Request) -> Result<Prepared, CallError> {
        match call::call(&self.0, call, Job::Preprocess(request)).await? {
            Done::Prepared(prepared) => Ok(prepared),
            Done::Answer(_) | Done::Sent => Err(mixed_up()),
        }
    }

    /// Turns the model's outputs into the answer.
    ///
    /// # Errors
    /// See [`CallError`]; [`CallError::Internal`] if the world has no such hook.
    pub async fn postprocess(
        &self,
        call: CallContext,
        carry: Bytes,
        outputs: Vec<NamedTensor>,
    ) -> Result<Answer, CallError> {
        match call::call(&self.0, call, Job::Postprocess { carry, outputs }).await? {
            Done::Answer(answer) => Ok(answer),
            Done::Prepared(_) | Done::Sent => Err(mixed_up()),
        }
    }

    /// Answers a request, calling models on the way. Parts are put together.
    ///
    /// # Errors
    /// See [`CallError`]; [`CallError::Internal`] if the world has no such hook.
    pub async fn handle(&self, call: CallContext, request: Request) -> Result<Answer, CallError> {
        match call::call(&self.0, call, Job::Handle { request, parts: None }).await? {
            Done::Answer(answer) => Ok(answer),
            Done::Prepared(_) | Done::Sent => Err(mixed_up()),
        }
    }

    /// The same, and sends parts on while it runs. What comes back is the whole answer,
    /// or the last part of it; `None` if all of them have been sent.
    ///
    /// # Errors
    /// See [`CallError`]; after the first part they break the answer off.
    pub async fn handle_in_parts(
        &self,
        call: CallContext,
        request: Request,
        parts: PartSender,
    ) -> Result<Option<Answer>, CallError> {
        match call::call(&self.0, call, Job::Handle { request, parts: Some(parts) }).await? {
            Done::Answer(answer) => Ok(Some(answer)),
            Done::Sent => Ok(None),
            Done::Prepared(_) => Err(mixed_up()),
        }
    }

    /// Whether it imports what sends parts. A program sends what it writes.
    pub fn sends_parts(&self) -> bool {
        self.0.info.imports.iter().any(|name| contract::interface_of(name) == Some("parts"))
    }
}

/// Calls of a plugin at a time. One whose instances take several places each gets no more
/// than half of all places, so that its size takes nothing from others.
fn concurrency(wanted: usize, places: u32, places_max: u32) -> usize {
    if places == 1 {
        return wanted;
    }
    let half = places_max / places.saturating_mul(2);
    wanted.min(usize::try_from(half.max(1)).unwrap_or(usize::MAX))
}

fn mixed_up() -> CallError {
    CallError::Internal("a hook answered for another".to_owned())
}

impl Inner {
    pub(crate) fn new(
        (shared, stack): (Arc<Shared>, Arc<Stack>),
        options: PluginOptions,
        info: PluginInfo,
        pre: InstancePre<State>,
        exports: Exports,
        files: Files,
    ) -> Self {
        let places = engine::places_of(info.facts.memories, info.facts.tables).min(shared.instances_max);
        let concurrency = concurrency(options.limits.concurrency, places, shared.instances_max);
        let calls = Arc::new(Semaphore::new(concurrency));
        let is_program = info.world == World::Command;
        let program = is_program.then(|| run::GuestIndices::new(&pre).ok()).flatten();
        let account = Arc::new(Account::new(options.limits.memory_total_bytes));
        let profiling = Arc::default();
        Self {
            shared,
            stack,
            options,
            info,
            pre,
            exports,
            program,
            files,
            calls,
            concurrency: AtomicUsize::new(concurrency),
            places: AtomicU32::new(places),
            account,
            profiling,
            pace: Pace::default(),
            idle: Mutex::default(),
        }
    }

    /// Places among everybody's that one of its instances takes.
    pub(crate) fn places(&self) -> u32 {
        self.places.load(Ordering::Relaxed)
    }

    /// Takes into account what an instance really has. A component can make its parts by
    /// ways that cannot be counted before one is made: modules that are passed on, or known
    /// under other names. Nothing is called yet.
    pub(crate) fn note_made(&self, (memories, tables): (u64, u64)) {
        let places = engine::places_of(memories, tables).min(self.shared.instances_max);
        if places <= self.places() {
            return;
        }
        let before = self.concurrency.load(Ordering::Relaxed);
        let concurrency = concurrency(before, places, self.shared.instances_max);
        self.calls.forget_permits(before.saturating_sub(concurrency));
        self.concurrency.store(concurrency, Ordering::Relaxed);
        self.places.store(places, Ordering::Relaxed);
    }

    /// An instance that served before.
    pub(crate) fn take_idle(&self) -> Option<Instance> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop().map(|idle| idle.instance)
    }

    /// Keeps an instance for another call, if it has any left, is clean, and
    /// there is room; else drops it.
    pub(crate) fn put_back(&self, mut instance: Instance) {
        if !instance.may_serve_again() {
            return;
        }
        let places = self.places().min(self.shared.idle_max);
        let Ok(place) = Arc::clone(&self.shared.idle).try_acquire_many_owned(places) else { return };
        let idle = Idle { instance, _place: place };
        // No more than `concurrency` are ever alive, so this needs no bound.
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(idle);
    }

    /// Calls that a new instance will serve: up to a quarter fewer than allowed,
    /// by chance, so that instances started together do not end together, and
    /// a guest cannot count on its next call. A program runs once.
    pub(crate) fn uses(&self) -> u32 {
        if self.info.world == World::Command {
            return 1;
        }
        let most = self.options.reuse.max(1);
        let chance = u32::try_from(RandomState::new().hash_one(0) % u64::from(most / 4 + 1)).unwrap_or(0);
        most - chance
    }
}
