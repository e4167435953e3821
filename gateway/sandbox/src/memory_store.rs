//! A key-value store in memory, filled once from a file.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock};

use async_trait::async_trait;
use bytes::Bytes;

use crate::bookmarks::Bookmarks;
use crate::error::KeyValueError;
use crate::host::{KeyPage, KeyValue};

/// Keys that one page of a listing holds: what a plugin gets at once.
const PAGE_KEYS: usize = 1000;

/// Most bytes of keys and values that plugins may write into one store unless it says
/// otherwise, so that a plugin cannot fill the gateway's memory. What the store started
/// with does not count.
const WRITTEN_BYTES_MAX: usize = 64 << 20;

/// What an entry costs beside its bytes.
const ENTRY_BYTES: usize = 64;

/// A store in memory. Values are shared, never copied.
#[derive(Debug)]
pub struct MemoryStore {
    entries: RwLock<Entries>,
    is_read_only: bool,
    /// The last keys of all pages but the last, where they never change: then anybody's
    /// cursors are good for ever. A store that can be written has one owner, and bookmarks.
    page_ends: Vec<String>,
    bookmarks: Mutex<Bookmarks>,
}

#[derive(Debug)]
struct Entries {
    values: BTreeMap<String, Bytes>,
    /// Bytes written since the start, less what was removed again.
    written_bytes: usize,
    written_bytes_max: usize,
}

fn cost(key: &str, value: &Bytes) -> usize {
    key.len() + value.len() + ENTRY_BYTES
}

impl Entries {
    /// Stores all of the pairs, or none if they do not fit.
    fn insert(&mut self, pairs: BTreeMap<String, Bytes>) -> Result<(), KeyValueError> {
        let freed = pairs.keys().filter_map(|key| self.values.get(key).map(|old| cost(key, old)));
        let freed = freed.fold(0, usize::saturating_add);
        let added = pairs.iter().map(|(key, value)| cost(key, value)).fold(0, usize::saturating_add);
        if self.written_bytes.saturating_sub(freed).saturating_add(added) > self.written_bytes_max {
            return Err(KeyValueError::Other("store is full".to_owned()));
        }
        for (key, value) in pairs {
            self.remove(&key);
            self.written_bytes = self.written_bytes.saturating_add(cost(&key, &value));
            self.values.insert(key, value);
        }
        Ok(())
    }

    fn remove(&mut self, key: &str) {
        if let Some(old) = self.values.remove(key) {
            self.written_bytes = self.written_bytes.saturating_sub(cost(key, &old));
        }
    }
}

impl MemoryStore {
    /// A store with these entries.
    pub fn new(values: BTreeMap<String, Bytes>, is_read_only: bool) -> Self {
        Self::with_entries(values, is_read_only, WRITTEN_BYTES_MAX)
    }

    /// An empty store that takes this many bytes of keys and values.
    pub fn with_room(written_bytes_max: u64) -> Self {
        let written_bytes_max = usize::try_from(written_bytes_max).unwrap_or(usize::MAX);
        Self::with_entries(BTreeMap::new(), false, written_bytes_max)
    }

    fn with_entries(values: BTreeMap<String, Bytes>, is_read_only: bool, written_bytes_max: usize) -> Self {
        let ends = values.keys().skip(PAGE_KEYS - 1).step_by(PAGE_KEYS);
        let page_ends = if is_read_only { ends.cloned().collect() } else { Vec::new() };
        let entries = RwLock::new(Entries { values, written_bytes: 0, written_bytes_max });
        Self { entries, is_read_only, page_ends, bookmarks: Mutex::default() }
    }

    fn bookmarks(&self) -> MutexGuard<'_, Bookmarks> {
        self.bookmarks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The last key of the page that this cursor comes after.
    fn end_of_page(&self, cursor: u64) -> Option<String> {
        if !self.is_read_only {
            return self.bookmarks().find(cursor);
        }
        let page = usize::try_from(cursor.checked_sub(1)?).ok()?;
        self.page_ends.get(page).cloned()
    }

    fn read<T>(&self, look: impl FnOnce(&BTreeMap<String, Bytes>) -> T) -> T {
        // A writer that panicked left the map whole: every change is one call.
        look(&self.entries.read().unwrap_or_else(PoisonError::into_inner).values)
    }

