//! Talking to a gateway's admin listener, as every remote command does.

mod client;
mod hints;
pub(super) mod progress;
#[cfg(test)]
pub(super) mod scripted;

use std::path::PathBuf;

use clap::Args;
use serde_json::Value;

use super::outcome::{Failure, Outcome, print};

pub(super) use client::{Answer, Client};

/// Where the gateway is, and who asks.
#[derive(Debug, Clone, Args)]
pub(super) struct ServerArguments {
    /// The gateway's admin listener.
    #[arg(long, env = "SLUICE_SERVER", default_value = "http://127.0.0.1:8002", value_name = "URL")]
    pub(super) server: String,
    /// A file that holds the token; else the environment variable SLUICE_TOKEN does.
    #[arg(long, env = "SLUICE_TOKEN_FILE", value_name = "FILE")]
    pub(super) token_file: Option<PathBuf>,
    /// Certificates (PEM) that the gateway's must come from, in place of the system's.
    #[arg(long, env = "SLUICE_CA", value_name = "FILE")]
    pub(super) ca: Option<PathBuf>,
    /// Our certificate chain and its private key (PEM, in one file), for a gateway that
    /// asks for one.
    #[arg(long, env = "SLUICE_CLIENT_CERT", value_name = "FILE")]
    pub(super) client_cert: Option<PathBuf>,
    /// Print the gateway's answer as JSON.
    #[arg(long)]
    pub(super) json: bool,
}

/// Runs a remote command to its end.
pub(super) fn block_on(work: impl Future<Output = Outcome>) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|error| Failure::unavailable(format!("cannot start: {error}")))?.block_on(work)
}

/// A name in a path of the API: checked here, so that it needs no escapes there.
pub(super) fn name<'a>(what: &str, name: &'a str) -> Outcome<&'a str> {
    let fault = || format!("'{name}' is not the name of a {what}: use letters, digits, '.', '_' and '-'");
    sluice_tensor::check_name(name).map(|()| name).map_err(|_| Failure::usage(fault()))
}

/// Prints an answer: as it is, or as `shown` has it.
pub(super) fn show(
    server: &ServerArguments,
    answer: &Value,
    shown: impl FnOnce(&Value) -> String,
) -> Outcome {
    if server.json { print(&format!("{answer:#}\n")) } else { print(&shown(answer)) }
}

/// A field of an answer, for a table: `-` where it is not there.
pub(super) fn text(value: &Value, key: &str) -> String {
    match &value[key] {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(items) if items.iter().all(|item| item["name"].is_string()) => {
            let item = |item: &Value| [text(item, "name"), text(item, "version")].join(" ");
            items.iter().map(item).collect::<Vec<_>>().join(", ")
        }
        other => other.to_string(),
    }
}

/// The list in an answer: under its key, or the answer itself.
pub(super) fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    let found = value.get(key).unwrap_or(value);
    found.as_array().map_or(&[], Vec::as_slice)
}

#[cfg(test)]
mod tests;
