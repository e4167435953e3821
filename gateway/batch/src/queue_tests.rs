//! What the shell promises with real threads. Nothing here waits without a limit.

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

/// A small random number, different for each call.
fn noise(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

/// Counts how often each entry was answered, cancelled entries too: a payload is
/// dropped once, wherever it goes.
struct Counted {
    id: usize,
    dropped: Arc<Vec<AtomicU32>>,
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.dropped[self.id].fetch_add(1, Ordering::Relaxed);
    }
}

/// Submits its share, drops a third of the guards early, and keeps the rest
/// until it ends. Returns how many were refused.
fn produce(queue: &Arc<Queue<Counted>>, ids: std::ops::Range<usize>, dropped: &Arc<Vec<AtomicU32>>) -> usize {
    let clock = MonotonicClock::new();
    let (mut state, mut refused, mut guards) = (ids.start as u64 + 1, 0, Vec::<Admitted<Counted>>::new());
    for id in ids {
        let random = noise(&mut state);
        let rows = if random.is_multiple_of(3) { 2 } else { 1 };
        let mut next =
            Entry { rows, shape: random % 2, ..entry(Counted { id, dropped: Arc::clone(dropped) }) };
        loop {
            match queue.submit(next) {
                Ok(guard) if random.is_multiple_of(5) => drop(guard),
                Ok(guard) => guards.push(guard),
                Err((Rejected::QueueFull, back)) => {
                    assert!(clock.now().0 < LIMIT, "the queue stays full");
                    refused += 1;
                    next = back;
                    thread::yield_now();
                    continue;
                }
                Err((rejected, _)) => panic!("refused: {rejected}"),
            }
            break;
        }
        if random.is_multiple_of(7) && !guards.is_empty() {
            drop(guards.swap_remove(usize::try_from(random % guards.len() as u64).expect("an index")));
        }
    }
    eventually("the queue is empty", || queue.depth() == 0);
    guards.into_iter().for_each(Admitted::finish);
    refused
}

fn ten_thousand_entries(policy: Policy) {
    const ENTRIES: usize = 10_000;
    let rows_max = policy.max_batch_size;
    let queue = Arc::new(Queue::new(policy, Arc::new(MonotonicClock::new())));
    let dropped: Arc<Vec<AtomicU32>> = Arc::new((0..ENTRIES).map(|_| AtomicU32::new(0)).collect());
    let run = Arc::new(AtomicUsize::new(0));
    let consumers: Vec<_> = (0..4)
        .map(|_| {
            let (queue, run) = (Arc::clone(&queue), Arc::clone(&run));
            thread::spawn(move || {
                while let Some(work) = queue.next(0) {
                    let Work::Run(batch, _) = work else { panic!("nothing has a deadline") };
                    assert!(batch.rows <= rows_max);
                    assert!(batch.entries.iter().all(|entry| entry.shape == batch.shape));
                    run.fetch_add(batch.entries.len(), Ordering::Relaxed);
                }
            })
        })
        .collect();
    let producers: Vec<_> = (0..4)
        .map(|number| {
            let (queue, dropped) = (Arc::clone(&queue), Arc::clone(&dropped));
            let share = ENTRIES / 4;
            thread::spawn(move || produce(&queue, number * share..(number + 1) * share, &dropped))
        })
        .collect();
    for producer in producers {
        join("all are submitted", producer);
    }
    queue.drain();
    for consumer in consumers {
        join("the consumer ends", consumer);
    }
    assert!(dropped.iter().all(|times| times.load(Ordering::Relaxed) == 1), "an entry lost or doubled");
    let run = run.load(Ordering::Relaxed);
    assert!(run > ENTRIES / 2 && run <= ENTRIES, "{run} of {ENTRIES} run");
}

#[test]
fn four_instances_answer_ten_thousand_entries_once_without_a_delay() {
    ten_thousand_entries(policy(8, Duration::ZERO));
}

#[test]
fn four_instances_answer_ten_thousand_entries_once_with_a_delay() {
    ten_thousand_entries(policy(8, Duration::from_micros(200)));
}

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

fn quick_run() -> Observed {
    Observed { shape: 0, rows: 1, took: Duration::from_micros(10), oldest_wait: Duration::ZERO }
}

#[test]
fn a_run_that_waits_for_its_permit_is_as_urgent_as_what_is_queued_meanwhile() {
    let clock = Arc::new(MonotonicClock::new());
    let limiter = Arc::new(Limiter::new(Arc::clone(&clock) as Arc<dyn Clock>));
    limiter.set([("runs".into(), 1)].into());
    let order = Arc::new(Mutex::new(Vec::new()));
    let busy = User::default();
    busy.set(Demand { units: [("runs".into(), 1)].into(), share: RunShare::default() });
    let running = limiter.acquire(&Arc::new(busy));
    let queues: Vec<_> = (0..2)
        .map(|number| {
            let user = Arc::new(User::default());
            user.set(Demand { units: [("runs".into(), 1)].into(), share: RunShare::default() });
            let queue = Queue::new(policy(8, Duration::ZERO), Arc::clone(&clock) as Arc<dyn Clock>);
            let queue = Arc::new(queue.limited_by(Arc::clone(&limiter), user));
            let guard = queue.submit(entry(number)).expect("admitted");
            let (of, order) = (Arc::clone(&queue), Arc::clone(&order));
            let thread = thread::spawn(move || {
                let work = of.next(0);
                order.lock().expect("no panic").push(number);
                drop(work);
            });
            eventually("it waits for its permit", || limiter.waiting() == number + 1);
            (queue, guard, thread)
        })
        .collect();
    // The second model comes later, so only what is queued now makes it the next one: of the
    // time until its deadline a run is known to take half.
    let long = Observed { shape: 9, took: Duration::from_secs(600), ..quick_run() };
    for _ in 0..8 {
        queues[1].0.observe(&long);
    }
    let deadline = Some(clock.now().after(Duration::from_secs(1200)));
    let _urgent = queues[1].0.submit(Entry { deadline, ..entry(7) }).expect("admitted");
    drop(running);
    for (_, guard, thread) in queues {
        join("it runs", thread);
        guard.finish();
    }
    assert_eq!(*order.lock().expect("no panic"), [1, 0]);
}
