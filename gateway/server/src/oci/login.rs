//! Logging in at a registry: the token that a service of its choice gives out.
//!
//! The registry names that service in a header, and whoever it names is shown the
//! operator's password. So it is asked over TLS only, unless the registry itself is spoken
//! to without; what it answers is bounded in time and bytes.

use std::time::Duration;

use bytes::BytesMut;
use oci_client::RegistryOperation;
use oci_client::secrets::RegistryAuth;
use reqwest::header::{HeaderMap, WWW_AUTHENTICATE};
use reqwest::{Client, StatusCode, Url};
use serde::Deserialize;

use super::OciError;

/// Time for the whole of a log-in. Services answer within a second; whoever drips its answer
/// holds up a reload for as long as this, and no more.
const LOGIN_TIMEOUT: Duration = Duration::from_secs(10);

/// Bytes of a service's answer. Tokens with long lists of rights have some 10 KiB.
const ANSWER_BYTES_MAX: usize = 64 << 10;

/// Bytes of a header that names a service.
const CHALLENGE_BYTES_MAX: usize = 4 << 10;

/// What is logged in to.
pub(super) struct Door<'a> {
    pub(super) http: &'a Client,
    pub(super) scheme: &'static str,
    pub(super) host: &'a str,
    /// The host as it is dialled.
    pub(super) address: &'a str,
    pub(super) repository: &'a str,
}

/// The service that a registry names.
#[derive(Debug, PartialEq, Eq)]
struct Challenge {
    realm: String,
    service: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Answer {
    token: String,
    access_token: String,
}

impl Door<'_> {
    /// A token for this operation; none if the registry asks for none.
    ///
    /// # Errors
    /// [`OciError::Denied`], [`OciError::Unreachable`] also if it takes too long, and
    /// [`OciError::Protocol`] for answers that make no sense or are too much.
    pub(super) async fn token(
        &self,
        auth: &RegistryAuth,
        operation: RegistryOperation,
    ) -> Result<Option<String>, OciError> {
        if let RegistryAuth::Bearer(token) = auth {
            return Ok(Some(token.clone()));
        }
        let slow = |_| self.unreachable("the log-in took too long".to_owned());
        tokio::time::timeout(LOGIN_TIMEOUT, self.ask(auth, operation)).await.map_err(slow)?
    }

    async fn ask(
        &self,
        auth: &RegistryAuth,
        operation: RegistryOperation,
    ) -> Result<Option<String>, OciError> {
        let probe = self.http.get(format!("{}://{}/v2/", self.scheme, self.address));
        let probed = probe.send().await.map_err(|error| self.lost(&error))?;
        let Some(challenge) = challenge(probed.headers()) else { return Ok(None) };
        drop(probed);
        let mut request = self.http.get(self.service(&challenge, operation)?);
        if let RegistryAuth::Basic(user, password) = auth {
            request = request.basic_auth(user, Some(password));
        }
        let mut answer = request.send().await.map_err(|error| self.lost(&error))?;
        match answer.status() {
            StatusCode::OK => {}
            status if status.is_client_error() => {
                let (host, repository) = (self.host.to_owned(), self.repository.to_owned());
                return Err(OciError::Denied { host, repository });
            }
            status => return Err(self.wrong(format!("status {status} for a token"))),
        }
        let mut content = BytesMut::new();
        while let Some(chunk) = answer.chunk().await.map_err(|error| self.lost(&error))? {
            if content.len().saturating_add(chunk.len()) > ANSWER_BYTES_MAX {
                return Err(self.wrong(format!("a token of more than {ANSWER_BYTES_MAX} bytes")));
            }
            content.extend_from_slice(&chunk);
        }
        // What serde says may quote the token.
        let answer: Answer = serde_json::from_slice(&content)
            .map_err(|_| self.wrong("what it gave for a token is none".to_owned()))?;
        let token = if answer.token.is_empty() { answer.access_token } else { answer.token };
        if token.is_empty() { Err(self.wrong("it gave no token".to_owned())) } else { Ok(Some(token)) }
    }

