//! Triton's `sequence_batching` in the gateway's terms.

use std::time::Duration;

use bytes::Bytes;
use sluice_tensor::{DType, TENSOR_BYTES_MAX};

use super::layout::Folder;
use crate::catalog::files;
use crate::config::triton::{self, SequenceBatching};
use crate::config::{
    Control, ControlKind, FalseTrue, Sequence, SequenceState, SequenceStrategy, defaults as d,
};

/// Bytes that are kept of one sequence: Triton has no bound, so it is a generous one.
const STATE_BYTES_MAX: usize = 64 << 20;

/// How the sequences of a model of at most so many rows, with so many instances, are run.
///
/// # Errors
/// A field that is out of range or does not go with another, with its name.
pub(super) fn sequence(
    asked: &SequenceBatching,
    folder: &Folder,
    rows_max: usize,
    instances: usize,
) -> Result<Sequence, String> {
    let idle = match asked.max_sequence_idle_microseconds {
        0 => d::SEQUENCE_IDLE_US,
        idle => idle.min(*d::SEQUENCE_IDLE_US_RANGE.end()),
    };
    let (strategy, delay) = strategy(asked, rows_max)?;
    let max_queue_delay = Duration::from_micros(delay);
    if max_queue_delay > *d::QUEUE_DELAY_RANGE.end() {
        return Err(fault("max_queue_delay_microseconds", "is above 10 s"));
    }
    if asked.control_input.len().max(asked.state.len()) > d::SEQUENCE_TENSORS_MAX {
        return Err(fault("control_input", "or state has too many entries"));
    }
    let sequence = Sequence {
        strategy,
        max_idle: Duration::from_micros(idle),
        max_queue_delay,
        controls: asked.control_input.iter().map(control).collect::<Result<_, _>>()?,
        states: asked.state.iter().map(|asked| state(asked, folder)).collect::<Result<_, _>>()?,
        state_bytes_max: STATE_BYTES_MAX,
    };
    if sequence.slots(rows_max).saturating_mul(instances) > d::SEQUENCES_MAX {
        return Err(fault("oldest.max_candidate_sequences", "is too large for so many instances"));
    }
    Ok(sequence)
}

fn strategy(asked: &SequenceBatching, rows_max: usize) -> Result<(SequenceStrategy, u64), String> {
    let Some(oldest) = &asked.oldest else {
        let direct = asked.direct.unwrap_or_default();
        let minimum_slot_utilization = f64::from(direct.minimum_slot_utilization);
        if !(0.0..=1.0).contains(&minimum_slot_utilization) {
            return Err(fault("direct.minimum_slot_utilization", "must be from 0 to 1"));
        }
        let strategy = SequenceStrategy::Direct { minimum_slot_utilization };
        return Ok((strategy, direct.max_queue_delay_microseconds));
    };
    if asked.direct.is_some() {
        return Err(fault("direct", "and oldest exclude each other"));
    }
    let candidates = match usize::try_from(oldest.max_candidate_sequences) {
        Ok(0) => rows_max.max(1),
        Ok(candidates) if candidates <= d::SEQUENCES_MAX => candidates,
        _ => return Err(fault("oldest.max_candidate_sequences", "is out of range")),
    };
    let size = |size: &i32| usize::try_from(*size).ok().filter(|size| (1..=rows_max).contains(size));
    let sizes: Option<Vec<usize>> = oldest.preferred_batch_size.iter().map(size).collect();
    let preferred_batch_sizes =
        sizes.ok_or_else(|| fault("oldest.preferred_batch_size", "must be from 1 to max_batch_size"))?;
    let strategy = SequenceStrategy::Oldest { max_candidate_sequences: candidates, preferred_batch_sizes };
    Ok((strategy, oldest.max_queue_delay_microseconds))
}

fn control(asked: &triton::ControlInput) -> Result<Control, String> {
    let name = &asked.name;
    let [control] = asked.control.as_slice() else {
        return Err(format!("sequence_batching.control_input '{name}' must have one control"));
    };
    let kind = match control.kind.as_str() {
        // The enumeration's first, which is the default.
        "" | "CONTROL_SEQUENCE_START" => ControlKind::Start,
        "CONTROL_SEQUENCE_READY" => ControlKind::Ready,
        "CONTROL_SEQUENCE_END" => ControlKind::End,
        "CONTROL_SEQUENCE_CORRID" => ControlKind::Corrid,
        other => {
            return Err(format!("sequence_batching.control_input '{name}' has the unknown kind {other}"));
        }
    };
    let pair = || Err(format!("sequence_batching.control_input '{name}' must have a false and a true value"));
    let false_true = match (&*control.int32_false_true, &*control.fp32_false_true, &*control.bool_false_true)
    {
        ([], [], []) if kind == ControlKind::Corrid => None,
        ([no, yes], [], []) => Some(FalseTrue::Int32([*no, *yes])),
        ([], [no, yes], []) => Some(FalseTrue::Fp32([*no, *yes])),
        ([], [], [no, yes]) => Some(FalseTrue::Bool([*no, *yes])),
        _ => return pair(),
    };
    if kind == ControlKind::Corrid && false_true.is_some() {
        return Err(format!("sequence_batching.control_input '{name}': an id is neither false nor true"));
    }
    Ok(Control { input: name.as_str().into(), kind, false_true, dtype: dtype(name, &control.data_type)? })
}

