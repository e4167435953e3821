//! `sluice serve`: from a configuration file to a running gateway, and back out.

use std::process::ExitCode;

use super::{ConfigArguments, EXIT_CONFIG, EXIT_CUT, EXIT_HUNG, complain, runtime};
use crate::app::{Gateway, StartOptions};
use crate::config;
use crate::lifecycle::drain::{Drained, shutdown_signal};
use crate::observe;

pub(super) fn serve(arguments: &ConfigArguments) -> ExitCode {
    let overrides = arguments.overrides();
    let config = match config::load(&arguments.path(), &overrides) {
        Ok(config) => config,
        Err(errors) => {
            complain(&errors);
            return ExitCode::from(EXIT_CONFIG);
        }
    };
    let runtime = match runtime() {
        Ok(runtime) => runtime,
        Err(error) => {
            complain(&error);
            return ExitCode::FAILURE;
        }
    };
    let code = runtime.block_on(async {
        let telemetry = match observe::init(&config.telemetry) {
            Ok(telemetry) => telemetry,
            Err(error) => {
                complain(&error);
                return ExitCode::from(EXIT_CONFIG);
            }
        };
        let span_counters = telemetry.span_counters();
        let options = StartOptions { overrides, span_counters, ..StartOptions::default() };
        let code = match Gateway::start(config, options).await {
            Ok(gateway) => {
                print_table(&gateway);
                run(gateway).await
            }
            Err(error) => {
                complain(&error);
                ExitCode::from(EXIT_CONFIG)
            }
        };
        telemetry.shutdown();
        code
    });
    // A guest or an engine that hangs must not keep the process.
    runtime.shutdown_background();
    code
}

/// The first signal drains, and the second one ends the process at once: whoever sends it has
/// seen enough.
async fn run(gateway: Gateway) -> ExitCode {
    match gateway.run_until(shutdown_signal(), shutdown_signal()).await {
        Drained::Clean => {
            tracing::info!("stopped");
            ExitCode::SUCCESS
        }
        Drained::Hung => {
            tracing::error!("stopped, a run of a model does not return");
            ExitCode::from(EXIT_HUNG)
        }
        Drained::Cut(requests) => {
            tracing::error!(requests, "stopped, requests were cut off");
            ExitCode::from(EXIT_CUT)
        }
    }
}

/// What is served, and where.
#[expect(clippy::print_stdout, reason = "the table is for people")]
fn print_table(gateway: &Gateway) {
    print!("{}", gateway.describe());
}
