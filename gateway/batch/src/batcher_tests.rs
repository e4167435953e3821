//! What the scheduler promises, one test each.

use std::time::Duration;

use crate::{
    Batch, Batcher, ENTRY_ROWS_MAX, Entry, Lateness, Mode, Observed, Policy, Reason, Rejected, Step, Ticket,
    Time,
};

pub(crate) const MS: Duration = Duration::from_millis(1);

pub(crate) fn at(ms: u32) -> Time {
    Time(MS * ms)
}

pub(crate) fn policy(max_batch_size: usize, delay_ms: u32, max_queue_size: usize) -> Policy {
    let max_queue_delay = MS * delay_ms;
    Policy { mode: Mode::Fixed, max_batch_size, max_queue_delay, max_queue_size, ..Policy::default() }
}

pub(crate) fn entry(shape: u64, rows: usize, payload: u32) -> Entry<u32> {
    Entry::new(rows, shape, payload)
}

pub(crate) fn run(rows: usize, took: Duration) -> Observed {
    Observed { shape: 0, rows, took, oldest_wait: MS }
}

pub(crate) fn until(deadline_ms: u32, entry: Entry<u32>) -> Entry<u32> {
    Entry { deadline: Some(at(deadline_ms)), ..entry }
}

pub(crate) fn push(batcher: &mut Batcher<u32>, now_ms: u32, entry: Entry<u32>) -> Ticket {
    batcher.push(at(now_ms), entry).expect("admitted")
}

pub(crate) fn admit(batcher: &mut Batcher<u32>, now_ms: u32, entry: Entry<u32>) {
    push(batcher, now_ms, entry);
}

pub(crate) fn release(batcher: &mut Batcher<u32>, now_ms: u32) -> Batch<u32> {
    match batcher.poll(at(now_ms), 0) {
        Step::Release(batch) => batch,
        other => panic!("expected a batch at {now_ms} ms, got {other:?}"),
    }
}

pub(crate) fn expired(batcher: &mut Batcher<u32>, now_ms: u32) -> Vec<u32> {
    match batcher.poll(at(now_ms), 0) {
        Step::Expired(entries) => entries.into_iter().map(|expired| expired.entry.payload).collect(),
        other => panic!("expected expired entries at {now_ms} ms, got {other:?}"),
    }
}

pub(crate) fn waits_until(batcher: &mut Batcher<u32>, now_ms: u32, until_ms: u32) {
    match batcher.poll(at(now_ms), 0) {
        Step::WaitUntil(time) => assert_eq!(time, at(until_ms)),
        other => panic!("expected to wait at {now_ms} ms, got {other:?}"),
    }
}

pub(crate) fn payloads(batch: &Batch<u32>) -> Vec<u32> {
    batch.entries.iter().map(|entry| entry.payload).collect()
}

#[test]
fn without_a_delay_a_batch_takes_what_has_queued() {
    let mut batcher = Batcher::new(policy(8, 0, 16));
    for number in 0..3 {
        push(&mut batcher, number, entry(0, 2, number));
    }
    let batch = release(&mut batcher, 5);
    assert_eq!(payloads(&batch), [0, 1, 2]);
    assert_eq!((batch.rows, batch.reason, batch.oldest_wait), (6, Reason::Immediate, MS * 5));
    assert!(matches!(batcher.poll(at(5), 0), Step::Idle));
}

#[test]
fn a_full_batch_does_not_wait_for_the_delay() {
    let mut batcher = Batcher::new(policy(4, 100, 16));
    push(&mut batcher, 0, entry(0, 3, 1));
    waits_until(&mut batcher, 1, 100);
    push(&mut batcher, 2, entry(0, 1, 2));
    let batch = release(&mut batcher, 2);
    assert_eq!((payloads(&batch), batch.rows, batch.reason), (vec![1, 2], 4, Reason::Full));
}

#[test]
fn an_entry_that_does_not_fit_closes_its_own_key_and_is_not_overtaken() {
    let mut batcher = Batcher::new(policy(4, 100, 16));
    push(&mut batcher, 0, entry(0, 3, 1));
    push(&mut batcher, 1, entry(0, 2, 2));
    push(&mut batcher, 2, entry(0, 1, 3));
    let first = release(&mut batcher, 2);
    assert_eq!((payloads(&first), first.reason), (vec![1], Reason::Full));
    waits_until(&mut batcher, 2, 101);
    assert_eq!(payloads(&release(&mut batcher, 101)), [2, 3]);
}

