//! What predictions notice of uploads that are made to hurt the compiler: the real
//! program, the same load, quiet and beside a stream of compile bombs, in turns.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::bomb;
use crate::load::{self, LoadPlan, LoadReport, Protocol};
use crate::workload::{self, Workload, repository};

/// The pipelines that are measured: one where the plugins are the work, one where the
/// model is.
const PIPELINES: [&str; 2] = ["score", "rank"];

/// How long the gateway gets to start a child, or to be rid of it.
const PATIENCE: Duration = Duration::from_secs(30);

/// The gateway; killed when dropped.
struct Gateway {
    child: Child,
    http: SocketAddr,
    admin: SocketAddr,
    _state: tempfile::TempDir,
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Gateway {
    fn start(program: &Path) -> Result<Self, String> {
        let text = |error: std::io::Error| format!("{}: {error}", program.display());
        let state = tempfile::tempdir().map_err(text)?;
        let mut child = Command::new(program)
            .args([
                "serve",
                "--http",
                "127.0.0.1:0",
                "--grpc",
                "127.0.0.1:0",
                "--admin",
                "127.0.0.1:0",
                "--config",
            ])
            .arg(repository().join("config/bench.toml"))
            .env("SLUICE_STATE__DIR", state.path().join("state"))
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(text)?;
        let table = child.stdout.take().ok_or("no output")?;
        let (mut http, mut admin) = (None, None);
        for line in BufReader::new(table).lines().map_while(Result::ok) {
            let place = if line.contains("/metrics") { &mut admin } else { &mut http };
            let address = line.split("http://").nth(1).and_then(|rest| rest.split('/').next()?.parse().ok());
            *place = address.or(*place);
            if admin.is_some() {
                break;
            }
        }
        match (http, admin) {
            (Some(http), Some(admin)) => Ok(Self { child, http, admin, _state: state }),
            _ => Err(format!("{} does not serve", program.display())),
        }
    }

    /// Whether it is verifying a component.
    fn is_verifying(&self) -> bool {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.child.id())).into_iter().flatten();
        let mut lists = tasks
            .filter_map(Result::ok)
            .filter_map(|task| std::fs::read_to_string(task.path().join("children")).ok());
        lists.any(|children| !children.trim().is_empty())
    }

    async fn until_verifying(&self, wanted: bool) -> Result<(), String> {
        let change = async {
            while self.is_verifying() != wanted {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, change).await.map_err(|_| "no bomb went off, or none ended".to_owned())
    }
}

/// Uploads bombs, one after the other, until it is dropped.
async fn throw(admin: SocketAddr, bombs: [Bytes; 2]) {
    for (number, bomb) in (0_u64..).zip(bombs.iter().cycle()) {
        // Refused, or cut off: either way the next one follows.
        let _ = put(admin, &format!("/admin/v1/plugins/bomb/versions/{number}"), bomb.clone()).await;
    }
}

async fn put(address: SocketAddr, path: &str, body: Bytes) -> Result<http::StatusCode, String> {
    let text = |error: hyper::Error| error.to_string();
    let stream = TcpStream::connect(address).await.map_err(|error| error.to_string())?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(text)?;
    // Ends with this future: whoever throws no more, lets go of the connection.
    let request = http::Request::put(path).header("host", "localhost").body(Full::new(body));
    let request = request.map_err(|error| error.to_string())?;
    let exchange = async {
        let response = sender.send_request(request).await.map_err(text)?;
        let status = response.status();
        response.into_body().collect().await.map_err(text)?;
        Ok(status)
    };
    tokio::select! {
        status = exchange => status,
        ended = connection => Err(format!("the connection ended: {ended:?}")),
    }
}

/// Measures, in turns, and gives a table.
///
/// # Errors
/// The gateway does not start, answers wrongly, or no bomb goes off.
pub async fn measure(
    program: &Path,
    concurrency: &[usize],
    rounds: usize,
    duration: Duration,
) -> Result<String, String> {
    let gateway = Gateway::start(program)?;
    let plugin = std::fs::read(repository().join("guest-examples/dist/rank_topk.wasm"));
    let plugin = plugin.map_err(|error| error.to_string())?;
    let bombs = [bomb::slow_to_compile(&plugin), bomb::hungry_to_compile(&plugin)].map(Bytes::from);
    let mut table = String::from(
        "| pipeline | connections | p50 ms, quiet / bombs | p99 ms, quiet / bombs | ratio of p99 | requests/s, quiet / bombs |\n\
         |---|---|---|---|---|---|\n",
    );
    for name in PIPELINES {
        let workload = workload::read(name)?;
        for connections in concurrency {
            let mut measured = Vec::new();
            for _ in 0..rounds {
                gateway.until_verifying(false).await?;
                let quiet = load(&gateway, &workload, *connections, duration).await?;
                let thrower = tokio::spawn(throw(gateway.admin, bombs.clone()));
                gateway.until_verifying(true).await?;
                let loud = load(&gateway, &workload, *connections, duration).await?;
                thrower.abort();
                measured.push((quiet, loud));
            }
            row(&mut table, name, *connections, &measured);
        }
    }
    Ok(table)
}

async fn load(
    gateway: &Gateway,
    workload: &Workload,
    concurrency: usize,
    duration: Duration,
) -> Result<LoadReport, String> {
    let report = load::run(LoadPlan {
        address: gateway.http,
        protocol: Protocol::Http1,
        paths: vec![format!("/v1/models/{}:predict", workload.name)],
        headers: vec![("content-type".to_owned(), "application/json".to_owned())],
        bodies: workload.bodies.clone(),
        concurrency,
        warmup: Duration::from_millis(300),
        duration,
        check: Some(workload.check.clone()),
    })
    .await;
    match &report.first_error {
        None => Ok(report),
        Some(error) => Err(format!("{}: {error}", workload.name)),
    }
}

/// One line of the table. Other work on the machine comes and goes within seconds, so each
/// round is compared with its neighbour: the ratio is the one in the middle of theirs.
fn row(table: &mut String, name: &str, connections: usize, rounds: &[(LoadReport, LoadReport)]) {
    let of = |number: fn(&LoadReport) -> f64| {
        let quiet = rounds.iter().map(|(quiet, _)| number(quiet)).collect();
        let loud = rounds.iter().map(|(_, loud)| number(loud)).collect();
        (middle(quiet), middle(loud))
    };
    let p50 = of(|round| round.p50_us as f64 / 1e3);
    let p99 = of(|round| round.p99_us as f64 / 1e3);
    let throughput = of(|round| round.throughput_per_s);
    let ratio = |(quiet, loud): &(LoadReport, LoadReport)| loud.p99_us as f64 / quiet.p99_us as f64;
    let ratio = middle(rounds.iter().map(ratio).collect());
    // Writing to a string cannot fail.
    let _ = writeln!(
        table,
        "| `{name}` | {connections} | {:.2} / {:.2} | {:.2} / {:.2} | {ratio:.2} | {:.0} / {:.0} |",
        p50.0, p50.1, p99.0, p99.1, throughput.0, throughput.1,
    );
}

fn middle(mut numbers: Vec<f64>) -> f64 {
    numbers.sort_by(f64::total_cmp);
    numbers.get(numbers.len() / 2).copied().unwrap_or(f64::NAN)
}
