//! The buffers that an instance reads its inputs from, and the gather into them.

use std::sync::Arc;

use sluice_tensor::{NamedTensor, Shape, Signature, TensorError};

use crate::{EngineError, Padding};

// Tensors are little-endian on the wire and are read here as they lie.
#[cfg(not(target_endian = "little"))]
compile_error!("the engine crate needs a little-endian machine");

/// Bytes of a cache line, to which every buffer is aligned: more than any element
/// type needs, and what vector loads like best.
const ALIGNMENT_BYTES: usize = 64;

/// Most bytes one input's buffer keeps for the next batch when that needs less
/// than a quarter of them. 16 MiB holds 64 rows of 64 K floats; a rare larger
/// batch gives its memory back.
const STAGING_BYTES_KEPT_MAX: usize = 16 << 20;

#[repr(C, align(64))]
#[derive(Clone, Copy)]
struct Line([u8; ALIGNMENT_BYTES]);

/// A reusable, aligned run of bytes.
#[derive(Default)]
struct AlignedBuffer {
    lines: Vec<Line>,
    len: usize,
}

impl AlignedBuffer {
    /// Sets the length. What was there stays, so every byte must be written again.
    fn resize(&mut self, len: usize) -> Result<(), EngineError> {
        let lines = len.div_ceil(ALIGNMENT_BYTES);
        let kept = self.lines.len() * ALIGNMENT_BYTES;
        if kept > STAGING_BYTES_KEPT_MAX && len < kept / 4 {
            self.lines = Vec::new();
        }
        if lines > self.lines.len() {
            let more = lines - self.lines.len();
            self.lines
                .try_reserve_exact(more)
                .map_err(|error| EngineError::OutOfMemory(format!("staging {len} bytes: {error}")))?;
            self.lines.resize(lines, Line([0; ALIGNMENT_BYTES]));
        }
        self.len = len;
        Ok(())
    }

    fn as_slice(&self) -> &[u8] {
        // SAFETY: the lines are initialised plain bytes without padding, and `resize`
        // keeps `len` at most their total size.
        unsafe { std::slice::from_raw_parts(self.lines.as_ptr().cast(), self.len) }
    }

    fn as_mut_slice(&mut self) -> &mut [u8] {
        // SAFETY: as in `as_slice`; the borrow of `self` is exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.lines.as_mut_ptr().cast(), self.len) }
    }
}

/// One input of the batch, gathered.
pub(crate) struct StagedInput {
    buffer: AlignedBuffer,
    shape: Option<Shape>,
}

/// Element types that any bytes are a value of.
pub(crate) trait Plain: Copy {}
impl Plain for f32 {}
impl Plain for i8 {}
impl Plain for u8 {}
impl Plain for i16 {}
impl Plain for u16 {}
impl Plain for i32 {}
impl Plain for u32 {}
impl Plain for i64 {}
impl Plain for u64 {}

impl StagedInput {
    /// The dimensions, all members' rows together.
    pub(crate) fn dims(&self) -> &[usize] {
        self.shape.as_ref().map_or(&[], Shape::dims)
    }

    /// How many elements there are.
    pub(crate) fn elements(&self) -> usize {
        self.shape.as_ref().map_or(0, Shape::elements)
    }

    /// The bytes; BYTES elements each behind their length.
    pub(crate) fn bytes(&self) -> &[u8] {
        self.buffer.as_slice()
    }

    /// The bytes, for an engine whose interface wants them writable.
    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        self.buffer.as_mut_slice()
    }

    /// The elements, in place.
    pub(crate) fn elements_of<T: Plain>(&self) -> &[T] {
        let bytes = self.bytes();
        // SAFETY: any bytes are a value of a `Plain` type, the buffer is aligned to 64
        // bytes, and the length is rounded down to whole elements.
        unsafe { std::slice::from_raw_parts(bytes.as_ptr().cast(), bytes.len() / size_of::<T>()) }
    }
}

/// The inputs of one instance.
pub(crate) struct Staging {
    inputs: Vec<StagedInput>,
    padding: Option<Arc<Padding>>,
    /// The size that the gathered inputs are padded to.
    padded_to: Option<usize>,
}

