//! Refusals in the audit log. Everybody's attempts are written down, and nobody's attempts
//! push out of the log what others did.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::super::store::Store;
use super::{Actor, Plugins, panicked};
use crate::error::{Error, Result};
use crate::wire_error::wire_error;

/// How many refusals are written of one key: a token, or a token and a route.
pub(super) struct Pace {
    /// So many at once.
    at_once: u32,
    /// Time until one more.
    next: Duration,
    /// Keys that are counted; whoever was quiet longest makes room.
    keys_max: usize,
}

/// Refusals of one token. A person who tries things does not come near the sixty; a script
/// that goes on trying does, and then the log has the point already. At this pace one token
/// takes a day and more to fill the ten thousand lines that are kept. The tokens come from
/// the configuration, so there are not many.
const OF_A_TOKEN: Pace = Pace { at_once: 60, next: Duration::from_secs(10), keys_max: 1_024 };

/// Refusals at the door, of one token (or of all who have none) on one route. The tenth says
/// nothing that the first did not, and strangers must not push out of the log what others
/// did: on all fourteen routes together, two thousand lines a day.
const AT_THE_DOOR: Pace = Pace { at_once: 10, next: Duration::from_mins(10), keys_max: 4_096 };

/// How many refusals of each key may still be written.
pub(super) struct Refusals {
    pace: Pace,
    keys: Mutex<BTreeMap<Arc<str>, Allowance>>,
}

struct Allowance {
    left: f64,
    at: Instant,
    /// Refusals since the last one that was written.
    unwritten: u64,
}

impl Refusals {
    /// Of tokens that were let in.
    pub(super) fn of_tokens() -> Self {
        Self { pace: OF_A_TOKEN, keys: Mutex::default() }
    }

    /// Of whoever was not.
    pub(super) fn at_the_door() -> Self {
        Self { pace: AT_THE_DOOR, keys: Mutex::default() }
    }

    /// Whether one more of this key is written: then how many before it were not.
    pub(super) fn admit(&self, key: &Arc<str>, now: Instant) -> Option<u64> {
        let Pace { at_once, next, keys_max } = self.pace;
        let mut keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        if keys.len() >= keys_max && !keys.contains_key(key) {
            let quiet = keys.iter().min_by_key(|(_, allowance)| allowance.at).map(|(name, _)| name.clone());
            if let Some(quiet) = quiet {
                keys.remove(&quiet);
            }
        }
        let full = Allowance { left: f64::from(at_once), at: now, unwritten: 0 };
        let allowance = keys.entry(Arc::clone(key)).or_insert(full);
        let grown = now.saturating_duration_since(allowance.at).as_secs_f64() / next.as_secs_f64();
        allowance.left = (allowance.left + grown).min(f64::from(at_once));
        allowance.at = now;
        if allowance.left < 1.0 {
            allowance.unwritten += 1;
            return None;
        }
        allowance.left -= 1.0;
        Some(std::mem::take(&mut allowance.unwritten))
    }
}

/// What a line says of those before it that are missing.
pub(super) fn unwritten_before(count: u64) -> Option<String> {
    (count > 0).then(|| format!("{count} refusals before this one are not written"))
}

impl Plugins {
    /// A refusal is written down too: somebody tried. Blocks.
    pub(super) fn note_refusal(
        &self,
        store: &Store,
        actor: &Actor,
        action: &'static str,
        target: &str,
        error: &Error,
    ) {
        let code = wire_error(error.kind()).code;
        self.metrics.plugin_change(action, code);
        tracing::warn!(actor = &*actor.identity.name, action, target, code, error = %error, detail = error.detail(), "refused");
        self.note_attempt(store, actor, action, target, code);
    }

    /// Writes down that somebody tried, and what came of it.
    fn note_attempt(&self, store: &Store, actor: &Actor, action: &'static str, target: &str, outcome: &str) {
        let Some(unwritten) = self.refusals.admit(&actor.identity.name, Instant::now()) else { return };
        let from = unwritten_before(unwritten);
        if let Err(error) = store.note(actor.audit(action, target, from, None, outcome)) {
            tracing::error!(%error, "a refusal could not be written to the audit log");
        }
    }

    /// Like [`Self::check_plugin`], for what would change something: a refusal is written
    /// down.
    ///
    /// # Errors
    /// Those of [`Self::check_plugin`].
    pub async fn check_change(
        self: &Arc<Self>,
        actor: &Actor,
        action: &'static str,
        plugin: &str,
        target: &str,
    ) -> Result<()> {
        let Err(error) = self.check_plugin(actor, plugin) else { return Ok(()) };
        self.refuse(actor, action, target.to_owned(), &error).await?;
        Err(error)
    }

    /// Writes a refusal down, also if the caller leaves meanwhile.
    pub(super) async fn refuse(
        self: &Arc<Self>,
        actor: &Actor,
        action: &'static str,
        target: String,
        error: &Error,
    ) -> Result<()> {
        let Ok(store) = self.store().cloned() else { return Ok(()) };
        let (this, actor, error) = (Arc::clone(self), actor.clone(), error.clone());
        let note = move || this.note_refusal(&store, &actor, action, &target, &error);
        tokio::task::spawn_blocking(note).await.map_err(|_| panicked())
    }
}

/// An attempt that is written down when it is dropped before it came to an end: its caller
/// has left.
pub(super) struct Attempt {
    left: Option<(Arc<Plugins>, Actor, &'static str, String)>,
}

impl Attempt {
    pub(super) fn begin(plugins: &Arc<Plugins>, actor: &Actor, action: &'static str, target: &str) -> Self {
        Self { left: Some((Arc::clone(plugins), actor.clone(), action, target.to_owned())) }
    }

    /// It came to an end, which is written down elsewhere.
    pub(super) fn ended(mut self) {
        self.left = None;
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        let Some((plugins, actor, action, target)) = self.left.take() else { return };
        let (Ok(store), Ok(runtime)) = (plugins.store().cloned(), tokio::runtime::Handle::try_current())
        else {
            return;
        };
        runtime.spawn_blocking(move || {
            plugins.metrics.plugin_change(action, "broke_off");
            plugins.note_attempt(&store, &actor, action, &target, "broke_off");
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn nobodys_refusals_push_out_what_others_did() {
        let refusals = Refusals::of_tokens();
        let (flood, other): (Arc<str>, Arc<str>) = ("flood".into(), "other".into());
        let written = (0..10_000).filter(|_| refusals.admit(&flood, Instant::now()).is_some()).count();
        assert_eq!(written, 60, "of ten thousand at once");
        assert_eq!(refusals.admit(&other, Instant::now()), Some(0), "another token has its own");
        tokio::time::advance(OF_A_TOKEN.next).await;
        assert_eq!(refusals.admit(&flood, Instant::now()), Some(9_940), "the next one tells of the others");
        assert_eq!(refusals.admit(&flood, Instant::now()), None);
    }
}
