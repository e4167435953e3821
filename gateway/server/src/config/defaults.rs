//! Defaults and bounds, each with its reason. Every one is a key of the file.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::ops::RangeInclusive;
use std::time::Duration;

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// Bytes of a configuration file. Ours are a few kilobytes; a megabyte is a mistake
/// (a model in the wrong place, an endless pipe), and is refused before it is read.
pub const CONFIG_BYTES_MAX: u64 = MIB;

/// Problems that one check lists. Beyond this nobody reads on, and a hostile file
/// must not make a hostile log.
pub const PROBLEMS_MAX: usize = 100;

/// Entries of each kind (models, plugins, pipelines, stores). Each becomes metric
/// labels and threads or instances; a node serves dozens.
pub const ENTRIES_MAX: usize = 1024;

/// Versions of one model that are served side by side. Each has its own weights, queue and
/// threads; two or three are usual while callers move from one to the next.
pub const VERSIONS_MAX: usize = 64;
/// Inputs or outputs that a model declares, and files of labels: as many tensors as a request
/// may have.
pub const DECLARED_TENSORS_MAX: usize = 64;
/// Labels of one output, in bytes: a hundred thousand words.
pub const LABEL_BYTES_MAX: u64 = MIB;
/// Warm-ups of one model. Each is for another size or kind of input.
pub const WARMUPS_MAX: usize = 64;
/// Runs of one warm-up. The start waits for all of them.
pub const WARMUP_RUNS_MAX: u32 = 10_000;

/// What the server's metadata calls it.
pub const SERVER_NAME: &str = "sluice";
/// Most routes of one pipeline's own, and of all pipelines together: a request that no
/// protocol takes is compared with each.
pub const PIPELINE_ROUTES_MAX: usize = 16;
/// See above.
pub const ROUTES_MAX: usize = 256;

/// Predictions over HTTP: Triton's port, on the machine itself only.
pub const HTTP: SocketAddr = loopback(8000);
/// Predictions over gRPC: Triton's port.
pub const GRPC: SocketAddr = loopback(8001);
/// Metrics and administration: Triton's metrics port. Other than loopback addresses need
/// TLS and tokens.
pub const ADMIN: SocketAddr = loopback(8002);

/// Regions of shared memory that are registered, of all clients together: each holds a file
/// descriptor. A client has one for each tensor at most; more answer 429.
pub const SHARED_REGIONS: u64 = 64;
/// Bounds of the above.
pub const SHARED_REGIONS_RANGE: RangeInclusive<u64> = 1..=4096;
/// Bytes of all of them. They are the clients' memory, but outputs make pages of it real that
/// were none yet, and a region keeps memory that its client has long removed. As much as all
/// bodies at a time; more answers 429.
pub const SHARED_BYTES: u64 = GIB;
/// Bounds of the above.
pub const SHARED_BYTES_RANGE: RangeInclusive<u64> = 1..=1024 * GIB;
/// Longest beginning that names of shared memory can be bound to: that of a file's name.
pub const SHARED_PREFIX_BYTES_MAX: usize = 255;

/// A shutdown waits this long for requests under way, then cuts them and exits with
/// an error. Pingora waits 300 s, linkerd 120 s; a prediction takes at most
/// `request_timeout_max_ms`, and Kubernetes kills after 30 s by default.
pub const DRAIN: Duration = Duration::from_secs(30);
/// A shutdown goes on accepting for this long after readiness turned false, so that
/// load balancers notice first. 0: nobody balances over a single machine.
pub const DRAIN_DELAY: Duration = Duration::ZERO;
/// Bounds of both.
pub const DRAIN_RANGE: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(3600);

