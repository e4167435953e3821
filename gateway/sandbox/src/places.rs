//! The places of calls: how many run, how many wait for a model, and why nobody waits for
//! ever.
//!
//! A call takes a place of its plugin, then a running place among everybody's, in this
//! order, and both before it has an instance. While it waits for a model it gives the
//! running place back and takes a waiting place, so that guests which wait keep nobody
//! else from running: least of all the post hooks of requests whose rows are in the same
//! batch. If no waiting place is free it waits in its running place. When it goes on it
//! never queues: it takes a running place if one is free, else it runs in its waiting
//! place. So whoever holds a place waits for nothing but its model, and a model needs no
//! place: no cycle, no deadlock. Both kinds are bounded, and so are instances.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use crate::error::CallError;
use crate::plugin::Inner;

/// The places of one call.
pub(crate) struct Places {
    _own: OwnedSemaphorePermit,
    shared: Mutex<Place>,
    /// Places that its instance takes, whichever they are.
    count: u32,
    running: Arc<Semaphore>,
    waiting: Arc<Semaphore>,
}

/// A place among everybody's. What is held is given back when it is dropped.
enum Place {
    Running(#[expect(dead_code, reason = "held until dropped")] OwnedSemaphorePermit),
    Waiting(#[expect(dead_code, reason = "held until dropped")] OwnedSemaphorePermit),
}

/// Waits for a place. The plugin's own comes first, so that one plugin's
/// waiting calls do not take everybody's places.
pub(crate) async fn admit(plugin: &Inner, deadline: Instant) -> Result<Places, CallError> {
    let shared = &plugin.shared;
    let places = |own, place| Places {
        _own: own,
        shared: Mutex::new(Place::Running(place)),
        count: plugin.places(),
        running: Arc::clone(&shared.calls),
        waiting: Arc::clone(&shared.waiting),
    };
    // Mostly both are free: no clock, no timer. A semaphore gives nobody what others wait for.
    if let Ok(own) = Arc::clone(&plugin.calls).try_acquire_owned()
        && let Ok(place) = Arc::clone(&shared.calls).try_acquire_many_owned(plugin.places())
    {
        return Ok(places(own, place));
    }
    let patience = Instant::now() + plugin.options.limits.permit_wait_max;
    let both = async {
        let own = Arc::clone(&plugin.calls).acquire_owned().await.map_err(|_| CallError::Closed)?;
        let place = Arc::clone(&shared.calls).acquire_many_owned(plugin.places());
        Ok(places(own, place.await.map_err(|_| CallError::Closed)?))
    };
    match tokio::time::timeout_at(deadline.min(patience), both).await {
        Ok(places) => places,
        Err(_) if deadline <= patience => Err(CallError::Deadline),
        Err(_) => Err(CallError::Overloaded),
    }
}

impl Places {
    /// Gives the running place back for as long as the call waits for a model.
    pub(crate) fn park(self: &Arc<Self>) -> Parked {
        self.change(|place| match place {
            Place::Running(_) => {
                Arc::clone(&self.waiting).try_acquire_many_owned(self.count).ok().map(Place::Waiting)
            }
            Place::Waiting(_) => None,
        });
        Parked(Arc::clone(self))
    }

    fn go_on(&self) {
        self.change(|place| match place {
            Place::Waiting(_) => {
                Arc::clone(&self.running).try_acquire_many_owned(self.count).ok().map(Place::Running)
            }
            Place::Running(_) => None,
        });
    }

    fn change(&self, to: impl FnOnce(&Place) -> Option<Place>) {
        let mut place = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(next) = to(&place) {
            *place = next;
        }
    }
}

/// A call that waits for a model, until this is dropped.
pub(crate) struct Parked(Arc<Places>);

impl Drop for Parked {
    fn drop(&mut self) {
        self.0.go_on();
    }
}
