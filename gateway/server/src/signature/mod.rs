//! Signatures of components: who vouches for these bytes.
//!
//! Keys are ed25519, in the files that everybody reads: PKCS#8 PEM for the private one,
//! SPKI PEM for the public one. A signature comes in one of two kept forms:
//!
//! - **Detached**: plain Ed25519 (RFC 8032) in base64, over the component's bytes. It is
//!   what `cosign sign-blob --key` makes of an ed25519 key where it uploads to no
//!   transparency log, what `cosign verify-blob` reads, and what
//!   `openssl pkeyutl -sign -rawin` makes. For keys in a device that takes no megabytes,
//!   a signature over the 32 bytes of the component's SHA-256 counts, too: no component
//!   has 32 bytes, so the one can never pass for the other. Where cosign does upload to
//!   Rekor it makes Ed25519ph, another scheme, which is refused.
//! - **Embedded**: the custom section `signature` of wasmsign2, over the SHA-256 of
//!   everything behind that section.
//!
//! A key belongs to an owner and vouches for that owner's plugins alone; one without an
//! owner is the operator's and vouches for everybody's.

mod embedded;
mod key;
mod trusted;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

pub use embedded::{Embedded, find as find_embedded};
pub use key::{KeyError, PrivateKey, PublicKey};
pub use trusted::{TrustedKeys, Vouched};

/// Bytes of an ed25519 signature.
pub const SIGNATURE_BYTES: usize = 64;

/// Most bytes of a signature's text: base64 of 64 bytes is 88 characters, and a file of
/// it may have some space around. More is refused before it is decoded.
const TEXT_BYTES_MAX: usize = 256;

/// Why a component is not vouched for. The words are for whoever uploads it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// There is neither a detached signature nor an embedded one.
    #[error("the component has no signature")]
    Missing,
    /// The signature's text, or the section that holds it, is malformed.
    #[error("the signature is malformed: {0}")]
    Malformed(&'static str),
    /// No key of that name vouches for this owner's plugins.
    #[error("no key '{0}' vouches for this owner's plugins")]
    NoSuchKey(String),
    /// None of the owner's keys made it, or the component was changed since.
    #[error("the signature fits neither these bytes nor any key that vouches for this owner's plugins")]
    Invalid,
}

/// A detached signature, and whose it is said to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signature {
    /// The name of the key, if it was given; any of the owner's otherwise.
    pub key: Option<String>,
    /// The signature.
    pub bytes: [u8; SIGNATURE_BYTES],
}

impl Signature {
    /// Reads base64, as a signature file holds it.
    ///
    /// # Errors
    /// [`SignatureError::Malformed`].
    pub fn from_base64(text: &str) -> Result<Self, SignatureError> {
        let text = text.trim();
        if text.len() > TEXT_BYTES_MAX {
            return Err(SignatureError::Malformed("it is too long"));
        }
        let bytes = STANDARD.decode(text).map_err(|_| SignatureError::Malformed("it is not base64"))?;
        let bytes = bytes.try_into().map_err(|_| SignatureError::Malformed("it does not have 64 bytes"))?;
        Ok(Self { key: None, bytes })
    }

    /// Reads the header `x-sluice-signature`: `KEYNAME:BASE64`, or the base64 alone.
    ///
    /// # Errors
    /// [`SignatureError::Malformed`].
    pub fn from_header(text: &str) -> Result<Self, SignatureError> {
        let Some((name, base64)) = text.split_once(':') else { return Self::from_base64(text) };
        sluice_tensor::check_name(name)
            .map_err(|_| SignatureError::Malformed("it does not begin with the name of a key"))?;
        Ok(Self { key: Some(name.to_owned()), ..Self::from_base64(base64)? })
    }

    /// The signature in base64.
    pub fn to_base64(&self) -> String {
        STANDARD.encode(self.bytes)
    }
}

#[cfg(test)]
mod tests;
