//! The check in front of every route of a listener: who are you, and may you?

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use http::header::AUTHORIZATION;
use http::{HeaderMap, Uri};

use super::access::Access;
use super::peers::Peers;
use super::{Connection, Identity, browser, forbidden, knocks, token};
use crate::catalog::Catalog;
use crate::catalog::plugins::Plugins;
use crate::config::{self, Config, ModelControl, Scope};
use crate::error::{Error, Kind, Result};
use crate::observe::Metrics;
use crate::refusal;

/// Names of a query's parameters that hold tokens elsewhere. A URL ends up in logs and
/// histories, so a token there is refused even if it is good.
const TOKEN_PARAMETERS: [&str; 2] = ["token", "access_token"];

/// What a request shows.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Shown<'a> {
    Nothing,
    /// Something that cannot be a token, or at a wrong place.
    Nonsense,
    Text(&'a str),
}

/// Which listener it stands in front of.
enum Place {
    /// Bad tokens are limited for each peer, and changes that are refused are written down.
    Admin { peers: Peers, audit: Arc<Plugins> },
    /// They are not: behind a balancer all callers have one address, and one with a bad
    /// token would keep out the others.
    Predictions,
}

/// Who may not, as far as their token says who they are, and why not.
pub(super) struct TurnedAway {
    pub(super) name: Option<Arc<str>>,
    pub(super) error: Error,
}

impl From<Error> for TurnedAway {
    fn from(error: Error) -> Self {
        Self { name: None, error }
    }
}

/// The check of one listener. Tokens come from the configuration that is served, so a
/// reload takes effect for the next request.
pub struct Door {
    catalog: Arc<Catalog>,
    metrics: Arc<Metrics>,
    place: Place,
}

impl Door {
    /// The admin listener's.
    pub fn admin(catalog: Arc<Catalog>, metrics: Arc<Metrics>, audit: Arc<Plugins>) -> Arc<Self> {
        Arc::new(Self { catalog, metrics, place: Place::Admin { peers: Peers::new(), audit } })
    }

    /// The prediction listener's.
    pub fn predictions(catalog: Arc<Catalog>, metrics: Arc<Metrics>) -> Arc<Self> {
        Arc::new(Self { catalog, metrics, place: Place::Predictions })
    }

    /// Whom a request comes from, if they may use a route of this access.
    ///
    /// # Errors
    /// [`Kind::Unauthenticated`], the same for every way to have no good token;
    /// [`Kind::Forbidden`]; [`Kind::TenantLimit`] for a peer that has shown too many bad
    /// tokens, whatever it shows now.
    pub fn check(
        &self,
        access: Access,
        uri: &Uri,
        headers: &HeaderMap,
        connection: Option<&Connection>,
    ) -> Result<Identity> {
        self.look(access, uri, headers, connection).map_err(|turned| turned.error)
    }

    /// The same, and who it was that may not.
    pub(super) fn look(
        &self,
        access: Access,
        uri: &Uri,
        headers: &HeaderMap,
        connection: Option<&Connection>,
    ) -> std::result::Result<Identity, TurnedAway> {
        let snapshot = self.catalog.snapshot();
        let config = &snapshot.config;
        let shown = shown(uri, headers);
        if shown == Shown::Nothing && is_open_to_loopback(config, access, connection) {
            // A page of a browser on this machine reaches loopback addresses too.
            let local = connection.map(|connection| connection.local.ip());
            browser::check(&http::Method::POST, uri, headers, local, &config.server.admin_hosts)?;
            return Ok(Identity::loopback());
        }
        if let Some(identity) = self.without_token(config, access, shown) {
            return Ok(identity);
        }
        let peer = connection.map(|connection| connection.peer.ip()).filter(|_| shown != Shown::Nothing);
        let identity = self.authenticate(config, shown, peer)?;
        if access.allows(&identity) {
            return Ok(identity);
        }
        self.metrics.rejected("forbidden");
        tracing::debug!(token = &*identity.name, "forbidden");
        Err(TurnedAway { name: Some(identity.name), error: forbidden() })
    }

    /// Who writes down changes that were refused, where they are.
    pub(super) fn audit(&self) -> Option<&Arc<Plugins>> {
        match &self.place {
            Place::Admin { audit, .. } => Some(audit),
            Place::Predictions => None,
        }
    }

    /// Who somebody without a token is, where none is needed.
    fn without_token(&self, config: &Config, access: Access, shown: Shown<'_>) -> Option<Identity> {
        let server = &config.server;
        match (&self.place, access) {
            (_, Access::Public) => Some(Identity::anonymous()),
            (Place::Admin { .. }, Access::Metrics) if server.metrics_without_token => {
                Some(Identity::anonymous())
            }
            (Place::Admin { .. }, _) if server.admin_without_tokens && shown == Shown::Nothing => {
                Some(Identity::loopback())
            }
            // Where requests load nothing, everybody who may predict is told so.
            (Place::Predictions, Access::Models) if has_explicit_control(config) => None,
            (Place::Predictions, Access::Settings) => None,
            (Place::Predictions, _) if !server.predict_needs_token => Some(Identity::anonymous()),
            _ => None,
        }
    }

