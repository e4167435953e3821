//! What a pipeline calls: a plugin, or (in the benchmark) the same function
//! compiled into the process.

use async_trait::async_trait;
use bytes::Bytes;
use sluice_sandbox::{Answer, CallContext, CallError, PartSender, Plugin, Prepared, Request};
use sluice_tensor::NamedTensor;

use crate::error::{Error, Kind};

/// What a hook gives.
pub type HookResult<T> = Result<T, CallError>;

/// Code of a product team that runs inside a pipeline.
#[async_trait]
pub trait Hook: Send + Sync {
    /// The plugin's name, for logs and metrics.
    fn name(&self) -> &str;

    /// Turns a request into model inputs, or into an answer.
    async fn preprocess(&self, call: CallContext, request: Request) -> HookResult<Prepared>;

    /// Turns model outputs into an answer.
    async fn postprocess(
        &self,
        call: CallContext,
        carry: Bytes,
        outputs: Vec<NamedTensor>,
    ) -> HookResult<Answer>;

    /// Owns the whole request.
    async fn handle(&self, call: CallContext, request: Request) -> HookResult<Answer>;

    /// The same, and sends parts on while it runs: what comes back is the whole answer or
    /// the last part of it, and `None` if all of them have been sent.
    async fn handle_in_parts(
        &self,
        call: CallContext,
        request: Request,
        _parts: PartSender,
    ) -> HookResult<Option<Answer>> {
        self.handle(call, request).await.map(Some)
    }

    /// Whether it may send parts, so that somebody should receive them.
    fn sends_parts(&self) -> bool {
        false
    }

    /// The most memory that an instance held since this was last asked, in bytes; none
    /// for native code.
    fn take_memory_peak(&self) -> Option<usize> {
        None
    }
}

#[async_trait]
impl Hook for Plugin {
    fn name(&self) -> &str {
        &self.info().name
    }

    async fn preprocess(&self, call: CallContext, request: Request) -> HookResult<Prepared> {
        Plugin::preprocess(self, call, request).await
    }

    async fn postprocess(
        &self,
        call: CallContext,
        carry: Bytes,
        outputs: Vec<NamedTensor>,
    ) -> HookResult<Answer> {
        Plugin::postprocess(self, call, carry, outputs).await
    }

    async fn handle(&self, call: CallContext, request: Request) -> HookResult<Answer> {
        Plugin::handle(self, call, request).await
    }

    async fn handle_in_parts(
        &self,
        call: CallContext,
        request: Request,
        parts: PartSender,
    ) -> HookResult<Option<Answer>> {
        Plugin::handle_in_parts(self, call, request, parts).await
    }

    fn sends_parts(&self) -> bool {
        Plugin::sends_parts(self)
    }

    fn take_memory_peak(&self) -> Option<usize> {
        Some(Plugin::take_memory_peak(self))
    }
}

/// The word for a failed call in metrics.
pub(super) fn outcome(error: &CallError) -> &'static str {
    match error {
        CallError::Failure(_) => "refused",
        CallError::Trap(_) => "trap",
        CallError::Stack => "stack",
        CallError::Memory => "memory",
        CallError::Timeout => "timeout",
        CallError::Output(_) => "output",
        CallError::Deadline => "deadline",
        CallError::Overloaded => "overloaded",
        CallError::Closed => "closed",
        CallError::Init(_) => "init",
        _ => "internal",
    }
}

/// Whether the plugin itself is to blame: not its refusal of a request, nor the load.
pub(super) fn is_plugin_fault(error: &CallError) -> bool {
    matches!(
        error,
        CallError::Trap(_)
            | CallError::Stack
            | CallError::Memory
            | CallError::Timeout
            | CallError::Output(_)
            | CallError::Init(_)
    )
}

/// Most of what is wrong with an answer that its caller is told. Parts of it may be the
/// plugin's words.
const OUTPUT_CHARACTERS_MAX: usize = 1_024;

/// What a failed call is to the caller; the log is told of the version. Only a plugin's own refusal passes its words on.
pub(super) fn to_error(error: &CallError, plugin: &str, version: &str) -> Error {
    let (kind, message) = match error {
        CallError::Failure(failure) => {
            return Error::new(Kind::Refused(failure.status), failure.message.clone())
                .with_retry_after(failure.retry_after_seconds);
        }
        CallError::Trap(_) => (Kind::PluginTrap, format!("plugin '{plugin}' crashed")),
        CallError::Stack => (Kind::PluginStack, format!("plugin '{plugin}' overflowed its stack")),
        CallError::Memory => (Kind::PluginMemory, format!("plugin '{plugin}' ran out of memory")),
        CallError::Timeout => (Kind::PluginTimeout, format!("plugin '{plugin}' used up its time")),
        CallError::Output(what) => {
            let what: String = what.chars().take(OUTPUT_CHARACTERS_MAX).collect();
            (Kind::PluginOutput, format!("plugin '{plugin}' gave an answer that is not valid: {what}"))
        }
        CallError::Deadline => (Kind::Deadline, "the request's deadline has passed".to_owned()),
        CallError::Overloaded => (Kind::Overloaded, format!("plugin '{plugin}' has no free instance")),
        CallError::Closed => (Kind::Draining, "the gateway is shutting down".to_owned()),
        CallError::Init(_) => (Kind::PluginTrap, format!("plugin '{plugin}' failed to start")),
        _ => (Kind::Internal, "internal error".to_owned()),
    };
    Error::new(kind, message).with_detail(format!("plugin {plugin} version {version}: {error}"))
}
