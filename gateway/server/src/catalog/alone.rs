//! One plugin outside of any pipeline: what `sluice plugin test` runs. It gets what a
//! gateway of the same configuration would give it.

use std::collections::BTreeMap;
use std::sync::Arc;

use sluice_sandbox::{Inference, LogSink, PluginOptions};
use tokio::runtime::Handle;

use super::build::{self, Builder};
use super::grants::Granted;
use super::model::Model;
use crate::config::{Config, Plugin};
use crate::services::Services;

/// A plugin's options, with all that it is granted but models, and its real models apart, if
/// it has any: a test stands before them. `builder` is called only if there are models to
/// load. Blocks on files and engines.
///
/// # Errors
/// What keeps a store or a model from being loaded.
pub(crate) fn alone(
    config: &Config,
    name: &str,
    log: Arc<dyn LogSink>,
    builder: impl FnOnce(&Config) -> Result<Builder, String>,
) -> Result<(PluginOptions, Option<Arc<dyn Inference>>), String> {
    let Some(plugin) = config.plugins.get(name) else {
        return Err(format!("there is no [plugins.{name}] in {}", config.source.display()));
    };
    let services = Services::for_a_check(config, Handle::current())?;
    let models = if plugin.models.is_empty() { BTreeMap::new() } else { models(config, plugin, builder)? };
    let granted = Granted::of(&services, config, plugin, &models)
        .map_err(|(store, what)| format!("stores.{store}: {what}"))?;
    let mut grants = granted.grants(plugin);
    let real = grants.inference.take();
    Ok((build::options(plugin, grants, log), real))
}

/// The plugin's models, behind their queues as in a gateway.
fn models(
    config: &Config,
    plugin: &Plugin,
    builder: impl FnOnce(&Config) -> Result<Builder, String>,
) -> Result<BTreeMap<Arc<str>, Arc<Model>>, String> {
    let mut of_models = config.clone();
    of_models.models.retain(|name, _| plugin.models.contains(name));
    of_models.plugins.clear();
    of_models.pipelines.clear();
    of_models.stores.clear();
    let builder = builder(&of_models)?;
    let built = builder.build(Arc::new(of_models), None, None).map_err(|error| error.to_string())?;
    Ok(built.into_models())
}
