//! What the shell promises with real threads. Nothing here waits without a limit.

mod leaving;
mod many;
mod permits;

use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::{
    Admitted, Clock, Demand, Entry, Limiter, ManualClock, Mode, MonotonicClock, Observed, Policy, Queue,
    Reason, Rejected, RunShare, Time, User, Work,
};

/// Much longer than anything here takes, also on a busy machine.
const LIMIT: Duration = Duration::from_secs(30);
/// A delay that no test waits for.
const FOREVER: Duration = Duration::from_secs(3_600);

fn policy(max_batch_size: usize, max_queue_delay: Duration) -> Policy {
    Policy { mode: Mode::Fixed, max_batch_size, max_queue_delay, max_queue_size: 64, ..Policy::default() }
}

fn queue(policy: Policy) -> (Arc<Queue<usize>>, MonotonicClock) {
    let clock = MonotonicClock::new();
    (Arc::new(Queue::new(policy, Arc::new(clock))), clock)
}

fn entry<T>(payload: T) -> Entry<T> {
    Entry::new(1, 0, payload)
}

fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let clock = MonotonicClock::new();
    while !holds() {
        assert!(clock.now().0 < LIMIT, "not within {LIMIT:?}: {what}");
        thread::sleep(Duration::from_micros(200));
    }
}

fn join<R>(what: &str, thread: JoinHandle<R>) -> R {
    eventually(what, || thread.is_finished());
    thread.join().expect("the thread does not panic")
}

/// One call of `next` on a thread of its own.
fn next_on_a_thread<T: Send + 'static>(queue: &Arc<Queue<T>>) -> JoinHandle<Option<Work<T>>> {
    let (queue, before) = (Arc::clone(queue), queue.idle());
    let thread = thread::spawn({
        let queue = Arc::clone(&queue);
        move || queue.next(0)
    });
    eventually("the thread sleeps or has its work", || queue.idle() > before || thread.is_finished());
    thread
}

/// Submits an entry that has to wait, and lets the instances go back to sleep
/// with one of them watching the clock.
fn submit_and_settle(queue: &Arc<Queue<usize>>, entry: Entry<usize>) -> Admitted<usize> {
    let idle = queue.idle();
    let guard = queue.submit(entry).expect("admitted");
    eventually("a sleeping thread watches the clock", || queue.watch().is_some() && queue.idle() == idle);
    guard
}

fn batch(work: Option<Work<usize>>) -> (Vec<usize>, Reason) {
    match work {
        Some(Work::Run(batch, _)) => {
            (batch.entries.iter().map(|entry| entry.payload).collect(), batch.reason)
        }
        other => panic!("expected a batch, got {other:?}"),
    }
}

#[test]
fn an_entry_wakes_a_sleeping_instance() {
    let (queue, _) = queue(policy(4, Duration::ZERO));
    let instance = next_on_a_thread(&queue);
    assert_eq!(queue.idle(), 1);
    let _guard = queue.submit(entry(5)).expect("admitted");
    assert_eq!(batch(join("the entry is run", instance)), (vec![5], Reason::Immediate));
    assert_eq!((queue.idle(), queue.depth()), (0, 0));
}

#[test]
fn a_lone_entry_runs_when_its_delay_ends_and_not_before() {
    let delay = Duration::from_millis(30);
    let (queue, clock) = queue(policy(4, delay));
    let instance = next_on_a_thread(&queue);
    let before = clock.now();
    let _guard = queue.submit(entry(1)).expect("admitted");
    assert_eq!(batch(join("the delay ends", instance)), (vec![1], Reason::Delay));
    assert!(clock.now().since(before) >= delay);
}

#[test]
fn the_entry_that_fills_a_batch_wakes_an_instance_before_the_delay() {
    let (queue, _) = queue(policy(2, FOREVER));
    let instances = [next_on_a_thread(&queue), next_on_a_thread(&queue)];
    let _first = submit_and_settle(&queue, entry(0));
    let _others: Vec<_> = (1..4).map(|id| queue.submit(entry(id)).expect("admitted")).collect();
    let mut run: Vec<_> = instances.map(|instance| batch(join("a full batch is run", instance))).into();
    run.sort_by_key(|(ids, _)| ids[0]);
    assert_eq!(run, [(vec![0, 1], Reason::Full), (vec![2, 3], Reason::Full)]);
}

