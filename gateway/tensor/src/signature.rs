//! What a model takes and gives, and the check of tensors against it.

use std::fmt;
use std::sync::Arc;

use crate::{DType, NamedTensor, TensorError};

/// Most elements that an empty input of a request may span, its zeros left out.
///
/// An empty input costs a caller nothing, whatever its other dimensions say, while a model may
/// give something for each of them. A million is what a decoder's empty cache spans in a large
/// batch (64 rows of 128 heads of 128). More answers 400 `bad_shape`. A batch of many
/// requests may span more: see [`crate::EMPTY_SPAN_MAX`].
pub const EMPTY_INPUT_SPAN_MAX: usize = 1 << 20;

/// One dimension of a model's input or output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Dim {
    /// Always this size.
    Fixed(usize),
    /// Any size; the model may have a name for it, such as `batch`.
    Any(Option<Arc<str>>),
}

impl Dim {
    /// The size as KServe V2 metadata writes it: -1 when it may vary.
    pub fn to_wire(&self) -> i64 {
        match self {
            Self::Fixed(size) => i64::try_from(*size).unwrap_or(i64::MAX),
            Self::Any(_) => -1,
        }
    }
}

/// The name, type and dimensions of one input or output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorSpec {
    /// As the model file has it.
    pub name: Arc<str>,
    /// The element type.
    pub dtype: DType,
    /// The dimensions, the batch axis included.
    pub dims: Vec<Dim>,
}

/// A model's inputs and outputs, read from its file.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Signature {
    /// What the model takes.
    pub inputs: Vec<TensorSpec>,
    /// What it gives.
    pub outputs: Vec<TensorSpec>,
}

impl TensorSpec {
    /// Whether the first dimension may vary, so that rows of several requests can
    /// share a batch.
    pub fn is_batchable(&self) -> bool {
        matches!(self.dims.first(), Some(Dim::Any(_)))
    }

    /// Checks one tensor's type and shape; the message names the tensor and the model.
    ///
    /// # Errors
    /// [`TensorError::Signature`].
    pub fn check(&self, model: &str, tensor: &crate::Tensor) -> Result<(), TensorError> {
        if tensor.dtype() != self.dtype {
            return Err(TensorError::Signature(format!(
                "inference input '{}' data-type is '{}', but model '{model}' expects '{}'",
                self.name,
                tensor.dtype(),
                self.dtype
            )));
        }
        let dims = tensor.shape().dims();
        let fits = dims.len() == self.dims.len()
            && self.dims.iter().zip(dims).all(|(want, got)| match want {
                Dim::Fixed(size) => size == got,
                Dim::Any(_) => true,
            });
        if fits && tensor.shape().elements() == 0 && tensor.shape().span() > EMPTY_INPUT_SPAN_MAX {
            return Err(TensorError::Empty { span: tensor.shape().span(), max: EMPTY_INPUT_SPAN_MAX });
        }
        if fits {
            return Ok(());
        }
        Err(TensorError::Signature(format!(
            "unexpected shape for input '{}' for model '{model}'. Expected {}, got {}",
            self.name,
            DimsDisplay(&self.dims),
            tensor.shape()
        )))
    }
}

impl Signature {
    /// Whether every input and output has a first dimension that may vary.
    pub fn is_batchable(&self) -> bool {
        !self.inputs.is_empty() && self.inputs.iter().chain(&self.outputs).all(TensorSpec::is_batchable)
    }

    /// Checks a request's inputs and puts them in the model's order, which a batch
    /// relies on. Returns how many rows the request has: its share of a batch of at
    /// most `rows_max` rows, or 1 where the model takes no batches (`rows_max` 0).
    /// The messages are worded as Triton's: clients and their tests look for them.
    ///
    /// # Errors
    /// [`TensorError::Signature`] for a missing, unknown, doubled or unfit input,
    /// and for rows that are none, too many, or unequal among the inputs.
    pub fn check_inputs(
        &self,
        model: &str,
        inputs: &mut [NamedTensor],
        rows_max: usize,
    ) -> Result<usize, TensorError> {
        let fault = |message: String| Err(TensorError::Signature(message));
        if inputs.len() != self.inputs.len() {
            return fault(self.miscounted(model, inputs));
        }
        let mut rows = None;
        for (place, spec) in self.inputs.iter().enumerate() {
            let Some(at) = inputs.iter().skip(place).position(|input| input.name == spec.name) else {
                return fault(self.misnamed(model, inputs));
            };
            inputs.swap(place, place + at);
            let tensor = &inputs[place].tensor;
            spec.check(model, tensor)?;
            if rows_max == 0 {
                continue;
            }
            let got = tensor.shape().rows();
            if *rows.get_or_insert(got) != got {
                return fault(format!(
                    "input '{}' batch size does not match other inputs for '{model}'",
                    spec.name
                ));
            }
        }
        match rows {
            None => Ok(1),
            Some(0) => fault("the batch dimension is 0".to_owned()),
            Some(rows) if rows > rows_max => {
                fault(format!("inference request batch-size must be <= {rows_max} for '{model}'"))
            }
            Some(rows) => Ok(rows),
        }
    }

