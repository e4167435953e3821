//! A bare hyper server that answers each request with its own body, or with as many bytes
//! as it is told: the ceiling.

use std::convert::Infallible;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use tokio::net::TcpListener;
use tokio::sync::oneshot;

/// Pause after a connection that could not be accepted.
const ACCEPT_PAUSE: Duration = Duration::from_millis(10);

/// A running echo server. Dropping it stops it and waits for its threads.
#[derive(Debug)]
pub struct Echo {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Echo {
    /// Starts a server on a free port of the loopback address, with a runtime of
    /// its own of `threads` workers (at least one). It answers with `answer_bytes` bytes
    /// if that is given, else with the body.
    ///
    /// # Errors
    /// The port, the runtime or the thread cannot be had.
    pub fn start(threads: usize, answer_bytes: Option<usize>) -> io::Result<Self> {
        let fixed = answer_bytes.map(|bytes| Bytes::from(vec![b'x'; bytes]));
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(threads.max(1))
            .enable_all()
            .build()?;
        let (stop, stopped) = oneshot::channel();
        let (bound, address) = mpsc::sync_channel(1);
        // All of it on the thread, so that a caller may be async itself.
        let thread = std::thread::Builder::new().name("echo".to_owned()).spawn(move || {
            // Accepting is a task like in the gateway, not work of this thread.
            let accepting = runtime.spawn(async move {
                let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await;
                let address = listener.as_ref().map_or(None, |listener| listener.local_addr().ok());
                // The caller waits for it.
                let _ = bound.send(address);
                if let Ok(listener) = listener {
                    accept(listener, fixed).await;
                }
            });
            // A dropped sender means the same as a message.
            let _ = runtime.block_on(stopped);
            accepting.abort();
            runtime.shutdown_background();
        })?;
        let no_port = || io::Error::from(io::ErrorKind::AddrNotAvailable);
        let address = address.recv().ok().flatten().ok_or_else(no_port)?;
        Ok(Self { address, stop: Some(stop), thread: Some(thread) })
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // It panicked at worst, and has then said so itself.
            let _ = thread.join();
        }
    }
}

async fn accept(listener: TcpListener, fixed: Option<Bytes>) {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            // Out of descriptors, most likely: trying at once would only spin.
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let _ = stream.set_nodelay(true);
        let fixed = fixed.clone();
        tokio::spawn(async move {
            let answer = |request| answer(request, fixed.clone());
            let builder = auto::Builder::new(TokioExecutor::new());
            // The client closing its end is how every connection ends.
            let _ = builder.serve_connection(TokioIo::new(stream), service_fn(answer)).await;
        });
    }
}

async fn answer(
    request: Request<Incoming>,
    fixed: Option<Bytes>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let Ok(body) = request.into_body().collect().await else {
        let mut response = Response::new(Full::default());
        *response.status_mut() = StatusCode::BAD_REQUEST;
        return Ok(response);
    };
    Ok(Response::new(Full::new(fixed.unwrap_or_else(|| body.to_bytes()))))
}