/// A request body: Triton's default. Larger ones are answered 413 before they are
/// read, or where they cross the limit.
pub const BODY_BYTES: u64 = 64 * MIB;
/// Bounds of the above.
pub const BODY_BYTES_RANGE: RangeInclusive<u64> = 1..=2 * GIB;
/// A body arrives within this time or is answered 408, and earlier if it stands still; it
/// holds the bytes of the budget that have come, and no place of a request.
pub const BODY_TIMEOUT: Duration = Duration::from_secs(30);
/// A reader takes something of its answer within this time, or its connection is closed: it
/// makes us hold the answer, whose bytes count with those of the bodies. As long as a body
/// may take; between once and one and a half times as long passes.
pub const WRITE_TIMEOUT: Duration = Duration::from_secs(30);
/// Headers arrive within this time or the connection is closed (slowloris).
pub const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// A connection of HTTP/1 may be idle for this long between two requests. Longer than proxies
/// keep theirs (most 60 s): whoever closes first must be the one that sends, or requests are
/// lost that were sent just then.
pub const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(75);
/// All headers of a request together; answered 431 above. Twice what browsers and
/// tracing baggage need.
pub const HEADER_BYTES: u64 = 16 * KIB;
/// Bounds of the above; hyper needs 8 KiB to read anything.
pub const HEADER_BYTES_RANGE: RangeInclusive<u64> = 8 * KIB..=MIB;
/// Headers of a request: hyper's own default; answered 431 above.
pub const HEADERS: u64 = 100;
/// Connections at a time; further ones are closed as they come. Idle ones cost about
/// 20 KiB each.
pub const CONNECTIONS: u64 = 10_000;
/// Streams at a time on one HTTP/2 connection; more are refused. Browsers and proxies
/// expect 100.
pub const STREAMS: u64 = 100;
/// Requests at a time, in all rooms together; answered 503 above. Queues of models
/// are much shorter, so this only guards against what waits beside them. A request whose body
/// is still arriving is none of them; those are as many as connections may be.
pub const IN_FLIGHT: u64 = 4096;
/// Bytes of all bodies, of what they are decoded to and of answers that are not taken yet, at
/// a time; a request is answered 503 above, before its body is buffered.
/// Sixteen of the largest, or thousands of ordinary ones.
pub const IN_FLIGHT_BYTES: u64 = GIB;
/// Bounds of the above.
pub const IN_FLIGHT_BYTES_RANGE: RangeInclusive<u64> = 1..=1024 * GIB;
/// The deadline of a request that names none; answered 504 after it.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// The longest deadline a request may name; longer ones are cut to this.
pub const REQUEST_TIMEOUT_MAX: Duration = Duration::from_secs(60);
/// Nesting of a JSON body; answered 400 above. Triton stops at 100, `serde_json` at
/// 128; no tensor has more than 8 dimensions.
pub const JSON_DEPTH: u64 = 64;
/// Bounds of the above; `serde_json` itself stops at 128.
pub const JSON_DEPTH_RANGE: RangeInclusive<u64> = 4..=127;
/// Bounds of every count of headers, connections, streams and requests.
pub const COUNT_RANGE: RangeInclusive<u64> = 1..=1_000_000;
/// Bounds of every timeout: one that is zero would refuse everything.
pub const TIMEOUT_RANGE: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(3600);

/// Threads of one run. More than a large machine has only adds waiting.
pub const THREADS_RANGE: RangeInclusive<u64> = 0..=1024;

/// Instances that may exist at a time, of all plugins together; further calls wait,
/// then are answered 429. Each reserves address space, not memory; a thousand is far
/// above what the guest threads can serve.
pub const SANDBOX_INSTANCES: u64 = 1000;
/// Bounds of the above: 10,000 × 4 GiB still fits in the address space.
pub const SANDBOX_INSTANCES_RANGE: RangeInclusive<u64> = 1..=2000;
/// The most memory that any plugin may be given: room for the big language runtimes
/// (Python components start at 60 MiB) with data.
pub const SANDBOX_MEMORY: u64 = 512 * MIB;
/// Memory of one plugin instance, memories and tables in total. A guest that asks for
/// more is refused and answered 502. It bounds time too: a `memory.copy` cannot be
/// interrupted.
pub const PLUGIN_MEMORY: u64 = 128 * MIB;
/// Bounds of the above: one page of WebAssembly to all that 32 bits can address.
pub const PLUGIN_MEMORY_RANGE: RangeInclusive<u64> = 64 * KIB..=4 * GIB;
/// A plugin file. Rust components have some 100 KiB, JavaScript ones up to 12 MiB; Python
/// ones have 18 MiB with their interpreter, for which this is to be raised.
pub const PLUGIN_BYTES: u64 = 16 * MIB;
/// Bounds of the above.
pub const PLUGIN_BYTES_RANGE: RangeInclusive<u64> = 1..=GIB;
/// How often running guests are checked against their time: the most that a call
/// overstays, times two. Shorter ticks cost every guest loop.
pub const EPOCH_TICK: Duration = Duration::from_millis(5);
/// Bounds of the above.
pub const EPOCH_TICK_RANGE: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(1);

