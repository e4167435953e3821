//! WASI 0.2, empty but for what is granted: what standard libraries need to start.

use std::sync::{Arc, Mutex, PoisonError};

use wasmtime::component::Linker;
use wasmtime_wasi::p2::pipe::MemoryInputPipe;
use wasmtime_wasi::{WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView};

use super::Grants;
use super::logging::{CallLog, LogLevel};
use super::written::{Sink, Written};
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
    pub(super) fn connect(&mut self, input: MemoryInputPipe, output: impl Sink) {
        let mut builder = context(&self.log, &self.grants);
        builder.stdin(input).stdout(Written(output)).arg(self.log.plugin()).args(&self.grants.arguments);
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
    fn new(log: &Arc<CallLog>, level: LogLevel, name: &'static str) -> Written<Self> {
        Written(Self { log: Arc::clone(log), level, name, line: log.begin(level, name) })
    }
}

impl Sink for Output {
    fn take(&self, bytes: &[u8]) -> Result<(), HostFault> {
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
        Ok(())
    }
}
