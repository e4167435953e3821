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

/// Predictions over HTTP: Triton's port, on the machine itself only.
pub const HTTP: SocketAddr = loopback(8000);
/// Predictions over gRPC: Triton's port.
pub const GRPC: SocketAddr = loopback(8001);
/// Metrics and administration: Triton's metrics port. There is no authentication on
/// it yet, so other than loopback addresses are refused.
pub const ADMIN: SocketAddr = loopback(8002);

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
/// A body arrives within this time or is answered 408; it holds bytes of the budget
/// meanwhile, and no permit of a model.
pub const BODY_TIMEOUT: Duration = Duration::from_secs(30);
/// Headers arrive within this time or the connection is closed (slowloris).
pub const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// All headers of a request together; answered 431 above. Twice what browsers and
/// tracing baggage need.
pub const HEADER_BYTES: u64 = 16 * KIB;
/// Bounds of the above; hyper needs 8 KiB to read anything.
pub const HEADER_BYTES_RANGE: RangeInclusive<u64> = 8 * KIB..=MIB;
/// Headers of a request: hyper's own default; answered 431 above.
pub const HEADERS: u64 = 100;
/// Connections at a time; further ones wait in the kernel. Idle ones cost about
/// 20 KiB each.
pub const CONNECTIONS: u64 = 10_000;
/// Streams at a time on one HTTP/2 connection; more are refused. Browsers and proxies
/// expect 100.
pub const STREAMS: u64 = 100;
/// Requests at a time, in all rooms together; answered 503 above. Queues of models
/// are much shorter, so this only guards against slow bodies and slow readers.
pub const IN_FLIGHT: u64 = 4096;
/// Bytes of all bodies at a time; answered 503 above, before the body is buffered.
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
/// A plugin file. Rust components have some 100 KiB; Python ones with their
/// interpreter about 40 MiB, for which this is to be raised.
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
/// Bytes that one call may log; the rest is dropped and counted. 8 KiB is some 100
/// lines, and at 1,000 calls a second already 8 MB/s.
pub const LOG_BYTES: u64 = 8 * KIB;
/// Bounds of the above.
pub const LOG_BYTES_RANGE: RangeInclusive<u64> = 0..=MIB;
/// Handles (tensors, writers, buckets, streams) that an instance may hold; exceeding
/// it is answered 502. A thousand is above the inputs of any model.
pub const RESOURCES: u64 = 1000;
/// Calls of one plugin at a time; further ones wait.
pub const CONCURRENCY: u64 = 64;

const fn loopback(port: u16) -> SocketAddr {
    SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, port))
}
