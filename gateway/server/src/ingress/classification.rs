//! Triton's classification extension: instead of a tensor, its highest scores as
//! `score:index` or `score:index:label`, for each row of the batch.

use std::cmp::Ordering;
use std::fmt::{Display, Write};
use std::sync::Arc;

use sluice_tensor::{DType, NamedTensor, Shape, Tensor};

use crate::catalog::Target;
use crate::error::{Error, Kind, Result};
use crate::tensor_json::to_error;

/// Turns an output into its `count` best classes, a BYTES tensor. `giver` is what gave the
/// output, if it is known: it says whether the first dimension is a batch, and
/// what its classes are called.
///
/// # Errors
/// [`Kind::BadRequest`] for an output that has no scores.
pub(super) fn classify(output: &NamedTensor, count: usize, giver: Option<&Target>) -> Result<NamedTensor> {
    let labels: &[Arc<str>] = giver.and_then(|giver| giver.labels(&output.name)).map_or(&[], |labels| labels);
    let is_batched =
        giver.is_some_and(|giver| giver.max_batch_size() > 0) && output.tensor.shape().rank() > 0;
    let shape = output.tensor.shape();
    let (rows, scores) =
        if is_batched { (shape.rows(), shape.row_elements()) } else { (1, shape.elements()) };
    let count = count.min(scores);
    let data = output.tensor.bytes();
    let mut texts = Vec::new();
    macro_rules! classes {
        ($type:ty, $decimals:expr) => {{
            let row_bytes = (scores * size_of::<$type>()).max(1);
            for row in data.chunks_exact(row_bytes).take(if scores == 0 { 0 } else { rows }) {
                let scores: Vec<$type> = row
                    .chunks_exact(size_of::<$type>())
                    .filter_map(|bytes| bytes.try_into().ok())
                    .map(<$type>::from_le_bytes)
                    .collect();
                best(&scores, count, |index, score| texts.push(text(score, $decimals, index, labels)));
            }
        }};
    }
    match output.tensor.dtype() {
        DType::U8 => classes!(u8, None),
        DType::U16 => classes!(u16, None),
        DType::U32 => classes!(u32, None),
        DType::U64 => classes!(u64, None),
        DType::I8 => classes!(i8, None),
        DType::I16 => classes!(i16, None),
        DType::I32 => classes!(i32, None),
        DType::I64 => classes!(i64, None),
        DType::F32 => classes!(f32, Some(6)),
        DType::F64 => classes!(f64, Some(6)),
        dtype @ (DType::Bool | DType::F16 | DType::Bf16 | DType::Bytes) => {
            return Err(Error::new(
                Kind::BadRequest,
                format!(
                    "class result not available for output '{}' due to unsupported type '{dtype}'",
                    output.name
                ),
            ));
        }
    }
    let dims = if is_batched { vec![rows, count] } else { vec![count] };
    let tensor = Shape::new(&dims)
        .and_then(|shape| Tensor::from_strings(shape, texts.iter().map(String::as_bytes)))
        .map_err(|error| to_error(&error))?;
    Ok(NamedTensor { name: output.name.clone(), tensor })
}

/// Gives the `count` highest scores, highest first, equal ones in order, NaN last.
fn best<T: PartialOrd + Copy>(scores: &[T], count: usize, mut each: impl FnMut(usize, T)) {
    // A score that does not equal itself is not a number.
    let is_nan = |index: usize| scores[index].partial_cmp(&scores[index]).is_none();
    let order = |a: &usize, b: &usize| {
        let by_score = || scores[*b].partial_cmp(&scores[*a]).unwrap_or(Ordering::Equal);
        is_nan(*a).cmp(&is_nan(*b)).then_with(by_score).then(a.cmp(b))
    };
    let mut places: Vec<usize> = (0..scores.len()).collect();
    if count > 0 && count < places.len() {
        places.select_nth_unstable_by(count - 1, order);
    }
    places.truncate(count);
    places.sort_unstable_by(order);
    for place in places {
        each(place, scores[place]);
    }
}

fn text(score: impl Display, decimals: Option<usize>, index: usize, labels: &[Arc<str>]) -> String {
    let mut text = match decimals {
        Some(decimals) => format!("{score:.decimals$}:{index}"),
        None => format!("{score}:{index}"),
    };
    if let Some(label) = labels.get(index).filter(|label| !label.is_empty()) {
        // Writing to a string cannot fail.
        let _ = write!(text, ":{label}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn classes(tensor: Tensor, count: usize) -> Vec<String> {
        let output = NamedTensor { name: "scores".into(), tensor };
        let classes = classify(&output, count, None).expect("numbers");
        let texts = classes.tensor.strings().expect("BYTES");
        texts.map(|text| String::from_utf8_lossy(text).into_owned()).collect()
    }

    #[test]
    fn the_highest_scores_come_first_and_equal_ones_in_order() {
        let shape = Shape::new(&[2, 2]).expect("fits");
        let floats = Tensor::from_f32(shape, &[0.5, f32::NAN, 2.0, 0.5]).expect("valid");
        assert_eq!(classes(floats.clone(), 3), ["2.000000:2", "0.500000:0", "0.500000:3"]);
        assert_eq!(classes(floats, 9).len(), 4);
        let whole = [i64::MAX, i64::MAX - 1].map(i64::to_le_bytes).concat();
        let whole = Tensor::dense(DType::I64, Shape::new(&[2]).expect("fits"), whole.into()).expect("valid");
        assert_eq!(classes(whole, 1), ["9223372036854775807:0"]);
    }

    #[test]
    fn labels_follow_where_there_are_any() {
        let labels = ["cat".into(), "".into()];
        assert_eq!(text(7, None, 0, &labels), "7:0:cat");
        assert_eq!(text(7, None, 1, &labels), "7:1");
        assert_eq!(text(7, None, 2, &labels), "7:2");
    }

    #[test]
    fn outputs_without_scores_are_refused() {
        let shape = Shape::new(&[1]).expect("fits");
        let tensor = Tensor::from_strings(shape, [b"a".as_slice()].into_iter()).expect("valid");
        let refused = classify(&NamedTensor { name: "words".into(), tensor }, 1, None);
        assert_eq!(refused.map(drop).map_err(|error| error.kind()), Err(Kind::BadRequest));
    }
}
