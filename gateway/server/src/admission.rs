//! Room 2: who may come in. When there is no place, a request is refused cheaply, before its
//! body is read. Otherwise it takes its place when its body is there: a body that comes
//! slowly, or never, holds nothing but the bytes of it that have come.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use crate::error::{Error, Kind, Result};

/// Bodies of one connection that may be on their way without a place among those of all. What
/// HTTP/2 clients send at a time they send whole, so that few of theirs wait; and whoever opens
/// connections and streams for nothing takes the common places only, and no connection its own.
const OWN_ARRIVING_MAX: usize = 16;

/// Counts what is inside and refuses what does not fit.
#[derive(Debug)]
pub struct Admission {
    /// Requests that are worked on.
    inside: Bounded,
    /// Requests whose bodies are arriving, above what each connection may have of its own.
    arriving: Bounded,
    /// Bytes of bodies, of what was made of them, and of answers.
    bytes: Bounded,
    /// Both kinds of requests, for whoever waits until there are none.
    in_flight: AtomicUsize,
    idle: Notify,
}

/// A number that does not rise above another.
#[derive(Debug)]
struct Bounded {
    count: AtomicUsize,
    max: usize,
}

impl Bounded {
    fn new(max: usize) -> Self {
        Self { count: AtomicUsize::new(0), max }
    }

    fn has_room(&self) -> bool {
        self.count.load(Ordering::Relaxed) < self.max
    }

    fn take(&self, more: usize) -> Result<()> {
        let risen = |count: usize| count.checked_add(more).filter(|risen| *risen <= self.max);
        let taken = self.count.fetch_update(Ordering::AcqRel, Ordering::Relaxed, risen);
        taken.map(drop).map_err(|_| full())
    }

    /// Counts what is there already, also above the bound.
    fn note(&self, more: usize) {
        self.count.fetch_add(more, Ordering::AcqRel);
    }

    fn give_back(&self, less: usize) {
        // All connections share the number: it is left alone where nothing changes.
        if less == 0 {
            return;
        }
        self.count.fetch_sub(less, Ordering::AcqRel);
    }
}

fn full() -> Error {
    Error::new(Kind::Overloaded, "the gateway has as much work as it may hold")
}

/// Bodies that are arriving over one connection.
#[derive(Debug, Clone, Default)]
pub struct Share(Arc<AtomicUsize>);

impl Share {
    /// Takes one of the connection's own places, if one is free.
    fn take(&self) -> bool {
        let risen = |count: usize| (count < OWN_ARRIVING_MAX).then_some(count + 1);
        self.0.fetch_update(Ordering::AcqRel, Ordering::Relaxed, risen).is_ok()
    }
}

/// A request whose body is arriving. Dropping it is the end of the request.
#[derive(Debug)]
pub struct Arriving {
    visit: Visit,
}

/// A request's place inside. Dropping it gives the place back.
#[derive(Debug)]
pub struct Permit {
    _visit: Visit,
}

/// Either of them, counted.
#[derive(Debug)]
struct Visit {
    admission: Arc<Admission>,
    place: Place,
}

/// Where a request is counted.
#[derive(Debug)]
enum Place {
    Inside,
    /// Among the arriving ones of its connection.
    Own(Share),
    /// Among those of all.
    Common,
}

impl Visit {
    /// Gives its place back.
    fn leave(&self) {
        match &self.place {
            Place::Inside => self.admission.inside.give_back(1),
            Place::Own(Share(count)) => drop(count.fetch_sub(1, Ordering::AcqRel)),
            Place::Common => self.admission.arriving.give_back(1),
        }
    }
}

/// Room for bytes that a request makes us hold. Dropping it gives the room back.
#[derive(Debug)]
pub struct Room {
    admission: Arc<Admission>,
    bytes: usize,
}

impl Arriving {
    /// Takes a place: the body is there.
    ///
    /// # Errors
    /// [`Kind::Overloaded`] when none is left.
    pub fn enter(mut self) -> Result<Permit> {
        self.visit.admission.inside.take(1)?;
        self.visit.leave();
        self.visit.place = Place::Inside;
        Ok(Permit { _visit: self.visit })
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        self.leave();
        if self.admission.in_flight.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.admission.idle.notify_waiters();
        }
    }
}

impl Room {
    /// Takes room for `bytes` more. What is only announced takes none, so nobody can hold
    /// room by promising.
    ///
    /// # Errors
    /// [`Kind::Overloaded`] when all bytes together are at their limit.
    pub fn grow(&mut self, bytes: usize) -> Result<()> {
        self.admission.bytes.take(bytes)?;
        self.bytes += bytes;
        Ok(())
    }

    /// Counts `bytes` that are there already, such as an answer's: if they are too many, it
    /// is new ones that find no room.
    pub fn note(&mut self, bytes: usize) {
        self.admission.bytes.note(bytes);
        self.bytes += bytes;
    }

    /// Gives room for `bytes` back.
    pub fn shrink(&mut self, bytes: usize) {
        let bytes = bytes.min(self.bytes);
        self.bytes -= bytes;
        self.admission.bytes.give_back(bytes);
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.admission.bytes.give_back(self.bytes);
    }
}