    /// Every change is made under one lock: nobody sees half of it.
    fn write<T>(
        &self,
        change: impl FnOnce(&mut Entries) -> Result<T, KeyValueError>,
    ) -> Result<T, KeyValueError> {
        if self.is_read_only {
            return Err(KeyValueError::ReadOnly);
        }
        change(&mut self.entries.write().unwrap_or_else(PoisonError::into_inner))
    }
}

#[async_trait]
impl KeyValue for MemoryStore {
    async fn get(&self, key: &str) -> Result<Option<Bytes>, KeyValueError> {
        Ok(self.read(|values| values.get(key).cloned()))
    }

    async fn get_many(&self, keys: &[String]) -> Result<Vec<Option<Bytes>>, KeyValueError> {
        Ok(self.read(|values| keys.iter().map(|key| values.get(key).cloned()).collect()))
    }

    async fn set(&self, key: &str, value: Bytes) -> Result<(), KeyValueError> {
        self.write(|entries| entries.insert(BTreeMap::from([(key.to_owned(), value)])))
    }

    async fn delete(&self, key: &str) -> Result<(), KeyValueError> {
        self.write(|entries| {
            entries.remove(key);
            Ok(())
        })
    }

    /// All of them or none. The last value of a key is the one that counts.
    async fn set_many(&self, pairs: Vec<(String, Bytes)>) -> Result<(), KeyValueError> {
        let pairs = pairs.into_iter().collect();
        self.write(|entries| entries.insert(pairs))
    }

    async fn delete_many(&self, keys: &[String]) -> Result<(), KeyValueError> {
        self.write(|entries| {
            keys.iter().for_each(|key| entries.remove(key));
            Ok(())
        })
    }

