//! What the audit log learns of changes that were refused at the admin listener's door, or
//! behind it for what the request said.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::Request;
use http::Method;

use super::{Connection, Door};
use crate::catalog::plugins::{Knock, Plugins};
use crate::error::Kind;
use crate::refusal::request_id;

/// Whoever shows no token that is known. No token has such a name.
const STRANGER: &str = "(no valid token)";

/// Whatever may be a page of a browser.
pub(super) const BROWSER: &str = "(browser)";

/// The answer says no for a reason that is nowhere else in the audit log: an extension of
/// the response.
#[derive(Debug, Clone, Copy)]
pub struct Unwritten(pub Kind);

/// What a route is called in the audit log, if it is one that changes something.
pub(super) fn change(method: &Method, template: &str) -> Option<Arc<str>> {
    let changes = [Method::POST, Method::PUT, Method::DELETE].contains(method);
    changes.then(|| format!("{method} {template}").trim_end().into())
}

/// A request for a change, as far as the audit log may want it.
pub(super) struct Knocking {
    audit: Arc<Plugins>,
    peer: Option<IpAddr>,
    knock: Knock,
}

impl Knocking {
    /// Nothing where nobody writes it down.
    pub(super) fn new(door: &Door, route: &Arc<str>, request: &Request) -> Option<Self> {
        let audit = Arc::clone(door.audit()?);
        let peer = request.extensions().get::<Connection>().map(|connection| connection.peer.ip());
        let knock = Knock {
            who: Arc::default(),
            peer: None,
            route: Arc::clone(route),
            path: request.uri().path().to_owned(),
            request_id: request_id(request.headers()),
            why: Kind::Internal,
        };
        Some(Self { audit, peer: peer.map(|peer| peer.to_canonical()), knock })
    }

    /// Somebody without a name was refused.
    pub(super) async fn turned_away(self, who: Arc<str>, why: Kind) {
        let peer = self.peer.map(|peer| peer.to_string());
        self.audit.turned_away(Knock { who, peer, why, ..self.knock }).await;
    }

    /// Somebody was refused.
    pub(super) async fn refused(self, name: Option<Arc<str>>, why: Kind) {
        match name {
            Some(who) => self.audit.turned_away(Knock { who, why, ..self.knock }).await,
            None => self.turned_away(STRANGER.into(), why).await,
        }
    }
}
