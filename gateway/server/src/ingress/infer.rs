//! A prediction on tensors, whatever protocol carried it: what is asked for, and the one
//! function that runs it.

use std::collections::HashSet;

use sluice_sandbox::{Answer, HttpBody, Request};
use sluice_tensor::{DType, NamedTensor, Shape, Tensor, find};

use super::parameters::Wishes;
use super::{classification, served};
use crate::catalog::Snapshot;
use crate::error::{Error, Kind, Result};
use crate::pipeline::{self, Call, ShadowRun};
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
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestedOutput {
    /// Its name.
    pub name: String,
    /// How many of the classes with the highest score are wanted instead of the tensor;
    /// 0 is the tensor itself.
    pub classification: usize,
}

/// What the caller gets.
pub struct InferResponse {
    /// The version that answered.
    pub version: String,
    /// The caller's own name of the request.
    pub id: Option<String>,
    /// The outputs, as asked for.
    pub outputs: Vec<NamedTensor>,
    /// The same request for a candidate, to be run when the answer is sent.
    pub shadow: Option<Box<ShadowRun>>,
}

/// Runs a prediction by the model or pipeline of that name.
///
/// # Errors
/// Every kind in the table; see [`Kind`].
pub async fn infer(
    snapshot: &Snapshot,
    target: &str,
    mut call: Call,
    request: InferRequest,
) -> Result<InferResponse> {
    let InferRequest { version, id, inputs, wishes, outputs: wanted } = request;
    match &version {
        Some(version) => served::check_version(snapshot, target, version)?,
        None if !snapshot.serves(target) => return Err(served::unknown(target)),
        None => {}
    }
    check_names(&inputs, &wanted)?;
    if let Some(timeout) = wishes.timeout {
        call.shorten_deadline(timeout);
    }
    call.options = wishes.options;
    call.version = version.map(Into::into);
    let predicted = pipeline::predict(snapshot, target, &call, raw_or_tensors(inputs)?).await?;
    let outputs = match predicted.answer {
        Answer::Tensors(outputs) => outputs,
        Answer::Body(answer) => {
            let shape = Shape::new(&[1]).map_err(|error| tensor_json::to_error(&error))?;
            let data = std::iter::once(&*answer.data);
            let tensor = Tensor::from_strings(shape, data).map_err(|error| tensor_json::to_error(&error))?;
            vec![NamedTensor { name: BODY_TENSOR.into(), tensor }]
        }
    };
    let outputs = select(snapshot, target, outputs, &wanted)?;
    let version = call.version.as_deref().unwrap_or_else(|| served::version(snapshot, target)).to_owned();
    Ok(InferResponse { version, id, outputs, shadow: predicted.shadow })
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

/// A single BYTES element called `body` is a raw body for the plugin.
fn raw_or_tensors(inputs: Vec<NamedTensor>) -> Result<Request> {
    let is_body = inputs.len() == 1
        && find(&inputs, BODY_TENSOR)
            .is_some_and(|tensor| tensor.dtype() == DType::Bytes && tensor.shape().elements() == 1);
    if !is_body {
        return Ok(Request::Tensors(inputs));
    }
    // One element: everything behind its length.
    let data = inputs[0].tensor.to_dense();
    Ok(Request::Body(HttpBody { content_type: None, data: data.slice(size_of::<u32>()..) }))
}

/// The outputs in the order asked for; all of them when none was named.
fn select(
    snapshot: &Snapshot,
    target: &str,
    outputs: Vec<NamedTensor>,
    wanted: &[RequestedOutput],
) -> Result<Vec<NamedTensor>> {
    if wanted.is_empty() {
        return Ok(outputs);
    }
    let pick = |wanted: &RequestedOutput| {
        let found = outputs.iter().find(|output| *output.name == *wanted.name).cloned();
        let output = found.ok_or_else(|| {
            Error::new(Kind::BadRequest, format!("there is no output '{}'", served::shown(&wanted.name)))
        })?;
        match wanted.classification {
            0 => Ok(output),
            count => classification::classify(&output, count, snapshot.answering_model(target)),
        }
    };
    wanted.iter().map(pick).collect()
}
