//! How large a 64-bit input may be before the model's own arithmetic on it would
//! leave 32 bits, which is all that rten computes integers in.
//!
//! Ids are usually only looked up, and then all of i32 is fine. Where the graph adds
//! an offset or multiplies first, the bound shrinks accordingly, and where no bound
//! can be given the model is refused: a wrong row is worse than no answer.

use std::collections::HashMap;

use rten_onnx::onnx::{DataType, NodeProto};
use sluice_tensor::{DType, Signature};

use super::onnx_file::{ConstantHeader, GraphHeader, integers_of};
use crate::EngineError;

/// Largest magnitude that is let through: one less than i32 holds, because rten cuts
/// larger constants down to that, and no input may equal one that was cut.
const MAGNITUDE_MAX: u64 = i32::MAX as u64 - 1;

/// An integer value of the graph: its magnitude is at most `scale` times the largest
/// input's, plus `offset`.
#[derive(Clone, Copy, Default)]
struct Bound {
    scale: u64,
    offset: u64,
    /// Whether it comes from an input at all, and not only from constants.
    depends: bool,
    /// Of a type whose arithmetic rten does not have: 16 bits, or unsigned.
    foreign: bool,
}

impl Bound {
    fn with(self, other: Self, combine: fn(u64, u64) -> u64) -> Self {
        Self {
            scale: combine(self.scale, other.scale),
            offset: combine(self.offset, other.offset),
            depends: self.depends || other.depends,
            foreign: self.foreign || other.foreign,
        }
    }

    fn larger(self, other: Self) -> Self {
        self.with(other, u64::max)
    }

    fn sum(self, other: Self) -> Self {
        self.with(other, u64::saturating_add)
    }

    /// The product; `None` where both grow with the input.
    fn product(self, other: Self) -> Option<Self> {
        let (grows, factor) = if self.scale == 0 { (other, self) } else { (self, other) };
        let scaled = Self { scale: factor.offset, offset: factor.offset, ..factor };
        (factor.scale == 0).then(|| grows.with(scaled, u64::saturating_mul))
    }

    /// The largest input for which the value still fits.
    fn input_max(self) -> u64 {
        match MAGNITUDE_MAX.checked_sub(self.offset) {
            None => 0,
            Some(room) => room.checked_div(self.scale).unwrap_or(u64::MAX),
        }
    }
}

/// What an operator does to the magnitude of integers.
enum Effect {
    /// Gives back elements of the inputs in this range of places.
    Keeps(std::ops::Range<usize>),
    Adds,
    Multiplies,
    Divides,
    Remainder,
    /// Grows by an amount that only the data says.
    Grows,
    /// The result is no integer, or unrelated to the values.
    Ends,
}

fn effect(node: &NodeProto) -> Effect {
    let attribute = |name: &str| node.attribute.iter().find(|a| a.name.as_deref() == Some(name));
    match node.op_type.as_deref().unwrap_or_default() {
        "Identity" | "Reshape" | "Flatten" | "Squeeze" | "Unsqueeze" | "Transpose" | "Slice" | "Gather"
        | "GatherElements" | "GatherND" | "Expand" | "Tile" | "Split" | "Clip" | "ReduceMax"
        | "ReduceMin" | "TopK" | "Unique" | "Compress" | "Trilu" | "DepthToSpace" | "SpaceToDepth"
        | "Dropout" | "Relu" | "Abs" | "Neg" | "ReverseSequence" => Effect::Keeps(0..1),
        "ScatterElements" | "ScatterND" | "Scatter" => {
            match attribute("reduction").and_then(|a| a.s.as_deref()) {
                None | Some("none" | "max" | "min") => Effect::Keeps(0..3),
                Some(_) => Effect::Grows,
            }
        }
        "Concat" | "Max" | "Min" | "Where" | "Pad" | "Range" | "BitwiseAnd" | "BitwiseOr" | "BitwiseXor"
        | "BitwiseNot" => Effect::Keeps(0..usize::MAX),
        "Cast" => match attribute("to").and_then(|a| a.i) {
            Some(6 | 7) => Effect::Keeps(0..1),
            _ => Effect::Ends,
        },
        "Add" | "Sub" | "Sum" => Effect::Adds,
        "Mul" => Effect::Multiplies,
        "Div" => Effect::Divides,
        "Mod" => Effect::Remainder,
        "Pow" | "BitShift" | "CumSum" | "CumProd" | "ReduceSum" | "ReduceProd" | "ReduceSumSquare"
        | "ReduceL1" | "ReduceL2" | "ReduceMean" | "MatMul" | "Gemm" | "Einsum" | "If" | "Loop" | "Scan" => {
            Effect::Grows
        }
        _ => Effect::Ends,
    }
}

