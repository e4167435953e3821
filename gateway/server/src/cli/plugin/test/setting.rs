//! What the component meets: limits, its config, stores and models, all through a
//! gateway's configuration, so that they are checked and defaulted as there.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::{Map, Value, json};
use sluice_sandbox::{Inference, PluginOptions, Sandbox, SandboxConfig};

use super::super::COMPONENT_BYTES_MAX;
use super::Arguments;
use super::report::Lines;
use crate::app::{self, StartOptions};
use crate::catalog;
use crate::cli::outcome::{Failure, Outcome};
use crate::config::{self, Config, Overrides};

/// The plugin's name in a configuration that is made up here.
const NAME: &str = "component";

/// Instances at a time: cases run one after the other.
const INSTANCES_MAX: usize = 8;

/// What one test is run with.
pub(super) struct Setting {
    /// The real models, if there are any.
    pub(super) real: Option<Arc<dyn Inference>>,
    /// How the component is loaded.
    pub(super) options: PluginOptions,
    /// The gateway's limits.
    pub(super) config: Config,
}

/// Loads the stores and models that the plugin is granted.
pub(super) fn build(arguments: &Arguments, lines: Arc<Lines>) -> Outcome<Setting> {
    let (config, name) = configuration(arguments)?;
    let builder = |config: &Config| {
        // The gateway of this configuration may be running: its state is its own.
        let options = StartOptions { is_check: true, ..StartOptions::default() };
        app::builder(config, options).map_err(|error| error.to_string())
    };
    let (options, real) = catalog::alone(&config, &name, lines, builder).map_err(Failure::usage)?;
    Ok(Setting { real, options, config })
}

/// The sandbox that a gateway of this configuration has, for one plugin.
pub(super) fn sandbox(config: &Config) -> Outcome<Sandbox> {
    Sandbox::new(SandboxConfig {
        guest_threads: 1,
        instances_max: INSTANCES_MAX,
        memory_bytes_max: config.sandbox.memory_bytes_max,
        cache_dir: config.sandbox.cache_dir.clone(),
        epoch_tick: config.sandbox.epoch_tick,
        // The author's own component on the author's own machine.
        compile_in_process: true,
        spans: None,
    })
    .map_err(|error| Failure::unavailable(format!("sandbox: {error}")))
}

fn configuration(arguments: &Arguments) -> Outcome<(Config, String)> {
    let overrides = Overrides::default();
    let fault = |error: config::ConfigErrors| Failure::usage(error.to_string());
    if let (Some(file), Some(name)) = (&arguments.config_file, &arguments.plugin) {
        return Ok((config::load(file, &overrides).map_err(fault)?, name.clone()));
    }
    let folder = tempfile::tempdir().map_err(|error| Failure::unavailable(error.to_string()))?;
    let file = folder.path().join("sluice.json");
    std::fs::write(&file, made_up(arguments)?.to_string())
        .map_err(|error| Failure::unavailable(format!("cannot write {}: {error}", file.display())))?;
    Ok((config::load(&file, &overrides).map_err(fault)?, NAME.to_owned()))
}

/// A configuration of what was said on the command line.
fn made_up(arguments: &Arguments) -> Outcome<Value> {
    let config: Map<String, Value> = match &arguments.config {
        Some(text) => serde_json::from_str(text)
            .map_err(|error| Failure::usage(format!("--config is not a JSON object: {error}")))?,
        None => Map::new(),
    };
    let models = named_files("--model", &arguments.model)?;
    let stores = named_files("--store", &arguments.store)?;
    let tables = |files: &[(String, PathBuf)]| -> Map<String, Value> {
        files.iter().map(|(name, file)| (name.clone(), json!({ "file": file }))).collect()
    };
    let names =
        |files: &[(String, PathBuf)]| -> Vec<String> { files.iter().map(|(name, _)| name.clone()).collect() };
    let mut plugin = json!({
        "file": absolute(&arguments.component)?, "config": config, "strict": arguments.strict,
        // Runtimes of languages import them; every address is refused all the same.
        "sockets": !arguments.strict,
        "models": names(&models), "stores": names(&stores),
    });
    for (key, value) in
        [("call_timeout_ms", arguments.call_timeout_ms), ("memory_bytes", arguments.memory_bytes)]
    {
        if let Some(value) = value {
            plugin[key] = value.into();
        }
    }
    // What an operator grants to components of that size.
    let sandbox = json!({ "plugin_bytes_max": COMPONENT_BYTES_MAX });
    Ok(json!({
        "sandbox": sandbox, "models": tables(&models), "stores": tables(&stores), "plugins": { NAME: plugin },
    }))
}

/// `NAME=FILE`, the file made absolute.
fn named_files(flag: &str, given: &[String]) -> Outcome<Vec<(String, PathBuf)>> {
    let parse = |text: &String| {
        let (name, file) = text
            .split_once('=')
            .filter(|(name, _)| sluice_tensor::check_name(name).is_ok())
            .ok_or_else(|| Failure::usage(format!("{flag} needs NAME=FILE, not '{text}'")))?;
        Ok((name.to_owned(), absolute(Path::new(file))?))
    };
    given.iter().map(parse).collect()
}

fn absolute(path: &Path) -> Outcome<PathBuf> {
    std::path::absolute(path).map_err(|error| Failure::usage(format!("{}: {error}", path.display())))
}