    fn authenticate(&self, config: &Config, shown: Shown<'_>, peer: Option<IpAddr>) -> Result<Identity> {
        let limited = match (&self.place, peer) {
            (Place::Admin { peers, .. }, Some(peer)) => Some((peers, peer)),
            _ => None,
        };
        if limited.is_some_and(|(peers, peer)| !peers.may_try(peer)) {
            self.metrics.rejected("bad_tokens");
            return Err(Error::new(Kind::TenantLimit, "too many bad tokens came from this address"));
        }
        let text = match shown {
            Shown::Text(text) => Some(text),
            Shown::Nothing | Shown::Nonsense => None,
        };
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        let known = config.tokens.iter().map(|(name, token)| ((name, token), token));
        if let Some((name, token)) = token::find(known, text, now).token {
            return Ok(identity(name, token));
        }
        if let Some((peers, peer)) = limited {
            peers.failed(peer);
        }
        self.metrics.rejected("unauthenticated");
        tracing::debug!(?peer, "no good token");
        Err(Error::new(Kind::Unauthenticated, "a valid token is needed: Authorization: Bearer TOKEN"))
    }
}

/// Whether requests load and unload models.
fn has_explicit_control(config: &Config) -> bool {
    config.repositories.values().any(|repository| repository.control == ModelControl::Explicit)
}

/// Whether whoever comes from this machine without a token may do what otherwise takes an
/// operator. Settings: where they may do everything on the admin listener. Models: where the
/// configuration lets requests load them, and no token is known that could be asked for.
fn is_open_to_loopback(config: &Config, access: Access, connection: Option<&Connection>) -> bool {
    let is_local = connection.is_some_and(|it| it.local.ip().is_loopback() && it.peer.ip().is_loopback());
    let has_admin = config.tokens.values().any(|token| token.scopes.contains(&Scope::Admin));
    is_local
        && match access {
            Access::Models => {
                has_explicit_control(config) && !has_admin && !config.server.predict_needs_token
            }
            Access::Settings => config.server.admin_without_tokens,
            _ => false,
        }
}

fn identity(name: &Arc<str>, token: &config::Token) -> Identity {
    Identity { name: Arc::clone(name), owner: token.owner.clone(), scopes: token.scopes.clone() }
}

/// What a request shows. One header, one scheme; whatever else might be meant as a token
/// is nonsense.
fn shown<'a>(uri: &Uri, headers: &'a HeaderMap) -> Shown<'a> {
    let parameters = uri.query().unwrap_or("").split('&');
    let mut names = parameters.map(|pair| pair.split('=').next().unwrap_or(pair));
    if names.any(|name| TOKEN_PARAMETERS.iter().any(|known| name.eq_ignore_ascii_case(known))) {
        return Shown::Nonsense;
    }
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let (Some(value), more) = (values.next(), values.next()) else { return Shown::Nothing };
    let parts = value.to_str().ok().filter(|_| more.is_none()).and_then(|text| text.split_once(' '));
    match parts {
        Some((scheme, text)) if scheme.eq_ignore_ascii_case("bearer") => Shown::Text(text.trim()),
        _ => Shown::Nonsense,
    }
}

/// Refuses what a browser may have been tricked into. Why a layer: it stands before all
/// routes and before what is no route.
pub(crate) async fn no_browser(State(door): State<Arc<Door>>, request: Request, next: Next) -> Response {
    let checked = {
        let snapshot = door.catalog.snapshot();
        let hosts = &snapshot.config.server.admin_hosts;
        let local = request.extensions().get::<Connection>().map(|connection| connection.local.ip());
        browser::check(request.method(), request.uri(), request.headers(), local, hosts)
    };
    match checked {
        Ok(()) => next.run(request).await,
        Err(error) => {
            door.metrics.rejected("browser");
            // Which route it would have been nobody has looked up yet.
            let method = knocks::change(request.method(), "");
            if let Some(knock) = method.and_then(|method| knocks::Knocking::new(&door, &method, &request)) {
                knock.turned_away(knocks::BROWSER.into(), error.kind()).await;
            }
            refusal::respond(error, request).await
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(uri: &str, values: &[&str]) -> String {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(AUTHORIZATION, http::HeaderValue::from_bytes(value.as_bytes()).expect("valid"));
        }
        match shown(&uri.parse().expect("valid"), &headers) {
            Shown::Nothing => "nothing".to_owned(),
            Shown::Nonsense => "nonsense".to_owned(),
            Shown::Text(text) => text.to_owned(),
        }
    }

    #[test]
    fn a_token_is_taken_from_one_bearer_header_only() {
        assert_eq!(of("/", &[]), "nothing");
        assert_eq!(of("/", &["Bearer x"]), "x");
        assert_eq!(of("/", &["bEARER  x "]), "x");
        for values in
            [&["Basic x"][..], &["Bearer"], &["x"], &["Bearer x", "Bearer x"], &["Bearer x", ""], &["é x"]]
        {
            assert_eq!(of("/", values), "nonsense", "{values:?}");
        }
        for uri in ["/?token=x", "/?a=1&access_token=x", "/?ACCESS_TOKEN", "/?token"] {
            assert_eq!(of(uri, &[]), "nonsense", "{uri}");
            assert_eq!(of(uri, &["Bearer x"]), "nonsense", "{uri}");
        }
        assert_eq!(of("/?tokens=1&b", &["Bearer x"]), "x");
    }
}
