//! Whether a request comes from a program on this machine: what shared memory takes, because it
//! is this machine's memory.

use http::{HeaderMap, Method, Uri};

use super::{Connection, browser};
use crate::error::{Error, Kind, Result};

/// Headers by which proxies tell whose request they pass on. It may be anybody's.
const FORWARDED: [&str; 5] = ["forwarded", "via", "x-forwarded-for", "x-forwarded-host", "x-real-ip"];

/// Refuses whoever is not on this machine, what a proxy on it passes on, and pages of browsers on
/// it: a page from anywhere can make them send requests here. A proxy that adds no header is not
/// seen.
///
/// # Errors
/// [`Kind::Forbidden`]; [`Kind::BadRequest`] without one clear host.
pub fn check_local(
    uri: &Uri,
    headers: &HeaderMap,
    connection: Option<&Connection>,
    hosts: &[String],
) -> Result<()> {
    let is_loopback = connection.is_some_and(Connection::is_loopback);
    if !is_loopback || FORWARDED.iter().any(|name| headers.contains_key(*name)) {
        return Err(Error::new(
            Kind::Forbidden,
            "shared memory is for programs on the gateway's own machine",
        ));
    }
    let local = connection.map(|connection| connection.local.ip());
    browser::check(&Method::POST, uri, headers, local, hosts)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(peer: &str, local: &str, headers: &[(&'static str, &'static str)]) -> Option<Kind> {
        let mut map = HeaderMap::from_iter([(http::header::HOST, "localhost".parse().expect("valid"))]);
        for (name, value) in headers {
            map.insert(*name, value.parse().expect("valid"));
        }
        let address = |ip: &str| std::net::SocketAddr::new(ip.parse().expect("an address"), 1);
        let connection = Connection { peer: address(peer), local: address(local), share: Default::default() };
        let uri = Uri::from_static("/v2/systemsharedmemory/status");
        check_local(&uri, &map, Some(&connection), &[]).err().map(|error| error.kind())
    }

    #[test]
    fn only_programs_of_this_machine_are_local() {
        assert_eq!(verdict("127.0.0.1", "127.0.0.1", &[]), None);
        assert_eq!(verdict("127.1.2.3", "127.0.0.1", &[]), None);
        assert_eq!(verdict("::1", "::1", &[]), None);
        assert_eq!(verdict("::ffff:127.0.0.1", "::ffff:127.0.0.1", &[]), None);
        for (peer, local) in
            [("192.0.2.1", "127.0.0.1"), ("127.0.0.1", "192.0.2.1"), ("192.0.2.1", "192.0.2.1")]
        {
            assert_eq!(verdict(peer, local, &[]), Some(Kind::Forbidden), "{peer} {local}");
        }
        for name in FORWARDED {
            assert_eq!(verdict("::1", "::1", &[(name, "192.0.2.1")]), Some(Kind::Forbidden), "{name}");
        }
        for header in [("origin", "http://localhost"), ("host", "evil.example")] {
            assert_eq!(verdict("::1", "::1", &[header]), Some(Kind::Forbidden), "{header:?}");
        }
        let headers = HeaderMap::new();
        assert!(check_local(&Uri::from_static("/"), &headers, None, &[]).is_err(), "no connection");
    }
}
