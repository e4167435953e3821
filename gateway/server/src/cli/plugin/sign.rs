//! `sluice plugin sign`: a detached signature of a component.

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use sha2::{Digest as _, Sha256};

use crate::cli::outcome::{Failure, Outcome, print, read_text, write_new};
use crate::signature::{PrivateKey, Signature};

/// Most bytes of a key file.
const KEY_BYTES_MAX: usize = 64 << 10;

#[derive(Debug, Args)]
pub(in crate::cli) struct Arguments {
    /// The component.
    #[arg(value_name = "COMPONENT")]
    component: PathBuf,
    /// The private key: PEM of `sluice plugin keygen` or of OpenSSL.
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// What is signed: the component's bytes, as `cosign sign-blob` does, or the 32 bytes
    /// of its SHA-256, for keys in devices.
    #[arg(long, value_enum, default_value_t = Over::Component)]
    over: Over,
    /// Where the signature goes; `-` is the terminal. COMPONENT.sig if absent.
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// What a signature covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Over {
    Component,
    Digest,
}

pub(super) fn run(arguments: &Arguments) -> Outcome {
    let component = super::component(&arguments.component)?;
    let key = private_key(&arguments.key)?;
    let signature = match arguments.over {
        Over::Component => key.sign(&component),
        Over::Digest => key.sign(&Sha256::digest(&component)),
    };
    let text = format!("{}\n", signature.to_base64());
    let output = arguments.output.clone().unwrap_or_else(|| signature_file(&arguments.component));
    if output == Path::new("-") {
        return print(&text);
    }
    // Signing the next build again is what one does all day.
    match std::fs::remove_file(&output) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(Failure::usage(format!("cannot replace {}: {error}", output.display())));
        }
        _ => {}
    }
    write_new(&output, text.as_bytes(), 0o644)?;
    print(&format!("signed {} ({})\n", output.display(), super::digest(&component)))
}

/// Where a component's signature lies.
pub(super) fn signature_file(component: &Path) -> PathBuf {
    let mut name = component.as_os_str().to_owned();
    name.push(".sig");
    PathBuf::from(name)
}

/// Reads a private key.
pub(super) fn private_key(path: &Path) -> Outcome<PrivateKey> {
    let text = read_text(path, KEY_BYTES_MAX)?;
    PrivateKey::parse(&text).map_err(|error| Failure::usage(format!("{}: {error}", path.display())))
}

/// Reads a signature file.
pub(super) fn signature(path: &Path) -> Outcome<Signature> {
    let text = read_text(path, KEY_BYTES_MAX)?;
    Signature::from_base64(&text).map_err(|error| Failure::refused(format!("{}: {error}", path.display())))
}
