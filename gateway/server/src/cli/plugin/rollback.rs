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
    /// Only if this version is active: a second attempt then changes nothing more. Asked of
    /// the gateway if it is not given.
    #[arg(long, value_name = "VERSION")]
    from: Option<String>,
    #[command(flatten)]
    server: ServerArguments,
}

pub(super) async fn run(arguments: &Arguments) -> Outcome {
    let plugin = name("plugin", &arguments.plugin)?;
    let client = Client::new(&arguments.server)?;
    let path = format!("/admin/v1/plugins/{plugin}/rollback");
    let from = match &arguments.from {
        Some(from) => json!(name("version", from)?),
        None => client.get(&format!("/admin/v1/plugins/{plugin}")).await?["active"].clone(),
    };
    let answer = client.change(Method::POST, &path, &json!({ "from": from })).await?;
    show(&arguments.server, &answer, |answer| {
        let active = clean(&text(answer, "active"));
        match answer["changed"].as_bool() {
            Some(false) => format!("{plugin} is at {active} already\n"),
            _ => format!("{plugin} is back at {active}\n"),
        }
    })
}
