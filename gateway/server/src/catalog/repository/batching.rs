//! Triton's `dynamic_batching` in the scheduler's terms.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use sluice_batch::{Mode, PRIORITY_LEVELS_MAX, QueuePolicy, RunShare, TimeoutAction};

use crate::config::triton::{self, DynamicBatching, InstanceGroup};
use crate::config::{BatchWeight, Batching, defaults as d};

/// Requests that may wait where Triton's default is any number: more than the gateway lets
/// in at a time.
const QUEUE_SIZE_UNBOUNDED: usize = 65_536;

/// How long a request may be asked to wait at most: an hour, as good as for ever.
const TIMEOUT_MAX: Duration = Duration::from_secs(3600);

/// The policy of a model of at most so many rows. Without `dynamic_batching` too, what has
/// queued shares a batch: that changes no answer.
///
/// # Errors
/// A field that is out of range, with its name.
pub(super) fn batching(
    asked: Option<&DynamicBatching>,
    rows_max: usize,
    resources: BTreeMap<Arc<str>, usize>,
    run_share: RunShare,
) -> Result<Batching, String> {
    let default = DynamicBatching::default();
    let asked = asked.unwrap_or(&default);
    let delay = Duration::from_micros(asked.max_queue_delay_microseconds);
    if delay > *d::QUEUE_DELAY_RANGE.end() {
        return Err(fault(
            "max_queue_delay_microseconds",
            delay.as_micros(),
            d::QUEUE_DELAY_RANGE.end().as_micros(),
        ));
    }
    let levels = u32::try_from(asked.priority_levels).ok().filter(|levels| *levels <= PRIORITY_LEVELS_MAX);
    let levels =
        levels.ok_or_else(|| fault("priority_levels", asked.priority_levels, PRIORITY_LEVELS_MAX))?;
    let level = u32::try_from(asked.default_priority_level).ok().filter(|level| *level <= levels);
    let level = level.ok_or_else(|| fault("default_priority_level", asked.default_priority_level, levels))?;
    if levels > 0 && level == 0 {
        return Err(
            "dynamic_batching.default_priority_level must be above 0 where there are priority_levels"
                .to_owned(),
        );
    }
    let policy = asked.default_queue_policy.as_ref().map_or_else(Default::default, queue_policy);
    // One bound for all where there is one queue; with levels each has its own.
    let size =
        if levels == 0 && policy.max_queue_size > 0 { policy.max_queue_size } else { QUEUE_SIZE_UNBOUNDED };
    Ok(Batching {
        mode: if asked.max_queue_delay_microseconds == 0 { Mode::Backpressure } else { Mode::Fixed },
        max_queue_delay: delay,
        max_queue_size: size.min(QUEUE_SIZE_UNBOUNDED),
        latency_objective: None,
        preferred_batch_sizes: preferred(&asked.preferred_batch_size, rows_max)?,
        preserve_ordering: asked.preserve_ordering,
        priority_levels: levels,
        default_priority_level: level,
        default_queue_policy: policy,
        priority_queue_policy: level_policies(asked, levels)?,
        weight: BatchWeight::Rows,
        max_batch_weight: 0,
        resources,
        run_share,
        tenants: BTreeMap::new(),
    })
}

/// What a run takes of the resources that all models share: what each instance asks for, of
/// those that the gateway's configuration bounds. As in Triton, what nobody bounds is free.
///
/// # Errors
/// Groups that differ, or more than there is.
pub(super) fn resources(
    groups: &[InstanceGroup],
    there: &BTreeMap<Arc<str>, usize>,
) -> Result<BTreeMap<Arc<str>, usize>, String> {
    let mut resources = BTreeMap::new();
    let Some(first) = groups.first() else { return Ok(resources) };
    if groups.iter().any(|group| group.rate_limiter != first.rate_limiter) {
        return Err("instance_group.rate_limiter differs among groups: give all of them the same".to_owned());
    }
    for asked in &first.rate_limiter.resources {
        let Some((name, bound)) = there.get_key_value(asked.name.as_str()) else {
            tracing::info!(resource = asked.name, "no [engine.resources] bounds a model's resource");
            continue;
        };
        let count = usize::try_from(asked.count.max(1)).unwrap_or(usize::MAX);
        if count > *bound {
            return Err(format!(
                "instance_group.rate_limiter.resources has {count} of '{name}', and [engine.resources] {bound}"
            ));
        }
        resources.insert(Arc::clone(name), count);
    }
    Ok(resources)
}

/// The share of the time of a model's runs, where they wait for others': its groups, which do
/// not differ, say it as a priority.
pub(super) fn run_share(groups: &[InstanceGroup]) -> RunShare {
    groups.first().map_or_else(RunShare::default, |group| RunShare::of_priority(group.rate_limiter.priority))
}

fn fault(field: &str, is: impl std::fmt::Display, most: impl std::fmt::Display) -> String {
    format!("dynamic_batching.{field} is {is}, allowed are 0 to {most}")
}