#[test]
fn other_keys_neither_close_a_batch_nor_lose_their_place() {
    let mut batcher = Batcher::new(policy(4, 10, 16));
    push(&mut batcher, 0, entry(7, 1, 1));
    push(&mut batcher, 1, entry(8, 1, 2));
    push(&mut batcher, 2, entry(7, 1, 3));
    let batch = release(&mut batcher, 10);
    assert_eq!((payloads(&batch), batch.shape, batch.reason), (vec![1, 3], 7, Reason::Delay));
    waits_until(&mut batcher, 10, 11);
    assert_eq!(payloads(&release(&mut batcher, 11)), [2]);
}

#[test]
fn of_several_due_keys_the_one_with_the_oldest_head_goes_first() {
    let mut batcher = Batcher::new(policy(2, 10, 16));
    push(&mut batcher, 0, entry(1, 1, 1));
    push(&mut batcher, 1, entry(2, 2, 2));
    push(&mut batcher, 2, entry(3, 2, 3));
    // Key 1 is oldest but not due: the full ones go before it, oldest first.
    assert_eq!(payloads(&release(&mut batcher, 3)), [2]);
    // Now it is due, and older than the full one.
    assert_eq!(payloads(&release(&mut batcher, 10)), [1]);
    assert_eq!(payloads(&release(&mut batcher, 10)), [3]);
}

#[test]
fn the_delay_counts_from_the_oldest_entry_and_is_exact() {
    let mut batcher = Batcher::new(policy(8, 10, 16));
    push(&mut batcher, 5, entry(0, 1, 1));
    push(&mut batcher, 14, entry(0, 1, 2));
    waits_until(&mut batcher, 14, 15);
    let batch = release(&mut batcher, 15);
    assert_eq!((payloads(&batch), batch.reason, batch.oldest_wait), (vec![1, 2], Reason::Delay, MS * 10));
}

#[test]
fn a_model_without_batches_runs_entries_one_by_one_whatever_their_rows() {
    let mut batcher = Batcher::new(policy(0, 100, 16));
    push(&mut batcher, 0, entry(0, 500, 1));
    push(&mut batcher, 0, entry(0, 1, 2));
    let batch = release(&mut batcher, 0);
    assert_eq!((payloads(&batch), batch.rows, batch.reason), (vec![1], 500, Reason::Alone));
    assert_eq!(payloads(&release(&mut batcher, 0)), [2]);
}

#[test]
fn an_entry_past_its_deadline_is_answered_and_not_run() {
    let mut batcher = Batcher::new(policy(2, 50, 16));
    push(&mut batcher, 0, until(20, entry(0, 1, 1)));
    push(&mut batcher, 0, until(10, entry(1, 1, 2)));
    // The one that expires would have filled this batch.
    push(&mut batcher, 20, entry(0, 1, 3));
    assert_eq!(expired(&mut batcher, 20), [2, 1]);
    waits_until(&mut batcher, 20, 70);
    assert_eq!(payloads(&release(&mut batcher, 70)), [3]);
    assert_eq!((batcher.len(), batcher.rows()), (0, 0));
}

#[test]
fn a_delay_does_not_make_an_entry_miss_its_deadline() {
    let mut batcher = Batcher::new(policy(8, 50, 16));
    push(&mut batcher, 0, until(20, entry(0, 1, 1)));
    // Nothing is known of the cost: half of the time is left for the run.
    waits_until(&mut batcher, 0, 10);
    let batch = release(&mut batcher, 10);
    assert_eq!((payloads(&batch), batch.reason), (vec![1], Reason::Deadline));
    // Runs of one row take 4 ms: the next entry has to start 5 ms before its deadline.
    (0..8).for_each(|_| batcher.observe(at(10), &run(1, MS * 4)));
    push(&mut batcher, 10, until(30, entry(0, 1, 2)));
    waits_until(&mut batcher, 10, 25);
    assert_eq!(release(&mut batcher, 25).reason, Reason::Deadline);
}

#[test]
fn an_entry_whose_deadline_no_run_can_meet_is_answered_at_once() {
    let mut batcher = Batcher::new(policy(8, 0, 16));
    push(&mut batcher, 0, until(12, entry(0, 1, 1)));
    (0..8).for_each(|_| batcher.observe(at(5), &run(1, MS * 4)));
    // It could still have made it from 8 ms on, and not at 9.
    match batcher.poll(at(9), 0) {
        Step::Expired(entries) => assert_eq!(entries[0].why, Lateness::Unreachable),
        other => panic!("expected an expired entry, got {other:?}"),
    }
    let late = until(12, entry(0, 1, 2));
    assert_eq!(batcher.push(at(9), late).expect_err("cannot be met").0, Rejected::Unreachable);
    // A cost that has not been measured for long does not refuse anybody for ever.
    push(&mut batcher, 3_000, until(3_002, entry(0, 1, 3)));
    assert_eq!(payloads(&release(&mut batcher, 3_000)), [3]);
}

