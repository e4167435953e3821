//! Stores in memory under the limits that every store has: a call that names a million keys
//! would keep a guest's thread, and everybody else out of the store, for as long.

use async_trait::async_trait;
use bytes::Bytes;
use sluice_sandbox::{KeyPage, KeyValue, KeyValueError, MemoryStore};

use super::limits::{KEYS_MAX, check_key, check_keys, check_pairs, other};

/// A store in memory that checks what it is asked.
pub(super) struct Checked {
    store: MemoryStore,
    /// Whether keys are plugins' own. Those of a table are the operator's, of any length.
    has_short_keys: bool,
}

impl Checked {
    /// One that plugins write.
    pub(super) fn written(store: MemoryStore) -> Self {
        Self { store, has_short_keys: true }
    }

    /// One that was loaded from a file.
    pub(super) fn table(store: MemoryStore) -> Self {
        Self { store, has_short_keys: false }
    }

    fn check(&self, keys: &[String]) -> Result<(), KeyValueError> {
        match (self.has_short_keys, keys.len() > KEYS_MAX) {
            (true, _) => check_keys(keys),
            (false, true) => Err(other("too many keys in one call")),
            (false, false) => Ok(()),
        }
    }

    fn check_one(&self, key: &str) -> Result<(), KeyValueError> {
        if self.has_short_keys { check_key(key) } else { Ok(()) }
    }
}

#[async_trait]
impl KeyValue for Checked {
    async fn get(&self, key: &str) -> Result<Option<Bytes>, KeyValueError> {
        self.check_one(key)?;
        self.store.get(key).await
    }

    async fn get_many(&self, keys: &[String]) -> Result<Vec<Option<Bytes>>, KeyValueError> {
        self.check(keys)?;
        self.store.get_many(keys).await
    }

    async fn set(&self, key: &str, value: Bytes) -> Result<(), KeyValueError> {
        self.set_many(vec![(key.to_owned(), value)]).await
    }

    async fn delete(&self, key: &str) -> Result<(), KeyValueError> {
        self.check_one(key)?;
        self.store.delete(key).await
    }

    async fn exists(&self, key: &str) -> Result<bool, KeyValueError> {
        self.check_one(key)?;
        self.store.exists(key).await
    }

    async fn list_keys(&self, cursor: Option<u64>) -> Result<KeyPage, KeyValueError> {
        self.store.list_keys(cursor).await
    }

    async fn set_many(&self, pairs: Vec<(String, Bytes)>) -> Result<(), KeyValueError> {
        check_pairs(&pairs)?;
        self.store.set_many(pairs).await
    }

    async fn delete_many(&self, keys: &[String]) -> Result<(), KeyValueError> {
        self.check(keys)?;
        self.store.delete_many(keys).await
    }

    async fn increment(&self, key: &str, delta: u64) -> Result<u64, KeyValueError> {
        self.check_one(key)?;
        self.store.increment(key, delta).await
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::limits::{ANSWER_BYTES_MAX, KEY_BYTES_MAX, VALUE_BYTES_MAX};
    use super::*;

    #[tokio::test]
    async fn stores_in_memory_have_the_limits_of_all_stores() {
        let store = Checked::written(MemoryStore::with_room(u64::MAX));
        let many: Vec<String> = (0..=KEYS_MAX).map(|number| number.to_string()).collect();
        let long = "k".repeat(KEY_BYTES_MAX + 1);
        assert!(store.get_many(&many).await.is_err());
        assert!(store.delete_many(&many).await.is_err());
        let pairs = |keys: &[String], bytes: usize| {
            let value = Bytes::from(vec![0; bytes]);
            keys.iter().map(|key| (key.clone(), value.clone())).collect::<Vec<_>>()
        };
        assert!(store.set_many(pairs(&many, 0)).await.is_err());
        assert!(store.set_many(pairs(&many[..1], VALUE_BYTES_MAX + 1)).await.is_err());
        let too_large = ANSWER_BYTES_MAX / VALUE_BYTES_MAX + 1;
        assert!(store.set_many(pairs(&many[..too_large], VALUE_BYTES_MAX)).await.is_err());
        assert!(store.set("k", Bytes::from(vec![0; VALUE_BYTES_MAX + 1])).await.is_err());
        assert!(store.set(&long, Bytes::new()).await.is_err());
        assert!(store.get(&long).await.is_err() && store.exists(&long).await.is_err());
        assert!(store.delete(&long).await.is_err() && store.increment(&long, 1).await.is_err());
        assert_eq!(store.list_keys(None).await.map(|page| page.keys), Ok(Vec::new()), "nothing was stored");
        store.set_many(pairs(&many[..KEYS_MAX], 1)).await.expect("within every limit");
        assert_eq!(store.get_many(&many[1..]).await.map(|values| values.len()), Ok(KEYS_MAX));

        let values = BTreeMap::from([(long.clone(), Bytes::from_static(b"1"))]);
        let table = Checked::table(MemoryStore::new(values, true));
        assert_eq!(table.get(&long).await, Ok(Some(Bytes::from_static(b"1"))), "the operator's own key");
        assert!(table.get_many(&many).await.is_err());
        assert_eq!(table.set("k", Bytes::new()).await, Err(KeyValueError::ReadOnly));
    }
}
