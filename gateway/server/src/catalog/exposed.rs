//! How a model's inputs and outputs look to clients, where its configuration declares them
//! otherwise than its file: fewer outputs, another order, other dimensions.

use std::sync::Arc;

use sluice_tensor::{Dim, NamedTensor, Shape, Signature, Tensor, TensorSpec};

use crate::config::{DeclaredTensor, Presentation};
use crate::error::{Error, Kind, Result};

/// The declared signature, and the way to and from the file's.
pub(super) struct Exposed {
    signature: Signature,
    /// For each input of the file: its place among the declared ones, and its dimensions.
    inputs: Vec<(usize, Option<Dims>)>,
    /// For each declared output: its place in the file, and its declared dimensions.
    outputs: Vec<(usize, Option<Dims>)>,
}

/// Dimensions to give a tensor: fixed, or what a dimension of the tensor has.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Dims(Vec<From>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum From {
    Fixed(usize),
    Place(usize),
}

impl Exposed {
    /// What a configuration declares of a model; `None` if it says no more than the file.
    ///
    /// # Errors
    /// The declaration does not fit the file.
    pub(super) fn new(
        file: &Signature,
        declared: &Presentation,
        has_batch: bool,
    ) -> std::result::Result<Option<Self>, String> {
        if declared.inputs.is_empty() && declared.outputs.is_empty() {
            check_labels(declared.labels.keys(), file)?;
            return Ok(None);
        }
        let inputs = side("input", &file.inputs, &declared.inputs, has_batch)?;
        let outputs = side("output", &file.outputs, &declared.outputs, has_batch)?;
        if inputs.len() != file.inputs.len() {
            let wanted: Vec<&str> = file.inputs.iter().map(|spec| &*spec.name).collect();
            let (got, want) = (inputs.len(), wanted.len());
            return Err(format!(
                "{got} inputs are declared, the model's file has {want}: {}",
                wanted.join(", ")
            ));
        }
        let mut to_file = vec![(0, None); inputs.len()];
        for (place, side) in inputs.iter().enumerate() {
            to_file[side.in_file] = (place, side.to_file.clone());
        }
        let signature = Signature {
            inputs: inputs.iter().map(|side| side.spec.clone()).collect(),
            outputs: outputs.iter().map(|side| side.spec.clone()).collect(),
        };
        check_labels(declared.labels.keys(), &signature)?;
        let outputs = outputs.into_iter().map(|side| (side.in_file, side.from_file)).collect();
        Ok(Some(Self { signature, inputs: to_file, outputs }))
    }

    /// As clients see it.
    pub(super) fn signature(&self) -> &Signature {
        &self.signature
    }

    /// Checked inputs in the declared order, as the file has them.
    ///
    /// # Errors
    /// [`Kind::BadShape`]: the dimensions do not have the elements of those of the file.
    pub(super) fn to_file(&self, inputs: &[NamedTensor]) -> Result<Vec<NamedTensor>> {
        let one = |(place, dims): &(usize, Option<Dims>)| {
            let input = inputs.get(*place).ok_or_else(|| Error::new(Kind::Internal, "internal error"))?;
            reshaped(input, dims.as_ref()).map_err(|what| Error::new(Kind::BadShape, what))
        };
        self.inputs.iter().map(one).collect()
    }

    /// The file's outputs, as they are declared.
    ///
    /// # Errors
    /// [`Kind::Engine`]: the model gave other dimensions than its configuration says.
    pub(super) fn as_declared(&self, outputs: &[NamedTensor]) -> Result<Vec<NamedTensor>> {
        let one = |(place, dims): &(usize, Option<Dims>)| {
            let output = outputs.get(*place).ok_or_else(|| Error::new(Kind::Internal, "internal error"))?;
            reshaped(output, dims.as_ref()).map_err(|what| Error::new(Kind::Engine, what))
        };
        self.outputs.iter().map(one).collect()
    }
}

/// Labels are those of outputs that there are.
///
/// # Errors
/// The first one that is not.
pub(super) fn check_labels<'l>(
    mut labelled: impl Iterator<Item = &'l Arc<str>>,
    signature: &Signature,
) -> std::result::Result<(), String> {
    let is_there = |name: &&Arc<str>| signature.outputs.iter().any(|spec| spec.name == **name);
    match labelled.find(|name| !is_there(name)) {
        Some(unknown) => Err(format!("labels are given for '{unknown}', which is no output")),
        None => Ok(()),
    }
}

/// A declared tensor, and where it is in the file.
struct Side {
    in_file: usize,
    spec: TensorSpec,
    to_file: Option<Dims>,
    from_file: Option<Dims>,
}

