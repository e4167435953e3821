//! `sluice plugin shadow`: a version runs on a pipeline's requests after they were
//! answered, and its answers are compared.

use clap::Args;
use serde_json::Map;

use super::place::Place;
use crate::cli::outcome::{Failure, Outcome};
use crate::cli::remote::name;

#[derive(Debug, Args)]
pub(in crate::cli) struct Arguments {
    #[command(flatten)]
    place: Place,
    /// The version to try.
    #[arg(value_name = "VERSION", required_unless_present = "clear")]
    version: Option<String>,
    /// The share of requests that are run again, 0 to 1.
    #[arg(long, default_value_t = 1.0, value_name = "SHARE")]
    sample: f64,
    /// End it.
    #[arg(long, conflicts_with = "version")]
    clear: bool,
}

pub(super) async fn run(Arguments { place, version, sample, clear }: &Arguments) -> Outcome {
    let Place { pipeline, plugin, .. } = place;
    if *clear {
        return place.end("shadow", format!("{pipeline} has no shadow any more\n")).await;
    }
    let version = name("version", version.as_deref().unwrap_or_default())?;
    if !(0.0..=1.0).contains(sample) {
        return Err(Failure::usage("--sample is a share from 0 to 1"));
    }
    let body =
        Map::from_iter([("version".to_owned(), version.into()), ("sample".to_owned(), (*sample).into())]);
    place.put("shadow", body, format!("{plugin} {version} shadows {pipeline}\n")).await
}
