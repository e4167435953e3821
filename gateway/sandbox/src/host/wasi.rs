//! WASI 0.2, empty but for what is granted: what standard libraries need to start.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::io::AsyncWrite;
use wasmtime::component::Linker;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::pipe::MemoryInputPipe;
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamError, StreamResult};
use wasmtime_wasi::{WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView};

use super::Grants;
use super::logging::{CallLog, LogLevel};
use crate::error::HostFault;
use crate::state::State;

/// The packages of WASI 0.2 that are linked and empty.
const PACKAGES: [&str; 5] = ["wasi:cli/", "wasi:clocks/", "wasi:filesystem/", "wasi:io/", "wasi:random/"];

/// Linked as well, because the runtimes of some languages import it without use;
/// every address is refused. A plugin that imports it needs
/// [`crate::WasiPolicy::EmptyWithSockets`].
const SOCKETS: &str = "wasi:sockets/";

/// Most random bytes that a guest may ask for at once: more is no seed.
const RANDOM_BYTES_MAX: u64 = 64 << 10;

/// Most bytes of an unfinished line that are kept.
const LINE_BYTES_MAX: usize = 1024;

/// Most bytes that a guest may write to an output at once.
const WRITE_BYTES_MAX: usize = 64 << 10;

/// Whether the interface belongs to the WASI that is linked, sockets apart.
pub(crate) fn is_linked(name: &str) -> bool {
    PACKAGES.iter().any(|package| name.starts_with(package)) && is_ours(name)
}

/// Whether the interface belongs to the sockets that refuse every address.
pub(crate) fn is_socket(name: &str) -> bool {
    name.starts_with(SOCKETS) && is_ours(name)
}

fn is_ours(name: &str) -> bool {
    name.split_once('@').is_some_and(|(_, version)| version.starts_with("0.2."))
}

pub(crate) fn link(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    wasmtime_wasi::p2::add_to_linker_async(linker)
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        let ctx = self.wasi.get_or_insert_with(|| {
            let mut context = context(&self.log, &self.grants).build();
            self.files.grant(&mut context);
            context
        });
        WasiCtxView { ctx, table: &mut self.table }
    }
}

impl State {
    /// Gives a program its input, output and arguments.
    pub(crate) fn connect(&mut self, input: MemoryInputPipe, output: impl StdoutStream + 'static) {
        let mut builder = context(&self.log, &self.grants);
        builder.stdin(input).stdout(output).arg(self.log.plugin()).args(&self.grants.arguments);
        let mut context = builder.build();
        self.files.grant(&mut context);
        self.wasi = Some(context);
    }
}

fn context(log: &Arc<CallLog>, grants: &Grants) -> WasiCtxBuilder {
    let mut builder = WasiCtx::builder();
    builder
        .stdout(Output::new(log, LogLevel::Info, "stdout"))
        .stderr(Output::new(log, LogLevel::Warn, "stderr"))
        .envs(&grants.environment)
        .allow_tcp(false)
        .allow_udp(false)
        .allow_ip_name_lookup(false)
        .allow_blocking_current_thread(false)
        .max_random_size(RANDOM_BYTES_MAX);
    builder
}

/// Refuses a write that is larger than was permitted. WASI ends a guest for it; without
/// this, one call could bring any amount of work and memory.
pub(super) fn check_permit(bytes: &Bytes, permit: usize) -> StreamResult<()> {
    if bytes.len() <= permit {
        return Ok(());
    }
    let what = format!("a write of {} bytes where {permit} were permitted", bytes.len());
    Err(StreamError::Trap(HostFault::Output(what).into()))
}

/// Standard output or error: whole lines go to the log.
#[derive(Clone)]
struct Output {
    log: Arc<CallLog>,
    level: LogLevel,
    name: &'static str,
    /// Shared by all streams that the guest opens on this output.
    line: Arc<Mutex<Vec<u8>>>,
}

impl Output {
    fn new(log: &Arc<CallLog>, level: LogLevel, name: &'static str) -> Self {
        Self { log: Arc::clone(log), level, name, line: Arc::default() }
    }

    fn log_lines(&self, bytes: &[u8]) {
        let mut line = self.line.lock().unwrap_or_else(PoisonError::into_inner);
        for part in bytes.split_inclusive(|&byte| byte == b'\n') {
            let (text, ends) = part.strip_suffix(b"\n").map_or((part, false), |text| (text, true));
            let room = LINE_BYTES_MAX.saturating_sub(line.len());
            line.extend_from_slice(&text[..text.len().min(room)]);
            if ends {
                self.log.line(self.level, self.name, &String::from_utf8_lossy(&line));
                line.clear();
            }
        }
    }
}

impl IsTerminal for Output {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for Output {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(self.clone())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

impl OutputStream for Output {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        check_permit(&bytes, WRITE_BYTES_MAX)?;
        self.log_lines(&bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(WRITE_BYTES_MAX)
    }
}

#[wasmtime_wasi::async_trait]
impl Pollable for Output {
    async fn ready(&mut self) {}
}

impl AsyncWrite for Output {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        self.log_lines(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
