//! What priorities, queue policies, preferred sizes, weights and tenants promise.

use crate::batcher_tests::{
    MS, admit, at, entry, expired, payloads, policy, push, release, until, waits_until,
};
use crate::{Batcher, Entry, Lateness, Policy, QueuePolicy, Reason, Rejected, Step, TimeoutAction};

/// Priority levels 1 to 3, 2 by default.
fn levels() -> Policy {
    Policy { priority_levels: 3, default_priority_level: 2, ..policy(2, 0, 16) }
}

fn level(priority: u32, entry: Entry<u32>) -> Entry<u32> {
    Entry { priority, ..entry }
}

#[test]
fn the_least_level_goes_first_and_an_unknown_one_is_the_default() {
    let mut batcher = Batcher::new(Policy { max_batch_size: 1, ..levels() });
    for (number, priority) in [(1, 3), (2, 0), (3, 1), (4, 2), (5, 9), (6, 1)] {
        push(&mut batcher, 0, level(priority, entry(u64::from(number % 2), 1, number)));
    }
    let order: Vec<_> = (0..6).map(|_| payloads(&release(&mut batcher, 1))[0]).collect();
    assert_eq!(order, [3, 6, 2, 4, 5, 1]);
}

#[test]
fn a_batch_is_filled_from_the_levels_in_their_order() {
    let mut batcher = Batcher::new(Policy { max_batch_size: 3, ..levels() });
    for (number, priority) in [(1, 3), (2, 1), (3, 2), (4, 3)] {
        push(&mut batcher, 0, level(priority, entry(0, 1, number)));
    }
    assert_eq!(payloads(&release(&mut batcher, 0)), [2, 3, 1]);
}

#[test]
fn of_one_level_the_earliest_deadline_goes_first_unless_order_is_to_be_preserved() {
    let mut batcher = Batcher::new(policy(4, 0, 16));
    for preserve_ordering in [false, true] {
        batcher.set_policy(Policy { preserve_ordering, ..policy(4, 0, 16) });
        push(&mut batcher, 0, until(90, entry(0, 1, 1)));
        push(&mut batcher, 0, until(70, entry(0, 1, 2)));
        push(&mut batcher, 0, entry(0, 1, 3));
        push(&mut batcher, 0, until(80, entry(0, 1, 4)));
        let batch = release(&mut batcher, 0);
        let expected = if preserve_ordering { [1, 2, 3, 4] } else { [2, 4, 1, 3] };
        assert_eq!((payloads(&batch), batch.is_ordered), (expected.to_vec(), preserve_ordering));
    }
}

#[test]
fn a_timeout_rejects_or_puts_behind_the_others_of_its_level() {
    let reject = QueuePolicy { default_timeout: MS * 10, ..QueuePolicy::default() };
    let delay = QueuePolicy { timeout_action: TimeoutAction::Delay, ..reject.clone() };
    let level_policies = [(2, reject), (3, delay)].into();
    let mut batcher = Batcher::new(Policy { level_policies, max_batch_size: 1, ..levels() });
    for (number, priority) in [(1, 1), (2, 2), (3, 3)] {
        push(&mut batcher, 0, level(priority, entry(0, 1, number)));
    }
    push(&mut batcher, 5, level(3, entry(0, 1, 4)));
    match batcher.poll(at(10), 0) {
        Step::Expired(entries) => {
            assert_eq!((entries[0].entry.payload, entries[0].why), (2, Lateness::Timeout));
        }
        other => panic!("expected an expired entry, got {other:?}"),
    }
    let order: Vec<_> = (0..3).map(|_| payloads(&release(&mut batcher, 10))[0]).collect();
    assert_eq!(order, [1, 4, 3], "the level of no timeout waits on, the delayed one goes last");
    assert_eq!(batcher.footprint().2, 0, "no timeout is left behind");
}

#[test]
fn an_entry_may_shorten_its_timeout_only_where_the_policy_lets_it() {
    for (allow_timeout_override, asked, expected) in [(false, 2, 10), (true, 2, 2), (true, 50, 10)] {
        let default_timeout = MS * 10;
        let queue_policy = QueuePolicy { default_timeout, allow_timeout_override, ..QueuePolicy::default() };
        let mut batcher = Batcher::new(Policy { queue_policy, ..policy(4, 90, 16) });
        push(&mut batcher, 0, Entry { timeout: Some(MS * asked), ..entry(0, 1, 1) });
        waits_until(&mut batcher, 0, expected);
        assert_eq!(expired(&mut batcher, expected), [1]);
    }
}

#[test]
fn a_level_has_a_bound_of_its_own() {
    let level_policies = [(3, QueuePolicy { max_queue_size: 1, ..QueuePolicy::default() })].into();
    let mut batcher = Batcher::new(Policy { level_policies, ..levels() });
    push(&mut batcher, 0, level(3, entry(0, 1, 1)));
    let refused = batcher.push(at(0), level(3, entry(0, 1, 2))).expect_err("the level is full");
    assert_eq!(refused.0, Rejected::QueueFull);
    push(&mut batcher, 0, level(1, entry(0, 1, 3)));
    release(&mut batcher, 0);
    push(&mut batcher, 0, level(3, entry(0, 1, 4)));
}

