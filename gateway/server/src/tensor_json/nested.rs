//! Tensors whose shape is told by how their arrays are nested, as in TF-Serving's REST
//! interface. Read in one pass, straight into the packed bytes.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;
use sluice_tensor::{DType, NamedTensor, RANK_MAX, Shape, TENSOR_BYTES_MAX, Tensor, TensorSpec};

use super::{Sink, to_error};
use crate::error::{Error, Kind, Result};

/// The key of a value that is not text: its bytes in base64.
const BASE64: &str = "b64";

/// One input while it is read.
struct Column<'a> {
    spec: &'a TensorSpec,
    sink: Sink,
    /// Lengths of the arrays by their depth, inside of a value.
    dims: Vec<Option<usize>>,
    /// The depth of elements, once there was one.
    rank: Option<usize>,
    /// Values that it has.
    values: usize,
}

impl<'a> Column<'a> {
    fn new(spec: &'a TensorSpec) -> Self {
        let sink = Sink { dtype: spec.dtype, out: Vec::new(), left: usize::MAX, fault: None };
        Self { spec, sink, dims: Vec::new(), rank: None, values: 0 }
    }

    fn fail<E: serde::de::Error>(&mut self, kind: Kind, what: impl Into<String>) -> E {
        self.sink.fail(kind, what.into())
    }

    /// An element is about to come at this depth.
    fn element<E: serde::de::Error>(&mut self, depth: usize) -> Result<&mut Sink, E> {
        if self.dims.len() > depth || *self.rank.get_or_insert(depth) != depth {
            return Err(self.ragged());
        }
        if self.sink.out.len() >= TENSOR_BYTES_MAX {
            return Err(self.fail(Kind::TooLarge, format!("tensor is larger than {TENSOR_BYTES_MAX} bytes")));
        }
        Ok(&mut self.sink)
    }

    /// An array of that length has ended at this depth.
    fn array<E: serde::de::Error>(&mut self, depth: usize, length: usize) -> Result<(), E> {
        if self.dims.len() <= depth {
            self.dims.resize(depth + 1, None);
        }
        if *self.dims[depth].get_or_insert(length) == length { Ok(()) } else { Err(self.ragged()) }
    }

    fn ragged<E: serde::de::Error>(&mut self) -> E {
        self.fail(Kind::BadShape, "its arrays are not of one shape")
    }

    /// The tensor, with `rows` values one after the other, or of its only value.
    fn finish(self, rows: Option<usize>) -> Result<NamedTensor> {
        let inner = self.dims.into_iter().map(|dim| dim.unwrap_or(0));
        let dims: Vec<usize> = rows.into_iter().chain(inner).collect();
        let tensor =
            Shape::new(&dims).and_then(|shape| Tensor::dense(self.spec.dtype, shape, self.sink.out.into()));
        let tensor = tensor.map_err(|error| named(&self.spec.name, &to_error(&error)))?;
        Ok(NamedTensor { name: self.spec.name.clone(), tensor })
    }
}

/// Most bytes that JSON of `json_bytes` becomes as tensors of these inputs.
pub(crate) fn decoded_bytes_max(specs: &[TensorSpec], json_bytes: usize) -> usize {
    let one = |spec: &TensorSpec| super::decoded_bytes_max(spec.dtype, &[u64::MAX], json_bytes);
    specs.iter().map(one).max().unwrap_or(0)
}

fn named(input: &str, error: &Error) -> Error {
    Error::new(error.kind(), format!("input '{input}': {}", error.message()))
}

/// Reads `instances`: a list of rows, each an object of the inputs or, for a model of one
/// input, the value itself.
///
/// # Errors
/// What is wrong with it, by the input's name.
pub(crate) fn rows(specs: &[TensorSpec], json: &RawValue) -> Result<Vec<NamedTensor>> {
    let mut columns: Vec<Column<'_>> = specs.iter().map(Column::new).collect();
    let mut count = 0;
    let rows = Rows { columns: &mut columns, count: &mut count };
    let outcome = rows.deserialize(&mut serde_json::Deserializer::from_str(json.get()));
    finish(columns, outcome, Some(count))
}

/// Reads `inputs`: an object of the inputs or, for a model of one input, its value.
///
/// # Errors
/// What is wrong with it, by the input's name.
pub(crate) fn columns(specs: &[TensorSpec], json: &RawValue) -> Result<Vec<NamedTensor>> {
    let mut columns: Vec<Column<'_>> = specs.iter().map(Column::new).collect();
    let values = Values { columns: &mut columns, row: 0 };
    let outcome = values.deserialize(&mut serde_json::Deserializer::from_str(json.get()));
    finish(columns, outcome, None)
}

