//! A program that tries the host services by their standard interfaces: `config KEY`,
//! `config`, `count STORE KEY DELTA`, `http URL [BODY]`, `many URL COUNT`. It prints what
//! it got, errors too.

use std::io::Write as _;

use wasip2::http::outgoing_handler::handle;
use wasip2::http::types::{
    ErrorCode, Fields, FutureIncomingResponse, IncomingBody, Method, OutgoingBody, OutgoingRequest, Scheme,
};

mod config {
    wit_bindgen::generate!({ path: "../../../wit/wasi-config", world: "imports" });
}

mod keyvalue {
    wit_bindgen::generate!({ path: "../../../wit/plugin-0.2.0/deps/keyvalue", world: "imports" });
}

use config::wasi::config::store as values;
use keyvalue::wasi::keyvalue::{atomics, store};

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let told = match arguments[..] {
        ["config"] => format!("{:?}", values::get_all()),
        ["config", key] => format!("{:?}", values::get(key)),
        ["count", name, key, delta] => count(name, key, delta),
        ["http", url] => format!("{:?}", send(url, b"").and_then(receive)),
        ["http", url, body] => format!("{:?}", send(url, body.as_bytes()).and_then(receive)),
        ["many", url, count] => many(url, count),
        _ => "unknown".to_owned(),
    };
    // A closed output is nothing to panic about.
    let _ = std::io::stdout().write_all(told.as_bytes());
}

fn count(name: &str, key: &str, delta: &str) -> String {
    let delta = delta.parse().unwrap_or(1);
    let counted = store::open(name).and_then(|bucket| {
        atomics::increment(&bucket, key, delta)?;
        atomics::increment(&bucket, key, delta)
    });
    format!("{counted:?}")
}

fn send(url: &str, body: &[u8]) -> Result<FutureIncomingResponse, ErrorCode> {
    let (scheme, rest) = url.split_once("://").ok_or(ErrorCode::HttpRequestUriInvalid)?;
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let request = OutgoingRequest::new(Fields::new());
    let invalid = |()| ErrorCode::HttpRequestUriInvalid;
    let scheme = if scheme == "https" { Scheme::Https } else { Scheme::Http };
    request.set_scheme(Some(&scheme)).map_err(invalid)?;
    request.set_authority(Some(authority)).map_err(invalid)?;
    request.set_path_with_query(Some(&format!("/{path}"))).map_err(invalid)?;
    request.set_method(if body.is_empty() { &Method::Get } else { &Method::Post }).map_err(invalid)?;
    let outgoing = request.body().map_err(invalid)?;
    let response = handle(request, None)?;
    let broken = |_| ErrorCode::HttpRequestBodySize(None);
    {
        let stream = outgoing.write().map_err(invalid)?;
        for part in body.chunks(4096) {
            stream.blocking_write_and_flush(part).map_err(broken)?;
        }
    }
    OutgoingBody::finish(outgoing, None)?;
    Ok(response)
}

fn receive(pending: FutureIncomingResponse) -> Result<String, ErrorCode> {
    pending.subscribe().block();
    let response = match pending.get() {
        Some(Ok(Ok(response))) => response,
        Some(Ok(Err(error))) => return Err(error),
        _ => return Err(ErrorCode::InternalError(None)),
    };
    let body: IncomingBody = response.consume().map_err(|()| ErrorCode::InternalError(None))?;
    let stream = body.stream().map_err(|()| ErrorCode::InternalError(None))?;
    let mut text = Vec::new();
    while let Ok(part) = stream.blocking_read(64 << 10) {
        text.extend(part);
    }
    Ok(format!("{} {}", response.status(), String::from_utf8_lossy(&text)))
}

/// Starts requests side by side, and tells how many were let through.
fn many(url: &str, count: &str) -> String {
    let started: Vec<_> = (0..count.parse().unwrap_or(1)).map(|_| send(url, b"")).collect();
    let ended: Vec<_> = started.into_iter().map(|pending| pending.and_then(receive)).collect();
    let good = ended.iter().filter(|answer| answer.is_ok()).count();
    format!("{good} of {}: {:?}", ended.len(), ended.last())
}