    /// What is wrong with inputs of another number than the model's.
    fn miscounted(&self, model: &str, inputs: &[NamedTensor]) -> String {
        let is_given = |spec: &&TensorSpec| inputs.iter().any(|input| input.name == spec.name);
        let missing: Vec<String> = self
            .inputs
            .iter()
            .filter(|spec| !is_given(spec))
            .map(|spec| format!("'{}'", spec.name))
            .collect();
        let (wanted, got) = (self.inputs.len(), inputs.len());
        if missing.is_empty() {
            return format!("expected {wanted} inputs but got {got} inputs for model '{model}'");
        }
        let missing = missing.join(",");
        format!(
            "expected {wanted} inputs but got {got} inputs for model '{model}', missing required input(s) [{missing}]"
        )
    }

    /// What is wrong with as many inputs as the model's, one of which is missing.
    fn misnamed(&self, model: &str, inputs: &[NamedTensor]) -> String {
        let is_known = |input: &&NamedTensor| self.inputs.iter().any(|spec| spec.name == input.name);
        match inputs.iter().find(|input| !is_known(input)) {
            Some(unknown) => {
                let shown: String = unknown.name.chars().take(128).collect();
                format!("unexpected inference input '{shown}' for model '{model}'")
            }
            None => format!("an input of model '{model}' is given twice"),
        }
    }
}

struct DimsDisplay<'a>(&'a [Dim]);

impl fmt::Display for DimsDisplay<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let dims: Vec<String> = self.0.iter().map(|dim| dim.to_wire().to_string()).collect();
        write!(f, "[{}]", dims.join(","))
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::{Shape, Tensor};

    fn signature() -> Signature {
        let spec = |name: &str, dims| TensorSpec { name: name.into(), dtype: DType::F32, dims };
        let rows = || Dim::Any(Some("n".into()));
        Signature {
            inputs: vec![spec("a", vec![rows(), Dim::Fixed(2)]), spec("b", vec![rows()])],
            outputs: vec![spec("y", vec![rows()])],
        }
    }

    fn input(name: &str, dims: &[usize]) -> NamedTensor {
        let shape = Shape::new(dims).expect("fits");
        let data = Bytes::from(vec![0; shape.elements() * 4]);
        NamedTensor { name: name.into(), tensor: Tensor::dense(DType::F32, shape, data).expect("valid") }
    }

    #[test]
    fn inputs_are_put_in_order_and_their_rows_counted() {
        let mut inputs = vec![input("b", &[3]), input("a", &[3, 2])];
        assert_eq!(signature().check_inputs("m", &mut inputs, 8), Ok(3));
        assert_eq!(&*inputs[0].name, "a");
    }

    #[test]
    fn an_input_without_elements_spans_no_more_than_is_allowed() {
        let dims = vec![Dim::Any(None), Dim::Any(None)];
        let spec = TensorSpec { name: "a".into(), dtype: DType::F32, dims };
        let check = |dims: &[usize]| spec.check("m", &input("a", dims).tensor);
        assert_eq!(check(&[EMPTY_INPUT_SPAN_MAX, 0]), Ok(()));
        let (span, max) = (EMPTY_INPUT_SPAN_MAX + 1, EMPTY_INPUT_SPAN_MAX);
        assert_eq!(check(&[span, 0]), Err(TensorError::Empty { span, max }));
    }

    #[test]
    fn inputs_that_do_not_fit_are_refused_by_name() {
        let refused = [
            vec![input("a", &[3, 2])],
            vec![input("a", &[3, 2]), input("a", &[3, 2])],
            vec![input("a", &[3, 2]), input("c", &[3])],
            vec![input("a", &[3, 3]), input("b", &[3])],
            vec![input("a", &[3, 2]), input("b", &[2])],
            vec![input("a", &[0, 2]), input("b", &[0])],
            vec![input("a", &[9, 2]), input("b", &[9])],
        ];
        for (case, mut inputs) in refused.into_iter().enumerate() {
            assert!(signature().check_inputs("m", &mut inputs, 8).is_err(), "case {case}");
        }
    }
}
