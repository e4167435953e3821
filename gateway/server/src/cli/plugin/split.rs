//! `sluice plugin split`: a pipeline's requests divided between versions of a plugin.

use clap::Args;
use http::Method;
use serde_json::{Map, Value, json};

use crate::cli::outcome::{Failure, Outcome};
use crate::cli::remote::{Client, ServerArguments, name, show};

#[derive(Debug, Args)]
pub(in crate::cli) struct Arguments {
    /// The pipeline.
    #[arg(value_name = "PIPELINE")]
    pipeline: String,
    /// The plugin of it that has the versions.
    #[arg(value_name = "PLUGIN")]
    plugin: String,
    /// Weights: 1=90 2=10. A request's key (x-sluice-key, else its id) decides.
    #[arg(value_name = "VERSION=WEIGHT", required_unless_present = "clear")]
    weights: Vec<String>,
    /// End the split: the active version gets every request.
    #[arg(long, conflicts_with = "weights")]
    clear: bool,
    #[command(flatten)]
    server: ServerArguments,
}

pub(super) async fn run(arguments: &Arguments) -> Outcome {
    let pipeline = name("pipeline", &arguments.pipeline)?;
    let path = format!("/admin/v1/pipelines/{pipeline}/split");
    let plugin = name("plugin", &arguments.plugin)?;
    if arguments.clear {
        let client = Client::new(&arguments.server)?;
        let path = format!("{path}?plugin={plugin}");
        let answer = client.send(client.request(Method::DELETE, &path)).await?.json()?;
        return show(&arguments.server, &answer, |_| format!("{pipeline} is not split any more\n"));
    }
    let weights = weights(&arguments.weights)?;
    let body = json!({ "plugin": plugin, "weights": weights });
    let answer = Client::new(&arguments.server)?.change(Method::PUT, &path, &body).await?;
    show(&arguments.server, &answer, |_| {
        format!("{pipeline} is split between versions of {plugin}: {}\n", arguments.weights.join(", "))
    })
}

fn weights(given: &[String]) -> Outcome<Map<String, Value>> {
    let mut weights = Map::new();
    for text in given {
        let parts =
            text.split_once('=').and_then(|(version, weight)| Some((version, weight.parse::<u32>().ok()?)));
        let Some((version, weight)) = parts else {
            return Err(Failure::usage(format!("'{text}' is not a version and its weight, as in 2=10")));
        };
        if weights.insert(name("version", version)?.to_owned(), weight.into()).is_some() {
            return Err(Failure::usage(format!("version {version} has two weights")));
        }
    }
    Ok(weights)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_are_versions_and_whole_numbers() {
        let given =
            |texts: &[&str]| weights(&texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>());
        assert_eq!(given(&["1=90", "2.0=10"]).map(Value::from), Ok(json!({ "1": 90, "2.0": 10 })));
        for bad in [&["1"][..], &["1=x"], &["1=-1"], &["a/b=1"], &["1=1", "1=2"]] {
            assert!(given(bad).is_err(), "{bad:?}");
        }
    }
}
