//! The life of one guest call: a place, a store, a deadline, an outcome.

use std::sync::Arc;

use bytes::Bytes;
use sluice_tensor::NamedTensor;
use tokio::time::Instant;
use tracing::Instrument;
use wasmtime::component::Instance as Exported;
use wasmtime::{PoolConcurrencyLimitError, Store, Trap, WasmBacktrace};

use crate::bindings::exports::sluice::plugin::preprocess;
use crate::bindings::sluice::plugin::types;
use crate::budget::Budget;
use crate::contract::Results;
use crate::error::{CallError, HostFault};
use crate::host::command;
use crate::host::convert::{
    answer_from_guest, carried, failure_from_guest, last_from_guest, parameter_to_guest, request_to_guest,
    results_from_guest, route_to_guest, tensors_to_guest,
};
use crate::host::logging::clean;
use crate::host::parts::CallParts;
use crate::host::pieces;
use crate::parts::PartSender;
use crate::places::{self, Places};
use crate::plugin::Inner;
use crate::state::{self, State};
use crate::types::{Answer, CallContext, Prepared, Request};

/// Most bytes of a trap's text: a backtrace of the longest kind.
const TRAP_BYTES_MAX: usize = 8 << 10;

/// What an instance is to do.
pub(crate) enum Job {
    Preprocess(Request),
    Postprocess { carry: Bytes, outputs: Vec<NamedTensor> },
    Handle { request: Request, parts: Option<PartSender> },
}

/// What it did.
pub(crate) enum Done {
    Prepared(Prepared),
    Answer(Answer),
    /// All of the answer went away in parts.
    Sent,
}

/// Runs a job: here while it is quick, else on the guests' threads. Cancel-safe: see
/// [`crate::Plugin`].
pub(crate) async fn call(plugin: &Arc<Inner>, call: CallContext, job: Job) -> Result<Done, CallError> {
    // Before the store: a full pool fails at once, a semaphore waits.
    let places = places::admit(plugin, call.deadline).await?;
    let span = call.span.clone();
    // Boxed at once: it is large, and on its way to a thread it moves.
    let work = Box::pin(run(places, Arc::clone(plugin), call, job).instrument(span));
    plugin.shared.threads.call(&plugin.pace, work).await?
}

/// Serves the job within its budget and the request's deadline. `places` is the
/// first parameter, so it is dropped last: after the store.
async fn run(places: Places, plugin: Arc<Inner>, call: CallContext, job: Job) -> Result<Done, CallError> {
    let (deadline, now) = (call.deadline, Instant::now());
    if deadline <= now {
        return Err(CallError::Deadline);
    }
    let budget = Arc::new(Budget::start_at(now, plugin.options.limits.call_timeout));
    let timed = Timed { plugin: &plugin, budget: &budget };
    let places = Arc::new(places);
    let served = Box::pin(serve(&plugin, &places, call, &budget, job));
    let outcome = within(&budget, deadline, served).await;
    drop((timed, places));
    outcome
}

/// Accounts for the time of a call when it is dropped, however the call ends.
struct Timed<'a> {
    plugin: &'a Inner,
    budget: &'a Budget,
}

impl Drop for Timed<'_> {
    fn drop(&mut self) {
        let used = self.budget.check();
        self.plugin.account.add_time(used);
        self.plugin.pace.note((used, self.budget.longest_piece()), self.plugin.shared.tick);
    }
}

/// The work's outcome, or which of its limits came first. Dropping the work
/// drops the store and ends the guest.
pub(crate) async fn within<T>(
    budget: &Budget,
    deadline: Instant,
    work: impl Future<Output = Result<T, CallError>>,
) -> Result<T, CallError> {
    tokio::select! {
        biased;
        outcome = work => outcome,
        () = budget.watch() => Err(CallError::Timeout),
        () = tokio::time::sleep_until(deadline) => Err(CallError::Deadline),
    }
}

async fn serve(
    plugin: &Inner,
    places: &Arc<Places>,
    call: CallContext,
    budget: &Arc<Budget>,
    job: Job,
) -> Result<Done, CallError> {
    let mut instance = match plugin.take_idle() {
        Some(mut instance) => {
            state::next_call(&mut instance.store, call, Arc::clone(budget));
            instance
        }
        None => start(plugin, call, Arc::clone(budget)).await?,
    };
    instance.store.data_mut().places = Some(Arc::clone(places));
    let outcome = instance.run(plugin, job).await;
    instance.store.data_mut().places = None;
    if matches!(outcome, Ok(_) | Err(CallError::Failure(_))) {
        plugin.put_back(instance);
    }
    outcome
}

/// An instance, and the calls that it may still serve.
pub(crate) struct Instance {
    pub(crate) store: Store<State>,
    exported: Exported,
    uses_left: u32,
}