fn finish(
    columns: Vec<Column<'_>>,
    outcome: serde_json::Result<()>,
    rows: Option<usize>,
) -> Result<Vec<NamedTensor>> {
    if let Err(error) = outcome {
        let fault = columns.into_iter().find_map(|mut column| {
            let name = &column.spec.name;
            column.sink.fault.take().map(|fault| named(name, &fault))
        });
        return Err(fault.unwrap_or_else(|| Error::new(Kind::BadJson, format!("bad JSON: {error}"))));
    }
    columns.into_iter().map(|column| column.finish(rows)).collect()
}

/// The list of rows.
struct Rows<'c, 'a> {
    columns: &'c mut [Column<'a>],
    count: &'c mut usize,
}

impl<'de> DeserializeSeed<'de> for Rows<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<(), D::Error> {
        json.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Rows<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of instances")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        while list.next_element_seed(Values { columns: self.columns, row: *self.count })?.is_some() {
            *self.count += 1;
        }
        Ok(())
    }
}

/// A value for each input: an object, or the value of the only one.
struct Values<'c, 'a> {
    columns: &'c mut [Column<'a>],
    /// Values that each has had before.
    row: usize,
}

impl<'a> Values<'_, 'a> {
    fn only<E: serde::de::Error>(&mut self) -> Result<Value<'_, 'a>, E> {
        match &mut *self.columns {
            [column] => {
                column.values += 1;
                Ok(Value { column, depth: 0 })
            }
            columns => {
                Err(E::custom(format!("the model has {} inputs: give an object of them", columns.len())))
            }
        }
    }
}

impl<'de> DeserializeSeed<'de> for Values<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<(), D::Error> {
        json.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Values<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of the inputs, or a value")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
        while let Some(name) = map.next_key::<std::borrow::Cow<'de, str>>()? {
            let Some(column) = self.columns.iter_mut().find(|column| *column.spec.name == *name) else {
                if name == BASE64 {
                    // The only input's value, in the form of bytes.
                    return self.only()?.base64(&mut map);
                }
                let shown: String = name.chars().take(128).collect();
                return Err(A::Error::custom(format!("the model has no input '{shown}'")));
            };
            if column.values > self.row {
                return Err(column.fail(Kind::BadRequest, "is given twice"));
            }
            column.values += 1;
            map.next_value_seed(Value { column, depth: 0 })?;
        }
        match self.columns.iter_mut().find(|column| column.values <= self.row) {
            Some(missing) => Err(missing.fail(Kind::BadShape, "is missing")),
            None => Ok(()),
        }
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, array: A) -> Result<(), A::Error> {
        self.only()?.visit_seq(array)
    }

    fn visit_bool<E: serde::de::Error>(mut self, value: bool) -> Result<(), E> {
        self.only()?.visit_bool(value)
    }

    fn visit_u64<E: serde::de::Error>(mut self, value: u64) -> Result<(), E> {
        self.only()?.visit_u64(value)
    }

    fn visit_i64<E: serde::de::Error>(mut self, value: i64) -> Result<(), E> {
        self.only()?.visit_i64(value)
    }

    fn visit_f64<E: serde::de::Error>(mut self, value: f64) -> Result<(), E> {
        self.only()?.visit_f64(value)
    }

    fn visit_str<E: serde::de::Error>(mut self, value: &str) -> Result<(), E> {
        self.only()?.visit_str(value)
    }
}

/// A value: an element, or arrays of them.
struct Value<'c, 'a> {
    column: &'c mut Column<'a>,
    depth: usize,
}

impl Value<'_, '_> {
    /// Reads what comes behind the key `b64`, and the end of the object.
    fn base64<'de, A: MapAccess<'de>>(self, map: &mut A) -> Result<(), A::Error> {
        let text = map.next_value::<std::borrow::Cow<'de, str>>()?;
        let column = self.column;
        if map.next_key::<std::borrow::Cow<'de, str>>()?.is_some() {
            return Err(column.fail(Kind::BadRequest, "an object with 'b64' has nothing beside it"));
        }
        match STANDARD.decode(text.as_bytes()) {
            Ok(bytes) => column.element(self.depth)?.text(&bytes),
            Err(_) => Err(column.fail(Kind::BadRequest, "'b64' is not base64")),
        }
    }
}

