//! What one plugin is granted: the models and stores that its configuration names.

use std::collections::BTreeMap;
use std::sync::Arc;

use sluice_sandbox::{Grants, KeyValue, Outgoing};

use super::Snapshot;
use super::caller::GrantedModels;
use super::model::Model;
use crate::config;
use crate::services::Services;

/// A store under the name that a plugin opens it with.
type NamedStore = (Arc<str>, Arc<dyn KeyValue>);

/// Capabilities that a version was loaded with. They are compared by identity: a model or
/// a store that was opened again is another one.
#[derive(Clone, Default)]
pub(super) struct Granted {
    pub(super) models: Vec<Arc<Model>>,
    stores: Vec<NamedStore>,
    /// It has no state but connections, so it is not compared: the configuration is.
    http: Option<Arc<dyn Outgoing>>,
}

impl Granted {
    /// What a plugin's configuration grants, of these models. Blocks on files.
    ///
    /// # Errors
    /// The store that cannot be opened, and why.
    pub(super) fn of(
        services: &Services,
        config: &config::Config,
        plugin: &config::Plugin,
        models: &BTreeMap<Arc<str>, Arc<Model>>,
    ) -> Result<Self, (Arc<str>, String)> {
        let models = plugin.models.iter().filter_map(|name| models.get(name)).map(Arc::clone).collect();
        let mut stores = Vec::with_capacity(plugin.stores.len());
        for name in &plugin.stores {
            let Some(settings) = config.stores.get(name) else { continue };
            let opened = services.stores().open(name, plugin.owner.as_ref(), settings);
            stores.push((Arc::clone(name), opened.map_err(|what| (Arc::clone(name), what))?));
        }
        let http = services.http(plugin).map(|egress| Arc::new(egress) as _);
        Ok(Self { models, stores, http })
    }

    pub(super) fn is_same(&self, other: &Self) -> bool {
        let models = self.models.len() == other.models.len()
            && self.models.iter().zip(&other.models).all(|(old, new)| Arc::ptr_eq(old, new));
        let same = |(old, new): (&NamedStore, &NamedStore)| {
            old.0 == new.0 && std::ptr::addr_eq(Arc::as_ptr(&old.1), Arc::as_ptr(&new.1))
        };
        models && self.stores.len() == other.stores.len() && self.stores.iter().zip(&other.stores).all(same)
    }

    /// As the sandbox takes them.
    pub(super) fn grants(&self, plugin: &config::Plugin) -> Grants {
        let keyvalue = self.stores.iter().map(|(name, store)| (name.to_string(), Arc::clone(store)));
        let callable: BTreeMap<_, _> =
            self.models.iter().map(|model| (Arc::clone(model.name()), Arc::clone(model))).collect();
        let inference = (!callable.is_empty()).then(|| Arc::new(GrantedModels(callable)) as _);
        Grants {
            keyvalue: keyvalue.collect(),
            inference,
            http: self.http.clone(),
            config: values(&plugin.config),
            files: plugin.files.iter().map(|(guest, host)| (host.clone(), guest.clone())).collect(),
            environment: plugin.environment.clone().into_iter().collect(),
            arguments: plugin.arguments.clone(),
            clocks: Some(plugin.clocks),
            random: Some(plugin.random),
        }
    }
}

impl Snapshot {
    /// What a plugin's versions are granted: nothing, if the configuration does not name it.
    pub(super) fn granted(&self, plugin: &str) -> Granted {
        self.plugins.get(plugin).map(|slot| slot.granted.clone()).unwrap_or_default()
    }
}

/// A plugin's table as `wasi:config` tells it: texts as they are, everything else as JSON.
fn values(config: &serde_json::Value) -> BTreeMap<String, String> {
    let text = |value: &serde_json::Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let entries = config.as_object().into_iter().flatten();
    entries.map(|(key, value)| (key.clone(), text(value))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_told_as_they_are_and_the_rest_as_json() {
        let config =
            serde_json::json!({"name": "a \"b\"", "top": 10, "on": true, "list": [1, "x"], "none": null});
        let wanted =
            [("list", "[1,\"x\"]"), ("name", "a \"b\""), ("none", "null"), ("on", "true"), ("top", "10")];
        let wanted = wanted.map(|(key, value)| (key.to_owned(), value.to_owned()));
        assert_eq!(values(&config), BTreeMap::from(wanted));
        assert_eq!(values(&serde_json::Value::Null), BTreeMap::new());
    }
}
