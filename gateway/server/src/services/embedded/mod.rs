//! `kind = "embedded"`: a store in a file of the state directory, which the plugins of
//! one owner share and which a restart leaves as it was.
//!
//! Every owner has a key space of its own within the file: another owner's plugin that
//! is granted the same store sees its own keys only, and fills its own share only.

mod file;
mod table;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use sluice_sandbox::{Bookmarks, KeyPage, KeyValue, KeyValueError};
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use self::file::File;
use self::table::{Change, Write};
use super::limits::{check_key, check_keys, check_pairs, distinct, other};

/// Writes of one owner that wait at a time: an owner that floods the store fills its own
/// part of the queue.
const WRITES_MAX: usize = 128;

/// Bytes of keys and values in those writes: four of the largest at once.
const WRITES_BYTES_MAX: u32 = 64 << 20;

/// An open file of a store.
pub(super) struct Embedded(File);

impl Embedded {
    /// Opens or creates the file.
    ///
    /// # Errors
    /// It cannot be opened, or another process has it.
    pub(super) fn open(path: &Path, runtime: Handle) -> Result<Self, String> {
        File::open(path, runtime).map(Self)
    }

    /// The part of one owner, who may hold this many bytes of keys and values.
    pub(super) fn of_owner(self: &Arc<Self>, owner: Arc<str>, bytes_max: u64) -> OwnedPart {
        OwnedPart {
            store: Arc::clone(self),
            owner,
            bytes_max,
            turns: Arc::new(Semaphore::new(WRITES_MAX)),
            room: Arc::new(Semaphore::new(WRITES_BYTES_MAX as usize)),
            bookmarks: Mutex::default(),
        }
    }
}

/// A write's share of what may wait. It goes with the write: a caller that leaves takes
/// nothing of it back while the bytes are in the queue.
pub(super) struct Turn {
    _turn: OwnedSemaphorePermit,
    _room: OwnedSemaphorePermit,
}

/// What the plugins of one owner see of a store.
pub(super) struct OwnedPart {
    store: Arc<Embedded>,
    owner: Arc<str>,
    bytes_max: u64,
    turns: Arc<Semaphore>,
    room: Arc<Semaphore>,
    bookmarks: Mutex<Bookmarks>,
}

impl OwnedPart {
    async fn write(&self, change: Change) -> Result<u64, KeyValueError> {
        let bytes = change.bytes();
        if bytes > self.bytes_max {
            return Err(other("store is full"));
        }
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX).min(WRITES_BYTES_MAX);
        let turn = Arc::clone(&self.turns).try_acquire_owned();
        let room = Arc::clone(&self.room).try_acquire_many_owned(bytes);
        let (Ok(turn), Ok(room)) = (turn, room) else { return Err(other("store is busy")) };
        let write = Write { owner: Arc::clone(&self.owner), change, bytes_max: self.bytes_max };
        self.store.0.write(write, Some(Turn { _turn: turn, _room: room })).await
    }

    async fn put(&self, values: BTreeMap<String, Option<Bytes>>) -> Result<(), KeyValueError> {
        self.write(Change::Put(values)).await.map(drop)
    }

    fn bookmarks(&self) -> std::sync::MutexGuard<'_, Bookmarks> {
        self.bookmarks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl KeyValue for OwnedPart {
    async fn get(&self, key: &str) -> Result<Option<Bytes>, KeyValueError> {
        let keys = [key.to_owned()];
        Ok(self.get_many(&keys).await?.into_iter().next().flatten())
    }

    async fn get_many(&self, keys: &[String]) -> Result<Vec<Option<Bytes>>, KeyValueError> {
        check_keys(keys)?;
        let (once, places) = distinct(keys);
        let owner = Arc::clone(&self.owner);
        let values = self.store.0.read(move |database| table::look_up(database, &owner, &once)).await?;
        Ok(places.into_iter().map(|place| values.get(place).cloned().flatten()).collect())
    }

    async fn set(&self, key: &str, value: Bytes) -> Result<(), KeyValueError> {
        self.set_many(vec![(key.to_owned(), value)]).await
    }

    async fn delete(&self, key: &str) -> Result<(), KeyValueError> {
        self.delete_many(&[key.to_owned()]).await
    }

    async fn exists(&self, key: &str) -> Result<bool, KeyValueError> {
        check_key(key)?;
        let (owner, key) = (Arc::clone(&self.owner), key.to_owned());
        self.store.0.read(move |database| table::holds(database, &owner, &key).map(Ok)).await
    }

    async fn list_keys(&self, cursor: Option<u64>) -> Result<KeyPage, KeyValueError> {
        let last = match cursor {
            Some(cursor) => {
                Some(self.bookmarks().find(cursor).ok_or_else(|| other("cursor is not known any more"))?)
            }
            None => None,
        };
        let owner = Arc::clone(&self.owner);
        let page =
            self.store.0.read(move |database| table::keys_after(database, &owner, last.as_deref()).map(Ok));
        let (keys, has_more) = page.await?;
        let last = keys.last().filter(|_| has_more).cloned();
        let cursor = last.map(|last| self.bookmarks().keep(last));
        Ok(KeyPage { keys, cursor })
    }

    async fn set_many(&self, pairs: Vec<(String, Bytes)>) -> Result<(), KeyValueError> {
        check_pairs(&pairs)?;
        self.put(pairs.into_iter().map(|(key, value)| (key, Some(value))).collect()).await
    }

    async fn delete_many(&self, keys: &[String]) -> Result<(), KeyValueError> {
        check_keys(keys)?;
        self.put(keys.iter().map(|key| (key.clone(), None)).collect()).await
    }

    async fn increment(&self, key: &str, delta: u64) -> Result<u64, KeyValueError> {
        check_key(key)?;
        self.write(Change::Add(key.to_owned(), delta)).await
    }
}
