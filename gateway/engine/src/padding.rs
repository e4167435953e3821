//! Requests of different lengths in one batch: inputs are padded to an allowed size while they
//! are gathered, and outputs are cut back to each request's own length.

use std::sync::Arc;

use bytes::Bytes;
use sluice_tensor::{DType, NamedTensor, Shape, Signature, Tensor, TensorError};

use crate::EngineError;

/// Which dimension of which inputs is padded, to which sizes.
#[derive(Debug, Clone, PartialEq)]
pub struct Padding {
    /// Inputs that are as long as the request, the first of which says how long that is.
    inputs: Vec<Filled>,
    /// The dimension; never the first, which is the batch's.
    axis: usize,
    /// Allowed sizes, ascending.
    sizes: Vec<usize>,
    /// Outputs that are as long as the request.
    outputs: Vec<usize>,
}

#[derive(Debug, Clone, PartialEq)]
struct Filled {
    input: usize,
    /// The bytes of the element that fills up.
    element: Vec<u8>,
}

/// What is to be padded, by name.
#[derive(Debug, Clone, PartialEq)]
pub struct PaddingSpec {
    /// Inputs that are as long as the request, and the value that fills each.
    pub inputs: Vec<(Arc<str>, f64)>,
    /// The dimension.
    pub axis: usize,
    /// Allowed sizes.
    pub sizes: Vec<usize>,
    /// Outputs to be cut back.
    pub outputs: Vec<Arc<str>>,
}

impl Padding {
    /// Finds what a model's padding is about.
    ///
    /// # Errors
    /// A name that the model has not, or something that cannot be padded.
    pub fn new(signature: &Signature, spec: &PaddingSpec) -> Result<Self, String> {
        if spec.axis == 0 || spec.inputs.is_empty() || spec.sizes.is_empty() {
            return Err("needs inputs, sizes and an axis above 0".to_owned());
        }
        let long_enough = |name: &str, dims: usize| {
            let message = format!("'{name}' has {dims} dimensions, none is number {}", spec.axis);
            if dims > spec.axis { Ok(()) } else { Err(message) }
        };
        let mut inputs = Vec::new();
        for (name, value) in &spec.inputs {
            let found = signature.inputs.iter().position(|input| input.name == *name);
            let input = found.ok_or_else(|| format!("there is no input '{name}'"))?;
            let known = &signature.inputs[input];
            long_enough(name, known.dims.len())?;
            let element = element(known.dtype, *value)
                .ok_or_else(|| format!("{value} is no value of the {} input '{name}'", known.dtype))?;
            inputs.push(Filled { input, element });
        }
        let mut outputs = Vec::new();
        for name in &spec.outputs {
            let found = signature.outputs.iter().position(|output| output.name == *name);
            let output = found.ok_or_else(|| format!("there is no output '{name}'"))?;
            let known = &signature.outputs[output];
            long_enough(name, known.dims.len())?;
            if known.dtype.size().is_none() {
                return Err(format!("the {} output '{name}' cannot be cut", known.dtype));
            }
            outputs.push(output);
        }
        let mut sizes = spec.sizes.clone();
        sizes.sort_unstable();
        Ok(Self { inputs, axis: spec.axis, sizes, outputs })
    }

    /// The dimension that is padded.
    pub fn axis(&self) -> usize {
        self.axis
    }

    /// How long a request is: inputs in the order of the signature.
    pub fn length(&self, inputs: &[NamedTensor]) -> usize {
        let first = self.inputs.first().and_then(|filled| inputs.get(filled.input));
        first.and_then(|input| input.tensor.shape().dims().get(self.axis)).copied().unwrap_or(0)
    }

    /// The size that a length is padded to; `None` if it is longer than all.
    pub fn size(&self, length: usize) -> Option<usize> {
        self.sizes.iter().copied().find(|size| *size >= length)
    }

    /// Whether this input is padded.
    pub fn pads(&self, input: usize) -> bool {
        self.filled(input).is_some()
    }

