//! The values of control inputs.

use bytes::Bytes;
use sluice_tensor::{DType, TensorSpec};

use crate::config::{Control, FalseTrue};
use crate::pipeline::SequenceId;

/// False and true as a control input has them: the bytes of one element each.
#[derive(Debug, Clone)]
pub(super) struct Pair(pub(super) [Bytes; 2]);

impl Pair {
    /// As configured, or 0 and 1.
    pub(super) fn new(control: &Control, spec: &TensorSpec) -> Result<Self, String> {
        let (dtype, values): (DType, [Vec<u8>; 2]) = match control.false_true {
            Some(FalseTrue::Int32(pair)) => (DType::I32, pair.map(|value| value.to_le_bytes().to_vec())),
            Some(FalseTrue::Fp32(pair)) => (DType::F32, pair.map(|value| value.to_le_bytes().to_vec())),
            Some(FalseTrue::Bool(pair)) => (DType::Bool, pair.map(|value| vec![u8::from(value)])),
            None => (spec.dtype, [false, true].map(|value| bit(spec.dtype, value))),
        };
        if dtype != spec.dtype || values[0].is_empty() {
            let (name, has) = (&spec.name, spec.dtype);
            return Err(format!(
                "control input '{name}' has datatype {has} in the model, and a control has INT32, FP32 or BOOL"
            ));
        }
        Ok(Self(values.map(Bytes::from)))
    }

    pub(super) fn of(&self, value: bool) -> &Bytes {
        &self.0[usize::from(value)]
    }
}

/// Nothing where the type is none of a control's.
fn bit(dtype: DType, value: bool) -> Vec<u8> {
    match dtype {
        DType::I32 => i32::from(value).to_le_bytes().to_vec(),
        DType::F32 => f32::from(u8::from(value)).to_le_bytes().to_vec(),
        DType::Bool => vec![u8::from(value)],
        _ => Vec::new(),
    }
}

/// Whether a sequence's id can be given to a model in this type.
pub(super) fn carries_ids(dtype: DType) -> bool {
    matches!(dtype, DType::U64 | DType::I64 | DType::U32 | DType::I32 | DType::Bytes)
}

/// A sequence's id as one element of this type.
pub(super) fn id(dtype: DType, id: &SequenceId) -> Result<Bytes, &'static str> {
    const TOO_LARGE: &str = "the model takes smaller numbers";
    let number = match (dtype, id) {
        (DType::Bytes, SequenceId::Text(text)) => return Ok(framed(text.as_bytes())),
        (DType::Bytes, SequenceId::Number(number)) => return Ok(framed(number.to_string().as_bytes())),
        (_, SequenceId::Text(_)) => return Err("the model takes numbers"),
        (_, SequenceId::Number(number)) => *number,
    };
    let bytes = match dtype {
        DType::I64 => i64::try_from(number).map_err(|_| TOO_LARGE)?.to_le_bytes().to_vec(),
        DType::U32 => u32::try_from(number).map_err(|_| TOO_LARGE)?.to_le_bytes().to_vec(),
        DType::I32 => i32::try_from(number).map_err(|_| TOO_LARGE)?.to_le_bytes().to_vec(),
        _ => number.to_le_bytes().to_vec(),
    };
    Ok(bytes.into())
}

/// One element of BYTES: its length, and itself. Ids are short: the door sees to it.
fn framed(text: &[u8]) -> Bytes {
    let length = u32::try_from(text.len()).unwrap_or(u32::MAX);
    [&length.to_le_bytes(), text].concat().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_given_in_every_type_that_it_fits_and_in_no_other() {
        let big = SequenceId::Number(1 << 40);
        assert_eq!(id(DType::U64, &big).expect("fits").as_ref(), (1_u64 << 40).to_le_bytes());
        assert_eq!(id(DType::I64, &big).expect("fits").as_ref(), (1_i64 << 40).to_le_bytes());
        assert!(id(DType::U32, &big).is_err() && id(DType::I32, &big).is_err());
        assert!(id(DType::I64, &SequenceId::Number(u64::MAX)).is_err());
        assert_eq!(id(DType::Bytes, &SequenceId::Number(7)).expect("fits").as_ref(), b"\x01\0\0\x007");
        let text = SequenceId::Text("ab".into());
        assert_eq!(id(DType::Bytes, &text).expect("fits").as_ref(), b"\x02\0\0\0ab");
        assert!(id(DType::U64, &text).is_err());
    }
}
