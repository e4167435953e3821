//! Cutting a batch's outputs back into one list for each member.

use bytes::Bytes;
use sluice_tensor::{DType, NamedTensor, Shape, Signature, Tensor, TensorError};

use crate::EngineError;

/// One output of the whole batch, as the engine gave it.
pub(crate) struct RawOutput {
    pub(crate) shape: Shape,
    /// Packed; BYTES elements each behind their length.
    pub(crate) data: Bytes,
}

/// Gives every member its rows, sharing the outputs' memory. `batched` is whether
/// rows are a batch's; otherwise the one member has everything.
///
/// An output whose rows are not the batch's is an error for all: it cannot be known
/// whose they are, and nobody may get another's.
pub(crate) fn scatter(
    signature: &Signature,
    outputs: Vec<RawOutput>,
    members: &[&[NamedTensor]],
    batched: bool,
) -> Result<Vec<Vec<NamedTensor>>, EngineError> {
    if outputs.len() != signature.outputs.len() {
        let (got, want) = (outputs.len(), signature.outputs.len());
        return Err(EngineError::Run(format!("the engine gave {got} outputs, the model has {want}")));
    }
    let mut lists: Vec<Vec<NamedTensor>> =
        members.iter().map(|_| Vec::with_capacity(outputs.len())).collect();
    for (spec, output) in signature.outputs.iter().zip(outputs) {
        let tensors = if batched {
            cut(spec.dtype, &output, members)
                .map_err(|reason| EngineError::Run(format!("output '{}' {reason}", spec.name)))?
        } else {
            let whole = Tensor::dense(spec.dtype, output.shape, output.data);
            vec![whole.map_err(|error| EngineError::Run(format!("output '{}': {error}", spec.name)))?]
        };
        for (list, tensor) in lists.iter_mut().zip(tensors) {
            list.push(NamedTensor { name: spec.name.clone(), tensor });
        }
    }
    Ok(lists)
}

/// The rows of one output, member by member.
fn cut(dtype: DType, output: &RawOutput, members: &[&[NamedTensor]]) -> Result<Vec<Tensor>, String> {
    let rows_of = |member: &&[NamedTensor]| member.first().map_or(0, |input| input.tensor.shape().rows());
    let rows_total: usize = members.iter().map(rows_of).sum();
    if output.shape.rank() == 0 || output.shape.rows() != rows_total {
        return Err(format!("has shape {}, the batch has {rows_total} rows", output.shape));
    }
    let mut start = 0;
    let mut tensors = Vec::with_capacity(members.len());
    for member in members {
        let count = rows_of(member);
        tensors.push(rows(dtype, output, start, count).map_err(|error| format!("cannot be cut: {error}"))?);
        start += count;
    }
    Ok(tensors)
}

fn rows(dtype: DType, output: &RawOutput, start: usize, count: usize) -> Result<Tensor, TensorError> {
    let shape = output.shape;
    let Some(size) = dtype.size() else {
        return Tensor::dense(dtype, shape, output.data.clone())?.rows(start, count);
    };
    // Cut before the tensor is made: one tensor's size is limited, a batch's is not.
    let row_bytes = shape.row_elements().checked_mul(size).ok_or(TensorError::Overflow)?;
    let range = start * row_bytes..(start + count) * row_bytes;
    if range.end > output.data.len() {
        let fault = TensorError::Range { start: range.start, count: range.len(), len: output.data.len() };
        return Err(fault);
    }
    Tensor::dense(dtype, shape.with_rows(count)?, output.data.slice(range))
}

#[cfg(test)]
mod tests {
    use sluice_tensor::{Dim, TensorSpec};

    use super::*;

    fn shape(dims: &[usize]) -> Shape {
        Shape::new(dims).expect("fits")
    }

    fn signature(dtype: DType) -> Signature {
        let spec = TensorSpec { name: "y".into(), dtype, dims: vec![Dim::Any(None)] };
        Signature { inputs: vec![], outputs: vec![spec] }
    }

    fn member(rows: usize) -> Vec<NamedTensor> {
        let tensor = Tensor::from_f32(shape(&[rows]), &vec![0.0; rows]).expect("valid");
        vec![NamedTensor { name: "x".into(), tensor }]
    }

    #[test]
    fn each_member_gets_its_rows_and_shares_the_memory() {
        let (one, two) = (member(1), member(2));
        let data = Bytes::from_static(&[1, 2, 3, 4, 5, 6]);
        let at = data.as_ptr();
        let output = RawOutput { shape: shape(&[3, 2]), data };
        let lists = scatter(&signature(DType::U8), vec![output], &[&one, &two], true).expect("fits");
        assert_eq!(lists[0][0].tensor.bytes().as_ref(), [1, 2]);
        assert_eq!(lists[1][0].tensor.bytes().as_ref(), [3, 4, 5, 6]);
        assert_eq!(lists[1][0].tensor.to_dense().as_ptr(), at.wrapping_add(2));
    }

    #[test]
    fn strings_are_cut_between_elements() {
        let words = [b"a".as_slice(), b"bcd", b""];
        let framed = Tensor::from_strings(shape(&[3]), words.into_iter()).expect("valid").to_dense();
        let output = RawOutput { shape: shape(&[3]), data: framed };
        let (one, two) = (member(1), member(2));
        let lists = scatter(&signature(DType::Bytes), vec![output], &[&one, &two], true).expect("fits");
        let got: Vec<&[u8]> = lists[1][0].tensor.strings().expect("BYTES").collect();
        assert_eq!(got, [b"bcd".as_slice(), b""]);
    }

    #[test]
    fn rows_or_outputs_that_are_not_the_batchs_are_nobodys() {
        let one = member(2);
        for dims in [&[1, 2][..], &[3, 2], &[]] {
            let shape = shape(dims);
            let data = vec![0; shape.elements()].into();
            let got = scatter(&signature(DType::U8), vec![RawOutput { shape, data }], &[&one], true);
            assert!(matches!(got, Err(EngineError::Run(_))), "{dims:?}");
        }
        let short = RawOutput { shape: shape(&[2]), data: Bytes::from_static(&[0]) };
        assert!(scatter(&signature(DType::U8), vec![short], &[&one], true).is_err());
        assert!(scatter(&signature(DType::U8), vec![], &[&one], true).is_err());
    }
}
