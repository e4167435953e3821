//! `wasi:keyvalue`: look-ups in the stores that the configuration grants.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use wasmtime::StoreContextMut;
use wasmtime::component::{HasSelf, Linker, Resource, WasmList, WasmStr};

use crate::bindings::atomics::wasi::keyvalue::atomics;
use crate::bindings::wasi::keyvalue::batch::Host as _;
use crate::bindings::wasi::keyvalue::store::{Error, Host, HostBucket, KeyResponse};
use crate::bindings::wasi::keyvalue::{batch, store};
use crate::budget;
use crate::error::{HostFault, KeyValueError};
use crate::state::State;

/// Keys that one call names. A page of candidates has a thousand; a million would keep a
/// guest's thread for as long as it takes to copy them. More is an error of the store.
pub const KEYS_MAX: usize = 10_000;

/// A store of values that plugins look up.
///
/// Called on guest threads: an implementation that waits must do so without
/// blocking. The future is dropped when the call is cancelled.
#[async_trait]
pub trait KeyValue: Send + Sync {
    /// The value of a key.
    async fn get(&self, key: &str) -> Result<Option<Bytes>, KeyValueError>;

    /// The values of keys, in the order of the keys.
    async fn get_many(&self, keys: &[String]) -> Result<Vec<Option<Bytes>>, KeyValueError> {
        let mut values = Vec::with_capacity(keys.len());
        for key in keys {
            values.push(self.get(key).await?);
        }
        Ok(values)
    }

    /// Stores a value.
    async fn set(&self, key: &str, value: Bytes) -> Result<(), KeyValueError>;

    /// Removes a key; it is no error if there is none.
    async fn delete(&self, key: &str) -> Result<(), KeyValueError>;

    /// Whether there is such a key.
    async fn exists(&self, key: &str) -> Result<bool, KeyValueError>;

    /// Some keys, and where to go on.
    async fn list_keys(&self, cursor: Option<u64>) -> Result<KeyPage, KeyValueError>;

    /// Stores values, one after the other unless the store can do better.
    async fn set_many(&self, pairs: Vec<(String, Bytes)>) -> Result<(), KeyValueError> {
        for (key, value) in pairs {
            self.set(&key, value).await?;
        }
        Ok(())
    }

    /// Removes keys, one after the other unless the store can do better.
    async fn delete_many(&self, keys: &[String]) -> Result<(), KeyValueError> {
        for key in keys {
            self.delete(key).await?;
        }
        Ok(())
    }

    /// Adds to the number that is stored under a key, in decimal text, and gives the sum;
    /// a missing key counts as 0. It must be atomic, so there is no way to do it with the
    /// rest of this trait: a store that cannot says so.
    async fn increment(&self, _key: &str, _delta: u64) -> Result<u64, KeyValueError> {
        Err(KeyValueError::Other("store cannot count".to_owned()))
    }
}

/// A page of keys.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KeyPage {
    /// The keys.
    pub keys: Vec<String>,
    /// What gives the next page; `None` on the last.
    pub cursor: Option<u64>,
}

/// A store that a guest has opened.
#[expect(unreachable_pub, reason = "the generated bindings re-export it")]
pub struct Bucket(Arc<dyn KeyValue>);

type Caller<'a> = StoreContextMut<'a, State>;

/// What the guest gives: as many strings as it says, none of which was read.
type Keys = WasmList<WasmStr>;
type Pairs = WasmList<(WasmStr, WasmList<u8>)>;

/// A key and its value, read.
type Pair = (String, Vec<u8>);

