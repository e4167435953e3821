//! What a guest writes to standard output or error, as WASI has it: one stream for whatever
//! takes the bytes.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::io::AsyncWrite;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamError, StreamResult};

use crate::error::HostFault;

/// Most bytes that a guest may write at once.
const WRITE_BYTES_MAX: usize = 64 << 10;

/// Takes what a guest writes. Clones are one output: a guest may open it many times.
pub(super) trait Sink: Clone + Send + Sync + 'static {
    /// Takes all of the bytes, or ends the guest.
    fn take(&self, bytes: &[u8]) -> Result<(), HostFault>;

    /// Bytes that may be written now. Where that is none the guest waits.
    fn room(&self) -> Result<usize, HostFault> {
        Ok(WRITE_BYTES_MAX)
    }

    /// Passes on what it holds back, as far as it can without waiting.
    fn flush(&self) -> Result<(), HostFault> {
        Ok(())
    }

    /// Waits until there is room.
    fn ready(&self) -> impl Future<Output = ()> + Send {
        std::future::ready(())
    }
}

/// A sink as WASI's stream.
#[derive(Clone)]
pub(super) struct Written<S>(pub(super) S);

impl<S: Sink> IsTerminal for Written<S> {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl<S: Sink> StdoutStream for Written<S> {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(self.clone())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

impl<S: Sink> OutputStream for Written<S> {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        check_permit(&bytes, self.0.room().map_err(trap)?)?;
        self.0.take(&bytes).map_err(trap)
    }

    fn flush(&mut self) -> StreamResult<()> {
        self.0.flush().map_err(trap)
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        self.0.room().map_err(trap)
    }
}

fn trap(fault: HostFault) -> StreamError {
    StreamError::Trap(fault.into())
}

/// Refuses a write that is larger than was permitted. WASI ends a guest for it; without
/// this, one call could bring any amount of work and memory.
fn check_permit(bytes: &Bytes, permit: usize) -> StreamResult<()> {
    if bytes.len() <= permit {
        return Ok(());
    }
    Err(trap(HostFault::Output(format!("a write of {} bytes where {permit} were permitted", bytes.len()))))
}

#[wasmtime_wasi::async_trait]
impl<S: Sink> Pollable for Written<S> {
    async fn ready(&mut self) {
        self.0.ready().await;
    }
}

impl<S: Sink> AsyncWrite for Written<S> {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        Poll::Ready(self.0.take(bytes).map(|()| bytes.len()).map_err(std::io::Error::other))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
