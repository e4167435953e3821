//! `sluice plugin activate`, `retire` and `delete`: what is done with one version.

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

/// Serves it from the next request on.
pub(super) async fn activate(arguments: &Arguments) -> Outcome {
    let body = json!({ "version": arguments.version });
    change(arguments, Method::POST, |plugin, _| format!("{plugin}/activate"), Some(body), "active").await
}

/// Takes it out of service; its component stays in the store.
pub(super) async fn retire(arguments: &Arguments) -> Outcome {
    let path = |plugin: &str, version: &str| format!("{plugin}/versions/{version}/retire");
    change(arguments, Method::POST, path, None, "retired").await
}

/// Removes it, if it is not in use, and its component.
pub(super) async fn delete(arguments: &Arguments) -> Outcome {
    let path = |plugin: &str, version: &str| format!("{plugin}/versions/{version}");
    change(arguments, Method::DELETE, path, None, "deleted").await
}

async fn change(
    arguments: &Arguments,
    method: Method,
    path: impl Fn(&str, &str) -> String,
    body: Option<serde_json::Value>,
    what_it_is_then: &str,
) -> Outcome {
    let (plugin, version) = (name("plugin", &arguments.plugin)?, name("version", &arguments.version)?);
    let client = Client::new(&arguments.server)?;
    let path = format!("/admin/v1/plugins/{}", path(plugin, version));
    let answer = match body {
        Some(body) => client.change(method, &path, &body).await?,
        None => client.send(client.request(method, &path)).await?.json()?,
    };
    show(&arguments.server, &answer, |_| format!("{plugin} {version} is {what_it_is_then}\n"))
}
