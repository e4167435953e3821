//! A simulated model and its instances.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use sluice_tensor::{NamedTensor, Shape, Signature, Tensor, TensorError};

use super::program::{Program, Rule, Then, When};
use crate::batch::run_batch;
use crate::scatter::RawOutput;
use crate::staging::Staging;
use crate::{BatchOutput, EngineError, Instance, Interrupt, Model, Padding};

/// How long a hanging run sleeps before it looks up again.
const HANG: Duration = Duration::from_secs(3600);

/// A loaded program.
pub(super) struct SimModel {
    shared: Arc<Shared>,
}

struct Shared {
    program: Program,
    batched: bool,
    runs: AtomicU64,
    instances: AtomicUsize,
}

impl SimModel {
    pub(super) fn new(program: Program, batched: bool) -> Self {
        let shared = Shared { program, batched, runs: AtomicU64::new(0), instances: AtomicUsize::new(0) };
        Self { shared: Arc::new(shared) }
    }
}

impl Model for SimModel {
    fn signature(&self) -> &Signature {
        &self.shared.program.signature
    }

    fn instance(&self) -> Result<Box<dyn Instance>, EngineError> {
        let before = self.shared.instances.fetch_add(1, Ordering::AcqRel);
        // It gives its place back when it is dropped, also if it is refused here.
        let instance = SimInstance {
            staging: Staging::new(&self.shared.program.signature),
            shared: Arc::clone(&self.shared),
        };
        if before >= self.shared.program.instances_max {
            return Err(EngineError::OutOfMemory(format!("there are {before} instances already")));
        }
        Ok(Box::new(instance))
    }
}

struct SimInstance {
    shared: Arc<Shared>,
    staging: Staging,
}

impl Drop for SimInstance {
    fn drop(&mut self) {
        self.shared.instances.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Instance for SimInstance {
    fn run(&mut self, members: &[&[NamedTensor]], interrupt: &Interrupt) -> Result<BatchOutput, EngineError> {
        let program = &self.shared.program;
        let number = self.shared.runs.fetch_add(1, Ordering::AcqRel) + 1;
        let fault = program.faults.iter().find(|fault| match fault.when {
            When::Every(period) => number.is_multiple_of(period),
            When::Run(this) => number == this,
            When::Value(value) => holds(members, value),
        });
        let then = fault.map(|fault| fault.then);
        let compute = |staging: &mut Staging| program.compute(staging, then, interrupt);
        run_batch(&program.signature, self.shared.batched, &mut self.staging, members, interrupt, compute)
    }

    fn pad(&mut self, padding: Option<Arc<Padding>>) {
        self.staging.pad(padding);
    }
}

/// Whether any element of any input has this value.
fn holds(members: &[&[NamedTensor]], value: f64) -> bool {
    let elements = members.iter().copied().flatten().filter_map(|input| input.tensor.to_f64().ok());
    elements.flatten().any(|element| element.to_bits() == value.to_bits())
}

impl Program {
    fn compute(
        &self,
        staging: &Staging,
        then: Option<Then>,
        interrupt: &Interrupt,
    ) -> Result<Vec<RawOutput>, EngineError> {
        let rows = staging.inputs().first().and_then(|input| input.dims().first()).copied().unwrap_or(1);
        let per_row = self.latency_per_row.saturating_mul(u32::try_from(rows).unwrap_or(u32::MAX));
        if interrupt.wait(self.latency_base.saturating_add(per_row)) {
            return Err(EngineError::Interrupted);
        }
        match then {
            Some(Then::Fail) => return Err(EngineError::Run("told to fail".to_owned())),
            Some(Then::Refuse) => return Err(EngineError::Input("told to refuse".to_owned())),
            Some(Then::OutOfMemory) => return Err(EngineError::OutOfMemory("told to run out".to_owned())),
            Some(Then::Panic) => panic!("the simulated model was told to panic"),
            Some(Then::Hang) => {
                while !interrupt.wait(HANG) {}
                return Err(EngineError::Interrupted);
            }
            Some(Then::HangDeaf) => loop {
                std::thread::park();
            },
            Some(Then::WrongRows) | None => {}
        }
        if rows > self.rows_max {
            return Err(EngineError::OutOfMemory(format!(
                "{rows} rows, there is room for {}",
                self.rows_max
            )));
        }
        let mut outputs: Vec<RawOutput> = self
            .rules
            .iter()
            .map(|rule| self.output(*rule, staging, rows))
            .collect::<Result<_, _>>()
            .map_err(|error| EngineError::Run(error.to_string()))?;
        if then == Some(Then::WrongRows) {
            for output in &mut outputs {
                lose_last_row(output).map_err(|error| EngineError::Run(error.to_string()))?;
            }
        }
        Ok(outputs)
    }

    fn output(&self, rule: Rule, staging: &Staging, rows: usize) -> Result<RawOutput, TensorError> {
        match rule {
            Rule::Echo(place) => {
                let input = &staging.inputs()[place];
                let data = Bytes::copy_from_slice(input.bytes());
                Ok(RawOutput { shape: Shape::new(input.dims())?, data })
            }
            Rule::Sum(place) => {
                let input = &staging.inputs()[place];
                let shape = Shape::new(input.dims())?;
                let dtype = self.signature.inputs[place].dtype;
                let data = Bytes::copy_from_slice(input.bytes());
                let values = Tensor::dense(dtype, shape, data)?.to_f64()?;
                // Also a row without elements has a sum.
                let each = shape.row_elements();
                let sums =
                    (0..shape.rows()).map(|row| values.iter().skip(row * each).take(each).sum::<f64>());
                let mut data: Vec<u8> = Vec::with_capacity(rows * size_of::<f32>());
                for sum in sums {
                    data.extend_from_slice(&to_f32(sum).to_le_bytes());
                }
                Ok(RawOutput { shape: Shape::new(&[shape.rows()])?, data: data.into() })
            }
            Rule::BatchRows => {
                let each = i64::try_from(rows).unwrap_or(i64::MAX).to_le_bytes();
                Ok(RawOutput { shape: Shape::new(&[rows])?, data: each.repeat(rows).into() })
            }
        }
    }
}

fn lose_last_row(output: &mut RawOutput) -> Result<(), TensorError> {
    let rows = output.shape.rows();
    let row_bytes = output.data.len().checked_div(rows).unwrap_or(0);
    output.data.truncate(output.data.len() - row_bytes);
    output.shape = output.shape.with_rows(rows.saturating_sub(1))?;
    Ok(())
}

#[allow(clippy::cast_possible_truncation, reason = "a sum is given in the precision of the output")]
fn to_f32(sum: f64) -> f32 {
    sum as f32
}
