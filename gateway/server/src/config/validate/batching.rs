//! `[models.X.batching]`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use sluice_batch::{
    Mode, PRIORITY_LEVELS_MAX, QueuePolicy, RUN_SHARE_MAX, RunShare, TENANT_WEIGHT_MAX, TimeoutAction,
};

use super::super::checker::{At, Checker};
use super::super::defaults as d;
use super::super::file::{BatchPolicy, BatchingFile, PaddingFile, QueuePolicyFile, TimeoutActionFile};
use super::super::types::{Batching, Engine, Padding};

/// The batching of a model: `delay` and `queue_size` are keys of the model's own.
pub(super) fn batching(
    check: &mut Checker<'_>,
    model: At<'_>,
    file: BatchingFile,
    (delay, queue_size): (Option<u64>, Option<u64>),
    max_batch_size: usize,
    engine: &Engine,
) -> Batching {
    let mut path = model.0.to_vec();
    path.push("batching");
    let at = At(&path);
    let delay_max = micros(*d::QUEUE_DELAY_RANGE.end());
    let delay_key = "max_queue_delay_microseconds";
    let max_queue_delay = check.number(model, delay_key, delay, micros(d::QUEUE_DELAY), &(0..=delay_max));
    let max_queue_delay = Duration::from_micros(max_queue_delay);
    let mode = mode(check, model, at, &file, max_queue_delay);
    let levels = &(0..=u64::from(PRIORITY_LEVELS_MAX));
    let priority_levels: u32 = check.number(at, "priority_levels", file.priority_levels, 0, levels);
    let middle = u64::from(priority_levels.div_ceil(2));
    let level = &(u64::from(priority_levels.min(1))..=u64::from(priority_levels));
    let default_priority_level =
        check.number(at, "default_priority_level", file.default_priority_level, middle, level);
    let weight_max = check.number(at, "max_batch_weight", file.max_batch_weight, 0, &d::BATCH_WEIGHT_RANGE);
    Batching {
        mode,
        max_queue_delay,
        max_queue_size: check.number(model, "max_queue_size", queue_size, d::QUEUE_SIZE, &d::COUNT_RANGE),
        latency_objective: file
            .latency_objective_ms
            .map(|ms| check.timeout(at, "latency_objective_ms", Some(ms), Duration::from_millis(1))),
        preferred_batch_sizes: preferred(check, at, &file.preferred_batch_size, max_batch_size),
        preserve_ordering: file.preserve_ordering.unwrap_or(false),
        priority_levels,
        default_priority_level,
        default_queue_policy: queue_policy(check, at, "default_queue_policy", &file.default_queue_policy),
        priority_queue_policy: level_policies(check, at, &file.priority_queue_policy, priority_levels),
        weight: file.weight.unwrap_or_default(),
        max_batch_weight: weight_max,
        resources: demanded(check, at, &file.resources, engine),
        run_share: RunShare::of(check.number(
            at,
            "run_share",
            file.run_share,
            1,
            &(1..=u64::from(RUN_SHARE_MAX)),
        )),
        tenants: tenants(check, at, &file.tenants),
    }
}

/// A delay that somebody asks for is kept to; otherwise nothing waits.
fn mode(check: &mut Checker<'_>, model: At<'_>, at: At<'_>, file: &BatchingFile, delay: Duration) -> Mode {
    let mode = match file.policy {
        Some(BatchPolicy::Fixed) => Mode::Fixed,
        Some(BatchPolicy::Backpressure) => Mode::Backpressure,
        Some(BatchPolicy::Learned) => Mode::Learned,
        None if !delay.is_zero() => Mode::Fixed,
        None => Mode::Backpressure,
    };
    if mode == Mode::Backpressure && !delay.is_zero() {
        let message = "does not go with the policy \"backpressure\", which never waits";
        check.problem(model, "max_queue_delay_microseconds", message);
    }
    if mode != Mode::Learned && file.latency_objective_ms.is_some() {
        check.problem(at, "latency_objective_ms", "goes with the policy \"learned\" only");
    }
    mode
}

pub(super) fn preferred(
    check: &mut Checker<'_>,
    at: At<'_>,
    sizes: &[u64],
    max_batch_size: usize,
) -> Vec<usize> {
    if sizes.len() > d::PREFERRED_SIZES_MAX {
        let message = format!("has more than {} entries", d::PREFERRED_SIZES_MAX);
        check.problem(at, "preferred_batch_size", message);
    }
    let mut checked: Vec<usize> = Vec::new();
    for size in sizes.iter().take(d::PREFERRED_SIZES_MAX) {
        match usize::try_from(*size) {
            Ok(size) if (1..=max_batch_size).contains(&size) => checked.push(size),
            _ => {
                let message = format!("is {size}, allowed are 1 to max_batch_size, {max_batch_size}");
                check.problem(at, "preferred_batch_size", message);
            }
        }
    }
    checked.sort_unstable();
    checked.dedup();
    checked
}

