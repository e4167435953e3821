//! Which of a model's inputs and outputs are whose, and a batch made of them.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use sluice_tensor::{
    DType, Dim, NamedTensor, Shape, Signature, TENSOR_BYTES_MAX, Tensor, TensorError, TensorSpec,
};

use super::State;
use super::values::{self, Pair};
use crate::config::{self, ControlKind};
use crate::pipeline::SequenceId;

/// Which of a model's inputs and outputs are the clients', and what the others are.
pub(in crate::catalog) struct Plan {
    inputs: Vec<(TensorSpec, Source)>,
    outputs: Vec<Sink>,
    /// What each state is at the start of a sequence.
    initial: State,
    /// The input that each state goes into.
    state_inputs: Vec<TensorSpec>,
    batched: bool,
    state_bytes_max: usize,
}

/// What an input is filled with.
enum Source {
    /// The client's input of this number.
    Client(usize),
    Start(Pair),
    Ready(Pair),
    End(Pair),
    Id,
    /// What the sequence remembers, by number.
    State(usize),
}

/// Where an output goes.
enum Sink {
    Client,
    State(usize),
}

/// One row of a batch.
pub(super) struct Row<'a> {
    pub(super) place: usize,
    pub(super) inputs: &'a [NamedTensor],
    pub(super) id: &'a Bytes,
    pub(super) start: bool,
    pub(super) end: bool,
    /// None at the start.
    pub(super) state: Option<&'a State>,
}

/// Why the outputs of a run are not a sequence's next state.
#[derive(Debug)]
pub(super) enum Unfit {
    /// There is more of it than may be kept.
    TooLarge { bytes: usize, max: usize },
    /// It is not what the model takes.
    Wrong(String),
}

impl Plan {
    /// What clients see is the rest of the signature.
    pub(super) fn new(
        config: &config::Sequence,
        file: &Signature,
        batched: bool,
    ) -> Result<(Self, Signature), String> {
        check_names(config, file)?;
        let mut seen = Signature::default();
        let mut inputs = Vec::with_capacity(file.inputs.len());
        for spec in &file.inputs {
            let control = config.controls.iter().find(|control| control.input == spec.name);
            let state = config.states.iter().position(|state| state.input == spec.name);
            let source = match (control, state) {
                (Some(control), _) => self::control(control, spec, batched)?,
                (None, Some(number)) => Source::State(number),
                (None, None) => {
                    seen.inputs.push(spec.clone());
                    Source::Client(seen.inputs.len() - 1)
                }
            };
            inputs.push((spec.clone(), source));
        }
        let mut outputs = Vec::with_capacity(file.outputs.len());
        for spec in &file.outputs {
            match config.states.iter().position(|state| state.output == spec.name) {
                Some(number) => outputs.push(Sink::State(number)),
                None => {
                    seen.outputs.push(spec.clone());
                    outputs.push(Sink::Client);
                }
            }
        }
        let mut initial = Vec::with_capacity(config.states.len());
        let mut state_inputs = Vec::with_capacity(config.states.len());
        for state in &config.states {
            let spec = file.inputs.iter().find(|spec| spec.name == state.input);
            let Some(spec) = spec else { continue };
            initial.push(self::initial(state, spec, batched)?);
            state_inputs.push(spec.clone());
        }
        let bytes: usize = initial.iter().map(Tensor::byte_len).sum();
        if bytes > config.state_bytes_max {
            let max = config.state_bytes_max;
            return Err(format!("its states have {bytes} bytes, state_bytes_max allows {max}"));
        }
        let initial = initial.into();
        let state_bytes_max = config.state_bytes_max;
        Ok((Self { inputs, outputs, initial, state_inputs, batched, state_bytes_max }, seen))
    }

