//! `sluice plugin test`: a component's sample cases, run here under the limits that a
//! gateway would set, against fake or real models.

mod report;
mod setting;

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use sluice_sandbox::verify::{self, SAMPLES_SECTION};
use sluice_sandbox::{CallContext, Inference, Plugin};
use tokio::time::Instant;

use super::not_loaded;
use crate::catalog::samples::{self, Case, CaseModels, SAMPLES_BYTES_MAX, Verdict};
use crate::cli::outcome::{Failure, Outcome, print, read};
use report::{Lines, Tested};
use setting::Setting;

#[derive(Debug, Args)]
pub(in crate::cli) struct Arguments {
    /// The component.
    #[arg(value_name = "COMPONENT")]
    component: PathBuf,
    /// The sample cases (JSON); those in the component if absent.
    #[arg(long, value_name = "FILE")]
    samples: Option<PathBuf>,
    /// What its `init` gets.
    #[arg(long, value_name = "JSON", conflicts_with = "config_file")]
    config: Option<String>,
    /// A gateway's configuration: the plugin's limits, config, stores and models there are
    /// used.
    #[arg(long, value_name = "FILE", requires = "plugin")]
    config_file: Option<PathBuf>,
    /// The plugin's name in that configuration.
    #[arg(long, value_name = "NAME", requires = "config_file")]
    plugin: Option<String>,
    /// A real model for a name that no case has an answer for; may be repeated.
    #[arg(long, value_name = "NAME=FILE", conflicts_with = "config_file")]
    model: Vec<String>,
    /// A store (JSON lines of key and value); may be repeated.
    #[arg(long, value_name = "NAME=FILE", conflicts_with = "config_file")]
    store: Vec<String>,
    /// Time for one call, in milliseconds.
    #[arg(long, value_name = "MS", conflicts_with = "config_file")]
    call_timeout_ms: Option<u64>,
    /// Memory of one instance, in bytes.
    #[arg(long, value_name = "BYTES", conflicts_with = "config_file")]
    memory_bytes: Option<u64>,
    /// Refuse it WASI.
    #[arg(long, conflicts_with = "config_file")]
    strict: bool,
    /// Show its log lines for cases that pass, too.
    #[arg(long)]
    logs: bool,
    /// Print the outcome as JSON.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: &Arguments) -> Outcome {
    let component = super::component(&arguments.component)?;
    let cases = cases(arguments, &component)?;
    let lines = Arc::new(Lines::default());
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let runtime = runtime.map_err(|error| Failure::unavailable(format!("cannot start: {error}")))?;
    // Models start their queues on the runtime that is entered.
    let _entered = runtime.enter();
    let Setting { real, mut options, config } = setting::build(arguments, Arc::clone(&lines))?;
    let models = Arc::new(CaseModels::new(real));
    options.grants.inference = Some(Arc::clone(&models) as Arc<dyn Inference>);
    let sandbox = setting::sandbox(&config)?;
    let started = Instant::now();
    let plugin =
        sandbox.load(&component, options).map_err(|error| not_loaded(&arguments.component, &error))?;
    let loaded_in = started.elapsed();
    let deadline = config.server.limits.request_timeout_default;
    let verdicts = runtime.block_on(run_all(&plugin, &cases, &models, deadline, &lines));
    runtime.shutdown_background();
    let tested = Tested { plugin: plugin.info(), loaded_in, verdicts: &verdicts, logs: arguments.logs };
    print(&if arguments.json { tested.json() } else { tested.text() })?;
    match verdicts.iter().filter(|(verdict, _)| !verdict.passed()).count() {
        0 => Ok(()),
        failed => Err(Failure::refused(format!("{failed} of {} sample cases failed", verdicts.len()))),
    }
}

/// The cases of the file, else of the component. None at all are no test.
fn cases(arguments: &Arguments, component: &[u8]) -> Outcome<Vec<Case>> {
    let (json, place) = match &arguments.samples {
        Some(file) => (read(file, SAMPLES_BYTES_MAX)?, file),
        None => {
            let found = verify::custom_section(component, SAMPLES_SECTION);
            let found = found.map_err(|error| not_loaded(&arguments.component, &error))?;
            (found.unwrap_or(b"[]").to_vec(), &arguments.component)
        }
    };
    let cases =
        samples::parse(&json).map_err(|error| Failure::refused(format!("{}: {error}", place.display())))?;
    if cases.is_empty() {
        return Err(Failure::usage(format!(
            "{} has no sample cases: give a file with --samples, or put one into the component with `sluice \
             plugin embed`",
            place.display()
        )));
    }
    Ok(cases)
}

/// Runs the cases one after the other; each with the lines that it logged.
async fn run_all(
    plugin: &Plugin,
    cases: &[Case],
    models: &CaseModels,
    deadline: std::time::Duration,
    lines: &Lines,
) -> Vec<(Verdict, Vec<String>)> {
    let mut verdicts = Vec::with_capacity(cases.len());
    for case in cases {
        models.serve(case);
        lines.take();
        let context = CallContext {
            request_id: Arc::from(case.name.as_str()),
            pipeline: Arc::from("test"),
            plugin_version: Arc::from("test"),
            routing_key: None,
            priority: 0,
            tenant: None,
            parameters: std::sync::Arc::default(),
            route: None,
            deadline: Instant::now() + deadline,
            span: tracing::Span::none(),
        };
        let verdict = samples::run(plugin, plugin.info().world, case, context).await;
        verdicts.push((verdict, lines.take()));
    }
    verdicts
}
