//! Keeps browsers out of the admin listener (A6, H15). A page from anywhere can make its
//! reader's browser send requests to the reader's own machine and network, and by DNS
//! rebinding even read the answers. No tool of ours is a browser, so whatever says that
//! it comes from one is refused, and the host it asks for must be one that is ours.

use std::net::IpAddr;

use http::header::{HOST, ORIGIN};
use http::{HeaderMap, HeaderName, Method, Uri};

use crate::error::{Error, Kind, Result};

/// Which site's page made a browser send a request; `none` if the reader typed it.
const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// What only a preflight has.
const PREFLIGHT: HeaderName = HeaderName::from_static("access-control-request-method");

/// Refuses what another site's page may have sent, and hosts that are not ours.
///
/// # Errors
/// [`Kind::Forbidden`], or [`Kind::BadRequest`] without one clear host.
pub(super) fn check(
    method: &Method,
    uri: &Uri,
    headers: &HeaderMap,
    local: Option<IpAddr>,
    hosts: &[String],
) -> Result<()> {
    let is_typed = |site: &http::HeaderValue| matches!(site.as_bytes(), b"none" | b"same-origin");
    if headers.contains_key(ORIGIN)
        || headers.contains_key(PREFLIGHT)
        || *method == Method::OPTIONS
        || headers.get(FETCH_SITE).is_some_and(|site| !is_typed(site))
    {
        return Err(Error::new(Kind::Forbidden, "pages of browsers may not use this listener"));
    }
    let host = host(uri, headers)?;
    if is_ours(&host, local, hosts) {
        return Ok(());
    }
    let message = "this host is not known here: ask by address, or add the name to server.admin_hosts";
    Err(Error::new(Kind::Forbidden, message).with_detail(format!("host {host:?}")))
}

/// The host that a request asks for, without its port.
fn host(uri: &Uri, headers: &HeaderMap) -> Result<String> {
    let bad = || Error::new(Kind::BadRequest, "one host is needed");
    let mut values = headers.get_all(HOST).iter();
    let (first, second) = (values.next(), values.next());
    let named = first.map(|value| value.to_str().map_err(|_| bad())).transpose()?;
    // HTTP/2 has it in the URI. If both are there they have to agree.
    let text = match (uri.authority().map(http::uri::Authority::as_str), named) {
        (Some(authority), Some(named)) if authority != named => return Err(bad()),
        (Some(text), _) | (None, Some(text)) if second.is_none() => text,
        _ => return Err(bad()),
    };
    let authority: http::uri::Authority = text.parse().map_err(|_| bad())?;
    if text.contains('@') {
        return Err(bad());
    }
    let host = authority.host();
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    Ok(host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase())
}

fn is_ours(host: &str, local: Option<IpAddr>, hosts: &[String]) -> bool {
    let is_local = |address: IpAddr| {
        local.is_some_and(|local| {
            let (address, local) = (address.to_canonical(), local.to_canonical());
            address == local || (address.is_loopback() && local.is_loopback())
        })
    };
    host == "localhost"
        || host.parse().is_ok_and(is_local)
        || hosts.iter().any(|known| known.eq_ignore_ascii_case(host))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(method: &str, uri: &str, headers: &[(&str, &str)]) -> Option<Kind> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            let name: HeaderName = name.parse().expect("valid");
            map.append(name, value.parse().expect("valid"));
        }
        let hosts = ["admin.example".to_owned()];
        let method = method.parse().expect("valid");
        let local = Some(IpAddr::from([192, 0, 2, 1]));
        check(&method, &uri.parse().expect("valid"), &map, local, &hosts).err().map(|error| error.kind())
    }

    #[test]
    fn a6_only_our_own_hosts_are_served() {
        for host in [
            "192.0.2.1",
            "192.0.2.1:8002",
            "localhost:1",
            "LOCALHOST",
            "admin.example:8002",
            "admin.example.",
        ] {
            assert_eq!(verdict("GET", "/", &[("host", host)]), None, "{host}");
            assert_eq!(verdict("GET", &format!("http://{host}/"), &[]), None, "{host} in the URI");
        }
        for host in [
            "evil.example",
            "192.0.2.2",
            "127.0.0.1",
            "localhost.evil.example",
            "192.0.2.1.evil.example",
            "[::1]",
        ] {
            assert_eq!(verdict("GET", "/", &[("host", host)]), Some(Kind::Forbidden), "{host}");
        }
        for headers in [
            &[][..],
            &[("host", "")],
            &[("host", "localhost"), ("host", "localhost")],
            &[("host", "a@localhost")],
        ] {
            assert_eq!(verdict("GET", "/", headers), Some(Kind::BadRequest), "{headers:?}");
        }
        assert_eq!(verdict("GET", "http://localhost/", &[("host", "evil.example")]), Some(Kind::BadRequest));
    }

    #[test]
    fn a6_what_says_that_it_comes_from_a_page_is_refused() {
        let host = ("host", "localhost");
        for header in [
            ("origin", "http://localhost"),
            ("origin", "null"),
            ("sec-fetch-site", "cross-site"),
            ("sec-fetch-site", "same-site"),
            ("access-control-request-method", "PUT"),
        ] {
            assert_eq!(verdict("GET", "/", &[host, header]), Some(Kind::Forbidden), "{header:?}");
        }
        assert_eq!(verdict("OPTIONS", "/", &[host]), Some(Kind::Forbidden));
        assert_eq!(verdict("GET", "/", &[host, ("sec-fetch-site", "none")]), None);
    }
}
