//! `sluice plugin show`: a plugin's versions, or everything about one of them.

use std::fmt::Write as _;

use clap::Args;
use serde_json::Value;

use crate::cli::outcome::{Outcome, clean, size, table};
use crate::cli::remote::{Client, ServerArguments, list, name, show, text};

#[derive(Debug, Args)]
pub(in crate::cli) struct Arguments {
    /// The plugin.
    #[arg(value_name = "PLUGIN")]
    plugin: String,
    /// One version of it.
    #[arg(value_name = "VERSION")]
    version: Option<String>,
    #[command(flatten)]
    server: ServerArguments,
}

pub(super) async fn run(arguments: &Arguments) -> Outcome {
    let plugin = name("plugin", &arguments.plugin)?;
    let client = Client::new(&arguments.server)?;
    let Some(version) = &arguments.version else {
        let answer = client.get(&format!("/admin/v1/plugins/{plugin}")).await?;
        return show(&arguments.server, &answer, versions);
    };
    let version = name("version", version)?;
    let answer = client.get(&format!("/admin/v1/plugins/{plugin}/versions/{version}")).await?;
    show(&arguments.server, &answer, record)
}

fn versions(answer: &Value) -> String {
    let mut out = String::new();
    for key in ["owner", "active", "previous", "problem"] {
        if let Some(value) = answer[key].as_str() {
            // Writing to a string cannot fail.
            let _ = writeln!(out, "{key}: {}", clean(value));
        }
    }
    let heading = ["VERSION", "STATE", "SIZE", "WORLD", "SIGNED BY", "UPLOADED", "DIGEST"];
    let rows = list(answer, "versions").iter().map(|version| {
        let state = match version["reason"].as_str().filter(|reason| !reason.is_empty()) {
            Some(reason) => format!("{}: {reason}", text(version, "state")),
            None => text(version, "state"),
        };
        vec![
            text(version, "version"),
            state,
            bytes(version),
            text(version, "world"),
            text(version, "signed_by"),
            text(version, "uploaded_at"),
            text(version, "digest").chars().take(19).collect(),
        ]
    });
    let heading = std::iter::once(heading.map(str::to_owned).to_vec());
    out + &table(&heading.chain(rows).collect::<Vec<_>>())
}

fn bytes(version: &Value) -> String {
    version["size_bytes"].as_u64().map_or_else(|| "-".to_owned(), size)
}

/// One version, a line for each field.
pub(super) fn record(version: &Value) -> String {
    let mut rows = Vec::new();
    let keys = [
        "plugin",
        "version",
        "owner",
        "state",
        "reason",
        "digest",
        "world",
        "contract",
        "samples",
        "signed_by",
        "uploaded_by",
        "uploaded_at",
        "source",
    ];
    for key in keys {
        if !version[key].is_null() && version[key] != "" {
            rows.push(vec![key.to_owned(), text(version, key)]);
        }
    }
    rows.push(vec!["size".to_owned(), bytes(version)]);
    for import in list(version, "imports") {
        let granted = if import["granted"].as_bool().unwrap_or(false) { "granted" } else { "NOT granted" };
        let why = import["why"].as_str().map_or_else(String::new, |why| format!(", {why}"));
        rows.push(vec!["import".to_owned(), format!("{} ({granted}{why})", text(import, "name"))]);
    }
    for group in ["metadata", "limits", "usage", "bake"] {
        for (key, value) in version[group].as_object().into_iter().flatten() {
            if !value.is_null() && value.as_array().is_none_or(|list| !list.is_empty()) {
                rows.push(vec![format!("{group}.{key}"), text(&version[group], key)]);
            }
        }
    }
    table(&rows)
}