fn preferred(sizes: &[i32], rows_max: usize) -> Result<Vec<usize>, String> {
    if sizes.len() > d::PREFERRED_SIZES_MAX {
        return Err(format!(
            "dynamic_batching.preferred_batch_size has more than {} entries",
            d::PREFERRED_SIZES_MAX
        ));
    }
    let one = |size: &i32| {
        let fits = usize::try_from(*size).ok().filter(|size| (1..=rows_max).contains(size));
        fits.ok_or_else(|| {
            format!("dynamic_batching.preferred_batch_size has {size}, allowed are 1 to {rows_max}")
        })
    };
    let mut sizes = sizes.iter().map(one).collect::<Result<Vec<_>, _>>()?;
    sizes.sort_unstable();
    sizes.dedup();
    Ok(sizes)
}

fn queue_policy(asked: &triton::QueuePolicy) -> QueuePolicy {
    QueuePolicy {
        timeout_action: if asked.timeout_action == "DELAY" {
            TimeoutAction::Delay
        } else {
            TimeoutAction::Reject
        },
        default_timeout: Duration::from_micros(asked.default_timeout_microseconds).min(TIMEOUT_MAX),
        allow_timeout_override: asked.allow_timeout_override,
        max_queue_size: usize::try_from(asked.max_queue_size).unwrap_or(usize::MAX).min(QUEUE_SIZE_UNBOUNDED),
    }
}

fn level_policies(asked: &DynamicBatching, levels: u32) -> Result<BTreeMap<u32, QueuePolicy>, String> {
    let one = |(level, policy): (&String, &triton::QueuePolicy)| {
        let number = level.parse().ok().filter(|number| (1..=levels).contains(number));
        let number = number.ok_or_else(|| {
            format!(
                "dynamic_batching.priority_queue_policy is for level {level}, and there are {levels} levels"
            )
        })?;
        Ok((number, queue_policy(policy)))
    };
    asked.priority_queue_policy.iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::triton::parse_text;

    fn of(text: &str) -> Result<Batching, String> {
        let parsed = parse_text(&format!("dynamic_batching {{ {text} }}")).expect(text);
        batching(parsed.config.dynamic_batching.as_ref(), 8, BTreeMap::new(), RunShare::default())
    }

    #[test]
    fn the_priority_of_instances_is_the_models_share() {
        let of = |text: &str| run_share(&parse_text(text).expect(text).config.instance_group);
        assert_eq!(of("instance_group { rate_limiter { priority: 3 } }"), RunShare::of_priority(3));
        assert_eq!(of("instance_group { count: 2 }"), RunShare::default());
        assert_eq!(of(""), RunShare::default());
        let differ = "instance_group [{ rate_limiter { priority: 3 } }, { rate_limiter { priority: 1 } }]";
        let groups = parse_text(differ).expect("valid").config.instance_group;
        assert!(resources(&groups, &BTreeMap::new()).expect_err("differ").contains("differs"));
    }

    #[test]
    fn every_field_of_dynamic_batching_acts() {
        let all = of(
            "preferred_batch_size: [8, 4] max_queue_delay_microseconds: 100 preserve_ordering: true priority_levels: 3 \
             default_priority_level: 2 default_queue_policy { max_queue_size: 7 } priority_queue_policy { key: 3 value \
             { timeout_action: DELAY default_timeout_microseconds: 5 allow_timeout_override: true max_queue_size: 2 } }",
        );
        let all = all.expect("valid");
        assert_eq!((all.mode, all.max_queue_delay), (Mode::Fixed, Duration::from_micros(100)));
        assert_eq!((all.preferred_batch_sizes, all.preserve_ordering), (vec![4, 8], true));
        assert_eq!((all.priority_levels, all.default_priority_level), (3, 2));
        assert_eq!((all.max_queue_size, all.default_queue_policy.max_queue_size), (QUEUE_SIZE_UNBOUNDED, 7));
        let level = &all.priority_queue_policy[&3];
        assert_eq!(
            (level.timeout_action, level.default_timeout),
            (TimeoutAction::Delay, Duration::from_micros(5))
        );
        assert!(level.allow_timeout_override && level.max_queue_size == 2);
        assert_eq!(of("default_queue_policy { max_queue_size: 7 }").expect("valid").max_queue_size, 7);
        assert_eq!(of("").expect("valid").mode, Mode::Backpressure);
    }

    #[test]
    fn what_is_out_of_range_is_refused_by_name() {
        for (text, field) in [
            ("preferred_batch_size: 9", "preferred_batch_size"),
            ("preferred_batch_size: 0", "preferred_batch_size"),
            ("max_queue_delay_microseconds: 10000001", "max_queue_delay_microseconds"),
            ("priority_levels: 65 default_priority_level: 1", "priority_levels"),
            ("priority_levels: 2", "default_priority_level"),
            ("priority_levels: 2 default_priority_level: 3", "default_priority_level"),
            ("priority_queue_policy { key: 1 value { } }", "priority_queue_policy"),
        ] {
            let refused = of(text).expect_err(text);
            assert!(refused.contains(&format!("dynamic_batching.{field}")), "{refused}");
        }
    }
}
