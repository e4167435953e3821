//! ed25519 keys, in the files that everybody reads.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::rand::{SecureRandom, SystemRandom};
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{PrivatePkcs8KeyDer, SubjectPublicKeyInfoDer};

use super::{SIGNATURE_BYTES, Signature};

/// Bytes of a public key, and of the seed that a private key is.
const KEY_BYTES: usize = 32;

/// What stands before the 32 bytes in SPKI (RFC 8410): a sequence, the algorithm
/// 1.3.101.112, a bit string.
const SPKI_PREFIX: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// The same in PKCS#8 version 1. Version 2, which repeats the public key, is not read by
/// every OpenSSL.
const PKCS8_PREFIX: [u8; 16] =
    [0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];

/// Characters of a line of PEM.
const PEM_LINE: usize = 64;

/// Why a text is not a key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Not a key in a known form.
    #[error("not an ed25519 {0} key: {1}")]
    Malformed(&'static str, &'static str),
    /// The system gave no random numbers.
    #[error("the system gave no random numbers")]
    Random,
}

/// A key that signatures are checked with.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct PublicKey([u8; KEY_BYTES]);

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({})", self.to_base64())
    }
}

impl From<[u8; KEY_BYTES]> for PublicKey {
    fn from(bytes: [u8; KEY_BYTES]) -> Self {
        Self(bytes)
    }
}

impl PublicKey {
    /// Reads PEM (`BEGIN PUBLIC KEY`), or base64 of the 32 bytes alone.
    ///
    /// # Errors
    /// [`KeyError::Malformed`].
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        let fault = |why| KeyError::Malformed("public", why);
        let text = text.trim();
        let bytes = if text.starts_with("-----BEGIN") {
            if text.contains("PRIVATE KEY") {
                return Err(fault("this is a private key: it belongs to nobody but the one who signs"));
            }
            let der = SubjectPublicKeyInfoDer::from_pem_slice(text.as_bytes())
                .map_err(|_| fault("no PEM block PUBLIC KEY"))?;
            let key = der.strip_prefix(&SPKI_PREFIX).ok_or_else(|| fault("it is for another algorithm"))?;
            key.to_vec()
        } else {
            STANDARD.decode(text).map_err(|_| fault("neither PEM nor base64"))?
        };
        bytes.try_into().map(Self).map_err(|_| fault("it does not have 32 bytes"))
    }

    /// A key from its 32 bytes.
    pub fn from_bytes(bytes: [u8; KEY_BYTES]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes.
    pub fn as_bytes(&self) -> &[u8; KEY_BYTES] {
        &self.0
    }

    /// The 32 bytes in base64: one line for a configuration.
    pub fn to_base64(&self) -> String {
        STANDARD.encode(self.0)
    }

    /// The key as a PEM file.
    pub fn to_pem(&self) -> String {
        pem("PUBLIC KEY", &[&SPKI_PREFIX[..], &self.0].concat())
    }

    /// Whether the key made this signature over the message.
    pub fn has_signed(&self, message: &[u8], signature: &[u8; SIGNATURE_BYTES]) -> bool {
        UnparsedPublicKey::new(&ED25519, self.0).verify(message, signature).is_ok()
    }
}

/// A key that makes signatures.
pub struct PrivateKey {
    pair: Ed25519KeyPair,
}

/// Never what it is.
impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PrivateKey")
    }
}

impl PrivateKey {
    /// Makes a new one, and the PEM file to keep it in.
    ///
    /// # Errors
    /// [`KeyError::Random`].
    pub fn generate() -> Result<(Self, String), KeyError> {
        let mut seed = [0; KEY_BYTES];
        SystemRandom::new().fill(&mut seed).map_err(|_| KeyError::Random)?;
        let pair = Ed25519KeyPair::from_seed_unchecked(&seed).map_err(|_| KeyError::Random)?;
        Ok((Self { pair }, pem("PRIVATE KEY", &[&PKCS8_PREFIX[..], &seed].concat())))
    }

    /// Reads PEM (`BEGIN PRIVATE KEY`): ours, OpenSSL's, or any other's that has no password.
    ///
    /// # Errors
    /// [`KeyError::Malformed`].
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        let fault = |why| KeyError::Malformed("private", why);
        if text.contains("ENCRYPTED") {
            return Err(fault("it is encrypted, which is not supported: give the key as plain PKCS#8"));
        }
        let der = PrivatePkcs8KeyDer::from_pem_slice(text.as_bytes())
            .map_err(|_| fault("no PEM block PRIVATE KEY (PKCS#8)"))?;
        let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(der.secret_pkcs8_der())
            .map_err(|_| fault("it is damaged, or for another algorithm"))?;
        Ok(Self { pair })
    }

    /// The key that checks what this one signs.
    pub fn public(&self) -> PublicKey {
        // An ed25519 key always has this length.
        let bytes = self.pair.public_key().as_ref().try_into();
        PublicKey(bytes.unwrap_or([0; KEY_BYTES]))
    }

    /// Signs.
    pub fn sign(&self, message: &[u8]) -> Signature {
        let signature = self.pair.sign(message);
        let bytes = signature.as_ref().try_into().unwrap_or([0; SIGNATURE_BYTES]);
        Signature { key: None, bytes }
    }
}

fn pem(label: &str, der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let mut pem = format!("-----BEGIN {label}-----\n");
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let (line, more) = rest.split_at(rest.len().min(PEM_LINE));
        pem.push_str(line);
        pem.push('\n');
        rest = more;
    }
    pem.push_str(&format!("-----END {label}-----\n"));
    pem
}