/// The largest magnitude that 64-bit inputs may have.
///
/// # Errors
/// [`EngineError::Unsupported`] where no bound can be given.
pub(super) fn input_magnitude_max(graph: &GraphHeader, signature: &Signature) -> Result<u64, EngineError> {
    let mut bounds: HashMap<&str, Bound> = HashMap::new();
    for spec in &signature.inputs {
        let foreign = matches!(spec.dtype, DType::I16 | DType::U16 | DType::U32 | DType::U64);
        if foreign || spec.dtype == DType::I64 {
            bounds.insert(&spec.name, Bound { scale: 1, offset: 0, depends: true, foreign });
        }
    }
    for constant in &graph.constants {
        if let Some(bound) = constant_bound(constant) {
            bounds.insert(&constant.name, bound);
        }
    }
    let mut largest = MAGNITUDE_MAX;
    for node in &graph.nodes {
        refuse_captures(node, &bounds)?;
        let Some(bound) = node_bound(node, &bounds)? else { continue };
        if bound.depends {
            largest = largest.min(bound.input_max());
        }
        if largest == 0 {
            return Err(unsupported(node));
        }
        for output in &node.output {
            bounds.insert(output, bound);
        }
    }
    Ok(largest)
}

/// Unknown values, such as weights kept in another file, may be anything.
fn constant_bound(constant: &ConstantHeader) -> Option<Bound> {
    (constant.data_type == Some(DataType::INT64)).then(|| magnitude(&constant.integers))
}

fn magnitude(integers: &[i64]) -> Bound {
    let offset = integers.iter().map(|value| value.unsigned_abs()).max().unwrap_or(u64::MAX);
    Bound { offset, ..Bound::default() }
}

/// The bound of a node's outputs; `None` if it has nothing to do with 64-bit inputs.
fn node_bound(node: &NodeProto, bounds: &HashMap<&str, Bound>) -> Result<Option<Bound>, EngineError> {
    if node.op_type.as_deref() == Some("Constant") {
        let tensor = node.attribute.iter().find_map(|attribute| attribute.t.as_ref());
        let is_integer = tensor.filter(|tensor| tensor.data_type == Some(DataType::INT64));
        return Ok(is_integer.map(|tensor| magnitude(&integers_of(tensor))));
    }
    let known: Vec<Option<Bound>> =
        node.input.iter().map(|name| bounds.get(name.as_str()).copied()).collect();
    let among = |places: std::ops::Range<usize>| {
        let inputs = known.iter().enumerate().filter(|(place, _)| places.contains(place));
        inputs.filter_map(|(_, bound)| *bound).reduce(Bound::larger)
    };
    let Some(largest) = among(0..usize::MAX) else { return Ok(None) };
    let effect = effect(node);
    let arithmetic = !matches!(effect, Effect::Keeps(_) | Effect::Ends);
    if arithmetic && !largest.depends {
        // Shapes and constants among themselves: sizes of things that fit in memory.
        return Ok(None);
    }
    let cut_down = |bound: &Option<Bound>| bound.is_none_or(|bound| bound.offset > MAGNITUDE_MAX);
    if arithmetic && (largest.foreign || known.iter().any(cut_down)) {
        return Err(unsupported(node));
    }
    let first = known.first().copied().flatten().unwrap_or_default();
    let second = known.get(1).copied().flatten().unwrap_or_default();
    Ok(match effect {
        Effect::Ends => None,
        Effect::Keeps(places) => among(places),
        Effect::Grows => return Err(unsupported(node)),
        Effect::Adds => known.iter().flatten().copied().reduce(Bound::sum),
        Effect::Multiplies => Some(first.product(second).ok_or_else(|| unsupported(node))?),
        Effect::Divides => Some(Bound { depends: true, ..first }),
        Effect::Remainder => Some(Bound { depends: true, ..second }),
    })
}

/// A nested graph is not looked into: it must not use such a value.
fn refuse_captures(node: &NodeProto, bounds: &HashMap<&str, Bound>) -> Result<(), EngineError> {
    for inner in node.attribute.iter().filter_map(|attribute| attribute.g.as_ref()).flat_map(|g| &g.node) {
        let depends = |name: &String| bounds.get(name.as_str()).is_some_and(|bound| bound.depends);
        if inner.input.iter().any(depends) {
            return Err(unsupported(node));
        }
        refuse_captures(inner, bounds)?;
    }
    Ok(())
}

