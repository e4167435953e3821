//! Look-ups in the stores that the gateway's configuration grants to this plugin.
//!
//! A plugin that calls none of this does not import `wasi:keyvalue` at all.

use std::fmt;

use serde::de::DeserializeOwned;

use crate::{Error as Refusal, imp};

/// Why a look-up failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Error {
    /// No store of that name is configured.
    NoSuchStore,
    /// There is one, but this plugin may not use it.
    AccessDenied,
    /// The store failed.
    Other(String),
}

impl fmt::Display for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSuchStore => formatter.write_str("no such store"),
            Self::AccessDenied => formatter.write_str("access to the store is denied"),
            Self::Other(what) => write!(formatter, "the store failed: {what}"),
        }
    }
}

impl std::error::Error for Error {}

/// 500 for what the operator must mend, 503 for a store that failed.
impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        let status = if matches!(error, Error::Other(_)) { 503 } else { 500 };
        Self::status(status, error.to_string())
    }
}

/// A store, open for look-ups.
#[derive(Debug)]
pub struct Bucket(imp::Bucket);

/// Opens a store by the name that the configuration gives it.
///
/// # Errors
/// If there is none, or it is not granted.
pub fn open(name: &str) -> Result<Bucket, Error> {
    imp::open_bucket(name).map(Bucket)
}

impl Bucket {
    /// The value of a key.
    ///
    /// # Errors
    /// If the store failed.
    pub fn get(&self, key: &str) -> Result<Option<Vec<u8>>, Error> {
        self.0.get(key)
    }

    /// The values of many keys in one call, in the keys' order: far cheaper than one
    /// [`get`](Self::get) each.
    ///
    /// # Errors
    /// If the store failed.
    pub fn get_many<S: AsRef<str>>(&self, keys: &[S]) -> Result<Vec<Option<Vec<u8>>>, Error> {
        let keys: Vec<&str> = keys.iter().map(AsRef::as_ref).collect();
        if keys.is_empty() { Ok(Vec::new()) } else { self.0.get_many(&keys) }
    }

    /// The value of a key, read as JSON.
    ///
    /// # Errors
    /// 500 that names the key if the value does not fit, or as [`get`](Self::get).
    pub fn get_json<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>, Refusal> {
        let Some(value) = self.get(key)? else { return Ok(None) };
        let misfit = |error| Refusal::internal(format!("the value of {key:?} does not fit: {error}"));
        serde_json::from_slice(&value).map(Some).map_err(misfit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    #[test]
    fn many_keys_come_back_in_their_order() {
        testing::set_store("colours", [("sky", "\"blue\""), ("grass", "\"green\"")]);
        let bucket = open("colours").expect("set");
        let values = bucket.get_many(&["grass", "sea", "sky"]).expect("works");
        assert_eq!(values, [Some(b"\"green\"".to_vec()), None, Some(b"\"blue\"".to_vec())]);
        assert_eq!(bucket.get_json::<String>("sky"), Ok(Some("blue".to_owned())));
        assert_eq!(bucket.get_json::<u8>("sky").expect_err("a text").code(), 500);
        assert_eq!(open("none").expect_err("not set"), Error::NoSuchStore);
    }
}
