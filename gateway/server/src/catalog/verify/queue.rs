//! Who is verified next: the gateway's own components first, then owners in turn, so that
//! nobody's crowd of components keeps others waiting for more than one child each.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

/// The part of all waiting places that one owner may have. With four crowds at once there
/// still is a place for a fifth owner's component once one of theirs is done.
const OWNER_SHARE: usize = 4;

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
pub(super) struct Queue {
    state: Mutex<State>,
    waiting_max: usize,
    waiting_of_owner_max: usize,
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
pub(super) struct Place(Arc<Queue>);

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
    pub(super) fn new(places: usize, waiting_max: usize) -> Arc<Self> {
        let state = Mutex::new(State { free: places, ..State::default() });
        let waiting_of_owner_max = (waiting_max / OWNER_SHARE).max(1);
        Arc::new(Self { state, waiting_max, waiting_of_owner_max })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a place. None if too many wait. Cancel-safe.
    pub(super) async fn place(self: &Arc<Self>, whose: Whose<'_>) -> Option<Place> {
        let waiter = {
            let mut state = self.lock();
            if state.free > 0 {
                state.free -= 1;
                return Some(Place(Arc::clone(self)));
            }
            state.forget_gone();
            let (sender, receiver) = oneshot::channel();
            let all = state.own.len() + state.owners.values().map(VecDeque::len).sum::<usize>();
            if all >= self.waiting_max {
                return None;
            }
            match whose {
                Whose::Gateway => state.own.push_back(sender),
                // No owner has an empty name.
                Whose::Operator => state.push("", sender, usize::MAX)?,
                Whose::Owner(owner) => state.push(owner, sender, self.waiting_of_owner_max)?,
            }
            receiver
        };
        waiter.await.ok()
    }
}

impl State {
    fn push(&mut self, owner: &str, waiter: Waiter, most: usize) -> Option<()> {
        if self.owners.get(owner).is_some_and(|waiting| waiting.len() >= most) {
            return None;
        }
        let owner: Arc<str> = owner.into();
        let waiting = self.owners.entry(Arc::clone(&owner)).or_default();
        if waiting.is_empty() {
            self.turns.push_back(owner);
        }
        waiting.push_back(waiter);
        Some(())
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
        let queue = Queue::new(1, 16);
        let log = Log(Arc::default());
        let first = queue.place(Whose::Owner("b")).await.expect("it is free");
        let mut waiting = Vec::new();
        for number in 0..6 {
            waiting.push(log.wait(&queue, "b", Whose::Owner("b")));
            tokio::task::yield_now().await;
            if number == 4 {
                waiting.push(log.wait(&queue, "a", Whose::Owner("a")));
                waiting.push(log.wait(&queue, "own", Whose::Gateway));
                tokio::task::yield_now().await;
            }
        }
        // One of the crowd does not wait after all.
        waiting[1].abort();
        tokio::task::yield_now().await;
        drop(first);
        let mut refused = 0;
        for waiter in waiting {
            refused += usize::from(waiter.await.is_ok_and(|has_place| !has_place));
        }
        assert_eq!(refused, 2, "four of sixteen may be of one owner");
        assert_eq!(*log.0.lock().expect("not poisoned"), ["own", "b", "a", "b", "b"]);
        assert!(queue.place(Whose::Owner("c")).await.is_some(), "the place is free again");
    }
}
