//! References: `oci://HOST[:PORT]/REPOSITORY@sha256:…`, or with a tag where a person waits.

use std::fmt;
use std::net::IpAddr;

use super::{Digest, OciError};

/// Bytes of a reference, and of its parts, as the distribution specification has them.
const REFERENCE_BYTES_MAX: usize = 1024;
const REPOSITORY_BYTES_MAX: usize = 255;
const TAG_BYTES_MAX: usize = 128;

/// Where a plugin is in a registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    host: String,
    repository: String,
    version: Version,
}

/// Which one it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Version {
    /// Exactly this manifest.
    Digest(Digest),
    /// Whatever the tag names at the moment.
    Tag(String),
}

impl Reference {
    /// Reads a reference. The registry is always named: nothing is pulled from a place
    /// that nobody wrote down.
    ///
    /// # Errors
    /// [`OciError::Reference`].
    pub fn parse(text: &str) -> Result<Self, OciError> {
        let fault = |why| OciError::Reference { reference: text.chars().take(200).collect(), why };
        if text.len() > REFERENCE_BYTES_MAX {
            return Err(fault("it is too long"));
        }
        let rest = text.strip_prefix("oci://").ok_or_else(|| fault("it does not start with oci://"))?;
        let (host, rest) = rest.split_once('/').ok_or_else(|| fault("it names no repository"))?;
        if !is_host(host) {
            return Err(fault("the registry is not HOST or HOST:PORT"));
        }
        let (repository, version) = match rest.split_once('@') {
            Some((repository, digest)) => {
                let digest = Digest::parse(digest)
                    .ok_or_else(|| fault("the digest is not sha256: and 64 hex digits"))?;
                // A tag beside a digest says nothing more.
                (repository.split(':').next().unwrap_or(repository), Version::Digest(digest))
            }
            None => match rest.split_once(':') {
                Some((repository, tag)) if is_tag(tag) => (repository, Version::Tag(tag.to_owned())),
                Some(_) => return Err(fault("the tag is malformed")),
                None => return Err(fault("it has neither a digest (@sha256:…) nor a tag (:…)")),
            },
        };
        if !is_repository(repository) {
            return Err(fault("the repository is not lower-case parts joined by slashes"));
        }
        Ok(Self { host: host.to_owned(), repository: repository.to_owned(), version })
    }

    /// Reads a reference that must name a digest, as configs have to: what is served must
    /// not change because somebody moved a tag.
    ///
    /// # Errors
    /// [`OciError::Reference`].
    pub fn parse_pinned(text: &str) -> Result<(Self, Digest), OciError> {
        let reference = Self::parse(text)?;
        match reference.version {
            Version::Digest(digest) => Ok((reference, digest)),
            Version::Tag(_) => Err(OciError::Reference {
                reference: text.to_owned(),
                why: "a tag can be moved: name the digest (@sha256:…), which `sluice plugin pull` prints",
            }),
        }
    }

    /// The same repository at a digest.
    #[must_use]
    pub fn at(&self, digest: Digest) -> Self {
        Self { version: Version::Digest(digest), ..self.clone() }
    }

    /// The registry, with its port if it names one.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The repository.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// Digest or tag.
    pub fn version(&self) -> &Version {
        &self.version
    }

    /// Whether the registry is this machine, which is spoken to without TLS.
    pub(super) fn is_loopback(&self) -> bool {
        let host = match self.host.strip_prefix('[') {
            Some(rest) => rest.split(']').next().unwrap_or(rest),
            None => self.host.split(':').next().unwrap_or(&self.host),
        };
        host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "oci://{}/{}{}", self.host, self.repository, self.version)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Digest(digest) => write!(f, "@{digest}"),
            Self::Tag(tag) => write!(f, ":{tag}"),
        }
    }
}

impl Reference {
    /// Whether a text is a registry: a host, or a host and a port.
    pub fn is_host(text: &str) -> bool {
        is_host(text)
    }
}