/// Makes an instance and runs its `init`.
pub(crate) async fn start(
    plugin: &Inner,
    call: CallContext,
    budget: Arc<Budget>,
) -> Result<Instance, CallError> {
    let mut store = state::new_store(plugin, call, budget);
    let exported = match plugin.pre.instantiate_async(&mut store).await {
        Ok(exported) => exported,
        Err(error) => return Err(classify(error, store.data())),
    };
    match plugin.exports.init(&mut store, &exported, &plugin.options.config_json).await {
        Ok(None | Some(Ok(()))) => {}
        Ok(Some(Err(message))) => return Err(CallError::Init(clean(&message, TRAP_BYTES_MAX))),
        Err(error) => return Err(classify(error, store.data())),
    }
    Ok(Instance { store, exported, uses_left: plugin.uses() })
}

impl Instance {
    /// Whether it has calls left and the last one left nothing behind.
    pub(crate) fn may_serve_again(&mut self) -> bool {
        let state = self.store.data_mut();
        state.end_call();
        self.uses_left > 0 && state.is_clean()
    }

    /// Checks that the exports have the types of the contract.
    pub(crate) fn check_exports(&mut self, plugin: &Inner) -> wasmtime::Result<()> {
        if let Some(program) = &plugin.program {
            program.load(&mut self.store, &self.exported)?;
        }
        plugin.exports.check(&mut self.store, &self.exported)
    }

    async fn run(&mut self, plugin: &Inner, job: Job) -> Result<Done, CallError> {
        self.uses_left = self.uses_left.saturating_sub(1);
        let job = match (job, &plugin.program) {
            (Job::Handle { request, parts }, Some(program)) => {
                let limits = &plugin.options.limits;
                let answer =
                    command::run(&mut self.store, &self.exported, program, request, (parts, limits)).await?;
                return Ok(answer.map_or(Done::Sent, Done::Answer));
            }
            (job, _) => job,
        };
        let answered = match job {
            Job::Preprocess(request) => self.preprocess(plugin, request).await.map(Reply::Prepared),
            Job::Postprocess { carry, outputs } => {
                self.postprocess(plugin, carry, outputs).await.map(Reply::Answer)
            }
            Job::Handle { request, parts } => {
                self.store.data_mut().parts = Some(CallParts::new(parts, &plugin.options.limits));
                self.handle(plugin, request).await.map(Reply::Answer)
            }
        };
        let state = self.store.data_mut();
        match answered {
            Err(Fault::Guest(error)) => Err(classify(error, state)),
            Err(Fault::Call(error)) => Err(error),
            Ok(Reply::Prepared(Err(failure)) | Reply::Answer(Err(failure))) => {
                Err(failure_from_guest(failure))
            }
            Ok(Reply::Answer(Ok(answer))) => {
                let last = last_from_guest(state, answer)?;
                let last = match last {
                    Some(last) => Some(pieces::written_out(state, last).await?),
                    None => None,
                };
                let answer = match &mut state.parts {
                    Some(parts) => parts.finish(last)?,
                    None => Some(last.ok_or_else(|| {
                        CallError::Output("says that its answer was sent, and is no handler".to_owned())
                    })?),
                };
                Ok(answer.map_or(Done::Sent, Done::Answer))
            }
            Ok(Reply::Prepared(Ok(prepared))) => Ok(Done::Prepared(match prepared {
                preprocess::Prepared::Answer(answer) => {
                    let answer = answer_from_guest(state, answer)?;
                    Prepared::Answer(pieces::written_out(state, answer).await?)
                }
                preprocess::Prepared::Run(run) => Prepared::Run {
                    inputs: results_from_guest(state, run.inputs)?,
                    carry: carried(state, run.carry)?,
                },
            })),
        }
    }

    fn context(&self) -> types::Context {
        let call = &self.store.data().call;
        let left_ms = call.deadline.saturating_duration_since(Instant::now()).as_millis();
        types::Context {
            request_id: call.request_id.to_string(),
            pipeline: call.pipeline.to_string(),
            plugin_version: call.plugin_version.to_string(),
            deadline_ms: u32::try_from(left_ms).unwrap_or(u32::MAX),
            routing_key: call.routing_key.as_deref().map(str::to_owned),
            tenant: call.tenant.as_deref().map(str::to_owned),
            in_parts: self.store.data().parts.as_ref().is_some_and(CallParts::is_streamed),
            parameters: call.parameters.iter().map(parameter_to_guest).collect(),
            route: call.route.as_deref().map(route_to_guest),
        }
    }

