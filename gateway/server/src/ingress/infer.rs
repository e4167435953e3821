//! A prediction on tensors, whatever protocol carried it: what is asked for, and the one
//! function that runs it.

use std::collections::HashSet;
use std::sync::Arc;

use sluice_sandbox::{Answer, HttpBody, Part, Request};
use sluice_tensor::{DType, NamedTensor, Shape, Tensor, find};
use tokio::time::Instant;

use super::classification::Outputs;
use super::parameters::Wishes;
use super::served;
use crate::admission::Room;
use crate::catalog::Snapshot;
use crate::error::{Error, Kind, Result};
use crate::pipeline::{self, Call, PartStream, Predicted, ShadowRun, Streamed};
use crate::shared_memory::Part as Memory;
use crate::tensor_json::{self, TENSORS_MAX};

/// The tensor that stands for the raw body of a pipeline with plugins of its own.
pub const BODY_TENSOR: &str = "body";

/// What a caller asks for.
pub struct InferRequest {
    /// The version that is wanted; none is the served one.
    pub version: Option<String>,
    /// The caller's own name of the request, for the answer.
    pub id: Option<String>,
    /// The tensors, each under its input's name.
    pub inputs: Vec<NamedTensor>,
    /// What its parameters ask for.
    pub wishes: Wishes,
    /// The outputs that are wanted, in this order; all of them when none is named.
    pub outputs: Vec<RequestedOutput>,
}

/// An output that is asked for by name.
#[derive(Debug, Clone)]
pub struct RequestedOutput {
    /// Its name.
    pub name: String,
    /// How many of the classes with the highest score are wanted instead of the tensor;
    /// 0 is the tensor itself.
    pub classification: usize,
    /// The shared memory that it is to be written into, rather than sent.
    pub memory: Option<Memory>,
}

/// What the caller gets.
pub struct InferResponse {
    /// The version that answered.
    pub version: String,
    /// The caller's own name of the request.
    pub id: Option<String>,
    /// The outputs, as asked for.
    pub outputs: Vec<NamedTensor>,
    /// For each of them whether it was written into shared memory, and is not to be sent; nothing
    /// where none was.
    pub in_memory: Vec<bool>,
    /// The same request for a candidate, to be run when the answer is sent.
    pub shadow: Option<Box<ShadowRun>>,
}

/// Runs a prediction by the model or pipeline of that name. `room` is for what the answer takes
/// besides what the engine gave.
///
/// # Errors
/// Every kind in the table; see [`Kind`].
pub async fn infer(
    snapshot: &Snapshot,
    target: &str,
    mut call: Call,
    request: InferRequest,
    room: &mut Room,
) -> Result<InferResponse> {
    let (inputs, asked) = begin(snapshot, target, &mut call, request)?;
    let predicted = pipeline::predict(snapshot, target, &call, inputs).await?;
    asked.answer(snapshot, target, predicted, (room, call.deadline)).await
}

/// What came of a request that may be answered several times.
pub enum Inferred {
    /// One answer.
    One(InferResponse),
    /// The first of several has come.
    Many(Box<InferStream>),
}

/// The answers to one request. Dropping it ends the plugin's call.
pub struct InferStream {
    stream: Box<PartStream>,
    asked: Asked,
    snapshot: Arc<Snapshot>,
    target: Box<str>,
    deadline: Instant,
}

/// As [`infer`], for protocols that carry several answers to one request. Returns when the
/// first answer, or the error that is the only one, is there.
///
/// # Errors
/// As [`infer`].
pub async fn infer_stream(
    snapshot: Arc<Snapshot>,
    target: &str,
    mut call: Call,
    request: InferRequest,
    room: &mut Room,
) -> Result<Inferred> {
    let (inputs, asked) = begin(&snapshot, target, &mut call, request)?;
    match pipeline::predict_stream(&snapshot, target, &call, inputs).await? {
        Streamed::Whole(predicted) => {
            let answer = asked.answer(&snapshot, target, predicted, (room, call.deadline));
            answer.await.map(Inferred::One)
        }
        Streamed::Parts(stream) => {
            let (target, deadline) = (target.into(), call.deadline);
            Ok(Inferred::Many(Box::new(InferStream { stream, asked, snapshot, target, deadline })))
        }
    }
}

impl InferStream {
    /// Until when all of it has to be answered.
    pub fn deadline(&self) -> Instant {
        self.deadline
    }

    /// The next answer, and whether it is known to be the last; `None` when there are no
    /// more. A stream may end without an answer that says so (see
    /// [`pipeline::StreamedPart`]), and ends after an error. Cancel-safe.
    pub async fn next(&mut self) -> Option<Result<(InferResponse, bool)>> {
        let next = match self.stream.next().await? {
            Ok(next) => next,
            Err(error) => return Some(Err(error)),
        };
        let outputs = match next.part {
            Part::Tensors(outputs) => Ok(outputs),
            Part::Body { data, .. } => as_tensor(&data),
        };
        let response = outputs.and_then(|outputs| {
            let shadow = if next.is_last { self.stream.take_shadow() } else { None };
            let outputs = self.asked.select(&self.snapshot, &self.target, outputs)?.finish()?;
            self.asked.respond(outputs, shadow)
        });
        if response.is_err() {
            self.stream.not_sent();
        }
        Some(response.map(|response| (response, next.is_last)))
    }

    /// The copy for a candidate, once the stream has ended well.
    pub fn take_shadow(&mut self) -> Option<Box<ShadowRun>> {
        self.stream.take_shadow()
    }
}

/// What a caller wants to have of an answer.
struct Asked {
    version: String,
    id: Option<String>,
    outputs: Vec<RequestedOutput>,
}

