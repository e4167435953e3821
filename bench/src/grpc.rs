//! One message of the inference service as bytes: what a client would have made of it once.

use bytes::Bytes;

/// Field numbers of the contract, `gateway/server/proto`.
mod field {
    pub(super) const MODEL_NAME: u8 = 1;
    pub(super) const INPUTS: u8 = 5;
    pub(super) const RAW_INPUT_CONTENTS: u8 = 7;
    pub(super) const INPUT_NAME: u8 = 1;
    pub(super) const INPUT_DATATYPE: u8 = 2;
    pub(super) const INPUT_SHAPE: u8 = 3;
}

/// A `ModelInferRequest` with one row of INT32 for each input, raw.
pub fn infer_request(model: &str, inputs: [(&str, &[i32]); 2]) -> Vec<u8> {
    let mut message = Vec::new();
    put(&mut message, field::MODEL_NAME, model.as_bytes());
    for (name, data) in inputs {
        let mut input = Vec::new();
        put(&mut input, field::INPUT_NAME, name.as_bytes());
        put(&mut input, field::INPUT_DATATYPE, b"INT32");
        let mut shape = Vec::new();
        varint(&mut shape, 1);
        varint(&mut shape, data.len());
        put(&mut input, field::INPUT_SHAPE, &shape);
        put(&mut message, field::INPUTS, &input);
    }
    for (_, data) in inputs {
        let raw: Vec<u8> = data.iter().flat_map(|value| value.to_le_bytes()).collect();
        put(&mut message, field::RAW_INPUT_CONTENTS, &raw);
    }
    message
}

/// A message as it goes over the wire: not compressed, its length, and itself.
pub fn frame(message: &[u8]) -> Bytes {
    let length = u32::try_from(message.len()).unwrap_or(u32::MAX).to_be_bytes();
    Bytes::from([&[0], &length[..], message].concat())
}

/// A field that has a length.
fn put(message: &mut Vec<u8>, field: u8, content: &[u8]) {
    message.push(field << 3 | 2);
    varint(message, content.len());
    message.extend_from_slice(content);
}

/// Seven bits at a time, the lowest first.
fn varint(message: &mut Vec<u8>, mut number: usize) {
    while number >= 0x80 {
        message.push(lowest(number) | 0x80);
        number >>= 7;
    }
    message.push(lowest(number));
}

fn lowest(number: usize) -> u8 {
    number.to_le_bytes()[0] & 0x7f
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_fields_are_as_protobuf_has_them() {
        let mut message = Vec::new();
        varint(&mut message, 300);
        assert_eq!(message, [0xac, 0x02]);
        message.clear();
        put(&mut message, field::MODEL_NAME, b"m");
        assert_eq!(message, [0x0a, 1, b'm']);
        assert_eq!(&frame(&message)[..], [0, 0, 0, 0, 3, 0x0a, 1, b'm']);
    }
}
