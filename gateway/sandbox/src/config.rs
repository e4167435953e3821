//! The limits of the sandbox and of each plugin.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::host::spans::SpanSink;

/// Limits and places that all plugins share.
#[derive(Debug, Clone)]
pub struct SandboxConfig {
    /// Threads that guests run on, apart from the ones that serve sockets and
    /// feed the engine, so that a guest's computing cannot delay them. Defaults
    /// to the number of processors.
    pub guest_threads: usize,
    /// Most guest calls under way at once, over all plugins. Each takes a slot
    /// of the instance pool (about 8 GiB of address space, of which only what
    /// guests touch is memory). 1,000 slots is far above what the threads can
    /// serve; more calls wait, then answer 429. As many again may wait for a model.
    pub instances_max: usize,
    /// The largest memory that any plugin's `memory_bytes` may ask for; a
    /// plugin that asks for more is not loaded. 512 MiB holds the big language
    /// runtimes (Python components start at 60 MiB) with room for data.
    pub memory_bytes_max: usize,
    /// Where compiled code is kept between starts; a subdirectory that only we
    /// can read is made in it. `None` keeps it in memory only.
    pub cache_dir: Option<PathBuf>,
    /// Whether [`crate::Sandbox::load`] may compile what the cache does not hold,
    /// in this process and without a bound on time and memory. For tools, tests
    /// and files that the operator vouches for; what comes from others goes
    /// through [`crate::verify::verify`] in a process of its own. Off unless asked for.
    pub compile_in_process: bool,
    /// How often a running guest is interrupted to look at its budget and to
    /// let others run. A guest overruns its budget by two ticks at most. 5 ms
    /// costs nothing measurable, and is far below any useful budget.
    pub epoch_tick: Duration,
    /// Where what plugins tell of their spans goes; `None` where nobody looks at traces.
    pub spans: Option<Arc<dyn SpanSink>>,
}

impl Default for SandboxConfig {
    fn default() -> Self {
        Self {
            guest_threads: std::thread::available_parallelism().map_or(2, std::num::NonZero::get),
            instances_max: 1000,
            memory_bytes_max: 512 << 20,
            cache_dir: None,
            compile_in_process: false,
            epoch_tick: Duration::from_millis(5),
            spans: None,
        }
    }
}

/// What a plugin may use of WASI, beside `wasi:logging` and `wasi:keyvalue`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum WasiPolicy {
    /// WASI 0.2 is there and empty: no files, environment, arguments or network;
    /// clocks and random numbers work, output goes to the log. What the
    /// standard libraries of most languages need to start.
    #[default]
    Empty,
    /// The same, and sockets that refuse every address: for language runtimes
    /// that import them without use.
    EmptyWithSockets,
    /// Any import of WASI is refused at load, by name.
    Refuse,
}

/// The limits of one plugin.
#[derive(Debug, Clone)]
pub struct PluginLimits {
    /// Bytes of all memories and tables of one instance together. What a guest
    /// makes the host hold (writers, results of models) is bounded by the same
    /// number once more. 128 MiB holds a body of the largest size several times
    /// over. A guest that is refused memory usually traps, which answers 502
    /// `plugin_memory`.
    pub memory_bytes: usize,
    /// The same for all instances of the plugin together, idle ones and what the host
    /// holds for them included. 2 GiB is 16 instances that use all they may, and far
    /// more than 64 ordinary ones. Exceeding it answers 502 `plugin_memory`.
    pub memory_total_bytes: usize,
    /// Stack of one call's own code, one of [`crate::STACK_BYTES`]; it counts for none of the
    /// above. 512 KiB is enough for every program that is not lost in recursion. Exceeding it
    /// answers 502 `plugin_stack`.
    pub stack_bytes: usize,
    /// How long one call may take, waiting for models and stores not counted.
    /// Hooks take microseconds to a few milliseconds; 100 ms is a hundred times
    /// that, so only a guest in a loop meets it. Exceeding it answers 504
    /// `plugin_timeout`.
    pub call_timeout: Duration,
    /// How long the trial at load may take: making an instance and running
    /// `init`. 1 s lets `init` parse a large table. Exceeding it fails the load.
    pub init_timeout: Duration,
    /// Calls under way at once. 64 keeps one plugin from taking every slot of
    /// the pool and bounds its memory to 64 times `memory_bytes`. More calls
    /// wait.
    pub concurrency: usize,
    /// How long one look-up in a store, or one request to another server, may take. These
    /// waits are not counted in `call_timeout`, so they need a limit of their own: 2 s is
    /// a hundred times what a store on the network needs. After it the plugin gets an
    /// error, and may do without.
    pub host_wait_max: Duration,
    /// How long a call waits for an instance before it answers 429. 1 s: after
    /// that, the caller's retry elsewhere is worth more than the wait.
    pub permit_wait_max: Duration,
    /// Bytes that one call may log; a note replaces the rest. 8 KiB is some
    /// 100 lines, and at 1,000 calls a second already 8 MB/s.
    pub log_bytes_per_call: usize,
    /// Bytes that may cross from the guest to the host at once, as arguments or
    /// as a result, and at once in the other direction from a store. 65 MiB is
    /// the largest tensor and room for names. Exceeding it answers 502
    /// `plugin_output`.
    pub hostcall_bytes: usize,
    /// Parts that one answer may have. 100,000 is more than any generated text has
    /// words, and little enough that a guest which sends without an end ends. Exceeding
    /// it answers 502 `plugin_output`, or breaks the answer off.
    pub answer_parts_max: usize,
    /// Bytes that all parts of one answer may have together. 64 MiB is what an answer
    /// in one part may have. Exceeding it is as above.
    pub answer_bytes_max: usize,
    /// Handles (tensors, writers, buckets, streams) that an instance may hold.
    /// 1,000 is above the inputs of any model. Exceeding it answers 502
    /// `plugin_output`.
    pub resources: usize,
}

impl Default for PluginLimits {
    fn default() -> Self {
        Self {
            memory_bytes: 128 << 20,
            memory_total_bytes: 2 << 30,
            stack_bytes: crate::STACK_BYTES_DEFAULT,
            call_timeout: Duration::from_millis(100),
            init_timeout: Duration::from_secs(1),
            concurrency: 64,
            host_wait_max: Duration::from_secs(2),
            permit_wait_max: Duration::from_secs(1),
            log_bytes_per_call: 8 << 10,
            hostcall_bytes: sluice_tensor::TENSOR_BYTES_MAX + (1 << 20),
            answer_parts_max: 100_000,
            answer_bytes_max: sluice_tensor::TENSOR_BYTES_MAX,
            resources: 1000,
        }
    }
}