/// Links the interfaces. Functions that take lists are registered by hand over the generated
/// ones, which would copy every string before anybody asks how many there are.
pub(crate) fn link(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    store::add_to_linker::<State, HasSelf<State>>(linker, |state| state)?;
    batch::add_to_linker::<State, HasSelf<State>>(linker, |state| state)?;
    atomics::add_to_linker::<State, HasSelf<State>>(linker, |state| state)?;
    linker.allow_shadowing(true);
    let mut link = linker.instance("wasi:keyvalue/batch@0.2.0-draft")?;
    link.func_wrap_async("get-many", |mut caller: Caller<'_>, (bucket, keys): (_, Keys)| {
        Box::new(async move {
            let Some(keys) = read_keys(&mut caller, &keys)? else { return Ok((Err(too_many()),)) };
            Ok((caller.data_mut().get_many(bucket, keys).await?,))
        })
    })?;
    link.func_wrap_async("set-many", |mut caller: Caller<'_>, (bucket, pairs): (_, Pairs)| {
        Box::new(async move {
            let Some(pairs) = read_pairs(&mut caller, &pairs)? else { return Ok((Err(too_many()),)) };
            Ok((caller.data_mut().set_many(bucket, pairs).await?,))
        })
    })?;
    link.func_wrap_async("delete-many", |mut caller: Caller<'_>, (bucket, keys): (_, Keys)| {
        Box::new(async move {
            let Some(keys) = read_keys(&mut caller, &keys)? else { return Ok((Err(too_many()),)) };
            Ok((caller.data_mut().delete_many(bucket, keys).await?,))
        })
    })?;
    linker.allow_shadowing(false);
    Ok(())
}

fn too_many() -> Error {
    Error::Other("too many keys in one call".to_owned())
}

/// The keys, if there are not too many.
fn read_keys(caller: &mut Caller<'_>, keys: &Keys) -> wasmtime::Result<Option<Vec<String>>> {
    if keys.len() > KEYS_MAX {
        return Ok(None);
    }
    let found = keys.iter(&mut *caller)?.collect::<wasmtime::Result<Vec<_>>>()?;
    found.iter().map(|key| Ok(key.to_str(&*caller)?.into_owned())).collect::<wasmtime::Result<_>>().map(Some)
}

/// The pairs, if there are not too many.
fn read_pairs(caller: &mut Caller<'_>, pairs: &Pairs) -> wasmtime::Result<Option<Vec<Pair>>> {
    if pairs.len() > KEYS_MAX {
        return Ok(None);
    }
    let found = pairs.iter(&mut *caller)?.collect::<wasmtime::Result<Vec<_>>>()?;
    let read = |(key, value): &(WasmStr, WasmList<u8>)| {
        Ok((key.to_str(&*caller)?.into_owned(), value.as_le_slice(&*caller).to_vec()))
    };
    found.iter().map(read).collect::<wasmtime::Result<_>>().map(Some)
}

impl From<KeyValueError> for Error {
    fn from(error: KeyValueError) -> Self {
        match error {
            KeyValueError::ReadOnly => Self::AccessDenied,
            KeyValueError::Other(message) => Self::Other(message),
        }
    }
}

/// What a store says, or that it did not in time.
type Said<T> = Result<T, KeyValueError>;

impl State {
    fn bucket(&self, bucket: &Resource<Bucket>) -> wasmtime::Result<Arc<dyn KeyValue>> {
        Ok(Arc::clone(&self.table.get(bucket)?.0))
    }

    /// Waits for a store: off the plugin's budget, but for what is computed at once, out of
    /// others' way, and not for ever.
    async fn ask<T>(&mut self, work: impl Future<Output = Said<T>>) -> wasmtime::Result<Said<T>> {
        let before = self.budget.used();
        let work = tokio::time::timeout(self.wait_max, work);
        let said = budget::wait_for(&self.budget, self.places.as_ref(), work).await;
        self.is_done_since(before).await?;
        Ok(said.unwrap_or_else(|_| Err(KeyValueError::Other("store did not answer in time".to_owned()))))
    }

    /// Refuses values before they are copied: a few short keys, repeated, can
    /// name any amount of data. What is not refused is accounted for.
    fn give_values<'a>(&mut self, values: impl Iterator<Item = &'a Option<Bytes>>) -> wasmtime::Result<()> {
        let total: usize = values.flatten().map(Bytes::len).fold(0, usize::saturating_add);
        if total > self.hostcall_bytes {
            return Err(HostFault::Output(format!(
                "look-up of {total} bytes is above the limit of one call"
            ))
            .into());
        }
        self.give(total)
    }
}

impl Host for State {
    async fn open(&mut self, identifier: String) -> wasmtime::Result<Result<Resource<Bucket>, Error>> {
        // A store that exists and is not granted looks like one that does not.
        let Some(granted) = self.grants.keyvalue.get(&identifier) else {
            return Ok(Err(Error::NoSuchStore));
        };
        let bucket = Bucket(Arc::clone(granted));
        Ok(Ok(self.table.push(bucket)?))
    }
}

