//! The command line: one file for each sub-command.

mod audit;
mod check;
mod outcome;
mod plugin;
mod remote;
mod serve;
mod token;
mod verify_plugin;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::config::Overrides;

/// Exit code for a configuration that cannot be served (EX_CONFIG).
const EXIT_CONFIG: u8 = 78;

/// Exit code for a run that does not return (EX_SOFTWARE): the process is to be started again.
const EXIT_HUNG: u8 = 70;

/// Exit code for requests that were cut off at the end of a drain.
const EXIT_CUT: u8 = 75;

/// An inference gateway that runs product teams' code in a sandbox, between HTTP
/// and the models.
#[derive(Debug, Parser)]
#[command(name = "sluice", version, arg_required_else_help = true)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve what a configuration file describes, until SIGTERM or Ctrl-C.
    Serve(ConfigArguments),
    /// Check a configuration file: parse it, load every model and plugin, then exit.
    Check(ConfigArguments),
    /// Make the tokens that callers show.
    #[command(subcommand)]
    Token(token::TokenCommand),
    /// Check and compile the component on standard input, under limits.
    #[command(hide = true)]
    VerifyPlugin(verify_plugin::ChildArguments),
    /// Write, test, sign, upload and watch plugins.
    #[command(subcommand)]
    Plugin(plugin::Command),
    /// Show who changed what on a gateway.
    Audit(audit::Arguments),
}

#[derive(Debug, Args)]
struct ConfigArguments {
    /// The configuration file (TOML, YAML or JSON).
    #[arg(
        short,
        long,
        env = "SLUICE_CONFIG",
        value_name = "FILE",
        required_unless_present = "model_repository"
    )]
    config: Option<PathBuf>,
    /// A folder of models as Triton lays them out: short for a `[repositories.models]`, and
    /// enough without a configuration file.
    #[arg(long, value_name = "FOLDER")]
    model_repository: Option<PathBuf>,
    /// Address for predictions over HTTP, in place of the file's.
    #[arg(long, value_name = "ADDRESS")]
    http: Option<std::net::SocketAddr>,
    /// Address for predictions over gRPC, in place of the file's.
    #[arg(long, value_name = "ADDRESS")]
    grpc: Option<std::net::SocketAddr>,
    /// Address for administration and metrics, in place of the file's.
    #[arg(long, value_name = "ADDRESS")]
    admin: Option<std::net::SocketAddr>,
}

impl ConfigArguments {
    fn overrides(&self) -> Overrides {
        let flags = [("server.http", self.http), ("server.grpc", self.grpc), ("server.admin", self.admin)];
        let given = flags.into_iter().filter_map(|(key, address)| Some((key, address?)));
        let overrides = given
            .fold(Overrides::from_environment(), |overrides, (key, address)| overrides.flag(key, address));
        let overrides = if self.config.is_none() { overrides.without_file() } else { overrides };
        match &self.model_repository {
            None => overrides,
            Some(folder) => {
                let folder = std::path::absolute(folder).unwrap_or_else(|_| folder.clone());
                overrides.flag("repositories.models.path", folder.display())
            }
        }
    }

    /// The configuration file; where there is none, the name that it would have.
    fn path(&self) -> PathBuf {
        self.config.clone().unwrap_or_else(|| PathBuf::from("sluice.toml"))
    }
}

/// Runs one command to its end.
pub fn run(arguments: Arguments) -> ExitCode {
    crate::catalog::store::faults::arm_from_environment();
    match arguments.command {
        Command::Serve(arguments) => serve::serve(&arguments),
        Command::Check(arguments) => check::check(&arguments),
        Command::Token(command) => token::token(&command),
        Command::VerifyPlugin(arguments) => verify_plugin::verify_plugin(&arguments),
        Command::Plugin(command) => plugin::run(&command),
        Command::Audit(arguments) => outcome::exit(remote::block_on(audit::run(&arguments))),
    }
}

/// The runtime that serves connections. Guests have one of their own.
fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().thread_name("serve").enable_all().build()
}

#[expect(clippy::print_stderr, reason = "before the log is set up, and for people at a terminal")]
fn complain(what: &dyn std::fmt::Display) {
    eprintln!("sluice: {what}");
}