/// `service.name` of traces.
pub const SERVICE_NAME: &str = "sluice";
/// All requests without a sampled parent are traced.
pub const SAMPLE_RATIO: f64 = 1.0;
/// Log lines from `info` up; ONNX Runtime's own from `warn`, for it is talkative.
pub const LOG_FILTER: &str = "info,ort=warn";

/// A store file; it is held in memory.
pub const STORE_BYTES: u64 = 64 * MIB;
/// Bounds of the above.
pub const STORE_BYTES_RANGE: RangeInclusive<u64> = 1..=64 * GIB;

/// Batches of a model that run at a time: one, because a CPU engine already spreads a
/// run over its threads.
pub const INSTANCES: u64 = 1;
/// Bounds of the above: each is a thread with buffers of its own.
pub const INSTANCES_RANGE: RangeInclusive<u64> = 1..=64;
/// Rows of a batch. Beyond some dozens a CPU gains nothing more.
pub const BATCH_ROWS: u64 = 64;
/// Bounds of the above; 0 is a model that takes no batches.
pub const BATCH_ROWS_RANGE: RangeInclusive<u64> = 0..=65_536;
/// How long a batch that is not full waits: not at all, so that one caller alone has
/// the shortest latency. Rows that arrive during a run still share the next one.
pub const QUEUE_DELAY: Duration = Duration::ZERO;
/// Bounds of the above.
pub const QUEUE_DELAY_RANGE: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(10);
/// Requests that wait for a model; answered 429 above.
pub const QUEUE_SIZE: u64 = 1024;
/// Bounds of the batches that run at a time, of all models together; 0 for no bound.
pub const RUNS_RANGE: RangeInclusive<u64> = 0..=4096;
/// Bounds of the units of a resource.
pub const UNITS_RANGE: RangeInclusive<u64> = 1..=1_000_000;
/// Inputs, outputs or sizes of a model's padding: more than any model has.
pub const PADDING_LIST_MAX: usize = 64;
/// Bounds of the dimension that is padded: behind the batch's.
pub const PADDING_AXIS_RANGE: RangeInclusive<u64> = 1..=7;
/// Bounds of a size that is padded to. A million tokens are beyond any model.
pub const PADDING_SIZE_RANGE: RangeInclusive<u64> = 1..=1_048_576;
/// Bounds of the requests of one priority that wait; 0 for no bound of their own.
pub const LEVEL_QUEUE_RANGE: RangeInclusive<u64> = 0..=1_048_576;
/// Bounds of the weight of a batch; 0 for no bound. An element is a weight of one, so
/// this is the largest tensor there may be.
pub const BATCH_WEIGHT_RANGE: RangeInclusive<u64> = 0..=4_294_967_295;
/// Preferred sizes of a model's batches: more than anybody tunes.
pub const PREFERRED_SIZES_MAX: usize = 64;
/// Bytes of the response cache: a few ten thousand small answers, and little beside a model.
pub const CACHE_BYTES: u64 = 64 * MIB;
/// Bounds of the above.
pub const CACHE_BYTES_RANGE: RangeInclusive<u64> = 64 * KIB..=64 * GIB;
/// A sequence that is silent for so long ends: a second, as Triton has it.
pub const SEQUENCE_IDLE_US: u64 = 1_000_000;
/// Bounds of the above: up to a day, for sequences that people drive by hand.
pub const SEQUENCE_IDLE_US_RANGE: RangeInclusive<u64> = 1..=86_400_000_000;
/// Sequences of an instance at a time, where they are not the rows of a batch.
pub const SEQUENCE_CANDIDATES_RANGE: RangeInclusive<u64> = 1..=65_536;
/// Sequences of a model at a time, over all instances: each costs some 200 bytes before it
/// begins, and its state after.
pub const SEQUENCES_MAX: usize = 65_536;
/// Bytes that are kept of one sequence: a megabyte holds the state of recurrent models; a
/// state that grows with each request needs more. What a model can take in all is this
/// times its slots.
pub const SEQUENCE_STATE_BYTES: u64 = MIB;
/// Bounds of the above.
pub const SEQUENCE_STATE_BYTES_RANGE: RangeInclusive<u64> = 1..=GIB;
/// Control inputs, and states, of a model: more is a mistake.
pub const SEQUENCE_TENSORS_MAX: usize = 256;
/// The version of a model that names none, as Triton numbers them.
pub const MODEL_VERSION: &str = "1";

