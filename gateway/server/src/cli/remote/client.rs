//! The HTTP client: one server, one token, every answer bounded.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt as _;
use http::{Method, StatusCode};
use reqwest::Url;
use serde_json::Value;

use super::hints::hint;
use super::{Failure, Outcome, ServerArguments};
use crate::cli::outcome::{clean, read, read_text};

/// How long a connection may take to be made.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long an answer may take: an upload is verified, compiled and tried meanwhile,
/// after up to three minutes of waiting for others'.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(600);

/// Most bytes of an answer: a component or a profile; anything else is far smaller.
const ANSWER_BYTES_MAX: usize = 256 << 20;

/// Most bytes of a certificate or token file.
const FILE_BYTES_MAX: usize = 1 << 20;

/// A gateway's admin listener.
pub(in crate::cli) struct Client {
    http: reqwest::Client,
    base: Url,
    token: Option<String>,
}

/// An answer that was no error.
#[derive(Debug)]
pub(in crate::cli) struct Answer {
    pub(in crate::cli) status: StatusCode,
    pub(in crate::cli) body: Bytes,
}

impl Answer {
    /// The body as JSON; nothing is an empty object.
    pub(in crate::cli) fn json(&self) -> Outcome<Value> {
        if self.body.is_empty() {
            return Ok(Value::Object(serde_json::Map::new()));
        }
        serde_json::from_slice(&self.body)
            .map_err(|_| Failure::refused("the answer is not JSON: is this a gateway's admin address?"))
    }
}

impl Client {
    /// Reads the token and the certificates; connects to nothing yet.
    pub(in crate::cli) fn new(server: &ServerArguments) -> Outcome<Self> {
        let base: Url = server
            .server
            .parse()
            .map_err(|error| Failure::usage(format!("'{}' is not an address: {error}", server.server)))?;
        if !matches!(base.scheme(), "http" | "https") || !base.has_host() {
            return Err(Failure::usage(format!("'{base}' is not an http or https address")));
        }
        let token = token(server)?;
        if token.is_some() && base.scheme() == "http" && !is_loopback(&base) {
            return Err(Failure::usage(
                "a token is not sent to another machine in the clear: use an https address",
            ));
        }
        // Another part of the program may have installed it before: that is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut http = reqwest::Client::builder()
            .user_agent(concat!("sluice/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(ANSWER_TIMEOUT)
            .redirect(reqwest::redirect::Policy::none())
            // A token is for the gateway, not for what the environment says is on the way.
            .no_proxy();
        let fault = |error: reqwest::Error| Failure::usage(format!("a certificate cannot be used: {error}"));
        if let Some(file) = &server.ca {
            let pem = read(file, FILE_BYTES_MAX)?;
            http = http.tls_certs_only(reqwest::Certificate::from_pem_bundle(&pem).map_err(fault)?);
        }
        if let Some(file) = &server.client_cert {
            let pem = read(file, FILE_BYTES_MAX)?;
            http = http.identity(reqwest::Identity::from_pem(&pem).map_err(fault)?);
        }
        Ok(Self { http: http.build().map_err(fault)?, base, token })
    }

    /// A request that is not sent yet. `path` begins with `/admin/`.
    pub(in crate::cli) fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        let address = format!("{}{path}", self.base.as_str().trim_end_matches('/'));
        let request = self.http.request(method, address);
        match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    }

    /// Sends a request.
    ///
    /// # Errors
    /// No answer, or one that is an error: then what it says, and what to do about it.
    pub(in crate::cli) async fn send(&self, request: reqwest::RequestBuilder) -> Outcome<Answer> {
        let answer = request.send().await.map_err(|error| self.unreachable(&error))?;
        let status = answer.status();
        let mut body = BytesMut::new();
        let mut chunks = answer.bytes_stream();
        while let Some(chunk) = chunks.next().await {
            let chunk = chunk.map_err(|error| self.unreachable(&error))?;
            if body.len() + chunk.len() > ANSWER_BYTES_MAX {
                return Err(Failure::refused(format!("the answer is larger than {ANSWER_BYTES_MAX} bytes")));
            }
            body.extend_from_slice(&chunk);
        }
        let body = body.freeze();
        if status.is_success() { Ok(Answer { status, body }) } else { Err(refusal(status, &body)) }
    }

    /// `GET`, as JSON.
    pub(in crate::cli) async fn get(&self, path: &str) -> Outcome<Value> {
        self.send(self.request(Method::GET, path)).await?.json()
    }

    /// A request with a JSON body, and its answer.
    pub(in crate::cli) async fn change(&self, method: Method, path: &str, body: &Value) -> Outcome<Value> {
        let request = self.request(method, path).header("content-type", "application/json");
        self.send(request.body(body.to_string())).await?.json()
    }

    fn unreachable(&self, error: &reqwest::Error) -> Failure {
        let mut cause: &(dyn std::error::Error + 'static) = error;
        while let Some(source) = cause.source() {
            cause = source;
        }
        let what =
            if error.is_timeout() { "no answer in time".to_owned() } else { clean(&cause.to_string()) };
        if is_cut_off(cause) {
            return Failure::refused(format!(
                "{} closed the connection while it was sent something: {what}\nhint: the component may be far \
                 larger than the gateway's sandbox.plugin_bytes_max",
                self.base
            ));
        }
        Failure::unavailable(format!(
            "cannot reach {}: {what}\nhint: is the gateway running? --server or SLUICE_SERVER says where its \
             admin listener is",
            self.base
        ))
    }
}

/// Whether the peer was there, and stopped to listen.
fn is_cut_off(cause: &(dyn std::error::Error + 'static)) -> bool {
    use std::io::ErrorKind::{BrokenPipe, ConnectionReset};
    let kind = cause.downcast_ref::<std::io::Error>().map(std::io::Error::kind);
    matches!(kind, Some(BrokenPipe | ConnectionReset))
}

/// The token: never an argument, which everybody on the machine could read.
fn token(server: &ServerArguments) -> Outcome<Option<String>> {
    let token = match &server.token_file {
        Some(file) => Some(read_text(file, FILE_BYTES_MAX)?),
        None => std::env::var("SLUICE_TOKEN").ok(),
    };
    let token = token.map(|token| token.trim().to_owned()).filter(|token| !token.is_empty());
    if token.as_ref().is_some_and(|token| token.bytes().any(|byte| !byte.is_ascii_graphic())) {
        return Err(Failure::usage("the token holds a character that no token has"));
    }
    Ok(token)
}

fn is_loopback(url: &Url) -> bool {
    match url.host_str().unwrap_or_default() {
        "localhost" => true,
        host => host
            .trim_matches(['[', ']'])
            .parse::<std::net::IpAddr>()
            .is_ok_and(|address| address.is_loopback()),
    }
}

/// The gateway's sentence, and a hint by its reason code.
fn refusal(status: StatusCode, body: &[u8]) -> Failure {
    let body: Value = serde_json::from_slice(body).unwrap_or_default();
    let (Some(error), Some(code)) = (body["error"].as_str(), body["code"].as_str()) else {
        return Failure::refused(format!("the answer is {status}, and not from a gateway's admin listener"));
    };
    let mut message = format!("{} ({})", clean(error), clean(code));
    if let Some(id) = body["request_id"].as_str().filter(|id| !id.is_empty()) {
        message = format!("{} ({}, request {})", clean(error), clean(code), clean(id));
    }
    if let Some(hint) = hint(code) {
        message = format!("{message}\nhint: {hint}");
    }
    if status == StatusCode::SERVICE_UNAVAILABLE {
        Failure::unavailable(message)
    } else {
        Failure::refused(message)
    }
}
