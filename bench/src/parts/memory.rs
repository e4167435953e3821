//! What a request costs in memory while it waits for the engine, apart from its connection.

use std::fmt::Write as _;
use std::time::Duration;

use tokio::task::JoinSet;

use crate::bars::Section;
use crate::client::Client;
use crate::load;
use crate::metrics::Metrics;
use crate::requests::Requests;
use crate::server::{Process, Setup, Variant};
use crate::{setups, workload};

/// Requests that wait.
const PARKED: usize = 1000;

/// How long they get to be where they wait; and how long memory may settle then.
const PATIENCE: Duration = Duration::from_secs(20);
const SETTLE: Duration = Duration::from_millis(200);

/// Models that take a minute for each request, one behind plugins and one before them, and
/// the same without it: on those, connections are warmed.
const CONFIG: &str = r#"
[server.limits]
request_timeout_default_ms = 60000

[plugins.hash]
file = "{repo}/guest-examples/dist/feature_hash.wasm"
config = { mode = "mlp" }

[plugins.top-k]
file = "{repo}/guest-examples/dist/rank_topk.wasm"

[models.quick]
engine = "sim"
file = "{here}/quick.sim.json"
max_batch_size = 64

[models.slow]
engine = "sim"
file = "{here}/slow.sim.json"
max_batch_size = 1
max_queue_size = 4096

[models.quick-mlp]
engine = "sim"
file = "{here}/quick-mlp.sim.json"
max_batch_size = 64

[models.slow-mlp]
engine = "sim"
file = "{here}/slow-mlp.sim.json"
max_batch_size = 1
max_queue_size = 4096

[pipelines.quick-score]
pre = "hash"
model = "quick-mlp"
post = "top-k"

[pipelines.slow-score]
pre = "hash"
model = "slow-mlp"
post = "top-k"
"#;

/// Two inputs of sixteen numbers.
const SIMPLE: &str = r#"{
  "inputs": [
    { "name": "INPUT0", "dtype": "INT32", "dims": [-1, 16] },
    { "name": "INPUT1", "dtype": "INT32", "dims": [-1, 16] }
  ],
  "outputs": [
    { "name": "OUTPUT0", "rule": "echo", "from": "INPUT0" },
    { "name": "OUTPUT1", "rule": "echo", "from": "INPUT1" }
  ],
  "latency_us": { "base": LATENCY }
}"#;

/// The row that `score` hashes its features into.
const MLP: &str = r#"{
  "inputs": [{ "name": "x", "dtype": "FP32", "dims": [-1, 1024] }],
  "outputs": [{ "name": "logit", "rule": "sum", "from": "x" }],
  "latency_us": { "base": LATENCY }
}"#;

/// Longer than this part.
const LONG_US: &str = "60000000";

/// Measures requests for a model, and for a model between plugins.
///
/// # Errors
/// The server fails, or does not let them wait.
pub async fn measure() -> Result<Section, String> {
    let with = |program: &str, latency: &str| program.replace("LATENCY", latency);
    let files = [
        ("quick.sim.json", with(SIMPLE, "0")),
        ("slow.sim.json", with(SIMPLE, LONG_US)),
        ("quick-mlp.sim.json", with(MLP, "0")),
        ("slow-mlp.sim.json", with(MLP, LONG_US)),
    ];
    let config = setups::write(CONFIG, &files.each_ref().map(|(name, text)| (*name, text.as_str())))?;
    let mut text = format!(
        "## Memory\n\n{PARKED} requests that wait for an engine, on as many connections. A connection has had one answer \
         before, of the same kind without the wait.\n\n\
         | request | its body, bytes | an idle connection, KiB | a waiting request beside it, KiB |\n|---|---|---|---|\n"
    );
    let score = workload::read("score")?;
    let cases = [
        ("V2, binary tensors", Requests::simple_binary("quick"), Requests::simple_binary("slow"), "slow"),
        (
            "`score`, fresh plugin instances",
            Requests::pipeline(&score, "quick-score"),
            Requests::pipeline(&score, "slow-score"),
            "slow-mlp",
        ),
    ];
    for (name, quick, slow, model) in cases {
        // A server of its own, so that no memory of the other case is used again.
        let server = Process::start(&Setup::of(Variant::Fresh).config(&config.path()))?;
        let (connection, request) = park(&server, &quick, &slow, model).await?;
        let body = slow.bodies.first().map_or(0, bytes::Bytes::len);
        // Writing to a string cannot fail.
        let _ = writeln!(text, "| {name} | {body} | {connection:.1} | {request:.1} |");
    }
    Ok(Section { text, bars: Vec::new() })
}

/// KiB of a connection, and of a request that waits on it.
async fn park(
    server: &Process,
    quick: &Requests,
    slow: &Requests,
    model: &str,
) -> Result<(f64, f64), String> {
    let rss = || load::rss_bytes(server.id()).ok_or("cannot read a server's memory");
    // Everything that comes once is there before the first reading: code, pools, threads.
    quick.load(server.http, 64, Duration::from_millis(500)).await?;
    tokio::time::sleep(SETTLE).await;
    let before = rss()?;
    let mut clients = Vec::new();
    for number in 0..PARKED {
        let mut client = Client::connect(server.http).await?;
        client.expect(quick, number).await?;
        clients.push(client);
    }
    tokio::time::sleep(SETTLE).await;
    let idle = rss()?;
    let mut waiting = JoinSet::new();
    for (number, mut client) in clients.into_iter().enumerate() {
        let slow = slow.clone();
        waiting.spawn(async move { client.send(&slow, number).await.map(|answer| answer.status) });
    }
    until_parked(server, model, &mut waiting).await?;
    tokio::time::sleep(SETTLE).await;
    let parked = rss()?;
    let each = |more: u64, less: u64| (more as f64 - less as f64) / 1024.0 / PARKED as f64;
    Ok((each(idle, before), each(parked, idle)))
}

/// Waits until all of them wait: one is with the engine, the others in front of it.
async fn until_parked(
    server: &Process,
    model: &str,
    waiting: &mut JoinSet<Result<http::StatusCode, String>>,
) -> Result<(), String> {
    let label = format!("model=\"{model}\"");
    let all = async {
        loop {
            let depth = Metrics::read(server).await?.sum("sluice_queue_depth", &[&label]);
            if depth >= (PARKED - 1) as f64 {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::select! {
        parked = tokio::time::timeout(PATIENCE, all) => parked.map_err(|_| "requests do not wait".to_owned())?,
        Some(answer) = waiting.join_next() => Err(format!("a request that should wait was answered: {answer:?}")),
    }
}