fn queue_policy(check: &mut Checker<'_>, at: At<'_>, key: &str, file: &QueuePolicyFile) -> QueuePolicy {
    let mut path = at.0.to_vec();
    path.push(key);
    let at = At(&path);
    let timeout_max = micros(*d::TIMEOUT_RANGE.end());
    let timeout_key = "default_timeout_microseconds";
    let timeout = check.number(at, timeout_key, file.default_timeout_microseconds, 0, &(0..=timeout_max));
    QueuePolicy {
        timeout_action: match file.timeout_action {
            None | Some(TimeoutActionFile::Reject) => TimeoutAction::Reject,
            Some(TimeoutActionFile::Delay) => TimeoutAction::Delay,
        },
        default_timeout: Duration::from_micros(timeout),
        allow_timeout_override: file.allow_timeout_override.unwrap_or(false),
        max_queue_size: check.number(at, "max_queue_size", file.max_queue_size, 0, &d::LEVEL_QUEUE_RANGE),
    }
}

fn level_policies(
    check: &mut Checker<'_>,
    at: At<'_>,
    files: &BTreeMap<String, QueuePolicyFile>,
    levels: u32,
) -> BTreeMap<u32, QueuePolicy> {
    let mut path = at.0.to_vec();
    path.push("priority_queue_policy");
    let at = At(&path);
    let mut policies = BTreeMap::new();
    for (key, file) in files {
        match key.parse::<u32>() {
            Ok(level) if (1..=levels).contains(&level) => {
                policies.insert(level, queue_policy(check, at, key, file));
            }
            _ => check.problem(at, key, format!("is not a level: there are priority_levels, {levels}")),
        }
    }
    policies
}

fn tenants(check: &mut Checker<'_>, at: At<'_>, shares: &BTreeMap<String, u64>) -> BTreeMap<Arc<str>, u32> {
    let mut path = at.0.to_vec();
    path.push("tenants");
    let at = At(&path);
    if shares.len() > d::ENTRIES_MAX {
        check.problem(at, "", format!("has more than {} entries", d::ENTRIES_MAX));
    }
    let share = &(1..=u64::from(TENANT_WEIGHT_MAX));
    let mut checked = BTreeMap::new();
    for (name, value) in shares.iter().take(d::ENTRIES_MAX) {
        if let Some(owner) = check.owner(at, name, Some(name)) {
            checked.insert(owner, check.number(at, name, Some(*value), 1, share));
        }
    }
    checked
}

/// Units of resources, by name.
pub(super) fn units(
    check: &mut Checker<'_>,
    at: At<'_>,
    key: &str,
    file: &BTreeMap<String, u64>,
) -> BTreeMap<Arc<str>, usize> {
    let mut path = at.0.to_vec();
    path.push(key);
    let at = At(&path);
    if file.len() > d::PADDING_LIST_MAX {
        check.problem(at, "", format!("has more than {} entries", d::PADDING_LIST_MAX));
    }
    let mut checked = BTreeMap::new();
    for (name, count) in file.iter().take(d::PADDING_LIST_MAX) {
        if let Some(known) = check.owner(at, name, Some(name)) {
            checked.insert(known, check.number(at, name, Some(*count), 1, &d::UNITS_RANGE));
        }
    }
    checked
}

/// What a run takes of the resources that there are.
fn demanded(
    check: &mut Checker<'_>,
    at: At<'_>,
    file: &BTreeMap<String, u64>,
    engine: &Engine,
) -> BTreeMap<Arc<str>, usize> {
    let demanded = units(check, at, "resources", file);
    for (name, count) in &demanded {
        let there = engine.resources.get(name).copied().unwrap_or(0);
        if *count > there {
            let message = format!("asks for {count} of `{name}`, [engine.resources] has {there}");
            check.problem(at, "resources", message);
        }
    }
    demanded
}

/// The padding of a model. Its names are checked when the model is loaded.
pub(super) fn padding(check: &mut Checker<'_>, model: At<'_>, file: PaddingFile) -> Padding {
    let mut path = model.0.to_vec();
    path.push("padding");
    let at = At(&path);
    for (key, count) in [("inputs", file.inputs.len()), ("sizes", file.sizes.len())] {
        if count == 0 {
            check.problem(at, key, "is missing");
        }
    }
    for (key, count) in
        [("inputs", file.inputs.len()), ("sizes", file.sizes.len()), ("trim", file.trim.len())]
    {
        if count > d::PADDING_LIST_MAX {
            check.problem(at, key, format!("has more than {} entries", d::PADDING_LIST_MAX));
        }
    }
    let names = |names: Vec<String>| -> Vec<Arc<str>> {
        names.into_iter().take(d::PADDING_LIST_MAX).map(Into::into).collect()
    };
    let sizes = file.sizes.iter().take(d::PADDING_LIST_MAX);
    let sizes = sizes.map(|size| check.number(at, "sizes", Some(*size), 1, &d::PADDING_SIZE_RANGE)).collect();
    Padding {
        axis: check.number(at, "axis", file.axis, 1, &d::PADDING_AXIS_RANGE),
        sizes,
        value: file.value,
        mask: file.mask.map(Into::into),
        inputs: names(file.inputs),
        trim: names(file.trim),
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