#[test]
fn an_entry_of_one_row_is_not_refused_for_what_runs_of_many_rows_take() {
    let mut batcher = Batcher::new(policy(64, 0, 16));
    (0..6).for_each(|_| batcher.observe(at(0), &run(64, MS * 130)));
    push(&mut batcher, 1, until(51, entry(0, 1, 1)));
    assert_eq!(payloads(&release(&mut batcher, 1)), [1]);
    // Nor one of another shape.
    push(&mut batcher, 1, until(51, entry(1, 64, 2)));
    assert_eq!(payloads(&release(&mut batcher, 1)), [2]);
    let late = until(51, entry(0, 64, 3));
    assert_eq!(batcher.push(at(1), late).expect_err("cannot be met").0, Rejected::Unreachable);
}

#[test]
fn an_entry_that_would_make_another_one_late_stays_for_the_next_batch() {
    let mut batcher = Batcher::new(policy(8, 0, 16));
    for rows in [1, 2, 4, 8] {
        (0..8).for_each(|_| batcher.observe(at(0), &run(rows, MS * u32::try_from(rows).expect("small"))));
    }
    push(&mut batcher, 0, until(3, entry(0, 2, 1)));
    push(&mut batcher, 0, until(90, entry(0, 2, 2)));
    let batch = release(&mut batcher, 0);
    assert_eq!((payloads(&batch), batch.reason), (vec![1], Reason::Deadline));
    assert_eq!(payloads(&release(&mut batcher, 0)), [2]);
}

#[test]
fn an_entry_can_still_run_just_before_its_deadline() {
    let mut batcher = Batcher::new(policy(2, 0, 16));
    push(&mut batcher, 0, until(20, entry(0, 1, 1)));
    assert_eq!(payloads(&release(&mut batcher, 19)), [1]);
}

#[test]
fn expired_entries_can_be_taken_while_no_instance_is_free() {
    let mut batcher = Batcher::new(policy(2, 0, 2));
    push(&mut batcher, 0, until(5, entry(0, 1, 1)));
    push(&mut batcher, 0, entry(0, 1, 2));
    assert!(batcher.expire(at(4)).is_empty());
    assert_eq!(batcher.expire(at(5)).len(), 1);
    push(&mut batcher, 5, entry(0, 1, 3));
    assert_eq!(payloads(&release(&mut batcher, 6)), [2, 3]);
}

#[test]
fn the_queue_is_bounded_and_gives_the_entry_back() {
    let mut batcher = Batcher::new(policy(8, 0, 2));
    push(&mut batcher, 0, entry(0, 1, 1));
    push(&mut batcher, 0, entry(1, 1, 2));
    let (rejected, back) = batcher.push(at(0), entry(0, 1, 3)).expect_err("the queue is full");
    assert_eq!((rejected, back), (Rejected::QueueFull, entry(0, 1, 3)));
    assert_eq!((batcher.len(), batcher.rows()), (2, 2));
    release(&mut batcher, 0);
    push(&mut batcher, 0, entry(0, 1, 3));
}

#[test]
fn an_entry_larger_than_a_batch_is_refused() {
    let mut batcher = Batcher::new(policy(4, 0, 16));
    assert_eq!(batcher.push(at(0), entry(0, 5, 1)).expect_err("too large").0, Rejected::TooLarge);
    let mut batcher = Batcher::new(policy(0, 0, 16));
    let huge = entry(0, ENTRY_ROWS_MAX + 1, 1);
    assert_eq!(batcher.push(at(0), huge).expect_err("too large").0, Rejected::TooLarge);
    assert!(batcher.is_empty());
}

#[test]
fn a_cancelled_entry_never_runs_and_its_ticket_never_hits_another() {
    let mut batcher = Batcher::new(policy(2, 10, 16));
    let first = push(&mut batcher, 0, entry(0, 1, 1));
    assert_eq!(batcher.cancel(first).map(|entry| entry.payload), Some(1));
    // The next entry is stored in the same slot.
    let second = push(&mut batcher, 3, entry(0, 1, 2));
    assert!(batcher.cancel(first).is_none());
    // Nor does the cancelled one's age, or its room, count any more.
    waits_until(&mut batcher, 4, 13);
    assert_eq!(payloads(&release(&mut batcher, 13)), [2]);
    assert!(batcher.cancel(second).is_none());
}

