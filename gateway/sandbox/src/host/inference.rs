//! `sluice:plugin/inference`: models, for pipeline plugins.

use std::sync::Arc;

use async_trait::async_trait;
use sluice_tensor::{NamedTensor, Signature};
use tracing::Instrument;
use wasmtime::component::{HasSelf, Linker, Resource};

use super::convert::{SourceError, tensors_from_guest, tensors_to_guest};
use crate::CallContext;
use crate::bindings::sluice::plugin::inference::{self, Error, Host, HostPending};
use crate::bindings::sluice::plugin::types;
use crate::error::{HostFault, InferenceError};
use crate::held::HostMemory;
use crate::places::{Parked, Places};
use crate::spawn::AbortOnDrop;
use crate::state::State;

/// Model calls that one plugin call may have under way. Each holds a place in
/// a model's queue; more answer `overloaded` to the plugin.
const PENDING_MAX: usize = 64;

/// The models that a plugin may call.
///
/// Called on guest threads: it must wait without blocking. The future is
/// dropped when the call is cancelled; that must give back its place in the
/// queue.
#[async_trait]
pub trait Inference: Send + Sync {
    /// What a model takes and gives; `None` if there is no such model, or it is not
    /// granted. `wasi:nn` asks for it before it runs one. One without inputs means that
    /// they are not known.
    fn signature(&self, model: &str) -> Option<Signature>;

    /// The granted model whose file has this SHA-256, in hexadecimal: what `wasi:nn` gives a
    /// guest that brings a model's own bytes. `None` where nobody knows.
    fn model_of_file(&self, _sha256: &str) -> Option<Arc<str>> {
        None
    }

    /// Runs a model and waits for its outputs.
    async fn infer(
        &self,
        call: &CallContext,
        model: &str,
        inputs: Vec<NamedTensor>,
    ) -> Result<Vec<NamedTensor>, InferenceError>;
}

type Outputs = Result<Vec<NamedTensor>, InferenceError>;

/// A model call that a guest submitted; `None` once it has waited.
#[expect(unreachable_pub, reason = "the generated bindings re-export it")]
pub struct Pending(Option<AbortOnDrop<Result<Outputs, HostFault>>>);

pub(crate) fn link(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    inference::add_to_linker::<State, HasSelf<State>>(linker, |state| state)
}

impl From<InferenceError> for Error {
    fn from(error: InferenceError) -> Self {
        match error {
            InferenceError::NotFound(message) => Self::NotFound(message),
            InferenceError::InvalidInput(message) => Self::InvalidInput(message),
            InferenceError::Overloaded => Self::Overloaded,
            InferenceError::Deadline => Self::Deadline,
            InferenceError::Failed(message) => Self::Failed(message),
        }
    }
}

/// What the guest gets: an error of the model is a value, not a trap.
type Answer<T> = wasmtime::Result<Result<T, Error>>;

/// A model call that may be made.
struct Ready {
    models: Arc<dyn Inference>,
    inputs: Vec<NamedTensor>,
}

impl State {
    /// The call as a model sees it: inside the span that the guest has open.
    fn call_within_span(&self) -> CallContext {
        let mut call = self.call.clone();
        if let Some(span) = self.spans.innermost() {
            call.span = span;
        }
        call
    }

    fn ready(&mut self, model: &str, inputs: Vec<types::NamedSource>) -> Answer<Ready> {
        let Some(models) = self.grants.inference.clone() else {
            return Ok(Err(Error::NotFound(model.to_owned())));
        };
        match tensors_from_guest(self, inputs) {
            Ok(inputs) => Ok(Ok(Ready { models, inputs })),
            Err(SourceError::Invalid(message)) => Ok(Err(Error::InvalidInput(message))),
            Err(SourceError::Trap(error)) => Err(error),
        }
    }

    /// Runs a model and waits, off the plugin's budget and out of others' way.
    pub(crate) async fn run_model(
        &mut self,
        models: Arc<dyn Inference>,
        model: &str,
        inputs: Vec<NamedTensor>,
    ) -> Outputs {
        let (call, budget) = (self.call_within_span(), Arc::clone(&self.budget));
        let span = call.span.clone();
        let (_waiting, _parked) = (budget.wait(), self.park());
        models.infer(&call, model, inputs).instrument(span).await
    }

    pub(crate) fn park(&self) -> Option<Parked> {
        self.places.as_ref().map(Places::park)
    }

    fn outputs(&mut self, outputs: Outputs) -> Answer<Vec<types::NamedTensor>> {
        match outputs {
            Ok(tensors) => Ok(Ok(tensors_to_guest(self, tensors)?)),
            Err(error) => Ok(Err(error.into())),
        }
    }
}

/// The outputs, accounted for until nobody uses them any more.
fn held(memory: &Arc<HostMemory>, outputs: Outputs) -> Result<Outputs, HostFault> {
    let Ok(outputs) = outputs else { return Ok(outputs) };
    let held = |NamedTensor { name, tensor }: NamedTensor| {
        let charge = memory.hold(tensor.byte_len())?;
        Ok(NamedTensor { name, tensor: tensor.kept_with(charge) })
    };
    outputs.into_iter().map(held).collect::<Result<Vec<_>, HostFault>>().map(Ok)
}

impl Host for State {
    async fn infer(
        &mut self,
        model: String,
        inputs: Vec<types::NamedSource>,
    ) -> Answer<Vec<types::NamedTensor>> {
        let ready = match self.ready(&model, inputs)? {
            Ok(ready) => ready,
            Err(error) => return Ok(Err(error)),
        };
        let outputs = self.run_model(ready.models, &model, ready.inputs).await;
        let outputs = held(self.limiter.host(), outputs)?;
        self.outputs(outputs)
    }

    fn submit(&mut self, model: String, inputs: Vec<types::NamedSource>) -> Answer<Resource<Pending>> {
        if self.pending >= PENDING_MAX {
            return Ok(Err(Error::Overloaded));
        }
        let Ready { models, inputs } = match self.ready(&model, inputs)? {
            Ok(ready) => ready,
            Err(error) => return Ok(Err(error)),
        };
        let memory = Arc::clone(self.limiter.host());
        let call = self.call_within_span();
        let span = call.span.clone();
        // What came is held, whether or not the guest ever asks for it.
        let work = async move { held(&memory, models.infer(&call, &model, inputs).await) };
        let task = tokio::spawn(work.instrument(span));
        let pending = self.table.push(Pending(Some(AbortOnDrop::new(task))))?;
        self.pending += 1;
        Ok(Ok(pending))
    }
}

impl HostPending for State {
    async fn wait(&mut self, pending: Resource<Pending>) -> Answer<Vec<types::NamedTensor>> {
        let Some(task) = self.table.get_mut(&pending)?.0.take() else {
            return Err(wasmtime::format_err!("pending model call was waited for before"));
        };
        self.pending = self.pending.saturating_sub(1);
        let budget = Arc::clone(&self.budget);
        let joined = {
            let (_waiting, _parked) = (budget.wait(), self.park());
            task.await
        };
        let panicked = |_| Ok(Err(InferenceError::Failed("model call panicked".to_owned())));
        let outputs = joined.unwrap_or_else(panicked)?;
        self.outputs(outputs)
    }

    fn drop(&mut self, pending: Resource<Pending>) -> wasmtime::Result<()> {
        let abandoned = self.table.delete(pending)?;
        if abandoned.0.is_some() {
            self.pending = self.pending.saturating_sub(1);
        }
        Ok(())
    }
}
