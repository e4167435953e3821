//! Changes that were refused before anything of the lifecycle saw them (at the door, or for
//! what the request said), and reloads, in the audit log.

use std::sync::Arc;

use tokio::time::Instant;

use super::super::store::{AuditEntry, Store};
use super::refusals::unwritten_before;
use super::{Actor, Plugins};
use crate::error::Kind;
use crate::lifecycle::reload::Outcome;
use crate::wire_error::wire_error;

/// A request for a change that was refused before it reached the lifecycle.
#[derive(Debug, Clone)]
pub struct Knock {
    /// The token's name; of whoever has none, what they are, in parentheses, which no name
    /// of a token has.
    pub who: Arc<str>,
    /// Where they came from, for those without a name.
    pub peer: Option<String>,
    /// What they asked for: a method and a path's template.
    pub route: Arc<str>,
    /// The path as it was.
    pub path: String,
    /// The request's id.
    pub request_id: Arc<str>,
    /// Why not.
    pub why: Kind,
}

impl Plugins {
    /// Writes it down, at a bounded pace for everybody on every route, also if its caller
    /// leaves meanwhile.
    pub async fn turned_away(self: &Arc<Self>, knock: Knock) {
        let Ok(store) = self.store().cloned() else { return };
        // Neither a name nor a route has spaces in it where they could run into each other.
        let key: Arc<str> = format!("{} {}", knock.who, knock.route).into();
        let Some(unwritten) = self.turned_away.admit(&key, Instant::now()) else { return };
        let entry = AuditEntry {
            actor: knock.peer.map_or_else(|| knock.who.to_string(), |peer| format!("{} {peer}", knock.who)),
            action: knock.route.to_string(),
            target: knock.path,
            from: unwritten_before(unwritten),
            to: None,
            outcome: wire_error(knock.why).code.to_owned(),
            request_id: knock.request_id.to_string(),
        };
        note(store, entry).await;
    }

    /// Writes down what became of a reload that somebody asked for.
    pub async fn reloaded(self: &Arc<Self>, actor: &Actor, outcome: &Outcome) {
        let Ok(store) = self.store().cloned() else { return };
        let (to, outcome) = match outcome {
            Outcome::Unchanged => return,
            Outcome::Applied { generation } => (Some(format!("generation {generation}")), "ok"),
            Outcome::Refused { reason, .. } => (None, *reason),
        };
        let unwritten = match outcome {
            "ok" => 0,
            _ => match self.refusals.admit(&actor.identity.name, Instant::now()) {
                Some(unwritten) => unwritten,
                None => return,
            },
        };
        let entry = actor.audit("reload", "configuration", unwritten_before(unwritten), to, outcome);
        note(store, entry).await;
    }
}

async fn note(store: Arc<Store>, entry: AuditEntry) {
    let work = move || {
        if let Err(error) = store.note(entry) {
            tracing::error!(%error, "a line of the audit log could not be written");
        }
    };
    // A panic in there is in the log already, and no reason to change the answer.
    let _ = tokio::task::spawn_blocking(work).await;
}
