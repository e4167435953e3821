//! What the configuration and a request are to the scheduler.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::{Arc, LazyLock};

use sluice_batch::{Demand, ENTRY_ROWS_MAX, Policy, ShapeKey, TenantKey};
use sluice_engine::{Padding, PaddingSpec};
use sluice_tensor::{DType, NamedTensor, Shape, Signature, TENSOR_BYTES_MAX, Tensor, TensorError};

use crate::config::{self, BatchWeight, Batching};
use crate::error::{Error, Kind, Result};
use crate::pipeline::{CheckedInputs, Parameter, RequestOptions};

/// The name of what [`config::Engine`]'s `runs_max` counts. No resource of the
/// configuration has an empty name.
const RUNS: &str = "";

/// How a model's entries are batched.
pub(super) fn policy(max_batch_size: usize, batching: &Batching) -> Policy {
    let shares = batching.tenants.iter().map(|(name, share)| (tenant_key(Some(name)), *share));
    Policy {
        max_batch_size,
        max_batch_weight: batching.max_batch_weight,
        mode: batching.mode,
        max_queue_delay: batching.max_queue_delay,
        latency_objective: batching.latency_objective,
        preferred_batch_sizes: batching.preferred_batch_sizes.clone(),
        preserve_ordering: batching.preserve_ordering,
        priority_levels: batching.priority_levels,
        default_priority_level: batching.default_priority_level,
        queue_policy: batching.default_queue_policy.clone(),
        level_policies: batching.priority_queue_policy.clone(),
        tenant_weights: shares.collect(),
        max_queue_size: batching.max_queue_size,
    }
}

/// What runs of all models share.
pub(super) fn resources(engine: &config::Engine) -> BTreeMap<Arc<str>, usize> {
    let runs = (engine.runs_max > 0).then(|| (RUNS.into(), engine.runs_max));
    engine.resources.iter().map(|(name, units)| (Arc::clone(name), *units)).chain(runs).collect()
}

/// What a run of a model takes of it.
pub(super) fn demand(engine: &config::Engine, batching: &Batching) -> Demand {
    let runs = (engine.runs_max > 0).then(|| (RUNS.into(), 1));
    let named = batching.resources.iter().map(|(name, units)| (Arc::clone(name), *units));
    Demand { units: named.chain(runs).collect(), share: batching.run_share }
}

/// What a request costs beside others.
pub(super) fn weight(weight: BatchWeight, inputs: &CheckedInputs, options: &RequestOptions) -> usize {
    match weight {
        BatchWeight::Rows => inputs.rows,
        BatchWeight::Elements => {
            let elements = inputs.inputs.iter().map(|input| input.tensor.shape().elements());
            elements.fold(0, usize::saturating_add).min(ENTRY_ROWS_MAX)
        }
        BatchWeight::Cost => {
            let declared = match options.parameter("cost") {
                Some(Parameter::Integer(cost)) => usize::try_from(*cost).unwrap_or(0),
                Some(Parameter::Unsigned(cost)) => usize::try_from(*cost).unwrap_or(usize::MAX),
                _ => 0,
            };
            // Nobody gets more than a share by declaring less.
            declared.max(inputs.rows).min(ENTRY_ROWS_MAX)
        }
    }
}

/// Names and shapes become numbers by a hash whose key is this process's own. Callers choose
/// what is hashed: with a hash that they could compute they would find two shapes of one
/// number, and have their rows put into others' batches, which then fail.
static KEYED: LazyLock<RandomState> = LazyLock::new(RandomState::new);

/// The scheduler tells tenants apart by a number; 0 is for those who have no name.
pub(super) fn tenant_key(name: Option<&str>) -> TenantKey {
    name.map_or(0, |name| KEYED.hash_one(name).max(1))
}

/// Rows may share a batch when all their dimensions but the first agree, after padding.
pub(super) fn shape_key(inputs: &[NamedTensor], padding: Option<&PaddedModel>) -> ShapeKey {
    let size = padding.and_then(|padded| padded.padding.size(padded.padding.length(inputs)));
    let mut hasher = KEYED.build_hasher();
    for (number, input) in inputs.iter().enumerate() {
        let padded = padding.zip(size).filter(|(padded, _)| padded.padding.pads(number));
        for (axis, dim) in input.tensor.shape().dims().iter().enumerate().skip(1) {
            let dim = match padded {
                Some((padded, size)) if axis == padded.padding.axis() => size,
                _ => *dim,
            };
            hasher.write_usize(dim);
        }
        hasher.write_usize(usize::MAX);
    }
    hasher.finish()
}

/// How a model's requests are padded.
pub(super) struct PaddedModel {
    /// For the engine.
    pub(super) padding: Arc<Padding>,
    /// The input that tells padding from values, made where a request has none.
    mask: Option<(Arc<str>, DType)>,
    /// An input that is as long as the request.
    lead: Arc<str>,
}

impl PaddedModel {
    /// Finds the inputs and outputs that are named.
    ///
    /// # Errors
    /// A name that the model has not, or something that cannot be padded.
    pub(super) fn new(signature: &Signature, config: &config::Padding) -> std::result::Result<Self, String> {
        let mut inputs: Vec<_> = config.inputs.iter().map(|name| (Arc::clone(name), config.value)).collect();
        // Where there is padding, the mask is 0.
        inputs.extend(config.mask.iter().map(|name| (Arc::clone(name), 0.0)));
        let (sizes, outputs) = (config.sizes.clone(), config.trim.clone());
        let spec = PaddingSpec { inputs, axis: config.axis, sizes, outputs };
        let padding = Padding::new(signature, &spec)?;
        let mask = match &config.mask {
            None => None,
            Some(name) => {
                let found = signature.inputs.iter().find(|input| input.name == *name);
                let dtype =
                    found.map(|input| input.dtype).ok_or_else(|| format!("there is no input '{name}'"))?;
                ones(dtype, 0).ok_or_else(|| format!("the {dtype} input '{name}' cannot be a mask"))?;
                Some((Arc::clone(name), dtype))
            }
        };
        let lead = config.inputs.first().cloned().ok_or_else(|| "needs inputs".to_owned())?;
        Ok(Self { padding: Arc::new(padding), mask, lead })
    }

