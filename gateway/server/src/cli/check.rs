//! `sluice check`: everything that `serve` would do before it opens a port.

use std::process::ExitCode;
use std::sync::Arc;

use super::{ConfigArguments, EXIT_CONFIG, complain, runtime};
use crate::app::{self, StartOptions};
use crate::auth::tls::Certificates;
use crate::config;

#[expect(clippy::print_stdout, reason = "the verdict is for people")]
pub(super) fn check(arguments: &ConfigArguments) -> ExitCode {
    let overrides = arguments.overrides();
    let checked =
        config::load(&arguments.path(), &overrides).map_err(|errors| errors.to_string()).and_then(|config| {
            Certificates::load(&config.server).map_err(|error| format!("tls: {error}"))?;
            // Components are compiled in children, and waiting for those needs a runtime.
            let runtime = runtime().map_err(|error| error.to_string())?;
            let _inside = runtime.enter();
            let options = StartOptions { overrides, is_check: true, ..StartOptions::default() };
            let builder = app::builder(&config, options).map_err(|error| error.to_string())?;
            let (models, plugins, pipelines) =
                (config.models.len(), config.plugins.len(), config.pipelines.len());
            let repositories = match config.repositories.len() {
                0 => String::new(),
                count => format!(", and what is in {count} model repositories"),
            };
            builder.build(Arc::new(config), None, None).map_err(|error| error.to_string())?;
            Ok(format!("{models} models, {plugins} plugins, {pipelines} pipelines{repositories}"))
        });
    match checked {
        Ok(summary) => {
            println!("ok: {summary}");
            ExitCode::SUCCESS
        }
        Err(problems) => {
            complain(&problems);
            ExitCode::from(EXIT_CONFIG)
        }
    }
}