impl Staging {
    pub(crate) fn new(signature: &Signature) -> Self {
        let empty = |_| StagedInput { buffer: AlignedBuffer::default(), shape: None };
        let inputs = signature.inputs.iter().map(empty).collect();
        Self { inputs, padding: None, padded_to: None }
    }

    /// Pads from the next batch on.
    pub(crate) fn pad(&mut self, padding: Option<Arc<Padding>>) {
        self.padding = padding;
        self.padded_to = None;
    }

    /// How the gathered inputs are padded, and to which size.
    pub(crate) fn padded(&self) -> Option<(Arc<Padding>, usize)> {
        self.padding.clone().zip(self.padded_to)
    }

    pub(crate) fn inputs(&self) -> &[StagedInput] {
        &self.inputs
    }

    pub(crate) fn inputs_mut(&mut self) -> &mut [StagedInput] {
        &mut self.inputs
    }

    /// Whether the memory that starts here belongs to a buffer, which the next
    /// batch overwrites.
    pub(crate) fn contains(&self, start: *const u8) -> bool {
        self.inputs.iter().any(|input| input.bytes().as_ptr_range().contains(&start))
    }

    /// Writes every member's rows behind those of the member before it: for each
    /// tensor the one copy it makes, which also writes out sparse rows.
    pub(crate) fn gather(&mut self, members: &[&[NamedTensor]]) -> Result<(), EngineError> {
        if let Some(odd) = members.iter().find(|member| member.len() != self.inputs.len()) {
            let (got, want) = (odd.len(), self.inputs.len());
            return Err(EngineError::Input(format!("{got} inputs given, the model takes {want}")));
        }
        let padding = self.padding.as_deref();
        self.padded_to = padding.map(|padding| padding.size_of(members)).transpose()?;
        for (index, input) in self.inputs.iter_mut().enumerate() {
            let padding = padding.zip(self.padded_to).filter(|(padding, _)| padding.pads(index));
            match padding {
                None => input.gather(members, index)?,
                Some((padding, size)) => input.gather_padded(members, index, padding, size)?,
            }
        }
        Ok(())
    }
}

impl StagedInput {
    fn gather(&mut self, members: &[&[NamedTensor]], index: usize) -> Result<(), EngineError> {
        let tensors = || members.iter().map(|member| &member[index].tensor);
        let unfit = |error: TensorError| EngineError::Input(error.to_string());
        let shape = joined(tensors().map(|tensor| tensor.shape()))?;
        let mut bytes = 0usize;
        for tensor in tensors() {
            bytes = bytes.checked_add(tensor.byte_len()).ok_or_else(|| unfit(TensorError::Overflow))?;
        }
        // The engine takes the shape's word for how much memory there is.
        let dtype = tensors().next().map(sluice_tensor::Tensor::dtype);
        if let Some(dtype) = dtype
            && let Some(want) = shape.bytes(dtype).map_err(unfit)?
            && want != bytes
        {
            return Err(unfit(TensorError::Length { got: bytes, want }));
        }
        self.buffer.resize(bytes)?;
        let mut rest = self.buffer.as_mut_slice();
        for tensor in tensors() {
            let (rows, behind) = rest.split_at_mut(tensor.byte_len());
            tensor.write_into(rows);
            rest = behind;
        }
        self.shape = Some(shape);
        Ok(())
    }
}

impl StagedInput {
    /// The same with every member's rows filled up to a common size.
    fn gather_padded(
        &mut self,
        members: &[&[NamedTensor]],
        index: usize,
        padding: &Padding,
        size: usize,
    ) -> Result<(), EngineError> {
        let tensors = || members.iter().map(|member| &member[index].tensor);
        let unfit = |error: TensorError| EngineError::Input(error.to_string());
        let shapes = tensors().map(|tensor| padding.shape(tensor.shape(), size));
        let shapes = shapes.collect::<Result<Vec<_>, _>>().map_err(unfit)?;
        let shape = joined(shapes.iter())?;
        let element = padding.element(index).unwrap_or_default();
        let bytes = |shape: &Shape| shape.elements().checked_mul(element.len()).ok_or(TensorError::Overflow);
        self.buffer.resize(bytes(&shape).map_err(unfit)?)?;
        let mut rest = self.buffer.as_mut_slice();
        for (tensor, shape) in tensors().zip(&shapes) {
            let longest = tensor.shape().dims().get(padding.axis()).is_none_or(|length| *length > size);
            if longest || tensor.dtype().size() != Some(element.len()) {
                return Err(EngineError::Input("an input is not as long as its request".to_owned()));
            }
            let (rows, behind) = rest.split_at_mut(bytes(shape).map_err(unfit)?);
            padding.write(tensor, element, size, rows);
            rest = behind;
        }
        self.shape = Some(shape);
        Ok(())
    }
}

