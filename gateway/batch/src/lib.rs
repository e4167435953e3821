//! The batch scheduler: which requests run together, and when.
//!
//! [`Batcher`] is the scheduler itself, a pure state machine: no threads, no
//! clock, no tokio. Time is passed in, so a seed can drive it through thousands
//! of histories in virtual time (`simulation.rs`). [`Queue`] is the thin shell:
//! one mutex, one condition variable, and the threads of the engine's
//! instances waiting in [`Queue::next`].
//!
//! # What it promises
//!
//! - An instance asks for work only when it is free. Entries that arrive while
//!   all instances are busy therefore form the next batch by themselves:
//!   batching comes from back-pressure, and waiting is only added on request
//!   ([`Policy::max_queue_delay`]).
//! - First in, first out among entries of one [`ShapeKey`]. Entries of other
//!   keys neither close a batch nor lose their place. Of several batches that
//!   are due, the one with the oldest head goes first.
//! - No batch has more rows than [`Policy::max_batch_size`], none mixes keys,
//!   none holds an entry whose deadline has passed: that one comes out as
//!   expired, before it could join.
//! - Each admitted entry leaves exactly once: in a batch, expired, or cancelled.
//!   The queue is bounded; what does not fit is refused with a typed answer.
//! - Every step costs `O(log n)` in the number of queued entries, and cancelled
//!   entries leave nothing behind.
//!
//! # Seams: what is meant to be added, and where
//!
//! - **Priority levels, earliest deadline first:** the order within a lane is
//!   the order of `lanes::Rank`, today the arrival number. A rank of `(priority,
//!   deadline, arrival)` is all it takes there; `Lanes::oldest` must then keep
//!   the earliest arrival of a lane beside its head, because delay is owed to
//!   the oldest entry and not to the first in order.
//! - **Learned delay, latency objective, best size:** `Batcher::due` is the one
//!   place that says when a batch is due, `Lanes::is_full` the one that says
//!   what is big enough. A model of cost per batch size replaces the constants
//!   there, and also lets an entry be refused, or released early, when
//!   `deadline - cost` comes closer than the delay. The shell tells it of
//!   finished batches (a new `Queue::observe`) and of idle instances
//!   ([`Queue::idle`]), so that it can spread a lane over them.
//! - **Declared cost instead of rows:** [`Entry::rows`] is only ever added up
//!   and compared in `lanes.rs`; a cost is another number in its place.
//! - **Per-tenant shares:** a lane is keyed by shape. A key of (shape, tenant)
//!   with a virtual time per tenant makes `Lanes::take` choose among lanes of
//!   one shape instead of popping from one.
//! - **Padding:** the caller computes the key from the *padded* shape, so that
//!   entries of one bucket meet; [`Batch::shape`] carries it to the gather.
#![warn(missing_docs)]

mod batcher;
mod entry;
mod lanes;
mod policy;
mod queue;
mod slab;
mod time;

#[cfg(test)]
mod batcher_tests;
#[cfg(test)]
mod queue_tests;
#[cfg(test)]
mod simulation;

pub use batcher::{Batcher, Step, Ticket};
pub use entry::{Batch, ENTRY_ROWS_MAX, Entry, Reason, Rejected, ShapeKey};
pub use policy::{Policy, QUEUE_ENTRIES_DEFAULT, QUEUE_ENTRIES_MAX};
pub use queue::{Admitted, Queue, Work};
pub use time::{Clock, ManualClock, MonotonicClock, Time};
