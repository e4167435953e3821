//! What an ONNX file says about itself before an engine changes it: data types,
//! dimensions, nodes. The weights are skipped.

use std::fs::File;
use std::io::Seek;
use std::path::Path;

use rten_onnx::onnx::{DataType, NodeProto, TensorProto, ValueInfoProto};
use rten_onnx::protobuf::{DecodeMessage, Field, Fields, OwnedValues, ProtobufError, ReadValue, ValueReader};
use sluice_tensor::{DType, Dim, Signature, TensorSpec};

use super::wire;
use crate::EngineError;

/// A model file's graph, without the weights.
#[derive(Default)]
pub(super) struct OnnxFile {
    pub(super) graph: Option<GraphHeader>,
}

/// The graph.
#[derive(Default)]
pub(super) struct GraphHeader {
    pub(super) nodes: Vec<NodeProto>,
    pub(super) constants: Vec<ConstantHeader>,
    pub(super) inputs: Vec<ValueInfoProto>,
    pub(super) outputs: Vec<ValueInfoProto>,
}

/// A constant's name and type, and its values if they are 64-bit integers.
#[derive(Default)]
pub(super) struct ConstantHeader {
    pub(super) name: String,
    pub(super) data_type: Option<DataType>,
    pub(super) integers: Vec<i64>,
}

// Field numbers from the ONNX format's own definition.
const MODEL_GRAPH: u64 = 7;
const GRAPH_NODE: u64 = 1;
const GRAPH_INITIALIZER: u64 = 5;
const GRAPH_INPUT: u64 = 11;
const GRAPH_OUTPUT: u64 = 12;
const TENSOR_DATA_TYPE: u64 = 2;
const TENSOR_INT64_DATA: u64 = 7;
const TENSOR_NAME: u64 = 8;
const TENSOR_RAW_DATA: u64 = 9;

impl OnnxFile {
    /// Reads a file.
    ///
    /// # Errors
    /// It cannot be read, is no ONNX file, or has no graph.
    pub(super) fn read(path: &Path) -> Result<GraphHeader, EngineError> {
        let io = |reason: String| EngineError::Io(format!("{}: {reason}", path.display()));
        let mut file = File::open(path).map_err(|error| io(error.to_string()))?;
        if !file.metadata().is_ok_and(|metadata| metadata.is_file()) {
            return Err(io("not a file".to_owned()));
        }
        let corrupt = |reason: String| EngineError::Corrupt(format!("not an ONNX file: {reason}"));
        wire::check(&file).map_err(corrupt)?;
        file.rewind().map_err(|error| io(error.to_string()))?;
        let model = Self::decode(ValueReader::from_file(file)).map_err(|error| corrupt(error.to_string()))?;
        model.graph.ok_or_else(|| EngineError::Corrupt("not an ONNX file: it has no graph".to_owned()))
    }
}

impl GraphHeader {
    /// The inputs that a caller gives: old files list the constants among them.
    pub(super) fn signature(&self) -> Result<Signature, EngineError> {
        let is_constant =
            |value: &&ValueInfoProto| !self.constants.iter().any(|c| Some(&c.name) == value.name.as_ref());
        Ok(Signature {
            inputs: self.inputs.iter().filter(is_constant).map(spec).collect::<Result<_, _>>()?,
            outputs: self.outputs.iter().map(spec).collect::<Result<_, _>>()?,
        })
    }
}

fn spec(value: &ValueInfoProto) -> Result<TensorSpec, EngineError> {
    let name = value.name.as_deref().unwrap_or_default();
    let Some(tensor) = value.r#type.as_ref().and_then(|kind| kind.tensor_type.as_ref()) else {
        return Err(EngineError::Unsupported(format!("'{name}' is not a tensor")));
    };
    let element = tensor.elem_type.unwrap_or(DataType(0));
    let Some(dtype) = dtype(element) else {
        return Err(EngineError::Unsupported(format!("'{name}' has elements of type {element}")));
    };
    let dims = tensor.shape.iter().flat_map(|shape| &shape.dim).map(|dim| {
        match dim.dim_value.map(usize::try_from) {
            Some(Ok(size)) => Dim::Fixed(size),
            _ => Dim::Any(dim.dim_param.as_deref().filter(|name| !name.is_empty()).map(Into::into)),
        }
    });
    Ok(TensorSpec { name: name.into(), dtype, dims: dims.collect() })
}

