//! The child's side: give everything up, read, verify, answer.

use std::io::Read;
use std::process::ExitCode;
use std::time::Duration;

use sluice_sandbox::VerifyLimits;

use super::{frame, jail};

/// Exit code when the component was refused, with the reason on standard output.
pub(super) const EXIT_REFUSED: u8 = 10;

/// Exit code when the child could not do its work (EX_SOFTWARE).
const EXIT_BUG: u8 = 70;

/// The limits that the child sets for itself.
#[derive(Debug, clap::Args)]
pub struct ChildArguments {
    #[arg(long)]
    component_bytes: usize,
    #[arg(long)]
    memory_bytes: usize,
    #[arg(long)]
    code_bytes: usize,
    #[arg(long)]
    cpu_seconds: u64,
    #[arg(long)]
    address_space_bytes: u64,
}

/// The name of the sub-command.
pub(super) const COMMAND: &str = "verify-plugin";

/// The command line for these limits, without the program.
pub(super) fn command_line(limits: &VerifyLimits) -> Vec<String> {
    let options = [
        ("--component-bytes", limits.component_bytes.to_string()),
        ("--memory-bytes", limits.memory_bytes.to_string()),
        ("--code-bytes", limits.code_bytes.to_string()),
        ("--cpu-seconds", limits.cpu_seconds.to_string()),
        ("--address-space-bytes", limits.address_space_bytes.to_string()),
    ];
    let options = options.into_iter().flat_map(|(name, value)| [name.to_owned(), value]);
    std::iter::once(COMMAND.to_owned()).chain(options).collect()
}

impl ChildArguments {
    fn limits(&self) -> VerifyLimits {
        VerifyLimits {
            component_bytes: self.component_bytes,
            memory_bytes: self.memory_bytes,
            code_bytes: self.code_bytes,
            cpu_seconds: self.cpu_seconds,
            address_space_bytes: self.address_space_bytes,
            // The parent's to keep.
            wall_clock: Duration::MAX,
        }
    }
}

/// Verifies the component on standard input and answers on standard output.
pub fn run(arguments: &ChildArguments) -> ExitCode {
    match answer(&arguments.limits()) {
        Ok(code) => code,
        Err(problem) => {
            complain(&problem);
            ExitCode::from(EXIT_BUG)
        }
    }
}

fn answer(limits: &VerifyLimits) -> Result<ExitCode, String> {
    jail::enter(limits)?;
    let mut component = Vec::new();
    // One more than is allowed is enough to see that it is too much.
    let most = u64::try_from(limits.component_bytes).unwrap_or(u64::MAX).saturating_add(1);
    let read = std::io::stdin().lock().take(most).read_to_end(&mut component);
    read.map_err(|error| format!("component cannot be read: {error}"))?;
    let verified = sluice_sandbox::verify::verify(&component, limits);
    let code = if verified.is_ok() { ExitCode::SUCCESS } else { ExitCode::from(EXIT_REFUSED) };
    let written = frame::write(verified, &mut std::io::stdout().lock());
    written.map_err(|error| format!("answer cannot be written: {error}"))?;
    Ok(code)
}

#[expect(clippy::print_stderr, reason = "the parent puts it into the log")]
fn complain(problem: &str) {
    eprintln!("{problem}");
}