#[test]
fn a_preferred_size_is_released_at_once_and_cut_there() {
    let mut batcher = Batcher::new(Policy { preferred_batch_sizes: vec![2, 4], ..policy(8, 50, 16) });
    push(&mut batcher, 0, entry(0, 1, 1));
    waits_until(&mut batcher, 0, 50);
    push(&mut batcher, 0, entry(0, 1, 2));
    let batch = release(&mut batcher, 0);
    assert_eq!((payloads(&batch), batch.reason), (vec![1, 2], Reason::Preferred));
    (3..8).for_each(|number| admit(&mut batcher, 0, entry(0, 1, number)));
    assert_eq!(payloads(&release(&mut batcher, 0)), [3, 4, 5, 6]);
    // One is left: no size is reached before the delay ends.
    waits_until(&mut batcher, 0, 50);
    assert_eq!(release(&mut batcher, 50).reason, Reason::Delay);
}

#[test]
fn a_batch_is_bounded_by_its_weight_too() {
    let mut batcher = Batcher::new(Policy { max_batch_weight: 100, ..policy(8, 50, 16) });
    for (number, weight) in [(1, 60), (2, 60), (3, 400), (4, 30)] {
        push(&mut batcher, 0, Entry { weight, ..entry(0, 1, number) });
    }
    for (expected, reason) in [(1, Reason::Full), (2, Reason::Full), (3, Reason::Alone)] {
        let batch = release(&mut batcher, 0);
        assert_eq!((payloads(&batch), batch.reason), (vec![expected], reason));
    }
    waits_until(&mut batcher, 0, 50);
}

#[test]
fn tenants_share_by_their_weights_however_much_they_ask_for() {
    let (heavy, light) = (7, 8);
    let mut batcher = Batcher::new(Policy { tenant_weights: [(heavy, 3)].into(), ..policy(1, 0, 1000) });
    let of = |tenant, number| Entry { tenant, ..entry(u64::from(number % 5), 1, number) };
    (0..300).for_each(|number| admit(&mut batcher, 0, of(heavy, number)));
    (1000..1100).for_each(|number| admit(&mut batcher, 1, of(light, number)));
    let taken: Vec<_> = (0..80).map(|_| release(&mut batcher, 2).entries[0].tenant).collect();
    let heavies = taken.iter().filter(|tenant| **tenant == heavy).count();
    assert!((58..=62).contains(&heavies), "{heavies} of 80");
    // Who was away has saved nothing up.
    while !batcher.is_empty() {
        release(&mut batcher, 3);
    }
    (0..20).for_each(|number| admit(&mut batcher, 4, of(light, number)));
    (20..40).for_each(|number| admit(&mut batcher, 4, of(9, number)));
    let taken: Vec<_> = (0..20).map(|_| release(&mut batcher, 5).entries[0].tenant).collect();
    let others = taken.iter().filter(|tenant| **tenant == 9).count();
    assert!((9..=11).contains(&others), "{others} of 20");
}

#[test]
fn a_tenant_cannot_fill_the_queue_alone_and_nobody_in_particular_can() {
    let mut batcher = Batcher::new(policy(1, 0, 10));
    let mine = |number| Entry { tenant: 7, ..entry(0, 1, number) };
    (0..8).for_each(|number| admit(&mut batcher, 0, mine(number)));
    assert_eq!(batcher.push(at(0), mine(8)).expect_err("has its share").0, Rejected::TenantFull);
    push(&mut batcher, 0, Entry { tenant: 8, ..entry(0, 1, 9) });
    let mut batcher = Batcher::new(policy(1, 0, 10));
    (0..10).for_each(|number| admit(&mut batcher, 0, entry(0, 1, number)));
}

#[test]
fn a_bound_entry_runs_on_its_instance_alone() {
    let mut batcher = Batcher::new(policy(4, 0, 16));
    let bound = |instance, number| Entry { instance: Some(instance), ..entry(0, 1, number) };
    push(&mut batcher, 0, bound(1, 1));
    push(&mut batcher, 0, bound(1, 2));
    push(&mut batcher, 0, bound(2, 3));
    assert!(matches!(batcher.poll(at(0), 0), Step::Idle));
    push(&mut batcher, 0, entry(0, 1, 4));
    let Step::Release(batch) = batcher.poll(at(0), 1) else { panic!("its own come first") };
    assert_eq!(payloads(&batch), [1, 2]);
    assert_eq!(payloads(&release(&mut batcher, 0)), [4]);
    let orphans: Vec<_> = batcher.abandon(2).into_iter().map(|entry| entry.payload).collect();
    assert_eq!(orphans, [3]);
    assert_eq!(batcher.push(at(0), bound(2, 5)).expect_err("gone").0, Rejected::InstanceGone);
    assert!(batcher.is_empty() && !batcher.has_bound());
}

#[test]
fn the_usual_shapes_and_tenants_cost_no_memory_each_time_they_come() {
    let mut batcher = Batcher::new(policy(8, 0, 64));
    for number in 0..1_000 {
        push(&mut batcher, number, Entry { tenant: 7, ..entry(u64::from(number % 50), 1, number) });
        release(&mut batcher, number);
    }
    let (slots, lanes, deadlines) = batcher.footprint();
    assert_eq!((slots, lanes, deadlines), (1, 0, 0));
    assert!(batcher.lanes_kept() <= 10, "{} lanes kept", batcher.lanes_kept());
}
