//! The servers that are measured: each a process of its own, so that its memory is its
//! own, started from this same program.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};

use sluice::app::{Gateway, StartOptions};
use sluice::catalog::Compile;
use sluice::config::{self, Overrides};

use crate::echo::Echo;
use crate::{native, workload};

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

/// A server process; killed when dropped.
pub struct Process {
    child: Child,
    /// Where it takes requests.
    pub http: SocketAddr,
    /// Where its metrics are; the same as `http` for the echo.
    pub admin: SocketAddr,
}

impl Process {
    /// Starts a variant and waits until it listens.
    ///
    /// # Errors
    /// It did not start.
    pub fn start(variant: Variant) -> Result<Self, String> {
        let program = std::env::current_exe().map_err(|error| error.to_string())?;
        let name = format!("{variant:?}").to_lowercase();
        let mut command = Command::new(program);
        command.args(["--serve", &name]).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = command.spawn().map_err(|error| error.to_string())?;
        let output = child.stdout.take().ok_or("no output")?;
        let mut line = String::new();
        BufReader::new(output).read_line(&mut line).map_err(|error| error.to_string())?;
        let mut addresses = line.split_whitespace().map(str::parse::<SocketAddr>);
        match (addresses.next(), addresses.next()) {
            (Some(Ok(http)), Some(Ok(admin))) => Ok(Self { child, http, admin }),
            _ => Err(format!("the {name} server did not start")),
        }
    }

    /// The process's id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }
}

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
pub async fn serve(variant: Variant) -> Result<(), String> {
    if variant == Variant::Echo {
        let echo = Echo::start(2).map_err(|error| error.to_string())?;
        announce(echo.address(), echo.address());
        return std::future::pending().await;
    }
    let mut overrides = Overrides::from_environment()
        .flag("server.http", "127.0.0.1:0")
        .flag("server.grpc", "127.0.0.1:0")
        .flag("server.admin", "127.0.0.1:0");
    if variant == Variant::Reuse {
        for plugin in ["hash-mlp", "hash-dlrm", "top-k"] {
            overrides = overrides.flag(&format!("plugins.{plugin}.reuse"), 1000);
        }
    }
    let natives = if variant == Variant::Native { native::stand_ins()? } else { Default::default() };
    let path = workload::repository().join("config/bench.toml");
    let config = config::load(&path, &overrides).map_err(|error| error.to_string())?;
    // This program has no `verify-plugin`, and brings its own plugins.
    let options = StartOptions { overrides, natives, compile: Compile::InProcess, ..StartOptions::default() };
    let gateway = Gateway::start(config, options).await.map_err(|error| error.to_string())?;
    announce(gateway.http_address(), gateway.admin_address());
    gateway.run_until(std::future::pending()).await;
    Ok(())
}

#[expect(clippy::print_stdout, reason = "the parent reads it")]
fn announce(http: SocketAddr, admin: SocketAddr) {
    println!("{http} {admin}");
}