fn is_host(text: &str) -> bool {
    let end = text.rfind(']').map_or(0, |bracket| bracket + 1);
    let (host, port) = match text[end..].rfind(':') {
        Some(colon) => (&text[..end + colon], Some(&text[end + colon + 1..])),
        None => (text, None),
    };
    let is_port = |port: &str| {
        port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok_and(|port| port != 0)
    };
    let is_name = |name: &str| {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        name.split('.').all(|label| !label.is_empty() && label.bytes().all(plain))
    };
    let is_v6 = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
        .is_some_and(|host| host.parse::<std::net::Ipv6Addr>().is_ok());
    port.is_none_or(is_port) && (is_v6 || is_name(host))
}

fn is_repository(text: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let is_part = |part: &str| {
        let inner = |byte: u8| is_plain(byte) || matches!(byte, b'.' | b'_' | b'-');
        let bytes = part.as_bytes();
        bytes.first().copied().is_some_and(is_plain)
            && bytes.last().copied().is_some_and(is_plain)
            && part.bytes().all(inner)
            && !part.contains("..")
    };
    text.len() <= REPOSITORY_BYTES_MAX && text.split('/').all(is_part)
}

fn is_tag(text: &str) -> bool {
    let first = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let inner = |byte: u8| first(byte) || matches!(byte, b'.' | b'-');
    text.len() <= TAG_BYTES_MAX && text.bytes().next().is_some_and(first) && text.bytes().all(inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn references_read_back_as_they_print() {
        for text in [
            &format!("oci://ghcr.io/team/ranker@{DIGEST}"),
            "oci://localhost:5000/a:1.2_x-Y",
            "oci://127.0.0.1:5000/a/b/c:latest",
            "oci://[::1]:5000/a:1",
        ] {
            assert_eq!(Reference::parse(text).expect(text).to_string(), *text);
        }
        let tagged = Reference::parse(&format!("oci://h.example/a:1@{DIGEST}")).expect("digest wins");
        assert_eq!(tagged.to_string(), format!("oci://h.example/a@{DIGEST}"));
    }

    #[test]
    fn what_could_leave_its_place_is_refused() {
        for text in [
            "",
            "ghcr.io/a:1",
            "oci://ghcr.io",
            "oci:///a:1",
            "oci://ghcr.io/:1",
            "oci://ghcr.io/a",
            "oci://ghcr.io/../x:1",
            "oci://ghcr.io/a//b:1",
            "oci://ghcr.io/A:1",
            "oci://ghcr.io/a:",
            "oci://ghcr.io/a:x/y",
            "oci://u:p@ghcr.io/a:1",
            "oci://ghcr.io:0/a:1",
            "oci://ghcr.io:x/a:1",
            "oci://gh cr.io/a:1",
            "oci://ghcr.io/a@sha256:12",
            "oci://ghcr.io/a@sha512:12",
            "oci://ghcr.io/a?x:1",
            "oci://ghcr.io/a%2f:1",
            &format!("oci://ghcr.io/{}:1", "a/".repeat(600)),
        ] {
            assert!(Reference::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_config_needs_a_digest() {
        assert!(Reference::parse_pinned("oci://ghcr.io/a:1").is_err());
        let (_, digest) = Reference::parse_pinned(&format!("oci://ghcr.io/a@{DIGEST}")).expect("pinned");
        assert_eq!(digest.to_string(), DIGEST);
    }

    #[test]
    fn only_this_machine_is_loopback() {
        for (host, expected) in [
            ("localhost:5000", true),
            ("127.0.0.1:5000", true),
            ("[::1]:5000", true),
            ("127.9.9.9", true),
            ("localhost.evil.org", false),
            ("10.0.0.1:5000", false),
            ("127.0.0.1.evil.org", false),
        ] {
            let reference = Reference::parse(&format!("oci://{host}/a:1")).expect(host);
            assert_eq!(reference.is_loopback(), expected, "{host}");
        }
    }
}
