//! One plugin outside of any pipeline: what `sluice plugin test` runs. It gets what a
//! gateway of the same configuration would give it.

use std::sync::Arc;

use sluice_sandbox::{Grants, Inference, LogSink, PluginOptions};
use tokio::runtime::Handle;

use super::build::{self, Builder};
use super::caller::GrantedModels;
use crate::config::Config;
use crate::services::Services;

/// A plugin's options, with its stores but without models, and its real models apart, if
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
    let mut grants = Grants::default();
    for name in &plugin.stores {
        let Some(store) = config.stores.get(name) else { continue };
        let opened = services.stores().open(name, plugin.owner.as_ref(), store);
        let opened = opened.map_err(|what| format!("stores.{name}: {what}"))?;
        grants.keyvalue.insert(name.to_string(), opened);
    }
    let options = build::options(plugin, grants, log);
    if plugin.models.is_empty() {
        return Ok((options, None));
    }
    let mut of_models = config.clone();
    of_models.models.retain(|name, _| plugin.models.contains(name));
    of_models.plugins.clear();
    of_models.pipelines.clear();
    of_models.stores.clear();
    let builder = builder(&of_models)?;
    let built = builder.build(Arc::new(of_models), None).map_err(|error| error.to_string())?;
    Ok((options, Some(Arc::new(GrantedModels(built.into_models())))))
}
