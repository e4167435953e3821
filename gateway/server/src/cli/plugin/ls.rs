//! `sluice plugin ls`: the plugins of a gateway.

use clap::Args;
use serde_json::Value;

use crate::cli::outcome::{Outcome, table};
use crate::cli::remote::{Client, ServerArguments, list, show, text};

#[derive(Debug, Args)]
pub(in crate::cli) struct Arguments {
    #[command(flatten)]
    server: ServerArguments,
}

pub(super) async fn run(arguments: &Arguments) -> Outcome {
    let answer = Client::new(&arguments.server)?.get("/admin/v1/plugins").await?;
    show(&arguments.server, &answer, shown)
}

fn shown(answer: &Value) -> String {
    let plugins = list(answer, "plugins");
    if plugins.is_empty() {
        return "no plugins\n".to_owned();
    }
    let heading = ["NAME", "OWNER", "ACTIVE", "VERSIONS"].map(str::to_owned).to_vec();
    let rows = plugins.iter().map(|plugin| {
        let name = if plugin["name"].is_null() { text(plugin, "plugin") } else { text(plugin, "name") };
        let versions: Vec<String> = list(plugin, "versions")
            .iter()
            .map(|version| match version {
                Value::String(version) => version.clone(),
                record => format!("{} ({})", text(record, "version"), text(record, "state")),
            })
            .collect();
        vec![name, text(plugin, "owner"), text(plugin, "active"), versions.join(", ")]
    });
    table(&std::iter::once(heading).chain(rows).collect::<Vec<_>>())
}