/// What the guest gets: an error of the store is a value, not a trap.
type Answer<T> = wasmtime::Result<Result<T, Error>>;

impl HostBucket for State {
    async fn get(&mut self, bucket: Resource<Bucket>, key: String) -> Answer<Option<Vec<u8>>> {
        let store = self.bucket(&bucket)?;
        match self.ask(store.get(&key)).await? {
            Ok(value) => {
                self.give_values(std::iter::once(&value))?;
                Ok(Ok(value.map(Vec::from)))
            }
            Err(error) => Ok(Err(error.into())),
        }
    }

    async fn set(&mut self, bucket: Resource<Bucket>, key: String, value: Vec<u8>) -> Answer<()> {
        let store = self.bucket(&bucket)?;
        let _held = self.hold_large(key.len().saturating_add(value.len()))?;
        let done = self.ask(store.set(&key, Bytes::from(value))).await?;
        Ok(done.map_err(Error::from))
    }

    async fn delete(&mut self, bucket: Resource<Bucket>, key: String) -> Answer<()> {
        let store = self.bucket(&bucket)?;
        Ok(self.ask(store.delete(&key)).await?.map_err(Error::from))
    }

    async fn exists(&mut self, bucket: Resource<Bucket>, key: String) -> Answer<bool> {
        let store = self.bucket(&bucket)?;
        Ok(self.ask(store.exists(&key)).await?.map_err(Error::from))
    }

    async fn list_keys(&mut self, bucket: Resource<Bucket>, cursor: Option<u64>) -> Answer<KeyResponse> {
        let store = self.bucket(&bucket)?;
        let page = self.ask(store.list_keys(cursor)).await?;
        Ok(page.map(|page| KeyResponse { keys: page.keys, cursor: page.cursor }).map_err(Error::from))
    }

    async fn drop(&mut self, bucket: Resource<Bucket>) -> wasmtime::Result<()> {
        self.table.delete(bucket)?;
        Ok(())
    }
}

/// A key and its value, or that there is none.
type Found = Option<(String, Vec<u8>)>;

impl batch::Host for State {
    async fn get_many(&mut self, bucket: Resource<Bucket>, keys: Vec<String>) -> Answer<Vec<Found>> {
        let store = self.bucket(&bucket)?;
        let _held = self.hold_large(keys.iter().map(String::len).fold(0, usize::saturating_add))?;
        let values = match self.ask(store.get_many(&keys)).await? {
            Ok(values) => values,
            Err(error) => return Ok(Err(error.into())),
        };
        self.give_values(values.iter())?;
        let pair = |(key, value): (String, Option<Bytes>)| value.map(|value| (key, Vec::from(value)));
        Ok(Ok(keys.into_iter().zip(values).map(pair).collect()))
    }

    async fn set_many(&mut self, bucket: Resource<Bucket>, pairs: Vec<(String, Vec<u8>)>) -> Answer<()> {
        let store = self.bucket(&bucket)?;
        let sizes = pairs.iter().map(|(key, value)| key.len().saturating_add(value.len()));
        let _held = self.hold_large(sizes.fold(0, usize::saturating_add))?;
        let pairs = pairs.into_iter().map(|(key, value)| (key, Bytes::from(value))).collect();
        Ok(self.ask(store.set_many(pairs)).await?.map_err(Error::from))
    }

    async fn delete_many(&mut self, bucket: Resource<Bucket>, keys: Vec<String>) -> Answer<()> {
        let store = self.bucket(&bucket)?;
        let _held = self.hold_large(keys.iter().map(String::len).fold(0, usize::saturating_add))?;
        Ok(self.ask(store.delete_many(&keys)).await?.map_err(Error::from))
    }
}

impl atomics::Host for State {
    async fn increment(&mut self, bucket: Resource<Bucket>, key: String, delta: u64) -> Answer<u64> {
        let store = self.bucket(&bucket)?;
        Ok(self.ask(store.increment(&key, delta)).await?.map_err(Error::from))
    }
}
