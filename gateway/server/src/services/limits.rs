//! What one key, value and answer may be, in every store that can be written.

use std::collections::BTreeMap;

use bytes::Bytes;
use sluice_sandbox::KeyValueError;

/// Bytes of a key. Keys are names, not content; Redis and others are happiest far below.
pub(super) const KEY_BYTES_MAX: usize = 1 << 10;

/// Bytes of a value. A row of features has some kilobytes; what is larger belongs into a
/// model or a file.
pub(super) const VALUE_BYTES_MAX: usize = 1 << 20;

pub(super) use sluice_sandbox::KEYS_MAX;

/// Bytes of the values that one call gets or sets. Few keys can name much: this bounds
/// what the gateway holds for a call before it refuses.
pub(super) const ANSWER_BYTES_MAX: usize = 16 << 20;

/// Keys in one page of a listing, about: Redis gives a few more.
pub(super) const PAGE_KEYS: usize = 1000;

pub(super) fn other(what: &str) -> KeyValueError {
    KeyValueError::Other(what.to_owned())
}

pub(super) fn check_key(key: &str) -> Result<(), KeyValueError> {
    if key.len() > KEY_BYTES_MAX { Err(other("key is too long")) } else { Ok(()) }
}

pub(super) fn check_keys(keys: &[String]) -> Result<(), KeyValueError> {
    if keys.len() > KEYS_MAX {
        return Err(other("too many keys in one call"));
    }
    keys.iter().try_for_each(|key| check_key(key))
}

pub(super) fn check_pairs(pairs: &[(String, Bytes)]) -> Result<(), KeyValueError> {
    if pairs.len() > KEYS_MAX {
        return Err(other("too many keys in one call"));
    }
    let mut total = 0_usize;
    for (key, value) in pairs {
        check_key(key)?;
        if value.len() > VALUE_BYTES_MAX {
            return Err(other("value is too large"));
        }
        total = total.saturating_add(value.len());
    }
    if total > ANSWER_BYTES_MAX { Err(other("values of one call are too large")) } else { Ok(()) }
}

/// The keys without repetitions, and for each key given which of those it is.
pub(super) fn distinct(keys: &[String]) -> (Vec<String>, Vec<usize>) {
    let mut places = BTreeMap::new();
    let mut once = Vec::new();
    let asked = keys.iter().map(|key| {
        *places.entry(key.as_str()).or_insert_with(|| {
            once.push(key.clone());
            once.len() - 1
        })
    });
    let asked = asked.collect();
    (once, asked)
}

/// Counts the bytes of values as they come.
#[derive(Default)]
pub(super) struct AnswerBytes(usize);

impl AnswerBytes {
    pub(super) fn add(&mut self, bytes: usize) -> Result<(), KeyValueError> {
        self.0 = self.0.saturating_add(bytes);
        if self.0 > ANSWER_BYTES_MAX { Err(other("values of one look-up are too large")) } else { Ok(()) }
    }
}

/// The sum of a stored number and `delta`; a missing one counts as 0.
pub(super) fn sum(stored: Option<&[u8]>, delta: u64) -> Result<u64, KeyValueError> {
    let number = match stored {
        None => 0,
        Some(text) => std::str::from_utf8(text)
            .ok()
            .filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()))
            .and_then(|text| text.parse::<u64>().ok())
            .ok_or_else(|| other("stored value is not a number"))?,
    };
    number.checked_add(delta).ok_or_else(|| other("sum is too large"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counting_starts_at_zero_and_refuses_what_is_no_number() {
        assert_eq!(sum(None, 3), Ok(3));
        assert_eq!(sum(Some(b"4"), 3), Ok(7));
        for stored in [&b""[..], b"+1", b"-1", b"1.0", b" 1", b"\xff", b"18446744073709551616"] {
            assert!(sum(Some(stored), 0).is_err(), "{stored:?}");
        }
        assert!(sum(Some(b"18446744073709551615"), 1).is_err());
    }

    #[test]
    fn a_key_that_is_asked_for_twice_is_fetched_once() {
        let keys = ["b", "a", "b"].map(str::to_owned);
        assert_eq!(distinct(&keys), (vec!["b".to_owned(), "a".to_owned()], vec![0, 1, 0]));
    }
}
