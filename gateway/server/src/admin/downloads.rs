//! Who may have a component sent, and how many at a time.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::auth::Identity;

/// Components that are sent out at a time. Each is in memory whole, for its digest is
/// checked first, and may have 256 MiB. One more: 429.
const SENT_MAX: usize = 16;

/// Those of one owner: readers that do not read keep their own out, and nobody else.
const SENT_TO_OWNER_MAX: usize = 3;

/// What is sent, by whose tokens asked for it. Operators are one, with an empty name.
static SENT: Mutex<BTreeMap<Arc<str>, usize>> = Mutex::new(BTreeMap::new());

fn sent() -> MutexGuard<'static, BTreeMap<Arc<str>, usize>> {
    SENT.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A component that is being sent, until this is dropped.
#[derive(Debug)]
pub(super) struct Sending(Arc<str>);

impl Sending {
    /// A place, if there is one. One owner's are never all: operators find one whatever owners
    /// do, as long as there are not many of these.
    pub(super) fn begin(to: &Identity) -> Option<Self> {
        let whose = match &to.owner {
            Some(owner) if !to.is_admin() => Arc::clone(owner),
            _ => Arc::from(""),
        };
        let mut sent = sent();
        if sent.values().sum::<usize>() >= SENT_MAX {
            return None;
        }
        let own = sent.entry(Arc::clone(&whose)).or_insert(0);
        if *own >= SENT_TO_OWNER_MAX {
            return None;
        }
        *own += 1;
        drop(sent);
        Some(Self(whose))
    }
}

impl Drop for Sending {
    fn drop(&mut self) {
        let mut sent = sent();
        if let Some(count) = sent.get_mut(&self.0) {
            *count -= 1;
            if *count == 0 {
                sent.remove(&self.0);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readers_that_do_not_read_keep_their_own_out_and_nobody_else() {
        let token =
            |owner: &str| Identity { name: "token".into(), owner: Some(owner.into()), scopes: Vec::new() };
        let slow: Vec<_> = std::iter::from_fn(|| Sending::begin(&token("slow"))).take(100).collect();
        assert_eq!(slow.len(), SENT_TO_OWNER_MAX);
        assert!(Sending::begin(&token("other")).is_some());
        drop(slow);
        assert!(Sending::begin(&token("slow")).is_some());
    }
}
