//! wasmsign2's signatures: the first section of a component, a custom one called
//! `signature`, signs the SHA-256 of everything behind it.
//!
//! Of its format, what covers the whole component is understood: version 1, SHA-256,
//! Ed25519. Its signatures over a part of the sections, which let sections be added
//! later, are not taken for more than they are: only the last hash of a set, the one of
//! the whole, counts.

use sha2::{Digest, Sha256};

use super::{PublicKey, SIGNATURE_BYTES, SignatureError};

/// The section's name.
const SECTION: &[u8] = b"signature";

/// Bytes before the first section.
const HEADER_BYTES: usize = 8;

/// What is signed begins with these: the format's name, its version, "a WebAssembly
/// module", SHA-256.
const DOMAIN: &[u8] = b"wasmsig\x01\x01\x01";

/// What the section begins with: the same three numbers.
const VERSION: [u8; 3] = [1, 1, 1];

/// The number of Ed25519.
const ED25519_ID: u8 = 1;

/// Most sets of hashes, hashes of a set and signatures of a set, each: wasmsign2 has 64
/// and 256, one of each is what a whole component needs. Every signature is one curve
/// operation, so this bounds what a section can cost us.
const COUNT_MAX: u32 = 16;

/// Bytes of a SHA-256.
const HASH_BYTES: usize = 32;

/// The signatures that a component carries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Embedded<'a> {
    sets: Vec<Set<'a>>,
    /// Everything behind the section.
    signed: &'a [u8],
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Set<'a> {
    hashes: &'a [u8],
    signatures: Vec<&'a [u8; SIGNATURE_BYTES]>,
}

/// The embedded signatures of a component, if it has any.
///
/// # Errors
/// [`SignatureError::Malformed`] for a section that is not of the format.
pub fn find(component: &[u8]) -> Result<Option<Embedded<'_>>, SignatureError> {
    let Some(sections) = component.get(HEADER_BYTES..) else { return Ok(None) };
    let mut reader = Reader(sections);
    // A custom section has the number 0. What is no section at all is not ours to report.
    if reader.byte().is_none_or(|id| id != 0) {
        return Ok(None);
    }
    let Some(section) = reader.slice() else { return Ok(None) };
    let signed = reader.0;
    let mut section = Reader(section);
    if section.slice() != Some(SECTION) {
        return Ok(None);
    }
    let sets =
        sets(section).ok_or(SignatureError::Malformed("the section 'signature' is not wasmsign2's"))?;
    Ok(Some(Embedded { sets, signed }))
}

fn sets(mut section: Reader<'_>) -> Option<Vec<Set<'_>>> {
    if section.take(VERSION.len())? != VERSION {
        return None;
    }
    let count = section.count()?;
    let mut sets = Vec::new();
    for _ in 0..count {
        let mut set = Reader(section.slice()?);
        let hashes = usize::try_from(set.count()?).ok()?;
        let hashes = set.take(hashes.checked_mul(HASH_BYTES)?)?;
        let mut signatures = Vec::new();
        for _ in 0..set.count()? {
            let mut signature = Reader(set.slice()?);
            let _key_id = signature.slice()?;
            if signature.byte()? == ED25519_ID {
                signatures.push(signature.slice()?.try_into().ok()?);
            }
        }
        sets.push(Set { hashes, signatures });
    }
    Some(sets)
}

impl Embedded<'_> {
    /// Whether the key made one of these signatures over this very component.
    pub fn is_signed_by(&self, key: &PublicKey) -> bool {
        let digest = Sha256::digest(self.signed);
        self.sets.iter().filter(|set| set.hashes.ends_with(&digest)).any(|set| {
            let message = [DOMAIN, set.hashes].concat();
            set.signatures.iter().any(|signature| key.has_signed(&message, signature))
        })
    }
}

/// Reads the section's numbers and slices; nothing is past its end.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, bytes: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(bytes)?;
        self.0 = rest;
        Some(taken)
    }

    fn byte(&mut self) -> Option<u8> {
        self.take(1).map(|byte| byte[0])
    }

    /// A LEB128 number of at most 32 bits.
    fn number(&mut self) -> Option<u32> {
        let mut value: u32 = 0;
        for shift in [0, 7, 14, 21, 28] {
            let byte = self.byte()?;
            let bits = u32::from(byte & 0x7f);
            if shift == 28 && bits > 0xf {
                return None;
            }
            value |= bits << shift;
            if byte < 0x80 {
                return Some(value);
            }
        }
        None
    }

    fn count(&mut self) -> Option<u32> {
        self.number().filter(|count| *count <= COUNT_MAX)
    }

    /// As many bytes as the number before them says.
    fn slice(&mut self) -> Option<&'a [u8]> {
        let bytes = usize::try_from(self.number()?).ok()?;
        self.take(bytes)
    }
}
