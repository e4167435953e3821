//! `sluice plugin profile`: where a version spends its time, for the Firefox profiler.

use std::path::PathBuf;

use clap::Args;
use http::Method;

use crate::cli::outcome::{Failure, Outcome, print};
use crate::cli::remote::progress::Progress;
use crate::cli::remote::{Client, ServerArguments, name};

#[derive(Debug, Args)]
pub(in crate::cli) struct Arguments {
    /// The plugin.
    #[arg(value_name = "PLUGIN")]
    plugin: String,
    /// The version.
    #[arg(value_name = "VERSION")]
    version: String,
    /// How long to record.
    #[arg(long, default_value_t = 5, value_name = "SECONDS")]
    seconds: u32,
    /// Where the profile goes; PLUGIN-VERSION.profile.json if absent.
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    #[command(flatten)]
    server: ServerArguments,
}

pub(super) async fn run(arguments: &Arguments) -> Outcome {
    let (plugin, version) = (name("plugin", &arguments.plugin)?, name("version", &arguments.version)?);
    let client = Client::new(&arguments.server)?;
    let mut progress = Progress::new();
    progress.say(&format!("recording {plugin} {version} for {} s", arguments.seconds));
    let path = format!("/admin/v1/plugins/{plugin}/versions/{version}/profile?seconds={}", arguments.seconds);
    let answer = client.send(client.request(Method::POST, &path)).await?;
    drop(progress);
    let file = || PathBuf::from(format!("{plugin}-{version}.profile.json"));
    let output = arguments.output.clone().unwrap_or_else(file);
    std::fs::write(&output, &answer.body)
        .map_err(|error| Failure::usage(format!("cannot write {}: {error}", output.display())))?;
    print(&format!("{}: open it at https://profiler.firefox.com\n", output.display()))
}
