//! Thousands of entries from many threads: each is answered once.

use super::*;

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
