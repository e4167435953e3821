//! `[server]`: listeners, limits and shutdown.

use std::net::SocketAddr;
use std::sync::Arc;

use super::super::checker::{At, Checker};
use super::super::defaults as d;
use super::super::file::{LimitsFile, ServerFile, SharedMemoryFile};
use super::super::types::{Limits, Scope, Server, SharedMemory, Token};
use super::{Named, access};

pub(super) fn server(check: &mut Checker<'_>, file: &ServerFile, tokens: &Named<Token>) -> Server {
    let at = At(&["server"]);
    let http = file.http.unwrap_or(d::HTTP);
    let grpc = file.grpc.unwrap_or(d::GRPC);
    let admin = file.admin.unwrap_or(d::ADMIN);
    let tls = file.tls.as_ref().map(|file| access::tls(check, At(&["server", "tls"]), file));
    let admin_tls =
        file.admin_tls.as_ref().map(|file| access::tls(check, At(&["server", "admin_tls"]), file));
    let admin_without_tokens = file.admin_without_tokens.unwrap_or(false);
    guard_admin(check, at, admin, admin_tls.is_some(), admin_without_tokens, tokens);
    if file.admin_hosts.len() > d::ADMIN_HOSTS_MAX {
        check.problem(at, "admin_hosts", format!("has more than {} entries", d::ADMIN_HOSTS_MAX));
    }
    // Port 0 lets the system choose, so two of those never meet.
    let meet = |a: std::net::SocketAddr, b: std::net::SocketAddr| {
        let same_ip = a.ip() == b.ip() || a.ip().is_unspecified() || b.ip().is_unspecified();
        a.port() != 0 && a.port() == b.port() && same_ip
    };
    if meet(grpc, http) {
        check.problem(at, "grpc", format!("{grpc} is the address of http too"));
    }
    if meet(admin, http) || meet(admin, grpc) {
        check.problem(at, "admin", format!("{admin} is the address of http or grpc too"));
    }
    Server {
        http,
        grpc,
        admin,
        admin_without_tokens,
        metrics_without_token: file.metrics_without_token.unwrap_or(false),
        predict_needs_token: file.predict_needs_token.unwrap_or(false),
        name: name(check, at, file.name.as_deref()),
        admin_hosts: file.admin_hosts.clone(),
        tls,
        admin_tls,
        limits: limits(check, &file.limits),
        shared_memory: shared_memory(check, &file.shared_memory, [("http", http), ("grpc", grpc)]),
        drain: check.millis(at, "drain_ms", file.drain_ms, d::DRAIN, &d::DRAIN_RANGE),
        drain_delay: check.millis(at, "drain_delay_ms", file.drain_delay_ms, d::DRAIN_DELAY, &d::DRAIN_RANGE),
    }
}

/// What clients are told that this is.
fn name(check: &mut Checker<'_>, at: At<'_>, name: Option<&str>) -> Arc<str> {
    let name = name.unwrap_or(d::SERVER_NAME);
    if let Err(error) = sluice_tensor::check_name(name) {
        check.problem(at, "name", error.to_string());
    }
    name.into()
}

/// Nobody gets to administer by reaching a port from another machine.
fn guard_admin(
    check: &mut Checker<'_>,
    at: At<'_>,
    admin: SocketAddr,
    has_tls: bool,
    without_tokens: bool,
    tokens: &Named<Token>,
) {
    let has_admin = tokens.values().any(|token| token.scopes.contains(&Scope::Admin));
    if admin.ip().is_loopback() {
        // Without tokens and without the flag nobody can administer, and that is safe.
        return;
    }
    if without_tokens {
        check.problem(at, "admin_without_tokens", format!("is for loopback addresses, and admin is {admin}"));
    }
    if !has_tls {
        check.problem(at, "admin", format!("{admin} is not a loopback address: it needs [server.admin_tls]"));
    }
    if !has_admin {
        check.problem(
            at,
            "admin",
            format!("{admin} is not a loopback address: it needs a token with the scope `admin` in [tokens]"),
        );
    }
}

