//! `[tokens]`, `[keys]` and TLS: who may do what, and how connections are protected.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chrono::DateTime;

use super::super::checker::{At, Checker};
use super::super::defaults as d;
use super::super::file::{KeyFile, TlsFile, TokenFile};
use super::super::types::{Scope, Tls, Token, TrustedKey};

pub(super) fn token(check: &mut Checker<'_>, at: At<'_>, file: &TokenFile) -> Token {
    let hash = file.hash.as_deref().and_then(|text| digest(text.strip_prefix("sha256:")?));
    if hash.is_none() {
        // What stands there may be a token itself: it is not repeated.
        check.problem(
            at,
            "hash",
            "is not sha256: and 64 hexadecimal digits, as `sluice token new` prints it",
        );
    }
    if file.scopes.is_empty() {
        check.problem(at, "scopes", "is missing: `predict`, `plugins:deploy`, `metrics` or `admin`");
    }
    let owner = check.owner(at, "owner", file.owner.as_deref());
    let deploys = file.scopes.contains(&Scope::PluginsDeploy) && !file.scopes.contains(&Scope::Admin);
    if deploys && owner.is_none() {
        check.problem(at, "owner", "is missing: plugins:deploy is for one owner's plugins");
    }
    let expires = file.expires.as_deref().and_then(|text| {
        let parsed = DateTime::parse_from_rfc3339(text).ok();
        let seconds = parsed.and_then(|time| u64::try_from(time.timestamp()).ok());
        if seconds.is_none() {
            check.problem(at, "expires", "is not a time such as 2027-01-31T00:00:00Z");
        }
        seconds
    });
    Token { hash: hash.unwrap_or_default(), scopes: file.scopes.clone(), owner, expires }
}

fn digest(text: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    if text.len() != 2 * bytes.len() || !text.is_ascii() {
        return None;
    }
    for (byte, at) in bytes.iter_mut().zip((0..text.len()).step_by(2)) {
        *byte = u8::from_str_radix(text.get(at..at + 2)?, 16).ok()?;
    }
    Some(bytes)
}

pub(super) fn key(check: &mut Checker<'_>, at: At<'_>, file: &KeyFile) -> TrustedKey {
    let decoded = file.public_key.as_deref().and_then(|text| STANDARD.decode(text).ok());
    let public_key = decoded.and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
    if public_key.is_none() {
        check.problem(
            at,
            "public_key",
            "is not an ed25519 public key: 32 bytes in base64, as `sluice plugin keygen` prints it",
        );
    }
    TrustedKey {
        owner: check.owner(at, "owner", file.owner.as_deref()),
        public_key: public_key.unwrap_or_default(),
    }
}

pub(super) fn tls(check: &mut Checker<'_>, at: At<'_>, file: &TlsFile) -> Tls {
    let bytes = d::PEM_BYTES_MAX;
    Tls {
        certificate: check.file(at, "certificate", file.certificate.as_deref(), bytes),
        key: check.file(at, "key", file.key.as_deref(), bytes),
        client_ca: file.client_ca.as_deref().map(|text| check.file(at, "client_ca", Some(text), bytes)),
    }
}
