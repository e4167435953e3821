//! `[models.X.sequence]`.

use std::time::Duration;

use bytes::Bytes;
use sluice_tensor::DType;

use super::super::checker::{At, Checker};
use super::super::defaults as d;
use super::super::file::{SequenceControlFile, SequenceFile, SequenceStateFile, SequenceStrategyFile};
use super::super::types::{Control, ControlKind, FalseTrue, Sequence, SequenceState, SequenceStrategy};

pub(super) fn sequence(
    check: &mut Checker<'_>,
    model: At<'_>,
    file: SequenceFile,
    max_batch_size: usize,
    instances: usize,
) -> Sequence {
    let mut path = model.0.to_vec();
    path.push("sequence");
    let at = At(&path);
    let micros = |range: u64| 0..=range;
    let idle = check.number(
        at,
        "max_sequence_idle_microseconds",
        file.max_sequence_idle_microseconds,
        d::SEQUENCE_IDLE_US,
        &d::SEQUENCE_IDLE_US_RANGE,
    );
    let delay_max = u64::try_from(d::QUEUE_DELAY_RANGE.end().as_micros()).unwrap_or(u64::MAX);
    let delay_key = "max_queue_delay_microseconds";
    let delay = check.number(at, delay_key, file.max_queue_delay_microseconds, 0, &micros(delay_max));
    let state_bytes_max = check.number(
        at,
        "state_bytes_max",
        file.state_bytes_max,
        d::SEQUENCE_STATE_BYTES,
        &d::SEQUENCE_STATE_BYTES_RANGE,
    );
    let sequence = Sequence {
        strategy: strategy(check, at, &file, max_batch_size),
        max_idle: Duration::from_micros(idle),
        max_queue_delay: Duration::from_micros(delay),
        controls: file
            .controls
            .iter()
            .map(|(input, control)| self::control(check, at, input, control))
            .collect(),
        states: file
            .states
            .iter()
            .map(|(input, state)| self::state(check, at, input, state, state_bytes_max))
            .collect(),
        state_bytes_max,
    };
    let slots = sequence.slots(max_batch_size).saturating_mul(instances);
    if slots > d::SEQUENCES_MAX {
        let message = format!("has room for {slots} sequences, allowed are {}", d::SEQUENCES_MAX);
        check.problem(at, "", message);
    }
    for (key, count) in [("controls", sequence.controls.len()), ("states", sequence.states.len())] {
        if count > d::SEQUENCE_TENSORS_MAX {
            check.problem(at, key, format!("has more than {} entries", d::SEQUENCE_TENSORS_MAX));
        }
    }
    sequence
}

fn strategy(
    check: &mut Checker<'_>,
    at: At<'_>,
    file: &SequenceFile,
    max_batch_size: usize,
) -> SequenceStrategy {
    let strategy = file.strategy.unwrap_or_default();
    let unused = match strategy {
        SequenceStrategyFile::Direct => [
            ("max_candidate_sequences", file.max_candidate_sequences.is_some()),
            ("preferred_batch_size", !file.preferred_batch_size.is_empty()),
        ],
        SequenceStrategyFile::Oldest => {
            [("minimum_slot_utilization", file.minimum_slot_utilization.is_some()), ("", false)]
        }
    };
    for (key, _) in unused.iter().filter(|(_, is_set)| *is_set) {
        check.problem(at, key, "does not go with this strategy");
    }
    match strategy {
        SequenceStrategyFile::Direct => {
            let share = file.minimum_slot_utilization.unwrap_or(0.0);
            if !(0.0..=1.0).contains(&share) {
                check.problem(at, "minimum_slot_utilization", format!("is {share}, allowed are 0 to 1"));
            }
            SequenceStrategy::Direct { minimum_slot_utilization: share }
        }
        SequenceStrategyFile::Oldest => {
            let candidates = u64::try_from(max_batch_size.max(1)).unwrap_or(1);
            SequenceStrategy::Oldest {
                max_candidate_sequences: check.number(
                    at,
                    "max_candidate_sequences",
                    file.max_candidate_sequences,
                    candidates,
                    &d::SEQUENCE_CANDIDATES_RANGE,
                ),
                preferred_batch_sizes: super::batching::preferred(
                    check,
                    at,
                    &file.preferred_batch_size,
                    max_batch_size,
                ),
            }
        }
    }
}

fn control(check: &mut Checker<'_>, at: At<'_>, input: &str, file: &SequenceControlFile) -> Control {
    let mut path = at.0.to_vec();
    path.extend(["controls", input]);
    let at = At(&path);
    let all = [
        file.int32_false_true.map(FalseTrue::Int32),
        file.fp32_false_true.map(FalseTrue::Fp32),
        file.bool_false_true.map(FalseTrue::Bool),
    ];
    let mut given = all.into_iter().flatten();
    let false_true = given.next();
    if given.next().is_some() {
        check.problem(at, "", "has two ways to write false and true");
    }
    let kind = file.kind.unwrap_or_else(|| {
        check.problem(at, "kind", "is missing");
        ControlKind::Start
    });
    if kind == ControlKind::Corrid && false_true.is_some() {
        check.problem(at, "", "a sequence's id is neither false nor true");
    }
    Control { input: input.into(), kind, false_true, dtype: dtype(check, at, file.datatype.as_deref()) }
}

fn state(
    check: &mut Checker<'_>,
    at: At<'_>,
    input: &str,
    file: &SequenceStateFile,
    bytes_max: usize,
) -> SequenceState {
    let mut path = at.0.to_vec();
    path.extend(["states", input]);
    let at = At(&path);
    if file.output.is_none() {
        check.problem(at, "output", "is missing");
    }
    let initial = file.initial_file.as_deref().map(|name| {
        let limit = u64::try_from(bytes_max).unwrap_or(u64::MAX);
        let before = check.problems.len();
        let path = check.file(at, "initial_file", Some(name), limit);
        if check.problems.len() > before {
            return Bytes::new();
        }
        std::fs::read(&path).map(Bytes::from).unwrap_or_else(|error| {
            check.problem(at, "initial_file", format!("cannot read {}: {error}", path.display()));
            Bytes::new()
        })
    });
    SequenceState {
        input: input.into(),
        output: file.output.as_deref().unwrap_or_default().into(),
        dtype: dtype(check, at, file.datatype.as_deref()),
        dims: file.dims.clone(),
        initial,
    }
}

fn dtype(check: &mut Checker<'_>, at: At<'_>, name: Option<&str>) -> Option<DType> {
    let name = name?;
    let known = DType::from_name(name);
    if known.is_none() {
        check.problem(at, "datatype", "is no datatype of KServe V2, such as \"FP32\"");
    }
    known
}
