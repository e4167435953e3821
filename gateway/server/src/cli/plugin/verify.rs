//! `sluice plugin verify`: whether a signature is this component's, as a gateway would
//! check it.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;

use super::sign::{signature, signature_file};
use crate::cli::outcome::{Failure, Outcome, print, read_text};
use crate::signature::{PublicKey, TrustedKeys, find_embedded};

/// Most bytes of a key file.
const KEY_BYTES_MAX: usize = 64 << 10;

#[derive(Debug, Args)]
pub(in crate::cli) struct Arguments {
    /// The component.
    #[arg(value_name = "COMPONENT")]
    component: PathBuf,
    /// The public key: a PEM file.
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// The detached signature; COMPONENT.sig if absent, or the embedded one.
    #[arg(long, value_name = "FILE")]
    signature: Option<PathBuf>,
}

pub(super) fn run(arguments: &Arguments) -> Outcome {
    let component = super::component(&arguments.component)?;
    let text = read_text(&arguments.key, KEY_BYTES_MAX)?;
    let key = PublicKey::parse(&text)
        .map_err(|error| Failure::usage(format!("{}: {error}", arguments.key.display())))?;
    let beside = signature_file(&arguments.component);
    let detached = match &arguments.signature {
        Some(file) => Some(signature(file)?),
        None if beside.is_file() => Some(signature(&beside)?),
        None => None,
    };
    let keys = TrustedKeys::new([(Arc::from("key"), None, key)]);
    let checked = keys.verify(&component, detached.as_ref(), None);
    checked.map_err(|error| {
        let embedded = matches!(find_embedded(&component), Ok(Some(_)));
        let hint = if detached.is_none() && !embedded { "; `sluice plugin sign` makes one" } else { "" };
        Failure::refused(format!("{}: {error}{hint}", arguments.component.display()))
    })?;
    let form = if detached.is_some() { "detached" } else { "embedded" };
    print(&format!("ok: the {form} signature is the key's over {}\n", super::digest(&component)))
}
