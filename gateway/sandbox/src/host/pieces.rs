//! Work of host functions that grows with a tensor: done a piece at a time, so that it
//! counts like the guest's own computing and can be stopped like it.

use std::sync::Arc;
use std::time::Duration;

use sluice_tensor::{DType, NamedTensor, Tensor};
use wasmtime::Trap;

use crate::budget::{self, Budget};
use crate::error::{CallError, HostFault};
use crate::spawn;
use crate::state::State;
use crate::types::Answer;

/// Elements looked at, or bytes copied, between two looks at the clock: less than a
/// millisecond of work.
pub(super) const PIECE: usize = 256 << 10;

/// A host function that takes longer than this part of a tick is followed by others' turn.
const LONG_PART: u32 = 4;

impl State {
    /// Comes between two pieces: what the epoch's tick is to a guest that computes.
    ///
    /// # Errors
    /// The trap of a guest whose budget is used up.
    pub(super) async fn piece_is_done(&mut self) -> wasmtime::Result<()> {
        if self.used_within_budget()? >= self.tick {
            step_aside(Arc::clone(&self.budget)).await;
        }
        Ok(())
    }

    /// Comes after a host function that computed for itself since the budget's clock stood at
    /// `before`: straight code that calls such functions passes no epoch's check.
    ///
    /// # Errors
    /// The trap of a guest whose budget is used up.
    pub(super) async fn is_done_since(&mut self, before: Duration) -> wasmtime::Result<()> {
        let took = self.used_within_budget()?.saturating_sub(before);
        if took >= self.tick / LONG_PART {
            step_aside(Arc::clone(&self.budget)).await;
        }
        Ok(())
    }

    /// What was used of the budget.
    ///
    /// # Errors
    /// The trap of a guest that has used it up.
    pub(super) fn used_within_budget(&self) -> wasmtime::Result<Duration> {
        let used = self.budget.used();
        if used >= self.budget.limit() { Err(Trap::Interrupt.into()) } else { Ok(used) }
    }

    /// Writes out what the guest gave as sparse rows: whoever encodes an answer has no
    /// budget of a guest to do it in.
    pub(super) async fn write_out(&mut self, tensors: &mut [NamedTensor]) -> wasmtime::Result<()> {
        for named in tensors.iter_mut().filter(|named| !named.tensor.is_dense()) {
            named.tensor = self.dense(&named.tensor).await?;
        }
        Ok(())
    }

    async fn dense(&mut self, tensor: &Tensor) -> wasmtime::Result<Tensor> {
        let shape = *tensor.shape();
        let bytes = tensor.byte_len();
        if bytes == 0 {
            return Ok(Tensor::dense(tensor.dtype(), shape, tensor.to_dense())?);
        }
        let charge = self.hold(bytes)?;
        let mut data = vec![0; bytes];
        let row_bytes = shape.row_elements() * size_of::<f32>();
        let rows_at_once = (PIECE * size_of::<f32>() / row_bytes).max(1);
        for (piece, out) in data.chunks_mut(rows_at_once * row_bytes).enumerate() {
            tensor.rows(piece * rows_at_once, out.len() / row_bytes)?.write_into(out);
            self.piece_is_done().await?;
        }
        Ok(Tensor::dense(DType::F32, shape, sluice_tensor::keep_with(data, charge))?)
    }
}

async fn step_aside(budget: Arc<Budget>) {
    spawn::tick_is_over();
    budget::step_aside(budget).await;
}

/// The answer with every element written out.
///
/// # Errors
/// The plugin's budget or memory is used up.
pub(crate) async fn written_out(state: &mut State, answer: Answer) -> Result<Answer, CallError> {
    let Answer::Tensors(mut tensors) = answer else { return Ok(answer) };
    state.write_out(&mut tensors).await.map_err(|error| match error.downcast_ref::<HostFault>() {
        Some(HostFault::Memory) => CallError::Memory,
        _ if error.downcast_ref::<Trap>().is_some() => CallError::Timeout,
        _ => CallError::Output(error.to_string()),
    })?;
    Ok(Answer::Tensors(tensors))
}
