//! `sluice:plugin/tensors`: tensors that stay with the host.

use std::ops::Range;

use bytes::Bytes;
use sluice_tensor::{DType, Gather, Shape, TENSOR_BYTES_MAX, Tensor, TensorError, TopK, keep_with};
use wasmtime::StoreContextMut;
use wasmtime::component::{HasSelf, Linker, Resource, WasmList};

use super::convert::{dtype_from_guest, dtype_to_guest, shape_from_guest};
use super::pieces::PIECE;
use crate::bindings::sluice::plugin::tensors::{self, Dtype, Host, HostTensor, HostWriter, Ranked};
use crate::error::HostFault;
use crate::held::Charge;
use crate::state::State;

/// Most elements that `top-k` gives at once. Nobody shows as many; sorting them takes a
/// few milliseconds, and they fit a few megabytes. More is 502 `plugin_output`.
const RANKED_MAX: usize = 64 << 10;

/// A tensor that a guest is writing.
#[expect(unreachable_pub, reason = "the generated bindings re-export it")]
pub struct Writer {
    dtype: DType,
    shape: Shape,
    data: Vec<u8>,
    /// For `data`, which takes it along.
    charge: Option<Charge>,
    is_finished: bool,
}

impl Writer {
    /// The bytes that a write of that length covers.
    fn range(&self, offset: u64, len: usize) -> wasmtime::Result<Range<usize>> {
        if self.is_finished {
            return Err(wasmtime::format_err!("writer is finished"));
        }
        let start = usize::try_from(offset).ok();
        let end = start.and_then(|start| start.checked_add(len)).filter(|&end| end <= self.data.len());
        match (start, end) {
            (Some(start), Some(end)) => Ok(start..end),
            _ => Err(wasmtime::format_err!("write reaches past the end of the tensor")),
        }
    }
}

/// Links the interface. `writer.write` is registered by hand over the generated
/// one: it copies once, from the guest's memory into the tensor, where the
/// generated binding would lift the list into a vector first.
pub(crate) fn link(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    tensors::add_to_linker::<State, HasSelf<State>>(linker, |state| state)?;
    linker.allow_shadowing(true);
    linker.instance("sluice:plugin/tensors@0.3.0")?.func_wrap("[method]writer.write", write)?;
    linker.allow_shadowing(false);
    Ok(())
}

pub(crate) fn write(
    mut store: StoreContextMut<'_, State>,
    (writer, offset, data): (Resource<Writer>, u64, WasmList<u8>),
) -> wasmtime::Result<()> {
    let target = store.data_mut().table.get_mut(&writer)?;
    let range = target.range(offset, data.len())?;
    // Guest memory and the table are parts of one store and cannot be borrowed
    // together, so the buffer is taken out for the copy.
    let mut buffer = std::mem::take(&mut target.data);
    buffer[range].copy_from_slice(data.as_le_slice(&store));
    store.data_mut().table.get_mut(&writer)?.data = buffer;
    if data.len() > PIECE {
        // Straight code that writes passes no epoch's check.
        store.data().used_within_budget()?;
    }
    Ok(())
}

fn trap(error: TensorError) -> wasmtime::Error {
    wasmtime::format_err!("{error}")
}

impl Host for State {}

impl HostTensor for State {
    fn dtype(&mut self, tensor: Resource<Tensor>) -> wasmtime::Result<Dtype> {
        Ok(dtype_to_guest(self.table.get(&tensor)?.dtype()))
    }

    fn shape(&mut self, tensor: Resource<Tensor>) -> wasmtime::Result<Vec<u32>> {
        let tensor = self.table.get(&tensor)?;
        tensor.shape().dims().iter().map(|&dim| Ok(u32::try_from(dim)?)).collect()
    }

    fn byte_length(&mut self, tensor: Resource<Tensor>) -> wasmtime::Result<u64> {
        Ok(u64::try_from(self.table.get(&tensor)?.byte_len())?)
    }

    fn read(&mut self, tensor: Resource<Tensor>, offset: u64, len: u32) -> wasmtime::Result<Vec<u8>> {
        let len = usize::try_from(len)?;
        if len > self.hostcall_bytes {
            return Err(wasmtime::format_err!("read of {len} bytes is above the limit of one call"));
        }
        let bytes = self.table.get(&tensor)?.read(usize::try_from(offset)?, len).map_err(trap)?;
        self.give(bytes.len())?;
        Ok(Vec::from(bytes))
    }

