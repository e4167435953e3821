//! The shell: threads, wakes, answers.

use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::Duration;

use super::*;
use crate::{MonotonicClock, ShapeKey};

/// What a request is here: who is told if it does not run.
type Payload = (usize, SyncSender<(usize, Unrun)>);
type Shell = SequenceQueue<u64, Payload, usize>;

struct Told;

impl Observer<Payload> for Told {
    fn unrun(&self, (id, tell): Payload, why: Unrun) {
        let _ = tell.send((id, why));
    }

    fn counts(&self, _: Counts) {}
}

const SHAPE: ShapeKey = 7;

fn shell(slots: usize, max_idle: Duration) -> Arc<Shell> {
    let strategy = Strategy::Oldest {
        max_batch_size: 8,
        preferred_batch_sizes: Vec::new(),
        max_queue_delay: Duration::ZERO,
    };
    let policy = SequencePolicy { strategy, max_idle, max_queue_size: 1000 };
    Arc::new(SequenceQueue::new(1, slots, policy, Arc::new(MonotonicClock::new()), Box::new(Told)))
}

fn arrival(key: u64, start: bool, payload: Payload) -> Arrival<u64, Payload> {
    Arrival { key, start, end: false, deadline: None, shape: SHAPE, payload }
}

#[test]
fn a_lane_that_sleeps_is_woken_runs_in_order_and_ends_with_the_queue() {
    let queue = shell(4, Duration::from_secs(60));
    let (tell, _told) = sync_channel(1024);
    let (ran, runs) = sync_channel(1024);
    let lane = {
        let queue = Arc::clone(&queue);
        std::thread::spawn(move || {
            while let Some(flight) = queue.next(0) {
                let remembered = flight.members.iter().map(|member| member.state.unwrap_or(0) + 1);
                let outcomes: Vec<_> = remembered.map(Outcome::Ran).collect();
                for member in flight.members {
                    ran.send((member.key, member.payload.0, member.state)).expect("listened to");
                }
                queue.finish(0, outcomes);
            }
        })
    };
    let mut guards = Vec::new();
    for number in 0..200 {
        let (key, start) = ((number % 4) as u64, number < 4);
        guards.push(queue.submit(arrival(key, start, (number, tell.clone()))).expect("admitted"));
    }
    let mut last = [None; 4];
    for _ in 0..200 {
        let (key, number, state) = runs.recv_timeout(Duration::from_secs(20)).expect("each runs");
        let place = usize::try_from(key).expect("small");
        assert!(last[place].is_none_or(|last| last < number), "out of order");
        assert_eq!(state.unwrap_or(0), number / 4, "remembers what ran before");
        last[place] = Some(number);
    }
    guards.into_iter().for_each(AdmittedSequence::finish);
    queue.drain();
    lane.join().expect("the lane ends");
    assert_eq!(queue.counts().active, 0);
}

#[test]
fn a_dropped_start_answers_what_came_after_it() {
    let queue = shell(1, Duration::from_secs(60));
    let (tell, told) = sync_channel(1024);
    let first = queue.submit(arrival(1, true, (1, tell.clone()))).expect("admitted");
    let second = queue.submit(arrival(1, false, (2, tell.clone()))).expect("admitted");
    drop(first);
    assert_eq!(told.try_recv(), Ok((2, Unrun::NotStarted)));
    drop(second);
    let refused = queue.submit(arrival(1, false, (3, tell))).map(drop).map_err(|(why, _)| why);
    assert_eq!(refused, Err(Refused::NotStarted(Some(EndedBy::Start))));
}

#[test]
fn an_idle_sequence_makes_room_without_anybody_coming() {
    let queue = shell(1, Duration::from_millis(30));
    let (tell, _told) = sync_channel(1024);
    let one = queue.submit(arrival(1, true, (1, tell.clone()))).expect("admitted");
    assert_eq!(queue.next(0).expect("runs").members[0].key, 1);
    queue.finish(0, [Outcome::Ran(0)]);
    one.finish();
    let two = queue.submit(arrival(2, true, (2, tell))).expect("admitted");
    assert_eq!(queue.counts(), Counts { active: 1, slots: 1, backlog: 1, waiting: 1 });
    // Blocks until the first one has ended.
    assert_eq!(queue.next(0).expect("runs").members[0].key, 2);
    two.finish();
}

#[test]
fn a_queue_that_takes_anothers_place_says_what_became_of_its_sequences() {
    let (before, after) = (shell(1, Duration::from_secs(60)), shell(1, Duration::from_secs(60)));
    let (tell, _told) = sync_channel(1024);
    let _one = before.submit(arrival(1, true, (1, tell.clone()))).expect("admitted");
    after.succeed(&before);
    let refused = after.submit(arrival(1, false, (2, tell))).map(drop).map_err(|(why, _)| why);
    assert_eq!(refused, Err(Refused::NotStarted(Some(EndedBy::Reload))));
}