    /// Where a token is asked for, if the operator's password may go there.
    fn service(&self, challenge: &Challenge, operation: RegistryOperation) -> Result<Url, OciError> {
        let no_url = |_| self.wrong("the service for tokens has no URL".to_owned());
        let mut url = Url::parse(&challenge.realm).map_err(no_url)?;
        let is_safe = url.scheme() == "https" || (url.scheme() == "http" && self.scheme == "http");
        if !is_safe || !url.username().is_empty() || url.password().is_some() {
            return Err(self.wrong("its service for tokens is not reached over TLS".to_owned()));
        }
        let rights = match operation {
            RegistryOperation::Pull => "pull",
            RegistryOperation::Push => "pull,push",
        };
        let scope = format!("repository:{}:{rights}", self.repository);
        let mut query = url.query_pairs_mut();
        query.append_pair("scope", &scope);
        if let Some(service) = &challenge.service {
            query.append_pair("service", service);
        }
        drop(query);
        Ok(url)
    }

    fn lost(&self, error: &reqwest::Error) -> OciError {
        self.unreachable(super::registry::innermost(error))
    }

    fn unreachable(&self, why: String) -> OciError {
        OciError::Unreachable { host: self.host.to_owned(), why }
    }

    fn wrong(&self, why: String) -> OciError {
        OciError::Protocol { host: self.host.to_owned(), why }
    }
}

/// The first challenge that asks for a token.
fn challenge(headers: &HeaderMap) -> Option<Challenge> {
    let values = headers.get_all(WWW_AUTHENTICATE).iter().filter_map(|value| value.to_str().ok());
    values.filter(|value| value.len() <= CHALLENGE_BYTES_MAX).find_map(bearer)
}

/// `Bearer realm="…",service="…"`, with whatever parameters more.
fn bearer(text: &str) -> Option<Challenge> {
    let (scheme, mut rest) = text.trim_start().split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("bearer") {
        return None;
    }
    let (mut realm, mut service) = (None, None);
    while let Some((name, after)) = rest.split_once('=') {
        let (value, after) = match after.strip_prefix('"') {
            Some(quoted) => unquoted(quoted)?,
            None => {
                let (value, after) = after.split_once(',').unwrap_or((after, ""));
                (value.trim().to_owned(), after)
            }
        };
        let name = name.trim_matches([' ', ',', '\t']);
        if name.eq_ignore_ascii_case("realm") {
            realm = Some(value);
        } else if name.eq_ignore_ascii_case("service") {
            service = Some(value);
        }
        rest = after;
    }
    Some(Challenge { realm: realm?, service })
}

/// A quoted string without its quotes, and what follows it.
fn unquoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((index, character)) = characters.next() {
        match character {
            '"' => return Some((value, &text[index + 1..])),
            '\\' => value.push(characters.next()?.1),
            other => value.push(other),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn door(http: &Client, scheme: &'static str) -> Door<'static> {
        let http: &'static Client = Box::leak(Box::new(http.clone()));
        Door { http, scheme, host: "r.io", address: "r.io", repository: "team/a" }
    }

    #[test]
    fn challenges_are_read_as_registries_write_them() {
        let found = |text| bearer(text).map(|it| (it.realm, it.service));
        let both = Some(("https://a.io/t".to_owned(), Some("r, \"x\"".to_owned())));
        assert_eq!(found(r#"Bearer realm="https://a.io/t",service="r, \"x\"",scope="s""#), both);
        assert_eq!(found(r#"bearer service="r, \"x\"", realm="https://a.io/t""#), both);
        assert_eq!(found("Bearer realm=https://a.io"), Some(("https://a.io".to_owned(), None)));
        for none in ["Basic realm=\"x\"", "Bearer", "Bearer service=\"r\"", "Bearer realm=\"open", "\"="] {
            assert_eq!(found(none), None, "{none}");
        }
    }

    #[test]
    fn a_password_goes_nowhere_without_tls_unless_the_registry_is_spoken_to_without() {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http = Client::new();
        let asked = |scheme, realm: &str| {
            let challenge = Challenge { realm: realm.to_owned(), service: Some("r".to_owned()) };
            let url = door(&http, scheme).service(&challenge, RegistryOperation::Pull);
            url.ok().map(|url| url.to_string())
        };
        let query = "scope=repository%3Ateam%2Fa%3Apull&service=r";
        assert_eq!(asked("https", "https://auth.io/t"), Some(format!("https://auth.io/t?{query}")));
        assert_eq!(asked("http", "http://127.0.0.1:1/t"), Some(format!("http://127.0.0.1:1/t?{query}")));
        let refused =
            ["http://auth.io/t", "http://169.254.169.254/", "file:///etc/passwd", "https://u:p@a.io/"];
        for realm in refused {
            assert_eq!(asked("https", realm), None, "{realm}");
        }
    }
}