    /// A sequence's id as the model wants it; nothing if it does not ask.
    pub(super) fn encode_id(&self, id: &SequenceId) -> Result<Bytes, &'static str> {
        let input = self.inputs.iter().find(|(_, source)| matches!(source, Source::Id));
        input.map_or(Ok(Bytes::new()), |(spec, _)| values::id(spec.dtype, id))
    }

    /// The inputs of a batch of so many rows. Rows that nobody has are empty: not ready,
    /// and zeros everywhere else.
    ///
    /// # Errors
    /// The rows have different dimensions, or are too much together.
    pub(super) fn gather(&self, rows: usize, members: &[Row<'_>]) -> Result<Vec<NamedTensor>, TensorError> {
        let gather = |(spec, source): &(TensorSpec, Source)| {
            let tensor = self.gather_input(spec, source, rows, members)?;
            Ok(NamedTensor { name: Arc::clone(&spec.name), tensor })
        };
        self.inputs.iter().map(gather).collect()
    }

    /// The inputs of a batch in which each row begins a sequence.
    ///
    /// # Errors
    /// As [`Self::gather`].
    pub(super) fn complete(&self, inputs: &[NamedTensor]) -> Result<Vec<NamedTensor>, TensorError> {
        let rows = match inputs.first() {
            Some(input) if self.batched => input.tensor.shape().rows(),
            _ => 1,
        };
        let row = |place: usize| -> Result<Vec<NamedTensor>, TensorError> {
            let cut = |input: &NamedTensor| match self.batched {
                true => {
                    Ok(NamedTensor { name: Arc::clone(&input.name), tensor: input.tensor.rows(place, 1)? })
                }
                false => Ok(input.clone()),
            };
            inputs.iter().map(cut).collect()
        };
        let cut: Vec<Vec<NamedTensor>> = (0..rows).map(row).collect::<Result<_, _>>()?;
        let fault = |what: &str| TensorError::Signature(what.to_owned());
        let id = self.encode_id(&SequenceId::Number(1)).map_err(fault)?;
        let members: Vec<Row<'_>> = cut
            .iter()
            .enumerate()
            .map(|(place, inputs)| Row { place, inputs, id: &id, start: true, end: false, state: None })
            .collect();
        self.gather(rows, &members)
    }

    fn gather_input(
        &self,
        spec: &TensorSpec,
        source: &Source,
        rows: usize,
        members: &[Row<'_>],
    ) -> Result<Tensor, TensorError> {
        let tensor_of = |row: &Row<'_>| match source {
            Source::Client(number) => row.inputs.get(*number).map(|input| input.tensor.clone()),
            Source::State(number) => row.state.unwrap_or(&self.initial).get(*number).cloned(),
            Source::Start(pair) => element(spec, pair.of(row.start).clone(), self.batched),
            Source::Ready(pair) => element(spec, pair.of(true).clone(), self.batched),
            Source::End(pair) => element(spec, pair.of(row.end).clone(), self.batched),
            Source::Id => element(spec, row.id.clone(), self.batched),
        };
        let missing = || TensorError::Signature(format!("'{}' has no value", spec.name));
        let tensors: Vec<Tensor> =
            members.iter().map(|row| tensor_of(row).ok_or_else(missing)).collect::<Result<_, _>>()?;
        let first = tensors.first().ok_or_else(missing)?;
        if !self.batched {
            return Ok(first.clone());
        }
        let shape = first.shape().with_rows(1)?;
        if let Some(odd) = tensors.iter().find(|tensor| *tensor.shape() != shape) {
            return Err(TensorError::Signature(format!("{} and {shape} share no batch", odd.shape())));
        }
        let empty = match source {
            Source::Start(pair) | Source::Ready(pair) | Source::End(pair) => pair.of(false).to_vec(),
            Source::Client(_) | Source::State(_) | Source::Id => zeros(spec.dtype, &shape)?,
        };
        let filled: usize = tensors.iter().map(Tensor::byte_len).sum();
        let bytes = empty.len().checked_mul(rows - members.len()).and_then(|empty| empty.checked_add(filled));
        let bytes = bytes.ok_or(TensorError::Overflow)?;
        if bytes > TENSOR_BYTES_MAX {
            return Err(TensorError::TooLarge { bytes, max: TENSOR_BYTES_MAX });
        }
        let mut data = Vec::with_capacity(bytes);
        let mut next = members.iter().zip(&tensors).peekable();
        for place in 0..rows {
            match next.next_if(|(row, _)| row.place == place) {
                Some((_, tensor)) => data.extend_from_slice(&tensor.bytes()),
                None => data.extend_from_slice(&empty),
            }
        }
        Tensor::dense(spec.dtype, shape.with_rows(rows)?, data.into())
    }

    /// What a batch gave the row at this place: the client's outputs, and what its sequence
    /// remembers from now on.
    pub(super) fn scatter(
        &self,
        outputs: &[NamedTensor],
        place: usize,
    ) -> Result<(Vec<NamedTensor>, State), Unfit> {
        let wrong = |error: TensorError| Unfit::Wrong(error.to_string());
        let mut seen = Vec::with_capacity(outputs.len());
        let mut states: Vec<Option<Tensor>> = vec![None; self.state_inputs.len()];
        let mut bytes = 0_usize;
        for (output, sink) in outputs.iter().zip(&self.outputs) {
            let tensor = if self.batched {
                output.tensor.rows(place, 1).map_err(wrong)?
            } else {
                output.tensor.clone()
            };
            let Sink::State(number) = sink else {
                seen.push(NamedTensor { name: Arc::clone(&output.name), tensor });
                continue;
            };
            self.state_inputs[*number].check("its state", &tensor).map_err(wrong)?;
            bytes = bytes.saturating_add(tensor.byte_len());
            if bytes > self.state_bytes_max {
                return Err(Unfit::TooLarge { bytes, max: self.state_bytes_max });
            }
            // A slice would keep the whole batch's memory for as long as the sequence lives.
            let own = Bytes::copy_from_slice(&tensor.bytes());
            states[*number] = Some(Tensor::dense(tensor.dtype(), *tensor.shape(), own).map_err(wrong)?);
        }
        let states: Option<Vec<_>> = states.into_iter().collect();
        let states = states.ok_or_else(|| Unfit::Wrong("a state did not come out".to_owned()))?;
        Ok((seen, states.into()))
    }
}

