//! Room 2: who may come in. A request is admitted, or refused cheaply, before its
//! body is read.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use crate::error::{Error, Kind, Result};

/// Counts what is inside and refuses what does not fit.
#[derive(Debug)]
pub struct Admission {
    requests: Arc<Semaphore>,
    body_kib: Arc<Semaphore>,
    in_flight: AtomicUsize,
    idle: Notify,
}

/// A request's place inside. Dropping it gives the place back.
#[derive(Debug)]
pub struct Permit {
    admission: Arc<Admission>,
    _request: OwnedSemaphorePermit,
    body: Room,
}

/// Room for bytes that a request makes us hold. Dropping it gives the room back.
#[derive(Debug)]
pub struct Room {
    kib: Arc<Semaphore>,
    taken: Option<OwnedSemaphorePermit>,
    bytes: usize,
}

fn full() -> Error {
    Error::new(Kind::Overloaded, "the gateway has as much work as it may hold")
}

impl Permit {
    /// Takes room for `bytes` more of the body. What is only announced takes none, so
    /// nobody can hold room by promising.
    ///
    /// # Errors
    /// [`Kind::Overloaded`] when all bodies together are at their limit.
    pub fn grow(&mut self, bytes: usize) -> Result<()> {
        self.body.grow(bytes)
    }
}

impl Room {
    /// Takes room for `bytes` more.
    ///
    /// # Errors
    /// As [`Permit::grow`].
    pub fn grow(&mut self, bytes: usize) -> Result<()> {
        self.bytes = self.bytes.saturating_add(bytes);
        let held = self.taken.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        let more = u32::try_from(self.bytes.div_ceil(1 << 10).saturating_sub(held)).unwrap_or(u32::MAX);
        if more > 0 {
            let more = Arc::clone(&self.kib).try_acquire_many_owned(more).map_err(|_| full())?;
            match &mut self.taken {
                Some(taken) => taken.merge(more),
                none => *none = Some(more),
            }
        }
        Ok(())
    }
}

impl Admission {
    /// Room for `requests_max` requests whose bodies hold `body_bytes_max` bytes together.
    pub fn new(requests_max: usize, body_bytes_max: usize) -> Arc<Self> {
        Arc::new(Self {
            requests: Arc::new(Semaphore::new(requests_max.min(Semaphore::MAX_PERMITS))),
            body_kib: Arc::new(Semaphore::new((body_bytes_max >> 10).min(Semaphore::MAX_PERMITS))),
            in_flight: AtomicUsize::new(0),
            idle: Notify::new(),
        })
    }

    /// Takes a place for a request; its body is counted as it arrives, with
    /// [`Permit::grow`].
    ///
    /// # Errors
    /// [`Kind::Overloaded`] when it is full. It never waits: a caller that is told at
    /// once can go elsewhere.
    pub fn admit(self: &Arc<Self>) -> Result<Permit> {
        let request = Arc::clone(&self.requests).try_acquire_owned().map_err(|_| full())?;
        self.in_flight.fetch_add(1, Ordering::AcqRel);
        Ok(Permit { admission: Arc::clone(self), _request: request, body: self.room() })
    }

    /// Room of no bytes yet, for what a request brings beside its body.
    pub fn room(&self) -> Room {
        Room { kib: Arc::clone(&self.body_kib), taken: None, bytes: 0 }
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

impl Drop for Permit {
    fn drop(&mut self) {
        if self.admission.in_flight.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.admission.idle.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_refused_and_places_come_back() {
        let admission = Admission::new(2, 4 << 10);
        let mut first = admission.admit().expect("fits");
        (0..3).for_each(|_| first.grow(1 << 10).expect("fits"));
        let mut second = admission.admit().expect("fits");
        second.grow(10).expect("fits");
        assert_eq!(second.grow(2 << 10).expect_err("bytes").kind(), Kind::Overloaded);
        assert_eq!(admission.admit().expect_err("count").kind(), Kind::Overloaded);
        assert_eq!(admission.in_flight(), 2);
        drop((first, second));
        assert_eq!(admission.in_flight(), 0);
        assert!(admission.admit().and_then(|mut permit| permit.grow(4 << 10)).is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn a_drain_waits_for_what_is_inside() {
        let admission = Admission::new(2, 4 << 10);
        let permit = admission.admit().expect("fits");
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