    /// Adds the mask, all ones, to a request that has none.
    ///
    /// The mask has the size that the lead input says, which nobody has checked yet: what
    /// does not fit the model is left as it is, for the check of the signature to refuse.
    pub(super) fn complete(
        &self,
        model: &str,
        signature: &Signature,
        inputs: &mut Vec<NamedTensor>,
    ) -> Result<()> {
        let Some((name, dtype)) = &self.mask else { return Ok(()) };
        if inputs.iter().any(|input| input.name == *name) {
            return Ok(());
        }
        let unfit = |error: TensorError| Error::new(Kind::BadShape, error.to_string());
        let Some(lead) = inputs.iter().find(|input| input.name == self.lead) else { return Ok(()) };
        let Some(spec) = signature.inputs.iter().find(|input| input.name == self.lead) else { return Ok(()) };
        spec.check(model, &lead.tensor).map_err(unfit)?;
        let dims = lead.tensor.shape().dims();
        let dims = dims.get(..=self.padding.axis()).unwrap_or(dims);
        let shape = Shape::new(dims).map_err(unfit)?;
        let bytes = shape.bytes(*dtype).map_err(unfit)?.unwrap_or(usize::MAX);
        if bytes > TENSOR_BYTES_MAX {
            return Err(unfit(TensorError::TooLarge { bytes, max: TENSOR_BYTES_MAX }));
        }
        let data = ones(*dtype, shape.elements()).unwrap_or_default();
        let tensor = Tensor::dense(*dtype, shape, data.into()).map_err(unfit)?;
        inputs.push(NamedTensor { name: Arc::clone(name), tensor });
        Ok(())
    }

    /// Refuses a request that is longer than the largest size, not equally long in all
    /// inputs, or too large once it is padded: an input of `[1, 0, 10^6]` has no bytes until
    /// then. They are in the order of the signature.
    pub(super) fn check(&self, inputs: &[NamedTensor]) -> Result<()> {
        let length = self.padding.length(inputs);
        let Some(size) = self.padding.size(length) else {
            let message = format!("input '{}' is {length} long, more than any allowed size", self.lead);
            return Err(Error::new(Kind::BadShape, message));
        };
        for (number, input) in inputs.iter().enumerate().filter(|(number, _)| self.padding.pads(*number)) {
            let own = input.tensor.shape().dims().get(self.padding.axis()).copied();
            if own != Some(length) {
                let message = format!("input '{}' is not as long as '{}'", input.name, self.lead);
                return Err(Error::new(Kind::BadShape, message).with_detail(format!("input {number}")));
            }
            let dims = input.tensor.shape().dims().iter().enumerate();
            let element = input.tensor.dtype().size().unwrap_or(1);
            let padded = dims.map(|(axis, dim)| if axis == self.padding.axis() { size } else { *dim });
            let bytes = padded.fold(element, usize::saturating_mul);
            if bytes > TENSOR_BYTES_MAX {
                let error = TensorError::TooLarge { bytes, max: TENSOR_BYTES_MAX };
                let message = format!("input '{}', once it is padded: {error}", input.name);
                return Err(Error::new(Kind::BadShape, message));
            }
        }
        Ok(())
    }
}

/// So many ones.
fn ones(dtype: DType, count: usize) -> Option<Vec<u8>> {
    let one: &[u8] = match dtype {
        DType::Bool | DType::U8 | DType::I8 => &[1],
        DType::I32 | DType::U32 => &[1, 0, 0, 0],
        DType::I64 | DType::U64 => &[1, 0, 0, 0, 0, 0, 0, 0],
        DType::F32 => &[0, 0, 0x80, 0x3f],
        _ => return None,
    };
    Some(one.repeat(count))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inputs(dims: &[usize]) -> Vec<NamedTensor> {
        let shape = Shape::new(dims).expect("fits");
        let data = vec![0; shape.elements()];
        let tensor = Tensor::dense(DType::U8, shape, data.into()).expect("valid");
        vec![NamedTensor { name: "x".into(), tensor }]
    }

    #[test]
    fn no_caller_can_compute_a_shape_that_shares_the_number_of_anothers() {
        let key = |dims: &[usize]| shape_key(&inputs(dims), None);
        assert_eq!(key(&[1, 3, 4]), key(&[2, 3, 4]), "rows of one shape share batches");
        assert_ne!(key(&[1, 3, 4]), key(&[1, 4, 3]));
        assert_ne!(key(&[1, 3, 4]), key(&[1, 3, 4, 1]));
        // The number is another one in each process: it depends on a key that is random.
        let without_a_key = [3_u64, 4, u64::MAX]
            .iter()
            .fold(0xcbf2_9ce4_8422_2325, |hash: u64, value| (hash ^ value).wrapping_mul(0x0100_0000_01b3));
        assert_ne!(key(&[1, 3, 4]), without_a_key);
        assert_ne!(key(&[1, 3, 4]), RandomState::new().hash_one((3_usize, 4_usize, usize::MAX)));
    }
}
