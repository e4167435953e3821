//! `wasi:http/outgoing-handler`: requests to servers that the configuration grants.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use tokio::time::Instant;
use tracing::Instrument;
use wasmtime::component::{HasSelf, Linker, Resource};
use wasmtime_wasi::p2::DynPollable;
use wasmtime_wasi::p2::bindings::io::poll::{self, HostPollable};
use wasmtime_wasi_http::{
    Error, RequestOptions, WasiBody, WasiHttpCtx, WasiHttpCtxView, WasiHttpHooks, WasiHttpView,
};

use super::outgoing::{Outgoing, OutgoingError, OutgoingLimits};
use crate::CallContext;
use crate::budget;
use crate::held::{Buffer, HostMemory};
use crate::state::State;

/// Most requests that one call may have under way. Each holds its body in memory; more
/// answer `connection-limit-reached`.
const IN_FLIGHT_MAX: usize = 16;

/// The interfaces that are linked; a server's side, `incoming-handler`, is not.
const INTERFACES: [&str; 2] = ["wasi:http/types@0.2.", "wasi:http/outgoing-handler@0.2."];

/// Whether the interface is linked.
pub(crate) fn is_linked(name: &str) -> bool {
    INTERFACES.iter().any(|interface| name.starts_with(interface))
}

/// Links the interfaces. Must come after WASI: its `poll` is replaced by one that knows
/// when a guest waits for a server.
pub(crate) fn link(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    wasmtime_wasi_http::p2::add_only_http_to_linker_async(linker)?;
    linker.allow_shadowing(true);
    poll::add_to_linker::<State, HasSelf<State>>(linker, |state| state)?;
    linker.allow_shadowing(false);
    Ok(())
}

/// What the requests of one call share.
pub(crate) struct Http {
    context: WasiHttpCtx,
    hooks: Hooks,
}

struct Hooks {
    outgoing: Option<Arc<dyn Outgoing>>,
    call: CallContext,
    wait_max: Duration,
    in_flight: Arc<AtomicUsize>,
    /// What all bodies of the call, either way, may still hold together.
    bytes_left: Arc<AtomicUsize>,
    /// What they are charged to.
    memory: Arc<HostMemory>,
}

impl WasiHttpView for State {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        let http = self.http.get_or_insert_with(|| Http {
            context: WasiHttpCtx::new(),
            hooks: Hooks {
                outgoing: self.grants.http.clone(),
                call: self.call.clone(),
                wait_max: self.wait_max,
                in_flight: Arc::default(),
                bytes_left: Arc::new(AtomicUsize::new(self.hostcall_bytes)),
                memory: Arc::clone(self.limiter.host()),
            },
        });
        WasiHttpCtxView { hooks: &mut http.hooks, table: &mut self.table, ctx: &mut http.context }
    }
}

impl State {
    /// Whether a request is under way: to wait for it costs the plugin nothing, keeps nobody
    /// else from running, and has a limit of its own.
    fn waits_free(&self) -> bool {
        self.http.as_ref().is_some_and(|http| http.hooks.in_flight.load(Ordering::Acquire) > 0)
    }
}

impl poll::Host for State {
    async fn poll(&mut self, pollables: Vec<Resource<DynPollable>>) -> wasmtime::Result<Vec<u32>> {
        let waits_free = self.waits_free();
        let polled = poll::Host::poll(&mut self.table, pollables);
        if !waits_free {
            return polled.await;
        }
        budget::wait_for(&self.budget, self.places.as_ref(), polled).await
    }
}

impl HostPollable for State {
    async fn ready(&mut self, pollable: Resource<DynPollable>) -> wasmtime::Result<bool> {
        HostPollable::ready(&mut self.table, pollable).await
    }

    async fn block(&mut self, pollable: Resource<DynPollable>) -> wasmtime::Result<()> {
        let waits_free = self.waits_free();
        let blocks = HostPollable::block(&mut self.table, pollable);
        if !waits_free {
            return blocks.await;
        }
        budget::wait_for(&self.budget, self.places.as_ref(), blocks).await
    }

    fn drop(&mut self, pollable: Resource<DynPollable>) -> wasmtime::Result<()> {
        HostPollable::drop(&mut self.table, pollable)
    }
}

/// A request under way, counted until this is dropped.
struct InFlight(Arc<AtomicUsize>);

