//! Entries and instances that leave: drained, cancelled, expired, changed meanwhile.

use super::*;

#[test]
fn draining_runs_what_waits_and_ends_every_instance() {
    let (queue, _) = queue(policy(8, FOREVER));
    let instances: Vec<_> = (0..3).map(|_| next_on_a_thread(&queue)).collect();
    let _guard = queue.submit(entry(1)).expect("admitted");
    queue.drain();
    assert_eq!(queue.submit(entry(2)).expect_err("draining").0, Rejected::Draining);
    let work: Vec<_> = instances.into_iter().filter_map(|instance| join("it ends", instance)).collect();
    assert_eq!(work.len(), 1, "one batch, and two instances that end");
    assert!(queue.next(0).is_none());
}

#[test]
fn a_policy_changed_while_entries_wait_applies_to_them() {
    let (queue, _) = queue(policy(8, FOREVER));
    let instance = next_on_a_thread(&queue);
    let _guard = submit_and_settle(&queue, entry(1));
    queue.set_policy(policy(8, Duration::ZERO));
    assert_eq!(batch(join("it is run", instance)), (vec![1], Reason::Immediate));
    assert_eq!(queue.policy(), policy(8, Duration::ZERO));
}

#[test]
fn a_dropped_guard_takes_its_entry_out_and_a_finished_one_does_not() {
    let (queue, _) = queue(policy(8, Duration::ZERO));
    let cancelled = queue.submit(entry(1)).expect("admitted");
    let finished = queue.submit(entry(2)).expect("admitted");
    drop(cancelled);
    finished.finish();
    assert_eq!(queue.depth(), 1);
    assert_eq!(batch(queue.next(0)).0, [2]);
}

/// A payload that needs its queue's lock to be dropped.
#[derive(Debug)]
struct Nosy(Arc<Queue<Nosy>>);

impl Drop for Nosy {
    fn drop(&mut self) {
        assert_eq!(self.0.depth(), 0);
    }
}

#[test]
fn a_cancelled_payload_is_dropped_outside_of_the_lock() {
    let queue = Arc::new(Queue::new(policy(8, FOREVER), Arc::new(ManualClock::new())));
    let guard = queue.submit(entry(Nosy(Arc::clone(&queue)))).expect("admitted");
    join("the guard is dropped", thread::spawn(move || drop(guard)));
}

#[test]
fn expired_entries_can_be_answered_without_an_instance() {
    let clock = Arc::new(ManualClock::new());
    let queue = Arc::new(Queue::new(policy(8, Duration::ZERO), Arc::clone(&clock) as Arc<dyn Clock>));
    let deadline = Some(Time(Duration::from_millis(5)));
    let _guard = queue.submit(Entry { deadline, ..entry(1) }).expect("admitted");
    assert!(queue.take_expired().is_empty());
    clock.advance(Duration::from_millis(5));
    assert_eq!(queue.take_expired().len(), 1);
    assert_eq!(queue.depth(), 0);
}

/// Panics when it is asked for the first time.
#[derive(Default)]
struct BrokenOnce(AtomicUsize);

impl Clock for BrokenOnce {
    fn now(&self) -> Time {
        assert!(self.0.fetch_add(1, Ordering::Relaxed) > 0, "a clock that breaks once");
        Time::START
    }
}

#[test]
fn a_panic_under_the_lock_does_not_take_the_queue_along() {
    let queue = Arc::new(Queue::new(policy(8, Duration::ZERO), Arc::new(BrokenOnce::default())));
    let broken = Arc::clone(&queue);
    assert!(thread::spawn(move || broken.next(0).is_some()).join().is_err());
    let _guard = queue.submit(entry(1)).expect("admitted");
    assert_eq!(batch(queue.next(0)).0, [1]);
}
