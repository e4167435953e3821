//! The servers that are measured: each a process of its own, so that its memory is its
//! own, started from this same program.

use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};

use sluice::app::{Gateway, StartOptions};
use sluice::catalog::Compile;
use sluice::config::{self, Overrides};

use crate::echo::Echo;
use crate::{counting, native, workload};

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Variant {
    /// WASM plugins, a fresh instance for each call.
    Fresh,
    /// WASM plugins, instances reused 1,000 times.
    Reuse,
    /// The plugins' functions compiled into the pipeline.
    Native,
    /// A bare hyper server that answers with the body.
    Echo,
}

impl Variant {
    /// All of them, in the order of the report.
    pub const ALL: [Self; 4] = [Self::Fresh, Self::Reuse, Self::Native, Self::Echo];

    /// For the report.
    pub fn name(self) -> &'static str {
        match self {
            Self::Fresh => "wasm, fresh instance",
            Self::Reuse => "wasm, reused 1000x",
            Self::Native => "native in the pipeline",
            Self::Echo => "bare hyper echo",
        }
    }
}

/// How a server is started.
#[derive(Debug, Clone)]
pub struct Setup {
    /// What it is.
    pub variant: Variant,
    /// Another configuration than `config/bench.toml`.
    pub config: Option<PathBuf>,
    /// For the echo: answers so many bytes, and not what was sent.
    pub answer_bytes: Option<usize>,
    /// Whether its allocations are counted.
    pub count: bool,
}

impl Setup {
    /// A variant with the benchmark's configuration.
    pub fn of(variant: Variant) -> Self {
        Self { variant, config: None, answer_bytes: None, count: false }
    }

    /// The same with another configuration.
    #[must_use]
    pub fn config(self, path: &Path) -> Self {
        Self { config: Some(path.to_owned()), ..self }
    }
}

/// A server process; killed when dropped.
pub struct Process {
    child: Child,
    output: BufReader<ChildStdout>,
    /// Where it takes requests.
    pub http: SocketAddr,
    /// Where its metrics are; the same as `http` for the echo.
    pub admin: SocketAddr,
    /// Where it takes gRPC; the same as `http` for the echo.
    pub grpc: SocketAddr,
}

impl Process {
    /// Starts a variant and waits until it listens.
    ///
    /// # Errors
    /// It did not start.
    pub fn start(setup: &Setup) -> Result<Self, String> {
        let program = std::env::current_exe().map_err(|error| error.to_string())?;
        let name = format!("{:?}", setup.variant).to_lowercase();
        let mut command = Command::new(program);
        command.args(["--serve", &name]).stdin(Stdio::piped()).stdout(Stdio::piped());
        if let Some(config) = &setup.config {
            command.arg("--config").arg(config);
        }
        if let Some(bytes) = setup.answer_bytes {
            command.args(["--answer-bytes", &bytes.to_string()]);
        }
        if setup.count {
            command.arg("--count");
        }
        let mut child = command.spawn().map_err(|error| error.to_string())?;
        let mut output = BufReader::new(child.stdout.take().ok_or("no output")?);
        let mut line = String::new();
        output.read_line(&mut line).map_err(|error| error.to_string())?;
        let addresses = line.split_whitespace().map(str::parse::<SocketAddr>);
        match addresses.collect::<Result<Vec<_>, _>>().as_deref() {
            Ok(&[http, admin, grpc]) => Ok(Self { child, output, http, admin, grpc }),
            _ => {
                let _ = child.kill();
                let _ = child.wait();
                Err(format!("the {name} server did not start"))
            }
        }
    }

    /// The process's id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Says a line to a server that counts, and hears its line.
    ///
    /// # Errors
    /// It does not answer.
    pub fn ask(&mut self, line: &str) -> Result<String, String> {
        let input = self.child.stdin.as_mut().ok_or("no input")?;
        writeln!(input, "{line}").map_err(|error| error.to_string())?;
        self.hear()
    }

    /// The next line of a server that counts.
    ///
    /// # Errors
    /// There is none.
    pub fn hear(&mut self) -> Result<String, String> {
        let mut answer = String::new();
        self.output.read_line(&mut answer).map_err(|error| error.to_string())?;
        if answer.is_empty() { Err("the server has ended".to_owned()) } else { Ok(answer) }
    }

    /// Processor time that it has used so far, of all its threads, in seconds.
    ///
    /// # Errors
    /// The system does not say.
    pub fn cpu_seconds(&self) -> Result<f64, String> {
        let path = format!("/proc/{}/stat", self.id());
        let text = std::fs::read_to_string(&path).map_err(|error| format!("{path}: {error}"))?;
        // The name may hold anything, and ends with the last bracket; then the fields from the third on.
        let fields = text.rsplit(')').next().unwrap_or_default().split_whitespace();
        let ticks: Vec<f64> = fields.skip(11).take(2).filter_map(|field| field.parse().ok()).collect();
        match ticks[..] {
            [user, system] => Ok((user + system) / TICKS_PER_SECOND),
            _ => Err(format!("{path}: not as expected")),
        }
    }
}

/// Linux shows processor time in hundredths of a second to everybody, whatever it counts in.
const TICKS_PER_SECOND: f64 = 100.0;

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Serves a variant until the process is killed; prints its addresses.
///
/// # Errors
/// It cannot start.
pub async fn serve(setup: Setup) -> Result<(), String> {
    if setup.count {
        counting::answer_lines()?;
    }
    let variant = setup.variant;
    if variant == Variant::Echo {
        let echo = Echo::start(2, setup.answer_bytes).map_err(|error| error.to_string())?;
        announce([echo.address(); 3]);
        return std::future::pending().await;
    }
    let mut overrides = Overrides::from_environment()
        .flag("server.http", "127.0.0.1:0")
        .flag("server.grpc", "127.0.0.1:0")
        .flag("server.admin", "127.0.0.1:0");
    // The configurations that are written for a part say themselves what is reused.
    if variant == Variant::Reuse && setup.config.is_none() {
        for plugin in ["hash-mlp", "hash-dlrm", "top-k"] {
            overrides = overrides.flag(&format!("plugins.{plugin}.reuse"), 1000);
        }
    }
    let natives = if variant == Variant::Native { native::stand_ins()? } else { Default::default() };
    let path = setup.config.unwrap_or_else(|| workload::repository().join("config/bench.toml"));
    let config = config::load(&path, &overrides).map_err(|error| error.to_string())?;
    // This program has no `verify-plugin`, and brings its own plugins.
    let options = StartOptions { overrides, natives, compile: Compile::InProcess, ..StartOptions::default() };
    let gateway = Gateway::start(config, options).await.map_err(|error| error.to_string())?;
    let grpc = gateway.grpc_address().ok_or("no address for gRPC")?;
    announce([gateway.http_address(), gateway.admin_address(), grpc]);
    gateway.run_until(std::future::pending(), std::future::pending()).await;
    Ok(())
}

#[expect(clippy::print_stdout, reason = "the parent reads it")]
fn announce(addresses: [SocketAddr; 3]) {
    println!("{} {} {}", addresses[0], addresses[1], addresses[2]);
}