    fn filled(&self, input: usize) -> Option<&Filled> {
        self.inputs.iter().find(|filled| filled.input == input)
    }

    /// The size that all members of a batch are padded to.
    pub(crate) fn size_of(&self, members: &[&[NamedTensor]]) -> Result<usize, EngineError> {
        let longest = members.iter().map(|member| self.length(member)).max().unwrap_or(0);
        self.size(longest)
            .ok_or_else(|| EngineError::Input(format!("no allowed size is as long as {longest}")))
    }

    /// Bytes of what fills up an input that is padded.
    pub(crate) fn element(&self, input: usize) -> Option<&[u8]> {
        self.filled(input).map(|filled| &*filled.element)
    }

    /// The shape that a tensor has when it is padded to `size`.
    pub(crate) fn shape(&self, shape: &Shape, size: usize) -> Result<Shape, TensorError> {
        resized(shape, self.axis, size)
    }

    /// Writes a tensor, padded to `size`, into a buffer of just that many bytes.
    pub(crate) fn write(&self, tensor: &Tensor, element: &[u8], size: usize, out: &mut [u8]) {
        let bytes = tensor.bytes();
        let (run, length) = (run_bytes(tensor.shape(), self.axis, element.len()), self.length_of(tensor));
        let (kept, whole) = (run * length, run * size);
        if whole == 0 {
            return;
        }
        for (row, out) in out.chunks_exact_mut(whole).enumerate() {
            let (values, filling) = out.split_at_mut(kept.min(whole));
            if let Some(found) = bytes.get(row * kept..(row + 1) * kept) {
                values.copy_from_slice(found);
            }
            for place in filling.chunks_exact_mut(element.len()) {
                place.copy_from_slice(element);
            }
        }
    }

    /// Cuts the outputs of a member of this length back, where they are as long as the batch
    /// was padded to.
    pub(crate) fn trim(
        &self,
        outputs: &mut [NamedTensor],
        length: usize,
        size: usize,
    ) -> Result<(), EngineError> {
        for output in self.outputs.iter().filter(|_| length < size) {
            let Some(NamedTensor { name, tensor }) = outputs.get_mut(*output) else { continue };
            if self.length_of(tensor) == size {
                *tensor = self
                    .cut(tensor, length, size)
                    .map_err(|error| EngineError::Run(format!("output '{name}' cannot be cut: {error}")))?;
            }
        }
        Ok(())
    }

    fn cut(&self, tensor: &Tensor, length: usize, size: usize) -> Result<Tensor, TensorError> {
        let dtype = tensor.dtype();
        let run = run_bytes(tensor.shape(), self.axis, dtype.size().unwrap_or(0));
        let mut kept = Vec::with_capacity(tensor.byte_len());
        for row in tensor.bytes().chunks_exact((run * size).max(1)) {
            kept.extend_from_slice(&row[..run * length]);
        }
        Tensor::dense(dtype, resized(tensor.shape(), self.axis, length)?, Bytes::from(kept))
    }

    fn length_of(&self, tensor: &Tensor) -> usize {
        tensor.shape().dims().get(self.axis).copied().unwrap_or(0)
    }
}

/// Bytes of what lies behind one step along the dimension.
fn run_bytes(shape: &Shape, axis: usize, element_bytes: usize) -> usize {
    shape.dims().iter().skip(axis + 1).product::<usize>() * element_bytes
}

fn resized(shape: &Shape, axis: usize, size: usize) -> Result<Shape, TensorError> {
    let mut dims = shape.dims().to_vec();
    if let Some(dim) = dims.get_mut(axis) {
        *dim = size;
    }
    Shape::new(&dims)
}

