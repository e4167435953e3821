//! `sluice plugin rollback`: serve the version that was active before.

use clap::Args;
use http::Method;
use serde_json::json;

use crate::cli::outcome::{Outcome, clean};
use crate::cli::remote::{Client, ServerArguments, name, show, text};

#[derive(Debug, Args)]
pub(in crate::cli) struct Arguments {
    /// The plugin.
    #[arg(value_name = "PLUGIN")]
    plugin: String,
    #[command(flatten)]
    server: ServerArguments,
}

pub(super) async fn run(arguments: &Arguments) -> Outcome {
    let plugin = name("plugin", &arguments.plugin)?;
    let client = Client::new(&arguments.server)?;
    let path = format!("/admin/v1/plugins/{plugin}/rollback");
    let answer = client.change(Method::POST, &path, &json!({})).await?;
    show(&arguments.server, &answer, |answer| {
        format!("{plugin} is back at {}\n", clean(&text(answer, "active")))
    })
}