/// Calls that one instance serves: one, so that no state outlives a request.
pub const REUSE: u64 = 1;
/// Bounds of the above. A reused instance is only given up after this many calls, so
/// leaks of the guest add up.
pub const REUSE_RANGE: RangeInclusive<u64> = 1..=1_000_000;
/// Time for one call of a plugin; answered 504 after it. Feature hashing takes far
/// below a millisecond.
pub const CALL_TIMEOUT: Duration = Duration::from_millis(100);
/// Time for the trial at load: making an instance and running `init`. Exceeding it
/// fails the load. A second lets `init` parse a large table.
pub const INIT_TIMEOUT: Duration = Duration::from_secs(1);
/// Time for one look-up in a store, or one request to another server, of a plugin. These
/// waits are not part of its call's time, so they need a limit of their own; after it the
/// plugin gets an error. 2 s is a hundred times what a store on the network needs.
pub const HOST_WAIT: Duration = Duration::from_secs(2);
/// Time that a call waits until its plugin may take it; answered 429 after it. After a
/// second, trying again elsewhere is worth more than the wait.
pub const PERMIT_WAIT: Duration = Duration::from_secs(1);
/// Bytes that may cross between a plugin and the gateway at once, either way, and that the
/// bodies of its HTTP requests may have together in one call; exceeding it is answered 502.
/// 65 MiB is the largest tensor and room for names.
pub const HOSTCALL_BYTES: u64 = 65 * MIB;
/// Bounds of the above.
pub const HOSTCALL_BYTES_RANGE: RangeInclusive<u64> = 64 * KIB..=GIB;
/// Stack of one call's own code; exceeding it is answered 502. Enough for every program that
/// is not lost in recursion.
pub const STACK_BYTES: usize = sluice_sandbox::STACK_BYTES_DEFAULT;
/// What the above may be.
pub const STACK_BYTES_ALLOWED: [usize; sluice_sandbox::STACK_BYTES.len()] = sluice_sandbox::STACK_BYTES;
/// Bytes that one call may log; the rest is dropped and counted. 8 KiB is some 100
/// lines, and at 1,000 calls a second already 8 MB/s.
pub const LOG_BYTES: u64 = 8 * KIB;
/// Bounds of the above.
pub const LOG_BYTES_RANGE: RangeInclusive<u64> = 0..=MIB;
/// Parts that one answer may have; exceeding it is answered 502, or breaks the answer
/// off. 100,000 is more than any generated text has words, and a guest that sends without
/// an end ends.
pub const ANSWER_PARTS: u64 = 100_000;
/// Bounds of the above.
pub const ANSWER_PARTS_RANGE: RangeInclusive<u64> = 1..=1_000_000_000;
/// Bytes that the parts of one answer may have together; exceeding it is as above. 64 MiB
/// is what an answer in one part may have.
pub const ANSWER_BYTES: u64 = 64 * MIB;
/// Bounds of the above. What is sent is not kept, so this may be above any memory.
pub const ANSWER_BYTES_RANGE: RangeInclusive<u64> = KIB..=1024 * 1024 * MIB;
/// Handles (tensors, writers, buckets, streams) that an instance may hold; exceeding
/// it is answered 502. A thousand is above the inputs of any model.
pub const RESOURCES: u64 = 1000;
/// Calls of one plugin at a time; further ones wait.
pub const CONCURRENCY: u64 = 64;

