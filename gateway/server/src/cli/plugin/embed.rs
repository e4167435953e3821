//! `sluice plugin embed`: sample cases into a component, where the gateway finds them.

use std::path::PathBuf;

use clap::Args;
use sluice_sandbox::verify::{SAMPLES_SECTION, with_custom_section};

use super::not_loaded;
use crate::catalog::samples::{self, SAMPLES_BYTES_MAX};
use crate::cli::outcome::{Failure, Outcome, print, read};

#[derive(Debug, Args)]
pub(in crate::cli) struct Arguments {
    /// The component.
    #[arg(value_name = "COMPONENT")]
    component: PathBuf,
    /// The sample cases (JSON); they replace those that are in it.
    #[arg(long, value_name = "FILE")]
    samples: PathBuf,
    /// Where the component goes; over the old one if absent.
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

pub(super) fn run(arguments: &Arguments) -> Outcome {
    let component = super::component(&arguments.component)?;
    let (component, cases) = embed(&component, &arguments.component, &arguments.samples)?;
    let output = arguments.output.as_ref().unwrap_or(&arguments.component);
    replace(output, &component)?;
    print(&format!("{cases} sample cases in {} ({})\n", output.display(), super::digest(&component)))
}

/// The component with the sample cases of a file in it, and how many those are.
pub(super) fn embed(
    component: &[u8],
    path: &std::path::Path,
    samples: &std::path::Path,
) -> Outcome<(Vec<u8>, usize)> {
    let json = read(samples, SAMPLES_BYTES_MAX)?;
    let cases =
        samples::parse(&json).map_err(|error| Failure::refused(format!("{}: {error}", samples.display())))?;
    let component =
        with_custom_section(component, SAMPLES_SECTION, &json).map_err(|error| not_loaded(path, &error))?;
    Ok((component, cases.len()))
}

/// Writes the file beside its place first, so that it is never there by half.
fn replace(path: &std::path::Path, content: &[u8]) -> Outcome {
    let fault = |error: std::io::Error| Failure::usage(format!("cannot write {}: {error}", path.display()));
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or_else(|| std::path::Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(folder).map_err(fault)?;
    std::io::Write::write_all(&mut file, content).map_err(fault)?;
    // What the umask leaves of the usual mode is for a build, not for a private file.
    let mode = std::fs::metadata(path).map(|old| old.permissions());
    let readable = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    file.as_file().set_permissions(mode.unwrap_or(readable)).map_err(fault)?;
    file.persist(path).map(drop).map_err(|error| fault(error.error))
}
