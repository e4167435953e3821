//! The hosts that a plugin may call: `http_hosts` of its config.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

use http::Uri;
use http::uri::Scheme;

use super::EgressError;

/// The longest name that DNS knows, and the longest part of one.
const NAME_BYTES_MAX: usize = 253;
const LABEL_BYTES_MAX: usize = 63;

/// One entry: a scheme, a host and a port, all of which must fit.
///
/// `api.example.com` is HTTPS on port 443; `*.example.com:8443` is every name below
/// `example.com`, not itself; `http://127.0.0.1:9000` is plain HTTP to an address, and
/// only an entry that is an address lets a plugin reach one.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct AllowedHost {
    is_tls: bool,
    host: Pattern,
    port: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Pattern {
    Name(String),
    /// Every name that ends so; starts with a dot.
    Below(String),
    Address(IpAddr),
}

/// What a request is for, in the words of the list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    is_tls: bool,
    host: Host,
    port: u16,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Host {
    Name(String),
    Address(IpAddr),
}

impl AllowedHost {
    /// Reads an entry.
    ///
    /// # Errors
    /// What is wrong with it, for whoever wrote it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let fault = |what: &str| Err(format!("'{text}' {what}"));
        let (is_tls, rest) = match text.split_once("://") {
            None => (true, text),
            Some(("https", rest)) => (true, rest),
            Some(("http", rest)) => (false, rest),
            Some(_) => return fault("has a scheme other than http:// and https://"),
        };
        if rest.contains(['/', '?', '#', '@']) {
            return fault("is more than a host and a port: no path, query or user");
        }
        let (host, port) = match split_port(rest) {
            Some((host, Some(port))) => (host, port),
            Some((host, None)) => (host, default_port(is_tls)),
            None => return fault("has no valid port: it is 1 to 65535"),
        };
        let pattern = match host.strip_prefix('*') {
            Some("") => return fault("allows every host: name the hosts, or the domain as in *.example.com"),
            Some(domain) => match domain.strip_prefix('.') {
                Some(name) if !name.contains('.') => return fault("allows a whole top-level domain"),
                Some(name) => match checked_name(name) {
                    Some(name) => Pattern::Below(format!(".{name}")),
                    None => return fault("is not the name of a domain"),
                },
                None => return fault("has a * that is not the whole first part, as in *.example.com"),
            },
            None => match parse_host(host) {
                Some(Host::Address(address)) if address.is_unspecified() || address.is_multicast() => {
                    return fault("is an address that is nobody's");
                }
                Some(Host::Address(address)) => Pattern::Address(address),
                Some(Host::Name(name)) => Pattern::Name(name),
                None => return fault("is not the name of a host (letters of other scripts: write xn--…)"),
            },
        };
        Ok(Self { is_tls, host: pattern, port })
    }

    fn allows(&self, target: &Target) -> bool {
        let fits = match (&self.host, &target.host) {
            (Pattern::Name(known), Host::Name(name)) => known == name,
            (Pattern::Below(domain), Host::Name(name)) => {
                name.len() > domain.len() && name.ends_with(domain.as_str())
            }
            (Pattern::Address(known), Host::Address(address)) => known == address,
            _ => false,
        };
        fits && self.is_tls == target.is_tls && self.port == target.port
    }
}

impl fmt::Display for AllowedHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.is_tls { "https" } else { "http" };
        match &self.host {
            Pattern::Name(name) => write!(f, "{scheme}://{name}:{}", self.port),
            Pattern::Below(domain) => write!(f, "{scheme}://*{domain}:{}", self.port),
            Pattern::Address(IpAddr::V6(address)) => write!(f, "{scheme}://[{address}]:{}", self.port),
            Pattern::Address(address) => write!(f, "{scheme}://{address}:{}", self.port),
        }
    }
}

impl Target {
    /// What a URI is for.
    ///
    /// # Errors
    /// [`EgressError::BadUri`] for anything but an absolute HTTP URI without a user.
    pub(super) fn of(uri: &Uri) -> Result<Self, EgressError> {
        let is_tls = match uri.scheme() {
            Some(scheme) if *scheme == Scheme::HTTPS => true,
            Some(scheme) if *scheme == Scheme::HTTP => false,
            _ => return Err(EgressError::BadUri),
        };
        let authority = uri.authority().ok_or(EgressError::BadUri)?.as_str();
        if authority.contains('@') {
            return Err(EgressError::BadUri);
        }
        let (host, port) = split_port(authority).ok_or(EgressError::BadUri)?;
        let host = parse_host(host).ok_or(EgressError::BadUri)?;
        Ok(Self { is_tls, host, port: port.unwrap_or_else(|| default_port(is_tls)) })
    }

    pub(super) fn is_allowed_by(&self, list: &[AllowedHost]) -> bool {
        list.iter().any(|entry| entry.allows(self))
    }

    pub(super) fn is_tls(&self) -> bool {
        self.is_tls
    }

    pub(super) fn host(&self) -> &Host {
        &self.host
    }

    pub(super) fn port(&self) -> u16 {
        self.port
    }

    /// The same place in one form, whatever the plugin wrote: so that it finds the
    /// connection that is open, and `Host` is what was checked.
    pub(super) fn authority(&self) -> String {
        let host = match &self.host {
            Host::Name(name) => name.clone(),
            Host::Address(IpAddr::V6(address)) => format!("[{address}]"),
            Host::Address(address) => address.to_string(),
        };
        if self.port == default_port(self.is_tls) { host } else { format!("{host}:{}", self.port) }
    }
}

fn default_port(is_tls: bool) -> u16 {
    if is_tls { 443 } else { 80 }
}

