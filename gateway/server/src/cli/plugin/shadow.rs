//! `sluice plugin shadow`: a version runs on a pipeline's requests after they were
//! answered, and its answers are compared.

use clap::Args;
use http::Method;
use serde_json::json;

use crate::cli::outcome::{Failure, Outcome};
use crate::cli::remote::{Client, ServerArguments, name, show};

#[derive(Debug, Args)]
pub(in crate::cli) struct Arguments {
    /// The pipeline.
    #[arg(value_name = "PIPELINE")]
    pipeline: String,
    /// The plugin of it that has the version.
    #[arg(value_name = "PLUGIN")]
    plugin: String,
    /// The version to try.
    #[arg(value_name = "VERSION", required_unless_present = "clear")]
    version: Option<String>,
    /// The share of requests that are run again, 0 to 1.
    #[arg(long, default_value_t = 1.0, value_name = "SHARE")]
    sample: f64,
    /// End it.
    #[arg(long, conflicts_with = "version")]
    clear: bool,
    #[command(flatten)]
    server: ServerArguments,
}

pub(super) async fn run(arguments: &Arguments) -> Outcome {
    let pipeline = name("pipeline", &arguments.pipeline)?;
    let path = format!("/admin/v1/pipelines/{pipeline}/shadow");
    let plugin = name("plugin", &arguments.plugin)?;
    if arguments.clear {
        let client = Client::new(&arguments.server)?;
        let path = format!("{path}?plugin={plugin}");
        let answer = client.send(client.request(Method::DELETE, &path)).await?.json()?;
        return show(&arguments.server, &answer, |_| format!("{pipeline} has no shadow any more\n"));
    }
    let version = name("version", arguments.version.as_deref().unwrap_or_default())?;
    if !(0.0..=1.0).contains(&arguments.sample) {
        return Err(Failure::usage("--sample is a share from 0 to 1"));
    }
    let body = json!({ "plugin": plugin, "version": version, "sample": arguments.sample });
    let answer = Client::new(&arguments.server)?.change(Method::PUT, &path, &body).await?;
    show(&arguments.server, &answer, |_| format!("{plugin} {version} shadows {pipeline}\n"))
}
