//! What all plugins share: wasmtime's engines, their pools, the guests' threads.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use tokio::sync::Semaphore;
use wasmtime::{
    Config, Enabled, Engine, InstanceAllocationStrategy, PoolingAllocationConfig, WasmBacktraceDetails,
};

use crate::cache::Cache;
use crate::config::SandboxConfig;
use crate::error::LoadError;
use crate::host::spans::SpanSink;
use crate::limiter::{CORE_INSTANCES_MAX, MEMORIES_MAX, TABLES_MAX};
use crate::spawn::GuestThreads;
use crate::stacks::{Engines, HOST_STACK_BYTES, Stacks};
use crate::{priority, profile};

/// Memory kept with a free pool slot where the kernel can tell which pages were
/// touched (`PAGEMAP_SCAN`, Linux 6.7): resetting them is then cheaper than
/// faulting them in again. Most hooks touch less than this.
const RESIDENT_BYTES: usize = 1 << 20;

/// The same where it cannot: all of it is cleared after every call.
const RESIDENT_BYTES_WITHOUT_SCAN: usize = 64 << 10;

/// Table memory kept with a free slot.
const TABLE_RESIDENT_BYTES: usize = 512 << 10;

/// Elements of one table: the function pointers of a large program. Python's
/// runtime has some 20,000.
pub(crate) const TABLE_ELEMENTS_MAX: usize = 50_000;

/// Tables of one core module. One is the rule; languages with reference types
/// have a few more.
pub(crate) const TABLES_PER_MODULE_MAX: u32 = 4;

/// Tables and memories for each slot of the pool. They are address space, so there are not
/// as many as all components could have: a component that needs more takes several places
/// ([`places_of`]), and others' calls never find the pool empty. Core instances are only
/// counted, so the pool has all that there could be.
const TABLES_PER_SLOT: u32 = 4;
const MEMORIES_PER_SLOT: u32 = 2;

/// Kinds of places, each of which lends at least one instance whatever that needs: to run,
/// to wait, to be idle.
const KINDS_OF_PLACES: u32 = 3;

/// Places that an instance with so many memories and tables takes.
pub(crate) fn places_of(memories: u64, tables: u64) -> u32 {
    let most = memories.div_ceil(MEMORIES_PER_SLOT.into()).max(tables.div_ceil(TABLES_PER_SLOT.into()));
    // Far below: what a component may have is limited.
    u32::try_from(most.max(1)).unwrap_or(u32::MAX)
}

/// Frames of a trap's backtrace: enough to find the place, little enough for a
/// log line.
const BACKTRACE_FRAMES_MAX: usize = 20;

/// The largest pool: 36 TiB of address space, counting places to wait and idle instances.
const INSTANCES_MAX: usize = 2000;

/// See the module's description.
pub(crate) struct Shared {
    pub(crate) stacks: Stacks,
    pub(crate) threads: GuestThreads,
    /// How long a guest runs before it yields.
    pub(crate) tick: Duration,
    runtime: Option<Runtime>,
    /// Calls under way, over all plugins.
    pub(crate) calls: Arc<Semaphore>,
    /// Calls that wait for a model, over all plugins: see `places`.
    pub(crate) waiting: Arc<Semaphore>,
    /// Idle instances that wait to be used again, over all plugins. They hold
    /// slots of the pool beyond those that calls may take, so that no plugin's
    /// idle instances keep another plugin's calls out.
    pub(crate) idle: Arc<Semaphore>,
    /// How many there are of each: calls may run, wait and be idle.
    pub(crate) instances_max: u32,
    pub(crate) idle_max: u32,
    pub(crate) cache: Option<Cache>,
    pub(crate) memory_bytes_max: usize,
    pub(crate) compile_in_process: bool,
    /// Profiles being taken: ticks come faster meanwhile.
    pub(crate) profiles: Arc<AtomicUsize>,
    pub(crate) spans: Option<Arc<dyn SpanSink>>,
}

