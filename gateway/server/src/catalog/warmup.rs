//! Runs of an instance before it takes requests: memory is laid out, kernels are chosen and
//! threads are there when the first request comes.

use std::time::Duration;

use sluice_engine::{Instance, Interrupt};
use sluice_tensor::{DType, Dim, NamedTensor, Shape, Signature, Tensor, TensorError, TensorSpec};

use super::timed;
use crate::config::{Warmup, WarmupData, WarmupInput};

/// Bytes of one input of a warm-up, rows and all.
const INPUT_BYTES_MAX: usize = sluice_tensor::TENSOR_BYTES_MAX;

/// Bytes of a random string.
const RANDOM_STRING: &str = "warm-up";

/// A warm-up whose inputs are made.
pub(super) struct Run {
    name: String,
    inputs: Vec<NamedTensor>,
    count: u32,
}

/// Makes the inputs of every warm-up.
///
/// # Errors
/// Inputs that do not fit.
pub(super) fn runs(
    warmups: &[Warmup],
    signature: &Signature,
    to_file: &dyn Fn(Vec<NamedTensor>) -> Result<Vec<NamedTensor>, String>,
    rows_max: usize,
) -> Result<Vec<Run>, String> {
    let made = |warmup: &Warmup| -> Result<Run, String> {
        let fault = |what: String| format!("warm-up '{}': {what}", warmup.name);
        let mut inputs = inputs(warmup, signature, rows_max > 0).map_err(fault)?;
        signature
            .check_inputs(&warmup.name, &mut inputs, rows_max)
            .map_err(|error| fault(error.to_string()))?;
        let inputs = to_file(inputs).map_err(fault)?;
        Ok(Run { name: warmup.name.clone(), inputs, count: warmup.count })
    };
    warmups.iter().map(made).collect()
}

/// Makes the runs on an instance, and gives it back. On a thread of its own, which is given up
/// with the instance if they take longer than that: a run may have no end.
///
/// # Errors
/// A run that fails, or the time.
pub(super) fn run(
    mut instance: Box<dyn Instance>,
    runs: Vec<Run>,
    longest: Duration,
) -> Result<Box<dyn Instance>, String> {
    if runs.is_empty() {
        return Ok(instance);
    }
    let work = move |interrupt: &Interrupt| {
        for Run { name, inputs, count } in &runs {
            for _ in 0..*count {
                let outcome = instance.run(&[inputs.as_slice()], interrupt);
                outcome.map_err(|error| format!("warm-up '{name}': {error}"))?;
            }
        }
        Ok(instance)
    };
    timed::within(longest, "the warm-up", work)?
}

fn inputs(warmup: &Warmup, signature: &Signature, has_batch: bool) -> Result<Vec<NamedTensor>, String> {
    if let Some(unknown) =
        warmup.inputs.iter().find(|input| !signature.inputs.iter().any(|spec| spec.name == input.name))
    {
        return Err(format!("the model has no input '{}'", unknown.name));
    }
    let one = |spec: &TensorSpec| {
        let given = warmup.inputs.iter().find(|input| input.name == spec.name);
        let made;
        let given = match given {
            Some(given) => given,
            None => {
                made = of_the_file(spec, has_batch);
                &made
            }
        };
        let tensor = tensor(given, warmup.rows, has_batch);
        let tensor = tensor.map_err(|error| format!("input '{}': {error}", spec.name))?;
        Ok(NamedTensor { name: spec.name.clone(), tensor })
    };
    signature.inputs.iter().map(one).collect()
}

/// Random values in the dimensions that the model has.
fn of_the_file(spec: &TensorSpec, has_batch: bool) -> WarmupInput {
    let dims = spec.dims.iter().skip(usize::from(has_batch)).map(|dim| match dim {
        Dim::Fixed(size) => *size,
        Dim::Any(_) => 1,
    });
    WarmupInput { name: spec.name.clone(), dtype: spec.dtype, dims: dims.collect(), data: WarmupData::Random }
}

