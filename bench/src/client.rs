//! One connection that sends one request at a time: for parts that count requests, and do
//! not time them.

use std::net::SocketAddr;

use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::requests::Requests;

/// A connection that stays open.
pub struct Client {
    address: SocketAddr,
    sender: SendRequest<Full<Bytes>>,
}

/// An answer.
pub struct Answer {
    /// Its status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Bytes,
}

impl Client {
    /// Connects.
    ///
    /// # Errors
    /// Nobody listens.
    pub async fn connect(address: SocketAddr) -> Result<Self, String> {
        let stream = TcpStream::connect(address).await.map_err(|error| error.to_string())?;
        stream.set_nodelay(true).map_err(|error| error.to_string())?;
        let (sender, driver) = handshake(TokioIo::new(stream)).await.map_err(|error| error.to_string())?;
        // It ends with its sender.
        tokio::spawn(driver);
        Ok(Self { address, sender })
    }

    /// Sends one of the requests and reads its answer.
    ///
    /// # Errors
    /// The connection broke.
    pub async fn send(&mut self, requests: &Requests, number: usize) -> Result<Answer, String> {
        let text = |error: hyper::Error| error.to_string();
        let mut request = Request::post(requests.paths[number % requests.paths.len()].as_str())
            .header(header::HOST, self.address.to_string());
        for (name, value) in &requests.headers {
            request = request.header(name, value);
        }
        let body = requests.bodies[number % requests.bodies.len()].clone();
        let request = request.body(Full::new(body)).map_err(|error| error.to_string())?;
        self.sender.ready().await.map_err(text)?;
        let response = self.sender.send_request(request).await.map_err(text)?;
        let (parts, body) = response.into_parts();
        let body = body.collect().await.map_err(text)?.to_bytes();
        Ok(Answer { status: parts.status, headers: parts.headers, body })
    }

    /// The same, where anything but 200 is an error.
    ///
    /// # Errors
    /// The connection broke, or another status.
    pub async fn expect(&mut self, requests: &Requests, number: usize) -> Result<Answer, String> {
        let answer = self.send(requests, number).await?;
        if answer.status == StatusCode::OK {
            return Ok(answer);
        }
        Err(format!("{requests:?}: {}: {}", answer.status, String::from_utf8_lossy(&answer.body)))
    }
}