fn side(
    kind: &str,
    file: &[TensorSpec],
    declared: &[DeclaredTensor],
    has_batch: bool,
) -> std::result::Result<Vec<Side>, String> {
    if declared.is_empty() {
        let as_it_is = |(in_file, spec): (usize, &TensorSpec)| Side {
            in_file,
            spec: spec.clone(),
            to_file: None,
            from_file: None,
        };
        return Ok(file.iter().enumerate().map(as_it_is).collect());
    }
    let mut sides = Vec::with_capacity(declared.len());
    for tensor in declared {
        let name = &tensor.name;
        let Some((in_file, spec)) = file.iter().enumerate().find(|(_, spec)| spec.name == *name) else {
            let there: Vec<&str> = file.iter().map(|spec| &*spec.name).collect();
            return Err(format!(
                "{kind} '{name}' is not in the model's file, which has {}",
                there.join(", ")
            ));
        };
        if spec.dtype != tensor.dtype {
            let (declared, file) = (tensor.dtype, spec.dtype);
            return Err(format!("{kind} '{name}' is declared as {declared}, the model's file has {file}"));
        }
        let outside = whole(&tensor.dims, has_batch);
        let inside = tensor.reshape.as_deref().map(|dims| whole(dims, has_batch));
        check_dims(kind, name, inside.as_ref().unwrap_or(&outside), &spec.dims)?;
        let ways = inside.as_ref().map(|inside| way(kind, name, &outside, inside)).transpose()?;
        let (to_file, from_file) = ways.unzip();
        let spec = TensorSpec { name: Arc::clone(name), dtype: tensor.dtype, dims: outside };
        sides.push(Side { in_file, spec, to_file, from_file });
    }
    Ok(sides)
}

fn whole(dims: &[Option<usize>], has_batch: bool) -> Vec<Dim> {
    let batch = has_batch.then_some(Dim::Any(None));
    let one = |dim: &Option<usize>| dim.map_or(Dim::Any(None), Dim::Fixed);
    batch.into_iter().chain(dims.iter().map(one)).collect()
}

/// What the file leaves open the configuration may fix, not the other way round.
fn check_dims(kind: &str, name: &str, declared: &[Dim], file: &[Dim]) -> std::result::Result<(), String> {
    let fits = declared.len() == file.len()
        && declared.iter().zip(file).all(|(declared, file)| match (declared, file) {
            (_, Dim::Any(_)) => true,
            (Dim::Fixed(declared), Dim::Fixed(file)) => declared == file,
            (Dim::Any(_), Dim::Fixed(_)) => false,
        });
    if fits {
        return Ok(());
    }
    let show = |dims: &[Dim]| format!("{:?}", dims.iter().map(Dim::to_wire).collect::<Vec<_>>());
    let (declared, file) = (show(declared), show(file));
    Err(format!("{kind} '{name}' is declared with the shape {declared}, the model's file has {file}"))
}

/// From the declared dimensions to the file's, and back: dimensions of any size keep their
/// order.
fn way(kind: &str, name: &str, outside: &[Dim], inside: &[Dim]) -> std::result::Result<(Dims, Dims), String> {
    let open = |dims: &[Dim]| -> Vec<usize> {
        let places = dims.iter().enumerate().filter(|(_, dim)| matches!(dim, Dim::Any(_)));
        places.map(|(place, _)| place).collect()
    };
    let elements = |dims: &[Dim]| {
        let fixed = dims.iter().filter_map(|dim| if let Dim::Fixed(size) = dim { Some(*size) } else { None });
        fixed.fold(1usize, usize::saturating_mul)
    };
    let (outer, inner) = (open(outside), open(inside));
    if outer.len() != inner.len() || elements(outside) != elements(inside) {
        return Err(format!("{kind} '{name}' has a reshape with another number of elements"));
    }
    let dims = |dims: &[Dim], places: &[usize]| {
        let mut places = places.iter();
        let one = |dim: &Dim| match dim {
            Dim::Fixed(size) => From::Fixed(*size),
            Dim::Any(_) => From::Place(places.next().copied().unwrap_or(0)),
        };
        Dims(dims.iter().map(one).collect())
    };
    Ok((dims(inside, &outer), dims(outside, &inner)))
}

