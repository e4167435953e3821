//! What stands behind the host services of plugins: stores and outgoing HTTP.
//!
//! [`Stores`] opens stores and keeps them open over reloads. What a plugin gets is the
//! part of its owner: plugins of one owner share a store, those of another see nothing
//! of it. Only tables from files are the same for all, and nobody can write them.

pub mod egress;
mod embedded;
mod limits;
mod redis;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use sluice_sandbox::MemoryStore;
pub use sluice_sandbox::{KeyPage, KeyValue, KeyValueError};
use tokio::runtime::Handle;

use self::embedded::Embedded;
use self::redis::Pool;

/// A store that can be written.
#[derive(Clone, PartialEq)]
pub enum StoreSettings {
    /// In memory, empty at each start.
    Memory {
        /// Most bytes of keys and values of one owner.
        bytes_max: u64,
    },
    /// In a file of the state directory.
    Embedded {
        /// Most bytes of keys and values of one owner.
        bytes_max: u64,
    },
    /// On a Redis server.
    Redis {
        /// `redis://` or `rediss://`, perhaps with a password: never logged.
        url: String,
        /// Time for one command.
        timeout: Duration,
    },
}

impl std::fmt::Debug for StoreSettings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Memory { bytes_max } => f.debug_struct("Memory").field("bytes_max", bytes_max).finish(),
            Self::Embedded { bytes_max } => f.debug_struct("Embedded").field("bytes_max", bytes_max).finish(),
            Self::Redis { timeout, .. } => {
                f.debug_struct("Redis").field("timeout", timeout).finish_non_exhaustive()
            }
        }
    }
}

/// The stores that are open. A store that no plugin uses any more closes itself.
pub struct Stores {
    /// Where embedded stores lie.
    directory: Option<PathBuf>,
    runtime: Handle,
    open: Mutex<Open>,
}

#[derive(Default)]
struct Open {
    parts: BTreeMap<(Arc<str>, Arc<str>), Part>,
    embedded: BTreeMap<Arc<str>, Weak<Embedded>>,
    redis: BTreeMap<Arc<str>, (StoreSettings, Weak<Pool>)>,
}

struct Part {
    settings: StoreSettings,
    store: Weak<dyn KeyValue>,
}

impl Stores {
    /// Stores with their files in `stores/` of the state directory, if there is one.
    /// Connections and readers are driven by `runtime`.
    pub fn new(state_directory: Option<PathBuf>, runtime: Handle) -> Self {
        let directory = state_directory.map(|directory| directory.join("stores"));
        Self { directory, runtime, open: Mutex::default() }
    }

    /// The part of `owner` in a store: the same as before if its settings are. Blocks on
    /// opening files.
    ///
    /// # Errors
    /// What is wrong with the store, for the operator; no password.
    pub fn open(
        &self,
        name: &Arc<str>,
        owner: &Arc<str>,
        settings: &StoreSettings,
    ) -> Result<Arc<dyn KeyValue>, String> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let place = (Arc::clone(name), Arc::clone(owner));
        let known = open.parts.get(&place).filter(|part| part.settings == *settings);
        if let Some(store) = known.and_then(|part| part.store.upgrade()) {
            return Ok(store);
        }
        let store: Arc<dyn KeyValue> = match settings {
            StoreSettings::Memory { bytes_max } => Arc::new(MemoryStore::with_room(*bytes_max)),
            StoreSettings::Embedded { bytes_max } => {
                Arc::new(self.embedded(&mut open, name)?.of_owner(Arc::clone(owner), *bytes_max))
            }
            StoreSettings::Redis { url, timeout } => {
                let pool = self.redis(&mut open, name, settings, (url, *timeout))?;
                Arc::new(redis::OwnedPart::new(pool, name, owner))
            }
        };
        open.parts.retain(|_, part| part.store.strong_count() > 0);
        open.parts.insert(place, Part { settings: settings.clone(), store: Arc::downgrade(&store) });
        Ok(store)
    }

    fn embedded(&self, open: &mut Open, name: &Arc<str>) -> Result<Arc<Embedded>, String> {
        if let Some(store) = open.embedded.get(name).and_then(Weak::upgrade) {
            return Ok(store);
        }
        let directory = self.directory.as_ref().ok_or("an embedded store needs [state] dir")?;
        let path = directory.join(format!("{name}.redb"));
        let store = Arc::new(Embedded::open(&path, self.runtime.clone())?);
        open.embedded.retain(|_, store| store.strong_count() > 0);
        open.embedded.insert(Arc::clone(name), Arc::downgrade(&store));
        Ok(store)
    }

    fn redis(
        &self,
        open: &mut Open,
        name: &Arc<str>,
        settings: &StoreSettings,
        (url, timeout): (&str, Duration),
    ) -> Result<Arc<Pool>, String> {
        let known = open.redis.get(name).filter(|(known, _)| known == settings);
        if let Some(pool) = known.and_then(|(_, pool)| pool.upgrade()) {
            return Ok(pool);
        }
        let pool = Arc::new(Pool::new(name, url, timeout, self.runtime.clone())?);
        open.redis.retain(|_, (_, pool)| pool.strong_count() > 0);
        open.redis.insert(Arc::clone(name), (settings.clone(), Arc::downgrade(&pool)));
        Ok(pool)
    }
}
