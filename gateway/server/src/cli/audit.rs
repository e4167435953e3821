//! `sluice audit`: who changed what on a gateway.

use clap::Args;
use serde_json::Value;

use super::outcome::{Outcome, table};
use super::remote::{Client, ServerArguments, list, show, text};

/// Most characters of a cell: a name, or enough of a digest to know it again.
const CELL_CHARS_MAX: usize = 40;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// What came after this entry; the newest if absent.
    #[arg(long, value_name = "NUMBER")]
    after: Option<u64>,
    /// Most entries.
    #[arg(short = 'n', long, default_value_t = 100, value_name = "ENTRIES")]
    limit: u32,
    #[command(flatten)]
    server: ServerArguments,
}

pub(super) async fn run(arguments: &Arguments) -> Outcome {
    let mut path = format!("/admin/v1/audit?limit={}", arguments.limit);
    if let Some(after) = arguments.after {
        path = format!("{path}&after={after}");
    }
    let answer = Client::new(&arguments.server)?.get(&path).await?;
    show(&arguments.server, &answer, shown)
}

fn shown(answer: &Value) -> String {
    let entries = list(answer, "entries");
    if entries.is_empty() {
        return "nothing was changed yet\n".to_owned();
    }
    let keys = ["sequence", "at", "actor", "action", "target", "from", "to", "outcome"];
    let used: Vec<&str> =
        keys.into_iter().filter(|key| entries.iter().any(|entry| !entry[*key].is_null())).collect();
    let heading = used.iter().map(|key| key.to_uppercase()).collect();
    let cell = |entry: &Value, key: &str| text(entry, key).chars().take(CELL_CHARS_MAX).collect();
    let rows = entries.iter().map(|entry| used.iter().map(|key| cell(entry, key)).collect());
    table(&std::iter::once(heading).chain(rows).collect::<Vec<_>>())
}