    fn read_fp32(&mut self, tensor: Resource<Tensor>, start: u64, count: u32) -> wasmtime::Result<Vec<f32>> {
        let count = usize::try_from(count)?;
        let bytes = count.saturating_mul(size_of::<f32>());
        if bytes > self.hostcall_bytes {
            return Err(wasmtime::format_err!("read of {bytes} bytes is above the limit of one call"));
        }
        let tensor = self.table.get(&tensor)?.clone();
        self.give(bytes.min(tensor.byte_len()))?;
        tensor.read_f32(usize::try_from(start)?, count).map_err(trap)
    }

    async fn gather(
        &mut self,
        tensor: Resource<Tensor>,
        rows: Vec<u32>,
    ) -> wasmtime::Result<Resource<Tensor>> {
        let tensor = self.table.get(&tensor)?.clone();
        let scratch = self.hold(Gather::scratch_bytes(&tensor))?;
        let mut gather = Gather::new(&tensor, &rows).map_err(trap)?;
        let charge = self.hold(gather.bytes())?;
        while gather.copy(PIECE) {
            self.piece_is_done().await?;
        }
        let gathered = gather.finish(|data| keep_with(data, charge)).map_err(trap)?;
        drop(scratch);
        self.push_tensor(gathered)
    }

    fn rows(
        &mut self,
        tensor: Resource<Tensor>,
        start: u32,
        count: u32,
    ) -> wasmtime::Result<Resource<Tensor>> {
        let tensor = self.table.get(&tensor)?;
        let rows = tensor.rows(usize::try_from(start)?, usize::try_from(count)?).map_err(trap)?;
        self.push_tensor(rows)
    }

    async fn top_k(&mut self, tensor: Resource<Tensor>, k: u32) -> wasmtime::Result<Vec<Ranked>> {
        let found = self.table.get(&tensor)?;
        let elements = found.shape().elements();
        let k = usize::try_from(k)?.min(elements);
        if k > RANKED_MAX {
            return Err(HostFault::Output(format!("top-k of {k} elements, at most {RANKED_MAX}")).into());
        }
        let mut search = TopK::new(k);
        if search.look_at(found, PIECE).map_err(trap)? {
            let tensor = found.clone();
            loop {
                self.piece_is_done().await?;
                if !search.look_at(&tensor, PIECE).map_err(trap)? {
                    break;
                }
            }
        }
        let ranked = search.finish();
        ranked
            .into_iter()
            .map(|element| Ok(Ranked { index: u32::try_from(element.index)?, value: element.value }))
            .collect()
    }

    fn drop(&mut self, tensor: Resource<Tensor>) -> wasmtime::Result<()> {
        self.table.delete(tensor)?;
        Ok(())
    }
}

impl HostWriter for State {
    fn new(&mut self, dtype: Dtype, shape: Vec<u32>) -> wasmtime::Result<Resource<Writer>> {
        let dtype = dtype_from_guest(dtype);
        let shape = shape_from_guest(&shape).map_err(trap)?;
        let bytes = shape.bytes(dtype).map_err(trap)?.ok_or_else(|| trap(TensorError::Unsupported(dtype)))?;
        if bytes > TENSOR_BYTES_MAX {
            return Err(trap(TensorError::TooLarge { bytes, max: TENSOR_BYTES_MAX }));
        }
        let charge = Some(self.hold(bytes)?);
        Ok(self.table.push(Writer { dtype, shape, data: vec![0; bytes], charge, is_finished: false })?)
    }

    /// Never called: `link` registers [`write`] in its place.
    fn write(&mut self, writer: Resource<Writer>, offset: u64, data: Vec<u8>) -> wasmtime::Result<()> {
        let writer = self.table.get_mut(&writer)?;
        let range = writer.range(offset, data.len())?;
        writer.data[range].copy_from_slice(&data);
        Ok(())
    }

    fn finish(&mut self, writer: Resource<Writer>) -> wasmtime::Result<Resource<Tensor>> {
        let writer = self.table.get_mut(&writer)?;
        if std::mem::replace(&mut writer.is_finished, true) {
            return Err(wasmtime::format_err!("writer is finished"));
        }
        let data = std::mem::take(&mut writer.data);
        let data = writer.charge.take().map_or_else(Bytes::new, |charge| keep_with(data, charge));
        let (dtype, shape) = (writer.dtype, writer.shape);
        // A tensor of truth values may hold other bytes: only now is that seen.
        let tensor =
            Tensor::dense(dtype, shape, data).map_err(|error| HostFault::Output(error.to_string()))?;
        self.push_tensor(tensor)
    }

    fn drop(&mut self, writer: Resource<Writer>) -> wasmtime::Result<()> {
        self.table.delete(writer)?;
        Ok(())
    }
}
