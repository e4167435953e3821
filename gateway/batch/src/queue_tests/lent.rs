//! Instances that run in their callers' places, and runs that wait for permits.

use super::*;

#[test]
fn a_quick_entry_is_run_by_its_caller_unless_runs_are_limited() {
    let clock = Arc::new(MonotonicClock::new());
    let limiter = Arc::new(Limiter::new(Arc::clone(&clock) as Arc<dyn Clock>));
    let user = Arc::new(User::default());
    let queue =
        Queue::new(policy(8, Duration::ZERO), clock).limited_by(Arc::clone(&limiter), Arc::clone(&user));
    let queue = Arc::new(queue);
    let instance = next_on_a_thread(&queue);
    for _ in 0..8 {
        queue.observe(&quick_run());
    }
    let quick = Duration::from_secs(60);
    let (guard, is_quick) = queue.submit_quick(entry(1), quick).expect("admitted");
    let is_quick = is_quick.expect("a limiter without resources is no limit");
    let borrowed = is_quick.borrow().expect("the instance sleeps");
    assert_eq!(batch(borrowed.next(quick)).0, [1]);
    drop(borrowed);
    guard.finish();
    // What the caller may run at once is what needs no permit.
    limiter.set([("gpu".into(), 1)].into());
    user.set(Demand { units: [("gpu".into(), 1)].into(), share: RunShare::default() });
    let (_guard, is_quick) = queue.submit_quick(entry(2), quick).expect("admitted");
    assert!(is_quick.is_none());
    assert_eq!(batch(join("the instance runs it", instance)).0, [2]);
}

fn quick_run() -> Observed {
    Observed { shape: 0, rows: 1, took: Duration::from_micros(10), oldest_wait: Duration::ZERO }
}

/// An instance's thread, and the work it took last.
type Serving = JoinHandle<Option<Work<usize>>>;

/// A queue of so many instances that sleep, and know that a run is quick.
fn lending(instances: usize) -> (Arc<Queue<usize>>, Vec<Serving>) {
    let (queue, _) = queue(policy(1, Duration::ZERO));
    let threads = (0..instances)
        .map(|number| {
            let of = Arc::clone(&queue);
            let thread = thread::spawn(move || of.next(number));
            eventually("it sleeps", || queue.idle() == number + 1);
            thread
        })
        .collect();
    for _ in 0..8 {
        queue.observe(&quick_run());
    }
    (queue, threads)
}

const QUICK: Duration = Duration::from_secs(60);

#[test]
fn a_caller_that_leaves_before_it_has_borrowed_an_instance_wakes_one() {
    let (queue, mut threads) = lending(1);
    let (_guard, quick) = queue.submit_quick(entry(1), QUICK).expect("admitted");
    drop(quick.expect("nothing else waits"));
    assert_eq!(batch(join("the instance runs it", threads.remove(0))).0, [1]);
}

#[test]
fn an_instance_that_is_gone_does_not_keep_others_from_being_lent() {
    let (queue, _threads) = lending(2);
    let (_guard, quick) = queue.submit_quick(entry(1), QUICK).expect("admitted");
    queue.abandon_unseen(0);
    let borrowed = quick.expect("nothing else waits").borrow().expect("the other one is free");
    assert_eq!(borrowed.instance(), 1);
}

#[test]
fn a_wake_that_reaches_an_instance_that_is_lent_reaches_the_one_that_is_free() {
    for _ in 0..50 {
        let (queue, threads) = lending(2);
        let (_first, quick) = queue.submit_quick(entry(1), QUICK).expect("admitted");
        let borrowed = quick.expect("nothing else waits").borrow().expect("one is free");
        assert_eq!(batch(borrowed.next(QUICK)).0, [1]);
        // Either thread may be the one that is woken. The caller is in no hurry to give its
        // instance back.
        let _second = queue.submit(entry(2)).expect("admitted");
        eventually("the free instance runs it", || threads.iter().any(JoinHandle::is_finished));
        drop(borrowed);
        queue.drain();
        threads.into_iter().for_each(|thread| drop(join("it ends", thread)));
    }
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
