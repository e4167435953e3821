//! `sluice plugin …`: what an author does with a plugin, one file for each command, or for
//! those that take the same. `new` to `embed` work on files here, `pull` asks a registry,
//! the others a gateway's admin listener.

mod embed;
mod inspect;
mod keygen;
mod logs;
mod ls;
mod new;
mod oci;
mod place;
mod profile;
mod push;
mod rollback;
mod shadow;
mod show;
mod sign;
mod split;
mod test;
mod verify;
mod version;

use std::path::Path;
use std::process::ExitCode;

use clap::Subcommand;

use super::outcome::{Failure, Outcome, exit, read};
use super::remote;

/// Most bytes of a component that a command reads: what the sandbox takes at most.
const COMPONENT_BYTES_MAX: usize = 128 << 20;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Write a plugin that builds and passes its tests, to begin with.
    New(new::Arguments),
    /// Run a component's sample cases under the real limits; 1 if any differs.
    Test(test::Arguments),
    /// Say what a component is, what it asks for, and how to configure it.
    Inspect(inspect::Arguments),
    /// Make a key pair to sign components with.
    Keygen(keygen::Arguments),
    /// Sign a component.
    Sign(sign::Arguments),
    /// Check a component's signature.
    Verify(verify::Arguments),
    /// Put sample cases into a component.
    Embed(embed::Arguments),
    /// Upload a component as a new version; or push it to a registry, oci://HOST/REPOSITORY:TAG.
    Push(Box<push::Arguments>),
    /// Pull a component out of a registry, by digest or tag.
    Pull(oci::PullArguments),
    /// List plugins.
    Ls(ls::Arguments),
    /// Show a plugin and its versions, or one version.
    Show(show::Arguments),
    /// Serve a version from the next request on.
    Activate(version::Arguments),
    /// Serve the version that was active before.
    Rollback(rollback::Arguments),
    /// Divide a pipeline's requests between versions.
    Split(split::Arguments),
    /// Try a version on a pipeline's requests without answering with it.
    Shadow(shadow::Arguments),
    /// Take a version out of service.
    Retire(version::Arguments),
    /// Delete a version that is not in use.
    Delete(version::Arguments),
    /// Show a plugin's log lines and failures.
    Logs(logs::Arguments),
    /// Record where a version spends its time, for the Firefox profiler.
    Profile(profile::Arguments),
}

pub(super) fn run(command: &Command) -> ExitCode {
    use remote::block_on;
    exit(match command {
        Command::New(arguments) => new::run(arguments),
        Command::Test(arguments) => test::run(arguments),
        Command::Inspect(arguments) => inspect::run(arguments),
        Command::Keygen(arguments) => keygen::run(arguments),
        Command::Sign(arguments) => sign::run(arguments),
        Command::Verify(arguments) => verify::run(arguments),
        Command::Embed(arguments) => embed::run(arguments),
        Command::Push(arguments) => block_on(push::run(arguments)),
        Command::Pull(arguments) => block_on(oci::pull(arguments)),
        Command::Ls(arguments) => block_on(ls::run(arguments)),
        Command::Show(arguments) => block_on(show::run(arguments)),
        Command::Activate(arguments) => block_on(version::activate(arguments)),
        Command::Rollback(arguments) => block_on(rollback::run(arguments)),
        Command::Split(arguments) => block_on(split::run(arguments)),
        Command::Shadow(arguments) => block_on(shadow::run(arguments)),
        Command::Retire(arguments) => block_on(version::retire(arguments)),
        Command::Delete(arguments) => block_on(version::delete(arguments)),
        Command::Logs(arguments) => block_on(logs::run(arguments)),
        Command::Profile(arguments) => block_on(profile::run(arguments)),
    })
}

/// Reads a component; other kinds of file are told apart by what it is for.
fn component(path: &Path) -> Outcome<Vec<u8>> {
    read(path, COMPONENT_BYTES_MAX)
}

/// What is wrong with a component, in the sandbox's words.
fn not_loaded(path: &Path, error: &sluice_sandbox::LoadError) -> Failure {
    Failure::refused(format!("{}: {error}", path.display()))
}

/// The SHA-256 of a component, in hexadecimal.
fn digest(component: &[u8]) -> String {
    use sha2::{Digest as _, Sha256};
    Sha256::digest(component).iter().map(|byte| format!("{byte:02x}")).collect()
}
