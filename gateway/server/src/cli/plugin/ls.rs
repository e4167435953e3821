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
        let versions: Vec<String> = list(plugin, "versions")
            .iter()
            .map(|version| format!("{} ({})", text(version, "version"), text(version, "state")))
            .collect();
        vec![text(plugin, "plugin"), text(plugin, "owner"), text(plugin, "active"), versions.join(", ")]
    });
    table(&std::iter::once(heading).chain(rows).collect::<Vec<_>>())
}