/// Checks a request, and takes what it wants into the call.
fn begin(
    snapshot: &Snapshot,
    target: &str,
    call: &mut Call,
    request: InferRequest,
) -> Result<(Request, Asked)> {
    let InferRequest { version, id, inputs, wishes, outputs } = request;
    served::check(snapshot, target, version.as_deref())?;
    check_names(&inputs, &outputs)?;
    call.options = wishes.options;
    call.version = version.map(Into::into);
    let version = call.version.as_deref().unwrap_or_else(|| served::version(snapshot, target)).to_owned();
    Ok((raw_or_tensors(snapshot, target, inputs), Asked { version, id, outputs }))
}

impl Asked {
    async fn answer(
        self,
        snapshot: &Snapshot,
        target: &str,
        predicted: Predicted,
        (room, deadline): (&mut Room, Instant),
    ) -> Result<InferResponse> {
        let outputs = match predicted.answer {
            Answer::Tensors(outputs) => outputs,
            Answer::Body(answer) => as_tensor(&answer.data)?,
        };
        let outputs = self.select(snapshot, target, outputs)?.finish_apart(room, deadline).await?;
        self.respond(outputs, predicted.shadow)
    }

    fn select(&self, snapshot: &Snapshot, target: &str, outputs: Vec<NamedTensor>) -> Result<Outputs> {
        select(snapshot, (target, &self.version), outputs, &self.outputs)
    }

    fn respond(&self, outputs: Vec<NamedTensor>, shadow: Option<Box<ShadowRun>>) -> Result<InferResponse> {
        let in_memory = write(&outputs, &self.outputs)?;
        let (version, id) = (self.version.clone(), self.id.clone());
        Ok(InferResponse { version, id, outputs, in_memory, shadow })
    }
}

/// A plugin's body as the one element of a tensor.
fn as_tensor(data: &[u8]) -> Result<Vec<NamedTensor>> {
    let shape = Shape::new(&[1]).map_err(|error| tensor_json::to_error(&error))?;
    let tensor = Tensor::from_strings(shape, std::iter::once(data));
    let tensor = tensor.map_err(|error| tensor_json::to_error(&error))?;
    Ok(vec![NamedTensor { name: BODY_TENSOR.into(), tensor }])
}

/// Inputs and wanted outputs are few, and none is named twice.
fn check_names(inputs: &[NamedTensor], wanted: &[RequestedOutput]) -> Result<()> {
    if inputs.is_empty() || inputs.len() > TENSORS_MAX {
        return Err(Error::new(Kind::BadShape, format!("a request has 1 to {TENSORS_MAX} inputs")));
    }
    if wanted.len() > TENSORS_MAX {
        return Err(Error::new(Kind::BadRequest, format!("at most {TENSORS_MAX} outputs can be asked for")));
    }
    let twice = |what, name: &str| {
        let verb = if what == "input" { "given" } else { "asked for" };
        Error::new(Kind::BadRequest, format!("{what} '{}' is {verb} twice", served::shown(name)))
    };
    let mut names = HashSet::with_capacity(inputs.len());
    if let Some(doubled) = inputs.iter().find(|input| !names.insert(&*input.name)) {
        return Err(twice("input", &doubled.name));
    }
    names.clear();
    match wanted.iter().find(|output| !names.insert(&output.name)) {
        Some(doubled) => Err(twice("output", &doubled.name)),
        None => Ok(()),
    }
}

/// A single BYTES element called `body` is a raw body, where a plugin takes it.
fn raw_or_tensors(snapshot: &Snapshot, target: &str, inputs: Vec<NamedTensor>) -> Request {
    let is_body = inputs.len() == 1
        && find(&inputs, BODY_TENSOR)
            .is_some_and(|tensor| tensor.dtype() == DType::Bytes && tensor.shape().elements() == 1)
        && snapshot.takes_body(target);
    if !is_body {
        return Request::Tensors(inputs);
    }
    // One element: everything behind its length.
    let data = inputs[0].tensor.to_dense();
    Request::Body(HttpBody { content_type: None, data: data.slice(size_of::<u32>()..) })
}

/// The outputs in the order asked for; all of them when none was named.
fn select(
    snapshot: &Snapshot,
    (target, version): (&str, &str),
    outputs: Vec<NamedTensor>,
    wanted: &[RequestedOutput],
) -> Result<Outputs> {
    if wanted.is_empty() {
        return Ok(Outputs::as_they_are(outputs));
    }
    let mut selected = Outputs::default();
    let giver = wanted.iter().any(|wanted| wanted.classification > 0);
    let giver = giver.then(|| snapshot.answering(target, Some(version))).flatten();
    for wanted in wanted {
        let found = outputs.iter().find(|output| *output.name == *wanted.name).cloned();
        let output = found.ok_or_else(|| {
            Error::new(
                Kind::BadRequest,
                format!("unexpected inference output '{}' for model '{target}'", served::shown(&wanted.name)),
            )
        })?;
        match wanted.classification {
            0 => selected.push(output),
            count => selected.push_classes(output, count, giver.as_ref()),
        }
    }
    Ok(selected)
}

/// Writes the outputs into shared memory that are wanted there. All of them have room, or none is
/// written.
fn write(outputs: &[NamedTensor], wanted: &[RequestedOutput]) -> Result<Vec<bool>> {
    // Whatever was named is there, in the order of its naming.
    let places =
        || outputs.iter().zip(wanted).filter_map(|(output, wanted)| Some((output, wanted.memory.as_ref()?)));
    if places().next().is_none() {
        return Ok(Vec::new());
    }
    for (output, memory) in places() {
        memory.check_room(&output.name, output.tensor.byte_len())?;
    }
    for (output, memory) in places() {
        memory.write(&output.tensor.bytes())?;
    }
    Ok(wanted.iter().map(|wanted| wanted.memory.is_some()).collect())
}
