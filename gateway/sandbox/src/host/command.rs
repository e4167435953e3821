//! `wasi:cli/run`: programs, which know nothing of this gateway. The request's body is
//! their standard input, what they write to standard output is the answer.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use wasmtime::Store;
use wasmtime::component::{Instance, InstancePre};
use wasmtime_wasi::I32Exit;
use wasmtime_wasi::p2::bindings::exports::wasi::cli::run::GuestIndices;
use wasmtime_wasi::p2::pipe::MemoryInputPipe;

use super::program_output::StreamedOutput;
use super::written::Sink;
use crate::call;
use crate::config::PluginLimits;
use crate::error::{CallError, HostFault, LoadError};
use crate::held::{Buffer, HostMemory};
use crate::parts::PartSender;
use crate::state::State;
use crate::types::{Answer, Failure, HttpAnswer, Request};

/// What a program that cannot take tensors answers to them.
const UNSUPPORTED_MEDIA_TYPE: u16 = 415;

/// Checks that a program can be run.
///
/// # Errors
/// [`LoadError::World`]: what it exports has only the name of a program's.
pub(crate) fn check(pre: &InstancePre<State>) -> Result<(), LoadError> {
    let incomplete = |error| LoadError::World(format!("its wasi:cli/run is not that of WASI: {error:#}"));
    GuestIndices::new(pre).map(drop).map_err(incomplete)
}

/// Runs the program once. What it writes is its answer, or, with `parts`, goes there as
/// it is written and what is left in the end comes back.
pub(crate) async fn run(
    store: &mut Store<State>,
    exported: &Instance,
    program: &GuestIndices,
    request: Request,
    (parts, limits): (Option<PartSender>, &PluginLimits),
) -> Result<Option<Answer>, CallError> {
    let body = match request {
        Request::Body(body) => body.data,
        Request::Tensors(_) => {
            let message = "this pipeline runs a program, which takes a body and no tensors".to_owned();
            return Err(CallError::Failure(Failure {
                status: UNSUPPORTED_MEDIA_TYPE,
                message,
                retry_after_seconds: None,
            }));
        }
    };
    let input = MemoryInputPipe::new(body);
    let Some(parts) = parts else {
        let state = store.data();
        let output = Output::new(state.hostcall_bytes, state.limiter.host());
        store.data_mut().connect(input, output.clone());
        ended(store, exported, program).await?;
        return Ok(Some(Answer::Body(answer(output.finish()))));
    };
    let output = StreamedOutput::new(parts, Arc::clone(&store.data().budget), limits);
    store.data_mut().connect(input, output.clone());
    ended(store, exported, program).await?;
    Ok(output.finish().map(Answer::Body))
}

async fn ended(
    store: &mut Store<State>,
    exported: &Instance,
    program: &GuestIndices,
) -> Result<(), CallError> {
    let ended = match program.load(&mut *store, exported) {
        Ok(program) => program.call_run(&mut *store).await,
        Err(error) => Err(error),
    };
    match exit_code(ended) {
        Ok(0) => Ok(()),
        Ok(code) => Err(CallError::Trap(format!("program ended with exit code {code}"))),
        Err(error) => Err(call::classify(error, store.data())),
    }
}

/// How the program ended, if it did so by itself.
fn exit_code(ended: wasmtime::Result<Result<(), ()>>) -> wasmtime::Result<i32> {
    match ended {
        Ok(Ok(())) => Ok(0),
        Ok(Err(())) => Ok(1),
        Err(error) => match error.downcast_ref::<I32Exit>() {
            Some(&I32Exit(code)) => Ok(code),
            None => Err(error),
        },
    }
}

/// The answer, with the type that its bytes have: programs have no way to say it.
fn answer(data: Bytes) -> HttpAnswer {
    let content_type = match std::str::from_utf8(&data) {
        Ok(text) if serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok() => "application/json",
        Ok(_) => "text/plain; charset=utf-8",
        Err(_) => "application/octet-stream",
    };
    HttpAnswer { status: 200, content_type: content_type.to_owned(), data }
}

/// Standard output, collected.
#[derive(Clone)]
struct Output {
    bytes_max: usize,
    memory: Arc<HostMemory>,
    /// Shared by all streams that the program opens on it.
    written: Arc<Mutex<Buffer>>,
}

impl Output {
    fn new(bytes_max: usize, memory: &Arc<HostMemory>) -> Self {
        let written = Arc::new(Mutex::new(Buffer::new(memory)));
        Self { bytes_max, memory: Arc::clone(memory), written }
    }

    fn finish(&self) -> Bytes {
        let empty = Buffer::new(&self.memory);
        std::mem::replace(&mut *self.written.lock().unwrap_or_else(PoisonError::into_inner), empty).freeze()
    }
}

impl Sink for Output {
    /// Takes all of the bytes, or none and says so.
    fn take(&self, bytes: &[u8]) -> Result<(), HostFault> {
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        if bytes.len() > self.bytes_max.saturating_sub(written.len()) {
            return Err(HostFault::Output(format!("answer is above {} bytes", self.bytes_max)));
        }
        written.extend(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_type_of_an_answer_is_told_from_its_bytes() {
        let typed = |bytes: &'static [u8]| answer(Bytes::from_static(bytes)).content_type;
        assert_eq!(typed(b"{\"a\": [1, 2]}\n"), "application/json");
        assert_eq!(typed(b"hello {"), "text/plain; charset=utf-8");
        assert_eq!(typed(b""), "text/plain; charset=utf-8");
        assert_eq!(typed(b"\xff\xfe"), "application/octet-stream");
    }

    #[test]
    fn output_above_the_limit_is_refused_whole() {
        let account = Arc::new(crate::account::Account::new(100));
        let output = Output::new(5, &Arc::new(HostMemory::new(100, account)));
        output.take(b"abc").expect("fits");
        assert!(output.take(b"def").is_err());
        output.take(b"de").expect("fits");
        assert_eq!(output.finish(), "abcde");
    }
}
