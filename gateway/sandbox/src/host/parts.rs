//! `sluice:plugin/parts`: an answer in parts, for pipeline plugins.

use std::sync::Arc;
use std::time::Duration;

use sluice_tensor::NamedTensor;
use wasmtime::component::{HasSelf, Linker};

use super::convert::{self, SourceError, tensors_from_guest};
use crate::bindings::sluice::plugin::parts::{self, Error, Host};
use crate::bindings::sluice::plugin::types;
use crate::config::PluginLimits;
use crate::error::{CallError, HostFault};
use crate::held::{self, Buffer};
use crate::parts::{Part, PartSender};
use crate::state::State;
use crate::types::{Answer, Failure, HttpAnswer};

/// The type of a body whose plugin says none.
const CONTENT_TYPE: &str = "application/octet-stream";

/// The longest pause between two parts. A stream that says nothing for longer is taken
/// for dead by whatever stands between it and its caller.
const PAUSE_MAX: Duration = Duration::from_secs(60);

/// What a caller is told who takes one answer and is given several.
const ONE_ANSWER: &str =
    "this pipeline gives more than one answer: call generate_stream or ModelStreamInfer, which take several";

/// What a guest sends in one call of `handle`.
pub(crate) struct CallParts {
    /// Where parts go; `None` where they are put together.
    to: Option<PartSender>,
    content_type: Option<Arc<str>>,
    /// What was put together.
    body: Option<Buffer>,
    tensors: Option<Vec<NamedTensor>>,
    /// What was sent, either way.
    kind: Option<Kind>,
    count: usize,
    bytes: usize,
    count_max: usize,
    bytes_max: usize,
}

/// An answer is of one kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Body,
    Tensors,
}

impl CallParts {
    pub(crate) fn new(to: Option<PartSender>, limits: &PluginLimits) -> Self {
        Self {
            to,
            content_type: None,
            body: None,
            tensors: None,
            kind: None,
            count: 0,
            bytes: 0,
            count_max: limits.answer_parts_max,
            bytes_max: limits.answer_bytes_max,
        }
    }

    /// Whether the caller gets parts as they come.
    pub(crate) fn is_streamed(&self) -> bool {
        self.to.is_some()
    }

    /// Counts a part, before it goes anywhere.
    fn count(&mut self, bytes: usize) -> Result<(), HostFault> {
        self.count += 1;
        self.bytes = self.bytes.saturating_add(bytes);
        if self.count > self.count_max {
            return Err(HostFault::Output(format!("the answer has more than {} parts", self.count_max)));
        }
        if self.bytes > self.bytes_max {
            return Err(HostFault::Output(format!("the parts are more than {} bytes", self.bytes_max)));
        }
        Ok(())
    }

    /// Whether a part of this kind fits what was sent before.
    fn takes(&self, kind: Kind) -> bool {
        match self.kind {
            None => true,
            Some(before) => before == kind && (kind == Kind::Body || self.is_streamed()),
        }
    }

    fn content_type(&self) -> Arc<str> {
        self.content_type.clone().unwrap_or_else(|| CONTENT_TYPE.into())
    }

    /// The whole answer, of what `handle` sent and what it returned in the end; `None`
    /// for nothing more to add to a stream.
    ///
    /// # Errors
    /// [`CallError::Output`] if they make no answer, [`CallError::Failure`] if there are
    /// several and the caller takes one.
    pub(crate) fn finish(&mut self, last: Option<Answer>) -> Result<Option<Answer>, CallError> {
        let Some(before) = self.kind else {
            return last.map(Some).ok_or_else(nothing_sent);
        };
        let kind = match &last {
            Some(Answer::Body(_)) => Kind::Body,
            Some(Answer::Tensors(_)) => Kind::Tensors,
            None => before,
        };
        if kind != before {
            return Err(CallError::Output("an answer of bytes and of tensors".to_owned()));
        }
        match (last, self.is_streamed()) {
            (last, true) => Ok(last),
            (Some(Answer::Tensors(_)), false) => Err(several()),
            (last, false) => Ok(Some(self.put_together(last)?)),
        }
    }