#[test]
fn cancelling_the_head_reopens_a_full_batch() {
    let mut batcher = Batcher::new(policy(2, 10, 16));
    let head = push(&mut batcher, 0, entry(0, 1, 1));
    push(&mut batcher, 1, entry(0, 1, 2));
    assert_eq!(batcher.due(0), Some(Time::START));
    batcher.cancel(head).expect("it waits");
    waits_until(&mut batcher, 1, 11);
}

#[test]
fn a_hundred_thousand_cancelled_entries_leave_no_garbage() {
    let mut batcher = Batcher::new(policy(8, 1000, 64));
    push(&mut batcher, 0, entry(0, 1, 0));
    for number in 1..=100_000 {
        let shape = u64::from(number);
        let ticket = push(&mut batcher, 0, until(900, entry(shape % 1000, 1, number)));
        assert!(batcher.cancel(ticket).is_some());
    }
    let (slots, lanes, deadlines) = batcher.footprint();
    assert_eq!((batcher.len(), lanes, deadlines), (1, 1, 0));
    assert!(slots <= 2, "{slots} slots for two entries at a time");
}

#[test]
fn draining_releases_what_waits_and_admits_nothing() {
    let mut batcher = Batcher::new(policy(4, 100, 16));
    push(&mut batcher, 0, entry(0, 1, 1));
    push(&mut batcher, 0, entry(1, 1, 2));
    batcher.drain();
    assert_eq!(batcher.push(at(1), entry(0, 1, 3)).expect_err("draining").0, Rejected::Draining);
    let first = release(&mut batcher, 1);
    assert_eq!((payloads(&first), first.reason), (vec![1], Reason::Drain));
    assert_eq!(payloads(&release(&mut batcher, 1)), [2]);
    assert!(matches!(batcher.poll(at(1), 0), Step::Drained));
}

#[test]
fn a_new_policy_applies_to_what_waits() {
    let mut batcher = Batcher::new(policy(8, 100, 16));
    for number in 0..4 {
        push(&mut batcher, 0, entry(0, 1, number));
    }
    waits_until(&mut batcher, 1, 100);
    batcher.set_policy(policy(3, 50, 16));
    assert_eq!(payloads(&release(&mut batcher, 1)), [0, 1, 2]);
    waits_until(&mut batcher, 1, 50);
    batcher.set_policy(policy(3, 0, 16));
    assert_eq!(payloads(&release(&mut batcher, 1)), [3]);
}

#[test]
fn an_entry_admitted_under_a_larger_batch_size_still_runs_alone() {
    let mut batcher = Batcher::new(policy(8, 100, 16));
    push(&mut batcher, 0, entry(0, 1, 1));
    push(&mut batcher, 0, entry(0, 6, 2));
    push(&mut batcher, 0, entry(0, 1, 3));
    batcher.set_policy(policy(4, 100, 16));
    assert_eq!(payloads(&release(&mut batcher, 0)), [1]);
    let oversized = release(&mut batcher, 0);
    assert_eq!((payloads(&oversized), oversized.reason), (vec![2], Reason::Alone));
    waits_until(&mut batcher, 0, 100);
}

#[test]
fn a_smaller_queue_drops_nobody() {
    let mut batcher = Batcher::new(policy(8, 0, 4));
    for number in 0..4 {
        push(&mut batcher, 0, entry(0, 1, number));
    }
    batcher.set_policy(policy(8, 0, 2));
    assert_eq!(batcher.push(at(0), entry(0, 1, 9)).expect_err("full").0, Rejected::QueueFull);
    assert_eq!(payloads(&release(&mut batcher, 0)), [0, 1, 2, 3]);
}

#[test]
fn time_that_goes_backwards_is_read_as_the_latest() {
    let mut batcher = Batcher::new(policy(8, 10, 16));
    push(&mut batcher, 20, entry(0, 1, 1));
    push(&mut batcher, 3, entry(0, 1, 2));
    waits_until(&mut batcher, 3, 30);
    assert_eq!(release(&mut batcher, 30).oldest_wait, MS * 10);
}

#[test]
fn entries_without_rows_travel_with_the_others() {
    let mut batcher = Batcher::new(policy(2, 10, 16));
    push(&mut batcher, 0, entry(0, 0, 1));
    waits_until(&mut batcher, 0, 10);
    push(&mut batcher, 1, entry(0, 2, 2));
    let batch = release(&mut batcher, 1);
    assert_eq!((payloads(&batch), batch.rows), (vec![1, 2], 2));
}