/// Shared memory is this machine's: nobody reaches it from another one.
fn shared_memory(
    check: &mut Checker<'_>,
    file: &SharedMemoryFile,
    listeners: [(&str, SocketAddr); 2],
) -> SharedMemory {
    let at = At(&["server", "shared_memory"]);
    let enabled = file.enabled.unwrap_or(false);
    for (name, address) in listeners {
        if enabled && !address.ip().is_loopback() {
            check.problem(at, "enabled", format!("is for loopback addresses, and {name} is {address}"));
        }
    }
    let key_prefix = file.key_prefix.clone().unwrap_or_default();
    if key_prefix.len() > d::SHARED_PREFIX_BYTES_MAX || key_prefix.contains(['/', '\0']) {
        check.problem(at, "key_prefix", "is not the beginning of a file's name");
    }
    let (regions, bytes) = (&d::SHARED_REGIONS_RANGE, &d::SHARED_BYTES_RANGE);
    SharedMemory {
        enabled,
        regions_max: check.number(at, "regions_max", file.regions_max, d::SHARED_REGIONS, regions),
        bytes_max: check.number(at, "bytes_max", file.bytes_max, d::SHARED_BYTES, bytes),
        key_prefix,
    }
}

fn limits(check: &mut Checker<'_>, file: &LimitsFile) -> Limits {
    let at = At(&["server", "limits"]);
    let count = &d::COUNT_RANGE;
    let limits = Limits {
        body_bytes_max: check.number(
            at,
            "body_bytes_max",
            file.body_bytes_max,
            d::BODY_BYTES,
            &d::BODY_BYTES_RANGE,
        ),
        body_timeout: check.timeout(at, "body_timeout_ms", file.body_timeout_ms, d::BODY_TIMEOUT),
        write_timeout: check.timeout(at, "write_timeout_ms", file.write_timeout_ms, d::WRITE_TIMEOUT),
        header_timeout: check.timeout(at, "header_timeout_ms", file.header_timeout_ms, d::HEADER_TIMEOUT),
        keep_alive_timeout: check.timeout(
            at,
            "keep_alive_timeout_ms",
            file.keep_alive_timeout_ms,
            d::KEEP_ALIVE_TIMEOUT,
        ),
        header_bytes_max: check.number(
            at,
            "header_bytes_max",
            file.header_bytes_max,
            d::HEADER_BYTES,
            &d::HEADER_BYTES_RANGE,
        ),
        headers_max: check.number(at, "headers_max", file.headers_max, d::HEADERS, count),
        connections_max: check.number(at, "connections_max", file.connections_max, d::CONNECTIONS, count),
        streams_max: check.number(at, "streams_max", file.streams_max, d::STREAMS, count),
        in_flight_max: check.number(at, "in_flight_max", file.in_flight_max, d::IN_FLIGHT, count),
        in_flight_bytes_max: check.number(
            at,
            "in_flight_bytes_max",
            file.in_flight_bytes_max,
            d::IN_FLIGHT_BYTES,
            &d::IN_FLIGHT_BYTES_RANGE,
        ),
        request_timeout_default: check.timeout(
            at,
            "request_timeout_default_ms",
            file.request_timeout_default_ms,
            d::REQUEST_TIMEOUT,
        ),
        request_timeout_max: check.timeout(
            at,
            "request_timeout_max_ms",
            file.request_timeout_max_ms,
            d::REQUEST_TIMEOUT_MAX,
        ),
        json_depth_max: check.number(
            at,
            "json_depth_max",
            file.json_depth_max,
            d::JSON_DEPTH,
            &d::JSON_DEPTH_RANGE,
        ),
    };
    if limits.in_flight_bytes_max < limits.body_bytes_max {
        check.problem(at, "in_flight_bytes_max", "is below body_bytes_max: no body of that size could enter");
    }
    if limits.request_timeout_default > limits.request_timeout_max {
        check.problem(at, "request_timeout_default_ms", "is above request_timeout_max_ms");
    }
    limits
}
