//! Histories by hand: one promise each.

use std::time::Duration;

use super::*;
use crate::Time;

type Machine = Sequencer<&'static str, u32, u32>;

fn at(ms: u64) -> Time {
    Time(Duration::from_millis(ms))
}

fn direct(slots: usize, utilization: f64, delay_ms: u64) -> Machine {
    let max_queue_delay = Duration::from_millis(delay_ms);
    machine(slots, Strategy::Direct { max_queue_delay, minimum_slot_utilization: utilization })
}

fn oldest(slots: usize, max_batch_size: usize, preferred: &[usize], delay_ms: u64) -> Machine {
    let max_queue_delay = Duration::from_millis(delay_ms);
    machine(
        slots,
        Strategy::Oldest { max_batch_size, preferred_batch_sizes: preferred.to_vec(), max_queue_delay },
    )
}

fn machine(slots: usize, strategy: Strategy) -> Machine {
    Sequencer::new(
        1,
        slots,
        SequencePolicy { strategy, max_idle: Duration::from_secs(1), max_queue_size: 100 },
    )
}

fn send(machine: &mut Machine, now: Time, key: &'static str, flags: &str, payload: u32) -> SequenceTicket {
    let (start, end) = (flags.contains('S'), flags.contains('E'));
    let arrival = Arrival { key, start, end, deadline: None, shape: 0, payload };
    machine.push(now, arrival).expect("admitted")
}

/// Rows of the batch, and row and payload of each member.
fn run(machine: &mut Machine, now: Time) -> Option<(usize, Vec<(usize, u32)>)> {
    let LaneStep::Run(flight) = machine.poll(now, 0) else { return None };
    let members: Vec<_> = flight.members.iter().map(|member| (member.row, member.payload)).collect();
    machine.finish(now, 0, members.iter().map(|_| Outcome::Ran(0)));
    Some((flight.rows, members))
}

#[test]
fn in_direct_mode_each_sequence_keeps_its_row_and_rows_of_the_silent_are_empty() {
    let mut machine = direct(4, 0.0, 0);
    for (key, payload) in [("a", 1), ("b", 2), ("c", 3)] {
        send(&mut machine, at(0), key, "S", payload);
    }
    assert_eq!(run(&mut machine, at(0)), Some((3, vec![(0, 1), (1, 2), (2, 3)])));
    send(&mut machine, at(1), "c", "", 4);
    assert_eq!(run(&mut machine, at(1)), Some((3, vec![(2, 4)])));
    send(&mut machine, at(2), "a", "E", 5);
    assert_eq!(run(&mut machine, at(2)), Some((1, vec![(0, 5)])));
    // The row of the one that ended is the next one's.
    send(&mut machine, at(3), "d", "S", 6);
    assert_eq!(run(&mut machine, at(3)), Some((1, vec![(0, 6)])));
}

#[test]
fn in_direct_mode_a_batch_waits_for_its_share_of_the_slots_or_for_its_delay() {
    let mut machine = direct(4, 0.5, 10);
    send(&mut machine, at(0), "a", "S", 1);
    assert!(matches!(machine.poll(at(0), 0), LaneStep::WaitUntil(until) if until == at(10)));
    send(&mut machine, at(1), "b", "S", 2);
    assert_eq!(run(&mut machine, at(1)), Some((2, vec![(0, 1), (1, 2)])));
    send(&mut machine, at(2), "b", "", 3);
    assert_eq!(run(&mut machine, at(11)), None);
    assert_eq!(run(&mut machine, at(12)), Some((2, vec![(1, 3)])));
}

#[test]
fn oldest_takes_preferred_sizes_at_once_and_the_rest_after_its_delay() {
    let mut machine = oldest(8, 4, &[2], 10);
    send(&mut machine, at(0), "a", "S", 1);
    send(&mut machine, at(0), "a", "", 2);
    assert_eq!(run(&mut machine, at(0)), None, "one sequence fills no batch by itself");
    send(&mut machine, at(1), "b", "S", 3);
    send(&mut machine, at(1), "c", "S", 4);
    assert_eq!(run(&mut machine, at(1)), Some((2, vec![(0, 1), (1, 3)])));
    assert_eq!(run(&mut machine, at(1)), Some((2, vec![(0, 4), (1, 2)])));
    send(&mut machine, at(2), "a", "", 5);
    assert_eq!(run(&mut machine, at(12)), Some((1, vec![(0, 5)])));
}

#[test]
fn candidates_beyond_the_slots_wait_until_one_ends() {
    let mut machine = oldest(1, 4, &[], 0);
    send(&mut machine, at(0), "a", "S", 1);
    send(&mut machine, at(0), "b", "SE", 2);
    send(&mut machine, at(0), "a", "E", 3);
    let order: Vec<_> =
        std::iter::from_fn(|| run(&mut machine, at(0))).map(|(_, members)| members[0].1).collect();
    assert_eq!(order, [1, 3, 2]);
    assert_eq!(machine.counts(), Counts { active: 0, slots: 1, backlog: 0, waiting: 0 });
}

#[test]
fn a_request_without_a_start_is_refused_and_told_why_its_sequence_ended() {
    let mut machine = direct(1, 0.0, 0);
    let lone = |machine: &mut Machine, now| {
        let arrival = Arrival { key: "a", start: false, end: false, deadline: None, shape: 0, payload: 9 };
        machine.push(now, arrival).map(drop).map_err(|(why, _)| why)
    };
    assert_eq!(lone(&mut machine, at(0)), Err(Refused::NotStarted(None)));
    send(&mut machine, at(0), "a", "S", 1);
    run(&mut machine, at(0));
    assert_eq!(lone(&mut machine, at(1500)), Err(Refused::NotStarted(Some(EndedBy::Idle))));
    send(&mut machine, at(1500), "a", "SE", 2);
    assert_eq!(lone(&mut machine, at(1500)), Err(Refused::NotStarted(Some(EndedBy::Request))));
}