#[test]
fn every_reason_has_a_label_of_its_own() {
    let labels: std::collections::BTreeSet<_> = Reason::ALL.iter().map(|reason| reason.as_str()).collect();
    assert_eq!(labels.len(), Reason::ALL.len());
}

/// Eight runs of so many rows that took so long each.
fn known(batcher: &mut Batcher<u32>, rows: usize, took: Duration) {
    (0..8).for_each(|_| batcher.observe(Time::START, &run(rows, took)));
}

#[test]
fn what_goes_before_an_entry_is_told_at_once_where_it_takes_too_long() {
    let mut batcher = Batcher::new(Policy { max_batch_size: 8, ..Policy::default() });
    known(&mut batcher, 8, MS * 9);
    // 100 ms are time for 9 runs of 8, one being under way: what comes beyond hears it now.
    let refused = |batcher: &mut Batcher<u32>, deadline_ms, number| {
        batcher.push(at(0), until(deadline_ms, entry(0, 1, number))).err().map(|(why, _)| why)
    };
    let outcomes: Vec<_> = (0..100).map(|number| refused(&mut batcher, 100, number)).collect();
    let admitted = outcomes.iter().filter(|outcome| outcome.is_none()).count();
    assert_eq!(admitted, 72);
    assert!(outcomes[72..].iter().all(|outcome| *outcome == Some(Rejected::Behind)));
    // Who may wait longer is admitted, and so is who goes before all of them.
    assert_eq!(refused(&mut batcher, 200, 100), None);
    assert_eq!(refused(&mut batcher, 50, 101), None);
    let mut entry_without = entry(0, 1, 102);
    entry_without.deadline = None;
    assert!(batcher.push(at(0), entry_without).is_ok());
    // Several instances do several times as much.
    batcher.set_instances(2);
    assert_eq!(refused(&mut batcher, 100, 103), None);
}

#[test]
fn a_low_level_is_not_promised_what_a_high_one_takes() {
    let levels =
        Policy { max_batch_size: 8, priority_levels: 2, default_priority_level: 2, ..Policy::default() };
    let mut batcher = Batcher::new(levels);
    known(&mut batcher, 8, MS * 9);
    // They have more time, and go first all the same.
    for number in 0..72 {
        admit(&mut batcher, 0, Entry { priority: 1, ..until(200, entry(0, 1, number)) });
    }
    let low = batcher.push(at(0), until(100, entry(0, 1, 100))).expect_err("nine runs go before it");
    assert_eq!(low.0, Rejected::Behind);
    let high = Entry { priority: 1, ..until(100, entry(0, 1, 101)) };
    assert!(batcher.push(at(0), high).is_ok(), "nothing goes before it");
}

#[test]
fn what_is_still_being_made_is_told_too_and_counts_for_what_comes_after_it() {
    let mut batcher = Batcher::<u32>::new(Policy { max_batch_size: 8, ..Policy::default() });
    let behind = |batcher: &mut Batcher<u32>, coming| batcher.would_be_behind(at(0), at(100), (0, 0), coming);
    assert!(!behind(&mut batcher, 1000), "nothing is known");
    known(&mut batcher, 8, MS * 9);
    assert!(!behind(&mut batcher, 0) && !behind(&mut batcher, 71) && behind(&mut batcher, 72));
    (0..64).for_each(|number| admit(&mut batcher, 0, until(100, entry(0, 1, number))));
    assert!(!behind(&mut batcher, 7) && behind(&mut batcher, 8));
}

#[test]
fn nobody_is_refused_for_what_is_not_known_or_for_other_tenants() {
    let mut batcher = Batcher::new(Policy { max_batch_size: 8, ..Policy::default() });
    known(&mut batcher, 1, MS * 50);
    // No batch has been seen yet: it may take no longer than one row.
    for number in 0..8 {
        assert!(batcher.push(at(0), until(100, entry(0, 1, number))).is_ok());
    }
    let mut batcher = Batcher::new(Policy { max_batch_size: 8, ..Policy::default() });
    known(&mut batcher, 8, MS * 9);
    for number in 0..100 {
        let _ = batcher.push(at(0), Entry { tenant: 1, ..until(100, entry(0, 1, number)) });
    }
    let other = batcher.push(at(0), Entry { tenant: 2, ..until(100, entry(0, 1, 100)) });
    assert!(other.is_ok(), "tenants take turns");
}
