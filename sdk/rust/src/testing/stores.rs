//! Key-value stores in memory.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use crate::kv::Error;

type Store = Rc<HashMap<String, Vec<u8>>>;

thread_local! {
    static STORES: RefCell<HashMap<String, Store>> = RefCell::default();
}

/// Gives this thread a store for [`kv::open`](crate::kv::open).
pub fn set_store<K: Into<String>, V: Into<Vec<u8>>>(name: &str, entries: impl IntoIterator<Item = (K, V)>) {
    let store = entries.into_iter().map(|(key, value)| (key.into(), value.into())).collect();
    STORES.with_borrow_mut(|stores| stores.insert(name.to_owned(), Rc::new(store)));
}

#[derive(Debug)]
pub(crate) struct Bucket(Store);

pub(crate) fn open_bucket(name: &str) -> Result<Bucket, Error> {
    STORES.with_borrow(|stores| stores.get(name).cloned().map(Bucket).ok_or(Error::NoSuchStore))
}

impl Bucket {
    #[expect(clippy::unnecessary_wraps, reason = "the real store can fail")]
    pub(crate) fn get(&self, key: &str) -> Result<Option<Vec<u8>>, Error> {
        Ok(self.0.get(key).cloned())
    }

    pub(crate) fn get_many(&self, keys: &[&str]) -> Result<Vec<Option<Vec<u8>>>, Error> {
        keys.iter().map(|key| self.get(key)).collect()
    }
}
