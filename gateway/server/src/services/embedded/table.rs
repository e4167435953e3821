//! What lies in the file, and how one transaction changes it.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;
use redb::{Database, ReadableDatabase, ReadableTable, Table, TableDefinition, WriteTransaction};
use sluice_sandbox::KeyValueError;

use crate::services::limits::{self, AnswerBytes, PAGE_KEYS, other};

type Key = (&'static str, &'static str);

/// The values, by owner and key: keys of different owners never meet.
const ENTRIES: TableDefinition<'static, Key, &[u8]> = TableDefinition::new("entries");

/// Bytes that each owner holds.
const USED: TableDefinition<'static, &str, u64> = TableDefinition::new("used_bytes");

/// What an entry costs beside its bytes.
const ENTRY_BYTES: u64 = 64;

/// What one write does. All of it happens, or nothing.
#[derive(Debug)]
pub(super) enum Change {
    /// Stores values; removes the keys without one.
    Put(BTreeMap<String, Option<Bytes>>),
    /// Adds to a number.
    Add(String, u64),
}

impl Change {
    /// What it would take if nothing of it were there before.
    pub(super) fn bytes(&self) -> u64 {
        match self {
            Self::Put(values) => values
                .iter()
                .map(|(key, value)| value.as_ref().map_or(0, |value| cost(key, value)))
                .fold(0, u64::saturating_add),
            Self::Add(..) => 0,
        }
    }
}

/// A change, whose it is, and how much that owner may hold.
#[derive(Debug)]
pub(super) struct Write {
    pub(super) owner: Arc<str>,
    pub(super) change: Change,
    /// Most bytes of keys and values of this owner.
    pub(super) bytes_max: u64,
}

/// A write's answer: the sum, for [`Change::Add`].
pub(super) type Answer = Result<u64, KeyValueError>;

/// Makes sure that reading finds tables.
pub(super) fn prepare(database: &Database) -> Result<(), redb::Error> {
    let transaction = database.begin_write()?;
    transaction.open_table(ENTRIES)?;
    transaction.open_table(USED)?;
    transaction.commit()?;
    Ok(())
}

/// Applies writes in one transaction. A write that is refused changes nothing, and the
/// others of its group do not notice.
pub(super) fn commit(database: &Database, writes: &[&Write]) -> Result<Vec<Answer>, redb::Error> {
    let transaction = database.begin_write()?;
    let answers = {
        let mut tables = Tables::open(&transaction)?;
        writes.iter().map(|write| tables.apply(write)).collect::<Result<Vec<_>, _>>()?
    };
    transaction.commit()?;
    Ok(answers)
}

struct Tables<'a> {
    entries: Table<'a, Key, &'static [u8]>,
    used: Table<'a, &'static str, u64>,
}

impl<'a> Tables<'a> {
    fn open(transaction: &'a WriteTransaction) -> Result<Self, redb::Error> {
        Ok(Self { entries: transaction.open_table(ENTRIES)?, used: transaction.open_table(USED)? })
    }

    fn apply(&mut self, write: &Write) -> Result<Answer, redb::Error> {
        let owner: &str = &write.owner;
        let (key, delta) = match &write.change {
            Change::Put(values) => {
                let values = values.iter().map(|(key, value)| (key.as_str(), value.as_deref())).collect();
                return self.put(owner, &values, write.bytes_max).map(|done| done.map(|()| 0));
            }
            Change::Add(key, delta) => (key.as_str(), *delta),
        };
        let stored = self.entries.get((owner, key))?;
        let sum = match limits::sum(stored.as_ref().map(|stored| stored.value()), delta) {
            Ok(sum) => sum,
            Err(refused) => return Ok(Err(refused)),
        };
        drop(stored);
        let text = sum.to_string();
        let values = BTreeMap::from([(key, Some(text.as_bytes()))]);
        self.put(owner, &values, write.bytes_max).map(|done| done.map(|()| sum))
    }

    /// Asks for room first, so that nothing has to be undone.
    fn put(
        &mut self,
        owner: &str,
        values: &BTreeMap<&str, Option<&[u8]>>,
        bytes_max: u64,
    ) -> Result<Result<(), KeyValueError>, redb::Error> {
        let (mut freed, mut needed) = (0_u64, 0_u64);
        for (&key, value) in values {
            if let Some(old) = self.entries.get((owner, key))? {
                freed = freed.saturating_add(cost(key, old.value()));
            }
            needed = needed.saturating_add(value.map_or(0, |value| cost(key, value)));
        }
        let before = self.used.get(owner)?.map_or(0, |bytes| bytes.value());
        let after = before.saturating_sub(freed).saturating_add(needed);
        // A limit that was lowered must not keep anybody from removing.
        if needed > freed && after > bytes_max {
            return Ok(Err(other("store is full")));
        }
        for (&key, value) in values {
            match value {
                Some(value) => drop(self.entries.insert((owner, key), *value)?),
                None => drop(self.entries.remove((owner, key))?),
            }
        }
        self.used.insert(owner, after)?;
        Ok(Ok(()))
    }
}

/// The value of each key.
pub(super) fn look_up(
    database: &Database,
    owner: &str,
    keys: &[String],
) -> Result<Result<Vec<Option<Bytes>>, KeyValueError>, redb::Error> {
    let entries = database.begin_read()?.open_table(ENTRIES)?;
    let mut bytes = AnswerBytes::default();
    let mut values = Vec::with_capacity(keys.len());
    for key in keys {
        let found = entries.get((owner, key.as_str()))?;
        if let Some(found) = &found
            && let Err(refused) = bytes.add(found.value().len())
        {
            return Ok(Err(refused));
        }
        values.push(found.map(|found| Bytes::copy_from_slice(found.value())));
    }
    Ok(Ok(values))
}

/// Whether there is such a key.
pub(super) fn holds(database: &Database, owner: &str, key: &str) -> Result<bool, redb::Error> {
    Ok(database.begin_read()?.open_table(ENTRIES)?.get((owner, key))?.is_some())
}

/// The keys after `last`, in order, and whether there are more.
pub(super) fn keys_after(
    database: &Database,
    owner: &str,
    last: Option<&str>,
) -> Result<(Vec<String>, bool), redb::Error> {
    let entries = database.begin_read()?.open_table(ENTRIES)?;
    let from = match last {
        Some(last) => Bound::Excluded((owner, last)),
        None => Bound::Included((owner, "")),
    };
    let mut keys = Vec::new();
    for entry in entries.range::<(&str, &str)>((from, Bound::Unbounded))? {
        let (key, _) = entry?;
        let (whose, key) = key.value();
        if whose != owner {
            break;
        }
        if keys.len() == PAGE_KEYS {
            return Ok((keys, true));
        }
        keys.push(key.to_owned());
    }
    Ok((keys, false))
}

fn cost(key: &str, value: &[u8]) -> u64 {
    (key.len() as u64).saturating_add(value.len() as u64).saturating_add(ENTRY_BYTES)
}
