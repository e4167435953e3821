//! `sluice plugin activate`: serve a version from the next request on.

use clap::Args;
use http::Method;
use serde_json::json;

use crate::cli::outcome::Outcome;
use crate::cli::remote::{Client, ServerArguments, name, show};

#[derive(Debug, Args)]
pub(in crate::cli) struct Arguments {
    /// The plugin.
    #[arg(value_name = "PLUGIN")]
    plugin: String,
    /// The version.
    #[arg(value_name = "VERSION")]
    version: String,
    #[command(flatten)]
    server: ServerArguments,
}

pub(super) async fn run(arguments: &Arguments) -> Outcome {
    let (plugin, version) = (name("plugin", &arguments.plugin)?, name("version", &arguments.version)?);
    let client = Client::new(&arguments.server)?;
    let path = format!("/admin/v1/plugins/{plugin}/activate");
    let answer = client.change(Method::POST, &path, &json!({ "version": version })).await?;
    show(&arguments.server, &answer, |_| format!("{plugin} {version} is active\n"))
}