fn unsupported(node: &NodeProto) -> EngineError {
    let (kind, name) =
        (node.op_type.as_deref().unwrap_or_default(), node.name.as_deref().unwrap_or_default());
    EngineError::Unsupported(format!(
        "node '{name}' ({kind}) computes with integers that may need more than 32 bits"
    ))
}

#[cfg(test)]
mod tests {
    use rten_onnx::onnx::{AttributeProto, GraphProto};
    use sluice_tensor::TensorSpec;

    use super::*;

    fn node(kind: &str, inputs: &[&str], output: &str) -> NodeProto {
        let owned = |name: &&str| (*name).to_owned();
        NodeProto {
            op_type: Some(kind.to_owned()),
            input: inputs.iter().map(owned).collect(),
            output: vec![output.to_owned()],
            ..NodeProto::default()
        }
    }

    /// A graph over one input `x` and the constants `k` = 1000 and `huge` = 2^40.
    fn bound(dtype: DType, nodes: Vec<NodeProto>) -> Result<u64, EngineError> {
        let constant = |(name, value): (&str, i64)| ConstantHeader {
            name: name.to_owned(),
            data_type: Some(DataType::INT64),
            integers: vec![value],
        };
        let constants = [("k", 1000), ("huge", 1 << 40)].map(constant).into();
        let inputs = vec![TensorSpec { name: "x".into(), dtype, dims: vec![] }];
        let graph = GraphHeader { nodes, constants, ..GraphHeader::default() };
        input_magnitude_max(&graph, &Signature { inputs, outputs: vec![] })
    }

    #[test]
    fn look_ups_and_comparisons_take_all_of_32_bits() {
        let nodes = vec![
            node("Reshape", &["x", "k"], "flat"),
            node("Gather", &["table", "flat"], "row"),
            node("Equal", &["x", "huge"], "same"),
            node("Add", &["k", "huge"], "sizes"),
        ];
        assert_eq!(bound(DType::I64, nodes).expect("fits"), MAGNITUDE_MAX);
    }

    #[test]
    fn arithmetic_leaves_less_room() {
        let add = vec![node("Add", &["x", "k"], "y")];
        assert_eq!(bound(DType::I64, add).expect("fits"), MAGNITUDE_MAX - 1000);
        let twice = vec![node("Add", &["x", "x"], "y"), node("Mul", &["k", "y"], "z")];
        assert_eq!(bound(DType::I64, twice).expect("fits"), MAGNITUDE_MAX / 2000);
        let remainder = vec![node("Mod", &["x", "k"], "y"), node("Mul", &["y", "y"], "z")];
        assert_eq!(bound(DType::I64, remainder).expect("fits"), MAGNITUDE_MAX);
    }

    #[test]
    fn what_has_no_bound_is_refused() {
        let mut nested = node("If", &["condition"], "y");
        let inner = GraphProto { node: vec![node("Identity", &["x"], "y")], ..GraphProto::default() };
        nested.attribute.push(AttributeProto { g: Some(inner), ..AttributeProto::default() });
        for (what, dtype, nodes) in [
            ("a product of inputs", DType::I64, vec![node("Mul", &["x", "x"], "y")]),
            ("a sum of unknown length", DType::I64, vec![node("ReduceSum", &["x"], "y")]),
            ("a constant cut down to 32 bits", DType::I64, vec![node("Mod", &["x", "huge"], "y")]),
            ("the same beside an input", DType::I64, vec![node("Concat", &["x", "huge"], "y")]),
            ("a value of unknown size", DType::I64, vec![node("Add", &["x", "unknown"], "y")]),
            ("a remainder that grows again", DType::I64, {
                let mut nodes = vec![node("Mod", &["x", "k"], "a")];
                nodes.extend(
                    [("a", "b"), ("b", "c"), ("c", "d")].map(|(from, to)| node("Mul", &[from, "k"], to)),
                );
                nodes
            }),
            ("16-bit arithmetic, which wraps elsewhere", DType::I16, vec![node("Add", &["x", "k"], "y")]),
            ("a nested graph", DType::I64, vec![nested]),
        ] {
            assert!(matches!(bound(dtype, nodes), Err(EngineError::Unsupported(_))), "{what}");
        }
    }
}