#[test]
fn a_withdrawn_request_has_never_been_also_if_it_was_to_be_the_last() {
    let mut machine = direct(1, 0.0, 0);
    send(&mut machine, at(0), "a", "S", 1);
    let middle = send(&mut machine, at(0), "a", "", 2);
    let end = send(&mut machine, at(0), "a", "E", 3);
    send(&mut machine, at(0), "b", "S", 4);
    assert_eq!(machine.cancel(at(0), middle), Some(2));
    assert_eq!(machine.cancel(at(0), end), Some(3));
    assert_eq!(machine.cancel(at(0), end), None);
    assert_eq!(run(&mut machine, at(0)), Some((1, vec![(0, 1)])));
    assert_eq!(run(&mut machine, at(0)), None, "the sequence keeps its slot");
    send(&mut machine, at(1), "a", "E", 5);
    assert_eq!(run(&mut machine, at(1)), Some((1, vec![(0, 5)])), "the last one is sent again");
    assert_eq!(run(&mut machine, at(1)), Some((1, vec![(0, 4)])), "the slot is free for the next");
}

#[test]
fn a_last_request_that_fails_can_be_sent_again_on_the_same_state() {
    let mut machine = direct(1, 0.0, 0);
    send(&mut machine, at(0), "a", "S", 1);
    run(&mut machine, at(0));
    send(&mut machine, at(0), "a", "E", 2);
    let LaneStep::Run(flight) = machine.poll(at(0), 0) else { panic!("it is due") };
    assert_eq!(flight.members[0].payload, 2);
    machine.finish(at(0), 0, [Outcome::Failed]);
    send(&mut machine, at(1), "a", "E", 3);
    let LaneStep::Run(flight) = machine.poll(at(1), 0) else { panic!("it is due") };
    assert_eq!((flight.members[0].payload, flight.members[0].state), (3, Some(0)));
    machine.finish(at(1), 0, [Outcome::Ran(1)]);
    assert_eq!(machine.counts().active, 0);
}

#[test]
fn a_start_that_leaves_has_ended_the_sequence_before_for_all_who_come_after() {
    // While the old sequence is silent, while it waits, and while it runs.
    for waits in ["silent", "waits", "runs"] {
        let mut machine = direct(1, 0.0, 0);
        send(&mut machine, at(0), "a", "S", 1);
        run(&mut machine, at(0));
        if waits != "silent" {
            send(&mut machine, at(0), "a", "", 2);
        }
        let flight = (waits == "runs").then(|| machine.poll(at(0), 0));
        let again = send(&mut machine, at(0), "a", "S", 3);
        send(&mut machine, at(0), "a", "", 4);
        assert_eq!(machine.cancel(at(0), again), Some(3));
        assert_eq!(machine.take_unrun(), [(4, Unrun::NotStarted)], "{waits}");
        let arrival = Arrival { key: "a", start: false, end: false, deadline: None, shape: 0, payload: 5 };
        let refused = machine.push(at(0), arrival.clone()).map(drop).map_err(|(why, _)| why);
        assert_eq!(refused, Err(Refused::NotStarted(Some(EndedBy::Start))), "{waits}");
        match flight {
            Some(_) => machine.finish(at(0), 0, [Outcome::Ran(0)]),
            None => assert_eq!(run(&mut machine, at(0)).is_some(), waits == "waits"),
        }
        assert_eq!(machine.counts().active, 0, "{waits}");
        let refused = machine.push(at(0), arrival).map(drop).map_err(|(why, _)| why);
        assert_eq!(refused, Err(Refused::NotStarted(Some(EndedBy::Start))), "{waits}");
    }
}

#[test]
fn another_sequence_of_the_same_name_waits_behind_those_that_came_before_it() {
    let mut machine = oldest(1, 4, &[], 0);
    send(&mut machine, at(0), "a", "SE", 1);
    send(&mut machine, at(0), "a", "SE", 2);
    send(&mut machine, at(0), "b", "SE", 3);
    let order: Vec<_> =
        std::iter::from_fn(|| run(&mut machine, at(0))).map(|(_, members)| members[0].1).collect();
    assert_eq!(order, [1, 3, 2]);
}

#[test]
fn those_who_wait_for_a_slot_do_not_keep_a_sequence_that_has_one_from_its_end() {
    let mut machine = oldest(1, 4, &[], 0);
    let policy = SequencePolicy { max_queue_size: 1, ..machine.policy.clone() };
    machine.set_policy(policy);
    send(&mut machine, at(0), "a", "S", 1);
    run(&mut machine, at(0));
    send(&mut machine, at(0), "b", "SE", 2);
    let more = |key| Arrival { key, start: true, end: true, deadline: None, shape: 0, payload: 9 };
    assert!(matches!(machine.push(at(0), more("c")), Err((Refused::QueueFull, 9))));
    send(&mut machine, at(0), "a", "E", 3);
    assert!(matches!(machine.push(at(0), more("a")), Err((Refused::QueueFull, 9))));
    assert_eq!(run(&mut machine, at(0)), Some((1, vec![(0, 3)])));
    assert_eq!(run(&mut machine, at(0)), Some((1, vec![(0, 2)])));
}