fn tensor(input: &WarmupInput, rows: usize, has_batch: bool) -> Result<Tensor, TensorError> {
    let batch = has_batch.then_some(rows);
    let dims: Vec<usize> = batch.into_iter().chain(input.dims.iter().copied()).collect();
    let shape = Shape::new(&dims)?;
    let element = input.dtype.size().unwrap_or(size_of::<u32>() + RANDOM_STRING.len());
    let bytes = shape.elements().checked_mul(element).ok_or(TensorError::Overflow)?;
    if bytes > INPUT_BYTES_MAX {
        return Err(TensorError::TooLarge { bytes, max: INPUT_BYTES_MAX });
    }
    match (&input.data, input.dtype) {
        (WarmupData::File(row), _) => {
            let times = if has_batch { rows } else { 1 };
            let total = row.len().checked_mul(times).ok_or(TensorError::Overflow)?;
            if total > INPUT_BYTES_MAX {
                return Err(TensorError::TooLarge { bytes: total, max: INPUT_BYTES_MAX });
            }
            Tensor::dense(input.dtype, shape, row.repeat(times).into())
        }
        (WarmupData::Zero, DType::Bytes) => {
            Tensor::from_strings(shape, std::iter::repeat_n(&b""[..], shape.elements()))
        }
        (WarmupData::Random, DType::Bytes) => {
            Tensor::from_strings(shape, std::iter::repeat_n(RANDOM_STRING.as_bytes(), shape.elements()))
        }
        (WarmupData::Zero, dtype) => Tensor::dense(dtype, shape, vec![0; bytes].into()),
        (WarmupData::Random, dtype) => Tensor::dense(dtype, shape, random(dtype, shape.elements()).into()),
    }
}

/// Values that every model can take: 0 and 1 for truth values and whole numbers (an index is
/// then within any table of two rows), 0 to 1 for floats. The same each time.
fn random(dtype: DType, elements: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut bytes = Vec::with_capacity(elements * dtype.size().unwrap_or(1));
    for _ in 0..elements {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let bit = u8::from(state >> 63 == 1);
        match dtype {
            // 0.5 and 0.25: the upper bytes alone say so.
            DType::F16 => bytes.extend_from_slice(&[0, if bit == 1 { 0x38 } else { 0x34 }]),
            DType::Bf16 => bytes.extend_from_slice(&[if bit == 1 { 0x00 } else { 0x80 }, 0x3f - (1 - bit)]),
            DType::F32 => {
                let share = u16::try_from(state >> 48).unwrap_or(0);
                bytes.extend_from_slice(&(f32::from(share) / 65_536.0).to_le_bytes());
            }
            DType::F64 => {
                let share = u32::try_from(state >> 32).unwrap_or(0);
                bytes.extend_from_slice(&(f64::from(share) / 4_294_967_296.0).to_le_bytes());
            }
            _ => {
                bytes.push(bit);
                bytes.extend(std::iter::repeat_n(0, dtype.size().unwrap_or(1) - 1));
            }
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_can_be_warmed_up_with_every_kind_of_data() {
        for dtype in DType::all() {
            for data in [WarmupData::Zero, WarmupData::Random] {
                let input = WarmupInput { name: "x".into(), dtype, dims: vec![2, 3], data };
                let tensor = tensor(&input, 4, true).expect("valid");
                assert_eq!((tensor.dtype(), tensor.shape().dims()), (dtype, &[4, 2, 3][..]));
                if let Ok(values) = tensor.to_f64() {
                    assert!(values.iter().all(|value| (0.0..=1.0).contains(value)), "{dtype}: {values:?}");
                }
            }
        }
    }

    #[test]
    fn a_file_is_a_row_and_too_much_is_refused() {
        let file = |bytes: &'static [u8]| WarmupData::File(bytes.into());
        let input = |dims, data| WarmupInput { name: "x".into(), dtype: DType::U8, dims, data };
        assert_eq!(
            tensor(&input(vec![2], file(&[1, 2])), 2, true).expect("valid").bytes().as_ref(),
            [1, 2, 1, 2]
        );
        assert!(tensor(&input(vec![3], file(&[1, 2])), 2, true).is_err());
        assert!(tensor(&input(vec![1 << 40], WarmupData::Zero), 2, true).is_err());
        assert!(tensor(&input(vec![usize::MAX, 4], WarmupData::Zero), 2, true).is_err());
    }
}
