//! What stands behind the host services of plugins: stores and outgoing HTTP.
//!
//! What a plugin gets of a store is the part of its owner: plugins of one owner share a
//! store, those of another see nothing of it, and plugins without an owner count as one
//! owner's. Only tables from files are the same for all, and nobody can write them.

pub(crate) mod certificates;
mod checked;
pub mod egress;
mod embedded;
mod limits;
mod redis;
mod stores;
mod table;

use std::sync::Arc;

pub use sluice_sandbox::{KeyPage, KeyValue, KeyValueError};
use tokio::runtime::Handle;

use self::certificates::Trusted;
use self::egress::{Egress, EgressSettings, PluginEgress};
pub use self::stores::Stores;
use crate::config::{Config, Plugin};

/// Everything behind host services. It outlives snapshots: connections and open files
/// stay over a reload.
pub struct Services {
    stores: Stores,
    egress: Egress,
}

impl Services {
    /// Reads certificates; opens nothing else yet. Work is driven by `runtime`, which has
    /// sockets and threads that may block: guests' threads have neither.
    ///
    /// # Errors
    /// The operator's certificates cannot be used.
    pub fn new(config: &Config, runtime: Handle) -> Result<Self, String> {
        let trusted = Trusted::load(config.egress.ca.as_deref())?;
        let egress = Egress::trusting(&trusted, egress(config), runtime.clone())?;
        let stores = Stores::trusting(trusted, config.state.dir.as_deref(), runtime);
        Ok(Self { stores, egress })
    }

    /// For a check beside a running gateway: see [`Stores`]. Requests of plugins go out.
    ///
    /// # Errors
    /// The operator's certificates cannot be used.
    pub fn for_a_check(config: &Config, runtime: Handle) -> Result<Self, String> {
        let trusted = Trusted::load(config.egress.ca.as_deref())?;
        let egress = Egress::trusting(&trusted, egress(config), runtime.clone())?;
        Ok(Self { stores: Stores::stand_ins(trusted, runtime), egress })
    }

    /// The stores.
    pub fn stores(&self) -> &Stores {
        &self.stores
    }

    /// Outgoing HTTP of a plugin, if it is granted any.
    pub fn http(&self, plugin: &Plugin) -> Option<PluginEgress> {
        if plugin.http_hosts.is_empty() {
            return None;
        }
        let owner = plugin.owner.as_ref().map_or_else(|| Arc::from(""), Arc::clone);
        Some(self.egress.for_plugin(&owner, plugin.http_hosts.clone()))
    }
}

fn egress(config: &Config) -> EgressSettings {
    let egress = &config.egress;
    EgressSettings {
        connect_timeout: egress.connect_timeout,
        timeout: egress.timeout,
        body_bytes_max: egress.body_bytes_max,
        allow_private: egress.allow_private,
    }
}