    async fn increment(&self, key: &str, delta: u64) -> Result<u64, KeyValueError> {
        self.write(|entries| {
            let number = match entries.values.get(key) {
                None => Some(0),
                Some(value) => std::str::from_utf8(value)
                    .ok()
                    .filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()))
                    .and_then(|text| text.parse::<u64>().ok()),
            };
            let number = number.ok_or_else(|| KeyValueError::Other("value is not a number".to_owned()))?;
            let sum = number.checked_add(delta);
            let sum = sum.ok_or_else(|| KeyValueError::Other("number is too large".to_owned()))?;
            entries.insert(BTreeMap::from([(key.to_owned(), Bytes::from(sum.to_string()))]))?;
            Ok(sum)
        })
    }

    async fn exists(&self, key: &str) -> Result<bool, KeyValueError> {
        Ok(self.read(|values| values.contains_key(key)))
    }

    async fn list_keys(&self, cursor: Option<u64>) -> Result<KeyPage, KeyValueError> {
        let unknown = || KeyValueError::Other("cursor is not known any more".to_owned());
        let last = cursor.map(|cursor| self.end_of_page(cursor).ok_or_else(unknown)).transpose()?;
        let (keys, has_more) = self.read(|values| {
            let from = last.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
            let mut after = values.range::<str, _>((from, Bound::Unbounded)).map(|(key, _)| key);
            let keys: Vec<String> = after.by_ref().take(PAGE_KEYS).cloned().collect();
            (keys, after.next().is_some())
        });
        let last = keys.last().filter(|_| has_more);
        let next = |last: &String| {
            if self.is_read_only { cursor.unwrap_or(0) + 1 } else { self.bookmarks().keep(last.clone()) }
        };
        let cursor = last.map(next);
        Ok(KeyPage { keys, cursor })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block_on<T>(work: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().build().expect("a runtime").block_on(work)
    }

    #[test]
    fn a_read_only_store_refuses_every_change() {
        let store = MemoryStore::new(BTreeMap::from([("a".to_owned(), Bytes::from_static(b"1"))]), true);
        block_on(async {
            assert_eq!(store.set("a", Bytes::new()).await, Err(KeyValueError::ReadOnly));
            assert_eq!(store.delete("a").await, Err(KeyValueError::ReadOnly));
            assert_eq!(store.get("a").await, Ok(Some(Bytes::from_static(b"1"))));
        });
    }

    #[test]
    fn look_ups_keep_the_order_of_the_keys() {
        let store = MemoryStore::new(BTreeMap::from([("a".to_owned(), Bytes::from_static(b"1"))]), false);
        let keys = ["b", "a", "a"].map(str::to_owned);
        let one = Some(Bytes::from_static(b"1"));
        assert_eq!(block_on(store.get_many(&keys)), Ok(vec![None, one.clone(), one]));
    }

    #[test]
    fn a_listing_pages_through_every_key_once() {
        for (count, is_read_only) in [(2500, true), (2500, false), (2000, true), (2000, false), (0, true)] {
            let values = (0..count).map(|i| (format!("{i:05}"), Bytes::new())).collect();
            let store = MemoryStore::new(values, is_read_only);
            let (mut seen, mut cursor) = (Vec::new(), None);
            loop {
                let page = block_on(store.list_keys(cursor)).expect("a page");
                seen.extend(page.keys);
                cursor = page.cursor;
                if cursor.is_none() {
                    break;
                }
            }
            assert_eq!(seen, (0..count).map(|i| format!("{i:05}")).collect::<Vec<_>>());
        }
    }

    #[test]
    fn writing_is_bounded_and_removing_makes_room() {
        let store = MemoryStore::new(BTreeMap::new(), false);
        let half = Bytes::from(vec![0; WRITTEN_BYTES_MAX / 2]);
        block_on(async {
            store.set("a", half.clone()).await.expect("fits");
            assert!(store.set("b", half.clone()).await.is_err());
            store.set("a", half.clone()).await.expect("replacing needs no more room");
            store.delete("a").await.expect("removed");
            store.set("b", half).await.expect("fits again");
        });
    }

    #[test]
    fn pairs_are_stored_all_or_none() {
        let store = MemoryStore::new(BTreeMap::new(), false);
        let half = Bytes::from(vec![0; WRITTEN_BYTES_MAX / 2]);
        let pair = |key: &str| (key.to_owned(), half.clone());
        block_on(async {
            assert!(store.set_many(vec![pair("a"), pair("b")]).await.is_err());
            assert_eq!(store.exists("a").await, Ok(false));
            let small = |key: &str| (key.to_owned(), Bytes::from_static(b"1"));
            store.set_many(vec![small("a"), small("b"), small("a")]).await.expect("they fit");
            store.delete_many(&["a", "b", "none"].map(str::to_owned)).await.expect("removed");
            assert_eq!(store.list_keys(None).await, Ok(KeyPage::default()));
            assert_eq!(store.entries.read().expect("whole").written_bytes, 0);
        });
    }

    #[test]
    fn a_key_that_is_given_many_times_frees_its_bytes_once() {
        let store = MemoryStore::with_room(1 << 20);
        let large = Bytes::from(vec![0; 500_000]);
        block_on(async {
            store.set("k", large.clone()).await.expect("fits");
            let mut pairs = vec![("k".to_owned(), Bytes::new()); 9000];
            pairs.push(("k".to_owned(), large.clone()));
            pairs.extend((0..3).map(|number| (number.to_string(), large.clone())));
            assert!(store.set_many(pairs).await.is_err(), "two megabytes in one");
            let repeated = vec![("k".to_owned(), large.clone()); 9];
            store.set_many(repeated).await.expect("it is one value, however often");
            let written: usize = store.read(|values| values.values().map(Bytes::len).sum());
            assert_eq!(written, large.len());
        });
    }

    #[test]
    fn a_cursor_that_nobody_was_given_is_refused_without_looking_for_it() {
        let values = (0..2500).map(|i| (format!("{i:05}"), Bytes::new())).collect();
        let store = MemoryStore::new(values, true);
        assert!(matches!(block_on(store.list_keys(Some(100_000_000))), Err(KeyValueError::Other(_))));
    }

    #[test]
    fn counting_from_many_threads_loses_nothing() {
        let store = MemoryStore::new(BTreeMap::new(), false);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..500 {
                        block_on(store.increment("n", 2)).expect("a number");
                    }
                });
            }
        });
        assert_eq!(block_on(store.get("n")), Ok(Some(Bytes::from_static(b"4000"))));
    }

    #[test]
    fn what_is_no_number_is_not_counted_and_stays() {
        let values = [("text", "abc"), ("sign", "+5"), ("large", "18446744073709551615")];
        let entries = values.map(|(key, value)| (key.to_owned(), Bytes::from_static(value.as_bytes())));
        let store = MemoryStore::new(BTreeMap::from(entries), false);
        block_on(async {
            for (key, value) in values {
                assert!(matches!(store.increment(key, 1).await, Err(KeyValueError::Other(_))), "{key}");
                assert_eq!(store.get(key).await, Ok(Some(Bytes::from_static(value.as_bytes()))));
            }
        });
    }
}