/// Host and port; `None` if there is a port that is none.
fn split_port(text: &str) -> Option<(&str, Option<u16>)> {
    let end = text.rfind(']').map_or(0, |bracket| bracket + 1);
    match text[end..].rfind(':') {
        None => Some((text, None)),
        Some(colon) => {
            let (host, port) = (&text[..end + colon], &text[end + colon + 1..]);
            let is_number = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
            let port = port.parse().ok().filter(|port: &u16| is_number && *port != 0)?;
            Some((host, Some(port)))
        }
    }
}

fn parse_host(host: &str) -> Option<Host> {
    if let Some(inner) = host.strip_prefix('[') {
        let address: Ipv6Addr = inner.strip_suffix(']')?.parse().ok()?;
        return Some(Host::Address(IpAddr::V6(address)));
    }
    if let Ok(address) = host.parse() {
        return Some(Host::Address(IpAddr::V4(address)));
    }
    checked_name(host).map(Host::Name)
}

/// The name in lower case and without the dot at its end. A last part of digits would
/// be an address to some resolvers (`127.1`, `0x7f000001`), so it is no name.
fn checked_name(name: &str) -> Option<String> {
    let name = name.strip_suffix('.').unwrap_or(name);
    let is_label = |label: &str| {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        !label.is_empty() && label.len() <= LABEL_BYTES_MAX && label.bytes().all(plain)
    };
    let last = name.rsplit('.').next()?;
    let is_number =
        last.bytes().all(|byte| byte.is_ascii_digit()) || last.starts_with("0x") || last.starts_with("0X");
    let fits = name.len() <= NAME_BYTES_MAX && name.split('.').all(is_label) && !is_number;
    fits.then(|| name.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allows(entry: &str, uri: &str) -> bool {
        let entry = AllowedHost::parse(entry).expect(entry);
        Target::of(&uri.parse().expect(uri)).is_ok_and(|target| target.is_allowed_by(&[entry]))
    }

    #[test]
    fn scheme_host_and_port_must_all_fit() {
        assert!(allows("api.example.com", "https://api.example.com/a?b"));
        assert!(allows("api.example.com", "https://API.Example.COM.:443/"));
        assert!(!allows("api.example.com", "http://api.example.com/"));
        assert!(!allows("api.example.com", "https://api.example.com:8443/"));
        assert!(!allows("api.example.com", "https://example.com/"));
        assert!(!allows("api.example.com", "https://api.example.com.evil.org/"));
        assert!(!allows("api.example.com", "https://x.api.example.com/"));
        assert!(allows("http://features:8080", "http://features:8080/"));
        assert!(!allows("http://features:8080", "http://features/"));
        assert!(!allows("http://features:8080", "https://features:8080/"));
    }

    #[test]
    fn a_wildcard_is_what_lies_below_and_nothing_else() {
        assert!(allows("*.example.com:8443", "https://a.example.com:8443/"));
        assert!(allows("*.example.com:8443", "https://a.b.example.com:8443/"));
        assert!(!allows("*.example.com", "https://example.com/"));
        assert!(!allows("*.example.com", "https://badexample.com/"));
        assert!(!allows("*.example.com", "https://a.example.com.evil.org/"));
    }

    #[test]
    fn only_an_entry_that_is_an_address_allows_an_address() {
        assert!(allows("http://127.0.0.1:9000", "http://127.0.0.1:9000/x"));
        assert!(allows("http://[::1]:9000", "http://[0:0::1]:9000/x"));
        assert!(!allows("http://127.0.0.1:9000", "http://127.0.0.2:9000/"));
        assert!(!allows("http://127.0.0.1:9000", "http://localhost:9000/"));
        assert!(!allows("http://127.0.0.1:9000", "http://[::ffff:127.0.0.1]:9000/"));
    }

    #[test]
    fn a_user_in_the_uri_hides_no_other_host() {
        for uri in [
            "https://api.example.com@evil.org/",
            "https://u:p@api.example.com/",
            "ftp://api.example.com/",
            "/x",
        ] {
            let uri: Uri = uri.parse().expect(uri);
            assert_eq!(Target::of(&uri), Err(EgressError::BadUri), "{uri}");
        }
    }

    #[test]
    fn numbers_that_resolvers_take_for_addresses_are_no_names() {
        for uri in [
            "http://2130706433/",
            "http://127.1/",
            "http://0x7f000001/",
            "http://1.2.3.4.5/",
            "http://0x7f.1/",
        ] {
            let uri: Uri = uri.parse().expect(uri);
            assert_eq!(Target::of(&uri), Err(EgressError::BadUri), "{uri}");
        }
    }

    #[test]
    fn entries_that_mean_too_much_or_nothing_are_refused() {
        for entry in [
            "",
            "*",
            "*.com",
            "*example.com",
            "a.*.com",
            "ftp://a.com",
            "a.com/path",
            "u@a.com",
            "a.com:0",
            "a.com:",
            "a.com:70000",
            "a.com:+80",
            "a b.com",
            "a..com",
            "münchen.de",
            "http://0.0.0.0",
            "224.0.0.1",
            "127.1",
            "[::1",
            "::1",
            "https://",
            &format!("{}.com", "a".repeat(64)),
        ] {
            assert!(AllowedHost::parse(entry).is_err(), "{entry}");
        }
    }

    #[test]
    fn an_entry_reads_back_as_it_prints() {
        for entry in ["api.example.com", "*.example.com:8443", "http://127.0.0.1:9000", "https://[2606::1]:1"]
        {
            let parsed = AllowedHost::parse(entry).expect(entry);
            assert_eq!(AllowedHost::parse(&parsed.to_string()), Ok(parsed));
        }
    }
}