fn dtype(element: DataType) -> Option<DType> {
    Some(match element {
        DataType::BOOL => DType::Bool,
        DataType::UINT8 => DType::U8,
        DataType::UINT16 => DType::U16,
        DataType::UINT32 => DType::U32,
        DataType::UINT64 => DType::U64,
        DataType::INT8 => DType::I8,
        DataType::INT16 => DType::I16,
        DataType::INT32 => DType::I32,
        DataType::INT64 => DType::I64,
        DataType::FLOAT16 => DType::F16,
        DataType::BFLOAT16 => DType::Bf16,
        DataType::FLOAT => DType::F32,
        DataType::DOUBLE => DType::F64,
        DataType::STRING => DType::Bytes,
        _ => return None,
    })
}

impl DecodeMessage for OnnxFile {
    type Types = OwnedValues;

    fn decode_fields<R: ReadValue<Types = OwnedValues>>(
        mut fields: Fields<'_, R>,
    ) -> Result<Self, ProtobufError> {
        let mut model = Self::default();
        while let Some(mut field) = fields.next()? {
            match field.number() {
                MODEL_GRAPH => model.graph = Some(GraphHeader::decode_field(&mut field)?),
                _ => field.skip()?,
            }
        }
        Ok(model)
    }
}

impl DecodeMessage for GraphHeader {
    type Types = OwnedValues;

    fn decode_fields<R: ReadValue<Types = OwnedValues>>(
        mut fields: Fields<'_, R>,
    ) -> Result<Self, ProtobufError> {
        let mut graph = Self::default();
        while let Some(mut field) = fields.next()? {
            match field.number() {
                GRAPH_NODE => graph.nodes.push(NodeProto::decode_field(&mut field)?),
                GRAPH_INITIALIZER => graph.constants.push(ConstantHeader::decode_field(&mut field)?),
                GRAPH_INPUT => graph.inputs.push(ValueInfoProto::decode_field(&mut field)?),
                GRAPH_OUTPUT => graph.outputs.push(ValueInfoProto::decode_field(&mut field)?),
                _ => field.skip()?,
            }
        }
        Ok(graph)
    }
}

impl DecodeMessage for ConstantHeader {
    type Types = OwnedValues;

    fn decode_fields<R: ReadValue<Types = OwnedValues>>(
        mut fields: Fields<'_, R>,
    ) -> Result<Self, ProtobufError> {
        let mut constant = Self::default();
        while let Some(mut field) = fields.next()? {
            match field.number() {
                TENSOR_DATA_TYPE => constant.data_type = Some(DataType(field.get_enum()?)),
                TENSOR_NAME => constant.name = field.read_string()?,
                TENSOR_INT64_DATA => constant.read_packed(&mut field)?,
                // The type comes before the data wherever files are written in order; where
                // it does not, nothing is known of the values, as for weights kept elsewhere.
                TENSOR_RAW_DATA if constant.data_type == Some(DataType::INT64) => {
                    constant.integers.extend(integers(&field.read_bytes()?));
                }
                _ => field.skip()?,
            }
        }
        Ok(constant)
    }
}

impl ConstantHeader {
    fn read_packed<R: ReadValue<Types = OwnedValues>>(
        &mut self,
        field: &mut Field<'_, R>,
    ) -> Result<(), ProtobufError> {
        for integer in field.read_repeated_int64()? {
            self.integers.push(integer?);
        }
        Ok(())
    }
}

/// The 64-bit integers of a constant inside of a node.
pub(super) fn integers_of(tensor: &TensorProto) -> Vec<i64> {
    let mut all = tensor.int64_data.clone();
    if tensor.data_type == Some(DataType::INT64)
        && let Some(raw) = &tensor.raw_data
    {
        all.extend(integers(&raw.borrow()));
    }
    all
}

fn integers(raw: &[u8]) -> impl Iterator<Item = i64> {
    raw.as_chunks::<8>().0.iter().map(|bytes| i64::from_le_bytes(*bytes))
}