/// Every name is the model's, and none has two uses.
fn check_names(config: &config::Sequence, file: &Signature) -> Result<(), String> {
    let is_there = |specs: &[TensorSpec], name: &str| specs.iter().any(|spec| *spec.name == *name);
    let mut used = BTreeSet::new();
    let mut outputs = BTreeSet::new();
    let inputs = config.controls.iter().map(|control| &control.input);
    for input in inputs.chain(config.states.iter().map(|state| &state.input)) {
        if !is_there(&file.inputs, input) {
            return Err(format!("sequence: the model has no input '{input}'"));
        }
        if !used.insert(input) {
            return Err(format!("sequence: input '{input}' is used twice"));
        }
    }
    for state in &config.states {
        if !is_there(&file.outputs, &state.output) {
            return Err(format!("sequence: the model has no output '{}'", state.output));
        }
        if !outputs.insert(&state.output) {
            return Err(format!("sequence: output '{}' is used twice", state.output));
        }
    }
    for (kind, name) in [
        (ControlKind::Start, "start"),
        (ControlKind::Ready, "ready"),
        (ControlKind::End, "end"),
        (ControlKind::Corrid, "corrid"),
    ] {
        if config.controls.iter().filter(|control| control.kind == kind).count() > 1 {
            return Err(format!("sequence: there are two control inputs of the kind \"{name}\""));
        }
    }
    Ok(())
}

fn control(control: &config::Control, spec: &TensorSpec, batched: bool) -> Result<Source, String> {
    let name = &spec.name;
    check_dtype(control.dtype, spec)?;
    if element_shape(spec, batched).is_none_or(|shape| shape.elements() != 1) {
        return Err(format!("control input '{name}' has more than one element for each request"));
    }
    match control.kind {
        ControlKind::Start => Pair::new(control, spec).map(Source::Start),
        ControlKind::Ready => Pair::new(control, spec).map(Source::Ready),
        ControlKind::End => Pair::new(control, spec).map(Source::End),
        ControlKind::Corrid if values::carries_ids(spec.dtype) => Ok(Source::Id),
        ControlKind::Corrid => Err(format!(
            "control input '{name}' has datatype {}, and a sequence's id is UINT64, INT64, UINT32, INT32 or BYTES",
            spec.dtype
        )),
    }
}

fn check_dtype(declared: Option<DType>, spec: &TensorSpec) -> Result<(), String> {
    match declared {
        Some(dtype) if dtype != spec.dtype => {
            Err(format!("sequence: '{}' is declared as {dtype}, the model has {}", spec.name, spec.dtype))
        }
        _ => Ok(()),
    }
}

/// The shape of one request's part of an input whose sizes may all be 1 where they vary.
fn element_shape(spec: &TensorSpec, batched: bool) -> Option<Shape> {
    let size = |(place, dim): (usize, &Dim)| match dim {
        _ if batched && place == 0 => 1,
        Dim::Fixed(size) => *size,
        Dim::Any(_) => 1,
    };
    let dims: Vec<usize> = spec.dims.iter().enumerate().map(size).collect();
    Shape::new(&dims).ok()
}

fn element(spec: &TensorSpec, data: Bytes, batched: bool) -> Option<Tensor> {
    Tensor::dense(spec.dtype, element_shape(spec, batched)?, data).ok()
}

/// What a state is at the start of a sequence.
fn initial(state: &config::SequenceState, spec: &TensorSpec, batched: bool) -> Result<Tensor, String> {
    check_dtype(state.dtype, spec)?;
    let shape = match &state.dims {
        None => element_shape(spec, batched),
        Some(dims) if batched => Shape::new(&[&[1], dims.as_slice()].concat()).ok(),
        Some(dims) => Shape::new(dims).ok(),
    };
    let name = &spec.name;
    let shape = shape.ok_or_else(|| format!("state '{name}' has too many dimensions, or too large ones"))?;
    let data = match &state.initial {
        Some(data) => data.clone(),
        None => zeros(spec.dtype, &shape).map_err(|error| format!("state '{name}': {error}"))?.into(),
    };
    let tensor =
        Tensor::dense(spec.dtype, shape, data).map_err(|error| format!("state '{name}': {error}"))?;
    spec.check("its state", &tensor).map_err(|error| error.to_string())?;
    Ok(tensor)
}

/// Zeros, or empty strings.
fn zeros(dtype: DType, shape: &Shape) -> Result<Vec<u8>, TensorError> {
    let each = dtype.size().unwrap_or(size_of::<u32>());
    let bytes = shape.elements().checked_mul(each).ok_or(TensorError::Overflow)?;
    if bytes > TENSOR_BYTES_MAX {
        return Err(TensorError::TooLarge { bytes, max: TENSOR_BYTES_MAX });
    }
    Ok(vec![0; bytes])
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