/// The shape of all members' rows together.
fn joined<'a>(mut shapes: impl Iterator<Item = &'a Shape>) -> Result<Shape, EngineError> {
    let first = *shapes.next().ok_or_else(|| EngineError::Input("the batch is empty".to_owned()))?;
    let mut rows = first.rows();
    let mut alone = true;
    for shape in shapes {
        alone = false;
        if shape.rank() != first.rank() || shape.dims().get(1..) != first.dims().get(1..) {
            return Err(EngineError::Input(format!("shapes {first} and {shape} do not share a batch")));
        }
        rows = rows.saturating_add(shape.rows());
    }
    if alone {
        return Ok(first);
    }
    first.with_rows(rows).map_err(|error| EngineError::Input(error.to_string()))
}

#[cfg(test)]
mod tests {
    use sluice_tensor::{DType, Dim, SparseRows, Tensor, TensorSpec};

    use super::*;

    fn signature() -> Signature {
        let dims = vec![Dim::Any(None), Dim::Any(None)];
        Signature { inputs: vec![TensorSpec { name: "x".into(), dtype: DType::F32, dims }], outputs: vec![] }
    }

    fn member(tensor: Tensor) -> Vec<NamedTensor> {
        vec![NamedTensor { name: "x".into(), tensor }]
    }

    fn dense(dims: &[usize], first: f32) -> Vec<NamedTensor> {
        let shape = Shape::new(dims).expect("fits");
        let values: Vec<f32> = (0..shape.elements()).map(|index| first + index as f32).collect();
        member(Tensor::from_f32(shape, &values).expect("valid"))
    }

    #[test]
    fn rows_lie_behind_each_other_and_sparse_ones_are_written_out() {
        let sparse = SparseRows::new(2, (vec![1], vec![9.0]), vec![0, 0, 1], (vec![0], vec![4.0]));
        let sparse = member(Tensor::sparse(sparse.expect("valid")).expect("small"));
        let mut staging = Staging::new(&signature());
        let (first, last) = (dense(&[1, 2], 1.0), dense(&[2, 2], 5.0));
        staging.gather(&[&first, &sparse, &last]).expect("fits");
        let input = &staging.inputs()[0];
        assert_eq!(input.dims(), [5, 2]);
        assert_eq!(input.elements_of::<f32>(), [1.0, 2.0, 0.0, 9.0, 4.0, 9.0, 5.0, 6.0, 7.0, 8.0]);
        assert_eq!(input.bytes().as_ptr().align_offset(ALIGNMENT_BYTES), 0);
        // A smaller batch in the same buffer shows nothing of the larger one.
        staging.gather(&[&dense(&[1, 1], 3.0)]).expect("fits");
        assert_eq!(staging.inputs()[0].elements_of::<f32>(), [3.0]);
    }

    #[test]
    fn members_that_share_no_shape_are_refused() {
        let mut staging = Staging::new(&signature());
        let (two, three) = (dense(&[1, 2], 0.0), dense(&[1, 3], 0.0));
        assert!(matches!(staging.gather(&[&two, &three]), Err(EngineError::Input(_))));
        assert!(matches!(staging.gather(&[]), Err(EngineError::Input(_))));
        assert!(matches!(staging.gather(&[&[]]), Err(EngineError::Input(_))));
    }

    #[test]
    fn a_huge_batch_gives_its_memory_back() {
        let mut buffer = AlignedBuffer::default();
        buffer.resize(STAGING_BYTES_KEPT_MAX * 2).expect("fits");
        buffer.resize(STAGING_BYTES_KEPT_MAX).expect("fits");
        assert_eq!(buffer.lines.len() * ALIGNMENT_BYTES, STAGING_BYTES_KEPT_MAX * 2);
        buffer.resize(100).expect("fits");
        assert_eq!((buffer.lines.len(), buffer.as_slice().len()), (2, 100));
    }
}