impl Shared {
    pub(crate) fn new(config: SandboxConfig) -> Result<Self, LoadError> {
        if config.instances_max == 0 || config.instances_max > INSTANCES_MAX {
            let message = format!("instances_max must be 1 to {INSTANCES_MAX}, not {}", config.instances_max);
            return Err(LoadError::Limits(message));
        }
        let idle_max = (config.instances_max / 4).max(1);
        let waiting_max = config.instances_max;
        let places = |count: usize| {
            u32::try_from(count).map_err(|_| LoadError::Limits("instances_max does not fit".to_owned()))
        };
        let slots = places(config.instances_max + waiting_max + idle_max)?;
        let stacks = Stacks::new(slots, config.memory_bytes_max)?;
        let cache = config.cache_dir.map(|dir| Cache::open(&dir, stacks.engine())).transpose()?;
        let runtime = guest_runtime(config.guest_threads)?;
        let profiles = Arc::new(AtomicUsize::new(0));
        start_ticker(stacks.engines(), config.epoch_tick, Arc::clone(&profiles))?;
        Ok(Self {
            stacks,
            threads: GuestThreads::new(runtime.handle().clone(), config.guest_threads),
            tick: config.epoch_tick,
            runtime: Some(runtime),
            calls: Arc::new(Semaphore::new(config.instances_max)),
            waiting: Arc::new(Semaphore::new(waiting_max)),
            idle: Arc::new(Semaphore::new(idle_max)),
            instances_max: places(config.instances_max)?,
            idle_max: places(idle_max)?,
            cache,
            memory_bytes_max: config.memory_bytes_max,
            compile_in_process: config.compile_in_process,
            profiles,
            spans: config.spans,
        })
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // The last plugin may be dropped on any thread, also on one of these:
        // waiting for the threads could wait for itself.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Settings of an engine that runs guests with so much stack.
pub(crate) fn engine_config(slots: u32, memory_bytes_max: usize, stack_bytes: usize) -> Config {
    let mut config = base_config();
    config
        .max_wasm_stack(stack_bytes)
        .async_stack_size(stack_bytes + HOST_STACK_BYTES)
        .allocation_strategy(InstanceAllocationStrategy::Pooling(pool_config(slots, memory_bytes_max)));
    config
}

/// Settings that only compile: without the pool, which reserves terabytes of addresses
/// before it holds anything, and on one thread. Neither changes the code that comes out:
/// an engine with a pool loads it (a test in the cache's suite says so).
pub(crate) fn compiler_config() -> Config {
    let mut config = base_config();
    config.allocation_strategy(InstanceAllocationStrategy::OnDemand).parallel_compilation(false);
    config
}

/// What code depends on. `verify::inspect` has the features of WebAssembly once more.
fn base_config() -> Config {
    let mut config = Config::new();
    config
        // Async exports are not in the contract, and support for them taxes
        // every call.
        .concurrency_support(false)
        .epoch_interruption(true)
        .memory_init_cow(true)
        .force_memory_init_memfd(true)
        // Only for foreign debuggers, and slow to register.
        .native_unwind_info(false)
        .wasm_backtrace_max_frames(std::num::NonZero::new(BACKTRACE_FRAMES_MAX))
        .wasm_backtrace_details(WasmBacktraceDetails::Enable)
        // The same input must give the same bytes.
        .cranelift_nan_canonicalization(true)
        .wasm_relaxed_simd(false)
        .wasm_memory64(false)
        .shared_memory(false);
    config
}

fn pool_config(slots: u32, memory_bytes_max: usize) -> PoolingAllocationConfig {
    let resident = if PoolingAllocationConfig::is_pagemap_scan_available() {
        RESIDENT_BYTES
    } else {
        RESIDENT_BYTES_WITHOUT_SCAN
    };
    let total = |per_slot: u32, most: u32| slots.saturating_mul(per_slot) + KINDS_OF_PLACES * most;
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(slots)
        .total_stacks(slots)
        .total_core_instances(slots.saturating_mul(CORE_INSTANCES_MAX))
        .total_tables(total(TABLES_PER_SLOT, TABLES_MAX))
        .total_memories(total(MEMORIES_PER_SLOT, MEMORIES_MAX))
        .max_memory_size(memory_bytes_max)
        .max_memories_per_component(MEMORIES_MAX)
        .max_tables_per_component(TABLES_MAX)
        .max_core_instances_per_component(CORE_INSTANCES_MAX)
        .max_tables_per_module(TABLES_PER_MODULE_MAX)
        .table_elements(TABLE_ELEMENTS_MAX)
        .pagemap_scan(Enabled::Auto)
        .linear_memory_keep_resident(resident)
        .table_keep_resident(TABLE_RESIDENT_BYTES.min(resident));
    pool
}

fn guest_runtime(threads: usize) -> Result<Runtime, LoadError> {
    let next = AtomicUsize::new(0);
    Builder::new_multi_thread()
        .worker_threads(threads.max(1))
        .thread_name_fn(move || format!("sluice-guest-{}", next.fetch_add(1, Ordering::Relaxed)))
        .enable_time()
        // Else the first guest of each thread pays for it.
        .on_thread_start(|| {
            Engine::tls_eager_initialize();
            // It is a little slower without.
            let _ = priority::wait_for_turns();
        })
        .build()
        .map_err(|error| LoadError::Io(format!("guest threads cannot be started: {error}")))
}

/// Moves the epoch of all engines on, until the last of them is gone.
fn start_ticker(engines: Engines, tick: Duration, profiles: Arc<AtomicUsize>) -> Result<(), LoadError> {
    let work = move || {
        while engines.increment_epochs() {
            let is_profiling = profiles.load(Ordering::Acquire) > 0;
            std::thread::sleep(if is_profiling { tick.min(profile::TICK) } else { tick });
        }
    };
    std::thread::Builder::new()
        .name("sluice-epoch".to_owned())
        .spawn(work)
        .map(drop)
        .map_err(|error| LoadError::Io(format!("epoch thread cannot be started: {error}")))
}
