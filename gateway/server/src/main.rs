//! The `sluice` program: arguments in, exit code out.

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    sluice::cli::run(sluice::cli::Arguments::parse())
}
