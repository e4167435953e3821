//! The stores that are open.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use sluice_sandbox::{KeyValue, MemoryStore};
use tokio::runtime::Handle;

use super::certificates::Trusted;
use super::checked::Checked;
use super::embedded::Embedded;
use super::redis::{self, Pool};
use super::table::{self, Fingerprint};
use crate::config::Store;

/// The stores that are open, over reloads. A store that no plugin uses any more closes
/// itself.
pub struct Stores {
    place: Place,
    trusted: Trusted,
    runtime: Handle,
    open: Mutex<Open>,
}

enum Place {
    /// Embedded stores lie in this directory, if there is one.
    Directory(Option<PathBuf>),
    /// Nothing is real: whatever can be written is empty memory.
    Nowhere,
}

#[derive(Default)]
struct Open {
    parts: BTreeMap<(Arc<str>, Arc<str>), Part>,
    embedded: BTreeMap<Arc<str>, Weak<Embedded>>,
    redis: BTreeMap<Arc<str>, (Store, Weak<Pool>)>,
}

/// What the plugins of one owner see of a store.
struct Part {
    settings: Store,
    content: Option<Fingerprint>,
    store: Weak<dyn KeyValue>,
}

impl Stores {
    /// Stores with their files in `stores/` of the state directory, if there is one.
    /// `ca` is trusted beside the system's certificates. Connections and readers are
    /// driven by `runtime`.
    ///
    /// # Errors
    /// `ca` cannot be used.
    pub fn new(state_directory: Option<&Path>, ca: Option<&Path>, runtime: Handle) -> Result<Self, String> {
        Ok(Self::trusting(Trusted::load(ca)?, state_directory, runtime))
    }

    pub(super) fn trusting(trusted: Trusted, state_directory: Option<&Path>, runtime: Handle) -> Self {
        let directory = state_directory.map(|directory| directory.join("stores"));
        Self { place: Place::Directory(directory), trusted, runtime, open: Mutex::default() }
    }

    /// Stores for a check: tables are loaded, and whatever can be written is empty memory,
    /// so that a check beside a running gateway neither meets its files nor its servers.
    pub(super) fn stand_ins(trusted: Trusted, runtime: Handle) -> Self {
        Self { place: Place::Nowhere, trusted, runtime, open: Mutex::default() }
    }

    /// The part of `owner` in a store: the same as before if its settings are, and the
    /// file that it comes from. Blocks on files.
    ///
    /// # Errors
    /// What is wrong with the store, for the operator; no password.
    pub fn open(
        &self,
        name: &Arc<str>,
        owner: Option<&Arc<str>>,
        settings: &Store,
    ) -> Result<Arc<dyn KeyValue>, String> {
        // A table is the same for all. Plugins without an owner are one owner's.
        let owner = owner.filter(|_| !matches!(settings, Store::File { .. }));
        let place = (Arc::clone(name), owner.map_or_else(|| Arc::from(""), Arc::clone));
        let content = settings.file().map(|path| table::fingerprint(path)).transpose()?;
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let known = open.parts.get(&place);
        let known = known.filter(|part| part.settings == *settings && part.content == content);
        if let Some(store) = known.and_then(|part| part.store.upgrade()) {
            return Ok(store);
        }
        let (store, content) = self.make(&mut open, &place, settings)?;
        open.parts.retain(|_, part| part.store.strong_count() > 0);
        let part = Part { settings: settings.clone(), content, store: Arc::downgrade(&store) };
        open.parts.insert(place, part);
        Ok(store)
    }

    fn make(
        &self,
        open: &mut Open,
        (name, owner): &(Arc<str>, Arc<str>),
        settings: &Store,
    ) -> Result<(Arc<dyn KeyValue>, Option<Fingerprint>), String> {
        let is_real = matches!(self.place, Place::Directory(_));
        let store: Arc<dyn KeyValue> = match settings {
            Store::File { file, bytes_max } => {
                let (content, store) = table::load(file, *bytes_max)?;
                return Ok((Arc::new(Checked::table(store)), Some(content)));
            }
            Store::Memory { bytes_max } => Arc::new(Checked::written(MemoryStore::with_room(*bytes_max))),
            Store::Embedded { bytes_max } if is_real => {
                Arc::new(self.embedded(open, name)?.of_owner(Arc::clone(owner), *bytes_max))
            }
            Store::Redis { url, timeout } if is_real => {
                let pool = self.redis(open, name, settings, (url, *timeout))?;
                Arc::new(redis::OwnedPart::new(pool, name, owner))
            }
            Store::Embedded { .. } | Store::Redis { .. } => {
                Arc::new(Checked::written(MemoryStore::with_room(u64::MAX)))
            }
        };
        Ok((store, None))
    }

    fn embedded(&self, open: &mut Open, name: &Arc<str>) -> Result<Arc<Embedded>, String> {
        if let Some(store) = open.embedded.get(name).and_then(Weak::upgrade) {
            return Ok(store);
        }
        let Place::Directory(Some(directory)) = &self.place else {
            return Err("an embedded store needs [state] dir".to_owned());
        };
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
        settings: &Store,
        (url, timeout): (&str, Duration),
    ) -> Result<Arc<Pool>, String> {
        let known = open.redis.get(name).filter(|(known, _)| known == settings);
        if let Some(pool) = known.and_then(|(_, pool)| pool.upgrade()) {
            return Ok(pool);
        }
        let pool = Arc::new(Pool::new(name, url, timeout, &self.trusted, self.runtime.clone())?);
        open.redis.retain(|_, (_, pool)| pool.strong_count() > 0);
        open.redis.insert(Arc::clone(name), (settings.clone(), Arc::downgrade(&pool)));
        Ok(pool)
    }
}
