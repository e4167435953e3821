//! `sluice plugin split`: a pipeline's requests divided between versions of a plugin.

use clap::Args;
use serde_json::{Map, Value};

use super::place::Place;
use crate::cli::outcome::{Failure, Outcome};
use crate::cli::remote::name;

#[derive(Debug, Args)]
pub(in crate::cli) struct Arguments {
    #[command(flatten)]
    place: Place,
    /// Weights: 1=90 2=10. A request's key (x-sluice-key, else its id) decides.
    #[arg(value_name = "VERSION=WEIGHT", required_unless_present = "clear")]
    weights: Vec<String>,
    /// End the split: the active version gets every request.
    #[arg(long, conflicts_with = "weights")]
    clear: bool,
}

pub(super) async fn run(Arguments { place, weights: given, clear }: &Arguments) -> Outcome {
    let Place { pipeline, plugin, .. } = place;
    if *clear {
        return place.end("split", format!("{pipeline} is not split any more\n")).await;
    }
    let body = Map::from_iter([("weights".to_owned(), weights(given)?.into())]);
    let done = format!("{pipeline} is split between versions of {plugin}: {}\n", given.join(", "));
    place.put("split", body, done).await
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
    use serde_json::json;

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
