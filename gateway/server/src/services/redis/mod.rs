//! `kind = "redis"`: a store on a Redis server, which a fleet of gateways shares.
//!
//! Every owner has the keys that start with `sluice:STORE:OWNER:`. Neither name can hold
//! a colon, so no owner can name another's keys; whoever fills the store from elsewhere
//! writes to `sluice:STORE:OWNER:KEY`.

mod pool;

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use redis::{Cmd, FromRedisValue};
use sluice_sandbox::{KeyPage, KeyValue, KeyValueError};
use tokio::sync::Semaphore;

pub(in crate::services) use self::pool::Pool;
use self::pool::{IN_FLIGHT_OF_OWNER_MAX, Repeat};
use super::limits::{AnswerBytes, PAGE_KEYS, check_key, check_keys, check_pairs, distinct, other};

/// Keys of one `MGET`. What does not fit into an answer is noticed between two of them.
const KEYS_PER_COMMAND: usize = 64;

/// `SCAN`s of one page of a listing. It goes over the whole server's keys, so pages in
/// between may be empty; then the plugin gets an empty page and goes on by itself.
const SCANS_PER_PAGE: usize = 8;

/// What the plugins of one owner see of a store.
pub(super) struct OwnedPart {
    prefix: String,
    pool: Arc<Pool>,
    /// Commands that its plugins may have under way.
    share: Arc<Semaphore>,
}

impl OwnedPart {
    /// The part of `owner` in the store of this name.
    pub(super) fn new(pool: Arc<Pool>, store: &str, owner: &str) -> Self {
        let share = Arc::new(Semaphore::new(IN_FLIGHT_OF_OWNER_MAX));
        Self { prefix: format!("sluice:{store}:{owner}:"), pool, share }
    }

    async fn run<T: FromRedisValue + Send + 'static>(
        &self,
        command: Cmd,
        repeat: Repeat,
    ) -> Result<T, KeyValueError> {
        self.pool.run(command, repeat, &self.share).await
    }

    fn full(&self, key: &str) -> String {
        format!("{}{key}", self.prefix)
    }

    fn command(&self, name: &str, keys: &[String]) -> Cmd {
        let mut command = redis::cmd(name);
        for key in keys {
            command.arg(self.full(key));
        }
        command
    }
}

#[async_trait]
impl KeyValue for OwnedPart {
    async fn get(&self, key: &str) -> Result<Option<Bytes>, KeyValueError> {
        check_key(key)?;
        let mut command = redis::cmd("GET");
        command.arg(self.full(key));
        let value: Option<Vec<u8>> = self.run(command, Repeat::Once).await?;
        AnswerBytes::default().add(value.as_ref().map_or(0, Vec::len))?;
        Ok(value.map(Bytes::from))
    }

    async fn get_many(&self, keys: &[String]) -> Result<Vec<Option<Bytes>>, KeyValueError> {
        check_keys(keys)?;
        let (once, places) = distinct(keys);
        let mut values: Vec<Option<Bytes>> = Vec::with_capacity(once.len());
        let mut bytes = AnswerBytes::default();
        for some in once.chunks(KEYS_PER_COMMAND) {
            let found: Vec<Option<Vec<u8>>> = self.run(self.command("MGET", some), Repeat::Once).await?;
            if found.len() != some.len() {
                return Err(other("store gave a wrong answer"));
            }
            for value in found {
                bytes.add(value.as_ref().map_or(0, Vec::len))?;
                values.push(value.map(Bytes::from));
            }
        }
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
        let mut command = redis::cmd("EXISTS");
        command.arg(self.full(key));
        self.run::<u64>(command, Repeat::Once).await.map(|count| count > 0)
    }

    async fn list_keys(&self, cursor: Option<u64>) -> Result<KeyPage, KeyValueError> {
        let pattern = format!("{}*", escaped(&self.prefix));
        let (mut cursor, mut keys) = (cursor.unwrap_or(0), Vec::new());
        for _ in 0..SCANS_PER_PAGE {
            let mut command = redis::cmd("SCAN");
            command.arg(cursor).arg("MATCH").arg(&pattern).arg("COUNT").arg(PAGE_KEYS);
            let (next, found): (u64, Vec<Vec<u8>>) = self.run(command, Repeat::Once).await?;
            cursor = next;
            // What others wrote may be no text; plugins cannot ask for it either.
            let names = found.into_iter().filter_map(|key| String::from_utf8(key).ok());
            keys.extend(names.filter_map(|key| key.strip_prefix(&self.prefix).map(str::to_owned)));
            if cursor == 0 || !keys.is_empty() {
                break;
            }
        }
        Ok(KeyPage { keys, cursor: (cursor != 0).then_some(cursor) })
    }

    async fn set_many(&self, pairs: Vec<(String, Bytes)>) -> Result<(), KeyValueError> {
        check_pairs(&pairs)?;
        if pairs.is_empty() {
            return Ok(());
        }
        // One command, so all or nothing.
        let mut command = redis::cmd("MSET");
        for (key, value) in &pairs {
            command.arg(self.full(key)).arg(&value[..]);
        }
        self.run(command, Repeat::Once).await
    }

    async fn delete_many(&self, keys: &[String]) -> Result<(), KeyValueError> {
        check_keys(keys)?;
        if keys.is_empty() {
            return Ok(());
        }
        self.run::<u64>(self.command("DEL", keys), Repeat::Once).await.map(drop)
    }

    async fn increment(&self, key: &str, delta: u64) -> Result<u64, KeyValueError> {
        check_key(key)?;
        let delta = i64::try_from(delta).map_err(|_| other("sum is too large"))?;
        let mut command = redis::cmd("INCRBY");
        command.arg(self.full(key)).arg(delta);
        let sum: i64 = self.run(command, Repeat::Never).await.map_err(|error| match error {
            KeyValueError::Other(text) if text == "store refused: ERR" => {
                other("stored value is not a number, or the sum is too large")
            }
            error => error,
        })?;
        u64::try_from(sum).map_err(|_| other("stored value is not a number"))
    }
}

/// The prefix as `SCAN` matches it: letter by letter.
fn escaped(prefix: &str) -> String {
    let mut pattern = String::with_capacity(prefix.len());
    for letter in prefix.chars() {
        if matches!(letter, '*' | '?' | '[' | ']' | '\\' | '^' | '-') {
            pattern.push('\\');
        }
        pattern.push(letter);
    }
    pattern
}