fn state(asked: &triton::State, folder: &Folder) -> Result<SequenceState, String> {
    let name = &asked.input_name;
    let declared = dtype(name, &asked.data_type)?;
    let initial = match asked.initial_state.as_slice() {
        [] => None,
        [initial] => Some(initial),
        _ => return Err(format!("sequence_batching.state '{name}' has more than one initial_state")),
    };
    // Sizes that may vary are 1 at the start, as Triton has it.
    let dims = initial.map_or(&asked.dims, |initial| &initial.dims);
    let size = |dim: &i64| if *dim == -1 { Some(1) } else { usize::try_from(*dim).ok() };
    let sizes: Option<Vec<usize>> = dims.iter().map(size).collect();
    let sizes = sizes.ok_or_else(|| format!("sequence_batching.state '{name}' has a dimension below -1"))?;
    if let Some(initial) = initial
        && dtype(name, &initial.data_type)?.is_some_and(|dtype| declared.is_some_and(|own| own != dtype))
    {
        return Err(format!("sequence_batching.state '{name}' has an initial_state of another data_type"));
    }
    let data = match initial.and_then(|initial| initial.data_file.as_deref()) {
        None => None,
        Some(file) => {
            let path = folder.file(&format!("initial_state/{file}"))?;
            let path = path.ok_or_else(|| {
                format!("sequence_batching.state '{name}': there is no file 'initial_state/{file}'")
            })?;
            let bytes_max = u64::try_from(STATE_BYTES_MAX.min(TENSOR_BYTES_MAX)).unwrap_or(u64::MAX);
            Some(Bytes::from(files::read(&path, bytes_max)?))
        }
    };
    Ok(SequenceState {
        input: name.as_str().into(),
        output: asked.output_name.as_str().into(),
        dtype: declared,
        dims: Some(sizes).filter(|sizes| !sizes.is_empty()),
        initial: data,
    })
}

/// A data type by its name here; none where none is named.
fn dtype(input: &str, name: &str) -> Result<Option<DType>, String> {
    match name {
        "" | "TYPE_INVALID" => Ok(None),
        name => match triton::dtype(name) {
            Some(dtype) => Ok(Some(dtype)),
            None => Err(format!("sequence_batching: '{input}' has the unknown data_type {name}")),
        },
    }
}

fn fault(field: &str, what: &str) -> String {
    format!("sequence_batching.{field} {what}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked() -> SequenceBatching {
        let control = triton::Control {
            kind: "CONTROL_SEQUENCE_READY".to_owned(),
            int32_false_true: vec![0, 1],
            ..triton::Control::default()
        };
        let input = triton::ControlInput { name: "READY".to_owned(), control: vec![control] };
        SequenceBatching { control_input: vec![input], ..SequenceBatching::default() }
    }

    #[test]
    fn what_is_not_set_is_tritons_default() {
        let (strategy, delay) = strategy(&asked(), 8).expect("fits");
        assert_eq!(strategy, SequenceStrategy::Direct { minimum_slot_utilization: 0.0 });
        assert_eq!(delay, 0);
        let oldest = triton::Oldest { max_queue_delay_microseconds: 5, ..triton::Oldest::default() };
        let asked = SequenceBatching { oldest: Some(oldest), ..asked() };
        let (strategy, delay) = self::strategy(&asked, 8).expect("fits");
        let expected =
            SequenceStrategy::Oldest { max_candidate_sequences: 8, preferred_batch_sizes: Vec::new() };
        assert_eq!((strategy, delay), (expected, 5));
    }

    #[test]
    fn a_control_has_one_kind_and_one_pair_of_values() {
        let ready = control(&asked().control_input[0]).expect("fits");
        assert_eq!((ready.kind, ready.false_true), (ControlKind::Ready, Some(FalseTrue::Int32([0, 1]))));
        let refused = |change: &dyn Fn(&mut triton::ControlInput)| {
            let mut input = asked().control_input.remove(0);
            change(&mut input);
            control(&input).expect_err("refused")
        };
        assert!(refused(&|it| it.control.clear()).contains("must have one control"));
        assert!(refused(&|it| it.control[0].int32_false_true.clear()).contains("a false and a true"));
        assert!(refused(&|it| it.control[0].kind = "CONTROL_SEQUENCE_CORRID".to_owned()).contains("neither"));
        assert!(refused(&|it| it.control[0].data_type = "TYPE_NO".to_owned()).contains("unknown data_type"));
    }
}
