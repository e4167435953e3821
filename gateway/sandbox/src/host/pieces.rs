//! Work of host functions that grows with a tensor: done a piece at a time, so that it
//! counts like the guest's own computing and can be stopped like it.

use sluice_tensor::{DType, NamedTensor, Tensor};
use wasmtime::Trap;

use crate::error::{CallError, HostFault};
use crate::spawn;
use crate::state::State;
use crate::types::Answer;

/// Elements looked at, or bytes copied, between two looks at the clock: less than a
/// millisecond of work.
pub(super) const PIECE: usize = 256 << 10;

impl State {
    /// Comes between two pieces: what the epoch's tick is to a guest that computes.
    ///
    /// # Errors
    /// The trap of a guest whose budget is used up.
    pub(super) async fn piece_is_done(&mut self) -> wasmtime::Result<()> {
        let used = self.budget.used();
        if used >= self.budget.limit() {
            return Err(Trap::Interrupt.into());
        }
        if used >= self.tick {
            spawn::tick_is_over();
            tokio::task::yield_now().await;
        }
        Ok(())
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
