//! `sluice plugin logs`: a plugin's log lines and failures, newest last.

use std::time::Duration;

use clap::Args;
use serde_json::Value;

use crate::cli::outcome::{Outcome, clean, print};
use crate::cli::remote::{Client, ServerArguments, list, name, text};

/// How long to wait before asking for new lines.
const FOLLOW_INTERVAL: Duration = Duration::from_millis(700);

#[derive(Debug, Args)]
pub(in crate::cli) struct Arguments {
    /// The plugin.
    #[arg(value_name = "PLUGIN")]
    plugin: String,
    /// Only of this version.
    #[arg(long, value_name = "VERSION")]
    version: Option<String>,
    /// Most lines to begin with.
    #[arg(short = 'n', long, default_value_t = 100, value_name = "LINES")]
    limit: u32,
    /// Go on with new lines until Ctrl-C.
    #[arg(short, long)]
    follow: bool,
    #[command(flatten)]
    server: ServerArguments,
}

pub(super) async fn run(arguments: &Arguments) -> Outcome {
    let plugin = name("plugin", &arguments.plugin)?;
    let client = Client::new(&arguments.server)?;
    let mut path = format!("/admin/v1/plugins/{plugin}/logs?limit={}", arguments.limit);
    if let Some(version) = &arguments.version {
        path = format!("{path}&version={}", name("version", version)?);
    }
    let mut after: Option<u64> = None;
    loop {
        let asked = after.map_or_else(|| path.clone(), |after| format!("{path}&after={after}"));
        let answer = client.get(&asked).await?;
        let lines = list(&answer, "lines");
        for line in lines {
            print(&shown(line, arguments.server.json))?;
        }
        after = next(&answer, after);
        if !arguments.follow {
            return Ok(());
        }
        if lines.is_empty() {
            tokio::time::sleep(FOLLOW_INTERVAL).await;
        }
    }
}

/// Where the next page begins: behind the last line that was seen.
fn next(answer: &Value, after: Option<u64>) -> Option<u64> {
    let seen = list(answer, "lines").iter().filter_map(|line| line["sequence"].as_u64()).max();
    seen.max(after)
}

fn shown(line: &Value, json: bool) -> String {
    if json {
        return format!("{line}\n");
    }
    let mut out = String::new();
    for key in ["at", "version", "level", "context", "message", "request_id"] {
        if line[key].is_null() || line[key] == "" {
            continue;
        }
        let value = clean(&text(line, key));
        let value = match key {
            "level" => value.to_uppercase(),
            "context" => format!("[{value}]"),
            "request_id" => format!("({value})"),
            _ => value,
        };
        out.push_str(&value);
        out.push(' ');
    }
    out.truncate(out.trim_end().len());
    out.push('\n');
    out
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_line_is_one_line_whatever_it_holds() {
        let line = json!({"sequence": 7, "at": "2026-01-01T00:00:00Z", "version": "2", "level": "warn",
            "message": "odd\n\u{1b}[2J", "request_id": "r1", "context": ""});
        assert_eq!(shown(&line, false), "2026-01-01T00:00:00Z 2 WARN odd\\n\\u{1b}[2J (r1)\n");
    }

    #[test]
    fn following_goes_on_behind_the_last_line() {
        let page = json!({"lines": [{"sequence": 4}, {"sequence": 9}]});
        assert_eq!(next(&page, None), Some(9));
        assert_eq!(next(&json!({"lines": []}), Some(9)), Some(9));
        assert_eq!(next(&json!({"lines": []}), None), None);
    }
}