fn reshaped(tensor: &NamedTensor, dims: Option<&Dims>) -> std::result::Result<NamedTensor, String> {
    let Some(Dims(dims)) = dims else { return Ok(tensor.clone()) };
    let given = tensor.tensor.shape().dims();
    let dims: Vec<usize> = dims
        .iter()
        .map(|dim| match dim {
            From::Fixed(size) => *size,
            From::Place(place) => given.get(*place).copied().unwrap_or(0),
        })
        .collect();
    let shape = Shape::new(&dims).map_err(|error| error.to_string())?;
    let what =
        || format!("'{}' has shape {}, which cannot become {shape}", tensor.name, tensor.tensor.shape());
    let reshaped: Tensor = tensor.tensor.reshaped(shape).map_err(|_| what())?;
    Ok(NamedTensor { name: Arc::clone(&tensor.name), tensor: reshaped })
}

#[cfg(test)]
mod tests {
    use sluice_tensor::DType;

    use super::*;

    fn declared(name: &str, dims: &[i64], reshape: Option<&[i64]>) -> DeclaredTensor {
        let open = |dims: &[i64]| dims.iter().map(|dim| usize::try_from(*dim).ok()).collect::<Vec<_>>();
        DeclaredTensor { name: name.into(), dtype: DType::F32, dims: open(dims), reshape: reshape.map(open) }
    }

    fn spec(name: &str, dims: &[i64]) -> TensorSpec {
        let dim = |dim: &i64| usize::try_from(*dim).map_or(Dim::Any(None), Dim::Fixed);
        TensorSpec { name: name.into(), dtype: DType::F32, dims: dims.iter().map(dim).collect() }
    }

    fn tensor(name: &str, dims: &[usize]) -> NamedTensor {
        let shape = Shape::new(dims).expect("fits");
        let values = vec![0.5; shape.elements()];
        NamedTensor { name: name.into(), tensor: Tensor::from_f32(shape, &values).expect("valid") }
    }

    fn exposed(
        inputs: Vec<DeclaredTensor>,
        outputs: Vec<DeclaredTensor>,
    ) -> std::result::Result<Option<Exposed>, String> {
        let file = Signature {
            inputs: vec![spec("a", &[-1, 4]), spec("b", &[-1, -1])],
            outputs: vec![spec("y", &[-1]), spec("z", &[-1, 6])],
        };
        Exposed::new(&file, &Presentation { inputs, outputs, ..Presentation::default() }, true)
    }

    #[test]
    fn inputs_and_outputs_get_the_order_and_dimensions_that_are_declared() {
        let inputs = vec![declared("b", &[-1], None), declared("a", &[2, 2], Some(&[4]))];
        let outputs = vec![declared("z", &[2, 3], Some(&[6])), declared("y", &[1], Some(&[]))];
        let exposed = exposed(inputs, outputs).expect("fits").expect("differs");
        assert_eq!(exposed.signature().inputs[1].dims, [Dim::Any(None), Dim::Fixed(2), Dim::Fixed(2)]);
        let to_file = exposed.to_file(&[tensor("b", &[3, 7]), tensor("a", &[3, 2, 2])]).expect("fits");
        assert_eq!((&*to_file[0].name, to_file[0].tensor.shape().dims()), ("a", &[3, 4][..]));
        assert_eq!((&*to_file[1].name, to_file[1].tensor.shape().dims()), ("b", &[3, 7][..]));
        let outputs = exposed.as_declared(&[tensor("y", &[3]), tensor("z", &[3, 6])]).expect("fits");
        assert_eq!((&*outputs[0].name, outputs[0].tensor.shape().dims()), ("z", &[3, 2, 3][..]));
        assert_eq!(outputs[1].tensor.shape().dims(), [3, 1]);
        assert!(exposed.as_declared(&[tensor("y", &[3]), tensor("z", &[3, 5])]).is_err());
    }

    #[test]
    fn a_declaration_that_does_not_fit_the_file_is_refused_by_name() {
        let both = |a: DeclaredTensor| vec![a, declared("b", &[5], None)];
        assert!(exposed(both(declared("a", &[4], None)), vec![]).is_ok());
        let refused = [
            vec![declared("a", &[4], None)],
            both(declared("c", &[4], None)),
            both(declared("a", &[-1], None)),
            both(declared("a", &[5], None)),
            both(declared("a", &[4, 1], None)),
            both(declared("a", &[2, 2], None)),
            both(declared("a", &[3, 2], Some(&[4]))),
            both(declared("a", &[2, -1], Some(&[4]))),
            both(DeclaredTensor { dtype: DType::I32, ..declared("a", &[4], None) }),
        ];
        for (case, inputs) in refused.into_iter().enumerate() {
            assert!(exposed(inputs, vec![]).is_err(), "case {case}");
        }
        assert!(exposed(vec![], vec![]).expect("fits").is_none());
    }
}