    fn put_together(&mut self, last: Option<Answer>) -> Result<Answer, CallError> {
        if let Some(tensors) = self.tensors.take() {
            return Ok(Answer::Tensors(tensors));
        }
        let mut status = convert::STATUS_OK;
        if let Some(Answer::Body(last)) = last {
            self.count(last.data.len()).map_err(|fault| CallError::Output(fault.to_string()))?;
            let body = self.body.as_mut().ok_or_else(nothing_sent)?;
            body.extend(&last.data).map_err(|_| CallError::Memory)?;
            status = last.status;
        }
        let data = self.body.take().ok_or_else(nothing_sent)?.freeze();
        Ok(Answer::Body(HttpAnswer { status, content_type: self.content_type().to_string(), data }))
    }
}

fn nothing_sent() -> CallError {
    CallError::Output("says that its answer was sent, and sent none".to_owned())
}

fn several() -> CallError {
    CallError::Failure(Failure { status: 400, message: ONE_ANSWER.to_owned(), retry_after_seconds: None })
}

pub(crate) fn link(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    parts::add_to_linker::<State, HasSelf<State>>(linker, |state| state)
}

impl State {
    fn parts(&mut self) -> wasmtime::Result<&mut CallParts> {
        self.parts.as_mut().ok_or_else(|| wasmtime::format_err!("parts are sent by handle alone"))
    }

    /// Waits for the caller, off the plugin's budget and out of others' way.
    async fn pass_on(&mut self, to: PartSender, part: Part) -> Result<(), Error> {
        let Some(part) = to.try_send(part).map_err(|_| Error::Gone)? else { return Ok(()) };
        let budget = Arc::clone(&self.budget);
        let (_waiting, _parked) = (budget.wait(), self.park());
        to.send(part).await.map_err(|_| Error::Gone)
    }

    async fn send_body(&mut self, data: Vec<u8>) -> wasmtime::Result<Result<(), Error>> {
        self.arrived();
        let memory = Arc::clone(self.limiter.host());
        let parts = self.parts()?;
        parts.count(data.len())?;
        if !parts.takes(Kind::Body) {
            return Ok(Err(Error::Refused));
        }
        parts.kind = Some(Kind::Body);
        if let Some(to) = parts.to.clone() {
            let data = held::take_over(&memory, data)?;
            let part = Part::Body { content_type: parts.content_type(), data };
            return Ok(self.pass_on(to, part).await);
        }
        parts.body.get_or_insert_with(|| Buffer::new(&memory)).extend(&data)?;
        Ok(Ok(()))
    }

    async fn send_tensors(
        &mut self,
        sources: Vec<types::NamedSource>,
    ) -> wasmtime::Result<Result<(), Error>> {
        let mut tensors = tensors_from_guest(self, sources).map_err(|error| match error {
            SourceError::Invalid(message) => HostFault::Output(message).into(),
            SourceError::Trap(error) => error,
        })?;
        self.write_out(&mut tensors).await?;
        let part = Part::Tensors(tensors);
        let parts = self.parts()?;
        parts.count(part.byte_len())?;
        if !parts.takes(Kind::Tensors) {
            return Ok(Err(Error::Refused));
        }
        parts.kind = Some(Kind::Tensors);
        match (parts.to.clone(), part) {
            (Some(to), part) => Ok(self.pass_on(to, part).await),
            (None, Part::Tensors(tensors)) => {
                parts.tensors = Some(tensors);
                Ok(Ok(()))
            }
            (None, Part::Body { .. }) => Ok(Err(Error::Refused)),
        }
    }
}

impl Host for State {
    fn content_type(&mut self, value: String) -> wasmtime::Result<()> {
        let parts = self.parts()?;
        if parts.kind.is_some() {
            return Err(wasmtime::format_err!("the answer has begun: its type is said before"));
        }
        convert::check_content_type(&value).map_err(HostFault::Output)?;
        parts.content_type = Some(value.into());
        Ok(())
    }

    async fn send(&mut self, part: parts::Part) -> wasmtime::Result<Result<(), Error>> {
        match part {
            parts::Part::Body(data) => self.send_body(data).await,
            parts::Part::Tensors(sources) => self.send_tensors(sources).await,
        }
    }

    async fn pause(&mut self, milliseconds: u32) -> wasmtime::Result<()> {
        let pause = Duration::from_millis(milliseconds.into()).min(PAUSE_MAX);
        let to = self.parts()?.to.clone();
        let budget = Arc::clone(&self.budget);
        let (_waiting, _parked) = (budget.wait(), self.park());
        match to {
            Some(to) => drop(tokio::time::timeout(pause, to.gone()).await),
            None => tokio::time::sleep(pause).await,
        }
        Ok(())
    }
}
