//! The keys whose signatures count, and for whom.

use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::{PublicKey, Signature, SignatureError, embedded};

/// A component whose signature was checked: by whose key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vouched {
    /// The name of the key.
    pub key: Arc<str>,
}

#[derive(Debug, Clone)]
struct Trusted {
    name: Arc<str>,
    owner: Option<Arc<str>>,
    key: PublicKey,
}

/// The keys whose signatures count.
#[derive(Debug, Clone, Default)]
pub struct TrustedKeys(Vec<Trusted>);

impl TrustedKeys {
    /// Keys by name, each with whose plugins it vouches for; none is everybody's.
    pub fn new(keys: impl IntoIterator<Item = (Arc<str>, Option<Arc<str>>, PublicKey)>) -> Self {
        Self(keys.into_iter().map(|(name, owner, key)| Trusted { name, owner, key }).collect())
    }

    /// Checks that somebody vouches for these bytes as a plugin of `owner`: by the
    /// detached signature if there is one, else by an embedded one.
    ///
    /// # Errors
    /// See [`SignatureError`]. Whether another owner has such a key is never told.
    pub fn verify(
        &self,
        component: &[u8],
        signature: Option<&Signature>,
        owner: Option<&str>,
    ) -> Result<Vouched, SignatureError> {
        let wanted = signature.and_then(|signature| signature.key.as_deref());
        let may_vouch = |trusted: &&Trusted| {
            let is_theirs = trusted.owner.is_none() || trusted.owner.as_deref() == owner;
            is_theirs && wanted.is_none_or(|name| name == &*trusted.name)
        };
        let mut keys = self.0.iter().filter(may_vouch).peekable();
        if let (None, Some(name)) = (keys.peek(), wanted) {
            return Err(SignatureError::NoSuchKey(name.to_owned()));
        }
        let found = match signature {
            Some(signature) => {
                let digest = Sha256::digest(component);
                keys.find(|trusted| {
                    trusted.key.has_signed(component, &signature.bytes)
                        || trusted.key.has_signed(&digest, &signature.bytes)
                })
            }
            None => {
                let embedded = embedded::find(component)?.ok_or(SignatureError::Missing)?;
                keys.find(|trusted| embedded.is_signed_by(&trusted.key))
            }
        };
        let trusted = found.ok_or(SignatureError::Invalid)?;
        Ok(Vouched { key: Arc::clone(&trusted.name) })
    }
}
