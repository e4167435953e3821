//! `sluice plugin delete`: remove a version that is not in use, and its component.

use clap::Args;
use http::Method;

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
    let path = format!("/admin/v1/plugins/{plugin}/versions/{version}");
    let answer = client.send(client.request(Method::DELETE, &path)).await?.json()?;
    show(&arguments.server, &answer, |_| format!("{plugin} {version} is deleted\n"))
}