/// A file of certificates or a key, PEM: the bundles of whole systems have some 200 KiB.
pub const PEM_BYTES_MAX: u64 = MIB;

/// Names that the admin listener answers to beside its own: a load balancer or two.
pub const ADMIN_HOSTS_MAX: usize = 16;

/// Versions of a plugin that stay compiled beside those that serve, so that going back to
/// one takes effect for the next request. Each costs its machine code, some 300 KiB for a
/// Rust component, 35 MiB for a Python one.
pub const VERSIONS_KEPT: u64 = 3;
/// Bounds of the above.
pub const VERSIONS_KEPT_RANGE: RangeInclusive<u64> = 0..=64;

/// Checks of components at a time. One leaves the other core to predictions; compiling
/// is niced besides.
pub const VERIFY_CHILDREN: u64 = 1;
/// Bounds of the above.
pub const VERIFY_CHILDREN_RANGE: RangeInclusive<u64> = 1..=64;
/// Checks that wait for their turn; more are answered 429. Twenty uploads at once fit.
pub const VERIFY_WAITING: u64 = 32;
/// Bounds of the above.
pub const VERIFY_WAITING_RANGE: RangeInclusive<u64> = 0..=1024;
/// Processor time of one check. A Rust component takes 0.1 s, a Python one 17 s.
pub const VERIFY_CPU: Duration = Duration::from_secs(60);
/// Time of one check on the clock: niced, it may get little of a busy machine.
pub const VERIFY_TIMEOUT: Duration = Duration::from_secs(120);
/// Address space of one check. A Python component takes some 700 MiB to compile.
pub const VERIFY_MEMORY: u64 = 2 * GIB;
/// Bounds of the above.
pub const VERIFY_MEMORY_RANGE: RangeInclusive<u64> = 256 * MIB..=64 * GIB;

/// Time for a plugin's HTTP call to connect.
pub const EGRESS_CONNECT: Duration = Duration::from_secs(1);
/// Time for a plugin's whole HTTP call; the request's own deadline is often earlier.
pub const EGRESS_TIMEOUT: Duration = Duration::from_secs(5);
/// Bytes of one body of a plugin's HTTP call, either way.
pub const EGRESS_BODY_BYTES: u64 = 4 * MIB;
/// Bounds of the above.
pub const EGRESS_BODY_BYTES_RANGE: RangeInclusive<u64> = 1..=GIB;

/// Time for one command of a Redis store. A look-up that takes longer than a model's run
/// is worth less than an answer without it.
pub const REDIS_TIMEOUT: Duration = Duration::from_millis(250);

/// Memory of all instances of one plugin together: eight of the largest at once, or
/// hundreds of usual ones. An instance that would need more is refused.
pub const PLUGIN_MEMORY_TOTAL: u64 = GIB;
/// Bounds of the above.
pub const PLUGIN_MEMORY_TOTAL_RANGE: RangeInclusive<u64> = 64 * KIB..=1024 * GIB;
/// Hosts, directories, arguments or variables of one plugin.
pub const PLUGIN_LIST_MAX: usize = 64;

/// How long a version that was just activated is watched, and taken back if its calls
/// fail. Five minutes see the usual kinds of request.
pub const BAKE: Duration = Duration::from_secs(300);
/// Bounds of the above; 0 never takes a version back.
pub const BAKE_RANGE: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(7 * 24 * 3600);
/// The share of failed calls above which a version is taken back.
pub const BAKE_ERROR_RATE: f64 = 0.05;
/// Calls before the share counts: fewer are an accident.
pub const BAKE_CALLS: u64 = 20;

/// How often a repository is looked at, where its changes load models: as Triton does.
pub const REPOSITORY_POLL: u64 = 15;
/// Bounds of the above, in seconds.
pub const REPOSITORY_POLL_RANGE: RangeInclusive<u64> = 1..=86_400;
/// Folders of models: names are joined into one list, so more than a few are a mistake.
pub const REPOSITORIES_MAX: usize = 16;

const fn loopback(port: u16) -> SocketAddr {
    SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, port))
}
