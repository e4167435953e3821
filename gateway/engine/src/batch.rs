//! What every instance does around its engine's own run.

use sluice_tensor::{NamedTensor, Signature};

use crate::scatter::{RawOutput, scatter};
use crate::staging::Staging;
use crate::stopwatch::Stopwatch;
use crate::{BatchOutput, EngineError, Interrupt, Timings};

/// Gathers, has `compute` run, scatters. `batched` is whether the model takes
/// batches (`max_batch_size` above 0).
pub(crate) fn run_batch(
    signature: &Signature,
    batched: bool,
    staging: &mut Staging,
    members: &[&[NamedTensor]],
    interrupt: &Interrupt,
    compute: impl FnOnce(&mut Staging) -> Result<Vec<RawOutput>, EngineError>,
) -> Result<BatchOutput, EngineError> {
    if interrupt.is_triggered() {
        return Err(EngineError::Interrupted);
    }
    if !batched && members.len() != 1 {
        return Err(EngineError::Input(format!(
            "{} members given, the model takes no batches",
            members.len()
        )));
    }
    let mut watch = Stopwatch::start();
    staging.gather(members)?;
    let gather = watch.lap();
    let padded = staging.padded();
    let outputs = compute(staging)?;
    let compute = watch.lap();
    let mut lists = scatter(signature, outputs, members, batched)?;
    if let Some((padding, size)) = padded {
        for (outputs, member) in lists.iter_mut().zip(members) {
            padding.trim(outputs, padding.length(member), size)?;
        }
    }
    let scatter = watch.lap();
    Ok(BatchOutput { members: lists, timings: Timings { gather, compute, scatter } })
}
