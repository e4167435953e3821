//! What a store holds beside the guest: its capabilities, limits and handles.

use std::sync::Arc;
use std::time::Duration;

use sluice_tensor::Tensor;
use wasmtime::component::{Resource, ResourceTable};
use wasmtime::{Store, UpdateDeadline};
use wasmtime_wasi::WasiCtx;
use wasmtime_wasi_http::p2::types::HostFutureIncomingResponse;

use crate::CallContext;
use crate::budget::{self, Budget};
use crate::held::{self, Charge};
use crate::host::Grants;
use crate::host::files::Files;
use crate::host::http::Http;
use crate::host::inference::Pending;
use crate::host::logging::CallLog;
use crate::host::nn;
use crate::host::parts::CallParts;
use crate::host::spans::{CallSpans, GuestSpan};
use crate::host::tensors::Writer;
use crate::limiter::Limiter;
use crate::places::Places;
use crate::plugin::{Inner, PluginOptions};
use crate::profile::Profiling;
use crate::spawn;

/// The data of one store.
pub(crate) struct State {
    pub(crate) table: ResourceTable,
    /// Most entries of the table.
    pub(crate) resources_max: usize,
    pub(crate) limiter: Limiter,
    pub(crate) grants: Grants,
    pub(crate) log: Arc<CallLog>,
    pub(crate) budget: Arc<Budget>,
    pub(crate) profiling: Arc<Profiling>,
    pub(crate) call: CallContext,
    /// Most bytes that a host function may return at once.
    pub(crate) hostcall_bytes: usize,
    /// How long a host function may wait for a store or a server.
    pub(crate) wait_max: Duration,
    /// How long a guest runs before it yields.
    pub(crate) tick: Duration,
    /// The folders that the guest may read.
    pub(crate) files: Files,
    /// Made on first use: most plugins import nothing of WASI.
    pub(crate) wasi: Option<WasiCtx>,
    /// The guest's own spans of this call.
    pub(crate) spans: CallSpans,
    /// The places of the present call.
    pub(crate) places: Option<Arc<Places>>,
    /// What the present call sends, if it is one of `handle`.
    pub(crate) parts: Option<CallParts>,
    /// Made on first use, for one call.
    pub(crate) http: Option<Http>,
    /// Model calls that were submitted and not yet waited for.
    pub(crate) pending: usize,
    /// What the host holds while it is written into the guest's memory: see [`State::give`].
    given: Option<Charge>,
}

impl State {
    /// Hands a tensor to the guest.
    pub(crate) fn push_tensor(&mut self, tensor: Tensor) -> wasmtime::Result<Resource<Tensor>> {
        Ok(self.table.push(tensor)?)
    }

    /// Accounts for memory that the host is about to hold for the guest, until the charge
    /// is dropped.
    pub(crate) fn hold(&mut self, bytes: usize) -> wasmtime::Result<Charge> {
        self.arrived();
        Ok(self.limiter.host().hold(bytes)?)
    }

    /// The same where few bytes are not counted.
    pub(crate) fn hold_large(&mut self, bytes: usize) -> wasmtime::Result<Option<Charge>> {
        self.arrived();
        Ok(held::hold_large(self.limiter.host(), bytes)?)
    }

    /// Accounts for bytes that the guest is about to be given. Whoever calls it makes a copy,
    /// which lives until all of it is in the guest's memory; and for how long that takes is
    /// up to the guest, whose allocator is asked for room. It cannot call the host meanwhile,
    /// so the next call says that they have arrived.
    pub(crate) fn give(&mut self, bytes: usize) -> wasmtime::Result<()> {
        self.given = self.hold_large(bytes)?;
        Ok(())
    }

    /// Gives back what was held for what the guest has by now.
    pub(crate) fn arrived(&mut self) {
        self.given = None;
    }

    /// Ends the finished call's spans: a span that an idle instance holds would be open,
    /// and missing from its trace, until the instance is used again.
    pub(crate) fn end_call(&mut self) {
        self.arrived();
        if self.wasi.is_some() {
            self.log.end_lines();
        }
        self.spans.next_call();
        self.parts = None;
        self.call.span = tracing::Span::none();
    }

    /// Whether nothing of the finished call is left. Buckets, graphs and WASI streams
    /// may stay: plugins open them once, in `init`. But what stays must not add up until a
    /// later call, which did nothing wrong, finds the table full: past half of it the
    /// instance is not used again.
    pub(crate) fn is_clean(&mut self) -> bool {
        if self.table.iter_mut().count() > self.resources_max / 2 {
            return false;
        }
        !self.table.iter_mut().any(|entry| {
            entry.is::<Tensor>()
                || entry.is::<Writer>()
                || entry.is::<Pending>()
                || entry.is::<GuestSpan>()
                || entry.is::<nn::Tensor>()
                || entry.is::<nn::Error>()
                || entry.is::<HostFutureIncomingResponse>()
        })
    }
}

/// A store for one instance of the plugin, armed for its first call.
pub(crate) fn new_store(plugin: &Inner, call: CallContext, budget: Arc<Budget>) -> Store<State> {
    let PluginOptions { limits, grants, log, name, .. } = &plugin.options;
    let mut table = ResourceTable::new();
    table.set_max_capacity(limits.resources);
    let state = State {
        table,
        resources_max: limits.resources,
        limiter: Limiter::new(limits.memory_bytes, Arc::clone(&plugin.account)),
        grants: grants.clone(),
        log: Arc::new(CallLog::new(
            Arc::clone(name),
            Arc::clone(log),
            Arc::clone(&call.request_id),
            limits.log_bytes_per_call,
        )),
        budget,
        profiling: Arc::clone(&plugin.profiling),
        call,
        hostcall_bytes: limits.hostcall_bytes,
        wait_max: limits.host_wait_max,
        tick: plugin.shared.tick,
        files: plugin.files.clone(),
        wasi: None,
        spans: CallSpans::new(plugin.shared.spans.clone()),
        http: None,
        places: None,
        parts: None,
        pending: 0,
        given: None,
    };
    let mut store = Store::new(&plugin.stack.engine, state);
    store.limiter(|state| &mut state.limiter);
    store.set_hostcall_fuel(limits.hostcall_bytes);
    store.set_max_component_handles(limits.resources);
    let tick = plugin.shared.tick;
    store.epoch_deadline_callback(move |store| {
        if store.data().profiling.is_on() {
            let profiling = Arc::clone(&store.data().profiling);
            profiling.sample(&store);
        }
        let (limit, used) = (store.data().budget.limit(), store.data().budget.check());
        if used >= limit {
            return Ok(UpdateDeadline::Interrupt);
        }
        // The tick comes at any time: whoever has just begun goes on until the next.
        if used < tick {
            return Ok(UpdateDeadline::Continue(1));
        }
        // One tick of computing, then the others' turn.
        spawn::tick_is_over();
        let aside = budget::step_aside(Arc::clone(&store.data().budget));
        Ok(UpdateDeadline::YieldCustom(1, Box::pin(aside)))
    });
    store.set_epoch_deadline(1);
    store
}

/// Arms a store that served before for another call.
pub(crate) fn next_call(store: &mut Store<State>, call: CallContext, budget: Arc<Budget>) {
    store.set_epoch_deadline(1);
    let state = store.data_mut();
    state.arrived();
    state.limiter.next_call();
    state.log.next_call(Arc::clone(&call.request_id));
    state.spans.next_call();
    state.budget = budget;
    state.call = call;
    state.pending = 0;
    state.parts = None;
    state.http = None;
}
