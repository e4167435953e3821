//! A check of a file's encoding, before anything reads its content.
//!
//! `rten-onnx`, which reads it here and inside rten, trusts what the file says of
//! itself: an overlong number or a length past the end makes it loop for ever or ask
//! for all memory. A model file can be damaged, or come from somebody else, so every
//! number, length and nesting that it will meet is walked first.

use std::fs::File;
use std::io::{BufRead, BufReader};

/// Most messages within each other. A graph in a node is three deeper; no exporter
/// nests more than a few of those, and each level costs the reader stack.
const DEPTH_MAX: usize = 60;

/// Most bytes of a number.
const VARINT_BYTES_MAX: u32 = 10;

/// The messages of the format that have anything inside of them to check.
#[derive(Clone, Copy)]
enum Message {
    Model,
    Graph,
    Node,
    Attribute,
    Tensor,
    ValueInfo,
    Type,
    TensorType,
    SequenceType,
    Shape,
    /// Any with neither messages nor lists of numbers in it.
    Leaf,
}

/// What the bytes of a field are.
enum Content {
    Message(Message),
    Varints,
    Opaque,
}

fn content(message: Message, field: u64) -> Content {
    use Message::{
        Attribute, Graph, Leaf, Model, Node, SequenceType, Shape, Tensor, TensorType, Type, ValueInfo,
    };
    match (message, field) {
        (Model, 7) | (Attribute, 6) => Content::Message(Graph),
        (Model, 8 | 14) | (Tensor, 13) | (Shape, 1) => Content::Message(Leaf),
        (Graph, 1) => Content::Message(Node),
        (Graph, 5) | (Attribute, 5) => Content::Message(Tensor),
        (Graph, 11..=13) => Content::Message(ValueInfo),
        (Node, 5) => Content::Message(Attribute),
        (ValueInfo, 2) | (SequenceType, 1) => Content::Message(Type),
        (Type, 1) => Content::Message(TensorType),
        (Type, 4) => Content::Message(SequenceType),
        (TensorType, 2) => Content::Message(Shape),
        (Attribute, 8) | (Tensor, 1 | 5 | 7) => Content::Varints,
        _ => Content::Opaque,
    }
}

/// Checks a whole file.
///
/// # Errors
/// What is wrong with it, or why it cannot be read.
pub(super) fn check(file: &File) -> Result<(), String> {
    let length = file.metadata().map_err(|error| error.to_string())?.len();
    let mut walk = Walk { reader: BufReader::new(file), position: 0 };
    walk.message(Message::Model, length, 0)
}

struct Walk<'a> {
    reader: BufReader<&'a File>,
    position: u64,
}

impl Walk<'_> {
    fn message(&mut self, message: Message, end: u64, depth: usize) -> Result<(), String> {
        if depth > DEPTH_MAX {
            return Err(format!("more than {DEPTH_MAX} messages within each other"));
        }
        while self.position < end {
            let tag = self.varint(end)?;
            match tag & 7 {
                0 => {
                    self.varint(end)?;
                }
                1 => self.skip(8, end)?,
                5 => self.skip(4, end)?,
                2 => {
                    let length = self.varint(end)?;
                    let inner_end = self.position.checked_add(length).filter(|inner_end| *inner_end <= end);
                    let inner_end = inner_end.ok_or("a field reaches past the end")?;
                    match content(message, tag >> 3) {
                        Content::Message(inner) => self.message(inner, inner_end, depth + 1)?,
                        Content::Varints => {
                            while self.position < inner_end {
                                self.varint(inner_end)?;
                            }
                        }
                        Content::Opaque => self.skip(length, end)?,
                    }
                }
                _ => return Err("a field has an unknown encoding".to_owned()),
            }
        }
        Ok(())
    }

    fn varint(&mut self, end: u64) -> Result<u64, String> {
        let mut value = 0u64;
        for index in 0..VARINT_BYTES_MAX {
            if self.position >= end {
                return Err("a number reaches past the end".to_owned());
            }
            let buffer = self.reader.fill_buf().map_err(|error| error.to_string())?;
            let byte = *buffer.first().ok_or("the file ends early")?;
            self.reader.consume(1);
            self.position += 1;
            value |= u64::from(byte & 0x7f) << (7 * index);
            if byte < 0x80 {
                // Only one bit of the tenth byte fits.
                let fits = index + 1 < VARINT_BYTES_MAX || byte <= 1;
                return fits.then_some(value).ok_or_else(|| "a number is too large".to_owned());
            }
        }
        Err("a number is too long".to_owned())
    }

    fn skip(&mut self, length: u64, end: u64) -> Result<(), String> {
        let after = self.position.checked_add(length).filter(|after| *after <= end);
        self.position = after.ok_or("a field reaches past the end")?;
        let offset = i64::try_from(length).map_err(|_| "a field is too long")?;
        self.reader.seek_relative(offset).map_err(|error| error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Seek, Write};

    use super::*;

    fn check_bytes(bytes: &[u8]) -> Result<(), String> {
        let mut file = tempfile::tempfile().expect("a file");
        file.write_all(bytes).expect("written");
        file.rewind().expect("a plain file");
        check(&file)
    }

    /// A field of length-delimited bytes.
    fn field(number: u8, content: &[u8]) -> Vec<u8> {
        let length = u8::try_from(content.len()).expect("short");
        [&[number << 3 | 2, length], content].concat()
    }

    #[test]
    fn a_sound_file_passes() {
        let node = field(1, &field(5, &field(8, &[1, 0x80, 1])));
        let file = [vec![8, 9], field(7, &node), field(15, b"unknown"), vec![0x3d, 0, 0, 0, 0]].concat();
        assert_eq!(check_bytes(&file), Ok(()));
        assert_eq!(check_bytes(&[]), Ok(()));
    }

    #[test]
    fn numbers_and_lengths_that_would_trap_the_reader_are_refused() {
        let overlong = [0x80; 11];
        let backwards = [&[0xa2, 1][..], &[0xff; 9], &[1]].concat();
        for (bad, what) in [
            (overlong.to_vec(), "overlong tag"),
            (backwards, "length of 2^64 - 1"),
            (vec![0x3a, 200, 1], "length past the end"),
            (field(7, &[0x0a, 9]), "length past the enclosing field"),
            (field(7, &field(5, &field(1, &overlong))), "overlong number in a list"),
            (field(7, &field(1, &field(5, &[0x80; 10]))), "overlong tag within"),
            (vec![0x39, 0, 0], "fixed number past the end"),
            (vec![0x3b], "group"),
        ] {
            assert!(check_bytes(&bad).is_err(), "{what}");
        }
    }

    #[test]
    fn graphs_nested_without_end_are_refused() {
        let mut graph = Vec::new();
        for _ in 0..12 {
            graph = field(1, &field(5, &field(6, &graph)));
        }
        assert_eq!(check_bytes(&field(7, &graph)), Ok(()));
        for _ in 0..9 {
            graph = field(1, &field(5, &field(6, &graph)));
        }
        assert!(check_bytes(&field(7, &graph)).is_err());
    }
}
