//! An HTTP client for tests.

use std::net::{IpAddr, SocketAddr};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client as Pooled;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::Value;

/// Talks to one address over pooled connections. Clones share them.
#[derive(Clone)]
pub struct Client {
    address: SocketAddr,
    pooled: Pooled<HttpConnector, Full<Bytes>>,
}

/// An answer, whole.
#[derive(Debug)]
pub struct Reply {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
}

impl Reply {
    /// The body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error} in {:?}", String::from_utf8_lossy(&self.body)))
    }

    /// The reason code of an error.
    pub fn code(&self) -> String {
        self.json()["code"].as_str().expect("an error has a code").to_owned()
    }

    /// The body, if the request succeeded.
    pub fn ok(self) -> Value {
        assert_eq!(self.status, StatusCode::OK, "{}", String::from_utf8_lossy(&self.body));
        self.json()
    }
}

impl Client {
    /// A client of that address.
    pub fn new(address: SocketAddr) -> Self {
        Self { address, pooled: Pooled::builder(TokioExecutor::new()).build_http() }
    }

    /// A client of that address which connects from an address of its own: on Linux all
    /// of 127.0.0.0/8 is ours.
    pub fn from_local(address: SocketAddr, local: IpAddr) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_local_address(Some(local));
        Self { address, pooled: Pooled::builder(TokioExecutor::new()).build(connector) }
    }

    /// The address.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Sends a request; fails when there is no answer.
    ///
    /// # Errors
    /// No connection, or it broke.
    pub async fn try_send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Result<Reply, String> {
        let mut request = Request::builder().method(method).uri(format!("http://{}{path}", self.address));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(body.into())).expect("a valid request");
        let response = self.pooled.request(request).await.map_err(|error| format!("{error:?}"))?;
        let (parts, body) = response.into_parts();
        let body = body.collect().await.map_err(|error| format!("{error:?}"))?.to_bytes();
        Ok(Reply { status: parts.status, headers: parts.headers, body })
    }

    /// `GET`.
    pub async fn get(&self, path: &str) -> Reply {
        self.try_send(Method::GET, path, &[], "").await.expect("an answer")
    }

    /// `POST`.
    pub async fn post(&self, path: &str, body: impl Into<Bytes>) -> Reply {
        self.try_send(Method::POST, path, &[], body).await.expect("an answer")
    }

    /// `POST /v1/models/{name}:predict`.
    pub async fn predict(&self, name: &str, body: &Value) -> Reply {
        self.post(&format!("/v1/models/{name}:predict"), body.to_string()).await
    }

    /// `POST /v2/models/{name}/infer`.
    pub async fn infer(&self, name: &str, body: &Value) -> Reply {
        self.post(&format!("/v2/models/{name}/infer"), body.to_string()).await
    }
}
