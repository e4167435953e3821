//! Runs that wait for permits.

use super::*;

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
    let long = Observed { shape: 9, took: Duration::from_secs(600), rows: 1, oldest_wait: Duration::ZERO };
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