impl Admission {
    /// Room for `requests_max` requests, for the bodies of `arriving_max` more that are on
    /// their way beside some of each connection, and for `bytes_max` bytes.
    pub fn new(requests_max: usize, arriving_max: usize, bytes_max: usize) -> Arc<Self> {
        Arc::new(Self {
            inside: Bounded::new(requests_max),
            arriving: Bounded::new(arriving_max),
            bytes: Bounded::new(bytes_max),
            in_flight: AtomicUsize::new(0),
            idle: Notify::new(),
        })
    }

    /// Lets a request's body arrive over the connection of `share`, whose bytes are counted as
    /// they come (see [`Admission::room`]).
    ///
    /// # Errors
    /// [`Kind::Overloaded`] when there would be no place for the request now. It never
    /// waits: a caller that is told at once can go elsewhere.
    pub fn arrive(self: &Arc<Self>, share: Option<&Share>) -> Result<Arriving> {
        if !self.inside.has_room() {
            return Err(full());
        }
        let place = match share.filter(|share| share.take()) {
            Some(share) => Place::Own(share.clone()),
            None => {
                self.arriving.take(1)?;
                Place::Common
            }
        };
        self.in_flight.fetch_add(1, Ordering::AcqRel);
        Ok(Arriving { visit: Visit { admission: Arc::clone(self), place } })
    }

    /// Room of no bytes yet.
    pub fn room(self: &Arc<Self>) -> Room {
        Room { admission: Arc::clone(self), bytes: 0 }
    }

    /// Bytes that are held for requests and answers.
    pub fn bytes(&self) -> usize {
        self.bytes.count.load(Ordering::Relaxed)
    }

    /// How many requests are inside.
    pub fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Acquire)
    }

    /// Waits until nobody is inside, at most `grace`. Says whether it came to that.
    pub async fn wait_idle(&self, grace: Duration) -> bool {
        let deadline = Instant::now() + grace;
        loop {
            let idle = self.idle.notified();
            if self.in_flight() == 0 {
                return true;
            }
            if tokio::time::timeout_at(deadline, idle).await.is_err() {
                return self.in_flight() == 0;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_refused_and_places_come_back() {
        let admission = Admission::new(2, 9, 4 << 10);
        let enter = || admission.arrive(None).and_then(Arriving::enter);
        let (first, second) = (enter().expect("fits"), enter().expect("fits"));
        assert_eq!(enter().expect_err("count").kind(), Kind::Overloaded);
        assert_eq!(admission.in_flight(), 2);
        drop((first, second));
        assert_eq!(admission.in_flight(), 0);
        let (mut one, mut other) = (admission.room(), admission.room());
        (0..3).for_each(|_| one.grow(1 << 10).expect("fits"));
        other.grow(10).expect("fits");
        assert_eq!(other.grow(2 << 10).expect_err("bytes").kind(), Kind::Overloaded);
        one.shrink(2 << 10);
        other.grow(2 << 10).expect("fits");
        // An answer is there, whatever the bound.
        one.note(4 << 10);
        assert!(admission.room().grow(1).is_err());
        drop((one, other));
        assert_eq!(admission.bytes(), 0);
    }

    #[test]
    fn a_body_that_arrives_holds_no_place_of_a_request() {
        let admission = Admission::new(1, 2, 1);
        let arrive = || admission.arrive(None);
        let (first, second) = (arrive().expect("fits"), arrive().expect("fits"));
        assert!(arrive().is_err(), "bodies on their way are bounded as well");
        let inside = first.enter().expect("a place");
        assert_eq!(second.enter().expect_err("no place").kind(), Kind::Overloaded);
        assert!(arrive().is_err(), "refused before its body is read");
        assert_eq!(admission.in_flight(), 1);
        drop(inside);
        assert!(arrive().is_ok());
    }

    #[test]
    fn connections_that_send_no_bodies_leave_each_other_connection_its_own_places() {
        let admission = Admission::new(1, 100, 1);
        let silent: Vec<_> = (0..9)
            .flat_map(|_| {
                let share = Share::default();
                std::iter::from_fn(|| admission.arrive(Some(&share)).ok()).take(100).collect::<Vec<_>>()
            })
            .collect();
        assert_eq!(silent.len(), 100 + 9 * OWN_ARRIVING_MAX, "all of them are bounded");
        let share = Share::default();
        let arrive = || admission.arrive(Some(&share));
        let bodies: Vec<_> = std::iter::from_fn(|| arrive().ok()).collect();
        assert_eq!(bodies.len(), OWN_ARRIVING_MAX);
        drop(bodies);
        arrive().and_then(Arriving::enter).expect("its place comes back, and another");
        drop(silent);
        let bodies: Vec<_> = std::iter::from_fn(|| arrive().ok()).collect();
        assert_eq!(bodies.len(), OWN_ARRIVING_MAX + 100);
    }

    #[tokio::test(start_paused = true)]
    async fn a_drain_waits_for_what_is_inside() {
        let admission = Admission::new(2, 2, 4 << 10);
        let permit = admission.arrive(None).expect("fits");
        assert!(!admission.wait_idle(Duration::from_secs(1)).await);
        let waiter = tokio::spawn({
            let admission = Arc::clone(&admission);
            async move { admission.wait_idle(Duration::from_secs(60)).await }
        });
        tokio::task::yield_now().await;
        drop(permit);
        assert!(waiter.await.expect("no panic"));
    }
}