    async fn preprocess(
        &mut self,
        plugin: &Inner,
        request: Request,
    ) -> Result<Result<preprocess::Prepared, types::Failure>, Fault> {
        let request = request_to_guest(self.store.data_mut(), request)?;
        let context = self.context();
        let results = plugin.exports.preprocess(&mut self.store, &self.exported, context, request).await?;
        one(results.ok_or_else(|| missing("preprocess"))?)
    }

    async fn postprocess(
        &mut self,
        plugin: &Inner,
        carry: Bytes,
        outputs: Vec<NamedTensor>,
    ) -> Result<Result<types::Answer, types::Failure>, Fault> {
        let outputs = tensors_to_guest(self.store.data_mut(), outputs)?;
        self.store.data_mut().give(carry.len())?;
        let (context, given) = (self.context(), (Vec::from(carry), outputs));
        let results = plugin.exports.postprocess(&mut self.store, &self.exported, context, given).await?;
        one(results.ok_or_else(|| missing("postprocess"))?)
    }

    async fn handle(
        &mut self,
        plugin: &Inner,
        request: Request,
    ) -> Result<Result<types::Answer, types::Failure>, Fault> {
        let request = request_to_guest(self.store.data_mut(), request)?;
        let context = self.context();
        let result = plugin.exports.handle(&mut self.store, &self.exported, context, request).await?;
        result.ok_or_else(|| missing("handle"))
    }
}

/// What a hook returned, before it is checked.
enum Reply {
    Prepared(Result<preprocess::Prepared, types::Failure>),
    Answer(Result<types::Answer, types::Failure>),
}

/// Why a hook returned nothing.
enum Fault {
    /// As wasmtime tells it.
    Guest(wasmtime::Error),
    Call(CallError),
}

impl From<wasmtime::Error> for Fault {
    fn from(error: wasmtime::Error) -> Self {
        Self::Guest(error)
    }
}

fn missing(hook: &str) -> Fault {
    Fault::Call(CallError::Internal(format!("plugin has no {hook} hook")))
}

/// The result for the one item that was given.
fn one<T>(results: Results<T>) -> Result<Result<T, types::Failure>, Fault> {
    let count = results.len();
    match <[Result<T, types::Failure>; 1]>::try_from(results) {
        Ok([result]) => Ok(result),
        Err(_) => Err(Fault::Call(CallError::Output(format!("{count} results for one item")))),
    }
}

/// Frames of a backtrace that must be of one function to call it a recursion. A
/// backtrace has 20 at most, so a recursion fills it.
const RECURSION_FRAMES: usize = 12;

/// Whether a function has called itself until the plugin's own stack was used up.
/// Compilers keep large frames in linear memory, below everything else, and there an
/// overflow shows as an access before address 0.
fn is_recursion(error: &wasmtime::Error) -> bool {
    let Some(backtrace) = error.downcast_ref::<WasmBacktrace>() else { return false };
    let frames = backtrace.frames();
    let innermost = frames.first().map(|frame| frame.func_index());
    frames.iter().filter(|frame| Some(frame.func_index()) == innermost).count() >= RECURSION_FRAMES
}

/// Longest cause of an answer that is not valid: callers read it.
const OUTPUT_BYTES_MAX: usize = 1 << 10;

/// What kind of failure it was, and so who is told what.
pub(crate) fn classify(error: wasmtime::Error, state: &State) -> CallError {
    if let Some(fault) = error.downcast_ref::<HostFault>() {
        return match fault {
            HostFault::Output(message) => CallError::Output(message.clone()),
            HostFault::Memory => CallError::Memory,
        };
    }
    if error.downcast_ref::<PoolConcurrencyLimitError>().is_some() {
        return CallError::Overloaded;
    }
    match error.downcast_ref::<Trap>() {
        Some(Trap::StackOverflow) => return CallError::Stack,
        Some(Trap::Interrupt) => return CallError::Timeout,
        Some(Trap::MemoryOutOfBounds) if is_recursion(&error) => return CallError::Stack,
        _ => {}
    }
    if state.limiter.refused() {
        return CallError::Memory;
    }
    let text = clean(&format!("{error:?}").replace('\n', "; "), TRAP_BYTES_MAX);
    let is_table_full = matches!(error.downcast_ref(), Some(wasmtime::component::ResourceTableError::Full));
    // wasmtime has no type for these two.
    let cause = error.root_cause().to_string();
    let is_too_much =
        cause.contains("fuel allocated for hostcalls") || cause.contains("store handle limit exceeded");
    let is_crash = error.downcast_ref::<WasmBacktrace>().is_some() || error.downcast_ref::<Trap>().is_some();
    if is_table_full || is_too_much || !is_crash {
        // The caller is told the cause alone: where in the plugin it was is for its author.
        tracing::debug!(error = text, "plugin gave something that is not valid");
        return CallError::Output(clean(&cause, OUTPUT_BYTES_MAX));
    }
    CallError::Trap(text)
}
