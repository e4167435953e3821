//! Requests that belong together: a model's state lives from one to the next, so the
//! requests of a sequence run one after another, in the order in which they came.
//!
//! [`Sequencer`] is the scheduler of sequences, a pure state machine with time passed in;
//! [`SequenceQueue`] is the thin shell around it. It stands in front of a model's
//! [`crate::Queue`]: each instance has a **lane** here, which forms one batch at a time
//! out of its sequences and gives it to the queue as one entry, bound to the instance.
//!
//! # What it promises
//!
//! - A sequence starts with a request that says so, and ends with one that says so, or
//!   when it was idle for too long, or when its first request never ran.
//! - A sequence has a slot of one lane from its first request to its end. Those that find
//!   no free slot wait for one, first come, first served.
//! - The requests of a sequence run in the order of their arrival, at most one at a time:
//!   never two in one batch, never one before the answer of the one before.
//! - A request that leaves before it ran (cancelled, late) or fails has not been: the
//!   sequence goes on as if it had never come, also if it was to be the last. If it was to
//!   start the sequence, what came after it is answered as not started; and the sequence of
//!   the same name before it has ended with it all the same.
//! - Each admitted request leaves exactly once, and what waits is bounded.
//! - A lane takes the request that has been at the head of its sequence for longest, so a
//!   busy sequence does not keep others from running.
//! - The state of a sequence is freed with it.

mod form;
mod leave;
mod policy;
mod queue;
mod recent;
mod sequencer;

#[cfg(test)]
mod queue_tests;
#[cfg(test)]
mod sequencer_tests;
#[cfg(test)]
mod simulation;

pub use policy::{SequencePolicy, Strategy};
pub use queue::{AdmittedSequence, Observer, SequenceQueue};
pub use recent::EndedBy;
pub use sequencer::{
    Arrival, Counts, Flight, LaneStep, Member, Outcome, Refused, SequenceTicket, Sequencer, Unrun,
};