impl InFlight {
    fn start(count: &Arc<AtomicUsize>) -> Option<Self> {
        let one_more = |running| (running < IN_FLIGHT_MAX).then_some(running + 1);
        count.fetch_update(Ordering::AcqRel, Ordering::Acquire, one_more).ok()?;
        Some(Self(Arc::clone(count)))
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Takes bytes from what is left; whether there were as many.
fn take(left: &AtomicUsize, bytes: usize) -> bool {
    left.fetch_update(Ordering::AcqRel, Ordering::Acquire, |left| left.checked_sub(bytes)).is_ok()
}

/// What happens to a request beside the answer to it: nothing.
type Afterwards = Box<dyn Future<Output = Result<(), Error>> + Send>;
type Exchanged = Result<(http::Response<WasiBody>, Afterwards), Error>;

impl WasiHttpHooks for Hooks {
    fn send_request(
        &mut self,
        request: http::Request<WasiBody>,
        options: Option<RequestOptions>,
        _afterwards: Afterwards,
    ) -> Box<dyn Future<Output = Exchanged> + Send> {
        let Some(outgoing) = self.outgoing.clone() else {
            return Box::new(async { Err(Error::HttpRequestDenied) });
        };
        let Some(in_flight) = InFlight::start(&self.in_flight) else {
            return Box::new(async { Err(Error::ConnectionLimitReached) });
        };
        // The answer comes whole, so the first byte comes with the last.
        let wanted = options.and_then(|options| options.first_byte_timeout);
        let until = Instant::now() + wanted.unwrap_or(self.wait_max).min(self.wait_max);
        let until = until.min(self.call.deadline);
        let call = self.call.clone();
        let (bytes_left, memory) = (Arc::clone(&self.bytes_left), Arc::clone(&self.memory));
        let span = call.span.clone();
        let work = async move {
            let _in_flight = in_flight;
            let exchanged = exchange(&*outgoing, &call, request, until, (&bytes_left, &memory));
            tokio::time::timeout_at(until, exchanged).await.unwrap_or(Err(Error::HttpResponseTimeout))
        };
        Box::new(work.instrument(span))
    }
}

async fn exchange(
    outgoing: &dyn Outgoing,
    call: &CallContext,
    request: http::Request<WasiBody>,
    until: Instant,
    (bytes_left, memory): (&AtomicUsize, &Arc<HostMemory>),
) -> Exchanged {
    let (parts, body) = request.into_parts();
    let body = collect(body, bytes_left, memory).await?;
    let limits = OutgoingLimits {
        timeout: until.saturating_duration_since(Instant::now()),
        response_bytes_max: bytes_left.load(Ordering::Acquire).min(memory.left()),
    };
    let answer = outgoing.send(call, http::Request::from_parts(parts, body), limits).await?;
    if !take(bytes_left, answer.body().len()) {
        return Err(OutgoingError::TooLarge.into());
    }
    let charge = memory.hold(answer.body().len()).map_err(|_| OutgoingError::TooLarge)?;
    let held = |body| sluice_tensor::keep_with(body, charge);
    let answer = answer.map(|body: Bytes| Full::new(held(body)).map_err(Error::from).boxed_unsync());
    Ok((answer, Box::new(async { Ok(()) })))
}

/// The whole body of a request, which the guest may still be writing.
async fn collect(
    mut body: WasiBody,
    bytes_left: &AtomicUsize,
    memory: &Arc<HostMemory>,
) -> Result<Bytes, Error> {
    let mut collected = Buffer::new(memory);
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame?.into_data() else { continue };
        if !take(bytes_left, data.len()) || collected.extend(&data).is_err() {
            return Err(Error::HttpRequestBodySize(None));
        }
    }
    Ok(collected.freeze())
}

impl From<OutgoingError> for Error {
    fn from(error: OutgoingError) -> Self {
        match error {
            OutgoingError::Denied => Self::HttpRequestDenied,
            OutgoingError::AddressProhibited => Self::DestinationIpProhibited,
            OutgoingError::NotResolved => Self::DnsError { rcode: None, info_code: None },
            OutgoingError::Unreachable => Self::ConnectionRefused,
            OutgoingError::Tls => Self::TlsProtocolError,
            OutgoingError::Timeout => Self::HttpResponseTimeout,
            OutgoingError::TooLarge => Self::HttpResponseBodySize(None),
            OutgoingError::Overloaded => Self::ConnectionLimitReached,
            OutgoingError::Protocol => Self::HttpProtocolError,
            OutgoingError::Other(message) => Self::InternalError(Some(message)),
        }
    }
}
