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
    let outputs = compute(staging)?;
    let compute = watch.lap();
    let members = scatter(signature, outputs, members, batched)?;
    let scatter = watch.lap();
    Ok(BatchOutput { members, timings: Timings { gather, compute, scatter } })
}
