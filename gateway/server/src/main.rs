//! The `sluice` program: arguments in, exit code out.

use std::process::ExitCode;

use clap::Parser;

/// Requests allocate on one thread and free on another, which the system's allocator does
/// slowly.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    sluice::cli::run(sluice::cli::Arguments::parse())
}