/// A number as the bytes of an element, if it is a value of that type.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::float_cmp,
    reason = "a value that a cast changes is refused"
)]
fn element(dtype: DType, value: f64) -> Option<Vec<u8>> {
    macro_rules! exact {
        ($type:ty) => {{
            let cast = value as $type;
            (cast as f64 == value).then(|| cast.to_le_bytes().to_vec())
        }};
    }
    match dtype {
        DType::Bool => (value == 0.0 || value == 1.0).then(|| vec![u8::from(value != 0.0)]),
        DType::U8 => exact!(u8),
        DType::U16 => exact!(u16),
        DType::U32 => exact!(u32),
        DType::U64 => exact!(u64),
        DType::I8 => exact!(i8),
        DType::I16 => exact!(i16),
        DType::I32 => exact!(i32),
        DType::I64 => exact!(i64),
        DType::F32 => Some((value as f32).to_le_bytes().to_vec()),
        DType::F64 => Some(value.to_le_bytes().to_vec()),
        // The sixteen-bit floats have no type here; zero is zero in all.
        DType::F16 | DType::Bf16 => (value == 0.0).then(|| vec![0; 2]),
        DType::Bytes => None,
    }
}

#[cfg(test)]
mod tests {
    use sluice_tensor::{Dim, TensorSpec};

    use super::*;

    fn signature() -> Signature {
        let spec = |name: &str, dtype| {
            let dims = vec![Dim::Any(None), Dim::Any(None), Dim::Any(None)];
            TensorSpec { name: name.into(), dtype, dims }
        };
        Signature { inputs: vec![spec("x", DType::I16)], outputs: vec![spec("y", DType::I16)] }
    }

    fn spec() -> PaddingSpec {
        let (inputs, outputs) = (vec![("x".into(), -1.0)], vec!["y".into()]);
        PaddingSpec { inputs, axis: 1, sizes: vec![4, 2], outputs }
    }

    fn words(dims: &[usize], values: &[i16]) -> Tensor {
        let data: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        Tensor::dense(DType::I16, Shape::new(dims).expect("fits"), data.into()).expect("valid")
    }

    #[test]
    fn rows_are_filled_up_behind_their_values_and_cut_back_there() {
        let padding = Padding::new(&signature(), &spec()).expect("fits");
        let short = words(&[2, 1, 2], &[1, 2, 3, 4]);
        let mut out = [0; 16];
        padding.write(&short, padding.element(0).expect("padded"), 2, &mut out);
        let padded = Tensor::dense(DType::I16, Shape::new(&[2, 2, 2]).expect("fits"), out.to_vec().into());
        let padded = padded.expect("valid");
        assert_eq!(padded.bytes(), words(&[2, 2, 2], &[1, 2, -1, -1, 3, 4, -1, -1]).bytes());
        let mut outputs = [NamedTensor { name: "y".into(), tensor: padded }];
        padding.trim(&mut outputs, 1, 2).expect("fits");
        assert_eq!((outputs[0].tensor.shape(), outputs[0].tensor.bytes()), (short.shape(), short.bytes()));
        // An output that is not as long as the padded inputs stays as it is.
        padding.trim(&mut outputs, 1, 4).expect("fits");
        assert_eq!(outputs[0].tensor.shape(), short.shape());
    }

    #[test]
    fn the_least_size_that_is_long_enough_is_chosen() {
        let padding = Padding::new(&signature(), &spec()).expect("fits");
        assert_eq!(
            [0, 2, 3, 4, 5].map(|length| padding.size(length)),
            [Some(2), Some(2), Some(4), Some(4), None]
        );
    }

    #[test]
    fn what_cannot_be_padded_is_refused_by_name() {
        for (change, names) in [
            ((|spec| spec.inputs[0].0 = "z".into()) as fn(&mut PaddingSpec), "'z'"),
            (|spec| spec.inputs[0].1 = 0.5, "0.5"),
            (|spec| spec.inputs[0].1 = 70_000.0, "70000"),
            (|spec| spec.outputs = vec!["z".into()], "'z'"),
            (|spec| spec.axis = 3, "'x'"),
            (|spec| spec.axis = 0, "axis"),
            (|spec| spec.sizes.clear(), "sizes"),
        ] {
            let mut wrong = spec();
            change(&mut wrong);
            let message = Padding::new(&signature(), &wrong).expect_err("is wrong");
            assert!(message.contains(names), "{message}");
        }
    }
}
