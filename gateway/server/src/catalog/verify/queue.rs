//! Who is verified next: the gateway's own components first, then owners in turn, so that
//! nobody's crowd of components keeps others waiting for more than one child each. Whoever is
//! alone may have all places to wait; where there is none left, a crowd gives some up.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

/// Whose component it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whose<'a> {
    /// The gateway's own, for a start, a reload or an activation.
    Gateway,
    /// Nobody's in particular: an operator brings it. They wait in turn like an owner, and
    /// have no share.
    Operator,
    /// This owner's.
    Owner(&'a str),
}

/// See the module's description.
pub(in crate::catalog) struct Queue {
    state: Mutex<State>,
    waiting_max: usize,
}

#[derive(Default)]
struct State {
    free: usize,
    own: VecDeque<Waiter>,
    owners: BTreeMap<Arc<str>, VecDeque<Waiter>>,
    /// Owners that wait, whoever is next in front.
    turns: VecDeque<Arc<str>>,
}

type Waiter = oneshot::Sender<Place>;

/// A place to run a child, until it is dropped.
pub(in crate::catalog) struct Place(Arc<Queue>);

impl Drop for Place {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        match state.next() {
            None => state.free += 1,
            Some(next) => {
                drop(state);
                // Whoever has left meanwhile drops the place, and so passes it on.
                drop(next.send(Self(Arc::clone(&self.0))));
            }
        }
    }
}

impl Queue {
    pub(in crate::catalog) fn new(places: usize, waiting_max: usize) -> Arc<Self> {
        let state = Mutex::new(State { free: places, ..State::default() });
        Arc::new(Self { state, waiting_max })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a place. None if too many wait. Cancel-safe.
    pub(in crate::catalog) async fn place(self: &Arc<Self>, whose: Whose<'_>) -> Option<Place> {
        let waiter = {
            let mut state = self.lock();
            if state.free > 0 {
                state.free -= 1;
                return Some(Place(Arc::clone(self)));
            }
            state.forget_gone();
            let (sender, receiver) = oneshot::channel();
            let all = state.own.len() + state.owners.values().map(VecDeque::len).sum::<usize>();
            // No owner has an empty name.
            let owner = match whose {
                Whose::Gateway => None,
                Whose::Operator => Some(""),
                Whose::Owner(owner) => Some(owner),
            };
            if all >= self.waiting_max {
                state.make_room(owner)?;
            }
            match owner {
                None => state.own.push_back(sender),
                Some(owner) => state.push(owner, sender),
            }
            receiver
        };
        waiter.await.ok()
    }
}

impl State {
    /// The newest of the largest crowd gives way to an owner who has fewer, also with this one
    /// more. None if there is no such crowd.
    fn make_room(&mut self, owner: Option<&str>) -> Option<()> {
        let own = owner.and_then(|owner| self.owners.get(owner)).map_or(0, VecDeque::len);
        let owners = self.owners.iter_mut().filter(|(owner, _)| !owner.is_empty());
        let (_, crowd) = owners.max_by_key(|(_, waiting)| waiting.len())?;
        if crowd.len() < own + 2 {
            return None;
        }
        crowd.pop_back().map(drop)
    }

    fn push(&mut self, owner: &str, waiter: Waiter) {
        let owner: Arc<str> = owner.into();
        let waiting = self.owners.entry(Arc::clone(&owner)).or_default();
        if waiting.is_empty() {
            self.turns.push_back(owner);
        }
        waiting.push_back(waiter);
    }

    fn next(&mut self) -> Option<Waiter> {
        self.forget_gone();
        if let Some(own) = self.own.pop_front() {
            return Some(own);
        }
        let owner = self.turns.pop_front()?;
        let waiting = self.owners.get_mut(&owner)?;
        let next = waiting.pop_front();
        if waiting.is_empty() {
            self.owners.remove(&owner);
        } else {
            self.turns.push_back(owner);
        }
        next
    }

    /// Whoever has stopped waiting has no place in the queue.
    fn forget_gone(&mut self) {
        self.own.retain(|waiter| !waiter.is_closed());
        for waiting in self.owners.values_mut() {
            waiting.retain(|waiter| !waiter.is_closed());
        }
        self.owners.retain(|_, waiting| !waiting.is_empty());
        let owners = &self.owners;
        self.turns.retain(|owner| owners.contains_key(owner));
    }
}

#[cfg(test)]
mod tests {
    use tokio::task::JoinHandle;

    use super::*;

    struct Log(Arc<Mutex<Vec<&'static str>>>);

    impl Log {
        /// Somebody waits, says so when it is their turn, and is done at once.
        fn wait(&self, queue: &Arc<Queue>, name: &'static str, whose: Whose<'static>) -> JoinHandle<bool> {
            let (queue, seen) = (Arc::clone(queue), Arc::clone(&self.0));
            tokio::spawn(async move {
                let place = queue.place(whose).await;
                if place.is_some() {
                    seen.lock().expect("not poisoned").push(name);
                }
                place.is_some()
            })
        }
    }

    #[tokio::test]
    async fn a_crowd_of_one_owner_keeps_nobody_else_out_and_the_gateway_goes_first() {
        let queue = Queue::new(1, 6);
        let log = Log(Arc::default());
        let first = queue.place(Whose::Owner("b")).await.expect("it is free");
        let mut waiting = Vec::new();
        for _ in 0..7 {
            waiting.push(log.wait(&queue, "b", Whose::Owner("b")));
            tokio::task::yield_now().await;
        }
        waiting.push(log.wait(&queue, "a", Whose::Owner("a")));
        waiting.push(log.wait(&queue, "own", Whose::Gateway));
        tokio::task::yield_now().await;
        // One of the crowd does not wait after all.
        waiting[1].abort();
        tokio::task::yield_now().await;
        drop(first);
        let mut refused = 0;
        for waiter in waiting {
            refused += usize::from(waiter.await.is_ok_and(|has_place| !has_place));
        }
        assert_eq!(refused, 3, "one for whom there was no place, and two who gave theirs up");
        assert_eq!(*log.0.lock().expect("not poisoned"), ["own", "b", "a", "b", "b"]);
        assert!(queue.place(Whose::Owner("c")).await.is_some(), "the place is free again");
    }
}
