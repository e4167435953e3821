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
//!   batching comes from back-pressure ([`Mode::Backpressure`]). Waiting is added on
//!   request ([`Mode::Fixed`]), or where it is learned to pay ([`Mode::Learned`]).
//! - The least priority level goes first; within it the tenant that has had least of its
//!   share; within that the earliest deadline, then the earliest arrival. Entries of
//!   other [`ShapeKey`]s neither close a batch nor lose their place.
//! - No batch has more rows than [`Policy::max_batch_size`], none mixes keys,
//!   none holds an entry whose deadline has passed: that one comes out as
//!   expired, before it could join. So does one whose deadline would pass during the
//!   shortest run that is known.
//! - A batch is cut at the size beyond which a row gets no cheaper (`size.rs`), and where
//!   one more entry would make another one late.
//! - Each admitted entry leaves exactly once: in a batch, expired, or cancelled.
//!   The queue is bounded; what does not fit is refused with a typed answer.
//! - Every step costs `O(log n)` in the number of queued entries, and cancelled
//!   entries leave nothing behind. A batch costs besides a look at each tenant that has
//!   entries of its shape.
//!
//! # Who stands in front of it
//!
//! Whoever decides *when* an entry may run (a sequence batcher) keeps it until then and
//! pushes it. Whoever decides *where* sets [`Entry::instance`]: only the instance that
//! calls [`Queue::next`] with this number gets it, alone or with others that are bound to
//! the same one, in the same order as everything else; [`Queue::abandon`] gives back what
//! an instance leaves when it is given up.
//!
//! # Where things are
//!
//! - `pool.rs`: lanes by shape, ripe or ripening; `turns.rs` and `tenants.rs`: whose turn
//!   it is; `order.rs`: ranks. `batcher/release.rs` forms a batch, `batcher/leave.rs` is
//!   every other way out.
//! - `limiter.rs`: what may run at once, of all models together.
//! - `cost.rs`, `size.rs`, `floor.rs`, `learn.rs`: what is learned from runs.
//! - **Declared cost instead of rows:** [`Entry::weight`] and
//!   [`Policy::max_batch_weight`].
//! - **Padding:** the caller computes the key from the *padded* shape, so that
//!   entries of one bucket meet; [`Batch::shape`] carries it to the gather.
#![warn(missing_docs)]

mod arrivals;
mod batcher;
mod cost;
mod entry;
mod floor;
mod learn;
mod limiter;
mod order;
mod policy;
mod pool;
mod queue;
pub mod sequence;
mod size;
mod slab;
mod tenants;
mod time;
mod turns;

#[cfg(test)]
mod batcher_policy_tests;
#[cfg(test)]
mod batcher_tests;
#[cfg(test)]
mod histories;
#[cfg(test)]
mod queue_tests;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod step_tests;

pub use batcher::{Batcher, INSTANCES_MAX, Step, Ticket};
pub use entry::{Batch, ENTRY_ROWS_MAX, Entry, Expired, Lateness, Reason, Rejected, ShapeKey, TenantKey};
pub use learn::Observed;
pub use limiter::{Demand, Limiter, Permit, RUN_SHARE_MAX, RunShare, User};
pub use policy::{
    Mode, PRIORITY_LEVELS_MAX, Policy, QUEUE_ENTRIES_DEFAULT, QUEUE_ENTRIES_MAX, QueuePolicy,
    TENANT_WEIGHT_MAX, TimeoutAction,
};
pub use queue::{Admitted, Queue, Work};
pub use time::{Clock, ManualClock, MonotonicClock, Time};