impl<'de> DeserializeSeed<'de> for Value<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<(), D::Error> {
        json.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Value<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a tensor's elements")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut array: A) -> Result<(), A::Error> {
        let Self { column, depth } = self;
        if depth >= RANK_MAX || column.rank.is_some_and(|rank| depth >= rank) {
            return Err(column.ragged());
        }
        let mut length = 0;
        while array.next_element_seed(Value { column, depth: depth + 1 })?.is_some() {
            length += 1;
        }
        column.array(depth, length)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        match map.next_key::<std::borrow::Cow<'de, str>>()?.as_deref() {
            Some(BASE64) => self.base64(&mut map),
            _ => Err(self.column.fail(Kind::BadRequest, "holds an object that is no 'b64'")),
        }
    }

    fn visit_bool<E: serde::de::Error>(self, value: bool) -> Result<(), E> {
        let sink = self.column.element(self.depth)?;
        if sink.dtype != DType::Bool {
            return Err(sink.misfit(&value));
        }
        sink.integer(i128::from(value))
    }

    fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<(), E> {
        self.column.element(self.depth)?.integer(i128::from(value))
    }

    fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<(), E> {
        self.column.element(self.depth)?.integer(i128::from(value))
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<(), E> {
        self.column.element(self.depth)?.float(value)
    }

    fn visit_str<E: serde::de::Error>(self, value: &str) -> Result<(), E> {
        self.column.element(self.depth)?.text(value.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use sluice_tensor::Dim;

    use super::*;

    fn specs(of: &[(&str, DType)]) -> Vec<TensorSpec> {
        let spec = |(name, dtype): &(&str, DType)| TensorSpec {
            name: (*name).into(),
            dtype: *dtype,
            dims: vec![Dim::Any(None)],
        };
        of.iter().map(spec).collect()
    }

    /// Dimensions and bytes.
    type Packed = (Vec<usize>, Vec<u8>);

    fn read(rows: bool, of: &[(&str, DType)], json: &str) -> std::result::Result<Vec<Packed>, Kind> {
        let raw: &RawValue = serde_json::from_str(json).expect("JSON");
        let read = if rows { super::rows(&specs(of), raw) } else { columns(&specs(of), raw) };
        let each =
            |named: NamedTensor| (named.tensor.shape().dims().to_vec(), named.tensor.to_dense().to_vec());
        read.map(|found| found.into_iter().map(each).collect()).map_err(|error| error.kind())
    }

    #[test]
    fn rows_and_columns_of_the_same_data_are_the_same_tensors() {
        let inputs = [("a", DType::U8), ("b", DType::Bytes)];
        let want = vec![(vec![2, 2], vec![1, 2, 3, 4]), (vec![2], b"\x01\0\0\0x\x02\0\0\0\xff\0".to_vec())];
        let rows = r#"[{"a": [1, 2], "b": "x"}, {"b": {"b64": "/wA="}, "a": [3, 4]}]"#;
        assert_eq!(read(true, &inputs, rows), Ok(want.clone()));
        let columns = r#"{"a": [[1, 2], [3, 4]], "b": ["x", {"b64": "/wA="}]}"#;
        assert_eq!(read(false, &inputs, columns), Ok(want));
    }

    #[test]
    fn the_only_input_needs_no_name() {
        let only = [("a", DType::U8)];
        assert_eq!(read(true, &only, "[[1], [2]]"), Ok(vec![(vec![2, 1], vec![1, 2])]));
        assert_eq!(read(true, &only, "[1, 2]"), Ok(vec![(vec![2], vec![1, 2])]));
        assert_eq!(read(false, &only, "[[], []]"), Ok(vec![(vec![2, 0], vec![])]));
        assert_eq!(read(false, &only, "7"), Ok(vec![(vec![], vec![7])]));
        let bytes = [("a", DType::Bytes)];
        assert_eq!(read(true, &bytes, r#"[{"b64": ""}]"#), Ok(vec![(vec![1], vec![0; 4])]));
    }

    #[test]
    fn doubles_are_read_as_what_they_say() {
        let wanted = 1.2914093049556856e-298_f64.to_le_bytes().to_vec();
        let read = read(false, &[("a", DType::F64)], "1.2914093049556856e-298");
        assert_eq!(read, Ok(vec![(vec![], wanted)]));
    }

    #[test]
    fn data_that_is_no_tensor_is_refused() {
        let only = [("a", DType::U8)];
        for (json, kind) in [
            ("[[1], [2, 3]]", Kind::BadShape),
            ("[1, [2]]", Kind::BadShape),
            ("[[1], 2]", Kind::BadShape),
            ("[[[]], [1]]", Kind::BadShape),
            ("[[[[[[[[[[1]]]]]]]]]]", Kind::BadShape),
            ("[300]", Kind::BadDtype),
            (r#"["x"]"#, Kind::BadDtype),
            ("[null]", Kind::BadJson),
            ("7", Kind::BadJson),
            (r#"[{"z": 1}]"#, Kind::BadJson),
            (r#"[{"a": 1, "a": 2}]"#, Kind::BadRequest),
            (r#"[{"a": 1}, {}]"#, Kind::BadShape),
            (r#"[{"b64": "/wA="}]"#, Kind::BadDtype),
            (r#"[[{"b64": "?"}]]"#, Kind::BadRequest),
            (r#"[[{"b64": "", "x": 1}]]"#, Kind::BadRequest),
        ] {
            assert_eq!(read(true, &only, json), Err(kind), "{json}");
        }
        assert_eq!(read(true, &[("a", DType::U8), ("b", DType::U8)], "[1]"), Err(Kind::BadJson));
    }
}