#[test]
fn an_entry_with_a_deadline_earlier_than_the_watched_time_runs_in_time() {
    let (queue, clock) = queue(policy(4, FOREVER));
    let instances = [next_on_a_thread(&queue), next_on_a_thread(&queue)];
    let _held = submit_and_settle(&queue, entry(1));
    let deadline = clock.now().after(Duration::from_secs(4));
    let _late = queue.submit(Entry { deadline: Some(deadline), shape: 1, ..entry(2) }).expect("admitted");
    eventually("it runs", || instances.iter().any(JoinHandle::is_finished));
    assert!(clock.now() < deadline);
    queue.drain();
    let mut run = instances.map(|instance| batch(join("the instance ends", instance)));
    run.sort_by_key(|(ids, _)| ids[0]);
    assert_eq!(run.map(|(ids, _)| ids), [vec![1], vec![2]]);
}

#[test]
fn bound_entries_reach_their_instances_whoever_sleeps() {
    let (queue, _) = queue(policy(4, Duration::ZERO));
    let instances: Vec<_> = (0..4)
        .map(|number| {
            let queue = Arc::clone(&queue);
            thread::spawn(move || {
                let mut ran = Vec::new();
                while let Some(work) = queue.next(number) {
                    ran.extend(batch(Some(work)).0);
                }
                ran
            })
        })
        .collect();
    let guards: Vec<_> = (0..400)
        .map(|id| {
            let instance = Some(id % 4);
            loop {
                match queue.submit(Entry { instance, ..entry(id) }) {
                    Ok(guard) => break guard,
                    Err(_) => thread::yield_now(),
                }
            }
        })
        .collect();
    eventually("all are run", || queue.depth() == 0);
    guards.into_iter().for_each(Admitted::finish);
    queue.drain();
    for (number, instance) in instances.into_iter().enumerate() {
        let ran = join("the instance ends", instance);
        assert!(ran.len() == 100 && ran.iter().all(|id| id % 4 == number), "{number}: {ran:?}");
    }
}

#[test]
fn what_one_instance_leaves_behind_wakes_the_next() {
    const INSTANCES: usize = 4;
    let (queue, _) = queue(policy(0, Duration::ZERO));
    // Each instance keeps its first entry until all have one, so it takes a
    // wake for each: a lost one would leave them waiting for each other.
    for _ in 0..50 {
        let all_have_one = Arc::new(Barrier::new(INSTANCES));
        let instances: Vec<_> = (0..INSTANCES)
            .map(|_| {
                let (queue, all_have_one) = (Arc::clone(&queue), Arc::clone(&all_have_one));
                thread::spawn(move || {
                    let work = queue.next(0);
                    all_have_one.wait();
                    batch(work).0[0]
                })
            })
            .collect();
        eventually("all instances sleep", || queue.idle() == INSTANCES);
        let _guards: Vec<_> = (0..INSTANCES).map(|id| queue.submit(entry(id)).expect("admitted")).collect();
        let mut run: Vec<_> = instances.into_iter().map(|instance| join("all have one", instance)).collect();
        run.sort_unstable();
        assert_eq!(run, [0, 1, 2, 3]);
    }
}

#[test]
fn the_clock_is_watched_on_after_the_watching_instance_leaves() {
    let delay = Duration::from_millis(40);
    let (queue, _) = queue(policy(2, delay));
    let instances = [next_on_a_thread(&queue), next_on_a_thread(&queue)];
    // One watches for the first entry; the second entry may send that very one
    // away with a full batch, and the third must then still come due.
    let _guards: Vec<_> = (0..3).map(|id| queue.submit(entry(id)).expect("admitted")).collect();
    let mut run: Vec<_> = instances.map(|instance| batch(join("all are run", instance))).into();
    run.sort_by_key(|(ids, _)| ids[0]);
    assert_eq!(run, [(vec![0, 1], Reason::Full), (vec![2], Reason::Delay)]);
}
